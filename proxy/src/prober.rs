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
use pgveil_providers::jitter;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};

/// Between looks at a KEK that works.
const WHILE_IT_WORKS: Duration = Duration::from_mins(1);
/// Between looks at one that does not.
const WHILE_IT_DOES_NOT: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile whether statements meet a KEK that does not work after all.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);
/// One look in so many wraps and unwraps; the others only ask how the KEK is. Providers charge for each call.
const ROUND_TRIP_EVERY: u32 = 10;
/// Looks at the same time.
const MAX_AT_ONCE: usize = 8;

/// How often it is asked which KEKs are in use: scopes get others at run time.
const USES_EVERY: Duration = Duration::from_secs(10);

/// A KEK, and one scope that uses it.
struct Watched {
    kek: KekRef,
    scope: ScopePath,
    keys: Arc<Keys>,
}

/// Looks until it is dropped.
pub(crate) async fn run(keys: Arc<Keys>, health: Arc<Health>) {
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
            let Some(scope) = levels.first() else {
                continue;
            };
            let watched = Watched {
                scope: scope.clone(),
                keys: Arc::clone(&keys),
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
            let found = self.look(until_round_trip == 0, &health).await;
            drop(permit);
            let (pause, left) = match (found, until_round_trip) {
                (Some(was_made), 0) if !was_made => (WHILE_IT_WORKS, 0),
                (Some(_), 0) => (WHILE_IT_WORKS, ROUND_TRIP_EVERY - 1),
                (Some(_), left) => (WHILE_IT_WORKS, left - 1),
                (None, _) => (WHILE_IT_DOES_NOT, 0),
            };
            until_round_trip = left;
            let pause = pause + jitter(pause / 10);
            if found.is_none() {
                tokio::time::sleep(pause).await;
            } else if tokio::time::timeout(pause, self.refused()).await.is_ok() {
                until_round_trip = 0;
            }
        }
    }

    /// Until statements that need the KEK are refused, but no sooner than a KEK is looked at that does not work: what is
    /// refused may be another use of it than the one that was looked at.
    async fn refused(&self) {
        tokio::time::sleep(WHILE_IT_DOES_NOT).await;
        while !self.keys.refuses(&self.kek) {
            tokio::time::sleep(NOTICED_WITHIN).await;
        }
    }

    /// Whether it was made already, if it works.
    async fn look(&self, round_trip: bool, health: &Health) -> Option<bool> {
        let found = self.keys.look(&self.kek, &self.scope, round_trip).await;
        let reason = found.as_ref().err().map(ToString::to_string);
        let was_made = found.as_ref().ok().map(|found| found.info.is_made);
        if let Some(change) = health.note(&self.kek, found.as_ref(), SystemTime::now()) {
            self.tell(change, reason.as_deref().unwrap_or_default());
        }
        was_made
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
