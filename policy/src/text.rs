//! The text of a statement as words: tokens with byte ranges, statements, what may be handed to the parser.
//! Reads PostgreSQL's lexical rules only; it knows no names and no policy.

mod guard;
mod limits;
mod statements;
mod teach;
mod tokens;
mod verbs;

pub use statements::statements;

pub(crate) use limits::{INLINE_DEPTH, MAX_DEPTH, depth};
pub(crate) use statements::split;
pub(crate) use teach::{Taught, Vocabulary, teach};
pub(crate) use tokens::{Tokens, fold, quote_identifier};
pub(crate) use verbs::{Verb, verb};
