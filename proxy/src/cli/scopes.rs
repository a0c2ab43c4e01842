//! `pgveil scopes`: which scopes there are, and which KEK wraps a scope's keys, and why.

use std::{path::Path, process::ExitCode};

use clap::Subcommand;
use pgveil_config::{ScopePath, Settings};
use pgveil_keys::{
    Keystore, Scopes,
    keystore::ScopeRecord,
    scopes::{Level, Mark},
};
use serde_json::json;

use super::{Found, table};

/// `pgveil scopes ...`
#[derive(Debug, Subcommand)]
pub enum Scope {
    /// Show which provider and KEK a scope uses, and which level of the chain says so
    #[command(
        after_help = "Example:\n  pgveil scopes show --config conf/pgveil.toml tenant:acme/project:crm/env:prod\n\nReads the configuration only. Names are percent-encoded outside letters, digits, `.`, `_` and `-`."
    )]
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// platform, or tenant:T with /project:P and /env:E behind it
        scope: String,
    },
    /// List the scopes that have keys in the keystore
    #[command(after_help = "Example:\n  pgveil scopes list --config conf/pgveil.toml --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs one of them.
///
/// # Errors
/// If the configuration or the keystore cannot be read, or the scope is none.
pub async fn run(config: &Path, command: Scope) -> anyhow::Result<ExitCode> {
    match command {
        Scope::Show { json, scope } => show(config, &scope, json),
        Scope::List { json } => list(config, json).await,
    }
}

fn show(config: &Path, scope: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let path = ScopePath::parse(scope)
        .map_err(|error| Found(format!("{scope:?} is no scope: {error}")))?;
    let scopes = Scopes::new(&settings);
    let levels = scopes.preview(&path);
    if as_json {
        println!("{:#}", preview_json(&path, &scopes, &levels));
        return Ok(ExitCode::SUCCESS);
    }
    let rows = levels.iter().map(
        |Level {
             scope,
             kek,
             failure,
         }| {
            let shown = |text: &str, mark: Mark| match mark {
                Mark::Inherited => "-".to_owned(),
                _ => text.to_owned(),
            };
            vec![
                scope.to_string(),
                shown(&kek.value.provider, kek.mark),
                shown(&kek.value.kek, kek.mark),
                kek.mark.as_str().to_owned(),
                shown(failure.value.as_str(), failure.mark),
                failure.mark.as_str().to_owned(),
            ]
        },
    );
    table::print(&["SCOPE", "PROVIDER", "KEY", "", "FAILURE", ""], rows);
    let kek = scopes.kek(&path);
    println!(
        "\nNew keys of {path} are wrapped by key \"{}\" of provider \"{}\"; while it cannot be reached, it fails {}.",
        kek.kek,
        kek.provider,
        scopes.failure(&path).as_str()
    );
    Ok(ExitCode::SUCCESS)
}

fn preview_json(path: &ScopePath, scopes: &Scopes, levels: &[Level]) -> serde_json::Value {
    let kek = scopes.kek(path);
    let chain: Vec<_> = levels
        .iter()
        .map(|level| {
            json!({
                "scope": level.scope.as_str(),
                "provider": level.kek.value.provider,
                "key": level.kek.value.kek,
                "key_state": level.kek.mark.as_str(),
                "failure": level.failure.value.as_str(),
                "failure_state": level.failure.mark.as_str(),
            })
        })
        .collect();
    json!({
        "scope": path.as_str(),
        "provider": kek.provider,
        "key": kek.kek,
        "failure": scopes.failure(path).as_str(),
        "chain": chain,
    })
}

async fn list(config: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let keystore = Keystore::connect(&settings)
        .await
        .map_err(|error| Found(format!("{error}; {}", error.cure())))?;
    let scopes = Scopes::new(&settings);
    let found = keystore.scopes().await?;
    if as_json {
        let all: Vec<_> = { found.iter() }
            .map(|record| record_json(record, &scopes))
            .collect();
        println!("{:#}", serde_json::Value::Array(all));
        return Ok(ExitCode::SUCCESS);
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
    Ok(ExitCode::SUCCESS)
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
