//! How many values a DEK has sealed, and the limit at which it refuses to seal more. It does not rotate DEKs.
//!
//! The count is kept in memory and added to the keystore's from time to time ([`crate::Keys::flush_usage`]);
//! a crash loses what was not flushed, so the count is a floor. (Leased blocks, with which a crash can only
//! over-count, come with rotation.) Within one process the limit holds exactly.

use std::sync::atomic::{AtomicU64, Ordering};

/// NIST SP 800-38D, 8.3: no more invocations with random 96-bit nonces under one key.
pub(crate) const MAX_USES: u64 = 1 << 32;

/// The count of one DEK, shared by all of this process's copies of it.
#[derive(Debug)]
pub(crate) struct Usage {
    /// All uses known: the keystore's when it was last read, and this process's.
    total: AtomicU64,
    /// How much of `total` the keystore knows.
    stored: AtomicU64,
}

impl Usage {
    /// Starts from the keystore's count.
    pub(crate) fn new(stored: u64) -> Self {
        Self {
            total: AtomicU64::new(stored),
            stored: AtomicU64::new(stored),
        }
    }

    /// Counts one use; `false` when the limit is reached and the key must not seal.
    pub(crate) fn take(&self) -> bool {
        // Beyond the limit the counter still grows, by refused attempts only: 2^64 of them do not happen.
        self.total.fetch_add(1, Ordering::Relaxed) < MAX_USES
    }

    /// Learns what the keystore counts now (other replicas' uses included).
    pub(crate) fn observe(&self, stored: u64) {
        let before = self.stored.fetch_max(stored, Ordering::Relaxed);
        self.total
            .fetch_add(stored.saturating_sub(before), Ordering::Relaxed);
    }

    /// Uses that the keystore does not know yet.
    pub(crate) fn unflushed(&self) -> u64 {
        self.total
            .load(Ordering::Relaxed)
            .saturating_sub(self.stored.load(Ordering::Relaxed))
    }

    /// The keystore has added `uses` of them.
    pub(crate) fn flushed(&self, uses: u64) {
        self.stored.fetch_add(uses, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_is_allowed_and_the_next_is_not() {
        let usage = Usage::new(MAX_USES - 1);
        assert!(usage.take());
        assert!(!usage.take());
        assert!(!usage.take());
    }

    #[test]
    fn uses_are_flushed_once() {
        let usage = Usage::new(10);
        assert!(usage.take() && usage.take());
        assert_eq!(usage.unflushed(), 2);
        usage.flushed(2);
        assert_eq!(usage.unflushed(), 0);
    }

    #[test]
    fn other_replicas_uses_count_towards_the_limit() {
        let usage = Usage::new(0);
        assert!(usage.take());
        usage.observe(MAX_USES - 1);
        assert!(!usage.take());
        usage.observe(5);
        assert_eq!(usage.unflushed(), 2, "an older reading changes nothing");
    }
}
