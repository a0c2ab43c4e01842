//! The proxy is killed in the middle of writing, again and again: what was acknowledged can be read, no row is torn between
//! old and new, and nothing was written in the clear.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{postgres::TempPostgres, proxy::Proxy, site::Site};
use tokio::{sync::Notify, task::JoinSet};
use tokio_postgres::Client;

const TABLE: &str = "CREATE TABLE pairs (id int PRIMARY KEY, version int, one text, two text)";
const POLICY: &str =
    r#"public.pairs  scope = "platform"  one: text, search = ["equality"]  two: text"#;
/// How often the proxy is killed.
const ROUNDS: usize = 6;
/// Writes that are acknowledged before it is.
const WRITES: usize = 120;
const WRITERS: usize = 4;

/// What the server has acknowledged: the version of each row.
type Acknowledged = Arc<Mutex<BTreeMap<i32, i32>>>;

fn secret(id: i32, version: i32) -> String {
    format!("plaintext-of-{id}-in-version-{version}")
}

/// Writes until the connection breaks. Both columns of a row always change together.
async fn write(
    client: Client,
    writer: i32,
    round: i32,
    acknowledged: Acknowledged,
    enough: Arc<Notify>,
) {
    let sql = "INSERT INTO pairs VALUES ($1, $2, $3, $3) \
        ON CONFLICT (id) DO UPDATE SET version = $2, one = $3, two = $3";
    for count in 0.. {
        let id = writer * 100_000 + count % 50;
        let version = round * 10_000 + count;
        if client
            .execute(sql, &[&id, &version, &secret(id, version)])
            .await
            .is_err()
        {
            return;
        }
        let mut rows = acknowledged.lock().expect("no writer panics with the lock");
        rows.insert(id, version);
        if count as usize >= WRITES / WRITERS {
            enough.notify_one();
        }
    }
}

async fn write_until_killed(proxy: Proxy, round: i32, acknowledged: &Acknowledged) -> Result<()> {
    let enough = Arc::new(Notify::new());
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS as i32 {
        let client = proxy.connect("app").await?;
        writers.spawn(write(
            client,
            writer,
            round,
            Arc::clone(acknowledged),
            Arc::clone(&enough),
        ));
    }
    enough.notified().await;
    tokio::task::spawn_blocking(move || proxy.kill9()).await??;
    writers.join_all().await;
    Ok(())
}

/// A row may be ahead of what was acknowledged (the answer was lost), never behind and never mixed.
async fn verify(proxy: &Proxy, acknowledged: &Acknowledged) -> Result<()> {
    let client = proxy.connect("app").await?;
    let rows = client
        .query("SELECT id, version, one, two FROM pairs", &[])
        .await?;
    let mut found = BTreeMap::new();
    for row in rows {
        let (id, version): (i32, i32) = (row.get(0), row.get(1));
        let (one, two): (String, String) = (row.get(2), row.get(3));
        ensure!(one == two, "row {id} is torn: {one} and {two}");
        ensure!(
            one == secret(id, version),
            "row {id} is torn: version {version} holds {one}"
        );
        found.insert(id, version);
    }
    let acknowledged = acknowledged
        .lock()
        .expect("no writer panics with the lock")
        .clone();
    for (id, version) in &acknowledged {
        let stored = found
            .get(id)
            .with_context(|| format!("row {id} was acknowledged and is gone"))?;
        ensure!(
            stored >= version,
            "row {id}: version {version} was acknowledged, {stored} is there"
        );
    }
    let (id, version) = found.first_key_value().context("rows")?;
    let by_value = client
        .query_one(
            "SELECT id FROM pairs WHERE one = $1",
            &[&secret(*id, *version)],
        )
        .await?;
    ensure!(by_value.get::<_, i32>(0) == *id);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_proxy_loses_nothing_and_tears_nothing() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let acknowledged = Acknowledged::default();
    for round in 0..ROUNDS {
        write_until_killed(site.serve()?, round as i32, &acknowledged).await?;
        verify(&site.serve()?, &acknowledged).await?;
    }
    let clear = "SELECT count(*) FROM pairs WHERE position('plaintext' IN encode(one || two, 'escape')) > 0 \
        OR substr(one, 1, 4) <> '\\x50475601' OR substr(two, 1, 4) <> '\\x50475601'";
    ensure!(database.run(clear)? == "0");
    Ok(())
}
