//! What an application notices of a job: the latency of its statements while nothing runs, while rows are brought to a new data
//! key at the default pace, and at full speed. The aim: less than 5 % of its 99th percentile at the default pace.

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

/// What runs beside the application.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    Job {
        pace: &'static str,
        name: &'static str,
    },
}

const BESIDE: [Beside; 3] = [
    Beside::Nothing,
    Beside::Job {
        pace: "5s",
        name: "a job at the default pace",
    },
    Beside::Job {
        pace: "0s",
        name: "a job at full speed",
    },
];

/// Measures, turn by turn, and prints.
pub(crate) fn run(quick: bool, rounds: usize, seconds: u32) -> Result<()> {
    let rows: u32 = if quick { 3_000 } else { 1_000_000 };
    let options = Options::default().setting("shared_buffers", "256MB");
    let server = TempPostgres::start(&options)?;
    let database = server.database()?;
    database.run(&format!(
        "CREATE TABLE people AS SELECT g AS id, 't' || g % {TENANTS} AS tenant, g::int8 AS account,
             'secret of person ' || g || ', forty characters' AS secret FROM generate_series(1, {rows}) g;
         ALTER TABLE people ADD PRIMARY KEY (id), ALTER tenant SET NOT NULL"
    ))?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.apply()?;
    database.admin("VACUUM ANALYZE people")?;
    let passphrase = enrolled(&site)?;
    let length = Length::Seconds(if quick { 1 } else { seconds.max(10) });
    let mut all = BESIDE.map(|beside| (beside, Vec::new()));
    for _ in 0..rounds {
        for (beside, samples) in &mut all {
            samples.push(measured(
                &mut site,
                &database,
                &passphrase,
                *beside,
                rows,
                length,
            )?);
        }
    }
    print(&all, rows);
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

/// The application reads rows by their keys and writes some, prepared, through pgveil.
fn measured(
    site: &mut Site<'_>,
    database: &Database<'_>,
    passphrase: &str,
    beside: Beside,
    rows: u32,
    length: Length,
) -> Result<Sample> {
    if let Beside::Job { pace, .. } = beside {
        site.set("reencrypt", "interval", &format!("\"{pace}\""))?;
    }
    let proxy = site.serve()?;
    let trial = Trial {
        name: "application".to_owned(),
        pgbench: database.server().bin().join("pgbench"),
        port: proxy.port(),
        database: database.name().to_owned(),
        mode: Mode::Prepared,
        clients: CLIENTS,
        rate: Some(RATE),
        script: Script::Text(format!(
            "\\set id random(1, {rows})\n\\set other random(1, {rows})\n\
             SELECT account, secret FROM people WHERE id = :id;\n\
             UPDATE people SET secret = 'a secret of some forty to fifty characters' WHERE id = :other;\n"
        )),
    };
    // Connections, caches and the new proxy itself are warm.
    trial.run(Length::Transactions(20))?;
    let Beside::Job { name, .. } = beside else {
        return trial.run(length);
    };
    let rotate = ["platform", "--below", "--passphrase-file", passphrase];
    site.command("rotate", &rotate)?.ok()?;
    once(database, "written > 0")?;
    let sample = trial.run(length)?;
    let state = database.admin(&format!("SELECT id, state FROM pgveil.jobs WHERE {LAST}"))?;
    let (id, state) = state.split_once('|').context("a job was begun")?;
    ensure!(
        state == "running" || rows < 1_000_000,
        "{name} ended while it was measured: {state}"
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

fn print(all: &[(Beside, Vec<Sample>)], rows: u32) {
    println!(
        "\nAn application of {CLIENTS} clients and {RATE} transactions a second over {rows} rows of {TENANTS} tenants, through pgveil"
    );
    let p99s = |samples: &[Sample]| {
        samples
            .iter()
            .map(|sample| sample.p99_us)
            .collect::<Vec<_>>()
    };
    let alone = all
        .first()
        .map(|(_, samples)| p99s(samples))
        .unwrap_or_default();
    for (beside, samples) in all {
        let mut medians: Vec<f64> = samples.iter().map(|sample| sample.latency_us).collect();
        let mut p99 = p99s(samples);
        let mut ratios: Vec<f64> = { p99.iter().zip(&alone) }
            .map(|(with, without)| with / without)
            .collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = ratios.iter().copied().fold(0.0, f64::max);
        let name = match beside {
            Beside::Nothing => "nothing beside it",
            Beside::Job { name, .. } => name,
        };
        println!(
            "  {name:<26} median {:.0} µs, p99 {:.0} µs, x{:.2} ({least:.2}-{greatest:.2})",
            median(&mut medians),
            median(&mut p99),
            median(&mut ratios)
        );
    }
}
