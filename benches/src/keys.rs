//! What keys of many scopes cost: a result over all of them, cold and warm, the requests to the key provider counted; the
//! memory that a held key takes; how long `pgveil serve` takes to start over a keystore with many keys; how fast wrapped keys
//! are brought to another key encryption key, and what a new version of it takes.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{proxy::Proxy, site::Site};
use pgveil_throwaway::{Options, TempPostgres, postgres::Database};

/// How many scopes, how many keys are wrapped anew, and how many keys a start finds.
struct Amounts {
    scopes: [u32; 3],
    wrapped: u32,
    keys: u32,
}

const FULL: Amounts = Amounts {
    scopes: [1, 1_000, 100_000],
    wrapped: 10_000,
    keys: 1_000_000,
};
const SMALL: Amounts = Amounts {
    scopes: [1, 10, 100],
    wrapped: 100,
    keys: 1_000,
};
/// Rows, and so new keys, of one INSERT.
const ROWS: u32 = 500;
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;

/// Measures and prints.
pub(crate) fn run(quick: bool) -> Result<()> {
    let amounts = if quick { SMALL } else { FULL };
    let options = Options::default().setting("shared_buffers", "256MB");
    let server = TempPostgres::start(&options)?;
    println!("\nA result with a row of each scope, local provider");
    println!(
        "  {:>9}{:>18}{:>14}{:>14}{:>12}{:>12}{:>16}",
        "scopes", "keys made per s", "cold ms", "warm ms", "unwraps", "then", "bytes per key"
    );
    // What reading takes that is none of the keys'.
    let mut base = None;
    for scopes in amounts.scopes {
        let database = server.database()?;
        let result = result_over(&database, scopes)?;
        let base = *base.get_or_insert(result.memory);
        println!("  {}", result.shown(base));
    }
    let database = server.database()?;
    wrapped_anew(&database, amounts.wrapped)?;
    let database = server.database()?;
    let took = start_with(&database, amounts.keys)?;
    println!(
        "\nStart of `pgveil serve` over {} keys until it listens: {:.0} ms",
        amounts.keys,
        milliseconds(took)
    );
    Ok(())
}

fn site<'a>(database: &Database<'a>) -> Result<Site<'a>> {
    database.run("CREATE TABLE notes (id int PRIMARY KEY, tenant text NOT NULL, body text)")?;
    let mut site = Site::new(database, POLICY)?;
    site.set("admin", "listen", "\"127.0.0.1:0\"")?;
    // Nothing may expire while it is measured.
    site.set("cache", "ttl", "\"1h\"")?;
    site.apply()?;
    Ok(site)
}

struct OverScopes {
    scopes: u32,
    made_per_second: f64,
    cold: Duration,
    warm: Duration,
    unwraps: u64,
    further_unwraps: u64,
    /// By which the process grew with the first reading, in bytes.
    memory: u64,
}

impl OverScopes {
    fn shown(&self, base: u64) -> String {
        let of_key = self.memory.saturating_sub(base) as f64 / f64::from(self.scopes);
        format!(
            "{:>9}{:>18.0}{:>14.1}{:>14.1}{:>12}{:>12}{of_key:>16.0}",
            self.scopes,
            self.made_per_second,
            milliseconds(self.cold),
            milliseconds(self.warm),
            self.unwraps,
            self.further_unwraps,
        )
    }
}

fn result_over(database: &Database<'_>, scopes: u32) -> Result<OverScopes> {
    let site = site(database)?;
    let made_per_second = f64::from(scopes) / filled(&site, scopes)?.as_secs_f64();
    let proxy = site.serve()?;
    let before = resident_bytes(&proxy)?;
    let cold = read_all(&proxy, scopes)?;
    let unwraps = requested(&proxy)?;
    let memory = resident_bytes(&proxy)?.saturating_sub(before);
    let warm = read_all(&proxy, scopes)?;
    let further_unwraps = requested(&proxy)? - unwraps;
    Ok(OverScopes {
        scopes,
        made_per_second,
        cold,
        warm,
        unwraps,
        further_unwraps,
        memory,
    })
}

/// A row of each scope, written through a proxy of its own, which makes their keys.
fn filled(site: &Site<'_>, scopes: u32) -> Result<Duration> {
    let begin = Instant::now();
    let filler = site.serve()?;
    for first in (0..scopes).step_by(ROWS as usize) {
        let rows: Vec<String> = (first..scopes.min(first + ROWS))
            .map(|n| format!("({n}, 't{n}', 'a note of some thirty characters')"))
            .collect();
        let said = filler.psql(
            "app",
            &format!("INSERT INTO notes VALUES {}", rows.join(",")),
        )?;
        ensure!(!said.contains("ERROR"), "{said}");
    }
    Ok(begin.elapsed())
}

/// Wrapped keys under another KEK, and then under a new version of that one, after which their scopes get new data keys, too.
fn wrapped_anew(database: &Database<'_>, keys: u32) -> Result<()> {
    let mut site = site(database)?;
    filled(&site, keys)?;
    let file = site.etc().join("passphrase");
    fs::write(&file, "correct horse battery staple\n")?;
    let passphrase = file.to_str().context("a UTF-8 path")?;
    let enroll = ["enroll", "ada", "--new-passphrase-file", passphrase];
    site.command("step-up", &enroll)?.ok()?;
    site.set("defaults", "key", "\"another\"")?;
    let moved = timed(keys, || site.command("keys", &["rewrap", "platform"])?.ok())?;
    let by_ada = ["--operator", "ada", "--passphrase-file", passphrase];
    let rotate = [&["rotate", "platform"][..], &by_ada].concat();
    let rotated = timed(keys, || site.command("keks", &rotate)?.ok())?;
    println!("\n{keys} wrapped keys of as many scopes, local provider");
    println!("  brought to another key encryption key: {moved:.0} keys/s");
    println!(
        "  brought to a new version of it, with new data keys for all scopes: {rotated:.0} scopes/s"
    );
    Ok(())
}

/// What was done to so many keys, a second; its answer must name their number, the audit log's own key perhaps counted.
fn timed(keys: u32, act: impl FnOnce() -> Result<String>) -> Result<f64> {
    let begin = Instant::now();
    let said = act()?;
    let took = begin.elapsed().as_secs_f64();
    let named = |number: u32| said.contains(&format!(" {number}"));
    ensure!(named(keys) || named(keys + 1), "{said}");
    Ok(f64::from(keys) / took)
}

fn read_all(proxy: &Proxy, rows: u32) -> Result<Duration> {
    let begin = Instant::now();
    let read = proxy.psql("app", "SELECT body FROM notes ORDER BY id")?;
    let took = begin.elapsed();
    ensure!(
        read.lines().count() == rows as usize,
        "rows are missing: {}",
        read.lines().last().unwrap_or_default()
    );
    Ok(took)
}

/// Unwraps that the provider was asked for, since the start.
fn requested(proxy: &Proxy) -> Result<u64> {
    let (_, page) = proxy.http("/metrics")?;
    let line = page
        .lines()
        .find_map(|line| {
            line.strip_prefix("pgveil_provider_requests_total{provider=\"main\",verb=\"unwrap\"} ")
        })
        .context("the metric is missing")?;
    Ok(line.parse()?)
}

fn resident_bytes(proxy: &Proxy) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.process().pid()))?;
    let line = { status.lines() }.find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(kilobytes.trim().parse::<u64>()? * 1024)
}

/// The rows are no keys that open: a start does not look into them.
fn start_with(database: &Database<'_>, keys: u32) -> Result<Duration> {
    let site = site(database)?;
    database.admin(&format!(
        "INSERT INTO pgveil.scopes (path) SELECT 'tenant:' || g FROM generate_series(1, {keys}) g;
         INSERT INTO pgveil.keys (id, scope, purpose, epoch, state, provider, kek_id, kek_version, wrapped)
             SELECT nextval('pgveil.key_ids'), 'tenant:' || g, 'data', 1, 'active', 'main', 'platform', '1', '\\x00'
             FROM generate_series(1, {keys}) g;
         ANALYZE"
    ))?;
    let begin = Instant::now();
    let _proxy = site.serve()?;
    Ok(begin.elapsed())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
