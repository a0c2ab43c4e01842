//! The definition of one column: its type becomes a domain, and what may stand behind it.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::{
    Definition,
    constraint::{Key, no_foreign_key},
    needs_plaintext,
};
use crate::analysis::type_name;
use crate::{Refusal, plan::Replacement, ruleset::Declared, text::quote_identifier};

/// Words that end a column's type.
const BEHIND_TYPE: [&str; 15] = [
    "collate",
    "constraint",
    "not",
    "null",
    "default",
    "check",
    "generated",
    "unique",
    "primary",
    "references",
    "storage",
    "compression",
    "deferrable",
    "initially",
    "options",
];

/// Collations in which different bytes are never equal.
const BYTEWISE: [&str; 6] = ["default", "C", "c", "POSIX", "posix", "ucs_basic"];

impl<'a> Definition<'_, 'a> {
    /// `name type ...` of a column: answers the keys that are to be made for it.
    pub(super) fn column(&mut self, range: &Range<usize>) -> Result<Vec<Key>, Refusal> {
        let Some(name) = self.tokens.name(range.start).map(|name| name.into_owned()) else {
            return Ok(Vec::new());
        };
        let Some(declared) = self.declared(&name) else {
            return self.plain_column(range).map(|()| Vec::new());
        };
        let mut at = range.start + 1;
        while at < range.end && !self.ends_type(at) {
            at += 1;
        }
        self.column_type(declared, range.start + 1..at)?;
        self.column_constraints(declared, at..range.end)
    }

    fn ends_type(&self, at: usize) -> bool {
        BEHIND_TYPE.iter().any(|word| self.tokens.is_word(at, word))
    }

    /// A column that the policy does not name must not be computed from one that it names.
    fn plain_column(&self, range: &Range<usize>) -> Result<(), Refusal> {
        match self.mentioned(range.start + 1..range.end) {
            Some((at, declared)) => Err(needs_plaintext(
                declared,
                "a default, check or generated column that reads it",
                at,
                self.tokens,
            )),
            None => Ok(()),
        }
    }

    fn column_type(&mut self, declared: &Declared, range: Range<usize>) -> Result<(), Refusal> {
        let bytes = self.tokens.bytes(&range);
        let written = &self.tokens.sql[bytes.clone()];
        let bare = declared.logical.domain();
        let domain = format!("pgveil.{}", quote_identifier(bare));
        let plain = written.replace(char::is_whitespace, "");
        if plain.eq_ignore_ascii_case(&domain) || plain == format!("pgveil.\"{bare}\"") {
            return Ok(());
        }
        let catalog = &self.door.rules.catalog;
        let given = type_name::named(written, catalog, self.door.view);
        if given != Some(declared.logical) {
            return Err(Refusal::new(
                "42804",
                "definition-differs",
                format!(
                    "column \"{}\" cannot be made of type {written}",
                    declared.column
                ),
            )
            .detail(format!(
                "The policy says that {} is {}.",
                declared.display_name(),
                declared.logical
            ))
            .hint("Write the same type in the statement and in the policy.")
            .at(bytes.start));
        }
        // The domains of PostgreSQL's own types are there from the beginning.
        if declared.logical.is_stored_otherwise() && !catalog.has_domain(declared.logical.domain())
        {
            return Err(Refusal::unsupported(
                "column-not-converted",
                format!("there is no domain {domain} yet"),
            )
            .hint("Make the table beside pgveil, then run `pgveil apply`.")
            .at(bytes.start));
        }
        self.note(format!(
            "{} gets the domain {domain}, which holds sealed values only.",
            declared.display_name()
        ));
        self.edits.replace(bytes, Replacement::Text(domain));
        Ok(())
    }

    /// What stands behind the type.
    fn column_constraints(
        &mut self,
        declared: &'a Declared,
        range: Range<usize>,
    ) -> Result<Vec<Key>, Refusal> {
        let tokens = self.tokens;
        let refused = |what: &str, at: usize| Err(needs_plaintext(declared, what, at, tokens));
        let mut keys = Vec::new();
        let (mut at, mut named) = (range.start, None::<(usize, String)>);
        while at < range.end {
            let is = |word: &str| tokens.is_word(at, word);
            let start = named.as_ref().map_or(at, |(start, _)| *start);
            let next = if is("constraint") {
                let name = tokens.name(at + 1).map(|name| name.into_owned());
                named = Some((at, name.unwrap_or_default()));
                at += 2;
                continue;
            } else if is("not") {
                at + 2
            } else if is("null") {
                at + 1
            } else if is("storage") || is("compression") {
                at + 2
            } else if is("collate") {
                self.collation(declared, at)?
            } else if is("default")
                && tokens.is_word(at + 1, "null")
                && self.ends_default(at + 2, range.end)
            {
                at + 2
            } else if is("default") {
                return refused("a default", at);
            } else if is("check") {
                let close = tokens.pair(at + 1).unwrap_or(range.end);
                if !self.is_null_test(at + 2..close) {
                    return refused("a CHECK constraint", at);
                }
                close + 1
            } else if is("generated") {
                return refused("GENERATED", at);
            } else if is("references") {
                return Err(no_foreign_key(declared, at, tokens));
            } else if is("unique") || is("primary") {
                let primary = is("primary");
                let (key, end) = self.inline_key(declared, at, range.end, primary)?;
                let name = named.take().map(|(_, name)| name);
                self.remove(&(start..end));
                if primary {
                    let here = tokens.bytes(&(start..end)).end;
                    self.edits.close(here, "NOT NULL");
                }
                keys.push(Key { name, ..key });
                end
            } else {
                return refused("this definition", at);
            };
            named = None;
            at = next;
        }
        Ok(keys)
    }

    fn ends_default(&self, at: usize, end: usize) -> bool {
        at >= end || self.ends_type(at)
    }

    /// `COLLATE name`: taken away, since equality of bytes is what terms know.
    fn collation(&mut self, declared: &Declared, at: usize) -> Result<usize, Refusal> {
        let Some((parts, end)) = super::name(self.tokens, at + 1) else {
            return Err(needs_plaintext(declared, "this collation", at, self.tokens));
        };
        let bytewise = parts
            .last()
            .is_some_and(|name| BYTEWISE.contains(&name.as_str()));
        if !bytewise {
            return Err(needs_plaintext(declared, "a collation", at, self.tokens));
        }
        self.remove(&(at..end));
        Ok(end)
    }

    fn inline_key(
        &self,
        declared: &Declared,
        at: usize,
        end: usize,
        primary: bool,
    ) -> Result<(Key, usize), Refusal> {
        let columns = vec![declared.column.clone()];
        self.check_key(declared, &columns, at)?;
        let mut next = at + 1 + usize::from(primary);
        let mut rest = String::new();
        if self.tokens.are_words(next, &["nulls", "not", "distinct"]) {
            rest.push_str(" NULLS NOT DISTINCT");
            next += 3;
        } else if self.tokens.are_words(next, &["nulls", "distinct"]) {
            next += 2;
        }
        let other =
            next < end && (self.tokens.is_word(next, "with") || self.tokens.is_word(next, "using"));
        if other || self.defers(next) {
            return Err(needs_plaintext(
                declared,
                "a key with options or one that is DEFERRABLE",
                next,
                self.tokens,
            ));
        }
        let key = Key {
            name: None,
            columns,
            primary,
            rest,
        };
        Ok((key, next))
    }

    /// Whether a key's checks are deferred: an index cannot do that.
    pub(super) fn defers(&self, at: usize) -> bool {
        let tokens = self.tokens;
        tokens.is_word(at, "deferrable") || tokens.are_words(at, &["initially", "deferred"])
    }

    /// Whether a condition looks at columns of the policy only for NULL, or not at all.
    pub(super) fn is_null_test(&self, range: Range<usize>) -> bool {
        range.clone().all(|at| {
            let names = self
                .tokens
                .name(at)
                .is_some_and(|name| self.declared(&name).is_some());
            let mut behind = at + 1;
            while matches!(self.tokens.kind(behind), Kind::RParen) && behind < range.end {
                behind += 1;
            }
            !names
                || self.tokens.are_words(behind, &["is", "null"])
                || self.tokens.are_words(behind, &["is", "not", "null"])
        })
    }
}
