//! The keys of scopes: found in the cache, or unwrapped, or made on first use. The one door to unwrapped keys.
//!
//! It does not seal values, does not rotate, and does not decide which scope a value belongs to.

mod make;

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use pgveil_config::{
    ScopePath, Settings,
    settings::{self, Failure},
};
use pgveil_providers::{KeyProvider, Providers, WrapContext};
use zeroize::Zeroizing;

use crate::{
    Clock, DataKey, DekId, IndexKey, KeyError, Purpose, Scopes, binding,
    cache::{Cache, Life, MAX_ENTRIES},
    key::KEY_BYTES,
    keystore::{KeyRecord, KeyState, KeyTable},
    usage::Usage,
};

/// A key as bytes, for as short as it takes to expand it.
type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// The keys of all scopes. Shared by all sessions; callers keep what it hands out for one statement, not longer,
/// because a key lives in memory only as long as the cache's TTL and those who hold it.
#[derive(Debug)]
pub struct Keys {
    table: Arc<dyn KeyTable>,
    providers: Providers,
    /// Which KEK wraps a scope's new keys, and what happens while its provider is away.
    scopes: Scopes,
    stale_max: Duration,
    sealing: Cache<ScopePath, DataKey>,
    opening: Cache<DekId, DataKey>,
    index: Cache<ScopePath, IndexKey>,
    usages: DashMap<DekId, Arc<Usage>>,
}

impl Keys {
    /// Keys over a keystore (or another [`KeyTable`]) and the configured providers.
    pub fn new(
        table: Arc<dyn KeyTable>,
        providers: Providers,
        settings: &Settings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let scopes = Scopes::new(settings);
        Self::build(table, providers, scopes, settings.cache, clock)
    }

    fn build(
        table: Arc<dyn KeyTable>,
        providers: Providers,
        scopes: Scopes,
        cache: settings::Cache,
        clock: Arc<dyn Clock>,
    ) -> Self {
        if let Some(log) = table.log() {
            log.use_providers(&providers, &scopes.kek(&ScopePath::platform()));
        }
        Self {
            table,
            providers,
            scopes,
            stale_max: cache.stale_max,
            sealing: Cache::new(cache.ttl, MAX_ENTRIES, Arc::clone(&clock)),
            opening: Cache::new(cache.ttl, MAX_ENTRIES, Arc::clone(&clock)),
            index: Cache::new(cache.ttl, MAX_ENTRIES, clock),
            usages: DashMap::new(),
        }
    }

    /// The scope's active DEK, if it is in memory. Never waits.
    pub fn cached_sealing_key(&self, scope: &ScopePath) -> Option<Arc<DataKey>> {
        self.sealing.get(scope)
    }

    /// A DEK by the id in a sealed value, if it is in memory. Never waits.
    pub fn cached_opening_key(&self, id: DekId) -> Option<Arc<DataKey>> {
        self.opening.get(&id)
    }

    /// The scope's index key, if it is in memory. Never waits.
    pub fn cached_index_key(&self, scope: &ScopePath) -> Option<Arc<IndexKey>> {
        self.index.get(scope)
    }

    /// The scope's active DEK; made now if the scope has none.
    pub async fn sealing_key(&self, scope: &ScopePath) -> Result<Arc<DataKey>, KeyError> {
        self.sealing
            .get_or_load(scope, || self.load_sealing(scope), |_| self.stale(scope))
            .await
    }

    /// A DEK by the id in a sealed value, active or retired. Never makes one.
    pub async fn opening_key(&self, id: DekId) -> Result<Arc<DataKey>, KeyError> {
        self.opening
            .get_or_load(&id, || self.load_opening(id), |key| self.stale(key.scope()))
            .await
    }

    /// The scope's index key; made now if the scope has none.
    pub async fn index_key(&self, scope: &ScopePath) -> Result<Arc<IndexKey>, KeyError> {
        self.index
            .get_or_load(scope, || self.load_index(scope), |_| self.stale(scope))
            .await
    }

    /// How long past its time a scope's key may be used while its provider is away.
    fn stale(&self, scope: &ScopePath) -> Duration {
        match self.scopes.failure(scope) {
            Failure::Closed => Duration::ZERO,
            Failure::Open => self.stale_max,
        }
    }

    /// Lets go of all keys of a scope: its provider said no.
    fn forget(&self, scope: &str) {
        self.sealing.forget(|held, _| held.as_str() == scope);
        self.opening.forget(|_, key| key.scope().as_str() == scope);
        self.index.forget(|held, _| held.as_str() == scope);
    }

    /// Lets go of what has expired. The proxy calls it every few seconds, so that keys leave memory when nobody asks for them.
    pub fn sweep(&self) {
        self.sealing.sweep();
        self.opening.sweep();
        self.index.sweep();
    }

    /// Lets go of every key.
    pub fn clear(&self) {
        self.sealing.clear();
        self.opening.clear();
        self.index.clear();
    }

    /// How many keys are held (those that no sweep has dropped yet included).
    pub fn held(&self) -> usize {
        self.sealing.len() + self.opening.len() + self.index.len()
    }

    /// Reports to the keystore how many values were sealed. The proxy calls it every minute or so and when it drains;
    /// what was not reported when a process dies is not counted.
    pub async fn flush_usage(&self) -> Result<(), KeyError> {
        let counts: Vec<_> = self
            .usages
            .iter()
            .map(|entry| (*entry.key(), Arc::clone(entry.value())))
            .collect();
        for (id, usage) in counts {
            let uses = usage.unflushed();
            if uses > 0 {
                // Marked afterwards: what goes wrong in between makes the count too high, never too low.
                self.table.add_uses(id.0, uses).await?;
                usage.flushed(uses);
            }
            drop(usage);
            // Only the map knows it, and the keystore knows all of it.
            self.usages.remove_if(&id, |_, usage| {
                Arc::strong_count(usage) == 1 && usage.unflushed() == 0
            });
        }
        Ok(())
    }

    async fn load_sealing(&self, scope: &ScopePath) -> Result<Arc<DataKey>, KeyError> {
        let expires = self.opening.expiry();
        let (record, key) = self.active(scope, Purpose::Data).await?;
        let key = self.data_key(&record, scope.clone(), &key);
        let stale = self.stale(scope);
        self.opening
            .insert(key.id(), Arc::clone(&key), Life { expires, stale });
        Ok(key)
    }

    async fn load_opening(&self, id: DekId) -> Result<Arc<DataKey>, KeyError> {
        let record = self
            .table
            .data_key(id.0)
            .await?
            .ok_or(KeyError::NotFound { id })?;
        let scope = ScopePath::parse(&record.scope).map_err(|error| KeyError::Damaged {
            id: id.0,
            reason: format!("its scope is no scope: {error}"),
        })?;
        let key = self.unwrap(&record).await?;
        Ok(self.data_key(&record, scope, &key))
    }

    async fn load_index(&self, scope: &ScopePath) -> Result<Arc<IndexKey>, KeyError> {
        let (_, key) = self.active(scope, Purpose::Index).await?;
        Ok(Arc::new(IndexKey::new(&key)))
    }

    fn data_key(&self, record: &KeyRecord, scope: ScopePath, key: &KeyBytes) -> Arc<DataKey> {
        let id = DekId(record.id);
        let usage = Arc::clone(
            &self
                .usages
                .entry(id)
                .or_insert_with(|| Arc::new(Usage::new(record.uses))),
        );
        usage.observe(record.uses);
        Arc::new(DataKey::new(id, scope, key, usage))
    }

    /// The scope's active key, unwrapped; made now if there is none.
    async fn active(
        &self,
        scope: &ScopePath,
        purpose: Purpose,
    ) -> Result<(KeyRecord, KeyBytes), KeyError> {
        let record = match self.table.active(scope.as_str(), purpose).await? {
            Some(record) => record,
            None => self.make(scope, purpose).await?,
        };
        if record.scope != scope.as_str()
            || record.purpose != purpose
            || record.state != KeyState::Active
        {
            return Err(KeyError::Damaged {
                id: record.id,
                reason: "it is not the key that was asked for".to_owned(),
            });
        }
        let key = self.unwrap(&record).await?;
        Ok((record, key))
    }

    async fn unwrap(&self, record: &KeyRecord) -> Result<KeyBytes, KeyError> {
        if record.scope_sealed {
            return Err(KeyError::ScopeSealed {
                scope: record.scope.clone(),
            });
        }
        if record.state == KeyState::Destroyed {
            return Err(KeyError::Destroyed { id: record.id });
        }
        let provider = self.provider(record.id, &record.provider)?;
        let context = WrapContext {
            scope: record.scope.clone(),
            key_id: record.id,
            purpose: record.purpose.as_str(),
        };
        let payload = provider
            .unwrap(&record.kek, &record.wrapped, &context)
            .await
            .map_err(|error| KeyError::from_provider(&error, &record.scope, record.id));
        if matches!(payload, Err(KeyError::Denied { .. })) {
            self.forget(&record.scope);
        }
        let payload = payload?;
        binding::key(&payload, &context).ok_or_else(|| KeyError::Damaged {
            id: record.id,
            reason: "it was wrapped for another key, scope or purpose".to_owned(),
        })
    }

    fn provider(&self, id: u64, name: &str) -> Result<&Arc<dyn KeyProvider>, KeyError> {
        self.providers
            .get(name)
            .ok_or_else(|| KeyError::ProviderMissing {
                id,
                provider: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests;
