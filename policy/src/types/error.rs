//! What bad input gets: Postgres's SQLSTATE and wording. Says nothing about where the input stood.

use std::fmt;

/// What bad input gets, in Postgres's own words and SQLSTATE. The message may quote the input: it goes to the
/// client only, and neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct InputError {
    /// `22P02`, `22001`, `22003`, `22007`, `22008`, `42804`, `0A000`, ...
    pub sqlstate: &'static str,
    /// Postgres's message.
    pub message: String,
    /// Postgres's detail.
    pub detail: Option<String>,
    /// Postgres's hint.
    pub hint: Option<String>,
}

impl InputError {
    /// An error without detail and hint.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// `22P02`, what an input function says of text that it cannot read.
    pub(super) fn syntax(type_name: &str, text: &str) -> Self {
        Self::new(
            "22P02",
            format!("invalid input syntax for type {type_name}: \"{text}\""),
        )
    }

    /// `22003` of a text form: `value "99999999999" is out of range for type integer`.
    pub(super) fn text_out_of_range(type_name: &str, text: &str) -> Self {
        Self::new(
            "22003",
            format!("value \"{text}\" is out of range for type {type_name}"),
        )
    }

    /// `22003` of a cast: `integer out of range`.
    pub(super) fn out_of_range(type_name: &str) -> Self {
        Self::new("22003", format!("{type_name} out of range"))
    }

    /// `08P01`, a binary value that ends too early.
    pub(super) fn truncated() -> Self {
        Self::new("08P01", "insufficient data left in message")
    }

    /// `22P03`, a binary value with bytes left over.
    pub(super) fn excess() -> Self {
        Self::new("22P03", "incorrect binary data format in bind parameter")
    }

    /// `22P03` with the receive function's own words.
    pub(super) fn binary(message: impl Into<String>) -> Self {
        Self::new("22P03", message)
    }

    /// `0A000`: Postgres may accept it, pgveil does not.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new("0A000", message)
    }

    /// Whether PostgreSQL may accept what pgveil does not.
    pub(crate) fn is_unsupported(&self) -> bool {
        self.sqlstate == "0A000"
    }

    /// Adds the DETAIL.
    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the HINT.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Debug for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputError")
            .field("sqlstate", &self.sqlstate)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value refused ({})", self.sqlstate)
    }
}

impl std::error::Error for InputError {}

/// A stored plaintext that is no valid send form of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid send form of its type")]
pub struct DamagedValue;

impl From<InputError> for DamagedValue {
    fn from(_: InputError) -> Self {
        Self
    }
}
