//! Checks of the unique indexes over a protected column: uniqueness must hold on search terms too.

use super::{column::Resolved, compile::Findings, words::Words};
use crate::catalog::{Unique, term_key};

/// Every unique or exclusion index, and the primary key, that the column is a key of.
pub(super) fn check(column: &Resolved<'_>, has_terms: bool, findings: &mut Findings) {
    for index in &column.relation.uniques {
        if is_key(column, index) {
            check_index(column, index, has_terms, findings);
        }
    }
}

/// By itself, or in an expression such as `pgveil.eq_term(email)`.
fn is_key(column: &Resolved<'_>, index: &Unique) -> bool {
    let plain = index.attnums.contains(&column.column.attnum);
    let expressions = index
        .attnums
        .iter()
        .zip(&index.keys)
        .filter(|(attnum, _)| **attnum == 0);
    plain
        || expressions
            .map(|(_, key)| Words::of(key))
            .any(|key| key.mentions(&column.column.name))
}

fn check_index(column: &Resolved<'_>, index: &Unique, has_terms: bool, findings: &mut Findings) {
    let name = column.display_name();
    let mut add = |what: String, cure: String| findings.add(&column.rule.at, what, cure);
    if index.primary {
        add(
            format!("{name} is in the primary key {}: not supported yet", index.name),
            "leave it unprotected, or give the table another primary key and the column a unique index".into(),
        );
        return;
    }
    if !has_terms {
        add(
            format!(
                "unique index {} cannot hold on {name}, whose values have no equality terms",
                index.name
            ),
            "add search = [\"equality\"], or drop the index".into(),
        );
        return;
    }
    if has_other_expression(column, index) {
        add(
            format!(
                "unique index {} computes on {name}, which the server cannot read once it is sealed",
                index.name
            ),
            format!(
                "drop the index, or make it over the column itself ({})",
                column.column.name
            ),
        );
        return;
    }
    let has = |name: &&str| {
        let scope_column = column.relation.column(name);
        scope_column.is_some_and(|scope_column| index.attnums.contains(&scope_column.attnum))
    };
    let missing: Vec<&str> = column
        .scope
        .columns()
        .into_iter()
        .filter(|name| !has(name))
        .collect();
    if column.has_terms_by_row() && !missing.is_empty() {
        let missing = missing.join(", ");
        add(
            format!(
                "unique index {} on {name} does not contain {missing}: terms of different scopes never match, \
                 so it would let duplicates in",
                index.name
            ),
            format!("add {missing} to the index, or set search_key = \"shared\""),
        );
    }
}

/// Whether an expression other than the equality term reads the column, or, once sealed, the index is over the
/// ciphertext itself.
fn has_other_expression(column: &Resolved<'_>, index: &Unique) -> bool {
    let name = &column.column.name;
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    // Of whatever number: while a column gets other terms there are two.
    let term = |key: &str| {
        term_key(key).is_some_and(|(_, of)| [name.as_str(), quoted.as_str()].contains(&of))
    };
    if column.is_sealed() && index.attnums.contains(&column.column.attnum) {
        return true;
    }
    index.attnums.iter().zip(&index.keys).any(|(attnum, key)| {
        *attnum == 0 && Words::of(key).mentions(name) && !(column.is_sealed() && term(key))
    })
}
