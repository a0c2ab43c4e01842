//! SIGHUP: the files are read again, and taken up all or nothing. What a running process cannot take up is named, and stays as
//! it was when it started.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use pgveil_config::{PolicyFile, Settings, settings::changed_keys};
use pgveil_keys::{
    Keys, Scopes,
    audit::{Event, Log, Operation, Outcome},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::signal::unix::Signal;

use crate::{
    app::{Built, SetLevel},
    engine::Engine,
};

/// How long a record may take of what was not taken up.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is taken up while the process runs: a key, or all of a section.
const LIVE: [&str; 5] = ["policy", "log.level", "defaults.", "override", "rotation."];

/// Reads the files again.
pub(crate) struct Reload {
    /// What the process started with.
    settings: Arc<Settings>,
    text: String,
    keys: Arc<Keys>,
    engine: Arc<Engine>,
    log: Arc<Log>,
    set_level: SetLevel,
}

impl Reload {
    pub(crate) fn new(
        built: &Built,
        engine: &Arc<Engine>,
        set_level: SetLevel,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            text: read(&built.settings.file)?,
            settings: Arc::clone(&built.settings),
            keys: Arc::clone(&built.keys),
            engine: Arc::clone(engine),
            log: Arc::clone(built.keystore.log()),
            set_level,
        })
    }

    /// Until it is dropped.
    pub(crate) async fn follow(self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            match self.take_up().await {
                Ok(waits) => self.tell(&waits).await,
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "SIGHUP: pgveil.toml and policy.toml are not taken up; everything stays as it is"
                    );
                    tell_refused(&self.log, &self.settings, PATIENCE).await;
                }
            }
        }
        std::future::pending::<()>().await;
    }

    /// Answers what waits for a restart.
    async fn take_up(&self) -> anyhow::Result<BTreeSet<String>> {
        let text = read(&self.settings.file)?;
        let settings = Settings::load(&self.settings.file)?;
        let policy = PolicyFile::load(&settings.policy)?;
        let mut waits = changed_keys(&self.text, &text);
        waits.retain(|key| !is_live(key));
        self.try_keks(&settings, &waits).await?;
        // The last thing that can go wrong.
        self.engine.take(policy).await?;
        self.keys.set_configured(&settings);
        (self.set_level)(&settings.log.level);
        Ok(waits)
    }

    /// KEKs that no scope used before must wrap and unwrap before they are used.
    async fn try_keks(&self, settings: &Settings, waits: &BTreeSet<String>) -> anyhow::Result<()> {
        let used = self.keys.scopes().uses();
        for (kek, levels) in Scopes::new(settings).uses() {
            if used.contains_key(&kek) {
                continue;
            }
            let section = format!("provider.{}", kek.provider);
            if waits.contains(&section) || !self.keys.has_provider(&kek.provider) {
                bail!(
                    "key \"{}\" is of [{section}], which was added or changed: restart pgveil to use it",
                    kek.kek
                );
            }
            let Some(scope) = levels.first() else {
                continue;
            };
            self.keys
                .look(&kek, scope, true)
                .await
                .with_context(|| format!("key \"{}\", which scope {scope} is to have", kek.kek))?;
        }
        Ok(())
    }

    async fn tell(&self, waits: &BTreeSet<String>) {
        tracing::info!("SIGHUP: policy, scopes and log level are taken up");
        if !waits.is_empty() {
            let keys: Vec<&str> = waits.iter().map(String::as_str).collect();
            tracing::warn!(
                keys = keys.join(", "),
                "SIGHUP: these keys of pgveil.toml differ from what pgveil started with, and wait for a restart"
            );
        }
        let Ok(mut detail) = digests(&self.settings) else {
            return;
        };
        detail["by"] = json!("SIGHUP");
        detail["waits_for_restart"] = json!(waits);
        let event = Event::new(Operation::ConfigLoad).detail(detail);
        if let Err(error) = self.log.note(event).await {
            tracing::warn!(%error, "that the configuration was taken up could not be recorded");
        }
    }
}

fn is_live(key: &str) -> bool {
    LIVE.iter()
        .any(|live| key == *live || live.ends_with('.') && key.starts_with(live))
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).context("the configuration cannot be read again")
}

/// Which files were read.
pub(crate) fn digests(settings: &Settings) -> anyhow::Result<Value> {
    let digest = |path: &Path| std::fs::read(path).map(|bytes| hex::encode(Sha256::digest(bytes)));
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "settings_sha256": digest(&settings.file).context("the configuration cannot be read again")?,
        "policy_sha256": digest(&settings.policy).context("the policy cannot be read again")?,
    }))
}

/// Records that the files were not taken. What is wrong with them is said where pgveil was started, and in its log.
pub(crate) async fn tell_refused(log: &Arc<Log>, settings: &Settings, patience: Duration) {
    let Ok(detail) = digests(settings) else {
        return;
    };
    let event = Event::new(Operation::ConfigRefuse)
        .outcome(Outcome::Refused)
        .detail(detail);
    let recorded = tokio::time::timeout(patience, log.record(event)).await;
    if !matches!(recorded, Ok(Ok(()))) {
        tracing::warn!("that the configuration was not taken could not be recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_restart_is_told_apart() {
        let before = "listen = \"a:1\"\n[log]\nlevel = \"info\"\nformat = \"text\"\n[defaults]\nkey = \"k\"\n";
        let now = "listen = \"a:2\"\n[log]\nlevel = \"warn\"\nformat = \"json\"\n[defaults]\nkey = \"l\"\n\
             [[override]]\nscope = \"tenant:a\"\n[rotation]\ndek_epoch = \"90d\"\n[cache]\nttl = \"1m\"\n";
        let mut waits = changed_keys(before, now);
        assert_eq!(waits.len(), 7, "{waits:?}");
        waits.retain(|key| !is_live(key));
        let waits: Vec<&str> = waits.iter().map(String::as_str).collect();
        assert_eq!(waits, ["cache.ttl", "listen", "log.format"]);
        assert!(changed_keys(now, now).is_empty());
    }
}
