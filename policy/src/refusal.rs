//! A refusal: the error that a statement gets when it cannot be answered right.

use std::borrow::Cow;

/// An error in PostgreSQL's own terms. Never holds plaintext of a protected column or a literal of the statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({sqlstate})")]
pub struct Refusal {
    /// Five characters: one of Postgres's own, or `PV001` to `PV004`.
    pub sqlstate: &'static str,
    /// What happened.
    pub message: String,
    /// To what, and why.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<Cow<'static, str>>,
    /// Byte offset into the client's statement text.
    pub position: Option<usize>,
    /// Anchor in `docs/errors.md`.
    pub anchor: &'static str,
}

impl Refusal {
    /// A refusal without detail, hint or position.
    pub fn new(sqlstate: &'static str, anchor: &'static str, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            anchor,
        }
    }

    /// `0A000`: not supported on a protected column.
    pub fn unsupported(anchor: &'static str, message: impl Into<String>) -> Self {
        Self::new("0A000", anchor, message)
    }

    /// Adds the DETAIL.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the HINT.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the byte offset into the client's text.
    pub fn at(mut self, position: usize) -> Self {
        self.position.get_or_insert(position);
        self
    }
}
