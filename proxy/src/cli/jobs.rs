//! `pgveil jobs`: what runs over tables behind the applications' back, and orders to it.

use std::{io::IsTerminal, path::Path, process::ExitCode, time::Duration};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use pgveil_keys::{
    Keystore,
    keystore::{JobOrder, JobRecord, JobState},
};
use serde_json::{Value, json};

use super::{Found, ask::found, audit::sign_and_send, table, table::clock};
use crate::app::{self, Built};

/// How often a watched job is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// `pgveil jobs ...`
#[derive(Debug, Subcommand)]
pub enum Job {
    /// List the jobs: what, where they stand, how far they are
    #[command(after_help = "Example:\n  pgveil jobs list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one job, with its tables, what it waits for, and what does not open
    #[command(after_help = "Example:\n  pgveil jobs show 3")]
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Its number
        id: u64,
    },
    /// Watch a job until it ends: a bar, the rate, the time that is left
    #[command(
        after_help = "Example:\n  pgveil jobs watch 3\n\nExit code 0 if it is completed, 1 if it ended otherwise."
    )]
    Watch {
        /// Print JSON: a line whenever something is new
        #[arg(long)]
        json: bool,
        /// Its number
        id: u64,
    },
    /// Stop a job for the time being; what is in hand is finished
    #[command(after_help = "Example:\n  pgveil jobs pause 3")]
    Pause {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Its number
        id: u64,
    },
    /// Let a paused, failed or expired job go on
    #[command(after_help = "Example:\n  pgveil jobs resume 3")]
    Resume {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Its number
        id: u64,
    },
    /// End a job; what it did stays
    #[command(after_help = "Example:\n  pgveil jobs cancel 3")]
    Cancel {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Its number
        id: u64,
    },
    /// Run the queued jobs here, until there are none
    #[command(
        after_help = "Example:\n  pgveil jobs run\n\nWhere no `pgveil serve` runs, or to lend it a hand: whoever runs jobs shares them."
    )]
    Run {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs one of them.
///
/// # Errors
/// If the configuration or the keystore cannot be read, or it is refused.
pub async fn run(config: &Path, command: Job) -> anyhow::Result<ExitCode> {
    match command {
        Job::List { json } => list(config, json).await,
        Job::Show { json, id } => show(config, id, json).await,
        Job::Watch { json, id } => {
            let (_, keystore) = app::keystore(config).await?;
            watch(&keystore, id, json).await
        }
        Job::Pause { json, id } => order(config, id, JobOrder::Pause, json).await,
        Job::Resume { json, id } => order(config, id, JobOrder::Resume, json).await,
        Job::Cancel { json, id } => order(config, id, JobOrder::Cancel, json).await,
        Job::Run { json } => {
            let (built, told) = app::build_logged(config).await?;
            let ran = run_here(&built, None, json).await;
            if let Some(sending) = told.sending {
                sending.end().await;
            }
            ran
        }
    }
}

async fn list(config: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let (_, keystore) = app::keystore(config).await?;
    let jobs = keystore.jobs().await.map_err(|error| found(&error))?;
    if as_json {
        let all: Vec<Value> = jobs.iter().map(as_value).collect();
        println!("{:#}", json!({ "jobs": all }));
        return Ok(ExitCode::SUCCESS);
    }
    let row = |job: &JobRecord| {
        vec![
            job.id.to_string(),
            job.kind.clone(),
            scope(job),
            state(job),
            format!("{} of {}", job.written, job.found),
            job.created_at.clone(),
            why(job),
        ]
    };
    let heading = ["ID", "KIND", "SCOPE", "STATE", "VALUES", "CREATED", "WHY"];
    table::print(&heading, jobs.iter().map(row));
    Ok(ExitCode::SUCCESS)
}

fn scope(job: &JobRecord) -> String {
    let below = if job.below { " and below" } else { "" };
    format!("{}{below}", job.scope)
}

/// Where it stands, if that is so.
fn state(job: &JobRecord) -> String {
    match job.is_ours {
        Some(true) => job.state.to_string(),
        Some(false) => "refused".to_owned(),
        None => format!("{}, not judged", job.state),
    }
}

/// Why what a row says is not to be believed.
fn doubt(job: &JobRecord) -> Option<String> {
    match job.is_ours {
        Some(true) => None,
        Some(false) => Some(format!(
            "somebody else than pgveil changed its row: nothing is done for it. End it with `pgveil jobs cancel {}`, and order it anew",
            job.id
        )),
        None => Some(
            "whether pgveil wrote its row is not known: the audit log's key cannot be had at the moment".to_owned(),
        ),
    }
}

/// What is to be known of where it stands.
fn why(job: &JobRecord) -> String {
    if let (Some(false), Some(doubt)) = (job.is_ours, doubt(job)) {
        return doubt;
    }
    let text = job.failure.clone().or_else(|| waits(job));
    text.unwrap_or_else(|| "-".to_owned())
}

/// What it waits for, and since when it has not got on.
fn waits(job: &JobRecord) -> Option<String> {
    let waits = job.waits.as_ref()?;
    Some(format!("{waits} (it last got on at {})", job.moved_at))
}

async fn one(keystore: &Keystore, id: u64) -> anyhow::Result<JobRecord> {
    let job = keystore.job(id).await.map_err(|error| found(&error))?;
    job.ok_or_else(|| Found(format!("there is no job {id}; see `pgveil jobs list`")).into())
}

async fn show(config: &Path, id: u64, as_json: bool) -> anyhow::Result<ExitCode> {
    let (_, keystore) = app::keystore(config).await?;
    let job = one(&keystore, id).await?;
    if as_json {
        println!("{:#}", as_value(&job));
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "Job {}: {} of {}, {}",
        job.id,
        job.kind,
        scope(&job),
        state(&job)
    );
    if let Some(doubt) = doubt(&job) {
        println!("Beware: {doubt}.");
    }
    println!(
        "Queued {} by {}: {}",
        job.created_at, job.made_by, job.reason
    );
    let started = job.started_at.as_deref().unwrap_or("not yet");
    let ended = job.ended_at.as_deref().unwrap_or("-");
    println!("Started {started}, ended {ended}, pass {}", job.pass);
    println!(
        "Values remade: {} of {}, in {} rows",
        job.written, job.found, job.rows
    );
    if let Some(left) = remaining(&job) {
        println!("At {:.0} values/s, {} are left", rate(&job), clock(left));
    }
    if let Some(waits) = waits(&job) {
        println!("It waits: {waits}");
    }
    if let Some(failure) = &job.failure {
        println!("It ended: {failure}");
    }
    if !job.parts.is_empty() {
        println!();
        let heading = [
            "TABLE",
            "VALUES",
            "LEFT FOR THE NEXT PASS",
            "DO NOT OPEN",
            "DEAD ROWS",
        ];
        let row = |part: &pgveil_keys::keystore::PartRecord| {
            vec![
                part.table.clone(),
                format!("{} of {}", part.written, part.found),
                part.left.to_string(),
                part.faulty.to_string(),
                part.dead_rows.to_string(),
            ]
        };
        table::print(&heading, job.parts.iter().map(row));
        for fault in job.parts.iter().flat_map(|part| &part.faults) {
            println!("  {fault}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn as_value(job: &JobRecord) -> Value {
    let parts: Vec<Value> = { job.parts.iter() }
        .map(|part| {
            json!({
                "table": part.table, "found": part.found, "written": part.written, "left": part.left,
                "faulty": part.faulty, "faults": part.faults, "dead_rows": part.dead_rows,
            })
        })
        .collect();
    json!({
        "id": job.id,
        "kind": job.kind,
        "scope": job.scope,
        "below": job.below,
        "target": job.target,
        "state": job.state.as_str(),
        "is_ours": job.is_ours,
        "made_by": job.made_by,
        "reason": job.reason,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "moved_at": job.moved_at,
        "ended_at": job.ended_at,
        "failure": job.failure,
        "waits": job.waits,
        "held_keys": job.held,
        "pass": job.pass,
        "values_found": job.found,
        "values_written": job.written,
        "rows_written": job.rows,
        "values_per_s": rate(job),
        "left_s": remaining(job).map(|left| left.as_secs()),
        "tables": parts,
    })
}

fn rate(job: &JobRecord) -> f64 {
    if job.running_s > 0.0 {
        job.written as f64 / job.running_s
    } else {
        0.0
    }
}

/// How long it will still take at the rate so far.
fn remaining(job: &JobRecord) -> Option<Duration> {
    let left = job.found.saturating_sub(job.written);
    let known = job.state == JobState::Running && left > 0 && job.written > 0;
    known.then(|| Duration::try_from_secs_f64(left as f64 / rate(job)).unwrap_or(Duration::MAX))
}

/// Follows a job to its end; on a terminal with a bar, else with a line whenever it says something else. As JSON, with a line
/// of it whenever there is something new.
async fn watch(keystore: &Keystore, id: u64, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut looks = tokio::time::interval(LOOK);
    let bar = ProgressBar::new(0);
    let style = "{msg}  {wide_bar} {pos}/{len} values";
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut said = String::new();
    loop {
        looks.tick().await;
        let job = one(keystore, id).await?;
        let mut line = format!("job {id} is {}", state(&job));
        if let Some(waits) = &job.waits {
            line = format!("{line}, {waits}");
        } else if let Some(left) = remaining(&job) {
            line = format!("{line}, {:.0} values/s, {} left", rate(&job), clock(left));
        }
        if as_json {
            let news = json!([
                job.state.as_str(),
                job.is_ours,
                job.waits,
                job.written,
                job.pass
            ])
            .to_string();
            if news != said && !job.state.has_ended() {
                println!("{}", as_value(&job));
                said = news;
            }
        } else if std::io::stderr().is_terminal() {
            bar.set_length(job.found.unsigned_abs());
            bar.set_position(job.written.unsigned_abs());
            bar.set_message(line);
        } else if remaining(&job).is_none() && line != said {
            println!("{line}");
            said = line;
        }
        if job.is_ours == Some(false) {
            bar.finish_and_clear();
            return Err(refused(&job));
        }
        if job.state.has_ended() {
            bar.finish_and_clear();
            if as_json {
                println!("{}", as_value(&job));
                return outcome(&job);
            }
            return ended(&job, false);
        }
    }
}

fn refused(job: &JobRecord) -> anyhow::Error {
    let doubt = doubt(job).unwrap_or_default();
    Found(format!("job {}: {doubt}", job.id)).into()
}

fn ended(job: &JobRecord, as_json: bool) -> anyhow::Result<ExitCode> {
    if job.is_ours == Some(false) {
        return Err(refused(job));
    }
    if as_json {
        println!("{:#}", as_value(job));
    } else {
        println!(
            "Job {} is {}: {} values in {} rows.",
            job.id, job.state, job.written, job.rows
        );
    }
    outcome(job)
}

fn outcome(job: &JobRecord) -> anyhow::Result<ExitCode> {
    match (job.state, &job.failure) {
        (JobState::Completed, _) => Ok(ExitCode::SUCCESS),
        (_, Some(failure)) => Err(Found(failure.clone()).into()),
        (..) => Ok(ExitCode::FAILURE),
    }
}

async fn order(config: &Path, id: u64, order: JobOrder, as_json: bool) -> anyhow::Result<ExitCode> {
    let (_, keystore) = app::keystore(config).await?;
    let taken = keystore
        .order_job(id, order)
        .await
        .map_err(|error| found(&error))?;
    let job = one(&keystore, id).await?;
    if !taken {
        return Err(Found(format!(
            "job {id} is {}, and cannot be told to {}",
            job.state,
            order.as_str()
        ))
        .into());
    }
    if as_json {
        println!("{:#}", as_value(&job));
    } else {
        println!("Job {id} is {}.", job.state);
    }
    sign_and_send(config, &keystore).await;
    Ok(ExitCode::SUCCESS)
}

/// Runs what is queued until there is nothing; tells how `wanted` ended, or how many jobs did.
pub(super) async fn run_here(
    built: &Built,
    wanted: Option<u64>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let worker = built.worker().run_to_the_end();
    worker
        .await
        .map_err(|error| Found(format!("{error}; {}", error.cure())))?;
    if let Some(id) = wanted {
        return ended(&one(&built.keystore, id).await?, as_json);
    }
    let jobs = built.keystore.jobs().await.map_err(|error| found(&error))?;
    if as_json {
        let all: Vec<Value> = jobs.iter().map(as_value).collect();
        println!("{:#}", json!({ "jobs": all }));
    } else {
        println!("No job is queued or running.");
    }
    Ok(ExitCode::SUCCESS)
}
