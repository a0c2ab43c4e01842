//! Config and policy against the live system: everything that would keep `serve` from working, with file, line and
//! cure. Changes nothing; key managers are asked whether their keys work.

mod keystore;
mod provider;
mod roles;
mod server;
mod upstream;

use std::{
    fmt::{self, Display, Formatter},
    path::Path,
};

use pgveil_config::{Diagnostic, PolicyFile, Position, Settings};
use tokio_postgres::Client;

use crate::{
    JobError,
    plan::{PlanReport, counted, plan},
};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// pgveil cannot serve like this.
    pub errors: Vec<Diagnostic>,
    /// It can, but somebody should know.
    pub warnings: Vec<Diagnostic>,
}

impl CheckReport {
    /// Whether `serve` can start.
    pub fn is_good(&self) -> bool {
        self.errors.is_empty()
    }

    fn error(&mut self, finding: Diagnostic) {
        self.errors.push(finding);
    }

    fn warn(&mut self, finding: Diagnostic) {
        self.warnings.push(finding);
    }
}

impl Display for CheckReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.errors
            .iter()
            .try_for_each(|finding| writeln!(f, "error: {finding}"))?;
        self.warnings
            .iter()
            .try_for_each(|finding| writeln!(f, "warning: {finding}"))?;
        match (self.errors.len(), self.warnings.len()) {
            (0, 0) => write!(f, "Everything is in order."),
            (0, warnings) => write!(f, "In order, with {}.", counted(warnings, "warning")),
            (errors, 0) => write!(f, "{}.", counted(errors, "error")),
            (errors, warnings) => write!(
                f,
                "{}, {}.",
                counted(errors, "error"),
                counted(warnings, "warning")
            ),
        }
    }
}

/// Reads `pgveil.toml` at `file` and checks it; a file that cannot be read is a finding.
pub async fn check_file(file: &Path) -> CheckReport {
    match Settings::load(file) {
        Ok(settings) => check(&settings).await,
        Err(found) => CheckReport {
            errors: found.0,
            warnings: Vec::new(),
        },
    }
}

/// Checks the policy, the providers, the way to Postgres, and the database. What cannot be asked because something
/// before it failed is left out.
pub async fn check(settings: &Settings) -> CheckReport {
    let mut report = CheckReport::default();
    let policy = match PolicyFile::load(&settings.policy) {
        Ok(policy) => Some(policy),
        Err(found) => {
            report.errors.extend(found.0);
            None
        }
    };
    upstream::check(settings, &mut report).await;
    provider::check(settings, &mut report).await;
    match crate::connect(settings).await {
        Err(error) => report.error(at(settings.keystore.at.as_ref(), &error)),
        Ok(client) => {
            if let Err(error) = database(settings, policy.as_ref(), &client, &mut report).await {
                report.error(at(settings.keystore.at.as_ref(), &error));
            }
            client.close().await;
        }
    }
    report
}

async fn database(
    settings: &Settings,
    policy: Option<&PolicyFile>,
    client: &Client,
    report: &mut CheckReport,
) -> Result<(), JobError> {
    server::check(settings, client, report).await?;
    let is_installed = keystore::check(settings, client, report).await?;
    let Some(policy) = policy else { return Ok(()) };
    roles::check(policy, client, report).await?;
    // What is not installed has been said; columns and policy can be looked at all the same.
    let plan = plan(settings, policy, client).await?;
    report.errors.extend(
        plan.findings
            .iter()
            .filter(|f| !report.errors.contains(f))
            .cloned()
            .collect::<Vec<_>>(),
    );
    report.warnings.extend(plan.warnings.iter().cloned());
    if is_installed {
        not_converted(policy, &plan, report);
    }
    Ok(())
}

/// One finding per column that still holds plaintext, and per index on terms that is missing.
fn not_converted(policy: &PolicyFile, plan: &PlanReport, report: &mut CheckReport) {
    for table in &plan.tables {
        let rule = policy
            .tables
            .iter()
            .find(|r| r.schema == table.schema && r.name == table.name);
        for column in &table.columns {
            let at = rule
                .and_then(|r| r.columns.iter().find(|c| c.name == column.name))
                .map(|c| c.at.clone());
            let message = format!(
                "{}.{} is not converted yet: it holds plaintext",
                table.shown(),
                column.name
            );
            let cure = "run `pgveil plan`, then `pgveil apply`; until then statements that name the table are refused, or served as \
                        plaintext if it is being migrated online or was given back to plaintext";
            report.error(Diagnostic {
                at,
                message,
                cure: cure.to_owned(),
            });
        }
        if table.columns.is_empty() {
            for index in &table.indexes {
                let message = format!(
                    "{} has no index on search terms {}",
                    table.shown(),
                    index.summary
                );
                let at = rule.map(|r| r.at.clone());
                report.warn(Diagnostic {
                    at,
                    message,
                    cure: "run `pgveil apply`".to_owned(),
                });
            }
        }
    }
}

fn at(place: Option<&Position>, error: &JobError) -> Diagnostic {
    Diagnostic {
        at: place.cloned(),
        message: error.to_string(),
        cure: error.cure(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_counts_what_it_lists() {
        let mut report = CheckReport::default();
        assert!(report.is_good());
        assert_eq!(report.to_string(), "Everything is in order.");
        report.warn(Diagnostic::nowhere("w", "x"));
        assert!(report.is_good());
        report.error(Diagnostic::nowhere("e", "y"));
        assert!(!report.is_good());
        let expected = "error: e\n    cure: y\nwarning: w\n    cure: x\n1 error, 1 warning.";
        assert_eq!(report.to_string(), expected);
    }
}
