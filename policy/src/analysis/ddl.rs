//! CREATE TABLE, ALTER TABLE and CREATE INDEX over columns that the policy names: types become domains of pgveil, keys
//! become indexes on search terms, and what needs plaintext is refused. Read by its words: the parser knows few of them.

mod alter;
mod attached;
mod column;
mod constraint;
mod heirs;
mod index;
mod table;

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::{
    edits::Edits,
    refusals,
    statement::{Changes, Door, Verdict},
};
use crate::{
    Refusal,
    plan::{Output, Replacement},
    ruleset::{Declared, Held, TermContext},
    text::{Tokens, quote_identifier},
};

/// PostgreSQL cuts longer identifiers.
const MAX_IDENTIFIER: usize = 63;

/// A definition under way.
struct Definition<'d, 'a> {
    door: &'d Door<'a>,
    tokens: &'d Tokens<'a>,
    /// The table that it is about, schema and name.
    table: (String, String),
    /// What the policy says of the table's columns.
    declared: Vec<&'a Declared>,
    edits: Edits,
    /// Statements to run after the client's, in one with it.
    after: Vec<After>,
    notes: Vec<String>,
}

/// Judges a definition. `None`: it is none of these, or about no column that the policy names.
pub(super) fn judge(door: &Door<'_>, statement: &Range<usize>) -> Result<Option<Verdict>, Refusal> {
    let tokens = door.tokens;
    let first = statement.start;
    if tokens.is_word(first, "create") {
        let mut at = first + 1;
        while ["global", "local", "temp", "temporary", "unlogged"]
            .iter()
            .any(|word| tokens.is_word(at, word))
        {
            at += 1;
        }
        if tokens.is_word(at, "table") {
            constraint::check_references(door, statement)?;
            return table::judge(door, statement, at + 1);
        }
        let behind = first + 1 + 2 * usize::from(tokens.are_words(first + 1, &["or", "replace"]));
        let at = behind + usize::from(tokens.is_word(behind, "constraint"));
        if tokens.is_word(at, "trigger") {
            return attached::trigger(door, statement, at + 1);
        }
        if tokens.is_word(first + 1, "policy") {
            return attached::policy(door, statement, first + 2);
        }
        let unique = tokens.is_word(first + 1, "unique");
        let at = first + 1 + usize::from(unique);
        if tokens.is_word(at, "index") {
            return index::judge(door, statement, at + 1, unique);
        }
    } else if tokens.are_words(first, &["alter", "policy"]) {
        return attached::policy(door, statement, first + 2);
    } else if tokens.are_words(first, &["alter", "table"]) {
        constraint::check_references(door, statement)?;
        return alter::judge(door, statement, first + 2);
    }
    Ok(None)
}

/// A statement of pgveil's own, to run after the client's.
struct After {
    sql: String,
    /// Not if there is a relation of this name already.
    unless: Option<String>,
}

impl After {
    /// As PL/pgSQL.
    fn run(&self, quote: &str) -> String {
        let run = format!("EXECUTE {quote}{}{quote}; ", self.sql);
        match &self.unless {
            Some(name) => format!(
                "IF pg_catalog.to_regclass({quote}{name}{quote}) IS NULL THEN {run}END IF; "
            ),
            None => run,
        }
    }
}

impl<'d, 'a> Definition<'d, 'a> {
    fn new(door: &'d Door<'a>, table: (String, String)) -> Self {
        Self {
            door,
            tokens: door.tokens,
            declared: door.rules.declared_in(&table.0, &table.1),
            table,
            edits: Edits::default(),
            after: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// What the policy says of a column.
    fn declared(&self, column: &str) -> Option<&'a Declared> {
        self.declared
            .iter()
            .copied()
            .find(|declared| declared.column == column)
    }

    /// The number of a column's terms, as it is registered, or will be once it is made: columns of one group have one.
    fn number(&self, declared: &Declared) -> u32 {
        let columns = || self.door.rules.columns.values();
        let its = columns().filter(|column| {
            (&column.schema, &column.table, &column.name)
                == (&declared.schema, &declared.table, &declared.column)
        });
        if let Some(newest) = its.max_by_key(|column| column.id) {
            return newest.generation.number;
        }
        let Some(group) = &declared.equality_group else {
            return 0;
        };
        let context = TermContext::Group(group.clone());
        let of_group = columns().filter(|column| column.context == context);
        let numbers = of_group.map(|column| column.generation.number);
        numbers.max().unwrap_or(0)
    }

    /// The first word among some tokens that names a column of the policy.
    fn mentioned(&self, range: Range<usize>) -> Option<(usize, &'a Declared)> {
        range
            .into_iter()
            .find_map(|at| Some((at, self.declared(&self.tokens.name(at)?)?)))
    }

    /// Whether the statement names a column that holds sealed values and for which the policy has no rule here: a
    /// partition's or a child's, or a copy's. What would be made of it would work on ciphertext, or hold plaintext.
    fn names_others(&self, statement: &Range<usize>) -> bool {
        let (schema, table) = &self.table;
        let Some(relation) = self.door.rules.relation(schema, table) else {
            return false;
        };
        let others: Vec<&str> = relation
            .columns
            .iter()
            .filter(|column| !matches!(self.door.rules.held(relation, column), Held::Plain))
            .map(|column| column.name.as_str())
            .filter(|name| self.declared(name).is_none())
            .collect();
        !others.is_empty()
            && statement
                .clone()
                .filter_map(|at| self.tokens.name(at))
                .any(|name| others.contains(&&*name))
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Takes tokens out of the text.
    fn remove(&mut self, range: &Range<usize>) {
        let bytes = self.tokens.bytes(range);
        self.edits.replace(bytes, Replacement::Text(String::new()));
    }

    /// Takes one of several elements out of a list, with a comma beside it.
    fn remove_element(&mut self, elements: &[Range<usize>], index: usize) {
        let start = |element: &Range<usize>| self.tokens.bytes(element).start;
        let end = |element: &Range<usize>| self.tokens.bytes(element).end;
        let bytes = match index.checked_sub(1) {
            Some(before) => end(&elements[before])..end(&elements[index]),
            None => match elements.get(1) {
                Some(next) => start(&elements[0])..start(next),
                None => start(&elements[0])..end(&elements[0]),
            },
        };
        self.edits.replace(bytes, Replacement::Text(String::new()));
    }

    fn table_sql(&self) -> String {
        let (schema, table) = &self.table;
        format!("{}.{}", quote_identifier(schema), quote_identifier(table))
    }

    /// Checks that a key over these columns would hold on terms.
    fn check_key(&self, declared: &Declared, columns: &[String], at: usize) -> Result<(), Refusal> {
        let place = self.tokens.range(at).start;
        check_terms(declared, at, self.tokens)?;
        let missing: Vec<_> = declared
            .needed_in_unique()
            .into_iter()
            .filter(|needed| !columns.iter().any(|column| column == needed))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Refusal::unsupported(
            "unique-across-scopes",
            format!(
                "a key over protected column \"{}\" would let duplicates in",
                declared.column
            ),
        )
        .detail(format!(
            "Its terms are made per scope ({}), so equal values of two scopes look different.",
            declared.scope_text
        ))
        .hint(format!(
            "Add {} to the key, or set search_key = \"shared\" in the policy.",
            missing.join(", ")
        ))
        .at(place))
    }

    /// The statement, with what runs after it.
    fn finish(
        mut self,
        statement: &Range<usize>,
        tag: &'static str,
        drop: bool,
    ) -> Result<Verdict, Refusal> {
        let bytes = self.tokens.bytes(statement);
        if drop {
            // Nothing is left of the client's own statement.
            self.edits = Edits::default();
            self.edits
                .replace(bytes.clone(), Replacement::Text(String::new()));
        }
        let shown = (!self.after.is_empty()).then_some(tag);
        match (drop, self.after.as_slice()) {
            (_, []) => {}
            (true, [only]) if only.unless.is_none() => {
                self.edits = Edits::default();
                self.edits
                    .replace(bytes, Replacement::Text(only.sql.clone()));
            }
            (drop, _) => {
                let quote = free_quote(self.tokens.sql);
                let after: String = self.after.iter().map(|after| after.run(&quote)).collect();
                let outer = format!("{}o$", &quote[..quote.len() - 1]);
                let head = format!("DO {outer} BEGIN ");
                let tail = format!("{after}END {outer}");
                if drop {
                    self.edits = Edits::default();
                    self.edits
                        .replace(bytes, Replacement::Text(format!("{head}{tail}")));
                } else {
                    self.edits
                        .open(bytes.start, format!("{head}EXECUTE {quote}"));
                    self.edits.close(bytes.end, format!("{quote}; {tail}"));
                }
            }
        }
        let edits = self
            .edits
            .finish()
            .ok_or_else(|| refusals::not_understood("Two changes of the text overlap"))?;
        Ok(Verdict::Changed(Box::new(Changes {
            scope_queries: Vec::new(),
            edits,
            slots: Vec::new(),
            parameters: Default::default(),
            output: Output::None,
            notes: self.notes,
            tag: shown,
        })))
    }
}

/// A dollar quote that the text does not contain.
fn free_quote(sql: &str) -> String {
    let mut number = 0usize;
    loop {
        let quote = format!("$pgveil{number}$");
        if !sql.contains(&quote[..quote.len() - 1]) {
            return quote;
        }
        number += 1;
    }
}

/// Whether a column has terms to index.
fn check_terms(declared: &Declared, at: usize, tokens: &Tokens<'_>) -> Result<(), Refusal> {
    if declared.equality {
        return Ok(());
    }
    Err(Refusal::unsupported(
        "equality-not-enabled",
        format!(
            "an index over protected column \"{}\" is not possible",
            declared.column
        ),
    )
    .detail(format!(
        "{} has no equality terms that it could hold.",
        declared.display_name()
    ))
    .hint("Add search = [\"equality\"] to the column in the policy, or leave the index away.")
    .at(tokens.range(at).start))
}

/// A definition that would need plaintext.
fn needs_plaintext(declared: &Declared, what: &str, at: usize, tokens: &Tokens<'_>) -> Refusal {
    Refusal::unsupported(
        "definition-needs-plaintext",
        format!(
            "{what} is not possible on protected column \"{}\"",
            declared.column
        ),
    )
    .detail("The server would have to hold or compute with its plaintext.")
    .hint(match what {
        "a default" => "Let the application give the value in every INSERT, or read NULL as it: COALESCE(column, 'value') is answered.",
        _ => "Let the application compute or check the value, or leave the column unprotected.",
    })
    .at(tokens.range(at).start)
}

/// `a`, `b.a`, `c.b.a`: the parts, and the token behind.
pub(super) fn name(tokens: &Tokens<'_>, at: usize) -> Option<(Vec<String>, usize)> {
    let mut parts = vec![tokens.name(at)?.into_owned()];
    let mut at = at + 1;
    while matches!(tokens.kind(at), Kind::Period) {
        parts.push(tokens.name(at + 1)?.into_owned());
        at += 2;
    }
    Some((parts, at))
}

/// The schema and name that a table to be made will have.
pub(super) fn target(door: &Door<'_>, parts: &[String]) -> Option<(String, String)> {
    match parts {
        [name] => {
            let schemas = door.view.schemas.iter();
            let made_in = schemas
                .filter(|schema| *schema != "pg_catalog" && !schema.starts_with("pg_temp"))
                .find(|schema| *schema != "pgveil")?;
            Some((made_in.clone(), name.clone()))
        }
        [schema, name] | [_, schema, name] => Some((schema.clone(), name.clone())),
        _ => None,
    }
}

/// The schema and name of a table that is there, as the session finds it. Temporary ones are nobody's.
fn existing(door: &Door<'_>, parts: &[String]) -> Option<(String, String)> {
    match parts {
        [name]
            if door
                .view
                .relations
                .iter()
                .any(|own| own.name == *name && own.schema.starts_with("pg_temp_")) =>
        {
            None
        }
        [name] => {
            let found = door
                .view
                .schemas
                .iter()
                .find(|schema| door.rules.relation(schema, name).is_some());
            match found {
                Some(schema) => Some((schema.clone(), name.clone())),
                None => target(door, parts),
            }
        }
        _ => target(door, parts),
    }
}

/// The elements between brackets, or of an action list: separated by commas outside of inner brackets.
fn elements(tokens: &Tokens<'_>, range: Range<usize>) -> Vec<Range<usize>> {
    let mut elements = Vec::new();
    let (mut start, mut at) = (range.start, range.start);
    while at < range.end {
        match tokens.kind(at) {
            Kind::LParen | Kind::LBracket => {
                at = tokens
                    .pair(at)
                    .filter(|close| *close < range.end)
                    .unwrap_or(at);
            }
            Kind::Comma => {
                elements.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if start < range.end {
        elements.push(start..range.end);
    }
    elements
}

/// PostgreSQL's name for an index that belongs to a constraint without a name (`makeObjectName`).
fn object_name(table: &str, columns: &str, label: &str) -> String {
    let cut = |text: &str, length: usize| {
        let mut end = length.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].to_owned()
    };
    let joints = if columns.is_empty() { 1 } else { 2 };
    let room = MAX_IDENTIFIER - joints - label.len();
    let (mut first, mut second) = (table.len(), columns.len());
    while first + second > room {
        if first > second {
            first -= 1;
        } else {
            second -= 1;
        }
    }
    let table = cut(table, first);
    if columns.is_empty() {
        format!("{table}_{label}")
    } else {
        format!("{table}_{}_{label}", cut(columns, second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_indexes_as_postgres_does() {
        assert_eq!(object_name("t", "a_b", "key"), "t_a_b_key");
        assert_eq!(object_name("t", "", "pkey"), "t_pkey");
        let long = "x".repeat(60);
        let name = object_name(&long, &long, "key");
        assert_eq!(name.len(), 63);
        assert!(name.ends_with("_key"));
    }

    #[test]
    fn finds_a_quote_that_the_text_does_not_hold() {
        assert_eq!(free_quote("a $pgveil0$ b"), "$pgveil1$");
    }
}
