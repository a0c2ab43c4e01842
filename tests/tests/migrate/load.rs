//! An application's load through two proxies with the new policy, over whole migrations and back: pooled connections, prepared
//! statements, transactions of every isolation level, COPY both ways. It keeps its own record: every answer has to fit it, and no
//! error is taken but the one that the documents name. One proxy is stopped with statements in flight while the swap comes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, pin_mut};
use pgveil_tests::{
    postgres::{self, Database, TempPostgres},
    proxy::Proxy,
    site::Site,
};
use tokio_postgres::{Client, SimpleQueryMessage, Statement, error::SqlState};

const TABLE: &str = "CREATE TABLE accounts (id int PRIMARY KEY, email text UNIQUE, seen int NOT NULL DEFAULT 0, note text);
    INSERT INTO accounts SELECT n, 'first ' || n, 0, 'note ' || n FROM generate_series(1000001, 1020000) n";
const PARTED: &str = "CREATE TABLE accounts (id int PRIMARY KEY, email text, seen int NOT NULL DEFAULT 0, note text) PARTITION BY HASH (id);
    CREATE TABLE accounts_0 PARTITION OF accounts FOR VALUES WITH (MODULUS 3, REMAINDER 0);
    CREATE TABLE accounts_1 PARTITION OF accounts FOR VALUES WITH (MODULUS 3, REMAINDER 1);
    CREATE TABLE accounts_2 PARTITION OF accounts FOR VALUES WITH (MODULUS 3, REMAINDER 2);
    CREATE INDEX ON accounts (email);
    INSERT INTO accounts SELECT n, 'first ' || n, 0, 'note ' || n FROM generate_series(1000001, 1020000) n";
const POLICY: &str =
    r#"public.accounts  scope = "platform"  email: text, search = ["equality"]  note: text"#;
/// Writers of each proxy, each with a pool of so many connections.
const WRITERS: i32 = 2;
const POOL: usize = 2;
/// Rows that one writer has at the most.
const ROWS: i32 = 40;
/// Acknowledged operations that are waited for in each state.
const ENOUGH: usize = 150;
/// How often the table goes there and back before it stays.
const RETURNS: usize = 2;
const FULL: [&str; 3] = ["--online", "--yes", "--full-speed"];

/// One connection of a pool, with what a driver prepares on it.
struct Pooled {
    client: Client,
    put: Statement,
    find: Statement,
    note: Statement,
    remove: Statement,
}

async fn pooled(url: &str) -> Result<Pooled> {
    let client = postgres::connect(url).await?;
    let put = "INSERT INTO accounts (id, email, note) VALUES ($1, $2, $3) \
               ON CONFLICT (id) DO UPDATE SET email = excluded.email, note = excluded.note";
    Ok(Pooled {
        put: client.prepare(put).await?,
        find: client
            .prepare("SELECT id, note FROM accounts WHERE email = $1")
            .await?,
        note: client
            .prepare("UPDATE accounts SET note = $2, seen = seen + 1 WHERE email = $1 RETURNING id")
            .await?,
        remove: client
            .prepare("DELETE FROM accounts WHERE email = $1 AND id = $2")
            .await?,
        client,
    })
}

struct Shared {
    stop: AtomicBool,
    done: AtomicUsize,
    retried: AtomicUsize,
    /// Counts the swaps: what is written names it.
    era: AtomicUsize,
}

/// By id: e-mail and note.
type Record = BTreeMap<i32, (String, String)>;

struct Writer {
    number: i32,
    turn: u32,
    record: Record,
    url: String,
    pool: Vec<Pooled>,
    shared: Arc<Shared>,
}

impl Writer {
    async fn run(mut self) -> Result<Record> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.turn += 1;
            let turn = self.turn;
            match self.act().await {
                Ok(()) => {
                    self.shared.done.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if is_retriable(&error) => {
                    self.shared.retried.fetch_add(1, Ordering::Relaxed);
                    // A COPY that is refused before it begins leaves this driver out of step: it sends Sync twice, and the
                    // second one is answered, too (rust-postgres, issue 789).
                    if turn % 9 == 5 {
                        self.pool[turn as usize % POOL] = pooled(&self.url).await?;
                    }
                    for pooled in &self.pool {
                        // Only the one whose turn it was can be in a transaction.
                        pooled.client.batch_execute("ROLLBACK").await?;
                    }
                }
                Err(error) => return Err(error.context(format!("turn {turn}, {}", turn % 9))),
            }
        }
        Ok(self.record)
    }

    async fn act(&mut self) -> Result<()> {
        let turn = self.turn;
        let id = self.number * 1000 + (turn as i32).wrapping_mul(7) % ROWS;
        let era = self.shared.era.load(Ordering::SeqCst);
        let (email, note) = (
            format!("era{era} {}-{turn}", self.number),
            format!("era{era} note {turn}"),
        );
        let pooled = &self.pool[turn as usize % POOL];
        let client = &pooled.client;
        let known = self.record.get(&id).cloned();
        match (turn % 9, known) {
            (1, Some((was, _))) => {
                let rows = client.query(&pooled.note, &[&was, &note]).await?;
                ensure!(
                    rows.len() == 1 && rows[0].get::<_, i32>(0) == id,
                    "updated {}",
                    rows.len()
                );
                self.record.insert(id, (was, note));
            }
            (2, Some((was, old))) => {
                let row = client.query_one(&pooled.find, &[&was]).await?;
                ensure!(
                    (row.get(0), row.get::<_, &str>(1)) == (id, old.as_str()),
                    "another row"
                );
                let none = client.query(&pooled.find, &[&format!("no {was}")]).await?;
                ensure!(none.is_empty(), "a row that nobody wrote");
            }
            (3, Some((was, _))) => {
                let sql = format!(
                    "UPDATE accounts SET note = '{note}' WHERE email = '{was}'; SELECT note FROM accounts WHERE id = {id}"
                );
                ensure!(first(client, &sql).await? == note, "another note");
                self.record.insert(id, (was, note));
            }
            (4, Some((was, old))) => {
                let level =
                    ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][turn as usize % 3];
                client
                    .batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1"))
                    .await?;
                let row = client.query_one(&pooled.find, &[&was]).await?;
                ensure!(
                    (row.get(0), row.get::<_, &str>(1)) == (id, old.as_str()),
                    "another row within"
                );
                client.execute(&pooled.put, &[&id, &email, &note]).await?;
                client.batch_execute("COMMIT").await?;
                self.record.insert(id, (email, note));
            }
            (5, _) => {
                let id = self.number * 1000 + 500 + turn as i32 % 100;
                client
                    .execute("DELETE FROM accounts WHERE id = $1", &[&id])
                    .await?;
                self.record.remove(&id);
                let sink = client
                    .copy_in("COPY accounts (id, email, note) FROM STDIN")
                    .await?;
                pin_mut!(sink);
                sink.send(Bytes::from(format!("{id}\t{email}\t{note}\n")))
                    .await?;
                sink.close().await?;
                self.record.insert(id, (email, note));
            }
            (6, Some((was, old))) => {
                let sql =
                    format!("COPY (SELECT email, note FROM accounts WHERE id = {id}) TO STDOUT");
                let stream = client.copy_out(&sql).await?;
                pin_mut!(stream);
                let mut text = Vec::new();
                while let Some(part) = stream.next().await {
                    text.extend_from_slice(&part?);
                }
                ensure!(text == format!("{was}\t{old}\n").as_bytes(), "another copy");
            }
            (7, Some((was, _))) => {
                ensure!(
                    client.execute(&pooled.remove, &[&was, &id]).await? == 1,
                    "not removed"
                );
                self.record.remove(&id);
            }
            (8, Some((was, old))) => {
                let sql = format!(
                    "BEGIN; DECLARE c CURSOR FOR SELECT note FROM accounts WHERE email = '{was}'; FETCH ALL FROM c; COMMIT"
                );
                ensure!(first(client, &sql).await? == old, "another row in a cursor");
            }
            _ => {
                client.execute(&pooled.put, &[&id, &email, &note]).await?;
                self.record.insert(id, (email, note));
            }
        }
        Ok(())
    }
}

/// The only error that the documents tell applications to expect.
fn is_retriable(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<tokio_postgres::Error>();
    error.is_some_and(|error| error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE))
}

async fn first(client: &Client, sql: &str) -> Result<String> {
    let messages = client.simple_query(sql).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(row.context("no row")?.to_owned())
}

struct Load {
    shared: Arc<Shared>,
    writers: Vec<tokio::task::JoinHandle<Result<Record>>>,
}

impl Load {
    async fn start(proxies: &[Proxy]) -> Result<Self> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            retried: AtomicUsize::new(0),
            era: AtomicUsize::new(0),
        });
        let mut writers = Vec::new();
        for (at, proxy) in proxies.iter().enumerate() {
            for n in 0..WRITERS {
                let mut pool = Vec::new();
                for _ in 0..POOL {
                    pool.push(pooled(&proxy.url("app")).await?);
                }
                let writer = Writer {
                    number: 1 + n + WRITERS * at as i32,
                    turn: 0,
                    record: Record::new(),
                    url: proxy.url("app"),
                    pool,
                    shared: Arc::clone(&shared),
                };
                writers.push(tokio::spawn(writer.run()));
            }
        }
        Ok(Self { shared, writers })
    }

    /// Waits until so much more was acknowledged.
    async fn goes_on(&mut self) -> Result<()> {
        let until = self.shared.done.load(Ordering::Relaxed) + ENOUGH;
        let limit = Instant::now() + Duration::from_mins(1);
        while self.shared.done.load(Ordering::Relaxed) < until {
            if self
                .writers
                .iter()
                .any(tokio::task::JoinHandle::is_finished)
            {
                self.shared.stop.store(true, Ordering::Relaxed);
                for writer in self.writers.drain(..) {
                    writer.await??;
                }
                bail!("a writer has ended");
            }
            ensure!(Instant::now() < limit, "the load stands still");
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn end(self) -> Result<Record> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Record::new();
        for writer in self.writers {
            all.extend(writer.await??);
        }
        eprintln!(
            "{} operations, {} tried again",
            self.shared.done.load(Ordering::Relaxed),
            self.shared.retried.load(Ordering::Relaxed)
        );
        Ok(all)
    }
}

/// The swap, while a proxy is stopped as it stands: until it goes on, or the swap has been waiting for it for a while.
async fn swap_over_a_stopped_proxy(site: &Site<'_>, proxy: &Proxy, load: &mut Load) -> Result<()> {
    let database = site.server();
    // Before it is stopped: an index waits for every transaction that is open, and one of the proxy's may be.
    let mut prepare = site.start("apply", &[&FULL[..], &["--prepare"]].concat())?;
    while prepare.try_wait()?.is_none() {
        tokio::task::yield_now().await;
    }
    ensure!(prepare.wait()?.success(), "it could not be prepared");
    proxy.process().signal("STOP")?;
    let mut child = site.start("apply", &FULL)?;
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'accounts'::regclass AND NOT granted \
                   AND mode = 'AccessExclusiveLock'";
    let mut waited = 0;
    while waited < 3 && child.try_wait()?.is_none() {
        waited += usize::from(database.admin(site.database(), waiting)? != "0");
        tokio::task::yield_now().await;
    }
    proxy.process().signal("CONT")?;
    while child.try_wait()?.is_none() {
        ensure!(
            !load
                .writers
                .iter()
                .any(tokio::task::JoinHandle::is_finished),
            "a writer has ended"
        );
        tokio::task::yield_now().await;
    }
    ensure!(child.wait()?.success(), "the swap failed");
    load.shared.era.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Rows in which something that was written behind the swap stands in the clear.
fn plaintext(database: &Database<'_>, era: usize) -> Result<String> {
    database.admin(&format!(
        "SELECT (SELECT count(*) FROM accounts WHERE substr(email::bytea, 1, 4) <> '\\x50475601' OR substr(note::bytea, 1, 4) <> '\\x50475601')
         + (SELECT count(*) FROM accounts WHERE pgveil_plain_email LIKE 'era{era} %' OR pgveil_plain_note LIKE 'era{era} %')"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_runs_through_proxies_over_whole_migrations() -> Result<()> {
    runs_over_whole_migrations(TABLE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_over_those_of_a_partitioned_table() -> Result<()> {
    runs_over_whole_migrations(PARTED).await
}

async fn runs_over_whole_migrations(table: &str) -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(table)?;
    let site = Site::new(&database, POLICY)?;
    let mut prepare = site.start("apply", &[&FULL[..], &["--prepare"]].concat())?;
    let begun = "SELECT coalesce((SELECT max(phase) FROM pgveil.migrations WHERE to_regclass('pgveil.migrations') IS NOT NULL), '')";
    while database.admin(begun).unwrap_or_default().is_empty() {
        ensure!(prepare.try_wait()?.is_none(), "it has ended");
    }
    let proxies = [site.serve()?, site.serve()?];
    let mut load = Load::start(&proxies).await?;
    load.goes_on().await?;
    ensure!(prepare.wait()?.success());
    for round in 0..=RETURNS {
        load.goes_on().await?;
        swap_over_a_stopped_proxy(&site, &proxies[round % 2], &mut load).await?;
        load.goes_on().await?;
        ensure!(
            plaintext(&database, round + 1)? == "0",
            "plaintext behind the swap"
        );
        if round < RETURNS {
            let mut back = site.start("apply", &["--rollback", "--yes"])?;
            while back.try_wait()?.is_none() {
                tokio::task::yield_now().await;
            }
            ensure!(back.wait()?.success());
            load.goes_on().await?;
        }
    }
    let mut contract = site.start("apply", &["--contract", "--yes"])?;
    while contract.try_wait()?.is_none() {
        tokio::task::yield_now().await;
    }
    ensure!(contract.wait()?.success());
    load.goes_on().await?;
    let record = load.end().await?;
    ensure!(record.len() > 50, "hardly anything was written");
    let client = proxies[0].connect("app").await?;
    let rows = client
        .query(
            "SELECT id, email, note FROM accounts WHERE id < 1000000 ORDER BY id",
            &[],
        )
        .await?;
    let found: Record = { rows.iter() }
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect();
    ensure!(
        found == record,
        "what was acknowledged is not what is there"
    );
    let row = client
        .query_one("SELECT count(*) FROM accounts WHERE id > 1000000", &[])
        .await?;
    ensure!(row.get::<_, i64>(0) == 20_000);
    Ok(())
}
