//! Types that definitions of functions name: domains of pgveil, types of columns and rows, and all others.

use std::ops::Range;

use crate::{
    analysis::{SessionView, ddl, relation::lookup, type_name},
    catalog::{Column, Relation},
    ruleset::Ruleset,
    text::Tokens,
    types::LogicalType,
};

/// `pg_type.oid` of bytea, record, trigger and void.
const BYTEA: u32 = 17;
pub(super) const RECORD: u32 = 2249;
const TRIGGER: u32 = 2279;
pub(super) const VOID: u32 = 2278;
/// Any OID but that of bytea.
const SOME_DOMAIN: u32 = u32::MAX;

/// What a variable is declared as.
pub(super) enum Declared {
    /// `record`, or with these columns `table%ROWTYPE` and the name of a table.
    Row(Option<Vec<Column>>),
    /// The rows of this table, which the server has in another order than applications know.
    Reshaped(String),
    /// Anything else.
    Value(Column),
}

/// The type of a variable.
pub(super) fn declared(
    rules: &Ruleset,
    view: &SessionView,
    tokens: &Tokens<'_>,
    types: &Range<usize>,
) -> Declared {
    if types.len() == 1 && tokens.is_word(types.start, "record") {
        return Declared::Row(None);
    }
    let named = if types.len() > 2 && tokens.is_word(types.end - 1, "rowtype") {
        types.start..types.end - 2
    } else {
        types.clone()
    };
    match row_of(rules, view, tokens, &named) {
        Some(relation) if relation.reshaped => Declared::Reshaped(relation.name.clone()),
        Some(relation) => Declared::Row(Some(relation.columns.clone())),
        None => Declared::Value(column(rules, view, tokens, types)),
    }
}

/// The logical type that some tokens name.
pub(super) fn logical(
    rules: &Ruleset,
    view: &SessionView,
    tokens: &Tokens<'_>,
    types: &Range<usize>,
) -> Option<LogicalType> {
    type_name::named(&tokens.sql[tokens.bytes(types)], &rules.catalog, view)
}

/// A type as a column's: the domains of pgveil, and those of the columns that `table.column%TYPE` names.
pub(super) fn column(
    rules: &Ruleset,
    view: &SessionView,
    tokens: &Tokens<'_>,
    types: &Range<usize>,
) -> Column {
    let text = &tokens.sql[tokens.bytes(types)];
    if types.len() > 2
        && tokens.is_word(types.end - 1, "type")
        && let Some(column) = column_of(rules, view, tokens, types)
    {
        return Column {
            name: String::new(),
            typmod: -1,
            ..column
        };
    }
    let known = [("void", VOID), ("record", RECORD), ("trigger", TRIGGER)];
    let pseudo = { known.iter() }.find(|(word, _)| tokens.is_word(types.start, word));
    let sealed = tokens.is_word(types.start, "pgveil") && types.len() == 3;
    let (type_oid, base_type_oid) = match pseudo {
        _ if sealed => (SOME_DOMAIN, BYTEA),
        Some((_, oid)) if types.len() == 1 => (*oid, *oid),
        _ => {
            let oid = logical(rules, view, tokens, types).map_or(0, LogicalType::oid);
            (oid, oid)
        }
    };
    Column {
        type_oid,
        base_type_oid,
        type_name: text.to_owned(),
        typmod: -1,
        ..Column::default()
    }
}

/// A column under the domain of a type.
pub(super) fn sealed(logical: LogicalType) -> Column {
    Column {
        type_oid: SOME_DOMAIN,
        base_type_oid: BYTEA,
        type_name: format!("pgveil.{}", logical.domain()),
        typmod: -1,
        ..Column::default()
    }
}

/// Whether a type is that of functions of triggers.
pub(super) fn is_trigger(column: &Column) -> bool {
    column.type_oid == TRIGGER
}

/// The relation of whose rows' type a type is.
pub(super) fn row_of<'a>(
    rules: &'a Ruleset,
    view: &'a SessionView,
    tokens: &Tokens<'_>,
    types: &Range<usize>,
) -> Option<&'a Relation> {
    let (names, behind) = ddl::name(tokens, types.start)?;
    let named = behind == types.end && logical(rules, view, tokens, types).is_none();
    named.then(|| lookup(rules, view, &names))?
}

/// The column of `table.column%TYPE`.
fn column_of(
    rules: &Ruleset,
    view: &SessionView,
    tokens: &Tokens<'_>,
    types: &Range<usize>,
) -> Option<Column> {
    let (mut names, _) = ddl::name(tokens, types.start)?;
    let column = names.pop()?;
    lookup(rules, view, &names)?.column(&column).cloned()
}
