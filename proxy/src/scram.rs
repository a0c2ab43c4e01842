//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it: a verifier, the server's side towards a client and
//! the client's side towards a server. Pure: no sockets, no randomness of its own.
//!
//! What makes ending the exchange on both legs possible: a right proof gives away the ClientKey
//! (`ClientProof XOR HMAC(StoredKey, AuthMessage)`), and with it the same role can be logged in wherever the same
//! verifier is kept. No password is known here at any time.

mod client;
mod password;
mod server;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use client::{Asking, Awaited, Challenge, Leg};
pub use password::keys_of_password;
pub use server::{ClientFirst, Proven, ServerSide};

/// The mechanism.
pub const MECHANISM: &[u8] = b"SCRAM-SHA-256";
/// The mechanism, bound to the TLS connection.
pub const MECHANISM_PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";
/// The only type of binding that PostgreSQL has (RFC 5929, section 4).
const BINDING: &str = "tls-server-end-point";

/// A key or a hash.
pub type Key = Zeroizing<[u8; 32]>;

/// Why an exchange ended. The texts are PostgreSQL's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that is none.
    #[error("malformed SCRAM message")]
    Malformed {
        /// What is wrong.
        detail: &'static str,
    },
    /// Something that PostgreSQL does not do either.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The response belongs to another exchange.
    #[error("invalid SCRAM response")]
    Nonce,
    /// The client could bind, and says that the server could not: somebody took the offer away.
    #[error("SCRAM channel binding negotiation error")]
    Downgrade,
    /// The client bound to another TLS connection.
    #[error("SCRAM channel binding check failed")]
    Binding,
    /// The proof is wrong.
    #[error("password authentication failed")]
    Wrong,
}

/// What a server keeps of a password: `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`.
#[derive(Clone)]
pub struct Verifier {
    /// How often the password was hashed.
    pub iterations: u32,
    /// What it was hashed with.
    pub salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

impl std::fmt::Debug for Verifier {
    /// With these keys a server can be impersonated.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    /// Reads what `pg_authid.rolpassword` holds; `None` if it is no SCRAM verifier.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (factors, keys) = rest.split_once('$')?;
        let (iterations, salt) = factors.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations = iterations.parse().ok().filter(|count| *count > 0)?;
        Some(Self {
            iterations,
            salt: BASE64.decode(salt).ok()?,
            stored_key: key(&BASE64.decode(stored_key).ok()?)?,
            server_key: key(&BASE64.decode(server_key).ok()?)?,
        })
    }

    /// The verifier of a password of which the keys are known.
    pub fn of_keys(salt: Vec<u8>, iterations: u32, client_key: &Key, server_key: Key) -> Self {
        Self {
            iterations,
            salt,
            stored_key: hash(client_key),
            server_key,
        }
    }

    /// A verifier that no proof fits, for roles that have none: `noise` is random.
    pub fn nobody(salt: Vec<u8>, iterations: u32, noise: [u8; 32]) -> Self {
        Self {
            iterations,
            salt,
            stored_key: Zeroizing::new(noise),
            server_key: Zeroizing::new(noise),
        }
    }

    /// The key that a server proves itself with.
    pub fn server_key(&self) -> &Key {
        &self.server_key
    }
}

fn key(bytes: &[u8]) -> Option<Key> {
    bytes.try_into().ok().map(Zeroizing::new)
}

fn hash(bytes: &Key) -> Key {
    Zeroizing::new(Sha256::digest(bytes.as_slice()).into())
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn xor(a: &Key, b: &[u8; 32]) -> Key {
    let mut out = a.clone();
    for (out, b) in out.iter_mut().zip(b) {
        *out ^= b;
    }
    out
}

/// Cuts `X=value` off the front, up to a comma or the end.
fn attribute<'a>(rest: &mut &'a str, name: char) -> Result<&'a str, ScramError> {
    let malformed = ScramError::Malformed {
        detail: "Expected another attribute.",
    };
    match any_attribute(rest)? {
        (found, value) if found == name => Ok(value),
        _ => Err(malformed),
    }
}

/// The same for an attribute of any name.
fn any_attribute<'a>(rest: &mut &'a str) -> Result<(char, &'a str), ScramError> {
    let text = *rest;
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(name), Some('=')) if name.is_ascii_alphabetic() => {
            let value = &text[2..];
            let end = value.find(',').unwrap_or(value.len());
            *rest = value.get(end + 1..).unwrap_or_default();
            Ok((name, &value[..end]))
        }
        (Some(name), _) if name.is_ascii_alphabetic() => Err(ScramError::Malformed {
            detail: "Expected character \"=\".",
        }),
        _ => Err(ScramError::Malformed {
            detail: "Attribute expected.",
        }),
    }
}

/// A message as text: UTF-8 without NUL.
fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.is_empty() {
        return Err(ScramError::Malformed {
            detail: "The message is empty.",
        });
    }
    if message.contains(&0) {
        return Err(ScramError::Malformed {
            detail: "Message length does not match input length.",
        });
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed {
        detail: "The message is not UTF-8.",
    })
}

/// RFC 5802, section 5.1: printable and no comma.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21..=0x7e))
}

/// HMAC-SHA-256, for what is to be the same each time and to tell nothing.
pub fn keyed_hash(key: &[u8], message: &[u8]) -> Key {
    mac(key, &[message])
}

/// A fresh nonce of 18 random bytes, as PostgreSQL makes them.
pub fn nonce(random: [u8; 18]) -> String {
    BASE64.encode(random)
}

#[cfg(test)]
mod tests;
