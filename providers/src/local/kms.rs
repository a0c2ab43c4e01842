//! The local KMS: keys with versions, states, grants and rotation. Records are read, verified and written here; what is done to a
//! key is in `administer`, what is done with one in `work`.
//!
//! Nothing is cached: what a replica disables or destroys is not used by any other from then on. A record is authentic only
//! under the root key's MAC, and each process refuses a record older than one that it has seen.

mod administer;
mod error;
mod work;

use std::{collections::HashMap, fmt, path::Path, sync::Arc, sync::Mutex};

pub use administer::NewKey;
pub use error::KmsError;
pub use work::{Ciphertext, Signature, XksCiphertext};
pub(super) use work::{MAX_PLAINTEXT_BYTES, parse_version};

use super::{
    Caller, Deed, KekStore, Key, KeyChange, KeyState, MaterialChange, OpenError, Operation, Origin,
    RootKey, StoredKey, VersionState,
    joined::Joined,
    key::{self, Algorithm, Rotation, Usage},
    material::{self, Id, Material},
};
use crate::provider::push_prefixed;

const RECORD_LABEL: &[u8] = b"pgveil local record v1\0";
/// Ids of keys longer than this are refused.
const MAX_NAME_BYTES: usize = 255;
/// A record with the most versions and grants stays below it.
const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;
/// How often a change is tried again because others were faster.
const MAX_ATTEMPTS: usize = 8;
/// Keys whose last revision a process remembers. Those beyond are not guarded against older records of themselves.
const MAX_SEEN: usize = 65_536;

/// Keys under a root key.
pub struct LocalKms {
    name: String,
    root: RootKey,
    store: Arc<dyn KekStore>,
    /// The newest revision of each record that this process saw.
    seen: Mutex<HashMap<String, u64>>,
}

impl fmt::Debug for LocalKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKms")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl LocalKms {
    /// Reads the root key and refuses one that is not the one that sealed the keys already in the store. `name` is the
    /// provider's in the configuration.
    pub async fn open(
        name: &str,
        root_key_file: &Path,
        store: Arc<dyn KekStore>,
    ) -> Result<Self, OpenError> {
        let kms = Self {
            name: name.to_owned(),
            root: RootKey::read(root_key_file)?,
            store: Arc::new(Joined::new(store)),
            seen: Mutex::default(),
        };
        match kms.store.root_check(name).await? {
            Some(stored) if stored != kms.root.check() => Err(OpenError::AnotherRootKey {
                path: root_key_file.to_owned(),
            }),
            _ => Ok(kms),
        }
    }

    /// The provider's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn id<'a>(&'a self, name: &'a str, version: u32) -> Id<'a> {
        Id {
            provider: &self.name,
            name,
            version,
        }
    }

    /// A key, whoever asks; a key from before there were records gets its record now. Deleted keys are found, too.
    async fn load(&self, name: &str) -> Result<Option<Key>, KmsError> {
        if let Some(stored) = self.store.key(&self.name, name).await? {
            return self.verified(&stored).map(Some);
        }
        if self.seen().contains_key(name) {
            return Err(tampered(name, "it is gone"));
        }
        match self.store.material(&self.name, name, 1).await? {
            Some(sealed) => self.adopt(name, &sealed).await.map(Some),
            None => Ok(None),
        }
    }

    /// A key that exists: not there and deleted are the same to most.
    async fn existing(&self, name: &str) -> Result<Key, KmsError> {
        match self.load(name).await? {
            Some(key) if key.state != KeyState::Deleted => Ok(key),
            _ => Err(KmsError::NotFound {
                key: name.to_owned(),
            }),
        }
    }

    /// What stands in the store, if the root key's owner wrote it, and wrote it last as far as this process knows.
    fn verified(&self, stored: &StoredKey) -> Result<Key, KmsError> {
        let name = stored.name.as_str();
        if stored.record.len() > MAX_RECORD_BYTES {
            return Err(tampered(name, "it is too long"));
        }
        let authentic = self.authentic(name, stored.revision, &stored.record);
        if !self.root.made(&stored.mac, &authentic) {
            return Err(tampered(name, "its MAC is not of this record"));
        }
        if stored.is_superseded {
            let reason = format!(
                "it is revision {}, and later ones were there",
                stored.revision
            );
            return Err(tampered(name, &reason));
        }
        let mut key: Key = serde_json::from_str(&stored.record)
            .map_err(|error| tampered(name, &format!("it does not parse: {error}")))?;
        key.name = name.to_owned();
        key.revision = stored.revision;
        self.see(name, key.revision)?;
        Ok(key)
    }

    /// Notes a revision; refuses one older than a noted one.
    fn see(&self, name: &str, revision: u64) -> Result<(), KmsError> {
        let mut seen = self.seen();
        match seen.get_mut(name) {
            Some(last) if *last > revision => {
                let reason = format!("it is revision {revision}, and revision {last} was there");
                Err(tampered(name, &reason))
            }
            Some(last) => {
                *last = revision;
                Ok(())
            }
            None => {
                if seen.len() < MAX_SEEN {
                    seen.insert(name.to_owned(), revision);
                }
                Ok(())
            }
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<String, u64>> {
        self.seen.lock().expect("no holder of this lock panics")
    }

    /// What the MAC is over.
    fn authentic(&self, name: &str, revision: u64, record: &str) -> Vec<u8> {
        let mut bytes = RECORD_LABEL.to_vec();
        push_prefixed(&mut bytes, self.name.as_bytes());
        push_prefixed(&mut bytes, name.as_bytes());
        bytes.extend_from_slice(&revision.to_be_bytes());
        push_prefixed(&mut bytes, record.as_bytes());
        bytes
    }

    /// Writes the next revision of a record; `false` when somebody else was faster.
    async fn write(
        &self,
        key: &mut Key,
        material: MaterialChange,
        (deed, by): (Deed, &Caller),
    ) -> Result<bool, KmsError> {
        key.revision += 1;
        let mut change_id = [0; 8];
        getrandom::fill(&mut change_id).map_err(|_| KmsError::NoRandomness)?;
        key.change_id = hex::encode(change_id);
        let record = serde_json::to_string(key).expect("a record holds nothing that JSON lacks");
        let mac = self
            .root
            .mac(&self.authentic(&key.name, key.revision, &record))
            .to_vec();
        let change = KeyChange {
            provider: self.name.clone(),
            key: StoredKey {
                name: key.name.clone(),
                revision: key.revision,
                record,
                mac,
                is_superseded: false,
            },
            rotate_at: key.rotate_at(),
            material,
            deed,
            by: by.to_string(),
        };
        // A change that was committed although its connection was lost finds itself: no other has its MAC.
        let written = self.store.change(&change).await?
            || self
                .store
                .key(&self.name, &key.name)
                .await?
                .is_some_and(|stored| stored.mac == change.key.mac);
        if written {
            self.see(&key.name, key.revision)?;
        }
        Ok(written)
    }

    /// Changes a key that a caller may manage; `change`, which says what it does, is asked again when somebody else was faster.
    async fn update(
        &self,
        name: &str,
        caller: &Caller,
        change: impl Fn(&mut Key, u64) -> Result<(MaterialChange, Deed), KmsError>,
    ) -> Result<Key, KmsError> {
        let now = self.store.now().await?;
        for _ in 0..MAX_ATTEMPTS {
            let mut key = self.existing(name).await?;
            authorize(&key, caller, Operation::Manage)?;
            let (material, deed) = change(&mut key, now)?;
            if self.write(&mut key, material, (deed, caller)).await? {
                return Ok(key);
            }
        }
        Err(KmsError::Busy {
            key: name.to_owned(),
        })
    }

    /// A new version's material, sealed.
    fn seal(
        &self,
        name: &str,
        version: u32,
        algorithm: Algorithm,
        made: &Material,
    ) -> Result<MaterialChange, KmsError> {
        let sealed = material::seal(&self.root, self.id(name, version), algorithm, made)
            .map_err(|_| KmsError::NoRandomness)?;
        Ok(MaterialChange::Put(version, sealed))
    }

    /// A version's material, unsealed.
    async fn material(&self, key: &Key, version: u32) -> Result<Material, KmsError> {
        let name = key.name.as_str();
        let sealed = self.store.material(&self.name, name, version).await?;
        let sealed = sealed.ok_or_else(|| tampered(name, "its key material is gone"))?;
        material::open(&self.root, self.id(name, version), key.algorithm, &sealed)
            .ok_or_else(|| tampered(name, "its key material was altered"))
    }

    /// All that makes keys of this provider refuses when another process has made some under another root key.
    async fn adopt_root(&self) -> Result<(), KmsError> {
        let mine = self.root.check();
        if self.store.adopt_root(&self.name, &mine).await? != mine {
            return Err(KmsError::AnotherRootKey);
        }
        Ok(())
    }

    /// The key of that name that pgveil itself uses, made now if there is none.
    async fn service_key(&self, name: &str) -> Result<Key, KmsError> {
        if let Some(key) = self.load(name).await? {
            return Ok(key);
        }
        let now = self.store.now().await?;
        let mut key = Self::new_service_key(name, now)?;
        self.adopt_root().await?;
        let made = generate(Algorithm::Aes256).await?;
        let material = self.seal(name, 1, Algorithm::Aes256, &made)?;
        let done = (Deed::Service, &Caller::pgveil());
        if self.write(&mut key, material, done).await? {
            return Ok(key);
        }
        self.existing(name).await
    }

    fn new_service_key(name: &str, now: u64) -> Result<Key, KmsError> {
        check_name(name)?;
        let pgveil = Caller::pgveil();
        let mut key = Key {
            name: name.to_owned(),
            revision: 0,
            change_id: String::new(),
            description: "made by pgveil on first use".to_owned(),
            algorithm: Algorithm::Aes256,
            usage: Usage::EncryptDecrypt,
            state: KeyState::PreActivation,
            origin: Origin::Service,
            created_at: now,
            created_by: pgveil.to_string(),
            default_version: None,
            versions: Vec::new(),
            rotated_at: None,
            rotation: Some(Rotation {
                every_days: key::SERVICE_ROTATION_DAYS,
                next_at: 0,
            }),
            access: administer::service_grants(),
        };
        key.add_version(now, &pgveil);
        Ok(key)
    }

    /// Gives a KEK of the first format its record, and seals its material anew: from then on it does not open without one.
    async fn adopt(&self, name: &str, sealed: &[u8]) -> Result<Key, KmsError> {
        let opened = material::open_first(&self.root, self.id(name, 1), sealed);
        let Some(opened) = opened else {
            return self.faster(name).await;
        };
        let now = self.store.now().await?;
        let mut key = Self::new_service_key(name, now)?;
        let material = self.seal(name, 1, key.algorithm, &opened)?;
        let done = (Deed::Adopt, &Caller::pgveil());
        if self.write(&mut key, material, done).await? {
            return Ok(key);
        }
        self.faster(name).await
    }

    /// The record that another replica wrote meanwhile.
    async fn faster(&self, name: &str) -> Result<Key, KmsError> {
        let stored = self.store.key(&self.name, name).await?;
        let stored = stored.ok_or_else(|| tampered(name, "there is none"))?;
        self.verified(&stored)
    }
}

/// New material. An RSA key takes a second, which other tasks of the thread should not wait for.
async fn generate(algorithm: Algorithm) -> Result<Material, KmsError> {
    tokio::task::spawn_blocking(move || material::generate(algorithm))
        .await
        .ok()
        .and_then(Result::ok)
        .ok_or(KmsError::NoRandomness)
}

/// Whether the caller may do that with the key.
fn authorize(key: &Key, caller: &Caller, operation: Operation) -> Result<(), KmsError> {
    if key.allows(caller, operation) {
        return Ok(());
    }
    Err(KmsError::AccessDenied {
        key: key.name.clone(),
        caller: caller.to_string(),
        operation,
    })
}

/// The state of a key and a version, as a reason why it cannot be used; `None` when it can.
fn unusable(key: &Key, version: u32) -> Option<String> {
    match key.state {
        KeyState::Active => match key.version(version)?.state {
            VersionState::Enabled => None,
            state => Some(format!("version {version} is {state}")),
        },
        state => Some(format!("it is {state}")),
    }
}

fn check_name(name: &str) -> Result<(), KmsError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
        return Err(KmsError::Input {
            reason: "the id of a key has 1 to 255 bytes".to_owned(),
        });
    }
    Ok(())
}

fn tampered(name: &str, reason: &str) -> KmsError {
    KmsError::Tampered {
        key: name.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
