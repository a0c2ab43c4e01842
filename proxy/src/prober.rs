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
/// One look in so many wraps and unwraps at least; the others only ask how the KEK is. Providers charge for each call.
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
        let mut is_first = true;
        loop {
            let Ok(permit) = permits.acquire().await else {
                return;
            };
            let found = self.look(until_round_trip == 0, &health).await;
            drop(permit);
            let (pause, left) = match (found, until_round_trip) {
                (Some(was_made), 0) if !was_made => (WHILE_IT_WORKS, 0),
                (Some(_), 0) => {
                    let (rank, count) = self.rank();
                    let left = looks_between(rank, count, is_first);
                    is_first = false;
                    (WHILE_IT_WORKS, left)
                }
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

    /// Which of its provider's KEKs in use it is, and of how many.
    fn rank(&self) -> (usize, usize) {
        let keks = self.keys.scopes().keks();
        let mut others = keks.iter().filter(|kek| kek.provider == self.kek.provider);
        let count = others.clone().count();
        let rank = others.position(|kek| *kek == self.kek);
        (rank.unwrap_or_default(), count)
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

/// How many looks only ask how a KEK is before one wraps and unwraps again: so that each provider is seen to wrap and unwrap at
/// every look, under one KEK after the other, and each KEK at every tenth.
fn looks_between(rank: usize, count: usize, is_first: bool) -> u32 {
    let every = u32::try_from(count)
        .unwrap_or(u32::MAX)
        .clamp(1, ROUND_TRIP_EVERY);
    if is_first {
        rank as u32 % every
    } else {
        every - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_is_seen_to_work_at_every_look_and_each_kek_at_every_tenth() {
        const LOOKS: u32 = 60;
        for count in [1, 2, 3, 10, 25] {
            let mut seen = vec![0; LOOKS as usize];
            for rank in 0..count {
                let (mut look, mut is_first) = (0, true);
                let mut last = 0;
                while look < LOOKS {
                    assert!(look - last <= ROUND_TRIP_EVERY, "{rank} of {count}");
                    seen[look as usize] += 1;
                    last = look;
                    look += 1 + looks_between(rank, count, is_first);
                    is_first = false;
                }
            }
            let fewest = seen.iter().min().copied().unwrap_or_default();
            assert_eq!(
                fewest,
                (count / ROUND_TRIP_EVERY as usize).max(1),
                "{count}"
            );
        }
    }
}
