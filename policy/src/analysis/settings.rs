//! Several statements in one string: what the session looked like when the string came may not hold for a statement
//! that follows another. Such a statement is refused where it names something protected. Knows no settings' values.

use std::ops::Range;

use super::statement::Door;
use crate::Refusal;

/// What is known of the statements before.
#[derive(Default)]
pub(super) struct Settled {
    /// A transaction was begun in this string.
    begun: bool,
    /// A statement may have changed a setting, the role, the search path or the catalog.
    changed: bool,
}

/// Statements that change no setting and no definition, unless they call `set_config`.
const SETTLED: [&str; 21] = [
    "copy",
    "select",
    "insert",
    "update",
    "delete",
    "with",
    "values",
    "table",
    "explain",
    "begin",
    "start",
    "savepoint",
    "release",
    "commit",
    "end",
    "declare",
    "fetch",
    "move",
    "close",
    "prepare",
    "deallocate",
];

impl Settled {
    /// Refuses a statement that needs to know what an earlier one may have changed.
    pub(super) fn check(&self, door: &Door<'_>, statement: &Range<usize>) -> Result<(), Refusal> {
        if !self.changed || !door.names_protected(statement) {
            return Ok(());
        }
        Err(Refusal::unsupported(
            "settings-may-have-changed",
            "a statement that names something protected follows one that may change settings in the same string",
        )
        .detail("pgveil asks the server for the session's settings between messages, not inside one.")
        .hint("Send it as a message of its own."))
    }

    /// Remembers what a statement may have changed.
    pub(super) fn after(&mut self, door: &Door<'_>, statement: &Range<usize>) {
        let tokens = door.tokens;
        let first = statement
            .clone()
            .find(|at| tokens.raw(*at) != "(")
            .unwrap_or(statement.start);
        let is = |word: &&str| tokens.is_word(first, word);
        self.begun |= is(&"begin") || is(&"start");
        // The end of a transaction that began earlier undoes its SET LOCAL.
        let ends = (is(&"commit") || is(&"end")) && !self.begun;
        let sets = statement
            .clone()
            .any(|at| tokens.name(at).is_some_and(|name| name == "set_config"));
        let into = is(&"select") && statement.clone().any(|at| tokens.is_word(at, "into"));
        self.changed |= !SETTLED.iter().any(is) || ends || sets || into;
    }
}
