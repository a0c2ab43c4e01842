//! The built-in KMS: KEKs sealed under a root key file, kept in a [`KekStore`] that all replicas share.
//!
//! It holds the root key in memory and unseals a KEK for each use; it does not cache KEKs, so one that is
//! retired or destroyed in the store stops working at once.

mod kek;
mod root_key;
mod store;

use std::{fmt, path::Path, sync::Arc};

use async_trait::async_trait;
use zeroize::Zeroizing;

pub use root_key::{RootCheck, RootKey, RootKeyError};
pub use store::{KekState, KekStore, KekStoreError, MemoryKekStore, SealedKek};

use crate::{KekInfo, KeyProvider, ProviderError, WrapContext, Wrapped};

/// KEK ids longer than this are refused.
const MAX_KEK_ID_BYTES: usize = 255;
/// What the provider wraps is a key and its binding; KMS everywhere stop at this size.
const MAX_PLAINTEXT_BYTES: usize = 4096;

/// KEKs under a root key.
pub struct LocalProvider {
    name: String,
    root: RootKey,
    keks: Arc<dyn KekStore>,
}

impl fmt::Debug for LocalProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalProvider")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl LocalProvider {
    /// Reads the root key and refuses one that is not the one that sealed the KEKs already in the store.
    pub async fn open(
        name: &str,
        root_key_file: &Path,
        keks: Arc<dyn KekStore>,
    ) -> Result<Self, OpenError> {
        let root = RootKey::read(root_key_file)?;
        let local = Self {
            name: name.to_owned(),
            root,
            keks,
        };
        let stored = local.keks.root_check(name).await?;
        match stored {
            Some(stored) if stored != local.root.check() => Err(OpenError::AnotherRootKey {
                path: root_key_file.to_owned(),
            }),
            _ => Ok(local),
        }
    }

    /// Writes a new root key file: mode 0600, and never over an existing one.
    pub fn create_root_key(path: &Path) -> Result<(), RootKeyError> {
        RootKey::create(path)
    }

    /// The KEK's newest version, made now if there is none.
    async fn current(&self, kek: &str) -> Result<SealedKek, ProviderError> {
        match self
            .keks
            .newest(&self.name, kek)
            .await
            .map_err(|e| self.store_failed(&e))?
        {
            Some(sealed) => Ok(sealed),
            None => self.create(kek).await,
        }
    }

    async fn create(&self, kek: &str) -> Result<SealedKek, ProviderError> {
        if kek.is_empty() || kek.len() > MAX_KEK_ID_BYTES {
            return Err(self.denied(kek, "an id has 1 to 255 bytes"));
        }
        let mine = self.root.check();
        // A replica that was started with another root key may have been first since this one was opened.
        if self
            .keks
            .adopt_root(&self.name, &mine)
            .await
            .map_err(|e| self.store_failed(&e))?
            != mine
        {
            return Err(self.denied(kek, "another replica uses another root key"));
        }
        let sealed =
            kek::create(&self.root, &self.name, kek, 1).map_err(|e| self.no_randomness(&e))?;
        self.keks
            .insert(sealed)
            .await
            .map_err(|e| self.store_failed(&e))
    }

    fn store_failed(&self, error: &KekStoreError) -> ProviderError {
        ProviderError::Unavailable {
            provider: self.name.clone(),
            reason: error.to_string(),
        }
    }

    fn no_randomness(&self, error: &getrandom::Error) -> ProviderError {
        ProviderError::Unavailable {
            provider: self.name.clone(),
            reason: format!("no random bytes: {error}"),
        }
    }

    fn denied(&self, kek: &str, reason: &str) -> ProviderError {
        ProviderError::Denied {
            provider: self.name.clone(),
            kek: kek.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn damaged(&self, kek: &str, reason: &str) -> ProviderError {
        ProviderError::Damaged {
            provider: self.name.clone(),
            kek: kek.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn not_mine(&self, reason: impl Into<String>) -> ProviderError {
        ProviderError::NotMine {
            provider: self.name.clone(),
            reason: reason.into(),
        }
    }
}

#[async_trait]
impl KeyProvider for LocalProvider {
    fn kind(&self) -> &'static str {
        "local"
    }

    async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        if plaintext.len() > MAX_PLAINTEXT_BYTES {
            return Err(self.denied(kek, "more than 4096 bytes"));
        }
        let sealed = self.current(kek).await?;
        if sealed.state != KekState::Active {
            return Err(self.denied(kek, "its newest version is retired or destroyed"));
        }
        let key = kek::open(&self.root, &sealed)
            .ok_or_else(|| self.damaged(kek, "the sealed KEK was altered"))?;
        let bytes =
            kek::wrap(&key, &sealed, plaintext, context).map_err(|e| self.no_randomness(&e))?;
        Ok(Wrapped {
            bytes,
            kek_version: sealed.version.to_string(),
        })
    }

    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let body =
            kek::body(&wrapped.bytes).ok_or_else(|| self.not_mine("the format is another's"))?;
        let version = parse_version(&wrapped.kek_version)
            .ok_or_else(|| self.not_mine("no version of a local KEK"))?;
        let sealed = self
            .keks
            .version(&self.name, kek, version)
            .await
            .map_err(|e| self.store_failed(&e))?
            .ok_or_else(|| {
                self.not_mine(format!(
                    "there is no key encryption key \"{kek}\" version {version}"
                ))
            })?;
        if sealed.state == KekState::Destroyed {
            return Err(self.denied(kek, "this version was destroyed"));
        }
        let key = kek::open(&self.root, &sealed)
            .ok_or_else(|| self.damaged(kek, "the sealed KEK was altered"))?;
        kek::unwrap(&key, &sealed, body, context).ok_or_else(|| {
            self.damaged(
                kek,
                "it was altered, or wrapped for another key, scope or purpose",
            )
        })
    }

    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
        let newest = self.keks.newest(&self.name, kek).await;
        let version = match newest.map_err(|error| self.store_failed(&error))? {
            Some(sealed) if sealed.state != KekState::Active => {
                return Err(self.denied(kek, "its newest version is retired or destroyed"));
            }
            Some(sealed) => sealed.version,
            // It is made on first use.
            None => 0,
        };
        Ok(KekInfo {
            version: version.to_string(),
            algorithm: "AES-256-GCM".to_owned(),
        })
    }
}

/// A version exactly as [`KeyProvider::wrap`] writes it.
fn parse_version(text: &str) -> Option<u32> {
    text.parse()
        .ok()
        .filter(|version: &u32| version.to_string() == text)
}

/// Why a local provider does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The root key file.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The KEKs' store.
    #[error(transparent)]
    Store(#[from] KekStoreError),
    /// A wrong root key.
    #[error(
        "{} does not open the keystore's key encryption keys: it is another file than the one they were made with",
        path.display()
    )]
    AnotherRootKey {
        /// The file.
        path: std::path::PathBuf,
    },
}

impl OpenError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::RootKey(error) => error.cure(),
            Self::Store(_) => {
                "see [keystore] in pgveil.toml; `pgveil check` tells what is wrong there".to_owned()
            }
            Self::AnotherRootKey { path } => format!(
                "restore the original {} from its safe copy; no other key opens what was sealed",
                path.display()
            ),
        }
    }
}
