//! The built-in KMS: keys sealed under a root key file, kept in a [`KekStore`] that all replicas share; and the provider that
//! wraps with them. What a KMS does is in `kms`; here is the provider.
//!
//! It holds the root key in memory and unseals a key for each use; it does not cache keys, so one that is disabled
//! or destroyed in the store stops working at once.

mod access;
mod asymmetric;
mod joined;
mod key;
mod kms;
mod material;
mod root_key;
mod store;

use std::{fmt, path::Path, sync::Arc};

use async_trait::async_trait;
use zeroize::Zeroizing;

pub use access::{Caller, Grant, Grantee, Identity, Operation};
pub use asymmetric::Scheme;
pub use key::{
    Algorithm, Key, KeyState, MAX_ROTATION_DAYS, Origin, Rotation, SERVICE_ROTATION_DAYS, Usage,
    Version, VersionState,
};
pub use kms::{Ciphertext, KmsError, LocalKms, NewKey, Signature, XksCiphertext};
pub use root_key::{RootCheck, RootKey, RootKeyError};
pub use store::{
    Deed, KekStore, KekStoreError, KeyChange, MaterialChange, Memory, MemoryKekStore, StoredKey,
};

use crate::{KekInfo, KeyProvider, Protection, ProviderError, WrapContext, Wrapped};

const ALGORITHM: &str = "AES-256-GCM";

/// The local KMS as a provider: keys by name, made on first use.
pub struct LocalProvider(LocalKms);

impl fmt::Debug for LocalProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalProvider")
            .field("name", &self.0.name())
            .finish_non_exhaustive()
    }
}

impl LocalProvider {
    /// Reads the root key and refuses one that is not the one that sealed the keys already in the store.
    pub async fn open(
        name: &str,
        root_key_file: &Path,
        keks: Arc<dyn KekStore>,
    ) -> Result<Self, OpenError> {
        LocalKms::open(name, root_key_file, keks).await.map(Self)
    }

    /// Writes a new root key file: mode 0600, and never over an existing one.
    pub fn create_root_key(path: &Path) -> Result<(), RootKeyError> {
        RootKey::create(path)
    }

    /// What an error of the KMS means to whoever wraps keys.
    fn failed(&self, kek: &str, error: KmsError) -> ProviderError {
        let (provider, kek) = (self.0.name().to_owned(), kek.to_owned());
        match error {
            KmsError::Store(_) | KmsError::Busy { .. } | KmsError::NoRandomness => {
                ProviderError::Unavailable {
                    provider,
                    reason: error.to_string(),
                }
            }
            KmsError::Ciphertext { .. } => ProviderError::Damaged {
                provider,
                kek,
                reason: "it was altered, or wrapped for another key, scope or purpose".to_owned(),
            },
            KmsError::Tampered { .. } => ProviderError::Damaged {
                provider,
                kek,
                reason: error.to_string(),
            },
            KmsError::NotFound { .. } | KmsError::NoVersion { .. } => ProviderError::NotMine {
                provider,
                reason: error.to_string(),
            },
            _ => ProviderError::Denied {
                provider,
                kek,
                reason: error.to_string(),
            },
        }
    }

    fn not_mine(&self, reason: &str) -> ProviderError {
        ProviderError::not_mine(self.0.name(), reason)
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
        if plaintext.len() > kms::MAX_PLAINTEXT_BYTES {
            let reason = "more than 4096 bytes".to_owned();
            return Err(self.failed(kek, KmsError::Input { reason }));
        }
        let wrapped = self.0.wrap(kek, plaintext, &context.aad()).await;
        let (version, bytes) = wrapped.map_err(|error| self.failed(kek, error))?;
        Ok(Wrapped {
            bytes,
            kek_version: version.to_string(),
        })
    }

    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let (named, body) = material::unwrapped(&wrapped.bytes)
            .ok_or_else(|| self.not_mine("the format is another's"))?;
        let version = kms::parse_version(&wrapped.kek_version)
            .filter(|version| named.is_none_or(|named| named == *version))
            .ok_or_else(|| self.not_mine("it names another version than the keystore"))?;
        self.0
            .unwrap(kek, version, body, &context.aad())
            .await
            .map_err(|error| self.failed(kek, error))
    }

    fn rotates(&self) -> Result<(), &'static str> {
        Ok(())
    }

    async fn rotate(&self, kek: &str) -> Result<(), ProviderError> {
        let rotated = self.0.rotate_by_pgveil(kek).await;
        rotated.map(drop).map_err(|error| self.failed(kek, error))
    }

    async fn rotation(&self, kek: &str) -> Result<Option<crate::Rotation>, ProviderError> {
        let schedule = self.0.schedule(kek).await;
        schedule.map_err(|error| self.failed(kek, error))
    }

    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
        let current = self.0.current(kek).await;
        let version = current.map_err(|error| self.failed(kek, error))?;
        Ok(match version {
            Some(version) => {
                KekInfo::new(version.to_string(), ALGORITHM).kept(Protection::Software)
            }
            // It is made on first use.
            None => KekInfo::new("0", ALGORITHM)
                .kept(Protection::Software)
                .to_come(),
        })
    }
}

/// Why a local provider does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The root key file.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The keys' store.
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
