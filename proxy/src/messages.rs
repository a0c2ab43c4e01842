//! PostgreSQL's messages, one per file: strict views that borrow a frame's body, and builders that append
//! whole frames. Nothing here does input or output, and nothing decides.
//!
//! A view must consume exactly its body, with PostgreSQL's own checks in PostgreSQL's own order and words
//! (pqformat.c, postgres.c): what a view refuses, the server refuses with the same [`Malformed`] message.
//! What pgveil says of itself is encoded by `pgwire`'s types; bytes in flight never go through its
//! decoders, which are not byte exact and panic on malformed input.

mod body;
mod builder;
#[cfg(test)]
mod testing;

pub mod authentication;
pub mod backend_key_data;
pub mod bind;
pub mod cancel_request;
pub mod close;
pub mod command_complete;
pub mod copy;
pub mod copy_response;
pub mod data_row;
pub mod describe;
pub mod error_response;
pub mod execute;
pub mod format;
pub mod negotiate_protocol_version;
pub mod parameter_description;
pub mod parameter_status;
pub mod parse;
pub mod query;
pub mod ready_for_query;
pub mod row_description;
pub mod sasl;
pub mod ssl_request;
pub mod tag;
pub mod target;
pub mod unit;

pub use authentication::Authentication;
pub use backend_key_data::BackendKeyData;
pub use bind::{Bind, BindBuilder};
pub use body::Malformed;
pub use builder::TooLong;
pub use close::Close;
pub use command_complete::CommandComplete;
pub use copy::{copy_data, copy_fail};
pub use copy_response::CopyResponse;
pub use data_row::{DataRow, DataRowBuilder};
pub use describe::Describe;
pub use error_response::{ErrorFields, Report, Severity};
pub use execute::Execute;
pub use format::{Format, Formats};
pub use negotiate_protocol_version::NegotiateProtocolVersion;
pub use parameter_description::ParameterDescription;
pub use parameter_status::ParameterStatus;
pub use parse::Parse;
pub use query::Query;
pub use ready_for_query::{ReadyForQuery, TransactionStatus};
pub use row_description::{Field, RowDescription, RowDescriptionBuilder};
pub use target::Target;
