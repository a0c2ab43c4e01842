//! What the tests stand on: a throw-away Postgres, a proxy in front of it, stories, a raw wire client. No tests are here.

pub mod driver;
pub mod generate;
pub mod java;
pub mod kms;
pub mod node;
pub mod policy;
pub mod proxy;
pub mod python;
pub mod rust;
pub mod site;
pub mod story;
pub mod twin;
pub mod wire;

pub use anyhow::Result;
pub use pgveil_throwaway::{leash, pgbouncer, postgres, psql};
