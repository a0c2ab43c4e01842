//! `pgveil keks`: key encryption keys at their providers, and asking for new versions. Keys of the local KMS as such are
//! `pgveil kms`' business.

use std::{path::Path, process::ExitCode};

use clap::Subcommand;
use pgveil_config::Settings;
use pgveil_keys::{
    Scopes,
    audit::Operation,
    keystore::{KekRow, KekUse, KeystoreError},
    scopes::KekRef,
    step_up::Authority,
};
use serde_json::{Value, json};

use super::{Found, ask::StepUp, audit::sign_and_send, connect, parse_scope, table};
use crate::app;

/// `pgveil keks ...`
#[derive(Debug, Subcommand)]
pub enum Kek {
    /// List the KEKs: versions, how many keys stand under each, when they were rotated
    #[command(after_help = "Example:\n  pgveil keks list --config conf/pgveil.toml --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask a provider for a new version of the KEK that a scope uses, and bring all keys under it to that version
    #[command(
        after_help = "Example:\n  pgveil step-up token kek.rotate tenant:acme > token\n  pgveil keks rotate tenant:acme --token token\n\nEvery scope that uses the KEK gets its next data key. Where the provider takes its time, running proxies follow when it is done."
    )]
    Rotate {
        /// The right to do it
        #[command(flatten)]
        step_up: StepUp,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The scope whose KEK it is
        scope: String,
    },
}

/// Runs one of them.
///
/// # Errors
/// If the configuration or the keystore cannot be read, or it is refused.
pub async fn run(config: &Path, command: Kek) -> anyhow::Result<ExitCode> {
    match command {
        Kek::List { json } => list(config, json).await,
        Kek::Rotate {
            step_up,
            json,
            scope,
        } => rotate(config, &scope, &step_up, json).await,
    }
}

/// A KEK with what is known of it.
struct Listed {
    kek: KekRef,
    row: Option<KekRow>,
    uses: Vec<KekUse>,
    period: Option<std::time::Duration>,
}

async fn list(config: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let keystore = connect(&settings).await?;
    let scopes = Scopes::new(&settings).with_stored(keystore.stored_unjudged().await?);
    let (rows, uses) = (keystore.keks_unjudged().await?, keystore.kek_uses().await?);
    let mut all: Vec<KekRef> = scopes.keks();
    all.extend(rows.iter().map(|row| row.kek.clone()));
    all.extend(uses.iter().map(|used| used.kek.clone()));
    all.sort();
    all.dedup();
    let in_use = scopes.uses();
    let listed = all.into_iter().map(|kek| {
        let levels = in_use.get(&kek).map_or(&[][..], Vec::as_slice);
        let periods =
            { levels.iter() }.filter_map(|level| scopes.effective(level).rotation.kek_period);
        Listed {
            row: rows.iter().find(|row| row.kek == kek).cloned(),
            uses: uses
                .iter()
                .filter(|used| used.kek == kek)
                .cloned()
                .collect(),
            period: periods.min(),
            kek,
        }
    });
    let listed: Vec<Listed> = listed.collect();
    if as_json {
        let all: Vec<Value> = listed.iter().map(Listed::as_json).collect();
        println!("{:#}", Value::Array(all));
        return Ok(ExitCode::SUCCESS);
    }
    table::print(
        &[
            "PROVIDER",
            "KEY",
            "VERSION",
            "KEYS",
            "SCOPES",
            "STATE",
            "LAST SEEN",
            "ROTATED",
            "NEXT ROTATION",
        ],
        listed.iter().flat_map(Listed::as_rows),
    );
    Ok(ExitCode::SUCCESS)
}

impl Listed {
    fn state(&self) -> String {
        match &self.row {
            Some(KekRow {
                next_version: Some(next),
                ..
            }) => format!("moving to {next}"),
            Some(_) => "follows".to_owned(),
            None => "not seen".to_owned(),
        }
    }

    fn next(&self) -> Option<String> {
        let (period, row) = (self.period?, self.row.as_ref()?);
        Some(table::clock(period.saturating_sub(row.age)))
    }

    /// A line for each version that wraps keys; one at least.
    fn as_rows(&self) -> Vec<Vec<String>> {
        let (provider, kek) = (&self.kek.provider, &self.kek.kek);
        let row = self.row.as_ref();
        let line = |version: &str, keys: u64, scopes: u64| {
            vec![
                provider.clone(),
                kek.clone(),
                table::version_of(kek, version),
                keys.to_string(),
                scopes.to_string(),
                self.state(),
                row.map_or("-".to_owned(), |row| row.last_seen.clone()),
                row.and_then(|row| row.rotated_at.clone())
                    .unwrap_or_else(|| "-".to_owned()),
                self.next()
                    .map_or("-".to_owned(), |next| format!("in {next}")),
            ]
        };
        if self.uses.is_empty() {
            return vec![line(row.map_or("-", |row| &row.version), 0, 0)];
        }
        { self.uses.iter() }
            .map(|used| line(&used.version, used.keys, used.scopes))
            .collect()
    }

    fn as_json(&self) -> Value {
        let row = self.row.as_ref();
        let versions: Vec<Value> = { self.uses.iter() }
            .map(
                |used| json!({ "version": used.version, "keys": used.keys, "scopes": used.scopes }),
            )
            .collect();
        json!({
            "provider": self.kek.provider,
            "key": self.kek.kek,
            "version": row.map(|row| &row.version),
            "next_version": row.and_then(|row| row.next_version.as_ref()),
            "versions": versions,
            "last_seen": row.map(|row| &row.last_seen),
            "rotated_at": row.and_then(|row| row.rotated_at.as_ref()),
            "next_rotation_in_s": self.period.zip(row).map(|(period, row)| period.saturating_sub(row.age).as_secs()),
        })
    }
}

async fn rotate(
    config: &Path,
    scope: &str,
    step_up: &StepUp,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let path = parse_scope(scope)?;
    let built = app::build(config).await?;
    let kek = built.keys.scopes().kek(&path);
    let keks = built.keks();
    let holder = keks.holder(&kek)?;
    let refused_row = match built.keystore.judge_kek(&kek).await {
        Ok(()) => None,
        Err(
            error @ KeystoreError::Damaged {
                table: "pgveil.keks",
                ..
            },
        ) => Some(error),
        Err(error) => return Err(Found(format!("{error}; {}", error.cure())).into()),
    };
    let rotates = holder.rotates();
    if let (Err(instead), None) = (&rotates, &refused_row) {
        return Err(Found(format!(
            "provider \"{}\" makes no new version of a key when pgveil asks: {instead}",
            kek.provider
        ))
        .into());
    }
    let before = holder.describe(&kek.kek).await.map_err(refused)?.version;
    let log = built.keystore.log();
    let token = step_up.token(log, Operation::KekRotate, &path).await?;
    let right = Authority::Token(&token);
    built
        .keystore
        .ask_for_rotation(&kek, &before, &path, right)
        .await
        .map_err(|error| Found(format!("{error}; {}", error.cure())))?;
    if let Some(error) = &refused_row {
        eprintln!(
            "{error}. It is written anew: all keys under it are brought to its present version."
        );
    }
    if rotates.is_ok() {
        holder.rotate(&kek.kek).await.map_err(refused)?;
    }
    let version = holder.describe(&kek.kek).await.map_err(refused)?.version;
    let followed = if version == before && refused_row.is_none() {
        None
    } else {
        keks.follow(&kek, &version)
            .await
            .map_err(|error| Found(format!("{error}; {}; running proxies go on", error.cure())))?
    };
    sign_and_send(config, &built.keystore).await;
    if as_json {
        let done = followed.as_ref();
        let value = json!({
            "provider": kek.provider,
            "key": kek.kek,
            "from": before,
            "version": version,
            "keys_rewrapped": done.map(|done| done.rewrapped),
            "scopes_rotated": done.map(|done| done.rotated),
            "job": done.and_then(|done| done.job),
        });
        println!("{value:#}");
        return Ok(ExitCode::SUCCESS);
    }
    match followed {
        Some(done) => {
            println!(
                "Key \"{}\" of provider \"{}\" has version {}: {} wrapped anew, {} with new data keys.",
                kek.kek,
                kek.provider,
                table::version_of(&kek.kek, &version),
                table::counted(done.rewrapped, "key"),
                table::counted(done.rotated, "scope")
            );
            if let Some(job) = done.job {
                println!(
                    "Job {job} brings their values to the new data keys; see `pgveil jobs watch {job}`."
                );
            }
        }
        None => println!(
            "Key \"{}\" of provider \"{}\" is being rotated. Running proxies follow when its provider has a new version.",
            kek.kek, kek.provider
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn refused(error: impl std::fmt::Display) -> anyhow::Error {
    Found(error.to_string()).into()
}
