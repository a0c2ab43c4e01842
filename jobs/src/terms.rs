//! The equality terms of a value, as its column's registration describes them. Which values get others is the business of
//! [`crate::change`] and [`crate::remake`].

use std::{borrow::Cow, iter};

use pgveil_config::ScopePath;
use pgveil_keys::{KeyError, Keys, Wanted, sealed::Terms, term};
use pgveil_policy::{
    plan::ColumnId,
    ruleset::{Change, OtherTerms, RegisteredColumn},
    types::LogicalType,
};

/// A term with its number.
pub(crate) type Numbered = (u32, [u8; term::EQUALITY_BYTES]);

/// Those that are compared.
pub(crate) fn compared(column: &RegisteredColumn) -> OtherTerms {
    OtherTerms {
        generation: column.generation,
        shared_key: column.shared_key,
        equality_group: column.equality_group.clone(),
        scope: column.scope.clone(),
    }
}

/// One of them, of a plaintext in this scope.
pub(crate) async fn make(
    keys: &Keys,
    described: &OtherTerms,
    (id, logical): (ColumnId, LogicalType),
    scope: &ScopePath,
    plain: &[u8],
) -> Result<Numbered, KeyError> {
    let (scope, newest) = (owner(described, scope), described.generation.newest_key);
    let key = match keys.cached_index_key(&scope, newest) {
        Some(key) => key,
        None => keys.index_key(&scope, newest).await?,
    };
    let context = described.context(id);
    let term = term::equality(&key, &context, &logical.canonical(plain));
    Ok((described.generation.number, term))
}

/// The scope whose index key makes them.
fn owner<'a>(described: &OtherTerms, scope: &'a ScopePath) -> Cow<'a, ScopePath> {
    if described.shared_key {
        Cow::Owned(ScopePath::platform())
    } else {
        Cow::Borrowed(scope)
    }
}

/// The keys for what [`of_new`] makes.
pub(crate) fn wanted_of_new(
    column: &RegisteredColumn,
    scope: &ScopePath,
) -> impl Iterator<Item = Wanted> {
    let other = match &column.change {
        Some(Change::Turning(other) | Change::Turned(other)) => Some(other.clone()),
        _ => None,
    };
    let described = iter::once(compared(column)).chain(other);
    described.map(|described| {
        let scope = owner(&described, scope).into_owned();
        Wanted::Index(scope, described.generation.newest_key)
    })
}

/// What a new value of a column with terms bears.
pub(crate) async fn of_new(
    keys: &Keys,
    column: &RegisteredColumn,
    logical: LogicalType,
    scope: &ScopePath,
    plain: &[u8],
) -> Result<Terms, KeyError> {
    let value = (column.id, logical);
    let first = make(keys, &compared(column), value, scope, plain).await?;
    match &column.change {
        Some(Change::Turning(other) | Change::Turned(other)) => {
            let second = make(keys, other, value, scope, plain).await?;
            Ok(Terms::two(first, second))
        }
        _ => Ok(Terms::one(first.0, first.1)),
    }
}
