//! `pgveil-bench`: what pgveil costs, measured beside what it is compared with, in one interleaved run. Nothing here decides
//! whether a number is good: the promises are in the README.

mod audit;
mod backfill;
mod keys;
mod load;
mod pgbench;
mod protected;
mod report;
mod rewrap;
mod stage;
mod unprotected;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    pgbench::{Length, Sample, Trial},
    stage::{Size, Stage},
};

/// Measure pgveil beside a direct connection, pgbouncer and pgcrypto.
#[derive(Debug, Parser)]
#[command(name = "pgveil-bench", version)]
struct Arguments {
    /// A smoke run of a few seconds; its numbers mean nothing
    #[arg(long)]
    quick: bool,
    /// How often every measurement is repeated; all take turns within a round
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Clients of the throughput measurements
    #[arg(long, default_value_t = 8)]
    clients: u32,
    /// Only the tables, and with --load the paces, whose title contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Only what keys of many scopes cost; minutes, and a million rows
    #[arg(long)]
    keys: bool,
    /// Only how fast rows are brought to a new data key
    #[arg(long, conflicts_with = "keys")]
    rewrap: bool,
    /// Only what an application notices of a job, over a million rows
    #[arg(long, conflicts_with_all = ["keys", "rewrap"])]
    load: bool,
    /// Only how fast columns that hold plaintext are sealed online, beside pgcrypto
    #[arg(long, conflicts_with_all = ["keys", "rewrap", "load"])]
    backfill: bool,
    /// Only how many records a second the audit log takes
    #[arg(long, conflicts_with_all = ["keys", "rewrap", "load", "backfill"])]
    audit: bool,
}

/// Rows of measurements that belong together; the first of a row is what the others are compared with.
struct Table {
    title: &'static str,
    columns: Vec<&'static str>,
    /// By throughput (higher is better) instead of latency (lower is better).
    throughput: bool,
    rows: Vec<(&'static str, Vec<Trial>)>,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.keys {
        return keys::run(arguments.quick);
    }
    if arguments.audit {
        return audit::run(arguments.quick, arguments.seconds);
    }
    if arguments.rewrap {
        let rounds = if arguments.quick { 1 } else { arguments.rounds };
        return rewrap::run(arguments.quick, rounds);
    }
    if arguments.load {
        let rounds = if arguments.quick { 1 } else { arguments.rounds };
        return load::run(arguments.quick, rounds, arguments.seconds, &arguments.only);
    }
    if arguments.backfill {
        let rounds = if arguments.quick { 1 } else { arguments.rounds };
        return backfill::run(arguments.quick, rounds);
    }
    if arguments.quick {
        arguments.rounds = 2;
    }
    let size = if arguments.quick {
        Size::SMALL
    } else {
        Size::FULL
    };
    eprintln!("setting up Postgres, pgbouncer and pgveil ...");
    let stage = Stage::set_up(size)?;
    let length = if arguments.quick {
        Length::Transactions(40)
    } else {
        Length::Seconds(arguments.seconds)
    };
    let mut tables = unprotected::tables(&stage, arguments.clients);
    tables.extend(protected::tables(&stage));
    tables.retain(|table| table.title.contains(&arguments.only));
    let measured = measure(&tables, arguments.rounds, length)?;
    report::print(
        &stage,
        &tables,
        &measured,
        &arguments_in_words(&arguments, length),
    );
    Ok(())
}

fn arguments_in_words(arguments: &Arguments, length: Length) -> String {
    let length = match length {
        Length::Seconds(seconds) => format!("{seconds} s"),
        Length::Transactions(count) => format!("{count} transactions"),
    };
    format!("{} rounds of {length} each", arguments.rounds)
}

/// `[table][row][column][round]`: A B C A B C ..., so that what disturbs the machine disturbs everybody.
type Measured = Vec<Vec<Vec<Vec<Sample>>>>;

fn measure(tables: &[Table], rounds: usize, length: Length) -> Result<Measured> {
    let trials: usize = tables
        .iter()
        .flat_map(|table| &table.rows)
        .map(|(_, trials)| trials.len())
        .sum();
    let progress = ProgressBar::new((trials * rounds) as u64);
    progress.set_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} {elapsed} (left {eta}) {msg}",
    )?);
    progress.enable_steady_tick(Duration::from_millis(500));
    let mut measured: Measured = tables
        .iter()
        .map(|table| {
            table
                .rows
                .iter()
                .map(|(_, trials)| vec![Vec::new(); trials.len()])
                .collect()
        })
        .collect();
    for _ in 0..rounds {
        for (table, into) in tables.iter().zip(&mut measured) {
            for ((_, trials), into) in table.rows.iter().zip(into) {
                for (trial, into) in trials.iter().zip(into) {
                    progress.set_message(trial.name.clone());
                    into.push(trial.run(length)?);
                    progress.inc(1);
                }
            }
        }
    }
    progress.finish_and_clear();
    Ok(measured)
}
