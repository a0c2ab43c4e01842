//! How many values a DEK may still seal: blocks of its count, leased from the keystore before they are used. It neither
//! leases nor rotates; [`crate::Keys`] does.
//!
//! What is leased counts as used, whether it is or not: a crash makes the count too high, never too low.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use tokio::sync::Mutex;

/// What a process leases first. The parameters of one statement (65,535) fit.
const FIRST_BLOCK: u64 = 1 << 16;
/// What a busy process leases at a time: some seconds' work of one core.
const LAST_BLOCK: u64 = 1 << 22;
/// Of a DEK's whole allowance, one block takes this part at most, so that replicas can share a small one.
const BLOCKS_PER_LIMIT: u64 = 16;
/// The next DEK is made when this part of the allowance is left.
const RESERVE: u64 = 8;

/// The lease of one DEK, shared by all of this process's copies of it.
#[derive(Debug)]
pub(crate) struct Usage {
    /// Leased and not used. Below zero by the attempts that were refused.
    left: AtomicI64,
    /// The size of the last block.
    block: AtomicU64,
    /// All uses leased by all replicas, as the keystore last said.
    total: AtomicU64,
    /// Half of the last block is gone.
    low: AtomicBool,
    /// Held by the one that leases; the others wait for its answer.
    pub(crate) leasing: Mutex<()>,
}

impl Usage {
    /// Without a lease.
    pub(crate) fn new(total: u64) -> Self {
        Self {
            left: AtomicI64::new(0),
            block: AtomicU64::new(0),
            total: AtomicU64::new(total),
            low: AtomicBool::new(false),
            leasing: Mutex::default(),
        }
    }

    /// With a lease that lasts: for tests of what is sealed.
    #[cfg(test)]
    pub(crate) fn leased(uses: u64) -> Self {
        let usage = Self::new(0);
        usage.grant(uses, uses);
        usage
    }

    /// Takes one use of the lease; `false` when there is none and the key must not seal.
    pub(crate) fn take(&self) -> bool {
        let left = self.left.fetch_sub(1, Ordering::Relaxed);
        // Exactly one taker meets the middle: the flag is written once a block, not once a value.
        if left as u64 == self.block.load(Ordering::Relaxed) / 2 {
            self.low.store(true, Ordering::Relaxed);
        }
        left > 0
    }

    /// Whether something is left.
    pub(crate) fn has_lease(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    /// Whether the next block should be leased while this one lasts.
    pub(crate) fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// How large the next block is: twice the last one, within bounds.
    pub(crate) fn next_block(&self, limit: u64) -> u64 {
        let last = self.block.load(Ordering::Relaxed);
        let most = (limit / BLOCKS_PER_LIMIT).clamp(1, LAST_BLOCK);
        (last * 2).max(FIRST_BLOCK).min(most)
    }

    /// The keystore granted a block; `total` is its count with it.
    pub(crate) fn grant(&self, block: u64, total: u64) {
        self.block.store(block, Ordering::Relaxed);
        self.total.fetch_max(total, Ordering::Relaxed);
        self.low.store(false, Ordering::Relaxed);
        self.left.fetch_add(block as i64, Ordering::Relaxed);
    }

    /// Learns what the keystore counts now.
    pub(crate) fn observe(&self, total: u64) {
        self.total.fetch_max(total, Ordering::Relaxed);
    }

    /// Whether so little of the allowance is left that the next DEK is due.
    pub(crate) fn near(&self, limit: u64) -> bool {
        self.total.load(Ordering::Relaxed) >= limit - limit / RESERVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 30;

    #[test]
    fn only_what_was_leased_is_used() {
        let usage = Usage::new(0);
        assert!(!usage.has_lease());
        assert!(!usage.take());
        usage.grant(3, 3);
        // The attempt that was refused is taken off: too high, never too low.
        assert!(usage.take());
        assert!(usage.take());
        assert!(!usage.take());
    }

    #[test]
    fn half_a_block_before_its_end_the_next_one_is_asked_for() {
        let usage = Usage::new(0);
        usage.grant(8, 8);
        for _ in 0..4 {
            assert!(usage.take());
            assert!(!usage.is_low());
        }
        assert!(usage.take());
        assert!(usage.is_low());
        usage.grant(16, 24);
        assert!(!usage.is_low());
    }

    #[test]
    fn blocks_grow_within_bounds() {
        let usage = Usage::new(0);
        assert_eq!(usage.next_block(LIMIT), FIRST_BLOCK);
        usage.grant(FIRST_BLOCK, FIRST_BLOCK);
        assert_eq!(usage.next_block(LIMIT), 2 * FIRST_BLOCK);
        usage.grant(LAST_BLOCK, 2 * LAST_BLOCK);
        assert_eq!(usage.next_block(LIMIT), LAST_BLOCK);
        assert_eq!(Usage::new(0).next_block(1 << 16), 1 << 12);
    }

    #[test]
    fn the_next_key_is_due_before_the_limit() {
        let usage = Usage::new(LIMIT / 8 * 7 - 1);
        assert!(!usage.near(LIMIT));
        usage.observe(LIMIT / 8 * 7);
        assert!(usage.near(LIMIT));
        usage.observe(5);
        assert!(usage.near(LIMIT), "an older reading changes nothing");
    }
}
