//! Looks at every KEK in use, again and again: often while it does not work, seldom and cheaply while it does. What is
//! found goes to [`Health`] and, when it changes, into the log.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use pgveil_config::ScopePath;
use pgveil_keys::{
    Keys,
    health::{Change, Health, State},
    scopes::KekRef,
};
use pgveil_providers::{KeyProvider, Providers, jitter, probe};
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};

/// Between looks at a KEK that works.
const WHILE_IT_WORKS: Duration = Duration::from_mins(1);
/// Between looks at one that does not.
const WHILE_IT_DOES_NOT: Duration = Duration::from_secs(10);
/// One look in so many wraps and unwraps; the others only ask how the KEK is. Providers charge for each call.
const ROUND_TRIP_EVERY: u32 = 10;
/// Looks at the same time.
const MAX_AT_ONCE: usize = 8;

/// How often it is asked which KEKs are in use: scopes get others at run time.
const USES_EVERY: Duration = Duration::from_secs(10);

/// A KEK, one scope that uses it, and who holds it.
struct Watched {
    kek: KekRef,
    scope: ScopePath,
    holder: Arc<dyn KeyProvider>,
}

/// Looks until it is dropped.
pub(crate) async fn run(keys: Arc<Keys>, providers: Providers, health: Arc<Health>) {
    let permits = Arc::new(Semaphore::new(MAX_AT_ONCE));
    let mut all = JoinSet::new();
    let mut watches: HashMap<KekRef, AbortHandle> = HashMap::new();
    loop {
        let uses = keys.scopes().uses();
        watches.retain(|kek, watch| {
            let is_used = uses.contains_key(kek);
            if !is_used {
                watch.abort();
                health.forget(kek);
            }
            is_used
        });
        for (kek, levels) in uses {
            let (Some(holder), Some(scope)) = (providers.get(&kek.provider), levels.first()) else {
                continue;
            };
            let watched = Watched {
                scope: scope.clone(),
                holder: Arc::clone(holder),
                kek: kek.clone(),
            };
            watches.entry(kek).or_insert_with(|| {
                all.spawn(watched.watch(Arc::clone(&permits), Arc::clone(&health)))
            });
        }
        tokio::time::sleep(USES_EVERY).await;
        // What was aborted is collected.
        while all.try_join_next().is_some() {}
    }
}

impl Watched {
    async fn watch(self, permits: Arc<Semaphore>, health: Arc<Health>) {
        let mut until_round_trip = 0;
        loop {
            let Ok(permit) = permits.acquire().await else {
                return;
            };
            let works = self.look(until_round_trip == 0, &health).await;
            drop(permit);
            let (pause, left) = match (works, until_round_trip) {
                (true, 0) => (WHILE_IT_WORKS, ROUND_TRIP_EVERY - 1),
                (true, left) => (WHILE_IT_WORKS, left - 1),
                (false, _) => (WHILE_IT_DOES_NOT, 0),
            };
            until_round_trip = left;
            tokio::time::sleep(pause + jitter(pause / 10)).await;
        }
    }

    /// Whether it works.
    async fn look(&self, round_trip: bool, health: &Health) -> bool {
        let KekRef { provider, kek } = &self.kek;
        let found = if round_trip {
            let probed = probe(self.holder.as_ref(), provider, kek, self.scope.as_str()).await;
            probed.map(|probe| (probe.info, probe.latency))
        } else {
            let described = self.holder.describe(kek).await;
            described.map(|info| (info, None))
        };
        let reason = found.as_ref().err().map(ToString::to_string);
        let works = found.is_ok();
        if let Some(change) = health.note(&self.kek, found.as_ref(), SystemTime::now()) {
            self.tell(change, reason.as_deref().unwrap_or_default());
        }
        works
    }

    fn tell(&self, change: Change, reason: &str) {
        let KekRef { provider, kek } = &self.kek;
        let scope = self.scope.as_str();
        match (change.from, change.to) {
            (None, State::Works) => {
                tracing::info!(provider, kek, "a key encryption key works");
            }
            (Some(_), State::Works) => {
                tracing::warn!(provider, kek, "a key encryption key works again");
            }
            (_, State::Unavailable) => {
                tracing::warn!(
                    provider,
                    kek,
                    scope,
                    reason,
                    "the provider of a key encryption key does not answer: what needs it and is not in memory fails"
                );
            }
            (_, State::Denied | State::Broken) => {
                tracing::error!(
                    provider,
                    kek,
                    scope,
                    reason,
                    "a key encryption key cannot be used: values of the scopes under it can be neither read nor written"
                );
            }
        }
    }
}
