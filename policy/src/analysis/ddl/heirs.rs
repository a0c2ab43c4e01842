//! CREATE TABLE with the columns of another one: PARTITION OF, LIKE, INHERITS. The server gives it that table's domains; what
//! is defined beside must not touch them. ATTACH PARTITION: the rows are there already, so the server looks at their values.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use pgveil_config::SearchKey;

use super::{After, Definition, alter::Fate, elements, existing, name, target};
use crate::{
    Refusal,
    analysis::{
        statement::{Door, Verdict},
        touched::failing,
    },
    plan::VALUES_OF_OTHERS,
    ruleset::Held,
    text::quote_identifier,
};

/// `behind` is behind the table's name. `None`: it is none of these, or has no rule.
pub(super) fn judge(
    door: &Door<'_>,
    statement: &Range<usize>,
    parts: &[String],
    temporary: bool,
    behind: usize,
) -> Result<Option<Verdict>, Refusal> {
    let Some(read) = read(door, statement, behind) else {
        return Ok(None);
    };
    let Some(table) = target(door, parts) else {
        return Ok(None);
    };
    let definition = Definition::new(door, table);
    // The policy's own tables say the types of their columns themselves.
    if !temporary && !definition.declared.is_empty() {
        return Ok(None);
    }
    let mut sealed = Vec::new();
    for parent in &read.parents {
        let Some((schema, name)) = existing(door, parent) else {
            return Ok(None);
        };
        let Some(relation) = door.rules.relation(&schema, &name) else {
            return Ok(None);
        };
        if read.is_partition && is_migrated(door, relation.oid) {
            return Err(takes_no_others(&relation.name).at(door.tokens.range(behind).start));
        }
        // A partition is shown as its table is, whose columns the server has in another order.
        if relation.is_view()
            || relation.reshaped && !read.is_partition
            || door.rules.refuse_pending(relation.oid).is_some()
        {
            return Ok(None);
        }
        for column in &relation.columns {
            match door.rules.held(relation, column) {
                Held::Plain => {}
                Held::Strange => return Ok(None),
                Held::Protected(_) | Held::Moved(_) => sealed.push(column.name.as_str()),
            }
        }
    }
    let touches = |at: usize| { door.tokens.name(at) }.is_some_and(|name| sealed.contains(&&*name));
    if read.others.iter().any(|range| range.clone().any(touches)) {
        return Ok(None);
    }
    let mut definition = Definition {
        declared: Vec::new(),
        ..definition
    };
    definition
        .note("The new table has the columns of the other one, under their domains.".to_owned());
    definition
        .finish(statement, "CREATE TABLE", false)
        .map(Some)
}

impl Definition<'_, '_> {
    /// `ATTACH PARTITION name ...`, where `at` is the name: once it is done, and before anybody else sees it, the statement
    /// fails if a value was sealed for a column whose terms do not match those of the parent's.
    pub(super) fn attach(&mut self, at: usize) -> Result<Option<Fate>, Refusal> {
        let (door, tokens) = (self.door, self.tokens);
        let child = name(tokens, at).and_then(|(parts, _)| existing(door, &parts));
        let Some((schema, table)) = child else {
            return Ok(None);
        };
        let found = |(schema, name): (&str, &str)| door.rules.relation(schema, name);
        let parent = found((&self.table.0, &self.table.1));
        let (Some(parent), Some(child)) = (parent, found((&schema, &table))) else {
            return Ok(None);
        };
        if is_migrated(door, parent.oid) {
            return Err(takes_no_others(&parent.name).at(tokens.range(at).start));
        }
        let is_ready = matches!(child.kind, 'r' | 'p')
            && door.rules.declared_in(&schema, &table).is_empty()
            && door.rules.refuse_pending(child.oid).is_none();
        if !is_ready {
            return Ok(None);
        }
        let mut wrong = Vec::new();
        for column in &parent.columns {
            let protected = match door.rules.held(parent, column) {
                Held::Plain => continue,
                Held::Protected(protected) => protected,
                Held::Moved(_) | Held::Strange => return Ok(None),
            };
            let by_row = protected.search_key == SearchKey::Scope && !protected.scope.is_fixed();
            if protected.equality && by_row {
                return Err(Refusal::unsupported(
                    "value-not-movable",
                    format!("\"{table}\" cannot be attached as it is"),
                )
                .detail(format!(
                    "The search terms of \"{}\" are made per scope, and the server cannot tell whether those of the rows that are \
                     there are right.",
                    column.name
                ))
                .hint("CREATE TABLE ... PARTITION OF, and move the rows with INSERT ... SELECT.")
                .at(tokens.range(at).start));
            }
            let ids = door.rules.columns.values();
            let ids = ids.filter(|other| {
                other.id == protected.id
                    || protected.equality
                        && other.equality
                        && other.terms_will_match(protected)
                        && other.scope == protected.scope
            });
            let mut ids: Vec<u32> = ids.map(|column| column.id.0).collect();
            ids.sort_unstable();
            let ids: Vec<String> = ids.iter().map(|id| format!("'\\x{id:08x}'")).collect();
            wrong.push(format!(
                "pg_catalog.substr({}::pg_catalog.bytea, 5, 4) NOT IN ({})",
                quote_identifier(&column.name),
                ids.join(", ")
            ));
        }
        self.note("The server looks whether the values that are there fit the table.".to_owned());
        self.after.push(After {
            sql: format!(
                "SELECT CASE WHEN EXISTS (SELECT FROM {}.{} WHERE {}) THEN {} END",
                quote_identifier(&schema),
                quote_identifier(&table),
                wrong.join(" OR "),
                failing(VALUES_OF_OTHERS)
            ),
            unless: None,
        });
        Ok(Some(Fate::Kept))
    }
}

/// What such a statement says.
struct Read {
    /// PARTITION OF.
    is_partition: bool,
    /// The tables of which it has the columns.
    parents: Vec<Vec<String>>,
    /// Everything else that could name one of these columns.
    others: Vec<Range<usize>>,
}

/// Whether its columns change places just now.
fn is_migrated(door: &Door<'_>, table: u32) -> bool {
    door.rules.guards.iter().any(|guard| guard.is_of(table))
}

fn takes_no_others(table: &str) -> Refusal {
    Refusal::unsupported(
        "table-being-migrated",
        format!("\"{table}\" is being migrated, and takes no other partitions through pgveil"),
    )
    .detail(
        "The partition would have to have what pgveil keeps beside the columns that are migrated.",
    )
    .hint("Wait until the migration has ended (`pgveil apply --status`).")
}

fn read(door: &Door<'_>, statement: &Range<usize>, behind: usize) -> Option<Read> {
    let tokens = door.tokens;
    if tokens.are_words(behind, &["partition", "of"]) {
        let (parent, end) = name(tokens, behind + 2)?;
        return Some(Read {
            is_partition: true,
            parents: vec![parent],
            others: std::iter::once(end..statement.end).collect(),
        });
    }
    let Kind::LParen = tokens.kind(behind) else {
        return None;
    };
    let close = tokens.pair(behind).filter(|close| *close < statement.end)?;
    let mut read = Read {
        is_partition: false,
        parents: Vec::new(),
        others: Vec::new(),
    };
    for element in elements(tokens, behind + 1..close) {
        if tokens.is_word(element.start, "like") {
            let (parent, end) = name(tokens, element.start + 1)?;
            read.parents.push(parent);
            read.others.push(end..element.end);
        } else {
            read.others.push(element);
        }
    }
    let mut rest = close + 1;
    if tokens.is_word(rest, "inherits") && matches!(tokens.kind(rest + 1), Kind::LParen) {
        let end = tokens.pair(rest + 1)?;
        for element in elements(tokens, rest + 2..end) {
            read.parents.push(name(tokens, element.start)?.0);
        }
        rest = end + 1;
    }
    // What remains may be CREATE TABLE ... AS.
    if read.parents.is_empty() || (rest..statement.end).any(|at| tokens.is_word(at, "as")) {
        return None;
    }
    read.others.push(rest..statement.end);
    Some(read)
}
