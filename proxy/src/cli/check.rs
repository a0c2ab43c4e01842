//! `pgveil check`: configuration and policy against the live database.

use std::{path::Path, process::ExitCode};

use clap::Args;
use pgveil_config::Diagnostic;
use pgveil_jobs::{
    check::{CheckReport, check_file},
    plan::finding_json,
};
use serde_json::{Value, json};

use super::{WithConfig, table::counted};

/// `pgveil check`
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    config: WithConfig,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what is wrong and what deserves attention.
///
/// # Errors
/// None: what cannot be read is a finding like others.
pub async fn run(check: &Check) -> anyhow::Result<ExitCode> {
    let config = &check.config.config;
    let report = check_file(config).await;
    if check.json {
        println!("{:#}", as_json(&report));
    } else {
        print(config, &report);
    }
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn print(config: &Path, report: &CheckReport) {
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    for error in &report.errors {
        eprintln!("{error}");
    }
    let (errors, warnings) = (report.errors.len() as u64, report.warnings.len() as u64);
    match (errors, warnings) {
        (0, 0) => println!("{}: in order", config.display()),
        (0, _) => println!(
            "{}: in order, with {}",
            config.display(),
            counted(warnings, "warning")
        ),
        _ => eprintln!("pgveil: {} found", counted(errors, "error")),
    }
}

fn as_json(report: &CheckReport) -> Value {
    let all = |found: &[Diagnostic]| -> Vec<Value> { found.iter().map(finding_json).collect() };
    json!({
        "in_order": report.is_good(),
        "errors": all(&report.errors),
        "warnings": all(&report.warnings),
    })
}
