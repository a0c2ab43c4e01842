//! CREATE TABLE with a list of columns.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::{
    Definition,
    constraint::{Judged, Key, is_constraint},
    elements, heirs, name, target,
};
use crate::{
    Refusal,
    analysis::{
        refusals,
        statement::{Door, Verdict},
    },
    text::quote_identifier,
};

/// `at` is behind the word TABLE.
pub(super) fn judge(
    door: &Door<'_>,
    statement: &Range<usize>,
    mut at: usize,
) -> Result<Option<Verdict>, Refusal> {
    let tokens = door.tokens;
    let temporary = ["temp", "temporary"]
        .iter()
        .any(|word| (statement.start + 1..at).any(|at| tokens.is_word(at, word)));
    let exists = tokens.are_words(at, &["if", "not", "exists"]);
    if exists {
        at += 3;
    }
    let Some((parts, behind)) = name(tokens, at) else {
        return Ok(None);
    };
    if let Some(verdict) = heirs::judge(door, statement, &parts, temporary, behind)? {
        return Ok(Some(verdict));
    }
    let Kind::LParen = tokens.kind(behind) else {
        return Ok(None);
    };
    let Some(close) = tokens.pair(behind).filter(|close| *close < statement.end) else {
        return Ok(None);
    };
    // `CREATE TABLE t (a, b) AS SELECT ...`
    if (close + 1..statement.end)
        .any(|at| tokens.is_word(at, "as") || tokens.is_word(at, "inherits"))
    {
        return Ok(None);
    }
    let list = elements(tokens, behind + 1..close);
    if list
        .iter()
        .any(|element| tokens.is_word(element.start, "like"))
    {
        return Ok(None);
    }
    let Some(table) = target(door, &parts) else {
        return Ok(None);
    };
    let mut definition = Definition::new(door, table);
    if temporary {
        definition.declared.clear();
    }
    if definition.declared.is_empty() {
        // It names a protected table only to refer to it.
        return definition
            .finish(statement, "CREATE TABLE", false)
            .map(Some);
    }
    if parts.len() == 1 {
        let schema = quote_identifier(&definition.table.0);
        definition
            .edits
            .qualify(tokens.range(at).start, format!("{schema}."));
    }
    let keys = definition.elements(&list)?;
    definition.check_scope(&list, at)?;
    if let Some((at, declared)) = definition.mentioned(close + 1..statement.end) {
        return Err(refusals::construct("a partition key of a protected column")
            .detail(format!(
                "{} holds sealed values, which have no order.",
                declared.display_name()
            ))
            .at(tokens.range(at).start));
    }
    for key in &keys {
        definition.make_key(key, exists);
    }
    definition
        .finish(statement, "CREATE TABLE", false)
        .map(Some)
}

impl Definition<'_, '_> {
    /// Columns and constraints; answers the keys that become indexes.
    fn elements(&mut self, list: &[Range<usize>]) -> Result<Vec<Key>, Refusal> {
        let mut keys = Vec::new();
        for (index, element) in list.iter().enumerate() {
            if !is_constraint(self, element.start) {
                keys.extend(self.column(element)?);
                continue;
            }
            match self.constraint(element)? {
                Judged::Kept => {}
                Judged::Key(key) => {
                    self.remove_element(list, index);
                    self.require_values(&key);
                    keys.push(key);
                }
            }
        }
        Ok(keys)
    }

    /// The row must be able to tell the scope of its values.
    fn check_scope(&self, list: &[Range<usize>], at: usize) -> Result<(), Refusal> {
        let made: Vec<String> = list
            .iter()
            .filter(|element| !is_constraint(self, element.start))
            .filter_map(|element| self.tokens.name(element.start))
            .map(|name| name.into_owned())
            .collect();
        let missing = self.declared.iter().find_map(|declared| {
            let columns = declared.scope.columns();
            let missing = columns
                .into_iter()
                .find(|column| !made.iter().any(|name| name == column))?;
            Some((declared, missing.to_owned()))
        });
        match missing {
            None => Ok(()),
            Some((declared, column)) => Err(Refusal::unsupported(
                "definition-differs",
                format!("table \"{}\" has no column \"{column}\"", declared.table),
            )
            .detail(format!(
                "The policy takes the scope of {} from it ({}).",
                declared.display_name(),
                declared.scope_text
            ))
            .hint("Add the column, or change the scope in the policy.")
            .at(self.tokens.range(at).start)),
        }
    }
}
