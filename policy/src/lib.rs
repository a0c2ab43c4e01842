//! What must happen to a statement and to each column.
//!
//! Pure: no async, clock, sockets or keys. The same question gets the same answer.

pub mod analysis;
pub mod catalog;
pub mod copy;
pub mod explanation;
pub mod plan;
pub mod refusal;
pub mod ruleset;
pub mod scan;
pub mod splice;
pub mod template;
pub mod text;
pub mod types;

pub use plan::Plan;
pub use refusal::Refusal;
pub use ruleset::Ruleset;
