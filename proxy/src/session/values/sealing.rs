//! Sealing values that come in rows, not in parameters: COPY FROM STDIN. Keys come from the cache; who calls waits for
//! those that are missing, so that a row costs nothing but its own work.

use pgveil_config::{ScopePath, SearchKey};
use pgveil_keys::{Keys, nonce, sealed, term};
use pgveil_policy::{
    Refusal,
    ruleset::Protected,
    template::{self, TemplatePart},
    types::{Conversion, Converted, FormatSettings, InputError, Value, convert},
};

use super::{index_key, scope_null, sealing_key, session_unset};
use crate::session::view::View;

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
    scope: &ScopePath,
    value: &Value,
    out: &mut Vec<u8>,
) -> bool {
    let Some(key) = keys.cached_sealing_key(scope) else {
        return false;
    };
    let equality = if column.terms {
        let index = match column.search_key {
            SearchKey::Scope => keys.cached_index_key(scope),
            SearchKey::Shared => keys.cached_index_key(&ScopePath::platform()),
        };
        let Some(index) = index else {
            return false;
        };
        let canonical = column.logical.canonical(value.as_bytes());
        Some(term::equality(&index, &column.context, &canonical))
    } else {
        None
    };
    // Without a use left (another thread took the last one) the key is as good as missing.
    let sealed = sealed::seal(
        &key,
        column.id,
        equality.as_ref(),
        &nonce::next(),
        value.as_bytes(),
        out,
    );
    sealed.is_ok()
}

/// Puts the keys for values of a column and scope into the cache.
///
/// # Errors
/// `PV002` when they cannot be had.
pub async fn fetch(keys: &Keys, column: &Protected, scope: &ScopePath) -> Result<(), Refusal> {
    sealing_key(keys, scope).await?;
    if column.terms {
        match column.search_key {
            SearchKey::Scope => index_key(keys, scope).await?,
            SearchKey::Shared => index_key(keys, &ScopePath::platform()).await?,
        };
    }
    Ok(())
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
    last: &mut Option<(String, ScopePath)>,
    held: &mut dyn FnMut(&str) -> Result<Option<String>, Unscoped>,
) -> Result<ScopePath, Unscoped> {
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
        let checked = view.scopes.check(column, scope);
        return checked.map(|()| scope.clone()).map_err(Unscoped::Refused);
    }
    let scope = ScopePath::parse(&path).map_err(|error| {
        Unscoped::Refused(
            Refusal::new(
                "PV001",
                "scope-not-resolved",
                "the scope of a protected value cannot be resolved",
            )
            .detail(error.to_string()),
        )
    })?;
    let checked = view.scopes.check(column, &scope);
    checked.map_err(Unscoped::Refused)?;
    *last = Some((path, scope.clone()));
    Ok(scope)
}
