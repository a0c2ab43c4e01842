//! Writers that go around the proxy, in whose minds there is no pgveil, while `apply --online` is killed at random, backends are
//! killed, and Postgres crashes; and over the swap, writers through a proxy that has the policy already. Behind the swap every row is there once, readable, and equal to the last write that was
//! acknowledged, or to one whose answer was lost.
//!
//! `PGVEIL_CHAOS_SECONDS` says for how long, `PGVEIL_SEED` which random choices.

use std::{
    collections::{BTreeMap, HashSet},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::{self, Options, TempPostgres},
    site::Site,
};
use tokio_postgres::{Client, error::SqlState};

const TABLE: &str = "CREATE TABLE kept (id int PRIMARY KEY, tenant text NOT NULL, body text UNIQUE, note text);
    INSERT INTO kept SELECT n, 't' || n % 3, 'body ' || n, 'note ' || n FROM generate_series(1000001, 1020000) n";
const POLICY: &str =
    r#"public.kept  scope = "platform"  body: text, search = ["equality"]  note: text"#;
const WRITERS: i32 = 3;
const PROXIED: i32 = 2;
/// Writes through the proxy that are waited for behind the swap.
const SERVED: usize = 60;
/// Rows that one writer has at the most.
const ROWS: u32 = 300;
const SECONDS: u64 = 12;
/// How far the migration is.
const STEP: &str =
    "SELECT phase, rows, verified, cursor FROM pgveil.migrations WHERE ended_at IS NULL";
/// What a statement meets that was made for plaintext, behind the swap.
const SEALED: [SqlState; 3] = [
    SqlState::CHECK_VIOLATION,
    SqlState::DATATYPE_MISMATCH,
    SqlState::INVALID_TEXT_REPRESENTATION,
];

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

fn writer(number: i32, seed: u64) -> Writer {
    Writer {
        number,
        chance: Chance(seed.wrapping_mul(31).wrapping_add(number as u64)),
        may: May::new(),
        doubtful: HashSet::new(),
        version: 0,
    }
}

impl Writer {
    /// Writes until the column takes no plaintext any more, or it is told to stop.
    async fn run(mut self, url: String, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> May {
        while !stop.load(Ordering::Relaxed) {
            let Ok(client) = postgres::connect(&url).await else {
                tokio::task::yield_now().await;
                continue;
            };
            while !stop.load(Ordering::Relaxed) {
                match self.write(&client).await {
                    Ok(()) => done.fetch_add(1, Ordering::Relaxed),
                    Err(error) if error.code().is_some_and(|code| SEALED.contains(code)) => {
                        return self.may;
                    }
                    Err(_) => break,
                };
            }
        }
        self.may
    }

    async fn write(&mut self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let id = self.number * 10_000 + self.chance.below(ROWS) as i32;
        if self.doubtful.contains(&id) {
            return Ok(());
        }
        self.version += 1;
        let text = format!("writer {} version {}", self.number, self.version);
        let was = self.may.get(&id).cloned().unwrap_or_else(|| vec![None]);
        let (sql, becomes) = match self.chance.below(8) {
            0 => ("DELETE FROM kept WHERE id = $1 AND $2 <> ''", None),
            1..=4 if was.iter().all(Option::is_some) => (
                "UPDATE kept SET body = $2, note = $2 WHERE id = $1",
                Some(text.clone()),
            ),
            _ => (
                "INSERT INTO kept (id, tenant, body, note) VALUES ($1, 'acme', $2, $2) \
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body, note = excluded.note",
                Some(text.clone()),
            ),
        };
        let mut may = was.clone();
        may.push(becomes.clone());
        self.may.insert(id, may);
        self.doubtful.insert(id);
        let done = client.execute(sql, &[&id, &text]).await;
        if done.is_ok() {
            self.may.insert(id, vec![becomes]);
            self.doubtful.remove(&id);
        } else if done.as_ref().is_err_and(is_refusal) {
            // Nothing of it is there.
            self.may.insert(id, was);
            self.doubtful.remove(&id);
        }
        done.map(drop)
    }
}

/// The server said no. A server process that is ended may have committed before it says so, and what cannot be shown was written.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(SqlState::code);
    code.is_some_and(|code| !{ ["57P", "08", "PV"].iter() }.any(|class| code.starts_with(class)))
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

/// `apply --online` without its swap, killed again and again, and what it works with.
fn disturb(site: &Site<'_>, mut chance: Chance, done: &AtomicUsize) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(number("PGVEIL_CHAOS_SECONDS", SECONDS));
    let (mut kills, mut crashes, mut last) = (0, 0, String::new());
    let args = ["--online", "--prepare", "--yes", "--full-speed"];
    while Instant::now() < limit {
        let mut child = site.start("apply", &args)?;
        // It gets on by a step, and then for as long as some writes take.
        let patience = Instant::now() + Duration::from_secs(10);
        while Instant::now() < patience && child.try_wait()?.is_none() {
            let now = site
                .server()
                .admin(site.database(), STEP)
                .unwrap_or_default();
            if !now.is_empty() && now != last {
                last = now;
                break;
            }
        }
        let until = done.load(Ordering::Relaxed) + chance.below(600) as usize;
        while done.load(Ordering::Relaxed) < until && Instant::now() < patience {
            std::thread::yield_now();
        }
        match chance.below(4) {
            0 => {
                crashes += 1;
                site.server().crash()?;
            }
            1 => {
                let backends = "SELECT pid FROM pg_stat_activity WHERE usename = 'pgveil' LIMIT 1";
                let pid = again(|| site.server().admin(site.database(), backends))?;
                if !pid.is_empty() {
                    Command::new("kill").args(["-KILL", &pid]).status()?;
                }
            }
            _ => kills += 1,
        }
        child.kill()?;
        child.wait()?;
    }
    eprintln!(
        "{kills} times killed, {crashes} crashes of the server, {} writes; it came to {last}",
        done.load(Ordering::Relaxed)
    );
    Ok(())
}

#[test]
fn nothing_is_lost_of_what_direct_writers_write_whatever_is_killed() -> Result<()> {
    // What is acknowledged must be on its way to the disk: the server crashes.
    let options = Options::default().setting("synchronous_commit", "on");
    let server = TempPostgres::start(&options)?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    let seed = number("PGVEIL_SEED", 1);
    let runtime = tokio::runtime::Runtime::new()?;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let writers: Vec<_> = (1..=WRITERS)
        .map(|number| {
            let url = database.url("app");
            let writer = writer(number, seed);
            runtime.spawn(writer.run(url, Arc::clone(&stop), Arc::clone(&done)))
        })
        .collect();
    let disturbed = disturb(&site, Chance(seed), &done);
    // The swap itself, over the heads of all. Those who come through the proxy are served before it and behind it.
    let (served, proxy) = (Arc::new(AtomicUsize::new(0)), again(|| site.serve())?);
    let writers = writers.into_iter().chain((1..=PROXIED).map(|n| {
        let writer = writer(WRITERS + n, seed);
        runtime.spawn(writer.run(proxy.url("app"), Arc::clone(&stop), Arc::clone(&served)))
    }));
    let writers: Vec<_> = writers.collect();
    let prepared = disturbed.and_then(|()| {
        let args = ["--online", "--prepare", "--yes", "--full-speed"];
        again(|| site.command("apply", &args)?.ok())
    });
    let early = served.load(Ordering::Relaxed);
    let swapped = prepared.and_then(|_| {
        again(|| {
            let args = ["--online", "--yes", "--full-speed"];
            site.command("apply", &args)?.ok()
        })
    });
    let patience = Instant::now() + Duration::from_secs(30);
    while served.load(Ordering::Relaxed) < early + SERVED && Instant::now() < patience {
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    let mut may = May::new();
    for writer in writers {
        may.extend(runtime.block_on(writer)?);
    }
    swapped?;
    let through = served.load(Ordering::Relaxed) - early;
    ensure!(
        through >= SERVED,
        "the proxy served {through} writes behind the swap"
    );
    ensure!(may.len() > 100, "hardly anything was written");

    let rows = runtime.block_on(async {
        let proxy = site.serve()?;
        let client = proxy.connect("app").await?;
        let sql = "SELECT id, body, note FROM kept ORDER BY id";
        anyhow::Ok(client.query(sql, &[]).await?)
    })?;
    let mut found: BTreeMap<i32, String> = BTreeMap::new();
    for row in rows {
        let (id, body, note): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
        if id > 1_000_000 {
            ensure!(body == format!("body {id}") && note == format!("note {id}"));
            continue;
        }
        ensure!(body == note, "row {id} is torn: {body} and {note}");
        found.insert(id, body);
    }
    let early = database.admin("SELECT count(*) FROM kept WHERE id > 1000000")?;
    ensure!(early == "20000", "{early}");
    for (id, allowed) in &may {
        let now = found.remove(id);
        ensure!(
            allowed.contains(&now),
            "row {id} holds {now:?}, and may hold {allowed:?}"
        );
    }
    ensure!(found.is_empty(), "rows that nobody wrote: {found:?}");
    let plain = "SELECT count(*) FROM kept WHERE substr(body, 1, 4) <> '\\x50475601'";
    ensure!(database.admin(plain)? == "0");
    Ok(())
}
