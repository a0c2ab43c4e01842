//! Keys and what is made with them: scopes' DEKs and index keys, the keystore, the cache, the sealed value, search terms,
//! the audit log.
//!
//! This crate and `pgveil-providers` are the only ones that ever see key bytes. It does not read statements,
//! does not speak to clients, and does not decide what to seal.

pub mod audit;
mod binding;
mod cache;
mod canonical;
pub mod clock;
pub mod database;
mod error;
mod flight;
mod gate;
pub mod health;
pub mod kek_rotation;
mod key;
mod keys;
pub mod keystore;
pub mod nonce;
pub mod rewrap;
pub mod schema;
pub mod scopes;
pub mod sealed;
pub mod step_up;
pub mod term;
mod usage;

#[cfg(test)]
mod vectors;

pub use clock::Clock;
pub use error::KeyError;
pub use flight::Flight;
pub use gate::{ProviderState, Requests};
pub use key::{DataKey, DekId, IndexKey, Purpose};
pub use keys::{Keys, KeysStatus, MAX_WARMED, ProviderStatus, Wanted};
pub use keystore::Keystore;
pub use scopes::Scopes;
