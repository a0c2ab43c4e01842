//! `pgveil scopes`: which scopes there are, what holds for a scope and why, and what it does differently at run time.

mod judged;
mod list;
mod set;
mod show;

use std::{path::Path, process::ExitCode};

use clap::Subcommand;

use super::{ask, seal};

/// `pgveil scopes ...`
#[derive(Debug, Subcommand)]
pub enum Scope {
    /// Show what holds for a scope (provider, KEK, failure policy, rotation), and which level of the chain says so
    #[command(
        after_help = "Example:\n  pgveil scopes show --config conf/pgveil.toml tenant:acme/project:crm/env:prod\n\nNames are percent-encoded outside letters, digits, `.`, `_` and `-`."
    )]
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Read the configuration only, not what was set at run time
        #[arg(long)]
        offline: bool,
        /// platform, or tenant:T with /project:P and /env:E behind it
        scope: String,
    },
    /// Destroy all keys of a scope and of those below it: nothing that they sealed can be read again
    #[command(
        after_help = "Example:\n  pgveil scopes erase --config conf/pgveil.toml tenant:acme --operator ada\n\nNeeds a step-up token, and the scope's name typed again. It cannot be undone, but by a backup of the keystore: those have to go too."
    )]
    Erase {
        /// How its token is got
        #[command(flatten)]
        step_up: ask::StepUp,
        /// The scope's name again, instead of being asked
        #[arg(long, value_name = "SCOPE")]
        confirm: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// As `scopes list` shows it
        scope: String,
    },
    /// List the scopes that have keys in the keystore
    #[command(after_help = "Example:\n  pgveil scopes list --config conf/pgveil.toml --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Ask the providers, and show scopes whose key encryption key they deny, or for which they do not answer
        #[arg(long)]
        probe: bool,
    },
    /// List what scopes do differently since it was set at run time
    #[command(after_help = "Example:\n  pgveil scopes overrides --config conf/pgveil.toml")]
    Overrides {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a scope do something differently from now on, without a change of the configuration
    #[command(
        after_help = "Examples:\n  pgveil scopes set tenant:acme --provider aws --key alias/acme\n  pgveil scopes set tenant:acme/env:test --failure open --dek-epoch 30d\n\nWhat is not named stays as it was set before. Another KEK is tried first (a key is wrapped and unwrapped), then the keys\nthat the scope and those below it have are wrapped anew by it; if the old KEK cannot unwrap them, nothing is changed.\nRunning proxies follow within seconds. Before what pgveil.toml says of the same scope."
    )]
    Set(set::Given),
    /// Take back what was set for a scope at run time
    #[command(after_help = "Example:\n  pgveil scopes clear tenant:acme")]
    Clear(set::Act),
}

/// Runs one of them.
///
/// # Errors
/// If the configuration or the keystore cannot be read, or the scope is none.
pub async fn run(config: &Path, command: Scope) -> anyhow::Result<ExitCode> {
    match command {
        Scope::Show {
            json,
            offline,
            scope,
        } => show::run(config, &scope, offline, json).await,
        Scope::Erase {
            step_up,
            confirm,
            json,
            scope,
        } => seal::erase(config, &scope, confirm.as_deref(), &step_up, json).await,
        Scope::List { json, probe } => list::list(config, json, probe).await,
        Scope::Overrides { json } => set::list(config, json).await,
        Scope::Set(given) => set::set(config, given).await,
        Scope::Clear(act) => set::clear(config, act).await,
    }
}
