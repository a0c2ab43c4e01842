//! `pgveil check`: configuration and policy against the live database.

use std::{path::Path, process::ExitCode};

use pgveil_config::Settings;

/// Prints what is wrong and what deserves attention.
///
/// # Errors
/// If the check itself cannot be done.
pub async fn run(config: &Path) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let report = pgveil_jobs::check::check(&settings).await;
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    for error in &report.errors {
        eprintln!("{error}");
    }
    if report.errors.is_empty() {
        println!("{}: in order", config.display());
        Ok(ExitCode::SUCCESS)
    } else {
        eprintln!("pgveil: {} found", count(report.errors.len(), "error"));
        Ok(ExitCode::from(1))
    }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}
