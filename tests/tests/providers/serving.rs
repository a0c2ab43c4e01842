//! `pgveil check` and `pgveil serve` while a provider works, answers no and is away, and with it one of two scopes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    proxy::Proxy,
    site::Site,
};

use crate::gcp::{Google, Weather, key};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text, body text)";
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;
const LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(50);

/// Tenant `acme` has its key at Google, everybody else locally.
fn site(database: &Database<'static>, google: &Google) -> Result<Site<'static>> {
    database.run(TABLE)?;
    let mut site = Site::new(database, POLICY)?;
    site.append(&format!(
        "\n[provider.google]\nkind = \"gcp-kms\"\nendpoint = \"{}\"\n\
         [[override]]\nscope = \"tenant:acme\"\nprovider = \"google\"\nkey = \"{}\"\n",
        google.address(),
        key("a")
    ))?;
    site.apply()?;
    Ok(site)
}

/// Waits for so many lines of the log with these words.
fn logged(proxy: &Proxy, words: &str, times: usize) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while proxy.log().matches(words).count() < times {
        let ended = proxy.process().wait_for_end(POLL);
        ensure!(
            !ended && Instant::now() < deadline,
            "not {times} times {words:?} in:\n{}",
            proxy.log()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_which_key_does_not_work() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let google = Google::start().await?;
    let site = site(&database, &google)?;
    let ran = site.command("check", &[])?;
    ensure!(ran.code == Some(0), "{}", ran.stderr);
    for (weather, words) in [
        (
            Weather::Error(403, "PERMISSION_DENIED", "Permission denied."),
            ["PERMISSION_DENIED", "docs/providers.md"],
        ),
        (
            Weather::Error(503, "UNAVAILABLE", "Later."),
            ["is unavailable", "whether this machine reaches it"],
        ),
    ] {
        google.set(weather);
        let ran = site.command("check", &[])?;
        ensure!(ran.code == Some(1), "{weather:?}: {}", ran.stdout);
        for word in words
            .into_iter()
            .chain(["google", "tenant:acme", "pgveil.toml"])
        {
            ensure!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_work_is_logged_and_stops_nobody_else() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let google = Google::start().await?;
    let site = site(&database, &google)?;
    google.set(Weather::Error(
        403,
        "PERMISSION_DENIED",
        "Permission denied.",
    ));
    let proxy = site.serve()?;
    logged(&proxy, "a key encryption key cannot be used", 1)?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'globex', 'one')")?;
    let insert = "INSERT INTO notes VALUES (2, 'acme', 'two')";
    let refused = proxy.psql("app", insert)?;
    ensure!(refused.contains("PV002"), "{refused}");
    let row = "SELECT body FROM notes WHERE tenant = 'globex'";
    ensure!(proxy.psql("app", row)?.contains("one"));

    google.set(Weather::Fair);
    logged(&proxy, "works again", 1)?;
    // A no is remembered for a moment.
    let deadline = Instant::now() + LIMIT;
    while proxy.psql("app", insert)?.contains("PV002") {
        ensure!(Instant::now() < deadline, "it is still refused");
        proxy.process().wait_for_end(POLL);
    }
    let row = "SELECT body FROM notes WHERE tenant = 'acme'";
    ensure!(proxy.psql("app", row)?.contains("two"));
    let leaked = database.run("SELECT body::text FROM notes")?;
    ensure!(
        !leaked.contains("two") && !leaked.contains(&hex::encode("two")),
        "{leaked}"
    );
    Ok(())
}
