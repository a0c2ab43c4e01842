//! `pgveil step-up`: operators, and the tokens that dangerous verbs need.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use pgveil_config::ScopePath;
use pgveil_keys::{audit::Operation, step_up::LIFE};
use serde_json::json;

use super::{
    Found,
    ask::{self, found},
    parse_scope, table,
};
use crate::app;

/// `pgveil step-up ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enroll an operator. The first one needs no token; every further one does
    #[command(after_help = "Example:\n  pgveil step-up enroll ada --config conf/pgveil.toml")]
    Enroll {
        /// How its token is got
        #[command(flatten)]
        step_up: ask::StepUp,
        /// A file with the new operator's passphrase, instead of being asked
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Letters, digits, `.`, `_`, `@` and `-`
        name: String,
    },
    /// Remove an operator, but not the last one
    #[command(after_help = "Example:\n  pgveil step-up remove ada --operator grace")]
    Remove {
        /// How its token is got
        #[command(flatten)]
        step_up: ask::StepUp,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Which
        name: String,
    },
    /// List the operators
    #[command(after_help = "Example:\n  pgveil step-up list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a token for one operation on one scope: good for five minutes, once
    #[command(
        after_help = "Example:\n  pgveil step-up token scope.unseal tenant:acme --operator ada --config conf/pgveil.toml"
    )]
    Token {
        /// How its token is got
        #[command(flatten)]
        step_up: ask::StepUp,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// scope.unseal, scope.erase, dek.rotate, ...
        operation: String,
        /// platform, or tenant:T with /project:P and /env:E behind it
        scope: String,
    },
}

/// Runs one of them.
///
/// # Errors
/// If the keystore cannot be used, or refuses.
pub async fn run(config: &Path, command: Command) -> anyhow::Result<ExitCode> {
    let (_, keystore) = app::keystore(config).await?;
    let log = keystore.log();
    let platform = ScopePath::platform();
    match command {
        Command::Enroll {
            step_up,
            new_passphrase_file,
            json: as_json,
            name,
        } => {
            let operators = log.operators().await.map_err(|error| found(&error))?;
            let token = if operators.is_empty() {
                None
            } else {
                let operation = Operation::OperatorEnroll;
                Some(step_up.token(log, operation, &platform).await?)
            };
            let passphrase = ask::new_passphrase(new_passphrase_file.as_deref(), &name).await?;
            log.enroll(&name, &passphrase, token.as_ref())
                .await
                .map_err(|error| found(&error))?;
            if as_json {
                println!("{:#}", json!({ "operator": name, "enrolled": true }));
            } else {
                println!("operator {name} is enrolled");
            }
        }
        Command::Remove {
            step_up,
            json: as_json,
            name,
        } => {
            let token = step_up
                .token(log, Operation::OperatorRemove, &platform)
                .await?;
            log.remove_operator(&name, &token)
                .await
                .map_err(|error| found(&error))?;
            if as_json {
                println!("{:#}", json!({ "operator": name, "enrolled": false }));
            } else {
                println!("operator {name} is removed");
            }
        }
        Command::List { json: as_json } => {
            let operators = log.operators().await.map_err(|error| found(&error))?;
            if as_json {
                let all: Vec<_> = operators
                    .iter()
                    .map(|operator| {
                        json!({ "name": operator.name, "created_at": operator.created_at, "locked": operator.locked })
                    })
                    .collect();
                println!("{:#}", serde_json::Value::Array(all));
            } else {
                let rows = operators.into_iter().map(|operator| {
                    let state = if operator.locked { "locked" } else { "" };
                    vec![operator.name, operator.created_at, state.to_owned()]
                });
                table::print(&["OPERATOR", "SINCE", ""], rows);
            }
        }
        Command::Token {
            step_up,
            json: as_json,
            operation,
            scope,
        } => {
            let operation = dangerous(&operation)?;
            let scope = parse_scope(&scope)?;
            let token = step_up.token(log, operation, &scope).await?;
            let text = token.expose();
            if as_json {
                let seconds = LIFE.as_secs();
                println!(
                    "{:#}",
                    json!({ "token": *text, "operation": operation.as_str(), "scope": scope.as_str(), "seconds": seconds })
                );
            } else {
                println!("{}", *text);
            }
        }
    }
    super::audit::sign_and_send(config, &keystore).await;
    Ok(ExitCode::SUCCESS)
}

fn dangerous(text: &str) -> anyhow::Result<Operation> {
    let operation = text.parse().ok();
    let operation = operation.filter(|operation: &Operation| operation.needs_step_up());
    operation.ok_or_else(|| {
        let known: Vec<&str> = Operation::ALL
            .iter()
            .filter(|operation| operation.needs_step_up())
            .map(|operation| operation.as_str())
            .collect();
        Found(format!(
            "{text:?} is no operation that needs a token; these do: {}",
            known.join(", ")
        ))
        .into()
    })
}
