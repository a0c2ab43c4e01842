//! The audit log: who did what to keys, scopes and configuration, in a keyed hash chain with signed checkpoints
//! (table `pgveil.audit`). An operation on keys and its record are one transaction.
//!
//! What is written and read is here; who may do what (step-up) is in [`crate::step_up`]. docs/audit.md gives the bytes.

pub mod actor;
pub mod chain;
mod change;
pub mod checkpoint;
pub mod event;
mod log;
mod queue;
pub mod record;
mod root;
pub mod secrets;

pub use actor::{Actor, acting};
pub use change::Change;
pub use checkpoint::Checkpoint;
pub use event::{Event, Operation, Outcome};
pub use log::Log;
pub use record::Record;
