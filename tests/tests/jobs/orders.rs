//! Orders to jobs, and what becomes of a batch whose worker is gone or late.

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    site::Site,
};

use crate::world::{epochs, once, quick, rotate, shown, until};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text NOT NULL, body text)";
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;

/// A table of some rows of one tenant, and a site whose jobs take a second for ten of them.
fn slow<'a>(database: &Database<'a>, rows: u32) -> Result<Site<'a>> {
    database.run(TABLE)?;
    let mut site = quick(database, POLICY)?;
    site.set("reencrypt", "interval", "\"1s\"")?;
    site.set("reencrypt", "concurrency", "1")?;
    site.set("reencrypt", "batch_size", "10")?;
    site.apply()?;
    let values: Vec<String> = (0..rows)
        .map(|n| format!("({n}, 'acme', 'note {n}')"))
        .collect();
    let sql = format!(
        "INSERT INTO notes (id, tenant, body) VALUES {}",
        values.join(", ")
    );
    site.serve()?.psql("app", &sql)?;
    Ok(site)
}

#[test]
fn a_job_is_paused_resumed_and_cancelled() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    let site = slow(&database, 60)?;
    let _proxy = site.serve()?;
    let job = rotate(&site, "tenant:acme", &[])?["job"].clone();
    let id = job.to_string();
    let began = |job: &serde_json::Value| job["values_written"].as_u64() > Some(0);
    until(|| Ok(began(&shown(&site, &job)?).then_some(())))?;
    let said = site.command("jobs", &["pause", &id])?.ok()?;
    ensure!(said == format!("Job {id} is paused.\n"), "{said}");
    // What is in hand is finished.
    let at_rest = until(|| {
        let idle = "SELECT count(*) FROM pgveil.job_batches WHERE NOT is_done";
        Ok((database.admin(idle)? == "0").then_some(()))
    });
    at_rest?;
    let then = shown(&site, &job)?["values_written"].clone();
    ensure!(then.as_u64() < Some(60), "it was too fast to be paused");
    let again = site.command("jobs", &["pause", &id])?;
    ensure!(
        again.code == Some(1)
            && again
                .stderr
                .contains("is paused, and cannot be told to pause"),
        "{}",
        again.stderr
    );
    // Another job runs to its end meanwhile, and this one does not move.
    let other = site.command("rewrap", &["tenant:none", "--json"])?.ok()?;
    once(&site, &crate::world::json(&other)?["job"], "completed")?;
    ensure!(shown(&site, &job)?["values_written"] == then);

    site.command("jobs", &["resume", &id])?.ok()?;
    until(|| Ok((shown(&site, &job)?["values_written"].as_u64() > then.as_u64()).then_some(())))?;
    site.command("jobs", &["cancel", &id])?.ok()?;
    ensure!(shown(&site, &job)?["state"] == "cancelled");
    let listed = site.command("jobs", &["list"])?.ok()?;
    ensure!(
        listed.contains("cancelled") && listed.contains("completed"),
        "{listed}"
    );
    // A later job does what is left, without another key.
    let later = site
        .command("rewrap", &["platform", "--below", "--json"])?
        .ok()?;
    once(&site, &crate::world::json(&later)?["job"], "completed")?;
    let found = epochs(&database, "notes", "body")?;
    ensure!(found == "tenant:acme 2: 60", "{found}");
    let orders = database.admin(
        "SELECT count(*) FROM pgveil.audit WHERE operation = 'job.change' AND encode(record, 'escape') LIKE '%order%'",
    )?;
    ensure!(orders == "3", "{orders}");
    Ok(())
}

#[test]
fn the_batch_of_a_killed_worker_is_done_by_another() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    let site = slow(&database, 30)?;
    // Nobody can write the table: the worker keeps its batch in hand.
    let lock = database.target("app");
    let mut lock = pgveil_tests::wire::Wire::connect(&lock)?;
    lock.query("BEGIN")?;
    lock.query("LOCK TABLE notes IN SHARE MODE")?;
    let proxy = site.serve()?;
    let job = rotate(&site, "tenant:acme", &[])?["job"].clone();
    let in_hand = "SELECT token FROM pgveil.job_batches WHERE NOT is_done";
    let token = until(|| Ok(Some(database.admin(in_hand)?).filter(|token| !token.is_empty())))?;
    proxy.kill9()?;
    let _other = site.serve()?;
    let taken = until(|| {
        let now = database.admin(in_hand)?;
        Ok((!now.is_empty() && now != token).then_some(()))
    });
    taken?;
    lock.query("COMMIT")?;
    let done = once(&site, &job, "completed")?;
    ensure!(done["rows_written"] == 30, "{done:#}");
    ensure!(epochs(&database, "notes", "body")? == "tenant:acme 2: 30");
    Ok(())
}

/// A worker that was only slow finds that its batch is another's, and writes nothing.
#[test]
fn a_worker_that_comes_back_late_writes_nothing() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    let site = slow(&database, 30)?;
    let mut lock = pgveil_tests::wire::Wire::connect(&database.target("app"))?;
    lock.query("BEGIN")?;
    lock.query("LOCK TABLE notes IN SHARE MODE")?;
    let proxy = site.serve()?;
    let job = rotate(&site, "tenant:acme", &[])?["job"].clone();
    let in_hand = "SELECT token FROM pgveil.job_batches WHERE NOT is_done";
    let token = until(|| Ok(Some(database.admin(in_hand)?).filter(|token| !token.is_empty())))?;
    // As if its lease had ended, and somebody had it for an hour.
    database.admin(&format!(
        "UPDATE pgveil.job_batches SET token = nextval('pgveil.job_tokens'), worker = NULL, until = now() + interval '1 hour' WHERE token = {token}"
    ))?;
    lock.query("COMMIT")?;
    until(|| {
        Ok(proxy
            .log()
            .contains("a batch was another worker's meanwhile")
            .then_some(()))
    })?;
    ensure!(epochs(&database, "notes", "body")? == "tenant:acme 1: 30");
    database.admin("UPDATE pgveil.job_batches SET until = now() WHERE NOT is_done")?;
    let done = once(&site, &job, "completed")?;
    ensure!(done["rows_written"] == 30, "{done:#}");
    ensure!(epochs(&database, "notes", "body")? == "tenant:acme 2: 30");
    Ok(())
}
