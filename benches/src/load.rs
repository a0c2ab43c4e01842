//! What an application notices of a job that brings rows to a new data key: the latency of its statements in slices without a
//! job and with one, pair by pair, at the default pace, in smaller batches, and at full speed. The aim: less than 5 % of its 99th
//! percentile at the default pace.

use std::fs;

use anyhow::{Context, Result, ensure};
use pgveil_tests::site::Site;
use pgveil_throwaway::{Options, TempPostgres, postgres::Database};

use crate::pgbench::{Length, Mode, Sample, Script, Trial, median};

const TENANTS: u32 = 3;
const POLICY: &str = r#"public.people  scope = "tenant:{tenant}"  account: int8, search = ["equality"]  secret: text"#;
/// Transactions a second: far from all that can be done, so that queues are not what is measured.
const RATE: u32 = 200;
const CLIENTS: u32 = 4;

/// How a job goes beside the application.
struct Pace {
    name: &'static str,
    batch_size: &'static str,
    interval: &'static str,
}

/// The default, the same rows a second in smaller batches, and no pauses.
const PACES: [Pace; 3] = [
    Pace {
        name: "100 rows every 5 s (default)",
        batch_size: "100",
        interval: "5s",
    },
    Pace {
        name: "20 rows every second",
        batch_size: "20",
        interval: "1s",
    },
    Pace {
        name: "full speed",
        batch_size: "100",
        interval: "0s",
    },
];
/// Pairs of slices in a round.
const PAIRS: usize = 2;

/// Two slices, one behind the other, of one application on one proxy: without a job and with one.
struct Pair {
    without: Sample,
    with: Sample,
}

/// Measures, turn by turn, and prints.
pub(crate) fn run(quick: bool, rounds: usize, seconds: u32, only: &str) -> Result<()> {
    let rows: u32 = if quick { 3_000 } else { 1_000_000 };
    let options = Options::default().setting("shared_buffers", "256MB");
    let server = TempPostgres::start(&options)?;
    let database = server.database()?;
    database.run(&format!(
        "CREATE TABLE people AS SELECT g AS id, 't' || g % {TENANTS} AS tenant, g::int8 AS account,
             'secret of person ' || g || ', forty characters' AS secret FROM generate_series(1, {rows}) g;
         ALTER TABLE people ADD PRIMARY KEY (id), ALTER tenant SET NOT NULL"
    ))?;
    // Keys stay in memory as long as they do anywhere: what they cost when they do not is another bench's.
    let mut site = Site::new(&database, POLICY)?;
    site.apply()?;
    database.admin("VACUUM ANALYZE people")?;
    let passphrase = enrolled(&site)?;
    let length = Length::Seconds(if quick { 1 } else { seconds.max(10) });
    println!(
        "\nAn application of {CLIENTS} clients and {RATE} transactions a second over {rows} rows of {TENANTS} tenants, through pgveil,\n\
         in slices without a job and with one, by turns"
    );
    for pace in PACES.iter().filter(|pace| pace.name.contains(only)) {
        site.set("reencrypt", "batch_size", pace.batch_size)?;
        site.set("reencrypt", "interval", &format!("\"{}\"", pace.interval))?;
        let proxy = site.serve()?;
        let application = application(&database, proxy.port(), rows);
        // Connections, caches and the new proxy itself are warm.
        application.run(Length::Transactions(20))?;
        let beside = |with: bool| -> Result<Sample> {
            if with {
                with_job(&site, &database, &passphrase, (&application, length), rows)
            } else {
                application.run(length)
            }
        };
        let mut pairs = Vec::new();
        for turn in 0..rounds * PAIRS {
            // Whatever changes in the course of time is in either half of the pairs.
            let first_with = turn % 2 == 1;
            let (first, second) = (beside(first_with)?, beside(!first_with)?);
            let (without, with) = if first_with {
                (second, first)
            } else {
                (first, second)
            };
            pairs.push(Pair { without, with });
        }
        print(pace, &pairs);
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

/// It reads rows by their keys and writes some, prepared, through pgveil.
fn application(database: &Database<'_>, port: u16, rows: u32) -> Trial {
    Trial {
        name: "application".to_owned(),
        pgbench: database.server().bin().join("pgbench"),
        port,
        database: database.name().to_owned(),
        mode: Mode::Prepared,
        clients: CLIENTS,
        rate: Some(RATE),
        script: Script::Text(format!(
            "\\set id random(1, {rows})\n\\set other random(1, {rows})\n\
             SELECT account, secret FROM people WHERE id = :id;\n\
             UPDATE people SET secret = 'a secret of some forty to fifty characters' WHERE id = :other;\n"
        )),
    }
}

/// A slice in which a job is at work from before its beginning until its end.
fn with_job(
    site: &Site<'_>,
    database: &Database<'_>,
    passphrase: &str,
    (application, length): (&Trial, Length),
    rows: u32,
) -> Result<Sample> {
    let rotate = ["platform", "--below", "--passphrase-file", passphrase];
    site.command("rotate", &rotate)?.ok()?;
    once(database, "written > 0")?;
    let sample = application.run(length)?;
    let state = database.admin(&format!("SELECT id, state FROM pgveil.jobs WHERE {LAST}"))?;
    let (id, state) = state.split_once('|').context("a job was begun")?;
    ensure!(
        state == "running" || rows < 1_000_000,
        "the job ended while it was measured: {state}"
    );
    if state == "running" {
        site.command("jobs", &["cancel", id])?.ok()?;
    }
    Ok(sample)
}

const LAST: &str = "id = (SELECT max(id) FROM pgveil.jobs)";

/// Waits in the server until the job is at work, or done.
fn once(database: &Database<'_>, what: &str) -> Result<()> {
    let parts =
        format!("EXISTS (SELECT FROM pgveil.job_parts p WHERE p.job = jobs.id AND p.{what})");
    database
        .admin(&format!(
            "DO $$ DECLARE until timestamptz := now() + interval '2 min'; BEGIN
                 WHILE clock_timestamp() < until
                     AND NOT EXISTS (SELECT FROM pgveil.jobs WHERE {LAST} AND ({what} OR {parts})) LOOP
                     PERFORM pg_sleep(0.01);
                     COMMIT;
                 END LOOP;
             END $$"
        ))
        .map(drop)
}

fn print(pace: &Pace, pairs: &[Pair]) {
    let of = |pick: fn(&Pair) -> f64| median(&mut pairs.iter().map(pick).collect::<Vec<_>>());
    println!(
        "  {:<29} median {:.0} -> {:.0} µs, {}; p99 {:.0} -> {:.0} µs, {}",
        pace.name,
        of(|pair| pair.without.latency_us),
        of(|pair| pair.with.latency_us),
        Ratio::of(pairs, |sample| sample.latency_us),
        of(|pair| pair.without.p99_us),
        of(|pair| pair.with.p99_us),
        Ratio::of(pairs, |sample| sample.p99_us),
    );
}

/// What a job multiplies something by: the geometric mean over pairs, and where it lies with 95 % confidence.
#[derive(Debug)]
struct Ratio {
    mean: f64,
    least: f64,
    greatest: f64,
    pairs: usize,
}

/// Student's t at 97.5 %, by degrees of freedom; the last one for all beyond, where it is too wide.
const T: [f64; 16] = [
    12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12,
];

impl Ratio {
    fn of(pairs: &[Pair], pick: fn(&Sample) -> f64) -> Self {
        let logarithms = pairs
            .iter()
            .map(|pair| (pick(&pair.with) / pick(&pair.without)).ln());
        Self::of_logarithms(&logarithms.collect::<Vec<_>>())
    }

    fn of_logarithms(logarithms: &[f64]) -> Self {
        let count = logarithms.len() as f64;
        let mean = logarithms.iter().sum::<f64>() / count;
        let squares: f64 = logarithms.iter().map(|one| (one - mean).powi(2)).sum();
        let half = match logarithms.len() {
            0 | 1 => f64::INFINITY,
            n => T[(n - 2).min(T.len() - 1)] * (squares / (count - 1.0) / count).sqrt(),
        };
        Self {
            mean: mean.exp(),
            least: (mean - half).exp(),
            greatest: (mean + half).exp(),
            pairs: logarithms.len(),
        }
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            mean,
            least,
            greatest,
            pairs,
        } = self;
        write!(f, "x{mean:.3} ({least:.3}-{greatest:.3} of {pairs} pairs)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_lies_where_its_pairs_do_and_one_pair_says_nothing() {
        let ratio = Ratio::of_logarithms(&[1.1_f64.ln(), 1.1_f64.ln(), 1.1_f64.ln()]);
        assert!((ratio.mean - 1.1).abs() < 1e-9 && (ratio.greatest - ratio.least).abs() < 1e-9);
        let ratio = Ratio::of_logarithms(&[2_f64.ln(), 0.5_f64.ln()]);
        assert!((ratio.mean - 1.0).abs() < 1e-9, "{ratio}");
        // Half of the distance is ln 2, which is the standard error of two such pairs; times 12.71.
        assert!((ratio.greatest.ln() - 12.71 * 2_f64.ln()).abs() < 1e-9);
        assert!(Ratio::of_logarithms(&[0.1]).greatest.is_infinite());
    }
}
