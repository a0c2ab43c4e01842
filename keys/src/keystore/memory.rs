//! Table `pgveil.keys` in memory, for tests of what stands above the keystore. It behaves as the one in Postgres does.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use async_trait::async_trait;

use super::{KeyRecord, KeyState, KeyTable, KeystoreError, NewKey, Rewrapped};
use crate::{Purpose, step_up::Authority};

/// A table that lives as long as the process, without an audit log: for tests of what stands above it, and for who asks
/// providers and keeps no key.
#[derive(Debug, Default)]
pub struct MemoryKeyTable(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    last_id: u64,
    keys: BTreeMap<u64, KeyRecord>,
}

impl MemoryKeyTable {
    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Changes a row, as an administrator or an attacker would.
    pub fn edit(&self, id: u64, change: impl FnOnce(&mut KeyRecord)) {
        if let Some(record) = self.lock().keys.get_mut(&id) {
            change(record);
        }
    }

    /// All rows, by id.
    pub fn rows(&self) -> Vec<KeyRecord> {
        self.lock().keys.values().cloned().collect()
    }
}

#[async_trait]
impl KeyTable for MemoryKeyTable {
    async fn next_id(&self) -> Result<u64, KeystoreError> {
        let mut memory = self.lock();
        memory.last_id += 1;
        Ok(memory.last_id)
    }

    async fn active(
        &self,
        scope: &str,
        purpose: Purpose,
    ) -> Result<Option<KeyRecord>, KeystoreError> {
        let memory = self.lock();
        let is_active = |k: &&KeyRecord| {
            k.scope == scope && k.purpose == purpose && k.state == KeyState::Active
        };
        Ok(memory.keys.values().find(is_active).cloned())
    }

    async fn index_key(
        &self,
        scope: &str,
        newest: u64,
    ) -> Result<Option<KeyRecord>, KeystoreError> {
        let memory = self.lock();
        let of = |k: &&KeyRecord| {
            k.scope == scope && k.purpose == Purpose::Index && k.state != KeyState::Destroyed
        };
        let mut keys = memory.keys.values().filter(of);
        let meant = { keys.clone() }.rfind(|k| k.id <= newest);
        Ok(meant.or_else(|| keys.next()).cloned())
    }

    async fn data_key(&self, id: u64) -> Result<Option<KeyRecord>, KeystoreError> {
        Ok(self
            .lock()
            .keys
            .get(&id)
            .filter(|k| k.purpose == Purpose::Data)
            .cloned())
    }

    async fn data_keys(&self, ids: &[u64]) -> Result<Vec<KeyRecord>, KeystoreError> {
        let memory = self.lock();
        let found = ids.iter().filter_map(|id| memory.keys.get(id));
        let data = found.filter(|k| k.purpose == Purpose::Data);
        Ok(data.cloned().collect())
    }

    async fn offer(&self, key: &NewKey) -> Result<(), KeystoreError> {
        let mut memory = self.lock();
        if !memory.of(key).any(|k| k.state == KeyState::Active) {
            memory.add(key);
        }
        Ok(())
    }

    async fn replace(
        &self,
        retiring: u64,
        key: &NewKey,
        _: Authority<'_>,
    ) -> Result<(), KeystoreError> {
        let mut memory = self.lock();
        let Some(old) = memory.keys.get_mut(&retiring) else {
            return Ok(());
        };
        if old.state == KeyState::Active && old.scope == key.scope && old.purpose == key.purpose {
            old.state = KeyState::DecryptOnly;
            memory.add(key);
        }
        Ok(())
    }

    async fn lease(&self, id: u64, uses: u64, limit: u64) -> Result<Option<u64>, KeystoreError> {
        let mut memory = self.lock();
        let record = memory.keys.get_mut(&id);
        Ok(record
            .filter(|k| k.state == KeyState::Active && k.uses + uses <= limit)
            .map(|k| {
                k.uses += uses;
                k.uses
            }))
    }

    async fn records(&self, after: u64) -> Result<Vec<KeyRecord>, KeystoreError> {
        let memory = self.lock();
        let later = memory.keys.range(after + 1..);
        Ok(later.map(|(_, record)| record.clone()).take(1000).collect())
    }

    async fn rewrapped(&self, keys: &[Rewrapped]) -> Result<u64, KeystoreError> {
        let mut memory = self.lock();
        let mut stored = 0;
        for Rewrapped { was, kek, wrapped } in keys {
            let record = memory.keys.get_mut(&was.id);
            if let Some(record) = record.filter(|k| k.wrapped == was.wrapped) {
                record.provider.clone_from(&kek.provider);
                record.kek.clone_from(&kek.kek);
                record.wrapped = wrapped.clone();
                stored += 1;
            }
        }
        Ok(stored)
    }
}

impl Memory {
    fn of(&self, key: &NewKey) -> impl Iterator<Item = &KeyRecord> {
        let of = |k: &&KeyRecord| k.scope == key.scope && k.purpose == key.purpose;
        self.keys.values().filter(of)
    }

    fn add(&mut self, key: &NewKey) {
        let record = KeyRecord {
            id: key.id,
            scope: key.scope.clone(),
            purpose: key.purpose,
            epoch: 1 + self.of(key).map(|k| k.epoch).max().unwrap_or(0),
            state: KeyState::Active,
            scope_sealed: false,
            provider: key.provider.clone(),
            kek: key.kek.clone(),
            wrapped: key.wrapped.clone(),
            uses: 0,
            record: 0,
            age: Duration::ZERO,
        };
        self.keys.entry(key.id).or_insert(record);
    }
}
