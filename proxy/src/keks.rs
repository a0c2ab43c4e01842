//! New versions of KEKs: noticed, asked for when their period has passed, and followed. How the KEKs are is found out by
//! [`crate::prober`]; what follows is in `pgveil_keys::kek_rotation`.

use std::{sync::Arc, time::Duration};

use pgveil_config::ScopePath;
use pgveil_keys::{
    Keys, Keystore,
    health::{Health, State},
    kek_rotation::follow,
    keystore::{Followed, KekRow, KeystoreError},
    rewrap::RewrapError,
    scopes::KekRef,
};
use pgveil_providers::{KekInfo, KeyProvider, Providers};
use tokio::time::{MissedTickBehavior, interval};

/// How often it is looked whether a KEK has another version than the one that its keys follow.
const PERIOD: Duration = Duration::from_secs(5);
/// Rounds between two notes of when a KEK was seen.
const NOTED_EVERY: u32 = 12;

/// Whoever brings keys to new versions.
pub(crate) struct Keks {
    pub(crate) keys: Arc<Keys>,
    pub(crate) keystore: Arc<Keystore>,
    pub(crate) providers: Providers,
    /// Whether values follow by themselves.
    pub(crate) reencrypts: bool,
}

impl Keks {
    /// Until it is dropped.
    pub(crate) async fn tend(self, health: Arc<Health>) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = 0_u32;
        loop {
            ticks.tick().await;
            if let Err(error) = self
                .look_at_all(&health, round.is_multiple_of(NOTED_EVERY))
                .await
            {
                tracing::warn!(%error, "it could not be seen which versions the keys follow");
            }
            round = round.wrapping_add(1);
        }
    }

    async fn look_at_all(&self, health: &Health, notes: bool) -> anyhow::Result<()> {
        let known = self.keystore.keks().await?;
        for (kek, status) in health.all() {
            let info = status.info.filter(|_| status.state == State::Works);
            let Some(info) = info else {
                continue;
            };
            let row = match known.iter().find(|(known, _)| *known == kek) {
                Some((_, Ok(row))) => Some(row),
                // It was told. Nothing follows until somebody has it written anew.
                Some((_, Err(_))) => continue,
                None => None,
            };
            let seen = (info, status.wraps_as);
            if let Err(error) = self.look(&kek, seen, row, notes).await
                && !is_refused_row(&error)
            {
                tracing::warn!(
                    provider = kek.provider,
                    kek = kek.kek,
                    %error,
                    "the keys under a key encryption key could not be brought to its present version; it is tried again"
                );
            }
        }
        Ok(())
    }

    async fn look(
        &self,
        kek: &KekRef,
        (mut info, wraps_as): (KekInfo, Option<String>),
        row: Option<&KekRow>,
        notes: bool,
    ) -> anyhow::Result<()> {
        // What was seen is up to two minutes old, and others may have followed a rotation since: nothing follows from it.
        if !info.is_made || row.is_some_and(|row| row.version != info.version) {
            info = self.holder(kek)?.describe(&kek.kek).await?;
        }
        if !info.is_made {
            return Ok(());
        }
        let version = &info.version;
        if row.is_some_and(|row| row.settles(version)) {
            return Ok(());
        }
        let follows = row.is_some_and(|row| row.version == *version && row.next_version.is_none());
        let wraps_as = match row {
            Some(_) => Some(version.clone()),
            None => wraps_as,
        };
        if (!follows || notes) && self.is_to_follow(kek, version, wraps_as).await? {
            self.follow(kek, version).await?;
        }
        match row {
            Some(row) => self.ask_if_due(kek, row.age).await,
            None => Ok(()),
        }
    }

    /// Whether keys under the KEK follow another version than this one; `wraps_as` is how wrappings name it. Without that it is
    /// wrapped once to see.
    async fn is_to_follow(
        &self,
        kek: &KekRef,
        version: &str,
        wraps_as: Option<String>,
    ) -> anyhow::Result<bool> {
        let wraps_as = match wraps_as {
            Some(wraps_as) => wraps_as,
            None => {
                let levels = self.keys.scopes().uses().remove(kek).unwrap_or_default();
                let platform = ScopePath::platform();
                let scope = levels.first().unwrap_or(&platform);
                let probed = self.keys.look(kek, scope, true).await?;
                probed.wraps_as.unwrap_or_else(|| version.to_owned())
            }
        };
        Ok(self.keystore.see_kek(kek, version, &wraps_as).await?)
    }

    /// [`follow`], told in the log.
    pub(crate) async fn follow(
        &self,
        kek: &KekRef,
        version: &str,
    ) -> Result<Option<Followed>, RewrapError> {
        let (keys, keystore) = (&self.keys, &self.keystore);
        let followed = follow(keys, keystore, kek, version, self.reencrypts).await?;
        if let Some(followed) = &followed {
            tracing::info!(
                provider = kek.provider,
                kek = kek.kek,
                version,
                keys = followed.rewrapped,
                scopes = followed.rotated,
                job = followed.job,
                "keys follow a new version of their key encryption key"
            );
        }
        Ok(followed)
    }

    /// Asks for a new version where `kek_period` says so, and the provider does not do it by itself as often.
    async fn ask_if_due(&self, kek: &KekRef, age: Duration) -> anyhow::Result<()> {
        let scopes = self.keys.scopes();
        let levels = scopes.uses().remove(kek).unwrap_or_default();
        let periods = levels
            .iter()
            .filter_map(|level| scopes.effective(level).rotation.kek_period);
        let holder = self.holder(kek)?;
        let (Some(period), Ok(())) = (periods.min(), holder.rotates()) else {
            return Ok(());
        };
        if age < period {
            return Ok(());
        }
        let schedule = holder.rotation(&kek.kek).await?.unwrap_or_default();
        let days = schedule.period_days.map_or(Duration::MAX, |days| {
            Duration::from_hours(24 * u64::from(days))
        });
        if schedule.is_automatic && days <= period {
            return Ok(());
        }
        if self.keystore.ask_if_due(kek, period).await? {
            holder.rotate(&kek.kek).await?;
            let version = holder.describe(&kek.kek).await?.version;
            if self
                .is_to_follow(kek, &version, Some(version.clone()))
                .await?
            {
                self.follow(kek, &version).await?;
            }
        }
        Ok(())
    }

    pub(crate) fn holder(&self, kek: &KekRef) -> anyhow::Result<&Arc<dyn KeyProvider>> {
        { self.providers.get(&kek.provider) }
            .ok_or_else(|| anyhow::anyhow!("there is no [provider.{}]", kek.provider))
    }
}

/// It was told when it was met first.
fn is_refused_row(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<KeystoreError>(),
        Some(KeystoreError::Damaged {
            table: "pgveil.keks",
            ..
        })
    )
}
