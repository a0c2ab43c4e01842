//! Where keys of the local KMS are kept: a small trait that the keystore implements, and one in memory for tests. Nothing is
//! unsealed or verified here.

use std::{collections::BTreeMap, fmt, sync::Mutex};

use async_trait::async_trait;

use super::{Grant, RootCheck};

/// A key's record as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key's id.
    pub name: String,
    /// Counts the changes of the record, from 1.
    pub revision: u64,
    /// The record: JSON text.
    pub record: String,
    /// Over provider, name, revision and record, under the root key.
    pub mac: Vec<u8>,
    /// Whether the store has a record of a later revision than this one: then somebody put this one back.
    pub is_superseded: bool,
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("name", &self.name)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// A change of one key: all of it happens, or nothing.
#[derive(Debug)]
pub struct KeyChange {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The new record. Its revision follows that of the stored one; 1 is for a key that is not there.
    pub key: StoredKey,
    /// When the key is to be rotated (seconds since 1970), as a hint where to look: the record says it too.
    pub rotate_at: Option<u64>,
    /// What becomes of key material.
    pub material: MaterialChange,
    /// What is done, for whoever keeps a record of it.
    pub deed: Deed,
    /// By whom, as the record of the key has it.
    pub by: String,
}

/// What is done to a key, with all that whoever reads of it later must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is made, because somebody asked for it, and this is granted from the start.
    Create(Vec<Grant>),
    /// It is made by pgveil, which needs it.
    Service,
    /// A key from before there were records gets one.
    Adopt,
    /// It gets a new default version.
    Rotate,
    /// It gets a new default version because its time has come.
    RotateDue,
    /// It rotates by itself every so many days, or not any more.
    Schedule(Option<u16>),
    /// A version that was disabled may be used again.
    EnableVersion(u32),
    /// Nobody uses a version until it is enabled again.
    DisableVersion(u32),
    /// A key that was deactivated may be used again.
    Activate,
    /// Nobody uses any version of it until it is activated again.
    Deactivate,
    /// Operations are granted, in place of those that whoever it is had before.
    Grant {
        /// What is granted, and to whom.
        grant: Grant,
        /// What was.
        before: Option<Grant>,
    },
    /// All that was granted is taken away; there may have been nothing.
    Revoke {
        /// From whom; without operations.
        from: Grant,
        /// What was.
        before: Option<Grant>,
    },
    /// A version's material is erased.
    DestroyVersion(u32),
    /// It is deleted.
    Delete,
}

impl Deed {
    /// As records spell it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Service => "create-service-key",
            Self::Adopt => "adopt",
            Self::Rotate => "rotate",
            Self::RotateDue => "rotate-due",
            Self::Schedule(_) => "schedule",
            Self::EnableVersion(_) => "enable-version",
            Self::DisableVersion(_) => "disable-version",
            Self::Activate => "activate",
            Self::Deactivate => "deactivate",
            Self::Grant { .. } => "grant",
            Self::Revoke { .. } => "revoke",
            Self::DestroyVersion(_) => "destroy-version",
            Self::Delete => "delete",
        }
    }
}

/// What becomes of a key's material.
pub enum MaterialChange {
    /// Nothing.
    Keep,
    /// A version's material, sealed under the root key.
    Put(u32, Vec<u8>),
    /// A version's material is erased.
    Erase(u32),
}

impl fmt::Debug for MaterialChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("Keep"),
            Self::Put(version, _) => write!(f, "Put({version}, ..)"),
            Self::Erase(version) => write!(f, "Erase({version})"),
        }
    }
}

/// A shared place for the keys of local providers. Every method sees what any replica has committed.
#[async_trait]
pub trait KekStore: Send + Sync + fmt::Debug {
    /// The check value of the root key that this provider's keys are sealed under, if there are any.
    async fn root_check(&self, provider: &str) -> Result<Option<RootCheck>, KekStoreError>;

    /// Stores `check` if the provider has none yet; answers the one that is stored afterwards.
    async fn adopt_root(
        &self,
        provider: &str,
        check: &RootCheck,
    ) -> Result<RootCheck, KekStoreError>;

    /// Seconds since 1970, by the clock that all replicas share.
    async fn now(&self) -> Result<u64, KekStoreError>;

    /// A key's record.
    async fn key(&self, provider: &str, name: &str) -> Result<Option<StoredKey>, KekStoreError>;

    /// Records in the order of names, those behind `after`, at most `limit`.
    async fn keys(
        &self,
        provider: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<StoredKey>, KekStoreError>;

    /// Names of keys whose time to be rotated has come, at most `limit`.
    async fn due(&self, provider: &str, now: u64, limit: u32)
    -> Result<Vec<String>, KekStoreError>;

    /// A version's material, sealed under the root key; nothing, if it is not there or erased.
    async fn material(
        &self,
        provider: &str,
        name: &str,
        version: u32,
    ) -> Result<Option<Vec<u8>>, KekStoreError>;

    /// Makes a change unless the stored revision is another than the one before it; answers whether it was made, once
    /// that is committed.
    async fn change(&self, change: &KeyChange) -> Result<bool, KekStoreError>;
}

/// The store did not answer, or not with a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store of local keys: {reason}")]
pub struct KekStoreError {
    /// What happened.
    pub reason: String,
}

/// A store that lives as long as the process: for tests, and for checking a root key file before there is a keystore.
/// Its clock stands still until it is set.
#[derive(Debug, Default)]
pub struct MemoryKekStore(Mutex<Memory>);

/// Everything in it. Tests look at it and alter it, as a superuser of the database could.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Check values by provider.
    pub roots: BTreeMap<String, RootCheck>,
    /// Records by provider and name.
    pub keys: BTreeMap<(String, String), StoredKey>,
    /// When keys are to be rotated.
    pub rotate_at: BTreeMap<(String, String), u64>,
    /// Sealed material by provider, name and version.
    pub material: BTreeMap<(String, String, u32), Vec<u8>>,
    /// Seconds since 1970.
    pub now: u64,
}

impl MemoryKekStore {
    /// Looks at everything, or alters it.
    pub fn alter<T>(&self, alter: impl FnOnce(&mut Memory) -> T) -> T {
        alter(&mut self.0.lock().expect("no holder of this lock panics"))
    }
}

#[async_trait]
impl KekStore for MemoryKekStore {
    async fn root_check(&self, provider: &str) -> Result<Option<RootCheck>, KekStoreError> {
        Ok(self.alter(|memory| memory.roots.get(provider).copied()))
    }

    async fn adopt_root(
        &self,
        provider: &str,
        check: &RootCheck,
    ) -> Result<RootCheck, KekStoreError> {
        Ok(self.alter(|memory| *memory.roots.entry(provider.to_owned()).or_insert(*check)))
    }

    async fn now(&self) -> Result<u64, KekStoreError> {
        Ok(self.alter(|memory| memory.now))
    }

    async fn key(&self, provider: &str, name: &str) -> Result<Option<StoredKey>, KekStoreError> {
        let id = (provider.to_owned(), name.to_owned());
        Ok(self.alter(|memory| memory.keys.get(&id).cloned()))
    }

    async fn keys(
        &self,
        provider: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<StoredKey>, KekStoreError> {
        Ok(self.alter(|memory| {
            let ours = memory.keys.iter().filter(|((of, _), _)| of == provider);
            let behind = ours.filter(|((_, name), _)| name.as_str() > after);
            behind
                .take(limit as usize)
                .map(|(_, key)| key.clone())
                .collect()
        }))
    }

    async fn due(
        &self,
        provider: &str,
        now: u64,
        limit: u32,
    ) -> Result<Vec<String>, KekStoreError> {
        Ok(self.alter(|memory| {
            let ours = memory
                .rotate_at
                .iter()
                .filter(|((of, _), at)| of == provider && **at <= now);
            ours.take(limit as usize)
                .map(|((_, name), _)| name.clone())
                .collect()
        }))
    }

    async fn material(
        &self,
        provider: &str,
        name: &str,
        version: u32,
    ) -> Result<Option<Vec<u8>>, KekStoreError> {
        let id = (provider.to_owned(), name.to_owned(), version);
        Ok(self.alter(|memory| memory.material.get(&id).cloned()))
    }

    async fn change(&self, change: &KeyChange) -> Result<bool, KekStoreError> {
        let KeyChange {
            provider,
            key,
            rotate_at,
            material,
            ..
        } = change;
        let id = (provider.clone(), key.name.clone());
        Ok(self.alter(|memory| {
            let stored = memory.keys.get(&id).map_or(0, |stored| stored.revision);
            if stored + 1 != key.revision {
                return false;
            }
            memory.keys.insert(id.clone(), key.clone());
            match rotate_at {
                Some(at) => memory.rotate_at.insert(id.clone(), *at),
                None => memory.rotate_at.remove(&id),
            };
            match material {
                MaterialChange::Keep => {}
                MaterialChange::Put(version, sealed) => {
                    memory
                        .material
                        .insert((id.0, id.1, *version), sealed.clone());
                }
                MaterialChange::Erase(version) => {
                    memory.material.remove(&(id.0, id.1, *version));
                }
            }
            true
        }))
    }
}
