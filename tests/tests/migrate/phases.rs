//! `apply` is killed in every phase by name, with Postgres restarted at some, and goes on. A migration notes each step in its
//! row of `pgveil.migrations`: it stops where somebody holds that row.

use std::{
    collections::BTreeSet,
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{
    postgres::{self, Options, TempPostgres},
    site::Site,
};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{ALL, POLICY, ROWS, TABLE, parted, same, token::token};

const IS_THERE: &str = "SELECT to_regclass('pgveil.migrations') IS NOT NULL";
/// Lets go of the row and takes it again: whoever waits for it meanwhile comes first, and no further than to its next note. Before a
/// decryption writes, it waits for all transactions: ours too.
const HOLD: &str = "ROLLBACK; BEGIN; SELECT phase FROM pgveil.migrations WHERE ended_at IS NULL \
    AND (way = 'seal' OR rows > 0) FOR UPDATE";
/// How many wait for a row that another one has, or, making an index and before the contract, for a transaction of before to
/// end: ours.
const WAITING: &str = "SELECT (SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple', 'virtualxid'))
    + (SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE 'SELECT format(''pid %')";
/// The sessions of those that were killed.
const END: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE usename = 'pgveil' AND backend_type = 'client backend' AND application_name <> 'holder'";
/// For all runs of one way. On a busy machine, or while the server recovers, one may give up before we see that it waits.
const LIMIT: Duration = Duration::from_mins(8);
/// For one of them.
const RUN: Duration = Duration::from_mins(1);

/// How a run ended.
enum Ended {
    /// By us, in this phase.
    Killed(String),
    /// It gave up before we came: once more.
    TooLate,
    ByItself,
}

/// Runs `pgveil apply ARGS` again and again and kills it once in each phase that it comes to; answers those.
fn killed_in_each(site: &Site<'_>, args: &[&str], crashes: bool) -> Result<BTreeSet<String>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut killed = BTreeSet::new();
    let limit = Instant::now() + LIMIT;
    while Instant::now() < limit {
        let (watcher, holder) = runtime.block_on(async {
            let holder = postgres::connect(site.keystore_url()).await?;
            holder
                .batch_execute("SET application_name = 'holder'")
                .await?;
            anyhow::Ok((postgres::connect(site.keystore_url()).await?, holder))
        })?;
        let mut child = site.start("apply", args)?;
        let run = one_run(&mut child, &killed, (&watcher, &holder));
        let run = runtime.block_on(async { tokio::time::timeout(RUN, run).await });
        let ended = match run {
            Ok(ended) => ended?,
            Err(_) => {
                child.kill()?;
                child.wait()?;
                Ended::TooLate
            }
        };
        match ended {
            Ended::ByItself => return Ok(killed),
            Ended::Killed(phase) => killed.insert(phase),
            Ended::TooLate => false,
        };
        if crashes && killed.len() % 2 == 1 {
            site.server().crash()?;
        } else {
            // The server would still carry out what one of them waits for, if the row were let go of before.
            while site.server().admin(site.database(), END)? != "0" {}
        }
        drop(holder);
    }
    bail!("it does not end: killed in {killed:?}")
}

async fn one_run(
    child: &mut Child,
    killed: &BTreeSet<String>,
    (watcher, holder): (&Client, &Client),
) -> Result<Ended> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() {
                Ended::ByItself
            } else {
                Ended::TooLate
            });
        }
        let there: bool = watcher.query_one(IS_THERE, &[]).await?.get(0);
        let mut held = if there { hold(holder).await? } else { None };
        // It comes to its next note, and stands there; under the lock of the table not for long.
        while let Some(phase) = held.take() {
            if !stands(child, watcher).await? {
                break;
            }
            if !killed.contains(&phase) {
                child.kill()?;
                child.wait()?;
                return Ok(Ended::Killed(phase));
            }
            held = hold(holder).await?;
        }
        holder.batch_execute("ROLLBACK").await?;
    }
}

/// Waits until it waits; false if it has ended.
async fn stands(child: &mut Child, watcher: &Client) -> Result<bool> {
    while child.try_wait()?.is_none() {
        if watcher.query_one(WAITING, &[]).await?.get::<_, i64>(0) > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes the row of the migration that is under way; answers its phase.
async fn hold(client: &Client) -> Result<Option<String>> {
    let rows = client.simple_query(HOLD).await?;
    Ok(rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

fn named(phases: &[&str]) -> BTreeSet<String> {
    phases.iter().map(|phase| (*phase).to_owned()).collect()
}

#[test]
fn killed_in_each_phase_it_goes_on_and_so_do_the_ways_back() -> Result<()> {
    goes_on(&format!("{TABLE}{ROWS}"))
}

#[test]
fn killed_in_each_phase_a_partitioned_table_goes_on_and_so_do_the_ways_back() -> Result<()> {
    goes_on(&format!("{}{}", parted::TABLE, parted::ROWS))
}

fn goes_on(table: &str) -> Result<()> {
    let options = Options::default().setting("synchronous_commit", "on");
    let server = TempPostgres::start(&options)?;
    let database = server.database()?;
    database.run(table)?;
    let site = Site::new(&database, POLICY)?;
    let before = database.run(ALL)?;
    let online = ["--online", "--yes", "--full-speed"];
    let phases = killed_in_each(&site, &online, true)?;
    ensure!(
        phases == named(&["backfill", "index", "verify", "swap"]),
        "{phases:?}"
    );
    let proxy = site.serve()?;
    same(&proxy.psql("app", ALL)?, &before)?;

    proxy.psql("app", "UPDATE people SET note = 'since' WHERE id % 3 = 0")?;
    let now = proxy.psql("app", ALL)?;
    let phases = killed_in_each(&site, &["--rollback", "--yes"], true)?;
    ensure!(phases == named(&["swapped", "undo"]), "{phases:?}");
    same(&database.run(ALL)?, &now)?;

    // Forward again, with its end killed too, and all the way back to plaintext.
    site.command("apply", &online)?.ok()?;
    let phases = killed_in_each(&site, &["--contract", "--yes"], false)?;
    ensure!(phases == named(&["swapped"]), "{phases:?}");
    // The ids and places of columns are new: the proxy of before may not have looked yet.
    same(&site.serve()?.psql("app", ALL)?, &now)?;
    let right = token(&site, Operation::ColumnDecrypt, "platform")?;
    let columns = "public.people.email,public.people.note,public.people.born";
    let decrypt = [
        "--decrypt",
        columns,
        "--yes",
        "--full-speed",
        "--token",
        &right,
    ];
    let phases = killed_in_each(&site, &decrypt, true)?;
    ensure!(
        phases == named(&["backfill", "index", "verify", "swap", "swapped"]),
        "{phases:?}"
    );
    let named = "SELECT id, email, tenant, note, born, other FROM people ORDER BY id";
    same(&database.run(named)?, &now)?;
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'pgveil\\_%'";
    ensure!(database.run(left)? == "0", "leftovers");
    Ok(())
}
