//! Statements that are no queries: refused by default; allowed where they can neither write, nor return, nor redefine
//! protected columns. Judged by their words, since the parser knows few of them.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::{
    refusals,
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
    let allowed = is_one_of(&WHOLE_TABLE)
        || tokens.is_word(first, "drop")
        || plain_index(door, statement)
        || plain_alter(door, statement);
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
        })));
    }
    let what = tokens
        .name(first)
        .map_or_else(|| "this".to_owned(), |word| word.to_uppercase());
    Err(refusals::construct(&what).at(tokens.range(first).start))
}

fn names_column(door: &Door<'_>, range: Range<usize>) -> bool {
    range.into_iter().any(|at| {
        door.tokens
            .name(at)
            .is_some_and(|name| door.protection.names_column(&name))
    })
}

/// CREATE [UNIQUE] INDEX that names no protected column.
fn plain_index(door: &Door<'_>, statement: &Range<usize>) -> bool {
    let tokens = door.tokens;
    let first = statement.start;
    let index = tokens.are_words(first, &["create", "index"])
        || tokens.are_words(first, &["create", "unique", "index"]);
    index && !names_column(door, statement.clone())
}

/// ALTER TABLE that only adds or drops columns and constraints, and names no protected column.
fn plain_alter(door: &Door<'_>, statement: &Range<usize>) -> bool {
    let tokens = door.tokens;
    let mut at = statement.start;
    if !tokens.are_words(at, &["alter", "table"]) || names_column(door, statement.clone()) {
        return false;
    }
    at += 2;
    if tokens.are_words(at, &["if", "exists"]) {
        at += 2;
    }
    if tokens.is_word(at, "only") {
        at += 1;
    }
    // The table's name.
    while matches!(tokens.kind(at + 1), Kind::Period) {
        at += 2;
    }
    at += 1;
    let mut starts = vec![at];
    let mut depth = 0usize;
    for index in at..statement.end {
        match tokens.kind(index) {
            Kind::LParen => depth += 1,
            Kind::RParen => depth = depth.saturating_sub(1),
            Kind::Comma if depth == 0 => starts.push(index + 1),
            _ => {}
        }
    }
    starts
        .into_iter()
        .all(|start| tokens.is_word(start, "add") || tokens.is_word(start, "drop"))
}
