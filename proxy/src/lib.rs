//! The proxy: sockets, sessions, wire messages, the query pipeline; and the command line.
//!
//! The modules stand in the order of the life of a query (ARCHITECTURE.md).

// A session is one future, and what it waits for lies deep in it: a statement, its keys, their keystore, its connection.
#![recursion_limit = "256"]

pub mod cli;

pub mod app;
pub mod keeper;
mod keks;
pub mod key_rotation;
pub mod listener;
mod prober;
mod reload;
pub mod server;
mod traces;
pub mod workers;

pub mod gate;
pub mod scram;
pub mod startup;
pub mod stream;
pub mod tls;

pub mod cancel;
pub mod upstream;

pub mod copy;
pub mod frame;
pub mod messages;

pub mod engine;
pub mod session;
