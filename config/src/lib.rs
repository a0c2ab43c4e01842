//! What the operator wrote: `pgveil.toml` and `policy.toml`, typed and validated, a section a file.
//!
//! This crate never holds a secret, only where to find one, and it does not know any database:
//! whether a table or a type exists is asked in `pgveil-policy`.
//!
//! How a file is read, in order: `source` turns text into a TOML tree with positions;
//! `reader` holds each section of the tree against the table of known keys that stands in
//! that section's own file (`known` says what such a table is made of); the section's file makes
//! the typed struct. Everything found wrong is collected and reported at once, in file order.
//! `reference` prints the same tables as `docs/configuration.md`.

// A test that unwraps fails by panicking, which is what a test does.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod diagnostic;
mod fields;
mod form;
mod known;
pub mod nearest;
pub mod policy;
mod reader;
pub mod reference;
pub mod scope;
pub mod secret;
pub mod settings;
mod source;
pub mod templates;
mod value;

pub use diagnostic::{Diagnostic, Diagnostics, Position};
pub use form::{duration, show_duration};
pub use policy::{ColumnRule, Mask, PolicyFile, SearchKey, Searches, TableRule};
pub use scope::{ScopeError, ScopePath};
pub use secret::{Secret, SecretError};
pub use settings::{Settings, TlsMode};
