//! CREATE INDEX: over a protected column it is one on its equality terms.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::{Definition, check_terms, elements, existing, name, needs_plaintext};
use crate::{
    Refusal,
    analysis::{
        statement::{Door, Verdict},
        term::numbered,
    },
    plan::Replacement,
};

/// `at` is behind the word INDEX.
pub(super) fn judge(
    door: &Door<'_>,
    statement: &Range<usize>,
    at: usize,
    unique: bool,
) -> Result<Option<Verdict>, Refusal> {
    let tokens = door.tokens;
    let Some(on) = (at..statement.end).find(|at| tokens.is_word(*at, "on")) else {
        return Ok(None);
    };
    let at = on + 1 + usize::from(tokens.is_word(on + 1, "only"));
    let Some((parts, mut behind)) = name(tokens, at) else {
        return Ok(None);
    };
    let Some(table) = existing(door, &parts) else {
        return Ok(None);
    };
    let mut definition = Definition::new(door, table);
    if definition.names_others(statement) {
        return Ok(None);
    }
    let mut method = "btree".to_owned();
    if tokens.is_word(behind, "using") {
        method = tokens
            .name(behind + 1)
            .map(|name| name.into_owned())
            .unwrap_or_default();
        behind += 2;
    }
    let (Kind::LParen, Some(close)) = (tokens.kind(behind), tokens.pair(behind)) else {
        return Ok(None);
    };
    let list = elements(tokens, behind + 1..close);
    let columns: Vec<String> = list
        .iter()
        .filter_map(|element| tokens.name(element.start))
        .map(|name| name.into_owned())
        .collect();
    for element in &list {
        definition.index_element(element, &method, &columns, unique)?;
    }
    let predicate = (close + 1..statement.end).find(|at| tokens.is_word(*at, "where"));
    if let Some(predicate) = predicate
        && !definition.is_null_test(predicate + 1..statement.end)
        && let Some((at, declared)) = definition.mentioned(predicate + 1..statement.end)
    {
        return Err(needs_plaintext(
            declared,
            "a partial index that reads it",
            at,
            tokens,
        ));
    }
    definition
        .finish(statement, "CREATE INDEX", false)
        .map(Some)
}

impl Definition<'_, '_> {
    /// `email text_pattern_ops DESC` becomes `pgveil.eq_term(email) DESC`.
    fn index_element(
        &mut self,
        range: &Range<usize>,
        method: &str,
        columns: &[String],
        unique: bool,
    ) -> Result<(), Refusal> {
        let tokens = self.tokens;
        let Some((at, declared)) = self.mentioned(range.clone()) else {
            return Ok(());
        };
        // Written out by somebody who knows what is stored.
        let opened = |at: usize| {
            at >= 4
                && matches!(tokens.kind(at - 1), Kind::LParen)
                && tokens.is_word(at - 2, "eq_term")
                && matches!(tokens.kind(at - 3), Kind::Period)
                && tokens.is_word(at - 4, "pgveil")
        };
        let number = self.number(declared);
        let written = match tokens.kind(at.saturating_sub(2)) {
            Kind::Number(digits, _) if matches!(tokens.kind(at - 1), Kind::Comma) => {
                opened(at - 2).then(|| (at - 6, digits.parse().ok()))
            }
            _ => opened(at).then(|| (at - 4, Some(0))),
        };
        let term = written.is_some();
        if !term && at != range.start {
            return Err(needs_plaintext(
                declared,
                "an index on an expression that reads it",
                at,
                tokens,
            ));
        }
        check_terms(declared, at, tokens)?;
        if unique {
            self.check_key(declared, columns, at)?;
        }
        if let Some((start, written)) = written {
            // As a dump has it that is older than the column's terms.
            if written != Some(number) {
                let column = tokens.bytes(&(start..at));
                let term = Replacement::Text(numbered(number));
                self.edits.replace(column, term);
            }
            return Ok(());
        }
        if !["btree", "hash"].contains(&method) {
            let what = format!("an index of method {method}");
            return Err(needs_plaintext(declared, &what, at, tokens));
        }
        let mut end = at + 1;
        while end < range.end
            && !["asc", "desc", "nulls"]
                .iter()
                .any(|word| tokens.is_word(end, word))
        {
            end += 1;
        }
        if matches!(tokens.kind(at + 1), Kind::LParen) {
            // A function that is called like the column.
            return Err(needs_plaintext(
                declared,
                "an index on an expression that reads it",
                at,
                tokens,
            ));
        }
        let column = tokens.raw(at);
        let bytes = tokens.bytes(&(at..end));
        self.note(format!(
            "The index is one on the equality terms of {}: it serves =, IN and joins, not order or patterns.",
            declared.display_name()
        ));
        self.edits.replace(
            bytes,
            Replacement::Text(format!("{}{column})", numbered(number))),
        );
        Ok(())
    }
}
