//! Nonces for AES-GCM: 12 random bytes, from a buffer per thread. It makes no keys.
//!
//! One `getrandom` per value costs more than sealing a small value; one for 341 of them does not show.

use std::cell::RefCell;

use zeroize::{Zeroize, Zeroizing};

/// Bytes of a nonce (NIST SP 800-38D, 8.2.2: random, 96 bits).
pub const NONCE_BYTES: usize = 12;
/// What one refill asks of the kernel; at most 256 bytes come at once without a signal's interruption, `getrandom` loops.
const BUFFER_BYTES: usize = 4096;

/// Random bytes that are used once and wiped when they are.
struct Buffer {
    bytes: Zeroizing<[u8; BUFFER_BYTES]>,
    next: usize,
}

thread_local! {
    static BUFFER: RefCell<Buffer> =
        RefCell::new(Buffer { bytes: Zeroizing::new([0; BUFFER_BYTES]), next: BUFFER_BYTES });
}

/// A nonce that was never handed out before.
///
/// # Panics
/// When the operating system has no random bytes to give, as sealing anything then would be unsafe.
pub fn next() -> [u8; NONCE_BYTES] {
    BUFFER.with_borrow_mut(Buffer::take)
}

impl Buffer {
    fn take(&mut self) -> [u8; NONCE_BYTES] {
        if self.next + NONCE_BYTES > BUFFER_BYTES {
            getrandom::fill(&mut *self.bytes)
                .expect("Linux always has random bytes once it has booted");
            self.next = 0;
        }
        let used = &mut self.bytes[self.next..self.next + NONCE_BYTES];
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(used);
        used.zeroize();
        self.next += NONCE_BYTES;
        nonce
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nonces_do_not_repeat_over_refills_and_threads() {
        let many = || (0..2000).map(|_| next()).collect::<Vec<_>>();
        let other = std::thread::spawn(many);
        let mut seen: HashSet<_> = many().into_iter().collect();
        seen.extend(other.join().expect("the thread makes nonces"));
        assert_eq!(seen.len(), 4000);
    }

    #[test]
    fn used_bytes_are_wiped() {
        let mut buffer = Buffer {
            bytes: Zeroizing::new([0; BUFFER_BYTES]),
            next: BUFFER_BYTES,
        };
        assert_ne!(buffer.take(), [0; NONCE_BYTES]);
        assert_eq!(buffer.bytes[..NONCE_BYTES], [0; NONCE_BYTES]);
        assert_ne!(buffer.bytes[NONCE_BYTES..2 * NONCE_BYTES], [0; NONCE_BYTES]);
    }
}
