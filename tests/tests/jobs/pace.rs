//! A server that takes long over a batch slows a job down. (A standby that is behind does: see `standby.rs`.)

use anyhow::{Context, Result, ensure};
use pgveil_tests::postgres::TempPostgres;

use crate::world::{epochs, once, quick, rotate, shown, until};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, body text)";
const POLICY: &str = r#"public.notes  scope = "platform"  body: text"#;
/// Each statement that updates the table takes longer than a second.
const SLOW: &str = "CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    WHILE clock_timestamp() < statement_timestamp() + interval '1.1 s' LOOP END LOOP; RETURN NULL; END $$; \
    CREATE TRIGGER busy AFTER UPDATE ON notes FOR EACH STATEMENT EXECUTE FUNCTION busy()";

#[test]
fn a_server_that_is_slow_is_given_time_and_a_quick_one_is_not() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = quick(&database, POLICY)?;
    for (name, value) in [
        ("batch_size", "20"),
        ("concurrency", "1"),
        ("interval", "\"50ms\""),
        ("max_latency", "\"1s\""),
        ("triggers", "\"fire\""),
    ] {
        site.set("reencrypt", name, value)?;
    }
    site.apply()?;
    database.run(SLOW)?;
    let proxy = site.serve()?;
    let rows: Vec<String> = (0..120).map(|n| format!("({n}, 'note {n}')")).collect();
    let filled = format!("INSERT INTO notes VALUES {}", rows.join(", "));
    proxy.psql("app", &filled)?;
    let job = rotate(&site, "platform", &[])?["job"].clone();
    let slowed = until(|| {
        let waits = shown(&site, &job)?["waits"].to_string();
        Ok(waits.contains("slowed down: a batch took 1.").then_some(()))
    });
    slowed.with_context(|| format!("{:#}", shown(&site, &job).unwrap_or_default()))?;
    // The pause behind a batch is longer than the one that was asked for, as every replica sees.
    let paused = until(|| {
        let longest = "SELECT coalesce(max(until - clock_timestamp()) > interval '100 ms', false) FROM pgveil.job_batches WHERE is_done";
        Ok((database.admin(longest)? == "t").then_some(()))
    });
    paused.context("a pause is longer than 50 ms")?;
    // What it leaves to VACUUM is told.
    let dead = until(|| {
        let dead = shown(&site, &job)?["tables"][0]["dead_rows"].as_i64();
        Ok((dead > Some(0)).then_some(()))
    });
    dead.with_context(|| format!("dead rows: {:#}", shown(&site, &job).unwrap_or_default()))?;
    database.run("DROP TRIGGER busy ON notes")?;
    let done = once(&site, &job, "completed")?;
    ensure!(done["rows_written"] == 120, "{done:#}");
    ensure!(epochs(&database, "notes", "body")? == "platform 2: 120");
    Ok(())
}
