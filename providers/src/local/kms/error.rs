//! Why the local KMS did not do it. Says nothing of any key material.

use crate::local::{KekStoreError, Operation};

/// What went wrong, and with which key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KmsError {
    /// No key of that name.
    #[error("there is no key \"{key}\"")]
    NotFound {
        /// Its name.
        key: String,
    },
    /// The name is taken, by a key that may be deleted.
    #[error("there is a key \"{key}\" already{}", if *.deleted { "; it was deleted, and its name is not used again" } else { "" })]
    Exists {
        /// Its name.
        key: String,
        /// Whether it was deleted.
        deleted: bool,
    },
    /// The key has no such version.
    #[error("key \"{key}\" has no version {version}")]
    NoVersion {
        /// Its name.
        key: String,
        /// The version.
        version: u32,
    },
    /// The key or its version is in a state that does not allow it.
    #[error("key \"{key}\": {reason}")]
    State {
        /// Its name.
        key: String,
        /// Which state, of what.
        reason: String,
    },
    /// No grant.
    #[error("{caller} may not {operation} with key \"{key}\"")]
    AccessDenied {
        /// Its name.
        key: String,
        /// Who asked.
        caller: String,
        /// For what.
        operation: Operation,
    },
    /// The key is for something else.
    #[error("key \"{key}\" is an {algorithm} key for {usage}: it cannot {wanted}")]
    Usage {
        /// Its name.
        key: String,
        /// What it is.
        algorithm: &'static str,
        /// What it is for.
        usage: &'static str,
        /// What was asked of it.
        wanted: String,
    },
    /// What was to be decrypted is not what this key encrypted.
    #[error(
        "this was not encrypted by key \"{key}\", or was altered, or belongs to another context"
    )]
    Ciphertext {
        /// The key's name.
        key: String,
    },
    /// What was asked for cannot be.
    #[error("{reason}")]
    Input {
        /// Why.
        reason: String,
    },
    /// The keystore holds something that this root key's owner did not write.
    #[error("the record of key \"{key}\" is not as pgveil wrote it: {reason}")]
    Tampered {
        /// The key's name.
        key: String,
        /// What shows it.
        reason: String,
    },
    /// Other replicas changed the key again and again.
    #[error("key \"{key}\" is being changed by others")]
    Busy {
        /// The key's name.
        key: String,
    },
    /// Another process uses another root key.
    #[error("another replica uses another root key")]
    AnotherRootKey,
    /// No random bytes, or no key pair.
    #[error("no key could be made: the system gives no random bytes")]
    NoRandomness,
    /// The keystore.
    #[error(transparent)]
    Store(#[from] KekStoreError),
}

impl KmsError {
    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "`pgveil kms list` shows the keys",
            Self::Exists { .. } => "choose another name",
            Self::NoVersion { .. } => "`pgveil kms show` tells the versions of a key",
            Self::State { .. } => {
                "`pgveil kms show` tells the states; `enable` and `rotate` change them"
            }
            Self::AccessDenied { .. } => {
                "somebody with `manage` on the key grants it: `pgveil kms grant`"
            }
            Self::Usage { .. } => "use a key that was made for it",
            Self::Ciphertext { .. } => "see that key, context and ciphertext belong together",
            Self::Input { .. } => "see `pgveil kms --help`",
            Self::Tampered { .. } => {
                "restore pgveil.local_keys and pgveil.local_keks from a backup, and find out who writes there"
            }
            Self::Busy { .. } => "try again",
            Self::AnotherRootKey => "give all replicas the same root key file",
            Self::NoRandomness => "see the system's random device",
            Self::Store(_) => "see that the keystore's database can be reached",
        }
    }
}
