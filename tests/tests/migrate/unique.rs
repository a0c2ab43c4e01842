//! Unique indexes while a table is migrated: they hold while their counterparts on terms are built, one that was dropped
//! meanwhile is in nobody's way, and values that are not unique any more are named by their index. And a table that is written
//! into another file under a batch keeps its rows' values apart.

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::{self, TempPostgres},
    proxy::Proxy,
    site::Site,
};
use tokio_postgres::{Client, error::SqlState};

use super::{ALL, TABLE, online, same, whole};

const PREPARE: [&str; 4] = ["--online", "--yes", "--full-speed", "--prepare"];
/// As pgveil shows them, while there are columns to come.
const NAMED: &str = "SELECT id, email, tenant, note, born, other FROM people ORDER BY id";
/// The indexes of columns to come.
const OWN: &str =
    "SELECT string_agg(relname, ',') FROM pg_class WHERE relname LIKE 'pgveil\\_new%'";

/// Waits in the server until something holds.
async fn until(client: &Client, condition: &str) -> Result<()> {
    let sql = format!(
        "DO $$ DECLARE until timestamptz := clock_timestamp() + interval '2 min'; BEGIN
             WHILE NOT ({condition}) LOOP
                 IF clock_timestamp() > until THEN RAISE 'it does not come to it'; END IF;
                 PERFORM pg_sleep(0.01);
                 COMMIT;
             END LOOP;
         END $$"
    );
    Ok(client.batch_execute(&sql).await?)
}

fn refused(proxy: &Proxy, statement: &str) -> Result<()> {
    let said = proxy.psql("app", statement);
    let said = said.unwrap_or_else(|error| error.to_string());
    ensure!(said.contains("duplicate key value"), "{said}");
    Ok(())
}

#[tokio::test]
async fn values_stay_unique_while_the_index_on_terms_is_built() -> Result<()> {
    let (database, site) = whole()?;
    let direct = |sql: &str| database.run(sql);
    let holder = postgres::connect(site.keystore_url()).await?;
    holder
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .await?;
    let mut apply = site.start("apply", &PREPARE)?;
    let watcher = postgres::connect(site.keystore_url()).await?;
    // The index is there and is filled; it waits for the one who holds an older snapshot.
    let waits = "EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE UNIQUE INDEX CONCURRENTLY \"pgveil\\_new%' \
        AND wait_event_type = 'Lock')";
    until(&watcher, waits).await?;

    // Two rows exchange their values, one's is taken by a new row, and what is there already is not taken.
    direct(
        "BEGIN; UPDATE people SET email = 'for a moment' WHERE id = 1;
         UPDATE people SET email = 'canary1@example.com' WHERE id = 4;
         UPDATE people SET email = 'canary4@example.com' WHERE id = 1; COMMIT",
    )?;
    direct(
        "DELETE FROM people WHERE id = 70; INSERT INTO people VALUES (5000, 'canary70@example.com', 'tenant1')",
    )?;
    let twice = "INSERT INTO people VALUES (5001, 'canary4@example.com', 'tenant1')";
    ensure!(direct(twice).is_err(), "a value that is there was taken");
    holder.batch_execute("COMMIT").await?;
    let done = tokio::task::spawn_blocking(move || apply.wait()).await??;
    ensure!(done.success(), "{done}");

    // The same once more, now that the index is in force, and up to the swap.
    direct(
        "BEGIN; UPDATE people SET email = 'for a moment' WHERE id = 7;
         UPDATE people SET email = 'canary7@example.com' WHERE id = 10;
         UPDATE people SET email = 'canary10@example.com' WHERE id = 7; COMMIT",
    )?;
    ensure!(direct(twice).is_err(), "a value that is there was taken");
    let before = database.run(NAMED)?;
    online(&site)?;
    let proxy = site.serve()?;
    same(&proxy.psql("app", ALL)?, &before)?;
    refused(&proxy, twice)
}

#[test]
fn an_index_that_was_dropped_meanwhile_is_in_nobodys_way() -> Result<()> {
    let (database, site) = whole()?;
    site.command("apply", &PREPARE)?.ok()?;
    ensure!(!database.run(OWN)?.is_empty(), "there is no index on terms");
    database.run(
        "DROP INDEX people_email;
         UPDATE people SET email = 'canary1@example.com' WHERE id IN (1, 4)",
    )?;
    let before = database.run(NAMED)?;
    online(&site)?;
    let proxy = site.serve()?;
    same(&proxy.psql("app", ALL)?, &before)?;
    let found = "SELECT string_agg(id::text, ',' ORDER BY id) FROM people WHERE email = 'canary1@example.com' AND tenant = 'tenant1'";
    ensure!(proxy.psql("app", found)? == "1,4");
    ensure!(database.run(OWN)?.is_empty(), "{}", database.run(OWN)?);

    // The way back meets the index that the plaintext had: it was dropped with the rest.
    drop(proxy);
    site.command("apply", &["--rollback", "--yes"])?.ok()?;
    same(&database.run(ALL)?, &before)
}

#[test]
fn a_way_back_that_finds_values_twice_names_the_index() -> Result<()> {
    let (database, site) = whole()?;
    online(&site)?;
    let proxy = site.serve()?;
    database.run("DROP INDEX people_email")?;
    proxy.psql(
        "app",
        "UPDATE people SET email = 'canary1@example.com' WHERE id IN (1, 4)",
    )?;
    let now = proxy.psql("app", ALL)?;
    drop(proxy);
    let ran = site.command("apply", &["--rollback", "--yes"])?;
    ensure!(ran.code == Some(1), "{}", ran.stdout);
    let name = { ran.stderr.split_whitespace() }
        .find(|word| word.starts_with("pgveil_old_"))
        .with_context(|| ran.stderr.clone())?
        .to_owned();
    ensure!(ran.stderr.contains("not unique"), "{}", ran.stderr);
    ensure!(
        !ran.stderr.contains("canary"),
        "a value is told: {}",
        ran.stderr
    );
    database.run(&format!("DROP INDEX {name}"))?;
    site.command("apply", &["--rollback", "--yes"])?.ok()?;
    same(&database.run(ALL)?, &now)
}

#[tokio::test]
async fn a_unique_index_that_is_not_valid_is_seen_to_first() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x'), (2, 'x')",
    )?;
    let policy = r#"public.t  scope = "platform"  v: text, search = ["equality"]"#;
    let site = Site::new(&database, policy)?;
    let client = postgres::connect(site.keystore_url()).await?;
    let make = "CREATE UNIQUE INDEX CONCURRENTLY t_v ON t (v)";
    let made = client.batch_execute(make).await;
    let code = made.err().and_then(|error| error.code().cloned());
    ensure!(code == Some(SqlState::UNIQUE_VIOLATION), "{code:?}");
    for args in [&["--online", "--yes"][..], &["--yes"]] {
        let ran = site.command("apply", args)?;
        let said = format!("{}{}", ran.stdout, ran.stderr);
        ensure!(ran.code == Some(1), "{said}");
        ensure!(
            said.contains("unique index t_v on v is not valid"),
            "{said}"
        );
        ensure!(said.contains("REINDEX INDEX CONCURRENTLY"), "{said}");
    }
    database.run("UPDATE t SET v = 'y' WHERE id = 2")?;
    client
        .batch_execute("REINDEX INDEX CONCURRENTLY t_v")
        .await?;
    online(&site)?;
    refused(&site.serve()?, "INSERT INTO t VALUES (3, 'y')")
}

/// Rows that one transaction has written have the same version at every place: when a table is written into another file while
/// a batch is in hand, what was read of one row must not be written to the one that stands in its place by then.
#[tokio::test]
async fn a_table_that_gets_another_file_under_a_batch_keeps_its_values() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLE)?;
    database.run("CREATE INDEX people_backwards ON people ((-id))")?;
    database.run(super::ROWS)?;
    let mut site = Site::new(&database, super::POLICY)?;
    // Thirty batches with a pause behind each, so that one is to come when the lock is there: a minute is enough for that.
    site.set("reencrypt", "interval", "\"2s\"")?;
    let holder = postgres::connect(site.keystore_url()).await?;
    let before = database.run(ALL)?;
    let mut apply = site.start("apply", &["--online", "--yes", "--prepare"])?;
    until(
        &holder,
        "to_regclass('pgveil.migrations') IS NOT NULL AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'people'::regclass \
         AND attname = 'pgveil_shadow_email')",
    )
    .await?;
    holder
        .batch_execute("BEGIN; LOCK TABLE people IN EXCLUSIVE MODE")
        .await?;
    // A batch was read, and is to be written.
    let watcher = postgres::connect(site.keystore_url()).await?;
    until(
        &watcher,
        "EXISTS (SELECT FROM pg_locks WHERE relation = 'people'::regclass AND mode = 'RowShareLock' AND NOT granted)",
    )
    .await?;
    holder
        .batch_execute("CLUSTER people USING people_backwards; COMMIT")
        .await?;
    // It was written, or not; the pauses behind the others are nobody's concern here.
    until(
        &watcher,
        "NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'people'::regclass AND mode = 'RowShareLock')",
    )
    .await?;
    apply.kill()?;
    apply.wait()?;
    online(&site)?;
    let proxy = site.serve()?;
    same(&proxy.psql("app", ALL)?, &before)
}
