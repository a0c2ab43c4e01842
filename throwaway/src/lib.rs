//! A Postgres that is gone afterwards whatever happens, and programs on a leash: for the demo, the tests and the
//! benches. Nothing here runs in production.

pub mod leash;
pub mod pgbouncer;
pub mod postgres;
pub mod psql;

pub use postgres::{Options, TempPostgres};
