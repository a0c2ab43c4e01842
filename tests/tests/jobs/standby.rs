//! A standby that falls behind slows a job down; what it holds is as sealed as what its primary holds.

use anyhow::{Result, ensure};
use pgveil_tests::postgres::{Options, TempPostgres};

use crate::{
    search::Search,
    world::{epochs, once, quick, rotate, shown, until},
};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, body text)";
const POLICY: &str = r#"public.notes  scope = "platform"  body: text"#;

#[test]
fn a_standby_that_is_behind_is_waited_for_and_reads_nothing() -> Result<()> {
    let options = Options::default().setting("full_page_writes", "on");
    let server = TempPostgres::start(&options)?;
    let database = server.database()?;
    server.admin("postgres", "GRANT pg_monitor TO pgveil")?;
    database.run(TABLE)?;
    let mut site = quick(&database, POLICY)?;
    site.set("reencrypt", "batch_size", "20")?;
    site.set("reencrypt", "concurrency", "1")?;
    site.set("reencrypt", "interval", "\"50ms\"")?;
    site.set("reencrypt", "max_lag", "\"1s\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    for at in 0..20 {
        let rows: Vec<String> = { at * 20..at * 20 + 20 }
            .map(|n| format!("({n}, 'canary of the standby {n}')"))
            .collect();
        proxy.psql(
            "app",
            &format!("INSERT INTO notes VALUES {}", rows.join(", ")),
        )?;
    }
    let standby = server.standby()?;
    let there = "SELECT count(*) FROM notes";
    let follows = until(|| {
        let rows = standby.admin(database.name(), there);
        Ok(rows.ok().filter(|rows| rows == "400"))
    });
    follows?;

    standby.admin(database.name(), "SELECT pg_wal_replay_pause()")?;
    let job = rotate(&site, "platform", &[])?["job"].clone();
    until(|| {
        let waits = shown(&site, &job)?["waits"].to_string();
        Ok(waits.contains("a standby is").then_some(()))
    })?;
    let then = shown(&site, &job)?;
    ensure!(then["state"] == "running", "{then:#}");
    standby.admin(database.name(), "SELECT pg_wal_replay_resume()")?;
    let done = once(&site, &job, "completed")?;
    ensure!(done["rows_written"] == 400, "{done:#}");
    let now = epochs(&database, "notes", "body")?;
    ensure!(now == "platform 2: 400", "{now}");

    // It follows, and holds the same sealed values.
    let sums = "SELECT md5(string_agg(body::bytea::text, ',' ORDER BY id)) FROM notes";
    let sum = database.admin(sums)?;
    until(|| Ok((standby.admin(database.name(), sums)? == sum).then_some(())))?;
    let search = Search::new(&["canary of the standby".to_owned()])?;
    let plain = search.in_path(&standby.data_dir())?;
    ensure!(plain.is_empty(), "{plain:?}");
    Ok(())
}
