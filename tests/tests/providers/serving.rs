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

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_its_end_are_recorded_once() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let google = Google::start().await?;
    let site = site(&database, &google)?;
    let proxy = site.serve()?;
    logged(&proxy, "a key encryption key works", 2)?;
    google.set(Weather::Error(503, "UNAVAILABLE", "Later."));
    let insert = "INSERT INTO notes VALUES (1, 'acme', 'one')";
    let told = |operation: &str| -> Result<Vec<serde_json::Value>> {
        let listed = site.command("audit", &["list", "--operation", operation, "--json"])?;
        let lines = listed.ok()?;
        Ok(lines
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?)
    };
    // One statement is enough: what it met is looked at until it is known whether it lasts.
    let refused = proxy.psql("app", insert)?;
    ensure!(refused.contains("PV002"), "{refused}");
    let deadline = Instant::now() + LIMIT;
    while told("provider.lose")?.is_empty() {
        ensure!(Instant::now() < deadline, "the outage is not recorded");
    }
    google.set(Weather::Fair);
    while told("provider.restore")?.is_empty() {
        proxy.psql("app", insert)?;
        ensure!(Instant::now() < deadline, "its return is not recorded");
    }
    let (lost, back) = (told("provider.lose")?, told("provider.restore")?);
    ensure!(lost.len() == 1 && back.len() == 1, "{lost:?} {back:?}");
    let fields = |record: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        (
            text(&record["outcome"]),
            text(&record["detail"]["provider"]),
        )
    };
    ensure!(
        fields(&lost[0]) == ("failed".to_owned(), "google".to_owned()),
        "{lost:?}"
    );
    ensure!(
        fields(&back[0]) == ("done".to_owned(), "google".to_owned()),
        "{back:?}"
    );
    Ok(())
}
