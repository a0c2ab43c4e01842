//! Constraints of a table: keys over protected columns become unique indexes on their terms.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::{After, Definition, existing, name, needs_plaintext, object_name};
use crate::{
    Refusal,
    analysis::{statement::Door, term::numbered},
    ruleset::Declared,
    text::{Tokens, quote_identifier},
};

/// A key that becomes an index.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: Option<String>,
    pub(super) columns: Vec<String>,
    pub(super) primary: bool,
    /// What stands behind the columns: `NULLS NOT DISTINCT`, `INCLUDE (...)`.
    pub(super) rest: String,
}

/// What is to be done with a constraint.
pub(super) enum Judged {
    /// It stays.
    Kept,
    /// It becomes an index.
    Key(Key),
}

/// Whether an element is a constraint and no column.
pub(super) fn is_constraint(definition: &Definition<'_, '_>, at: usize) -> bool {
    let tokens = definition.tokens;
    [
        "constraint",
        "primary",
        "unique",
        "check",
        "foreign",
        "like",
    ]
    .iter()
    .any(|word| tokens.is_word(at, word))
        || (tokens.is_word(at, "exclude")
            && (tokens.is_word(at + 1, "using") || matches!(tokens.kind(at + 1), Kind::LParen)))
}

/// Equal values are different bytes, and what makes a column of the policy unique is an index on terms.
pub(super) fn no_foreign_key(declared: &Declared, at: usize, tokens: &Tokens<'_>) -> Refusal {
    Refusal::unsupported(
        "definition-needs-plaintext",
        format!(
            "a foreign key is not possible on protected column \"{}\"",
            declared.column
        ),
    )
    .detail("PostgreSQL would compare sealed values, which differ where the plaintexts are equal.")
    .hint("Refer to a key that is not protected (an id beside it), or let the application look whether the row is there.")
    .at(tokens.range(at).start)
}

/// `REFERENCES people (email)` in a definition of any table.
pub(super) fn check_references(door: &Door<'_>, statement: &Range<usize>) -> Result<(), Refusal> {
    let tokens = door.tokens;
    for at in statement.clone() {
        if !tokens.is_word(at, "references") {
            continue;
        }
        let Some((parts, behind)) = name(tokens, at + 1) else {
            continue;
        };
        let (Some((schema, table)), Kind::LParen) = (existing(door, &parts), tokens.kind(behind))
        else {
            continue;
        };
        let declared = door.rules.declared_in(&schema, &table);
        let close = tokens.pair(behind).unwrap_or(behind);
        for at in behind + 1..close {
            let named = |declared: &&&Declared| {
                tokens.name(at).is_some_and(|name| *name == declared.column)
            };
            if let Some(declared) = declared.iter().find(named) {
                return Err(no_foreign_key(declared, at, tokens));
            }
        }
    }
    Ok(())
}

impl Definition<'_, '_> {
    /// A table constraint.
    pub(super) fn constraint(&self, range: &Range<usize>) -> Result<Judged, Refusal> {
        let tokens = self.tokens;
        let mut at = range.start;
        let mut name = None;
        if tokens.is_word(at, "constraint") {
            name = tokens.name(at + 1).map(|name| name.into_owned());
            at += 2;
        }
        let Some((place, declared)) = self.mentioned(at..range.end) else {
            return Ok(Judged::Kept);
        };
        let refused = |what: &str| Err(needs_plaintext(declared, what, place, tokens));
        let primary = tokens.are_words(at, &["primary", "key"]);
        if primary || tokens.is_word(at, "unique") {
            return self.key(range, at, name, primary);
        }
        if tokens.is_word(at, "check") {
            let close = tokens.pair(at + 1).unwrap_or(range.end);
            return if self.is_null_test(at + 2..close) {
                Ok(Judged::Kept)
            } else {
                refused("a CHECK constraint")
            };
        }
        if tokens.is_word(at, "foreign") {
            // Only its own columns are this table's.
            let close = tokens.pair(at + 2).unwrap_or(range.end);
            return if self.mentioned(at + 2..close).is_none() {
                Ok(Judged::Kept)
            } else {
                Err(no_foreign_key(declared, place, tokens))
            };
        }
        refused("this constraint")
    }

    fn key(
        &self,
        range: &Range<usize>,
        at: usize,
        name: Option<String>,
        primary: bool,
    ) -> Result<Judged, Refusal> {
        let tokens = self.tokens;
        let mut open = at + 1 + usize::from(primary);
        let mut rest = String::new();
        if tokens.are_words(open, &["nulls", "not", "distinct"]) {
            rest.push_str(" NULLS NOT DISTINCT");
            open += 3;
        } else if tokens.are_words(open, &["nulls", "distinct"]) {
            open += 2;
        }
        let close = tokens.pair(open).filter(|close| *close < range.end);
        let (Kind::LParen, Some(close)) = (tokens.kind(open), close) else {
            // USING INDEX: an index that is there already cannot be one over protected columns.
            return Ok(Judged::Kept);
        };
        let columns: Vec<String> = (open + 1..close)
            .filter_map(|at| tokens.name(at))
            .map(|name| name.into_owned())
            .collect();
        for at in open + 1..close {
            if let Some(declared) = tokens.name(at).and_then(|name| self.declared(&name)) {
                self.check_key(declared, &columns, at)?;
            }
        }
        let protected = columns.iter().any(|column| self.declared(column).is_some());
        if !protected {
            return Ok(Judged::Kept);
        }
        if close + 1 < range.end {
            let declared = self.mentioned(open..close);
            let include = tokens.is_word(close + 1, "include");
            let end = include
                .then(|| tokens.pair(close + 2))
                .flatten()
                .map(|end| end + 1);
            match (end, declared) {
                (Some(end), _) if end == range.end => {
                    let text = &tokens.sql[tokens.bytes(&(close + 1..range.end))];
                    rest = format!(" {text}{rest}");
                }
                (_, Some((place, declared))) => {
                    return Err(needs_plaintext(
                        declared,
                        "a key with options or one that is DEFERRABLE",
                        place,
                        tokens,
                    ));
                }
                _ => {}
            }
        }
        Ok(Judged::Key(Key {
            name,
            columns,
            primary,
            rest,
        }))
    }

    /// The statements that make a key's index; `exists`: fine if it is there already.
    pub(super) fn make_key(&mut self, key: &Key, exists: bool) {
        let table = self.table.1.clone();
        let name = key.name.clone().unwrap_or_else(|| {
            if key.primary {
                object_name(&table, "", "pkey")
            } else {
                object_name(&table, &key.columns.join("_"), "key")
            }
        });
        let columns: Vec<String> = key
            .columns
            .iter()
            .map(|column| {
                let quoted = quote_identifier(column);
                match self.declared(column) {
                    Some(declared) => format!("{}{quoted})", numbered(self.number(declared))),
                    None => quoted,
                }
            })
            .collect();
        let sql = format!(
            "CREATE UNIQUE INDEX {} ON {} ({}){}",
            quote_identifier(&name),
            self.table_sql(),
            columns.join(", "),
            key.rest
        );
        let unless = exists.then(|| {
            let (schema, _) = &self.table;
            format!("{}.{}", quote_identifier(schema), quote_identifier(&name))
        });
        self.note(format!(
            "The key {name} becomes a unique index on the equality terms."
        ));
        self.after.push(After { sql, unless });
    }

    /// A primary key over several columns lets none of them be NULL.
    pub(super) fn require_values(&mut self, key: &Key) {
        if !key.primary {
            return;
        }
        let changes: Vec<String> = key
            .columns
            .iter()
            .map(|column| format!("ALTER COLUMN {} SET NOT NULL", quote_identifier(column)))
            .collect();
        let sql = format!("ALTER TABLE {} {}", self.table_sql(), changes.join(", "));
        self.after.push(After { sql, unless: None });
    }
}
