//! CREATE TABLE with the columns of another one: PARTITION OF, LIKE, INHERITS. The server gives it that table's domains; what
//! is defined beside must not touch them. Knows nothing of ATTACH PARTITION, whose rows are there already.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::{Definition, elements, existing, name, target};
use crate::{
    Refusal,
    analysis::statement::{Door, Verdict},
    ruleset::Held,
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
        if relation.is_view() || door.rules.refuse_pending(relation.oid).is_some() {
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

/// What such a statement says.
struct Read {
    /// The tables of which it has the columns.
    parents: Vec<Vec<String>>,
    /// Everything else that could name one of these columns.
    others: Vec<Range<usize>>,
}

fn read(door: &Door<'_>, statement: &Range<usize>, behind: usize) -> Option<Read> {
    let tokens = door.tokens;
    if tokens.are_words(behind, &["partition", "of"]) {
        let (parent, end) = name(tokens, behind + 2)?;
        return Some(Read {
            parents: vec![parent],
            others: std::iter::once(end..statement.end).collect(),
        });
    }
    let Kind::LParen = tokens.kind(behind) else {
        return None;
    };
    let close = tokens.pair(behind).filter(|close| *close < statement.end)?;
    let mut read = Read {
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
