//! Table `pgveil.keys` in memory, for tests of what stands above the keystore. It behaves as the one in Postgres does.

use std::{collections::BTreeMap, sync::Mutex};

use async_trait::async_trait;

use super::{KeyRecord, KeyState, KeyTable, KeystoreError, NewKey};
use crate::Purpose;

/// A table that lives as long as the process: for tests of what stands above it.
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
    pub fn records(&self) -> Vec<KeyRecord> {
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

    async fn data_key(&self, id: u64) -> Result<Option<KeyRecord>, KeystoreError> {
        Ok(self
            .lock()
            .keys
            .get(&id)
            .filter(|k| k.purpose == Purpose::Data)
            .cloned())
    }

    async fn offer(&self, key: &NewKey) -> Result<(), KeystoreError> {
        let mut memory = self.lock();
        let same: Vec<_> = memory
            .keys
            .values()
            .filter(|k| k.scope == key.scope && k.purpose == key.purpose)
            .collect();
        if same.iter().any(|k| k.state == KeyState::Active) {
            return Ok(());
        }
        let record = KeyRecord {
            id: key.id,
            scope: key.scope.clone(),
            purpose: key.purpose,
            epoch: 1 + same.iter().map(|k| k.epoch).max().unwrap_or(0),
            state: KeyState::Active,
            scope_sealed: false,
            provider: key.provider.clone(),
            kek: key.kek.clone(),
            wrapped: key.wrapped.clone(),
            uses: 0,
        };
        memory.keys.entry(key.id).or_insert(record);
        Ok(())
    }

    async fn add_uses(&self, id: u64, uses: u64) -> Result<u64, KeystoreError> {
        let mut memory = self.lock();
        let record = memory
            .keys
            .get_mut(&id)
            .ok_or_else(|| KeystoreError::Damaged {
                table: "pgveil.keys",
                reason: "a key in use is gone".to_owned(),
            })?;
        record.uses += uses;
        Ok(record.uses)
    }
}
