//! Writers that go around the proxy while `apply --online` runs, is killed, and runs again; and readers that hold the table.

use std::{
    collections::BTreeMap,
    process::Child,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail, ensure};
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    site::Site,
};
use tokio_postgres::Client;

use super::{ALL, POLICY, ROWS, TABLE, online, parted};

/// How often `apply` is killed.
const KILLS: usize = 12;

/// By id: e-mail, tenant and note.
type Rows = BTreeMap<i32, (String, String, Option<String>)>;

/// Writes until the column takes no plaintext any more; answers what is there then of its own rows.
async fn write(client: Client, writer: i32, enough: Arc<AtomicBool>) -> Result<Rows> {
    let mut rows = Rows::new();
    for n in 0.. {
        if enough.load(Ordering::Relaxed) {
            return Ok(rows);
        }
        let id = 100_000 * writer + n % 61;
        let (email, tenant) = (format!("canary{writer}-{n}"), format!("tenant{}", n % 4));
        let note = (n % 3 == 0).then(|| format!("note {n}"));
        let done = match (rows.contains_key(&id), n % 5) {
            (false, _) => {
                let sql = "INSERT INTO people (id, email, tenant, note) VALUES ($1, $2, $3, $4)";
                client.execute(sql, &[&id, &email, &tenant, &note]).await
            }
            (true, 0) => {
                client
                    .execute("DELETE FROM people WHERE id = $1", &[&id])
                    .await
            }
            (true, 1) => {
                let sql = "UPDATE people SET tenant = $2 WHERE id = $1";
                client.execute(sql, &[&id, &tenant]).await
            }
            (true, _) => {
                let sql = "UPDATE people SET email = $2, note = $3 WHERE id = $1";
                client.execute(sql, &[&id, &email, &note]).await
            }
        };
        if done.is_err() {
            // After the swap: the type is another one, or the domain refuses the value.
            return Ok(rows);
        }
        match (rows.get_mut(&id), n % 5) {
            (None, _) => drop(rows.insert(id, (email, tenant, note))),
            (Some(_), 0) => drop(rows.remove(&id)),
            (Some(row), 1) => row.1 = tenant,
            (Some(row), _) => (row.0, row.2) = (email, note),
        }
    }
    bail!("an endless loop has ended")
}

fn start(site: &Site<'_>) -> Result<Child> {
    site.start("apply", &["--online", "--yes", "--full-speed"])
}

/// The phase and the counts of the migration that is under way.
fn progress(database: &Database<'_>) -> Result<String> {
    database
        .admin("SELECT phase, rows, verified, cursor FROM pgveil.migrations WHERE ended_at IS NULL")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_phase_can_be_killed_while_others_write() -> Result<()> {
    killed_while_others_write(&format!("{TABLE}{ROWS}")).await
}

/// Among what they write are rows that go to another partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_can_while_they_write_to_a_partitioned_table() -> Result<()> {
    killed_while_others_write(&format!("{}{}", parted::TABLE, parted::ROWS)).await
}

async fn killed_while_others_write(table: &str) -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(table)?;
    let site = Site::new(&database, POLICY)?;
    database.run(
        "INSERT INTO people SELECT n, 'early' || n, 'tenant9' FROM generate_series(10001, 22000) n",
    )?;
    let enough = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 1..=2 {
        let client = database.connect("app").await?;
        writers.push(tokio::spawn(write(client, writer, Arc::clone(&enough))));
    }
    let (mut phases, mut last) = (Vec::new(), String::new());
    for _ in 0..KILLS {
        let mut child = start(&site)?;
        // Until it has come further than the one before.
        let ended = loop {
            let now = progress(&database).unwrap_or_default();
            if !now.is_empty() && now != last {
                last = now;
                break false;
            }
            if child.try_wait()?.is_some() {
                break true;
            }
        };
        child.kill()?;
        child.wait()?;
        phases.push(last.split('|').next().unwrap_or_default().to_owned());
        if ended {
            break;
        }
    }
    ensure!(phases.iter().any(|phase| phase == "backfill"), "{phases:?}");
    online(&site)?;
    enough.store(true, Ordering::Relaxed);
    let mut rows = Rows::new();
    for writer in writers {
        rows.extend(writer.await??);
    }
    ensure!(!rows.is_empty());
    let proxy = site.serve()?;
    let client = proxy.connect("app").await?;
    let found = client
        .query(
            "SELECT id, email, tenant, note FROM people WHERE id >= 100000",
            &[],
        )
        .await?;
    let found: Rows = found
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3))))
        .collect();
    ensure!(
        found == rows,
        "what was acknowledged is not what is there; killed in {phases:?}"
    );
    ensure!(proxy.psql("app", ALL)?.lines().count() == 15_000 + rows.len());
    ensure!(database.run("SELECT count(*) FROM people WHERE email IS NULL")? == "0");
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'pgveil_new%' OR relname LIKE 'pgveil_stale%'";
    ensure!(database.run(left)? == "0", "leftovers");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_reader_delays_the_swap_and_nobody_else() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(&format!("{TABLE}{ROWS}"))?;
    let site = Site::new(&database, POLICY)?;
    let args = ["--online", "--prepare", "--yes", "--full-speed"];
    let prepared = site.command("apply", &args)?;
    let prepared = prepared.ok()?;
    ensure!(prepared.contains("ready for the swap"), "{prepared}");
    let reader = database.connect("app").await?;
    reader
        .batch_execute("BEGIN; SELECT FROM people LIMIT 1")
        .await?;
    let mut child = start(&site)?;
    let other = database.connect("app").await?;
    other.batch_execute("SET lock_timeout = '5s'").await?;
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'people'::regclass AND NOT granted \
                   AND mode = 'AccessExclusiveLock'";
    // The swap waits for the lock, and lets others pass, three times at least.
    let (mut tries, mut waits) = (0, false);
    while tries < 3 {
        ensure!(
            child.try_wait()?.is_none(),
            "it swapped while the table was read"
        );
        let row = other.query_one(waiting, &[]).await?;
        let now = row.get::<_, i64>(0) > 0;
        tries += usize::from(now && !waits);
        waits = now;
        other
            .batch_execute("SELECT FROM people WHERE id = 1")
            .await
            .context("blocked behind the waiting swap")?;
    }
    reader.batch_execute("COMMIT").await?;
    ensure!(child.wait()?.success(), "apply did not go on");
    ensure!(progress(&database)?.starts_with("swapped"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_somebody_holds_are_waited_for() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(&format!("{TABLE}{ROWS}"))?;
    let site = Site::new(&database, POLICY)?;
    let args = ["--online", "--prepare", "--yes", "--full-speed"];
    site.command("apply", &args)?.ok()?;
    database.run("UPDATE people SET note = 'since' WHERE id <= 1000")?;
    let before =
        database.run("SELECT id, email, tenant, note, born, other FROM people ORDER BY id")?;
    let holder = database.connect("app").await?;
    holder
        .batch_execute("BEGIN; SELECT FROM people WHERE id <= 1000 FOR UPDATE")
        .await?;
    let mut child = start(&site)?;
    // It has tried to write them, and does nothing for a while.
    let tried = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'pgveil' AND state = 'idle' AND query LIKE 'WITH v AS%'";
    while database.admin(tried)? == "0" {
        ensure!(child.try_wait()?.is_none(), "it did not wait");
    }
    ensure!(progress(&database)?.starts_with("swap|"));
    holder.batch_execute("COMMIT").await?;
    ensure!(child.wait()?.success(), "apply did not go on");
    ensure!(progress(&database)?.starts_with("swapped|"));
    super::same(&site.serve()?.psql("app", ALL)?, &before)
}
