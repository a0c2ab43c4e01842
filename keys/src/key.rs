//! Unwrapped keys in memory. Not printable, zeroized on drop; how they are found and cached is elsewhere.

use std::{fmt, sync::Arc, time::Instant};

use aes_gcm::{Aes256Gcm, KeyInit};
use hmac::Hmac;
use pgveil_config::ScopePath;
use sha2::Sha256;

use crate::usage::Usage;

/// Bytes of a DEK and of an index key.
pub(crate) const KEY_BYTES: usize = 32;

/// A row of `pgveil.keys`: what a sealed value says of the DEK that opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DekId(pub u64);

impl fmt::Display for DekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key in the keystore is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A DEK: AES-256-GCM.
    Data,
    /// An index key: HMAC-SHA-256.
    Index,
}

impl Purpose {
    /// As the keystore and a wrap context spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Index => "index",
        }
    }
}

/// A DEK with its AES round keys expanded, so that each value costs one GCM pass and nothing more.
pub struct DataKey {
    id: DekId,
    scope: ScopePath,
    pub(crate) cipher: Aes256Gcm,
    pub(crate) usage: Arc<Usage>,
    pub(crate) term: Term,
}

/// How long a DEK seals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    /// So many values.
    pub(crate) max_usage: u64,
    /// Until then; `None`: a time beyond what the clock can say.
    pub(crate) ends: Option<Instant>,
}

#[cfg(test)]
impl Term {
    /// For tests of what is sealed.
    pub(crate) fn endless() -> Self {
        Self {
            max_usage: u64::MAX,
            ends: None,
        }
    }
}

impl DataKey {
    /// Expands a key. `usage` is its lease, shared by every [`DataKey`] of it in this process.
    pub(crate) fn new(
        id: DekId,
        scope: ScopePath,
        key: &[u8; KEY_BYTES],
        usage: Arc<Usage>,
        term: Term,
    ) -> Self {
        Self {
            id,
            scope,
            cipher: Aes256Gcm::new(key.into()),
            usage,
            term,
        }
    }

    /// The id that sealed values name.
    pub fn id(&self) -> DekId {
        self.id
    }

    /// The scope it belongs to.
    pub fn scope(&self) -> &ScopePath {
        &self.scope
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey")
            .field("id", &self.id.0)
            .finish_non_exhaustive()
    }
}

/// An index key, as the keyed state of HMAC-SHA-256.
pub struct IndexKey {
    pub(crate) mac: Hmac<Sha256>,
}

impl IndexKey {
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Self {
        let mac = hmac::KeyInit::new_from_slice(key).expect("HMAC takes a key of any length");
        Self { mac }
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexKey(..)")
    }
}
