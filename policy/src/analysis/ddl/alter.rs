//! ALTER TABLE, action by action.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::{
    After, Definition,
    constraint::{Judged, is_constraint},
    elements, existing, name, needs_plaintext,
};
use crate::{
    Refusal,
    analysis::{
        refusals,
        relation::lookup,
        statement::{Door, Verdict},
        term::EQ_TERM,
    },
    text::quote_identifier,
};

/// Actions that handle neither values nor names of columns.
const HARMLESS: [&str; 9] = [
    "validate", "owner", "enable", "disable", "cluster", "reset", "replica", "force", "detach",
];

/// What may be set of a table.
const SETTABLE: [&str; 5] = ["without", "tablespace", "logged", "unlogged", "schema"];

/// What becomes of an action.
pub(super) enum Fate {
    Kept,
    Replaced,
}

/// `at` is behind the words ALTER TABLE.
pub(super) fn judge(
    door: &Door<'_>,
    statement: &Range<usize>,
    mut at: usize,
) -> Result<Option<Verdict>, Refusal> {
    let tokens = door.tokens;
    if tokens.are_words(at, &["if", "exists"]) {
        at += 2;
    }
    if tokens.is_word(at, "only") {
        at += 1;
    }
    let Some((parts, mut behind)) = name(tokens, at) else {
        return Ok(None);
    };
    if matches!(tokens.kind(behind), Kind::Mul) {
        behind += 1;
    }
    let Some(table) = existing(door, &parts) else {
        return Ok(None);
    };
    let mut definition = Definition::new(door, table);
    if definition.names_others(statement) {
        return Ok(None);
    }
    let actions = elements(tokens, behind..statement.end);
    if definition.declared.is_empty() {
        check_name(&definition, &parts, &actions)?;
        // Another table's; what it says of a protected one is a reference to its key.
        let known = ["add", "drop", "alter", "rename", "set"];
        let harmless = actions.iter().all(|action| {
            known
                .iter()
                .chain(&HARMLESS)
                .any(|word| tokens.is_word(action.start, word))
        });
        return if harmless {
            definition.finish(statement, "ALTER TABLE", false).map(Some)
        } else {
            Ok(None)
        };
    }
    let mut kept = 0;
    let mut gone = Vec::new();
    for (index, action) in actions.iter().enumerate() {
        match definition.action(action)? {
            None => return Ok(None),
            Some(Fate::Kept) => kept += 1,
            Some(Fate::Replaced) => gone.push(index),
        }
    }
    for index in gone {
        if kept > 0 {
            definition.remove_element(&actions, index);
        }
    }
    definition
        .finish(statement, "ALTER TABLE", kept == 0)
        .map(Some)
}

/// A table that holds sealed values must not take a name under which the policy expects values of its own.
fn check_name(
    definition: &Definition<'_, '_>,
    parts: &[String],
    actions: &[Range<usize>],
) -> Result<(), Refusal> {
    let Definition { door, tokens, .. } = definition;
    let holds = lookup(door.rules, door.view, parts).is_some_and(|relation| {
        let mut columns = relation.columns.iter();
        columns.any(|column| column.sealed_domain().is_some())
    });
    if !holds {
        return Ok(());
    }
    let (schema, table) = &definition.table;
    for action in actions {
        let to = |words: &[&str]| {
            let named = tokens
                .are_words(action.start, words)
                .then(|| action.start + words.len());
            named.and_then(|at| Some((at, tokens.name(at)?.into_owned())))
        };
        let taken = match (to(&["rename", "to"]), to(&["set", "schema"])) {
            (Some((at, name)), _) => (at, schema.clone(), name),
            (None, Some((at, name))) => (at, name, table.clone()),
            (None, None) => continue,
        };
        let (at, schema, name) = taken;
        if !door.rules.declared_in(&schema, &name).is_empty() {
            return Err(Refusal::unsupported(
                "value-not-movable",
                format!("\"{table}\" holds sealed values and cannot become \"{schema}.{name}\", which the policy names"),
            )
            .detail("Its values may have been sealed for other columns: searches would not find them.")
            .hint(format!("CREATE TABLE {name}, and move the rows with INSERT ... SELECT."))
            .at(tokens.range(at).start));
        }
    }
    Ok(())
}

impl Definition<'_, '_> {
    /// One action. `None`: it has no rule.
    fn action(&mut self, action: &Range<usize>) -> Result<Option<Fate>, Refusal> {
        let tokens = self.tokens;
        let at = action.start;
        let is = |word: &str| tokens.is_word(at, word);
        if is("add") {
            return self.add(at + 1..action.end).map(Some);
        }
        if is("drop") {
            return Ok(Some(self.drop(at + 1..action.end)));
        }
        if is("alter") {
            return self.alter(at + 1..action.end).map(|()| Some(Fate::Kept));
        }
        if is("rename") {
            return self.rename(at + 1..action.end).map(|()| Some(Fate::Kept));
        }
        if is("attach") && tokens.is_word(at + 1, "partition") {
            return self.attach(at + 2);
        }
        let settable = is("set")
            && (matches!(tokens.kind(at + 1), Kind::LParen)
                || SETTABLE.iter().any(|word| tokens.is_word(at + 1, word)));
        let harmless = HARMLESS.iter().any(|word| is(word));
        Ok((settable || harmless).then_some(Fate::Kept))
    }

    fn add(&mut self, mut range: Range<usize>) -> Result<Fate, Refusal> {
        let tokens = self.tokens;
        if is_constraint(self, range.start) {
            return match self.constraint(&range)? {
                Judged::Kept => Ok(Fate::Kept),
                Judged::Key(key) => {
                    self.require_values(&key);
                    self.make_key(&key, false);
                    Ok(Fate::Replaced)
                }
            };
        }
        if tokens.is_word(range.start, "column") {
            range.start += 1;
        }
        let exists = tokens.are_words(range.start, &["if", "not", "exists"]);
        if exists {
            range.start += 3;
        }
        let keys = self.column(&range)?;
        for key in &keys {
            self.make_key(key, exists);
        }
        Ok(Fate::Kept)
    }

    /// A key over terms is an index, and no constraint.
    fn drop(&mut self, range: Range<usize>) -> Fate {
        let tokens = self.tokens;
        if !tokens.is_word(range.start, "constraint") {
            return Fate::Kept;
        }
        let exists = tokens.are_words(range.start + 1, &["if", "exists"]);
        let at = range.start + 1 + if exists { 2 } else { 0 };
        let Some(named) = tokens.name(at) else {
            return Fate::Kept;
        };
        let (schema, table) = &self.table;
        let relation = self.door.rules.relation(schema, table);
        let index = relation.and_then(|relation| {
            relation.uniques.iter().find(|index| {
                index.name == *named && index.keys.iter().any(|key| key.starts_with(EQ_TERM))
            })
        });
        if index.is_none() {
            return Fate::Kept;
        }
        let (exists, behind) = (if exists { "IF EXISTS " } else { "" }, at + 1..range.end);
        let behind = &tokens.sql[tokens.bytes(&behind)];
        let sql = format!(
            "DROP INDEX {exists}{}.{} {behind}",
            quote_identifier(schema),
            quote_identifier(&named)
        );
        self.note(format!(
            "The key {named} is an index on equality terms, and is dropped as one."
        ));
        let sql = sql.trim_end().to_owned();
        self.after.push(After { sql, unless: None });
        Fate::Replaced
    }

    /// `ALTER [COLUMN] name ...`
    fn alter(&mut self, range: Range<usize>) -> Result<(), Refusal> {
        let tokens = self.tokens;
        let at = range.start + usize::from(tokens.is_word(range.start, "column"));
        let Some(column) = tokens.name(at) else {
            return Ok(());
        };
        let Some(declared) = self.declared(&column) else {
            if let Some((at, declared)) = self.mentioned(at + 1..range.end) {
                return Err(needs_plaintext(
                    declared,
                    "an expression that reads it",
                    at,
                    tokens,
                ));
            }
            let types = tokens.is_word(at + 1, "type")
                || tokens.are_words(at + 1, &["set", "data", "type"]);
            if types && self.is_scope(&column) {
                return Err(refusals::construct(
                    "another type for a column that a scope is taken from",
                )
                .at(tokens.range(at).start));
            }
            return Ok(());
        };
        let words: [&[&str]; 7] = [
            &["set", "not", "null"],
            &["drop", "not", "null"],
            &["drop", "default"],
            &["set", "default", "null"],
            &["set", "statistics"],
            &["set", "storage"],
            &["set", "compression"],
        ];
        let options = (tokens.is_word(at + 1, "set") || tokens.is_word(at + 1, "reset"))
            && matches!(tokens.kind(at + 2), Kind::LParen);
        if options || words.iter().any(|words| tokens.are_words(at + 1, words)) {
            return Ok(());
        }
        let what = if tokens.is_word(at + 1, "set") && tokens.is_word(at + 2, "default") {
            "a default"
        } else {
            "this change"
        };
        Err(needs_plaintext(declared, what, at, tokens))
    }

    fn is_scope(&self, column: &str) -> bool {
        self.declared
            .iter()
            .any(|declared| declared.scope.columns().contains(&column))
    }

    /// A renamed column keeps its id; a column that a scope is taken from is known by its name only.
    fn rename(&mut self, range: Range<usize>) -> Result<(), Refusal> {
        let tokens = self.tokens;
        let at = range.start + usize::from(tokens.is_word(range.start, "column"));
        let to = tokens.is_word(range.start, "to") || tokens.is_word(range.start, "constraint");
        match tokens.name(at) {
            Some(column) if !to && self.is_scope(&column) => Err(refusals::construct(
                "another name for a column that a scope is taken from",
            )
            .at(tokens.range(at).start)),
            _ => Ok(()),
        }
    }
}
