//! `pgveil serve` that starts while the platform's provider is away or says no: what is not protected is served, what is
//! protected refused with the reason, and all of it comes up by itself when the provider answers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{postgres::TempPostgres, proxy::Proxy, site::Site};

use crate::gcp::{Google, Weather, key};

const TABLES: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text, body text); \
    CREATE TABLE plain (word text); INSERT INTO plain VALUES ('known')";
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;
const READ: &str = "SELECT body FROM notes WHERE tenant = 'acme'";
/// What a loaded machine may take, outages that are remembered included.
const LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(100);

/// How ready it says it is: status line and the words about the registry and itself.
fn ready(proxy: &Proxy) -> Result<(bool, serde_json::Value)> {
    let (status, body) = proxy.http("/readyz")?;
    Ok((status.contains(" 200 "), serde_json::from_str(&body)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_starts_while_the_platforms_provider_is_away_comes_up_by_itself() -> Result<()> {
    let google = Google::start().await?;
    tokio::task::block_in_place(|| started(&google))
}

fn started(google: &Google) -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLES)?;
    let mut site = Site::new(&database, POLICY)?;
    site.append(&format!(
        "\n[provider.google]\nkind = \"gcp-kms\"\nendpoint = \"{}\"\n",
        google.address()
    ))?;
    site.set("defaults", "provider", "\"google\"")?;
    site.set("defaults", "key", &format!("\"{}\"", key("a")))?;
    site.set("admin", "listen", "\"127.0.0.1:0\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'acme', 'ours')")?;
    ensure!(proxy.psql("app", READ)? == "ours");
    drop(proxy);
    // Something that was set at run time has to be judged, too, before it is believed.
    let passphrase = site.etc().join("passphrase");
    std::fs::write(&passphrase, "correct horse battery staple\n")?;
    let passphrase = passphrase.to_str().context("a UTF-8 path")?;
    let enroll = ["enroll", "ada", "--new-passphrase-file", passphrase];
    site.command("step-up", &enroll)?.ok()?;
    let set = ["set", "tenant:globex", "--dek-epoch", "30d"];
    let set = [&set[..], &["--passphrase-file", passphrase]].concat();
    site.command("scopes", &set)?.ok()?;

    for away in [
        Weather::Error(503, "UNAVAILABLE", "Later."),
        Weather::Hang,
        Weather::Error(403, "PERMISSION_DENIED", "Permission denied."),
    ] {
        google.set(away);
        // Whoever is told that it was not done is told who was not there.
        let sealed = site.command("seal", &["tenant:acme"])?;
        ensure!(
            sealed.code == Some(1)
                && sealed.stderr.contains("the audit log's key")
                && sealed.stderr.contains("key provider")
                && !sealed.stderr.contains("the keystore is unavailable"),
            "{away:?}: {sealed:?}"
        );
        let proxy = site.serve()?;
        ensure!(proxy.psql("app", "SELECT word FROM plain")? == "known");
        for statement in [READ, "INSERT INTO notes VALUES (2, 'acme', 'more')"] {
            let refused = proxy.psql("app", statement)?;
            ensure!(
                refused.contains("PV002") && refused.contains("cannot judge its registry"),
                "{away:?}: {refused}"
            );
        }
        let (is_ready, told) = ready(&proxy)?;
        ensure!(
            !is_ready && told["registry"] == false && told["keystore"] == true,
            "{away:?}: {told}"
        );
        let metrics = proxy.http("/metrics")?.1;
        ensure!(
            metrics.contains("\npgveil_registry_judged 0\n"),
            "{metrics}"
        );
        ensure!(proxy.http("/healthz")?.0.contains(" 200 "));

        google.set(Weather::Fair);
        let deadline = Instant::now() + LIMIT;
        while proxy.psql("app", READ)? != "ours" {
            ensure!(Instant::now() < deadline, "{away:?}:\n{}", proxy.log());
            proxy.process().wait_for_end(POLL);
        }
        let (is_ready, told) = ready(&proxy)?;
        ensure!(is_ready && told["registry"] == true, "{told}");
        let insert = "INSERT INTO notes VALUES (2, 'initech', 'theirs')";
        let mut answer = proxy.psql("app", insert)?;
        // What was set at run time is asked for every two seconds.
        while answer.contains("PV002") {
            ensure!(Instant::now() < deadline, "{answer}\n{}", proxy.log());
            proxy.process().wait_for_end(POLL);
            answer = proxy.psql("app", insert)?;
        }
        ensure!(!answer.contains("ERROR"), "{answer}");
        proxy.psql("app", "DELETE FROM notes WHERE id = 2")?;
        let said = proxy.log();
        let words = "the registry of columns cannot be judged";
        ensure!((1..4).contains(&said.matches(words).count()), "{said}");
    }
    Ok(())
}
