//! The text of a prepared statement that was relayed: under another policy it may name something protected. Judges nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

/// A longer text is not kept.
const MAX_RELAYED_BYTES: usize = 64 * 1024;

/// The text of a statement that was relayed.
pub struct Relayed {
    sql: Zeroizing<Vec<u8>>,
    declared: Vec<u32>,
    /// The version of the rules by which nothing protected is in it.
    known: AtomicU64,
}

impl Relayed {
    /// `None` if it is too long.
    pub fn new(sql: &[u8], declared: Vec<u32>, version: u64) -> Option<Self> {
        (sql.len() <= MAX_RELAYED_BYTES).then(|| Self {
            sql: Zeroizing::new(sql.to_vec()),
            declared,
            known: AtomicU64::new(version),
        })
    }

    /// The text, in the client's encoding.
    pub fn sql(&self) -> &[u8] {
        &self.sql
    }

    /// Parameter types as the client declared them.
    pub fn declared(&self) -> &[u32] {
        &self.declared
    }

    /// Whether it was looked at by these rules.
    pub fn is_known_to(&self, version: u64) -> bool {
        self.known.load(Ordering::Relaxed) == version
    }

    /// It was, and nothing protected is in it.
    pub fn known_to(&self, version: u64) {
        self.known.store(version, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Relayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relayed").finish_non_exhaustive()
    }
}
