//! Who holds the key encryption keys (KEKs): one trait, one file per KMS.
//!
//! A provider wraps and unwraps key material and binds a context to it. It does not know scopes, DEK
//! states, policies or the keystore's tables; that is `pgveil-keys`.

pub mod aws_kms;
pub mod azure_key_vault;
mod build;
pub mod civil;
pub mod gcp_kms;
mod http;
pub mod local;
mod probe;
mod protection;
mod provider;
pub mod vault_transit;
pub mod xks;

pub use build::{BuildError, Providers, build, local_managers};
pub use http::{HttpError, client as http_client, jitter};
pub use probe::{Probe, probe};
pub use protection::Protection;
pub use provider::{
    ENTROPY_BYTES, KekInfo, KeyProvider, ProviderError, Rotation, WrapContext, Wrapped,
};
