//! How long a DEK seals: leasing its uses, and replacing it before it is used up or its epoch ends. Values that it sealed
//! are not touched.

use std::{collections::HashSet, sync::Arc, time::Duration};

use pgveil_config::ScopePath;
use tokio::task::JoinSet;

use super::Keys;
use crate::{
    DataKey, DekId, KeyError, Purpose,
    keystore::{KeyRecord, KeyState, KeystoreError, NewKey},
    rewrap::RewrapError,
    step_up::Authority,
};

/// After a DEK could not be replaced ahead of time, the next attempt.
const PAUSE: Duration = Duration::from_secs(30);
/// DEKs replaced ahead of time in one round: what is due later waits for the next.
const AT_ONCE: usize = 64;

/// DEKs that are replaced in one transaction.
pub(crate) const STORED_AT_ONCE: usize = 100;
/// New keys for which a provider is asked side by side.
const WRAPPED_AT_ONCE: usize = 16;
/// Scopes whose next DEK cannot be stored before it is believed that none can.
const MAX_IN_THE_WAY: usize = 16;

/// What came of making the next DEKs of many scopes.
#[derive(Default)]
pub(crate) struct Replaced {
    /// How many were still active.
    count: u64,
    /// Those that could not be stored, while the others are.
    in_the_way: Vec<RewrapError>,
}

impl Replaced {
    /// Adds a batch.
    ///
    /// # Errors
    /// If too many could not be stored.
    pub(crate) fn add(&mut self, batch: Self) -> Result<(), RewrapError> {
        self.count += batch.count;
        self.in_the_way.extend(batch.in_the_way);
        match self.in_the_way.len() {
            ..=MAX_IN_THE_WAY => Ok(()),
            _ => Err(self.in_the_way.swap_remove(0)),
        }
    }

    /// How many were replaced.
    ///
    /// # Errors
    /// If one could not be stored: the first of them. All others are.
    pub(crate) fn all(mut self) -> Result<u64, RewrapError> {
        if self.in_the_way.is_empty() {
            return Ok(self.count);
        }
        Err(self.in_the_way.swap_remove(0))
    }
}

/// Which lease the caller asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// Something is left to seal with.
    Any,
    /// More than half a block is left.
    Ahead,
}

impl Keys {
    /// Sees that a DEK has uses left. False: it has none and gets none, because it is used up or not active any more.
    pub(super) async fn lease(&self, key: &DataKey, wanted: Lease) -> Result<bool, KeyError> {
        let usage = &key.usage;
        let enough = || usage.has_lease() && (wanted == Lease::Any || !usage.is_low());
        if enough() {
            return Ok(true);
        }
        let _leasing = usage.leasing.lock().await;
        if enough() {
            return Ok(true);
        }
        let limit = key.term.max_usage;
        let block = usage.next_block(limit);
        let Some(total) = self.table.lease(key.id().0, block, limit).await? else {
            return Ok(false);
        };
        usage.grant(block, total);
        Ok(true)
    }

    /// Makes the scope's next DEK, unless another replica did, and lets go of this one as the one that seals.
    pub(super) async fn replace(&self, key: &DataKey) -> Result<(), KeyError> {
        let scope = key.scope();
        let active = self.table.active(scope.as_str(), Purpose::Data).await?;
        // None: it was retired by hand. Another one: another replica was faster.
        if active.is_some_and(|active| active.id == key.id().0) {
            let retiring = Some((key.id().0, Authority::Automatic));
            self.make(scope, Purpose::Data, retiring).await?;
        }
        let replaced = key.id();
        self.sealing
            .forget(|held, key| held == scope && key.id() == replaced);
        Ok(())
    }

    /// The scope's active DEK, if its id is not below `horizon`; otherwise its next one is made first, unless another replica
    /// did: for jobs, which bring values to keys that were made after them.
    pub async fn sealing_key_since(
        &self,
        scope: &ScopePath,
        horizon: DekId,
    ) -> Result<Arc<DataKey>, KeyError> {
        for _ in 0..4 {
            let key = self.sealing_key(scope).await?;
            if key.id() >= horizon {
                return Ok(key);
            }
            self.replace(&key).await?;
        }
        Err(KeyError::Busy {
            scope: scope.to_string(),
        })
    }

    /// Replaces a scope's index key, if it is one from before `horizon`, unless another replica did. Columns go over to the new
    /// one when they are described so; until then the one before makes their terms.
    pub async fn index_key_since(&self, scope: &ScopePath, horizon: u64) -> Result<(), KeyError> {
        for _ in 0..4 {
            let active = self.table.active(scope.as_str(), Purpose::Index).await?;
            let Some(active) = active.filter(|active| active.id < horizon) else {
                return Ok(());
            };
            let retiring = Some((active.id, Authority::Automatic));
            self.make(scope, Purpose::Index, retiring).await?;
        }
        Err(KeyError::Busy {
            scope: scope.to_string(),
        })
    }

    /// The ids of the keys that are held as active ones.
    pub(crate) fn held_to_seal(&self) -> Vec<u64> {
        let held = self.sealing.values();
        held.iter().map(|key| key.id().0).collect()
    }

    /// Lets go of keys as active ones: others have replaced them.
    pub(crate) fn seal_no_more(&self, ids: &HashSet<u64>) {
        self.sealing.forget(|_, key| ids.contains(&key.id().0));
    }

    /// Makes the scope's next DEK because somebody asks for it, and answers it; the one before opens only from now on. Running
    /// proxies follow when they lease again, within `cache.ttl` at the latest. `None`: the scope has no DEK.
    pub async fn rotate(
        &self,
        scope: &ScopePath,
        right: Authority<'_>,
    ) -> Result<Option<KeyRecord>, KeyError> {
        let Some(active) = self.table.active(scope.as_str(), Purpose::Data).await? else {
            return Ok(None);
        };
        let (made, _) = self
            .make(scope, Purpose::Data, Some((active.id, right)))
            .await?;
        self.sealing.forget(|held, _| held == scope);
        Ok(Some(made))
    }

    /// Makes the next DEKs of scopes whose active ones these are, because a period or a version has ended: wrapped side by side,
    /// stored and recorded in one transaction. One that cannot be stored is left out.
    ///
    /// # Errors
    /// If one cannot be wrapped, or the keystore is away. What was wrapped is stored where that can be done.
    pub(crate) async fn rotate_all(
        self: &Arc<Self>,
        due: Vec<(u64, ScopePath)>,
    ) -> Result<Replaced, RewrapError> {
        let ids = self.table.next_ids(due.len()).await?;
        let mut due = due.into_iter().zip(ids);
        let (mut under_way, mut made, mut failed) = (JoinSet::new(), Vec::new(), None);
        loop {
            while under_way.len() < WRAPPED_AT_ONCE && failed.is_none() {
                let Some(((retiring, scope), id)) = due.next() else {
                    break;
                };
                let keys = Arc::clone(self);
                under_way.spawn(async move {
                    let wrapped = keys.wrapped_key(id, &scope, Purpose::Data).await;
                    (retiring, scope, wrapped)
                });
            }
            match under_way.join_next().await {
                None => break,
                Some(Ok((retiring, scope, Ok((new, _))))) => made.push((retiring, scope, new)),
                Some(Ok((id, scope, Err(source)))) => {
                    let scope = scope.to_string();
                    failed.get_or_insert(RewrapError::Key { id, scope, source });
                }
                Some(Err(_)) => {
                    failed.get_or_insert(RewrapError::Stopped);
                }
            }
        }
        let replaced = self.store_all(made).await?;
        failed.map_or(Ok(replaced), Err)
    }

    /// Makes the next DEKs of the scopes that are wanted, where theirs is from before `horizon`, unless a scope is sealed. Answers
    /// how many were replaced.
    ///
    /// # Errors
    /// If one cannot be made. Those that are only not stored keep none of the others from it.
    pub async fn replace_before(
        self: &Arc<Self>,
        horizon: DekId,
        wanted: impl Fn(&ScopePath) -> bool,
    ) -> Result<u64, RewrapError> {
        let (mut after, mut replaced) = (0, Replaced::default());
        loop {
            let page = self.table.records(after).await?;
            let Some(last) = page.last() else {
                return replaced.all();
            };
            after = last.id;
            let due = page.into_iter().filter_map(|record| {
                let is_due = record.purpose == Purpose::Data
                    && record.state == KeyState::Active
                    && record.id < horizon.0
                    && !record.scope_sealed;
                let scope = ScopePath::parse(&record.scope).ok()?;
                (is_due && wanted(&scope)).then_some((record.id, scope))
            });
            let due: Vec<_> = due.collect();
            for batch in due.chunks(STORED_AT_ONCE) {
                replaced.add(self.rotate_all(batch.to_vec()).await?)?;
            }
        }
    }

    async fn store_all(
        &self,
        made: Vec<(u64, ScopePath, NewKey)>,
    ) -> Result<Replaced, RewrapError> {
        let (scopes, keys): (HashSet<ScopePath>, Vec<(u64, NewKey)>) = { made.into_iter() }
            .map(|(retiring, scope, new)| (scope, (retiring, new)))
            .unzip();
        if keys.is_empty() {
            return Ok(Replaced::default());
        }
        let replaced = match self.table.replace_all(&keys).await {
            Ok(count) => Ok(Replaced {
                count,
                in_the_way: Vec::new(),
            }),
            Err(error @ (KeystoreError::Unavailable { .. } | KeystoreError::LogKeyAway { .. })) => {
                Err(error.into())
            }
            // One of them is in the way of the others: which one is found out.
            Err(_) => self.store_each(&keys).await,
        };
        self.sealing.forget(|held, _| scopes.contains(held));
        replaced
    }

    async fn store_each(&self, keys: &[(u64, NewKey)]) -> Result<Replaced, RewrapError> {
        let mut replaced = Replaced::default();
        for (id, key) in keys {
            match self.table.replace_all(&[(*id, key.clone())]).await {
                Ok(count) => replaced.count += count,
                Err(
                    error @ (KeystoreError::Unavailable { .. } | KeystoreError::LogKeyAway { .. }),
                ) => return Err(error.into()),
                Err(error) if replaced.in_the_way.len() < MAX_IN_THE_WAY => {
                    replaced.in_the_way.push(RewrapError::Key {
                        id: *id,
                        scope: key.scope.clone(),
                        source: error.into(),
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(replaced)
    }

    /// Leases and makes ahead of time what will be needed soon. The proxy calls it every few seconds, so that no statement
    /// waits because a DEK, or a block of its uses, is used up.
    pub async fn renew(&self) {
        let now = self.clock.now();
        let mut replaced = 0;
        for key in self.sealing.values() {
            let scope = key.scope();
            let ends = key.term.ends.is_some_and(|ends| ends <= now);
            let done = if ends || key.usage.near(key.term.max_usage) {
                let postponed = self.postponed.get(scope).is_some_and(|until| now < *until);
                if postponed || replaced == AT_ONCE {
                    continue;
                }
                replaced += 1;
                self.replace(&key).await
            } else if key.usage.is_low() {
                self.lease(&key, Lease::Ahead).await.map(|_| ())
            } else {
                continue;
            };
            if let Err(error) = done {
                self.postponed.insert(scope.clone(), now + PAUSE);
                tracing::warn!(
                    scope = scope.as_str(),
                    %error,
                    "the scope's next data key could not be prepared; the present one goes on"
                );
            }
        }
    }
}
