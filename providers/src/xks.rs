//! The XKS Proxy API, version 1, from both sides: the provider `rest` asks key managers that speak it, the server offers keys of
//! the local KMS to others. <https://github.com/aws/aws-kms-xksproxy-api-spec>

mod connections;
mod credentials;
mod provider;
mod server;
mod sigv4;
pub mod wire;

pub use credentials::{CredentialsError, CredentialsFile};
pub use provider::Xks;
pub use server::{ServeError, Served, Server};
