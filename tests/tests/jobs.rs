//! Jobs over tables: rewrapping rows after a rotation, and the walk that they share.

#[path = "jobs/walk.rs"]
mod walk;
