//! Sealing values that come in rows, not in parameters: COPY FROM STDIN. Keys come from the cache; who calls waits for
//! those that are missing, so that a row costs nothing but its own work.

use std::collections::HashSet;

use pgveil_config::ScopePath;
use pgveil_keys::{
    Keys, Wanted, nonce,
    sealed::{self, Terms},
    term,
};
use pgveil_policy::{
    Refusal,
    ruleset::{Generation, Protected, TermContext},
    template::{self, TemplatePart},
    types::{Conversion, Converted, FormatSettings, InputError, Value, convert},
};

use super::{ahead::want_to_seal, index_key, key_of, scope_null, sealing_key, session_unset};
use crate::session::{scoped::Scoped, view::View};

/// The value as it is stored, if that is another one: while a column's length or precision is being changed, new values
/// fit both.
///
/// # Errors
/// It does not fit.
pub fn fitted(
    column: &Protected,
    value: &Value,
    settings: &FormatSettings,
) -> Result<Option<Value>, InputError> {
    if column.written == column.logical {
        return Ok(None);
    }
    let why = Conversion::Assignment;
    match convert(value, column.logical, column.written, why, settings)? {
        Converted::Value(fitted) => Ok(Some(fitted)),
        Converted::NeverEqual => Ok(None),
    }
}

/// Appends the sealed value. False, and nothing appended: a key is missing, [`fetch`] it first.
pub fn seal(
    keys: &Keys,
    column: &Protected,
    scope: &Scoped,
    value: &Value,
    out: &mut Vec<u8>,
) -> bool {
    let Some(key) = keys.cached_sealing_key(scope.sealing(column)) else {
        return false;
    };
    let Some(terms) = terms(keys, column, scope, value) else {
        return false;
    };
    // Without a use left (another thread took the last one) the key is as good as missing.
    let sealed = sealed::seal(
        &key,
        column.id,
        &terms,
        &nonce::next(),
        value.as_bytes(),
        out,
    );
    sealed.is_ok()
}

/// What a new value bears. `None`: a key is missing.
fn terms(keys: &Keys, column: &Protected, scope: &Scoped, value: &Value) -> Option<Terms> {
    if !column.terms {
        return Some(Terms::NONE);
    }
    let canonical = column.logical.canonical(value.as_bytes());
    let term = |search_key, generation: Generation, context: &TermContext, scope: &ScopePath| {
        let (scope, newest) = key_of(search_key, generation, scope);
        let key = keys.cached_index_key(&scope, newest)?;
        let term = term::equality(&key, context, &canonical);
        Some((generation.number, term))
    };
    let (key, generation) = (column.search_key, column.generation);
    let compared = term(key, generation, &column.context, scope.compared())?;
    let Some(other) = &column.also else {
        return Some(Terms::one(compared.0, compared.1));
    };
    let context = other.context(column.id);
    let (key, generation) = (other.search_key(), other.generation);
    let other = term(key, generation, &context, scope.other())?;
    Some(Terms::two(compared, other))
}

/// Puts the keys for values of a column and scope into the cache.
///
/// # Errors
/// `PV002` when they cannot be had.
pub async fn fetch(keys: &Keys, column: &Protected, scope: &Scoped) -> Result<(), Refusal> {
    sealing_key(keys, scope.sealing(column)).await?;
    if column.terms {
        let (owner, newest) = key_of(column.search_key, column.generation, scope.compared());
        index_key(keys, &owner, newest).await?;
        if let Some(other) = &column.also {
            let (owner, newest) = key_of(other.search_key(), other.generation, scope.other());
            index_key(keys, &owner, newest).await?;
        }
    }
    Ok(())
}

/// Adds the keys for values of a column and scope.
pub fn want(column: &Protected, scope: &Scoped, wanted: &mut HashSet<Wanted>) {
    want_to_seal(column, scope, wanted);
}

/// Why a row's scope is not known.
pub enum Unscoped {
    /// The scope itself cannot be resolved.
    Refused(Refusal),
    /// A column that it is made of is no value of its type: its number among the row's fields, and the error.
    Bad(usize, Box<Refusal>),
}

/// The scope of a column's value in one row; `held` is the text of a scope column, `None` if it is NULL or empty.
///
/// # Errors
/// `PV001` if it cannot be resolved.
pub fn scope(
    column: &Protected,
    view: &View,
    last: &mut Option<(String, Scoped)>,
    held: &mut dyn FnMut(&str) -> Result<Option<String>, Unscoped>,
) -> Result<Scoped, Unscoped> {
    let mut path = String::new();
    for part in &column.scope.parts {
        match part {
            TemplatePart::Text(text) => path.push_str(text),
            TemplatePart::Session(name) => {
                let value = view.settings.get(name);
                let value = value.ok_or_else(|| Unscoped::Refused(session_unset(name)))?;
                path.push_str(&template::encode(value));
            }
            TemplatePart::Column(name) => {
                let text = held(name)?.filter(|text| !text.is_empty());
                let text = text.ok_or_else(|| Unscoped::Refused(scope_null()))?;
                path.push_str(&template::encode(&text));
            }
        }
    }
    // Rows of one scope mostly follow each other.
    if let Some((known, scope)) = last
        && *known == path
    {
        let checked = view.scopes.check(column, scope.sealing(column));
        return checked.map(|()| scope.clone()).map_err(Unscoped::Refused);
    }
    let scope = Scoped::parse(&path).map_err(|error| {
        Unscoped::Refused(
            Refusal::new(
                "PV001",
                "scope-not-resolved",
                "the scope of a protected value cannot be resolved",
            )
            .detail(error.to_string()),
        )
    })?;
    let checked = view.scopes.check(column, scope.sealing(column));
    checked.map_err(Unscoped::Refused)?;
    *last = Some((path, scope.clone()));
    Ok(scope)
}
