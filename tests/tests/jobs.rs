//! Jobs over tables: rewrapping rows after a rotation, and the walk that they share.

#[path = "jobs/altered.rs"]
mod altered;
#[path = "jobs/chaos.rs"]
mod chaos;
#[path = "jobs/erased.rs"]
mod erased;
#[path = "jobs/held.rs"]
mod held;
#[path = "jobs/index_keys.rs"]
mod index_keys;
#[path = "jobs/orders.rs"]
mod orders;
#[path = "jobs/pace.rs"]
mod pace;
#[path = "jobs/retired.rs"]
mod retired;
#[path = "jobs/rewrap.rs"]
mod rewrap;
#[path = "jobs/seals.rs"]
mod seals;
#[path = "leak/search.rs"]
mod search;
#[path = "jobs/standby.rs"]
mod standby;
#[path = "jobs/term_changes.rs"]
mod term_changes;
#[path = "scopes/token.rs"]
mod token;
#[path = "jobs/trouble.rs"]
mod trouble;
#[path = "jobs/walk.rs"]
mod walk;
#[path = "jobs/world.rs"]
mod world;
