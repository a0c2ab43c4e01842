//! `pgveil rotate` and `pgveil rewrap`: new keys for scopes, and the job that brings values to them. The job runs in
//! `pgveil serve`; `pgveil jobs` shows it.

use std::{path::Path, process::ExitCode};

use clap::Args;
use pgveil_config::ScopePath;
use pgveil_keys::{
    DekId,
    audit::Operation,
    keystore::{KeyEntry, KeyTable, NewJob},
};
use serde_json::json;

use super::{
    Found,
    ask::{StepUp, found},
    audit::sign_and_send,
    jobs::run_here,
    parse_scope,
};
use crate::app::{self, Built};

pub(super) const ROTATE_HELP: &str = "Examples:
  pgveil step-up token dek.rotate tenant:acme > token
  pgveil rotate tenant:acme --below --token token
  pgveil jobs watch 1
  pgveil step-up token index.rotate tenant:acme > token
  pgveil rotate tenant:acme --index-key --token token  # after the key of search terms may have become known

The keys before open what they sealed. Running proxies seal with the new ones at once, within cache.ttl at the latest.";
pub(super) const REWRAP_HELP: &str = "Example:
  pgveil rewrap tenant:acme --below

For values that name keys which were replaced without a job: by the end of an epoch, or by `pgveil rotate --no-rewrap`. No key is replaced.";

/// `pgveil rotate`
#[derive(Debug, Args)]
#[group(skip)]
pub struct Rotate {
    /// The right to do it
    #[command(flatten)]
    step_up: StepUp,
    /// And the scopes below it
    #[arg(long)]
    below: bool,
    /// Leave values under the keys that sealed them
    #[arg(long, conflicts_with = "index_key")]
    no_rewrap: bool,
    /// The key that makes search terms, instead of the one that seals
    #[arg(long)]
    index_key: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The scope whose data key it is
    scope: String,
}

/// `pgveil rewrap`
#[derive(Debug, Args)]
#[group(skip)]
pub struct Rewrap {
    /// And the scopes below it
    #[arg(long)]
    below: bool,
    /// Run it here and wait for its end, instead of in `pgveil serve`
    #[arg(long)]
    run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The scope whose values they are; `platform --below` for all
    scope: String,
}

/// Runs `pgveil rotate`.
///
/// # Errors
/// If the configuration or the keystore cannot be read, or it is refused.
pub async fn rotate(config: &Path, rotate: &Rotate) -> anyhow::Result<ExitCode> {
    let scope = parse_scope(&rotate.scope)?;
    let built = app::build(config).await?;
    if rotate.index_key {
        return rotate_index_key(config, &built, &scope, rotate).await;
    }
    let held = active(&built, &scope, rotate.below, "data").await?;
    if held.is_empty() {
        return Err(Found(format!(
            "{scope} has no data key yet: its first value makes one"
        ))
        .into());
    }
    let log = built.keystore.log();
    let token = rotate
        .step_up
        .token(log, Operation::DekRotate, &scope)
        .await?;
    // Before the new keys are made: theirs are higher.
    let horizon = built
        .keystore
        .next_id()
        .await
        .map_err(|error| found(&error))?;
    let ordered =
        built
            .keystore
            .order_rotation(&scope, rotate.below, horizon, !rotate.no_rewrap, &token);
    let job = ordered.await.map_err(|error| found(&error))?;
    let is_meant =
        |path: &ScopePath| *path == scope || rotate.below && path.chain().contains(&scope);
    // What keeps one of them from it is told below.
    let together = built.keys.replace_before(DekId(horizon), is_meant).await;
    if let Err(error) = together {
        tracing::debug!(%error, "new data keys are made one by one");
    }
    let mut problems = Vec::new();
    for key in active(&built, &scope, rotate.below, "data").await? {
        if key.id >= horizon {
            continue;
        }
        let path = parse_scope(&key.scope)?;
        if let Err(error) = built.keys.sealing_key_since(&path, DekId(horizon)).await {
            problems.push(format!("{path}: {error}; {}", error.cure()));
        }
    }
    let mut made = active(&built, &scope, rotate.below, "data").await?;
    made.retain(|key| key.id >= horizon);
    if rotate.json {
        let keys: Vec<_> = { made.iter() }
            .map(|key| json!({ "scope": key.scope, "id": key.id, "epoch": key.epoch }))
            .collect();
        println!(
            "{:#}",
            json!({ "keys": keys, "job": job, "problems": problems })
        );
    } else {
        for key in &made {
            println!(
                "{}: epoch {} begins with key {}.",
                key.scope, key.epoch, key.id
            );
        }
        if let Some(job) = job {
            println!("Job {job} brings the values that are there to it: pgveil jobs watch {job}");
        }
    }
    sign_and_send(config, &built.keystore).await;
    if problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Found(problems.join("\n")).into())
}

/// Orders new index keys; the job makes them, and brings search terms to them.
async fn rotate_index_key(
    config: &Path,
    built: &Built,
    scope: &ScopePath,
    rotate: &Rotate,
) -> anyhow::Result<ExitCode> {
    let held = active(built, scope, rotate.below, "index").await?;
    if held.is_empty() {
        return Err(Found(format!(
            "{scope} has no index key: nothing was sealed for search in it{}",
            if rotate.below {
                ""
            } else {
                "; add --below for the scopes below it"
            }
        ))
        .into());
    }
    let (log, operation) = (built.keystore.log(), Operation::IndexRotate);
    let token = rotate.step_up.token(log, operation, scope).await?;
    let horizon = { built.keystore.next_id().await }.map_err(|error| found(&error))?;
    let keystore = &built.keystore;
    let ordered = keystore.order_index_rotation(scope, rotate.below, horizon, &token);
    let job = ordered.await.map_err(|error| found(&error))?;
    if rotate.json {
        println!("{:#}", json!({ "job": job, "scopes": held.len() }));
    } else {
        println!(
            "Job {job} gives {} a new index key, and values search terms of it; searches go on meanwhile: pgveil jobs watch {job}",
            if held.len() == 1 {
                "one scope".to_owned()
            } else {
                format!("{} scopes", held.len())
            }
        );
    }
    sign_and_send(config, &built.keystore).await;
    Ok(ExitCode::SUCCESS)
}

/// The active keys of a scope, and of those below it.
async fn active(
    built: &Built,
    scope: &ScopePath,
    below: bool,
    purpose: &str,
) -> anyhow::Result<Vec<KeyEntry>> {
    let mut keys = built
        .keystore
        .inventory()
        .await
        .map_err(|error| found(&error))?;
    keys.retain(|key| {
        let within = ScopePath::parse(&key.scope)
            .is_ok_and(|path| path == *scope || below && path.chain().contains(scope));
        within && key.purpose == purpose && key.state == "active"
    });
    Ok(keys)
}

/// Runs `pgveil rewrap`.
///
/// # Errors
/// As [`rotate`].
pub async fn rewrap(config: &Path, rewrap: &Rewrap) -> anyhow::Result<ExitCode> {
    let scope = parse_scope(&rewrap.scope)?;
    let built = app::build(config).await?;
    let horizon = built
        .keystore
        .next_id()
        .await
        .map_err(|error| found(&error))?;
    let job = NewJob::rewrap(&scope, rewrap.below, horizon, "rewrap by hand").of_retired_keys();
    let id = { built.keystore.queue_job(&job).await }.map_err(|error| found(&error))?;
    sign_and_send(config, &built.keystore).await;
    if rewrap.run {
        return run_here(&built, Some(id), rewrap.json).await;
    }
    if rewrap.json {
        println!("{:#}", json!({ "job": id }));
    } else {
        println!("Job {id} is queued: pgveil jobs watch {id}");
    }
    Ok(ExitCode::SUCCESS)
}
