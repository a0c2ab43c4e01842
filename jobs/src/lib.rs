//! Work over tables: reading the catalog, checking, planning and applying a policy.
//!
//! Knows the database and the keys, but no client and no socket of the proxy. What a policy means is decided in
//! `pgveil-policy`; how a value is sealed, in `pgveil-keys`.

pub mod apply;
pub mod catalog;
pub mod change;
pub mod check;
mod connect;
pub mod destruction;
mod error;
mod findings;
mod held;
pub mod labels;
pub mod migrate;
mod onlookers;
pub mod plan;
pub mod recognise;
pub mod register;
pub mod remake;
mod sql;
mod terms;
pub mod uses;
pub mod walk;
pub mod worker;

pub(crate) use connect::connect;
pub use error::JobError;
