//! The contract waits for transactions of before, but not for ever: it says whose they are, and goes on when they have ended.

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::{self, Options, TempPostgres},
    site::Site,
};

use super::{ALL, POLICY, ROWS, TABLE, online, same};

const KEPT: &str = "SELECT count(*) FROM pg_attribute WHERE attname = 'pgveil_plain_email'";

#[tokio::test]
async fn transactions_that_hang_are_named_and_nothing_is_dropped() -> Result<()> {
    let options = Options::default().setting("max_prepared_transactions", "2");
    let server = TempPostgres::start(&options)?;
    let database = server.database()?;
    database.run(&format!("{TABLE}{ROWS}CREATE TABLE other (id int)"))?;
    let site = Site::new(&database, POLICY)?;
    let before = database.run(ALL)?;
    online(&site)?;

    let hangs = postgres::connect(site.keystore_url()).await?;
    hangs
        .batch_execute("SET application_name = 'night batch'")
        .await?;
    hangs.batch_execute("BEGIN; SELECT 'a secret'").await?;
    let pid: i32 = { hangs.query_one("SELECT pg_backend_pid()", &[]).await? }.get(0);
    let left = postgres::connect(site.keystore_url()).await?;
    left.batch_execute("BEGIN; CREATE TABLE made (id int); PREPARE TRANSACTION 'of-yesterday'")
        .await?;

    let contract = ["--contract", "--yes", "--wait", "1"];
    let ran = site.command("apply", &contract)?;
    ensure!(ran.code == Some(1), "{}", ran.stdout);
    for told in [
        "still open after",
        &format!("pid {pid} (night batch, idle in transaction), its transaction began 20"),
        " ago, its last statement 20",
        "prepared transaction 'of-yesterday' of pgveil, prepared 20",
        "pg_terminate_backend",
        "ROLLBACK PREPARED",
        "run it again",
    ] {
        ensure!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    ensure!(
        !ran.stderr.contains("secret"),
        "a statement is told: {}",
        ran.stderr
    );
    ensure!(database.run(KEPT)? == "1", "it was dropped");
    let status = site.command("apply", &["--status"])?.ok()?;
    let stopped = { status.lines() }.find(|line| line.contains("stopped: "));
    let stopped = stopped.with_context(|| status.clone())?;
    ensure!(stopped.contains("night batch"), "{status}");

    // One of them is not enough.
    hangs.batch_execute("ROLLBACK").await?;
    let ran = site.command("apply", &contract)?;
    ensure!(
        ran.code == Some(1) && !ran.stderr.contains("night batch"),
        "{}",
        ran.stderr
    );
    ensure!(database.run(KEPT)? == "1", "it was dropped");
    left.batch_execute("ROLLBACK PREPARED 'of-yesterday'")
        .await?;
    site.command("apply", &contract)?.ok()?;
    ensure!(database.run(KEPT)? == "0", "it was not dropped");
    same(&site.serve()?.psql("app", ALL)?, &before)
}

#[test]
fn a_migration_that_was_altered_is_not_contracted() -> Result<()> {
    let database = TempPostgres::shared()?.database()?;
    database.run(&format!("{TABLE}{ROWS}"))?;
    let site = Site::new(&database, POLICY)?;
    online(&site)?;
    database.admin(
        "CREATE TABLE kept_m AS SELECT * FROM pgveil.migrations; CREATE TABLE kept_c AS SELECT * FROM pgveil.migrated_columns",
    )?;
    let restore = "UPDATE pgveil.migrations m SET mac = k.mac FROM kept_m k WHERE k.id = m.id;
        DELETE FROM pgveil.migrated_columns; INSERT INTO pgveil.migrated_columns SELECT * FROM kept_c";
    for (change, words) in [
        (
            "DELETE FROM pgveil.migrated_columns",
            "does not fit its MAC",
        ),
        (
            "UPDATE pgveil.migrated_columns SET name = 'id'",
            "does not fit its MAC",
        ),
        ("UPDATE pgveil.migrations SET mac = NULL", "has no MAC"),
    ] {
        database.admin(change)?;
        let ran = site.command("apply", &["--contract", "--yes"])?;
        ensure!(
            ran.code == Some(1) && ran.stderr.contains(words),
            "{change}: {:?} {}{}",
            ran.code,
            ran.stdout,
            ran.stderr
        );
        ensure!(database.run(KEPT)? == "1", "{change}: it was dropped");
        database.admin(restore)?;
    }
    site.command("apply", &["--contract", "--yes"])?.ok()?;
    ensure!(database.run(KEPT)? == "0", "it was not dropped");
    Ok(())
}
