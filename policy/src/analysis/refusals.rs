//! The refusals of the analysis, each under its anchor of `docs/errors.md`. Decides nothing.

use super::{holder::Holder, kind::Kind};
use crate::{Refusal, ruleset::Protected, types::InputError};

/// `public.customers.email`, for people.
/// As it can be written in a statement: each session calls its temporary schema otherwise.
pub(super) fn name_of(column: &Protected) -> String {
    let schema = match column.schema.strip_prefix("pg_temp_") {
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => "pg_temp",
        _ => &column.schema,
    };
    format!("{schema}.{}.{}", column.table, column.name)
}

/// A sealed column stands where no rule lets it stand.
pub(super) fn not_supported(column: &Protected, place: &str) -> Refusal {
    Refusal::unsupported(
        "expression-not-supported",
        format!("protected column \"{}\" cannot be used in {place}", column.name),
    )
    .detail(format!("{} holds sealed values; PostgreSQL cannot compute on them.", name_of(column)))
    .hint("Select the column as it is, or compare it for equality; compute the rest in the application.")
}

/// As [`not_supported`] or [`holder`], for whichever the kind is. `None` for what is plain.
pub(super) fn not_plain(kind: &Kind, place: &str) -> Option<Refusal> {
    match kind {
        Kind::Plain(_) | Kind::Untyped => None,
        Kind::Sealed(sealed) => Some(not_supported(sealed.column(), place)),
        Kind::Holder(held) => Some(holder(held, place)),
    }
}

/// `<`, ORDER BY, min and the like.
pub(super) fn no_order(column: &Protected, place: &str) -> Refusal {
    Refusal::unsupported(
        "ordering-not-supported",
        format!(
            "protected column \"{}\" cannot be used in {place}",
            column.name
        ),
    )
    .detail(format!(
        "{} has no order that PostgreSQL could use.",
        name_of(column)
    ))
    .hint("Order or compare the rows in the application, or by a column that is not protected.")
}

/// Equality on a column without equality terms.
pub(super) fn no_equality(column: &Protected, place: &str) -> Refusal {
    let refusal = Refusal::unsupported(
        "equality-not-enabled",
        format!(
            "protected column \"{}\" cannot be used in {place}",
            column.name
        ),
    );
    if column.logical.supports_equality() {
        refusal
            .detail(format!("{} has no equality terms.", name_of(column)))
            .hint("Add search = [\"equality\"] to the column in policy.toml and run pgveil apply.")
    } else {
        refusal.detail(format!(
            "Type {} has no equality.",
            column.logical.sql_name()
        ))
    }
}

/// Two columns whose terms differ for equal values.
pub(super) fn not_comparable(column: &Protected, other: &str, why: &str) -> Refusal {
    Refusal::unsupported(
        "columns-not-comparable",
        format!("protected column \"{}\" cannot be compared with {other}", column.name),
    )
    .detail(format!("{}: {why}.", name_of(column)))
    .hint("Compare it with a literal, a parameter, or a column of the same type, equality_group and search_key.")
}

/// A value that can come from columns whose terms differ for equal values.
pub(super) fn unlike(column: &Protected, other: &Protected, place: &str) -> Refusal {
    Refusal::unsupported(
        "columns-not-comparable",
        format!("protected column \"{}\" cannot be used in {place} together with others", column.name),
    )
    .detail(format!(
        "Values can come from {} and {}, whose equality terms differ for equal values.",
        name_of(column),
        name_of(other)
    ))
    .hint("Compare it by =, <>, IN or ANY with literals and parameters, or give the columns one equality_group and search_key.")
}

/// The keys for a search are not known before the rows are read.
pub(super) fn scope_not_pinned(column: &Protected, place: &str) -> Refusal {
    Refusal::unsupported(
        "scope-not-pinned",
        format!("protected column \"{}\" cannot be used in {place} across scopes", column.name),
    )
    .detail(format!(
        "Equality terms of {} are made per scope ({}), and the statement does not fix the scope.",
        name_of(column),
        column.scope
    ))
    .hint("Add the scope's columns to the same condition (AND tenant_id = ...), or set search_key = \"shared\".")
}

/// The scope of a value that is written is not known.
pub(super) fn scope_not_resolved(column: &Protected, why: &str) -> Refusal {
    Refusal::new(
        "PV001",
        "scope-not-resolved",
        format!(
            "the scope of a value for protected column \"{}\" cannot be resolved",
            column.name
        ),
    )
    .detail(format!(
        "The scope of {} is {}; {why}.",
        name_of(column),
        column.scope
    ))
    .hint("Give every scope column as a literal or parameter in the same statement.")
}

/// EXECUTE sends no message of its own before the statement.
pub(super) fn asks_in_prepare() -> Refusal {
    Refusal::new(
        "PV001",
        "scope-not-resolved",
        "the scope of a value in a statement that PREPARE keeps cannot be resolved",
    )
    .detail("The statement does not tell it, and its rows cannot be asked for when EXECUTE runs.")
    .hint("Give every scope column as a literal or parameter in the same statement, or send it without PREPARE.")
}

/// A value for a protected column must be known before the server runs the statement.
pub(super) fn not_constant(column: &Protected) -> Refusal {
    Refusal::unsupported(
        "value-not-constant",
        format!(
            "protected column \"{}\" cannot be set to an expression",
            column.name
        ),
    )
    .detail(format!(
        "A value for {} is sealed before the server sees it.",
        name_of(column)
    ))
    .hint("Give a literal or a parameter; compute the value in the application.")
}

/// What plain columns hold is stored, and the server cannot be asked for it first.
pub(super) fn not_fetched(column: &Protected, why: &str) -> Refusal {
    not_constant(column).detail(format!(
        "A value for {} is sealed before the server sees it, and {why}.",
        name_of(column)
    ))
}

/// A literal of a type that pgveil does not convert.
pub(super) fn not_sealable(column: &Protected, value: &str) -> Refusal {
    Refusal::unsupported(
        "value-not-constant",
        format!(
            "protected column \"{}\" cannot be set to {value}",
            column.name
        ),
    )
    .detail(format!(
        "pgveil converts only its logical types to {}.",
        column.logical.sql_name()
    ))
    .hint("Leave the cast out.")
}

/// A value that holds sealed values stands where no rule lets it stand.
pub(super) fn holder(holder: &Holder, place: &str) -> Refusal {
    let column = holder.column();
    Refusal::unsupported(
        "holder-not-supported",
        format!(
            "{} that holds protected column \"{}\" cannot be used in {place}",
            holder.noun(),
            column.name
        ),
    )
    .detail(format!(
        "Values of {} in it are sealed; PostgreSQL cannot compute on them.",
        name_of(column)
    ))
    .hint("Select it as it is, and compute the rest in the application.")
}

/// Arrays, rows or documents inside each other beyond what pgveil keeps track of.
pub(super) fn too_nested() -> Refusal {
    Refusal::unsupported(
        "statement-too-complex",
        "arrays, rows or JSON documents that hold protected columns are nested too deeply",
    )
    .hint("Select the columns one by one.")
}

/// A row that holds a sealed value as a whole.
pub(super) fn whole_row(relation: &str) -> Refusal {
    Refusal::unsupported(
        "whole-row-not-supported",
        format!("a whole row of \"{relation}\" cannot be used as a value"),
    )
    .detail("The row holds protected columns.")
    .hint("Name the columns one by one.")
}

/// All columns of a table of which the server has others than applications know, or in another order.
pub(super) fn reshaped(what: &str, table: &str) -> Refusal {
    Refusal::unsupported(
        "columns-in-another-order",
        format!("{what} of \"{table}\" is not supported"),
    )
    .detail("The table was migrated online: the server keeps its columns in another order than applications know.")
    .hint("Name the columns one by one.")
}

/// A construct that pgveil does not analyse.
pub(super) fn construct(what: &str) -> Refusal {
    Refusal::unsupported(
        "statement-not-supported",
        format!("{what} is not supported in a statement that names something protected"),
    )
}

/// A part of the statement that pgveil could not place.
pub(super) fn not_understood(what: &str) -> Refusal {
    Refusal::unsupported(
        "statement-not-understood",
        "a statement that names something protected could not be analysed",
    )
    .detail(format!("{what}."))
    .hint("Write it in a simpler form, or report it.")
}

/// An assignment that Postgres refuses too.
pub(super) fn wrong_type(column: &Protected, from: &str) -> Refusal {
    Refusal::new(
        "42804",
        "type-mismatch",
        format!(
            "column \"{}\" is of type {} but expression is of type {from}",
            column.name,
            column.logical.without_modifiers().sql_name()
        ),
    )
    .hint("You will need to rewrite or cast the expression.")
}

/// A comparison that Postgres refuses too.
pub(super) fn no_operator(left: &str, right: &str) -> Refusal {
    Refusal::new("42883", "type-mismatch", format!("operator does not exist: {left} = {right}"))
        .hint("No operator matches the given name and argument types. You might need to add explicit type casts.")
}

/// Each could become the other, and PostgreSQL does not choose.
pub(super) fn operator_not_unique(left: &str, right: &str) -> Refusal {
    let message = format!("operator is not unique: {left} = {right}");
    Refusal::new("42725", "type-mismatch", message).hint(
        "Could not choose a best candidate operator. You might need to add explicit type casts.",
    )
}

/// ORDER BY of a set operation takes names and numbers only, as PostgreSQL says.
pub(super) fn order_of_rows() -> Refusal {
    let message = "invalid UNION/INTERSECT/EXCEPT ORDER BY clause";
    Refusal::new("0A000", "statement-not-understood", message)
        .detail("Only result column names can be used, not expressions or functions.")
}

/// What an input function says. It may quote the client's own literal, to the client only.
pub(super) fn input(error: InputError, at: usize) -> Refusal {
    // As in Postgres: an input function's error points at the literal, a cast's (length, precision, range) does not.
    let of_a_cast = error.sqlstate == "22001"
        || error.message == "numeric field overflow"
        || ["smallint", "integer", "bigint"]
            .iter()
            .any(|name| error.message == format!("{name} out of range"));
    Refusal {
        sqlstate: error.sqlstate,
        message: error.message,
        detail: error.detail,
        hint: error.hint.map(Into::into),
        position: (!of_a_cast).then_some(at),
        anchor: "invalid-input",
    }
}

/// `42P01`
pub(super) fn undefined_table(name: &str) -> Refusal {
    Refusal::new(
        "42P01",
        "undefined-table",
        format!("relation \"{name}\" does not exist"),
    )
}

/// `42703`
pub(super) fn undefined_column(table: Option<&str>, column: &str) -> Refusal {
    let message = match table {
        Some(table) => format!("column {table}.{column} does not exist"),
        None => format!("column \"{column}\" does not exist"),
    };
    Refusal::new("42703", "undefined-column", message)
}

/// `42702`
pub(super) fn ambiguous(column: &str) -> Refusal {
    Refusal::new(
        "42702",
        "ambiguous-column",
        format!("column reference \"{column}\" is ambiguous"),
    )
}

/// A view whose definition cannot be read as the statement's own text would be.
pub(super) fn view_not_readable(name: &str, inner: &Refusal) -> Refusal {
    let why = match &inner.detail {
        Some(detail) => format!("{}: {detail}", inner.message),
        None => inner.message.clone(),
    };
    Refusal::unsupported(
        "relation-not-supported",
        format!("view \"{name}\" cannot be read through pgveil"),
    )
    .detail(format!("Of its definition pgveil says: {why}"))
    .hint("Create the view again through pgveil, or name the tables that it reads.")
}

/// A view that could not be read once it is made.
pub(super) fn definition_not_readable(inner: &Refusal) -> Refusal {
    let why = match &inner.detail {
        Some(detail) => format!("{}: {detail}", inner.message),
        None => inner.message.clone(),
    };
    Refusal::unsupported(
        "relation-not-supported",
        "the view could not be read through pgveil once it is made",
    )
    .detail(format!(
        "Of its definition as the server would keep it pgveil says: {why}"
    ))
    .hint("Write the query in a simpler form, or query the tables.")
}

/// A definition that the server would run on sealed values as it stands.
pub(super) fn stored_comparison() -> Refusal {
    Refusal::unsupported(
        "statement-not-supported",
        "it compares, groups or converts sealed values as bytes",
    )
}

/// A definition that compares terms which its column has no more, or not yet.
pub(super) fn stored_terms(column: &Protected) -> Refusal {
    Refusal::unsupported(
        "statement-not-supported",
        format!(
            "it compares protected column \"{}\" by search terms of another index key",
            column.name
        ),
    )
    .hint(
        "Make the view or function again, through pgveil: the column's terms were made anew since.",
    )
}

/// A column under a domain of pgveil that nothing in the policy explains.
pub(super) fn strange_column(table: &str, column: &str) -> Refusal {
    Refusal::unsupported(
        "column-not-in-policy",
        format!("column {column:?} of table {table:?} is not in the policy"),
    )
    .detail("Its type is a domain of schema pgveil, and no column of the policy is of that type.")
}

/// A value for a column that holds sealed values without being in the policy.
pub(super) fn no_policy_column(table: &str, column: &str) -> Refusal {
    Refusal::unsupported(
        "value-not-sealable",
        format!("a value for column \"{column}\" of \"{table}\" cannot be sealed"),
    )
    .detail("The column holds sealed values, but the policy does not name it: nothing says for which column and scope.")
    .hint("Insert values that are sealed already (INSERT ... SELECT from a protected table) or NULL, or name the column in policy.toml.")
}

/// A view, function or relative of a protected table.
pub(super) fn dependent(name: &str, why: &str) -> Refusal {
    Refusal::unsupported(
        "relation-not-supported",
        format!("\"{name}\" cannot be used through pgveil yet"),
    )
    .detail(format!("It {why}."))
    .hint("Name the protected table itself.")
}

/// A function whose body cannot be read as the statement's own text would be.
pub(super) fn function_not_readable(name: &str, inner: &Refusal) -> Refusal {
    let why = match &inner.detail {
        Some(detail) => format!("{}: {detail}", inner.message),
        None => inner.message.clone(),
    };
    Refusal::unsupported(
        "relation-not-supported",
        format!("function \"{name}\" cannot be called through pgveil"),
    )
    .detail(format!("Of its body pgveil says: {why}"))
    .hint("Create the function again through pgveil, or send the statements of its body.")
}

/// A function's body yields another type than the function is declared to return.
pub(super) fn other_type(kind: &Kind, column: &str, declared: &str) -> Refusal {
    let what = match kind.protected() {
        Some(protected) => format!("protected column \"{}\"", protected.name),
        None => "a value that is not protected".to_owned(),
    };
    let of = if column.is_empty() {
        String::new()
    } else {
        format!(" in \"{column}\"")
    };
    not_understood(&format!("It returns {what} as {declared}{of}"))
}

/// An argument for which the body of the function does not say what it must be sealed for, or that is no value.
pub(super) fn argument(function: &str, argument: &str) -> Refusal {
    Refusal::unsupported(
        "value-not-constant",
        format!("argument {argument} of function \"{function}\" cannot be given this value"),
    )
    .detail("It is a sealed value: one of the column that the body compares it with, or made for that of a literal or a parameter.")
    .hint("Give a literal or a parameter, to a function whose body compares it.")
}

/// A function that could not be called once it is made.
pub(super) fn function_not_callable(inner: &Refusal) -> Refusal {
    let why = match &inner.detail {
        Some(detail) => format!("{}: {detail}", inner.message),
        None => inner.message.clone(),
    };
    Refusal::unsupported(
        "relation-not-supported",
        "the function could not be called through pgveil once it is made",
    )
    .detail(format!(
        "Of its body as the server would keep it pgveil says: {why}"
    ))
    .hint("Write the body in a simpler form, or send its statements.")
}

/// An argument that the body compares with a protected column, and that cannot be made one of its domain.
pub(super) fn other_argument(column: &Protected, argument: &str) -> Refusal {
    Refusal::unsupported(
        "definition-differs",
        format!(
            "argument \"{argument}\" cannot be compared with protected column \"{}\"",
            column.name
        ),
    )
    .detail("The argument is to be a value that is sealed before the server sees it, of the type of the column and without default.")
    .hint(format!(
        "Declare it as an input of type {}.",
        column.logical.without_modifiers().sql_name()
    ))
}

/// A function that returns a sealed value as something else.
pub(super) fn other_result(column: &Protected, declared: &str) -> Refusal {
    Refusal::unsupported(
        "definition-differs",
        format!(
            "protected column \"{}\" cannot be returned as {declared}",
            column.name
        ),
    )
    .detail("The server would convert the sealed value.")
    .hint(format!(
        "Declare it as {}.",
        column.logical.without_modifiers().sql_name()
    ))
}

/// A function runs without a message of pgveil's own before it.
pub(super) fn asks_in_function() -> Refusal {
    Refusal::new(
        "PV001",
        "scope-not-resolved",
        "the scope of a value in the body of a function cannot be resolved",
    )
    .detail("The body does not tell it, and its rows cannot be asked for when the function runs.")
    .hint("Leave protected columns to statements of the application.")
}
