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
    plan::{PlanReport, plan as compare},
};
use pgveil_keys::database;

use super::Found;

/// Prints the plan; exit code 1 if `apply` would refuse it.
///
/// # Errors
/// If the files or the database cannot be used.
pub async fn plan(config: &Path) -> anyhow::Result<ExitCode> {
    let (settings, policy) = read(config)?;
    let url = settings.keystore.url.read()?;
    let client = database::connect(
        &url,
        settings.keystore.tls,
        settings.keystore.ca_file.as_deref(),
    )
    .await
    .map_err(|error| Found(format!("{error}; {}", error.cure())))?;
    let report = compare(&settings, &policy, &client).await.map_err(found)?;
    println!("{report}");
    Ok(if report.is_blocked() {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
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
    let _ = io::stdout().flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
