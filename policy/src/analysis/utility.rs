//! Statements that are no queries: refused by default; allowed where they can neither write, nor return, nor redefine
//! protected columns. Judged by their words, since the parser knows few of them.

use std::ops::Range;

use super::{
    ddl, refusals,
    statement::{Changes, Door, Verdict},
};
use crate::{Refusal, catalog::Relation, plan::Output, ruleset::Held};

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
const WHOLE_TABLE: [&str; 11] = [
    "truncate", "lock", "vacuum", "analyze", "analyse", "reindex", "cluster", "grant", "revoke",
    "comment", "refresh",
];

/// Judges a statement that names something protected.
pub(super) fn judge(door: &Door<'_>, statement: &Range<usize>) -> Result<Verdict, Refusal> {
    let tokens = door.tokens;
    let first = statement.start;
    let is_one_of = |words: &[&str]| words.iter().any(|word| tokens.is_word(first, word));
    if is_one_of(&NAME_ONLY) {
        return Ok(Verdict::Relay);
    }
    if let Some(refusal) = unfit(door, statement).or_else(|| moved_key(door, statement)) {
        return Err(refusal);
    }
    if let Some(verdict) = ddl::judge(door, statement)? {
        return Ok(verdict);
    }
    let allowed =
        is_one_of(&WHOLE_TABLE) || tokens.is_word(first, "drop") || alters_view(door, statement);
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
            scope_queries: Vec::new(),
            tag: None,
        })));
    }
    let what = tokens
        .name(first)
        .map_or_else(|| "this".to_owned(), |word| word.to_uppercase());
    Err(refusals::construct(&what).at(tokens.range(first).start))
}

/// Definitions of tables that do not fit the policy: what it says of their columns is not known whole. Dropping mends.
fn unfit(door: &Door<'_>, statement: &Range<usize>) -> Option<Refusal> {
    let tokens = door.tokens;
    let defines =
        tokens.is_word(statement.start, "create") || tokens.is_word(statement.start, "alter");
    let mut names =
        { statement.clone().filter(|_| defines) }.filter_map(|at| Some((at, tokens.name(at)?)));
    names.find_map(|(at, name)| {
        let refusal = door.rules.refuse_unfit_name(&name)?;
        Some(refusal.at(tokens.range(at).start))
    })
}

/// ALTER VIEW and ALTER MATERIALIZED VIEW, but for defaults: the server would keep their plaintext.
fn alters_view(door: &Door<'_>, statement: &Range<usize>) -> bool {
    let tokens = door.tokens;
    let behind = statement.start + 1;
    let view =
        tokens.is_word(behind, "view") || tokens.are_words(behind, &["materialized", "view"]);
    let set_default = |at: usize| tokens.are_words(at, &["set", "default"]);
    tokens.is_word(statement.start, "alter") && view && !statement.clone().any(set_default)
}

/// Definitions that would compare, check or convert sealed values as bytes, on columns that the policy does not name.
fn moved_key(door: &Door<'_>, statement: &Range<usize>) -> Option<Refusal> {
    const JUDGING: [&str; 9] = [
        "unique",
        "primary",
        "exclude",
        "references",
        "check",
        "type",
        "generated",
        "default",
        "key",
    ];
    let tokens = door.tokens;
    let defines =
        tokens.is_word(statement.start, "create") || tokens.is_word(statement.start, "alter");
    let judges = |at: usize| JUDGING.iter().any(|word| tokens.is_word(at, word));
    if !defines || !statement.clone().any(judges) {
        return None;
    }
    let names: Vec<_> = statement
        .clone()
        .filter_map(|at| Some((at, tokens.name(at)?)))
        .collect();
    let is_moved = |relation: &Relation, name: &str| {
        relation.columns.iter().any(|column| {
            let held = door.rules.held(relation, column);
            column.name == name && matches!(held, Held::Moved(_) | Held::Strange)
        })
    };
    let relations = door
        .view
        .relations
        .iter()
        .chain(&door.rules.catalog.relations);
    let named = relations.filter(|relation| names.iter().any(|(_, name)| *name == relation.name));
    let tables: Vec<&Relation> = named.filter(|relation| !relation.is_view()).collect();
    let found = names
        .iter()
        .find(|(_, name)| tables.iter().any(|relation| is_moved(relation, name)));
    found.map(|(at, name)| {
        refusals::construct(&format!(
            "a key, check or conversion of \"{name}\", which holds sealed values without being in the policy,"
        ))
        .at(tokens.range(*at).start)
    })
}
