//! Where sealed KEKs are kept: a small trait that the keystore implements, and one in memory for tests.

use std::{collections::BTreeMap, fmt, sync::Mutex};

use async_trait::async_trait;

use super::RootCheck;

/// One version of a KEK, sealed under the root key.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKek {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The KEK's id.
    pub kek: String,
    /// Its version, from 1.
    pub version: u32,
    /// What it may be used for.
    pub state: KekState,
    /// `nonce ‖ ciphertext ‖ tag`; empty once destroyed.
    pub sealed: Vec<u8>,
}

impl fmt::Debug for SealedKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedKek")
            .field("provider", &self.provider)
            .field("kek", &self.kek)
            .field("version", &self.version)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// The states of a KEK version; the same words as a DEK's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KekState {
    /// Wraps and unwraps.
    Active,
    /// Unwraps only.
    DecryptOnly,
    /// Gone for good.
    Destroyed,
}

/// A shared place for sealed KEKs. Every method sees what any replica has committed.
#[async_trait]
pub trait KekStore: Send + Sync + fmt::Debug {
    /// The check value of the root key that this provider's KEKs are sealed under, if there are any.
    async fn root_check(&self, provider: &str) -> Result<Option<RootCheck>, KekStoreError>;

    /// Stores `check` if the provider has none yet; answers the one that is stored afterwards.
    async fn adopt_root(
        &self,
        provider: &str,
        check: &RootCheck,
    ) -> Result<RootCheck, KekStoreError>;

    /// The highest version of a KEK, in whatever state.
    async fn newest(&self, provider: &str, kek: &str) -> Result<Option<SealedKek>, KekStoreError>;

    /// One version of a KEK, in whatever state.
    async fn version(
        &self,
        provider: &str,
        kek: &str,
        version: u32,
    ) -> Result<Option<SealedKek>, KekStoreError>;

    /// Stores a KEK unless that version exists; answers, once committed, the one that is stored.
    async fn insert(&self, kek: SealedKek) -> Result<SealedKek, KekStoreError>;
}

/// The store did not answer, or not with a KEK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store of local key encryption keys: {reason}")]
pub struct KekStoreError {
    /// What happened.
    pub reason: String,
}

/// A store that lives as long as the process: for tests, and for checking a root key file before there is a keystore.
#[derive(Debug, Default)]
pub struct MemoryKekStore(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    roots: BTreeMap<String, RootCheck>,
    keks: BTreeMap<(String, String, u32), SealedKek>,
}

impl MemoryKekStore {
    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Changes a stored version's state, as an administrator would.
    pub fn set_state(&self, provider: &str, kek: &str, version: u32, state: KekState) {
        if let Some(kek) = self
            .lock()
            .keks
            .get_mut(&(provider.to_owned(), kek.to_owned(), version))
        {
            kek.state = state;
        }
    }
}

#[async_trait]
impl KekStore for MemoryKekStore {
    async fn root_check(&self, provider: &str) -> Result<Option<RootCheck>, KekStoreError> {
        Ok(self.lock().roots.get(provider).copied())
    }

    async fn adopt_root(
        &self,
        provider: &str,
        check: &RootCheck,
    ) -> Result<RootCheck, KekStoreError> {
        Ok(*self
            .lock()
            .roots
            .entry(provider.to_owned())
            .or_insert(*check))
    }

    async fn newest(&self, provider: &str, kek: &str) -> Result<Option<SealedKek>, KekStoreError> {
        let memory = self.lock();
        Ok(memory
            .keks
            .values()
            .rfind(|k| k.provider == provider && k.kek == kek)
            .cloned())
    }

    async fn version(
        &self,
        provider: &str,
        kek: &str,
        version: u32,
    ) -> Result<Option<SealedKek>, KekStoreError> {
        Ok(self
            .lock()
            .keks
            .get(&(provider.to_owned(), kek.to_owned(), version))
            .cloned())
    }

    async fn insert(&self, kek: SealedKek) -> Result<SealedKek, KekStoreError> {
        let id = (kek.provider.clone(), kek.kek.clone(), kek.version);
        Ok(self.lock().keks.entry(id).or_insert(kek).clone())
    }
}
