//! Why a key cannot be had. SQLSTATEs are the proxy's business; here are facts and cures, never key material.

use pgveil_providers::ProviderError;

use crate::{DekId, keystore::KeystoreError};

/// Why a key cannot be had. Cheap to clone: everyone who waited for one load gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The scope was sealed, by hand or because its provider denied.
    #[error("scope {scope} is sealed")]
    ScopeSealed {
        /// The scope.
        scope: String,
    },
    /// The provider does not answer.
    #[error("the key of scope {scope} cannot be unwrapped now: {reason}")]
    Unavailable {
        /// The scope.
        scope: String,
        /// The provider's error.
        reason: String,
    },
    /// The provider answers no.
    #[error("the key of scope {scope} may not be used: {reason}")]
    Denied {
        /// The scope.
        scope: String,
        /// The provider's error.
        reason: String,
    },
    /// The keystore names a provider that the configuration does not have.
    #[error("key {id} was wrapped by provider \"{provider}\", which pgveil.toml does not have")]
    ProviderMissing {
        /// The key.
        id: u64,
        /// `[provider.NAME]`.
        provider: String,
    },
    /// A stored value names a key that the keystore does not have.
    #[error("the keystore has no data key {id}")]
    NotFound {
        /// The key.
        id: DekId,
    },
    /// Crypto-erased.
    #[error("key {id} was destroyed")]
    Destroyed {
        /// The key.
        id: u64,
    },
    /// The wrapped key does not open, or is another than its row says.
    #[error("key {id} in the keystore is damaged: {reason}")]
    Damaged {
        /// The key.
        id: u64,
        /// What shows it.
        reason: String,
    },
    /// Data keys of the scope are used up, or replaced by others, faster than this process can take one.
    #[error("no data key of scope {scope} could be had: each was used up or replaced meanwhile")]
    Busy {
        /// The scope.
        scope: String,
    },
    /// The keystore's database.
    #[error(transparent)]
    Keystore(KeystoreError),
    /// The operating system has no random bytes to give.
    #[error("no random bytes for a new key: {reason}")]
    Randomness {
        /// Its words.
        reason: String,
    },
}

impl From<KeystoreError> for KeyError {
    fn from(error: KeystoreError) -> Self {
        match error {
            KeystoreError::KeyRow { id, reason } => Self::Damaged { id, reason },
            error => Self::Keystore(error),
        }
    }
}

impl KeyError {
    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::ScopeSealed { .. } => "unseal the scope once the reason is gone",
            Self::Unavailable { .. } => "retry; see that the key provider can be reached",
            Self::Denied { .. } => {
                "see the key's state and pgveil's rights on it at the key provider"
            }
            Self::ProviderMissing { .. } => {
                "give the provider back to pgveil.toml, under its old name"
            }
            Self::NotFound { .. } => {
                "the value comes from another deployment, or the keystore from an older backup: restore it"
            }
            Self::Destroyed { .. } => {
                "the key was destroyed on purpose; what it sealed cannot be read any more"
            }
            Self::Damaged { .. } => {
                "restore the key's row in pgveil.keys (and local_keks) from a backup; `pgveil check` names the rows that pgveil did not write"
            }
            Self::Busy { .. } => "retry",
            Self::Keystore(error) => error.cure(),
            Self::Randomness { .. } => "see the operating system's random number source",
        }
    }

    /// Whether the same request may succeed later without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Busy { .. }
                | Self::Keystore(
                    KeystoreError::Unavailable { .. } | KeystoreError::LogKeyAway { .. }
                )
        )
    }

    /// Whether the provider did not answer: neither yes nor no.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub(crate) fn from_provider(error: &ProviderError, scope: &str, id: u64) -> Self {
        let (scope, reason) = (scope.to_owned(), error.to_string());
        match error {
            ProviderError::Unavailable { .. } => Self::Unavailable { scope, reason },
            ProviderError::Denied { .. } => Self::Denied { scope, reason },
            ProviderError::NotMine { .. } | ProviderError::Damaged { .. } => {
                Self::Damaged { id, reason }
            }
        }
    }
}
