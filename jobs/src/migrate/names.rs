//! What pgveil calls the things that stand beside a table while it is migrated online. Runs no SQL.

use pgveil_policy::ruleset::{KEPT, SHADOW};

/// PostgreSQL's NAMEDATALEN - 1.
const MAX_NAME_BYTES: usize = 63;
/// The triggers that clear what has become stale begin so: they fire in the order of their names, and these last.
pub(crate) const TRIGGERS: &str = "~pgveil_";
/// Indexes and constraints begin so.
const OWN: &str = "pgveil_";

/// The trigger that fires when a row is changed.
pub(crate) fn watching() -> String {
    format!("{TRIGGERS}update")
}

/// The sealed column until the swap.
pub(crate) fn shadow(column: &str) -> String {
    cut(format!("{SHADOW}{column}"))
}

/// The plaintext column from the swap on; of a decryption, until the swap.
pub(crate) fn kept(column: &str) -> String {
    cut(format!("{KEPT}{column}"))
}

/// An index over columns to come, until the swap: the `at`-th of its migration.
pub(crate) fn new_index(migration: i64, at: usize) -> String {
    format!("{}{at}", new_indexes(migration))
}

/// All of them begin so.
pub(crate) fn new_indexes(migration: i64) -> String {
    format!("{OWN}new_{migration}_")
}

/// An index over plaintext from the swap on.
pub(crate) fn old_index(migration: i64, at: usize) -> String {
    format!("{OWN}old_{migration}_{at}")
}

/// The same of a partition, until it has a name of its own.
pub(crate) fn new_index_of(migration: i64, at: usize, part: u32) -> String {
    format!("{}_{part}", new_index(migration, at))
}

/// The index that finds stale rows of a table, or of a partition.
pub(crate) fn stale_index(migration: i64, part: Option<u32>) -> String {
    let part = part.map_or_else(String::new, |part| format!("_{part}"));
    format!("{OWN}stale_{migration}{part}")
}

/// The name of a partition's index, after that of the index that it belongs to: cut as the server cuts names, and numbered
/// where it is taken.
pub(crate) fn index_of_part(part: &str, index: &str, number: u32) -> String {
    let suffix = match number {
        0 => String::new(),
        number => number.to_string(),
    };
    let mut stem = format!("{part}_{index}");
    while stem.len() + suffix.len() > MAX_NAME_BYTES {
        stem.pop();
    }
    stem + &suffix
}

/// The constraint that stands in for NOT NULL until the table has been looked through.
pub(crate) fn not_null(migration: i64, attnum: i16) -> String {
    format!("{}{attnum}", not_null_prefix(migration))
}

/// What the names of a migration's own begin with.
pub(crate) fn not_null_prefix(migration: i64) -> String {
    format!("{OWN}not_null_{migration}_")
}

/// The constraint that keeps late sealed values from a decrypted column of bytes.
pub(crate) fn no_envelope(migration: i64, attnum: i16) -> String {
    format!("{OWN}no_envelope_{migration}_{attnum}")
}

/// The function of the triggers, in schema `pgveil`.
pub(crate) fn function(migration: i64) -> String {
    format!("clear_stale_{migration}")
}

/// Whether an index, a constraint or a trigger is one of those.
pub(crate) fn is_own(name: &str) -> bool {
    let kinds = ["new_", "old_", "stale_", "not_null_", "no_envelope_"];
    let own = name.strip_prefix(OWN);
    name.starts_with(TRIGGERS)
        || own.is_some_and(|rest| kinds.iter().any(|kind| rest.starts_with(kind)))
}

fn cut(mut name: String) -> String {
    while name.len() > MAX_NAME_BYTES {
        name.pop();
    }
    name
}
