//! From a refusal to the bytes of an ErrorResponse, and the statement that stands in for a refused one.

use bytes::BytesMut;
use pgveil_policy::Refusal;

use crate::messages::Report;

pub use pgveil_policy::splice::STAND_IN;

/// Where every error is explained.
const DOCS: &str = "docs/errors.md";

/// Appends the ErrorResponse for a refusal, whose position is already Postgres's.
pub fn put_refusal(out: &mut BytesMut, refusal: &Refusal) {
    report(refusal).write(out);
}

/// Appends a report as it is.
pub fn put_report(out: &mut BytesMut, report: &Report) {
    report.write(out);
}

/// A refusal in the words of an ErrorResponse.
pub fn report(refusal: &Refusal) -> Report {
    let mut report = Report::error(refusal.sqlstate, refusal.message.clone());
    if let Some(detail) = &refusal.detail {
        report = report.detail(detail.clone());
    }
    // Bad input gets Postgres's own answer and nothing else.
    let own = refusal.anchor != "invalid-input" || refusal.sqlstate == "0A000";
    let hint = match (&refusal.hint, own) {
        (Some(hint), true) => Some(format!("{hint} See {DOCS}#{}.", refusal.anchor)),
        (None, true) => Some(format!("See {DOCS}#{}.", refusal.anchor)),
        (hint, false) => hint.as_ref().map(ToString::to_string),
    };
    if let Some(hint) = hint {
        report = report.hint(hint);
    }
    if let Some(position) = refusal.position {
        report = report.position(position);
    }
    report
}

/// Postgres counts positions in characters from 1.
pub fn character_position(text: &str, byte: usize) -> usize {
    text.char_indices().take_while(|(at, _)| *at < byte).count() + 1
}
