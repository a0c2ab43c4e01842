//! Who holds the key encryption keys (KEKs): one trait, one file per KMS.
//!
//! A provider wraps and unwraps key material and binds a context to it. It does not know scopes, DEK
//! states, policies or the keystore's tables; that is `pgveil-keys`.

mod build;
pub mod local;
mod provider;

pub use build::{BuildError, Providers, build};
pub use provider::{KeyProvider, ProviderError, WrapContext, Wrapped};
