//! The audit log: who did what to keys, scopes and configuration, in a keyed hash chain with signed checkpoints
//! (table `pgveil.audit`). An operation on keys and its record are one transaction.
//!
//! What is written and read is here; who may do what (step-up) is in [`crate::step_up`]. docs/audit.md gives the bytes.

pub mod actor;
pub mod chain;
pub(crate) mod change;
pub mod checkpoint;
pub mod event;
pub mod export;
mod hold;
mod lists;
mod log;
mod queue;
pub mod record;
pub(crate) mod remembered;
mod retention;
pub(crate) mod root;
pub mod secrets;
pub mod sink;
pub mod stored;
mod tend;
pub mod time;
pub mod verify;
mod within;

#[cfg(test)]
mod tests;

pub use actor::{Actor, acting};
pub use change::Change;
pub use checkpoint::Checkpoint;
pub use event::{Event, Operation, Outcome};
pub use lists::Listed;
pub use log::Log;
pub use record::Record;
pub use retention::Pruned;
pub use sink::Sinks;
pub use stored::{Filter, StoredRecord};
pub use tend::{read, tend};
pub use verify::{Fault, Sound, Verifier};
pub(crate) use within::Within;
