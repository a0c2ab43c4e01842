//! From a password to SCRAM's keys, for roles whose password the operator gave to pgveil. Slow on purpose: not for
//! an event loop.

use zeroize::Zeroizing;

use super::{Key, mac};

/// ClientKey and ServerKey of a password (RFC 5802, section 3), which is prepared as PostgreSQL does (SASLprep).
pub fn keys_of_password(password: &str, salt: &[u8], iterations: u32) -> (Key, Key) {
    // What SASLprep does not take is used as it is (pg_saslprep).
    let prepared = match stringprep::saslprep(password) {
        Ok(prepared) => Zeroizing::new(prepared.into_owned()),
        Err(_) => Zeroizing::new(password.to_owned()),
    };
    let salted = salted(prepared.as_bytes(), salt, iterations);
    (
        mac(salted.as_slice(), &[b"Client Key"]),
        mac(salted.as_slice(), &[b"Server Key"]),
    )
}

/// `Hi()`: PBKDF2 with one block.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let mut last = mac(password, &[salt, &1_u32.to_be_bytes()]);
    let mut sum = last.clone();
    for _ in 1..iterations {
        last = mac(password, &[last.as_slice()]);
        for (sum, last) in sum.iter_mut().zip(last.iter()) {
            *sum ^= last;
        }
    }
    sum
}
