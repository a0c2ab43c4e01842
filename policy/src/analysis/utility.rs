//! Statements that are no queries: refused by default; allowed where they can neither write, nor return, nor redefine
//! protected columns. Judged by their words, since the parser knows few of them.

use std::ops::Range;

use super::{
    ddl, refusals,
    statement::{Changes, Door, Verdict},
};
use crate::{Refusal, plan::Output};

/// They use names that are no tables', or nothing but them.
const NAME_ONLY: [&str; 19] = [
    "listen",
    "unlisten",
    "notify",
    "savepoint",
    "release",
    "rollback",
    "deallocate",
    "close",
    "show",
    "set",
    "reset",
    "fetch",
    "move",
    "execute",
    "discard",
    "commit",
    "begin",
    "start",
    "end",
];

/// They touch tables as a whole, and never a value.
const WHOLE_TABLE: [&str; 10] = [
    "truncate", "lock", "vacuum", "analyze", "analyse", "reindex", "cluster", "grant", "revoke",
    "comment",
];

/// Judges a statement that names something protected.
pub(super) fn judge(door: &Door<'_>, statement: &Range<usize>) -> Result<Verdict, Refusal> {
    let tokens = door.tokens;
    let first = statement.start;
    let is_one_of = |words: &[&str]| words.iter().any(|word| tokens.is_word(first, word));
    if is_one_of(&NAME_ONLY) {
        return Ok(Verdict::Relay);
    }
    if let Some(verdict) = ddl::judge(door, statement)? {
        return Ok(verdict);
    }
    let allowed = is_one_of(&WHOLE_TABLE) || tokens.is_word(first, "drop");
    if allowed && !(tokens.is_word(first, "truncate") && door.writes_run_functions(statement)) {
        let note = format!(
            "{} passes unchanged: it handles no values.",
            tokens.raw(first).to_uppercase()
        );
        return Ok(Verdict::Changed(Box::new(Changes {
            edits: Vec::new(),
            slots: Vec::new(),
            parameters: Default::default(),
            output: Output::None,
            notes: vec![note],
            tag: None,
        })));
    }
    let what = tokens
        .name(first)
        .map_or_else(|| "this".to_owned(), |word| word.to_uppercase());
    Err(refusals::construct(&what).at(tokens.range(first).start))
}
