//! `pgveil scopes`: which scopes there are, what holds for a scope and why, and what it does differently at run time.

mod judged;
mod set;
mod show;

use std::{path::Path, process::ExitCode};

use clap::Subcommand;
use pgveil_config::{ScopePath, Settings};
use pgveil_keys::{Scopes, keystore::ScopeRecord};
use serde_json::json;

use super::{ask, connect, seal, table};

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
        Scope::List { json } => list(config, json).await,
        Scope::Overrides { json } => set::list(config, json).await,
        Scope::Set(given) => set::set(config, given).await,
        Scope::Clear(act) => set::clear(config, act).await,
    }
}

async fn list(config: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let keystore = connect(&settings).await?;
    let scopes = Scopes::new(&settings).with_stored(keystore.stored_unjudged().await?);
    let found = keystore.scopes().await?;
    if as_json {
        let all: Vec<_> = { found.iter() }
            .map(|record| record_json(record, &scopes))
            .collect();
        println!("{:#}", serde_json::Value::Array(all));
        return Ok(judged::tell(config).await);
    }
    let rows = found.iter().map(|record| {
        let kek = ScopePath::parse(&record.path).map(|path| scopes.kek(&path));
        let (provider, key) = kek.map_or_else(
            |_| ("-".to_owned(), "-".to_owned()),
            |kek| (kek.provider, kek.kek),
        );
        vec![
            record.path.clone(),
            record.state.clone(),
            provider,
            key,
            record.active.to_string(),
            record.decrypt_only.to_string(),
            record.destroyed.to_string(),
        ]
    });
    table::print(
        &[
            "SCOPE",
            "STATE",
            "PROVIDER",
            "KEY",
            "ACTIVE",
            "DECRYPT ONLY",
            "DESTROYED",
        ],
        rows,
    );
    Ok(judged::tell(config).await)
}

fn record_json(record: &ScopeRecord, scopes: &Scopes) -> serde_json::Value {
    let kek = ScopePath::parse(&record.path)
        .ok()
        .map(|path| scopes.kek(&path));
    json!({
        "scope": record.path,
        "state": record.state,
        "provider": kek.as_ref().map(|kek| &kek.provider),
        "key": kek.as_ref().map(|kek| &kek.kek),
        "keys": {
            "active": record.active,
            "decrypt_only": record.decrypt_only,
            "destroyed": record.destroyed,
        },
    })
}
