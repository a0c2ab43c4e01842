//! How fast rows are brought to a new data key at full speed, beside the server's own UPDATE of the same rows in the same
//! batches: the aim is half of it at least.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::site::Site;
use pgveil_throwaway::{Options, TempPostgres, postgres::Database};

use crate::pgbench::median;

/// Rows of a batch at full speed (docs/rotation.md).
const BATCH: u32 = 2_000;
const LIMIT: Duration = Duration::from_mins(10);
const POLICY: &str =
    r#"public.people  scope = "platform"  account: int8, search = ["equality"]  secret: text"#;

/// Batches at once: one, for what a batch costs, and the default.
const AT_ONCE: [usize; 2] = [1, 2];

/// Measures, turn by turn, and prints.
pub(crate) fn run(quick: bool, rounds: usize) -> Result<()> {
    let rows: u32 = if quick { 2_000 } else { 400_000 };
    let options = Options::default().setting("shared_buffers", "256MB");
    let server = TempPostgres::start(&options)?;
    let database = server.database()?;
    database.run(&format!(
        "CREATE TABLE people AS SELECT g AS id, g::int8 AS account, 'secret of person ' || g || ', forty characters' AS secret \
             FROM generate_series(1, {rows}) g;
         ALTER TABLE people ADD PRIMARY KEY (id)"
    ))?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.set("reencrypt", "interval", "\"0s\"")?;
    site.apply()?;
    let passphrase = enrolled(&site)?;
    let mut own = Vec::new();
    let mut ours = AT_ONCE.map(|at_once| (at_once, Vec::new(), Vec::new()));
    for _ in 0..rounds {
        let by_server = f64::from(rows) / updated(&database, rows)?.as_secs_f64();
        own.push(by_server);
        for (at_once, rates, ratios) in &mut ours {
            database.admin("VACUUM people")?;
            site.set("reencrypt", "concurrency", &at_once.to_string())?;
            let _proxy = site.serve()?;
            let by_job = f64::from(rows) / rewrapped(&site, &database, &passphrase)?.as_secs_f64();
            rates.push(by_job);
            ratios.push(by_job / by_server);
        }
        database.admin("VACUUM people")?;
    }
    println!(
        "\nRows with two sealed values and an index on one's terms brought to a new data key, {rounds} rounds of {rows} rows"
    );
    println!(
        "  UPDATE in the server, batches of {BATCH}: {:.0} rows/s",
        median(&mut own)
    );
    for (at_once, mut rates, mut ratios) in ours {
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = ratios.iter().copied().fold(0.0, f64::max);
        println!(
            "  rewrap at full speed, {at_once} at once: {:.0} rows/s, x{:.2} ({least:.2}-{greatest:.2})",
            median(&mut rates),
            median(&mut ratios)
        );
    }
    Ok(())
}

fn enrolled(site: &Site<'_>) -> Result<String> {
    let file = site.etc().join("passphrase");
    fs::write(&file, "correct horse battery staple\n")?;
    let file = file.to_str().context("a UTF-8 path")?.to_owned();
    let enroll = ["enroll", "ada", "--new-passphrase-file", &file];
    site.command("step-up", &enroll)?.ok()?;
    Ok(file)
}

/// The same rows written again by the server itself, as values and terms are.
fn updated(database: &Database<'_>, rows: u32) -> Result<Duration> {
    let begin = Instant::now();
    database.admin(&format!(
        "DO $$ BEGIN
             FOR low IN 1..{rows} BY {BATCH} LOOP
                 UPDATE people SET account = account, secret = secret WHERE id >= low AND id < low + {BATCH};
                 COMMIT;
             END LOOP;
         END $$"
    ))?;
    Ok(begin.elapsed())
}

/// From the start of the job until nothing is left to write. The server itself waits, so that the wait costs next to nothing.
fn rewrapped(site: &Site<'_>, database: &Database<'_>, passphrase: &str) -> Result<Duration> {
    let rotate = ["platform", "--below", "--passphrase-file", passphrase];
    site.command("rotate", &rotate)?.ok()?;
    let last = "id = (SELECT max(id) FROM pgveil.jobs)";
    let wait = |condition: &str| {
        let limit = LIMIT.as_secs();
        database.admin(&format!(
            "DO $$ DECLARE until timestamptz := now() + interval '{limit} s'; BEGIN
                 WHILE clock_timestamp() < until
                     AND NOT EXISTS (SELECT FROM pgveil.jobs WHERE {last} AND {condition}) LOOP
                     PERFORM pg_sleep(0.005);
                     COMMIT;
                 END LOOP;
             END $$"
        ))?;
        database.admin(&format!(
            "SELECT extract(epoch FROM clock_timestamp() - started_at) FROM pgveil.jobs WHERE {last} AND {condition}"
        ))
    };
    let took = wait("(phase = 'settle' OR state = 'completed')")?;
    let done = wait("state = 'completed'")?;
    ensure!(
        !done.is_empty(),
        "the job does not end: {}",
        database.admin("TABLE pgveil.jobs")?
    );
    Ok(Duration::from_secs_f64(took.parse()?))
}
