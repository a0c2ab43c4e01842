//! A key is not destroyed while a value that it sealed may still arrive: from a process that is stopped, behind a statement that
//! waits, in a transaction that was prepared (docs/decisions/0148).

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use pgveil_config::{ScopePath, Settings};
use pgveil_jobs::destruction::{Round, destroy_due};
use pgveil_keys::{Keys, Keystore, clock::SystemClock, step_up::Authority};
use pgveil_providers::local::KekStore;
use pgveil_tests::{
    postgres::{Database, Options, TempPostgres},
    proxy::Proxy,
    site::Site,
    wire::{Bind, Message, Wire},
};
use tokio::runtime::Runtime;

use super::{POLICY, TABLE, settings, until};

const SCOPE: &str = "tenant:acme/env:prod";
/// Looks of every process, one after the other, each with an attempt to destroy.
const LOOKS: usize = 20;

/// A replica that replaces the scope's key and ends it, as far as keys go. Nobody seals here.
struct Replica {
    runtime: Runtime,
    settings: Settings,
    keystore: Arc<Keystore>,
    keys: Keys,
}

impl Replica {
    fn new(site: &Site<'_>) -> Result<Self> {
        let (runtime, settings) = (Runtime::new()?, settings(site)?);
        let (keystore, keys) = runtime.block_on(async {
            let keystore = Arc::new(Keystore::connect(&settings).await?);
            let keks: Arc<dyn KekStore> = Arc::clone(&keystore) as _;
            let providers = pgveil_providers::build(&settings, &keks).await?;
            let table = Arc::clone(&keystore) as _;
            let keys = Keys::new(table, providers, &settings, Arc::new(SystemClock));
            anyhow::Ok((keystore, keys))
        })?;
        Ok(Self {
            runtime,
            settings,
            keystore,
            keys,
        })
    }

    /// Replaces the key and has its end due at once: however long replicas may hold it is not waited for here, so that only what
    /// they say counts.
    fn end_key(&self, database: &Database<'_>) -> Result<u64> {
        let active = "SELECT id FROM pgveil.keys WHERE purpose = 'data' AND state = 'active'";
        let old: u64 = database.admin(active)?.parse()?;
        let scope = ScopePath::parse(SCOPE)?;
        let scheduled = self.runtime.block_on(async {
            let made = self.keys.rotate(&scope, Authority::Automatic).await?;
            made.context("it had no key")?;
            let (none, right) = (Duration::ZERO, Authority::Automatic);
            let proof = serde_json::Value::Null;
            let scheduled = self
                .keystore
                .schedule_destruction(old, &scope, none, none, &proof, right);
            anyhow::Ok(scheduled.await?)
        })?;
        ensure!(scheduled, "it is not scheduled");
        Ok(old)
    }

    /// Has every process look, and destroys what can be destroyed.
    fn round(&self, database: &Database<'_>) -> Result<Round> {
        database.admin("NOTIFY pgveil_scopes")?;
        let round = destroy_due(&self.settings, &self.keystore);
        Ok(self.runtime.block_on(round)?)
    }

    /// Looks again and again: nothing is destroyed.
    fn keeps(&self, database: &Database<'_>) -> Result<()> {
        for _ in 0..LOOKS {
            let round = self.round(database)?;
            ensure!(round == Round::default(), "{round:?}");
        }
        Ok(())
    }

    /// Connections of processes that are waited for.
    fn behind(&self) -> Result<usize> {
        let due = self.runtime.block_on(self.keystore.due())?;
        Ok(due.first().context("nothing is due")?.behind.len())
    }

    /// In the end the value is found, or the key is gone that nothing was sealed with.
    fn ends(&self, database: &Database<'_>, old: u64) -> Result<Round> {
        let mut last = Round::default();
        let ended = until(|| {
            last = self.round(database)?;
            Ok(last.kept == [old] || last.destroyed == [old])
        })?;
        ensure!(ended, "key {old} has no end");
        Ok(last)
    }
}

/// Its table has been written to, and is empty: its key is in memory, and no value names it.
fn warm<'a>(database: &Database<'a>) -> Result<(Site<'a>, Proxy)> {
    database.run(TABLE)?;
    let site = Site::new(database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "INSERT INTO notes VALUES (1, 'acme', 'prod', 'first'); DELETE FROM notes",
    )?;
    Ok((site, proxy))
}

fn insert(body: &str) -> String {
    format!("INSERT INTO notes VALUES (2, 'acme', 'prod', '{body}')")
}

fn read(proxy: &Proxy) -> Result<String> {
    proxy.psql("app", "SELECT body FROM notes")
}

#[test]
fn a_process_that_is_stopped_is_waited_for() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let (site, proxy) = warm(&database)?;
    let mut client = Wire::connect(&proxy.target("app"))?;
    client.query("SELECT body FROM notes")?;
    let replica = Replica::new(&site)?;

    proxy.process().signal("STOP")?;
    let old = replica.end_key(&database)?;
    client.send(&[Message::query(&insert("late"))])?;
    replica.keeps(&database)?;
    ensure!(replica.behind()? == 1, "nobody is waited for");
    proxy.process().signal("CONT")?;

    // With the key that it held all the time, or with the next one.
    client.until_ready(1)?;
    replica.ends(&database, old)?;
    let body = read(&proxy)?;
    ensure!(body == "late", "{body}");
    Ok(())
}

#[test]
fn a_process_that_died_is_not_waited_for() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let (site, proxy) = warm(&database)?;
    let replica = Replica::new(&site)?;
    proxy.process().signal("STOP")?;
    let old = replica.end_key(&database)?;
    replica.keeps(&database)?;
    proxy.kill9()?;
    let ended = replica.ends(&database, old)?;
    ensure!(ended.destroyed == [old], "{ended:?}");
    Ok(())
}

#[test]
fn values_behind_statements_that_wait_are_waited_for() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let (site, proxy) = warm(&database)?;
    let mut holder = Wire::connect(&database.target("app"))?;
    holder.query("SELECT pg_advisory_lock(1), pg_advisory_lock(2)")?;
    let mut client = Wire::connect(&proxy.target("app"))?;
    client.query("SELECT body FROM notes")?;
    client.send(&[
        Message::query("SELECT pg_advisory_xact_lock(1)"),
        Message::query("SELECT pg_advisory_xact_lock(2)"),
        Message::query(&insert("late")),
    ])?;
    let waits = |lock: u32| {
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        until(|| Ok(database.admin(&format!("{locks} AND objid = {lock}"))? == "1"))
    };
    ensure!(waits(1)?, "it does not wait");
    // By then it has sealed what it was sent, before the key was replaced.
    read(&proxy)?;
    let replica = Replica::new(&site)?;
    let old = replica.end_key(&database)?;
    replica.keeps(&database)?;
    // The transaction is over that ran when the destruction was scheduled; the value is in none yet.
    holder.query("SELECT pg_advisory_unlock(1)")?;
    ensure!(waits(2)?, "it does not wait");
    replica.keeps(&database)?;
    ensure!(replica.behind()? == 1, "nobody is waited for");
    holder.query("SELECT pg_advisory_unlock(2)")?;

    client.until_ready(3)?;
    let ended = replica.ends(&database, old)?;
    ensure!(ended.kept == [old], "{ended:?}");
    let body = read(&proxy)?;
    ensure!(body == "late", "{body}");
    Ok(())
}

#[test]
fn a_transaction_that_was_prepared_is_waited_for() -> Result<()> {
    let options = Options::default().setting("max_prepared_transactions", "2");
    let server = TempPostgres::start(&options)?;
    let database = server.database()?;
    let (site, proxy) = warm(&database)?;
    let mut client = Wire::connect(&proxy.target("app"))?;
    client.query("BEGIN")?;
    let statement = "INSERT INTO notes VALUES (2, 'acme', 'prod', $1)";
    let params: [Option<&[u8]>; 1] = [Some(b"late")];
    let bind = Bind {
        portal: "late",
        params: &params,
        ..Bind::default()
    };
    client.send(&[
        Message::parse("", statement, &[]),
        Message::bind(&bind),
        Message::flush(),
    ])?;
    client.until(b'2', 1)?;
    let replica = Replica::new(&site)?;
    // The transaction has written nothing: it has no number, and what it writes has one from behind this moment.
    let old = replica.end_key(&database)?;
    replica.keeps(&database)?;
    client.exchange(&[Message::execute("late", 0), Message::sync()], 1)?;
    client.query("PREPARE TRANSACTION 'late'")?;
    replica.keeps(&database)?;
    let said = until(|| {
        replica.round(&database)?;
        Ok(replica.behind()? == 0)
    })?;
    ensure!(said, "the proxy has nothing under way any more");
    replica.keeps(&database)?;

    client.query("COMMIT PREPARED 'late'")?;
    let ended = replica.ends(&database, old)?;
    ensure!(ended.kept == [old], "{ended:?}");
    let body = read(&proxy)?;
    ensure!(body == "late", "{body}");
    Ok(())
}
