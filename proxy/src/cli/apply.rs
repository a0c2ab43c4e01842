//! `pgveil plan` and `pgveil apply`: what would change in the database, and doing it.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use pgveil_config::{PolicyFile, Settings};
use pgveil_jobs::{
    JobError,
    apply::{Outcome, apply as carry_out},
    migrate,
    plan::{PlanReport, plan as compare},
};
use pgveil_keys::database::{self, Database};

use super::Found;

/// Prints the plan; exit code 1 if `apply` would refuse it.
///
/// # Errors
/// If the files or the database cannot be used.
pub async fn plan(config: &Path) -> anyhow::Result<ExitCode> {
    let (settings, policy) = read(config)?;
    let client = connected(&settings).await?;
    let report = compare(&settings, &policy, &client).await.map_err(found)?;
    println!("{report}");
    Ok(if report.is_blocked() {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

/// How `apply` goes about it.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct Way {
    /// Migrate while applications write; run again, it goes on where it was
    #[arg(long)]
    online: bool,
    /// Drop the plaintext that online migrations keep
    #[arg(long)]
    contract: bool,
    /// Undo online migrations that are not contracted
    #[arg(long)]
    rollback: bool,
    /// Show how far online migrations are
    #[arg(long)]
    status: bool,
    /// The same for machines
    #[arg(long)]
    json: bool,
}

/// Does what the flags say.
///
/// # Errors
/// If anything keeps it from being done.
pub async fn run(config: &Path, yes: bool, prepare: bool, way: &Way) -> anyhow::Result<ExitCode> {
    if way.status || way.json {
        return status(config, way.json).await;
    }
    if !(way.online || way.contract || way.rollback) {
        return apply(config, yes).await;
    }
    let (settings, policy) = read(config)?;
    if !way.online && !yes && !sure(way.contract) {
        return Ok(ExitCode::from(1));
    }
    let done = match (way.contract, way.rollback) {
        (true, _) => migrate::contract(&settings).await,
        (_, true) => migrate::roll_back(&settings, &policy).await,
        _ => migrate::migrate(&settings, &policy, (yes, prepare), confirm).await,
    };
    let done = done.map_err(found)?;
    println!("{done}");
    Ok(ExitCode::from(u8::from(done.declined)))
}

async fn status(config: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let (settings, _) = read(config)?;
    let client = connected(&settings).await?;
    let live = migrate::live(&client).await.map_err(found)?;
    if json {
        let live: Vec<_> = live.iter().map(migrate::Migration::json).collect();
        println!("{}", serde_json::Value::Array(live));
    } else if live.is_empty() {
        println!("No table is being migrated.");
    }
    live.iter()
        .filter(|_| !json)
        .for_each(|migration| println!("{migration}"));
    Ok(ExitCode::SUCCESS)
}

/// Without a terminal there is nobody to ask, and nothing is done.
fn sure(contract: bool) -> bool {
    if !io::stdin().is_terminal() {
        eprintln!("pgveil: nobody to ask; add --yes to do it");
        return false;
    }
    print!(
        "{}",
        if contract {
            "Drop the plaintext? It cannot be undone. [y/N] "
        } else {
            "Undo the migrations? The tables will hold plaintext again. [y/N] "
        }
    );
    answered()
}

/// Shows the plan, asks unless told not to, and carries it out.
///
/// # Errors
/// If anything keeps it from being done; a table is converted whole or not at all.
pub async fn apply(config: &Path, yes: bool) -> anyhow::Result<ExitCode> {
    let (settings, policy) = read(config)?;
    let done = carry_out(&settings, &policy, yes, confirm)
        .await
        .map_err(found)?;
    if yes && done.outcome == Outcome::Applied {
        println!("{}\n", done.plan);
    }
    println!("{done}");
    Ok(if done.outcome == Outcome::Declined {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

async fn connected(settings: &Settings) -> anyhow::Result<Database> {
    let url = settings.keystore.url.read()?;
    let ca_file = settings.keystore.ca_file.as_deref();
    let client = database::connect(&url, settings.keystore.tls, ca_file).await;
    client.map_err(|error| Found(format!("{error}; {}", error.cure())).into())
}

fn read(config: &Path) -> anyhow::Result<(Settings, PolicyFile)> {
    let settings = Settings::load(config)?;
    let policy = PolicyFile::load(&settings.policy)?;
    Ok((settings, policy))
}

fn found(error: JobError) -> anyhow::Error {
    let cure = error.cure();
    Found(if cure.is_empty() {
        error.to_string()
    } else {
        format!("{error}\n  cure: {cure}")
    })
    .into()
}

/// Without a terminal there is nobody to ask, and nothing is done.
fn confirm(report: &PlanReport) -> bool {
    println!("{report}\n");
    if !io::stdin().is_terminal() {
        eprintln!("pgveil: nobody to ask; run `pgveil apply --yes` to do it");
        return false;
    }
    print!("Do this? [y/N] ");
    answered()
}

fn answered() -> bool {
    let _ = io::stdout().flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
