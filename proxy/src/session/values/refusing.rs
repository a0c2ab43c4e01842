//! What is said when a value cannot be made, or not be shown.

use pgveil_keys::KeyError;
use pgveil_policy::{Refusal, ruleset::Protected, types::InputError};

/// A key error in Postgres's terms.
pub fn key_refusal(error: &KeyError) -> Refusal {
    let (sqlstate, anchor) = match error {
        KeyError::NotFound { .. } | KeyError::Damaged { .. } => ("PV003", "damaged-value"),
        _ => ("PV002", "key-unavailable"),
    };
    Refusal::new(
        sqlstate,
        anchor,
        "a key for protected values cannot be used",
    )
    .detail(error.to_string())
    .hint(format!("Nothing was written or shown; {}.", error.cure()))
}

/// Bad input, in Postgres's own words.
pub fn input_refusal(error: InputError) -> Refusal {
    let mut refusal = Refusal::new(error.sqlstate, "invalid-input", error.message);
    refusal.detail = error.detail;
    refusal.hint = error.hint.map(Into::into);
    refusal
}

pub(super) fn session_unset(name: &str) -> Refusal {
    Refusal::new(
        "PV001",
        "scope-not-resolved",
        "the scope of a protected value cannot be resolved",
    )
    .detail(format!(
        "The scope is taken from the setting pgveil.{name}, which is not set in this session."
    ))
    .hint(format!(
        "SET pgveil.{name} = '...', or options=-cpgveil.{name}=... in the connection string."
    ))
}

pub(super) fn does_not_fit(column: &Protected) -> Refusal {
    Refusal::new(
        "22000",
        "invalid-input",
        format!("value does not fit column {}", column.name),
    )
}

/// A value that the statement compares, too, before the column's length would cut it.
pub(super) fn not_exact(column: &Protected) -> Refusal {
    Refusal::unsupported(
        "value-not-constant",
        format!("a value is too long for protected column \"{}\"", column.name),
    )
    .detail("The statement does more with the value than to store it, and the server would not cut it everywhere.")
    .hint("Send a value that fits.")
}

pub(super) fn scope_null() -> Refusal {
    Refusal::new(
        "PV001",
        "scope-not-resolved",
        "the scope of a protected value cannot be resolved",
    )
    .detail("A column that the scope is taken from is NULL or empty in this row.")
    .hint("Give the column a value, or change the scope template in the policy.")
}

pub(super) fn no_longer_in_policy() -> Refusal {
    Refusal::new("42501", "column-not-in-policy", "permission denied for a protected value")
        .detail("It was sealed for a column that the policy does not name any more, so nobody is named who may see it.")
        .hint("Name the column in the policy again.")
}

pub(super) fn unknown_column() -> Refusal {
    damaged("It names a column that this keystore does not know.")
}

pub(super) fn damaged(detail: &str) -> Refusal {
    Refusal::new(
        "PV003",
        "damaged-value",
        "a stored value is damaged or was tampered with",
    )
    .detail(detail)
    .hint("The value is not shown. Compare the table with a backup.")
}

pub(super) fn not_sealed() -> Refusal {
    Refusal::new(
        "PV004",
        "plaintext-found",
        "a protected column holds something that is not a sealed value",
    )
    .detail("What stands there is not shown, and not passed on.")
    .hint("`pgveil check` and the domain's CHECK constraint tell how it could get there.")
}
