//! Applications write while jobs rotate again and again, proxies, workers and the server's backends are killed, and the server
//! is restarted. Afterwards
//! every row is there once, readable, equal to the last write that was acknowledged (or to one whose answer was lost), and
//! under the last key.
//!
//! `PGVEIL_CHAOS_SECONDS` says for how long, `PGVEIL_SEED` which random choices.

use std::{
    collections::{BTreeMap, HashSet},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use futures_util::SinkExt;
use pgveil_tests::{
    postgres::{self, Database, Options, TempPostgres},
    proxy::Proxy,
    site::Site,
};
use tokio_postgres::Client;

use crate::world::{epochs, once, quick, rotate};

const TABLE: &str =
    "CREATE TABLE kept (id int PRIMARY KEY, tenant text NOT NULL, body text, note text)";
const POLICY: &str =
    r#"public.kept  scope = "tenant:{tenant}"  body: text, search = ["equality"]  note: text"#;
const WRITERS: i32 = 3;
/// Rows that one writer has at the most.
const ROWS: u32 = 400;
const SECONDS: u64 = 15;

/// What a row may hold: one thing if the last write was acknowledged, several if answers were lost. `None`: no row.
type May = BTreeMap<i32, Vec<Option<String>>>;

/// A linear congruential generator: the same seed makes the same choices.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).unwrap_or(0) % n
    }
}

struct Writer {
    number: i32,
    chance: Chance,
    may: May,
    /// Rows of writes without an answer: they may still take effect, also after a later one.
    doubtful: HashSet<i32>,
    version: u32,
}

impl Writer {
    /// Writes through whatever proxy there is, until it is told to stop.
    async fn run(
        mut self,
        urls: Arc<Mutex<Vec<String>>>,
        stop: Arc<AtomicBool>,
        done: Arc<AtomicUsize>,
    ) -> May {
        while !stop.load(Ordering::Relaxed) {
            let url = {
                let urls = urls.lock().expect("nobody panics with the lock");
                urls[self.chance.below(urls.len() as u32) as usize].clone()
            };
            let Ok(client) = postgres::connect(&url).await else {
                tokio::task::yield_now().await;
                continue;
            };
            while !stop.load(Ordering::Relaxed) {
                if self.write(&client).await.is_err() {
                    break;
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.may
    }

    async fn write(&mut self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let id = self.number * 10_000 + self.chance.below(ROWS) as i32;
        if self.doubtful.contains(&id) {
            return Ok(());
        }
        self.doubtful.insert(id);
        self.version += 1;
        let text = format!("writer {} version {}", self.number, self.version);
        let new = Some(text.clone());
        let was = self.may.get(&id).cloned().unwrap_or_else(|| vec![None]);
        let exists = was.iter().all(Option::is_some);
        let (sql, becomes) = match self.chance.below(10) {
            0 => ("DELETE FROM kept WHERE id = $1 AND $2 <> ''", None),
            1..=4 if exists => ("UPDATE kept SET body = $2, note = $2 WHERE id = $1", new),
            5 if was == [None] => {
                // One row by COPY.
                self.may.insert(id, vec![None, new.clone()]);
                let line = format!("{id}\tacme\t{text}\t{text}\n");
                let sink = client
                    .copy_in("COPY kept (id, tenant, body, note) FROM STDIN")
                    .await?;
                let mut sink = std::pin::pin!(sink);
                sink.send(Bytes::from(line)).await?;
                sink.finish().await?;
                self.may.insert(id, vec![new]);
                self.doubtful.remove(&id);
                return Ok(());
            }
            _ => (
                "INSERT INTO kept (id, tenant, body, note) VALUES ($1, 'acme', $2, $2) \
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body, note = excluded.note",
                new,
            ),
        };
        // Until it is acknowledged, both may be there.
        let mut may = was;
        may.push(becomes.clone());
        self.may.insert(id, may);
        client.execute(sql, &[&id, &text]).await?;
        self.may.insert(id, vec![becomes]);
        self.doubtful.remove(&id);
        Ok(())
    }
}

/// What goes wrong, at random, until the time is over. Answers how many rotations there were.
fn disturb<'a>(
    site: &'a Site<'a>,
    server: &TempPostgres,
    database: &Database<'_>,
    mut chance: Chance,
    urls: &Mutex<Vec<String>>,
    done: &AtomicUsize,
    limit: Instant,
) -> Result<(Vec<Proxy>, usize)> {
    let mut proxies = vec![again(|| site.serve())?, again(|| site.serve())?];
    let name = |proxies: &[Proxy]| {
        *urls.lock().expect("nobody panics with the lock") =
            proxies.iter().map(|proxy| proxy.url("app")).collect();
    };
    name(&proxies);
    let (mut rotations, mut crashes, mut restarts) = (0, 0, 0);
    while Instant::now() < limit {
        // Between two blows some writes must get through.
        let before = done.load(Ordering::Relaxed);
        let patience = Instant::now() + Duration::from_secs(20);
        while done.load(Ordering::Relaxed) < before + 40 && Instant::now() < patience {
            std::thread::yield_now();
        }
        match chance.below(7) {
            0 => {
                // The server loses a backend, and with it all of them.
                crashes += 1;
                let backends = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
                    AND datname = current_database() LIMIT 1";
                let pid = again(|| database.admin(backends))?;
                if !pid.is_empty() {
                    Command::new("kill").args(["-KILL", &pid]).status()?;
                }
            }
            1 => {
                restarts += 1;
                server.crash()?;
            }
            2..=4 => {
                let victim = chance.below(proxies.len() as u32) as usize;
                proxies.remove(victim).kill9()?;
                proxies.push(again(|| site.serve())?);
                name(&proxies);
            }
            _ => {
                again(|| rotate(site, "tenant:acme", &[]))?;
                rotations += 1;
            }
        }
    }
    eprintln!(
        "{rotations} rotations, {crashes} backends killed, {restarts} restarts of the server, {} writes",
        done.load(Ordering::Relaxed)
    );
    Ok((proxies, rotations))
}

/// While the server recovers, nothing can be begun.
fn again<T>(act: impl Fn() -> Result<T>) -> Result<T> {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        match act() {
            Err(error) if Instant::now() > limit => return Err(error),
            Err(_) => std::thread::yield_now(),
            done => return done,
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    { std::env::var(name).ok() }
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[test]
fn nothing_is_lost_doubled_or_left_behind_whatever_is_killed() -> Result<()> {
    // What is acknowledged must be on its way to the disk: the server crashes.
    let options = Options::default().setting("synchronous_commit", "on");
    let server = TempPostgres::start(&options)?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = quick(&database, POLICY)?;
    site.set("reencrypt", "batch_size", "50")?;
    site.apply()?;
    site.serve()?.psql(
        "app",
        "INSERT INTO kept VALUES (1, 'acme', 'first', 'first')",
    )?;
    let seed = number("PGVEIL_SEED", 1);
    let limit = Instant::now() + Duration::from_secs(number("PGVEIL_CHAOS_SECONDS", SECONDS));
    let runtime = tokio::runtime::Runtime::new()?;
    let (urls, stop, done) = (
        Arc::new(Mutex::new(vec![String::new()])),
        Arc::new(AtomicBool::new(false)),
        Arc::default(),
    );
    let writers: Vec<_> = (1..=WRITERS)
        .map(|number| {
            let writer = Writer {
                number,
                chance: Chance(seed.wrapping_mul(31).wrapping_add(number as u64)),
                may: May::new(),
                doubtful: HashSet::new(),
                version: 0,
            };
            runtime.spawn(writer.run(Arc::clone(&urls), Arc::clone(&stop), Arc::clone(&done)))
        })
        .collect();
    let disturbed = disturb(&site, &server, &database, Chance(seed), &urls, &done, limit);
    stop.store(true, Ordering::Relaxed);
    let mut may = May::new();
    for writer in writers {
        may.extend(runtime.block_on(writer)?);
    }
    let (proxies, _) = disturbed?;
    let last = again(|| rotate(&site, "tenant:acme", &[]))?;
    once(&site, &last["job"], "completed")?;
    // All rotations but the last may still wait for their time; none went wrong.
    let unfinished = database.admin(
        "SELECT count(*) FROM pgveil.jobs WHERE state NOT IN ('completed', 'running', 'queued')",
    )?;
    ensure!(
        unfinished == "0",
        "{}",
        site.command("jobs", &["list"])?.ok()?
    );

    let rows = proxies[0].psql(
        "app",
        "SELECT id || '|' || body || '|' || note FROM kept WHERE id > 1 ORDER BY id",
    );
    let rows = match rows {
        Ok(rows) if !rows.contains("ERROR") => rows,
        _ => proxies[0].psql(
            "app",
            "SELECT id, body, note FROM kept WHERE id > 1 ORDER BY id",
        )?,
    };
    let mut found: BTreeMap<i32, String> = BTreeMap::new();
    for line in rows.lines() {
        let parts: Vec<&str> = line.split('|').collect();
        let [id, body, note] = parts[..] else {
            bail!("{line}")
        };
        ensure!(body == note, "a row is torn: {line}");
        let before = found.insert(id.parse()?, body.to_owned());
        ensure!(before.is_none(), "a row is there twice: {line}");
    }
    for (id, allowed) in &may {
        let now = found.remove(id);
        ensure!(
            allowed.contains(&now),
            "row {id} holds {now:?}, and may hold {allowed:?}"
        );
    }
    ensure!(found.is_empty(), "rows that nobody wrote: {found:?}");
    let newest = database.admin(
        "SELECT max(epoch) FROM pgveil.keys WHERE purpose = 'data' AND scope = 'tenant:acme'",
    )?;
    for column in ["body", "note"] {
        let under = epochs(&database, "kept", column)?;
        let count = database.admin("SELECT count(*) FROM kept")?;
        ensure!(
            under == format!("tenant:acme {newest}: {count}"),
            "{column}: {under}"
        );
    }
    Ok(())
}
