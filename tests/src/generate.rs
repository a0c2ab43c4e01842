//! Random statements over protected and plain columns, the same for a plaintext database and one behind pgveil.
//! A statement is a function of a row of choices, so a failing one is made small by making its choices small.
//! Says what is asked; who asks, and who judges, is `twin`'s business.

mod change;
mod choices;
mod expression;
mod mixed;
mod query;
mod session;
mod shrink;
mod statement;
mod stored;
mod twice;
mod values;
mod world;

pub use self::{
    choices::Choices,
    shrink::smallest,
    statement::{Form, Script, statement},
    world::{POLICY, ROWS, SCHEMA},
};
