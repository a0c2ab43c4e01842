//! What every kind of job does with one value: opens it, seals it, and sees which scope its row is in.

use std::sync::Arc;

use pgveil_config::ScopePath;
use pgveil_keys::{
    DataKey, KeyError, Keys, nonce,
    sealed::{self, Envelope, Terms},
};
use pgveil_policy::{plan::ColumnId, template::ScopeTemplate};
use zeroize::Zeroizing;

use super::{RowColumns, Trouble};
use crate::apply::sealing::{self, RowProblem};

/// How often another one may take the last use of a key's lease before it is another key's turn.
const ATTEMPTS: usize = 4;

/// The plaintext of a value, and the key that sealed it.
pub(super) type Opened = (Arc<DataKey>, Zeroizing<Vec<u8>>);

/// A value's header and what is behind it.
pub(super) fn parse(value: &[u8]) -> Result<Envelope<'_>, Trouble> {
    Envelope::parse(value).map_err(|why| Trouble::Faulty(why.to_string()))
}

/// Opens a value.
pub(super) async fn open(keys: &Keys, envelope: &Envelope<'_>) -> Result<Opened, Trouble> {
    let key = match keys.cached_opening_key(envelope.dek) {
        Some(key) => key,
        None => { keys.opening_key(envelope.dek).await }.map_err(trouble)?,
    };
    let mut plain = Zeroizing::new(Vec::with_capacity(envelope.plaintext_len()));
    let opened = envelope.open(&key, &mut plain);
    opened.map_err(|why| Trouble::Faulty(why.to_string()))?;
    Ok((key, plain))
}

/// Seals a value with the key of a scope of now.
pub(super) async fn seal(
    keys: &Keys,
    scope: &ScopePath,
    column: ColumnId,
    terms: &Terms,
    plain: &[u8],
) -> Result<Vec<u8>, Trouble> {
    for _ in 0..ATTEMPTS {
        let key = match keys.cached_sealing_key(scope) {
            Some(key) => key,
            None => { keys.sealing_key(scope).await }.map_err(trouble)?,
        };
        let mut out = Vec::new();
        let sealed = sealed::seal(&key, column, terms, &nonce::next(), plain, &mut out);
        if sealed.is_ok() {
            return Ok(out);
        }
    }
    Err(no_uses_left(scope))
}

/// Others were quicker, again and again.
pub(super) fn no_uses_left(scope: &ScopePath) -> Trouble {
    Trouble::Later(format!("no data key of {scope} has uses left"))
}

/// The scope that a row is in; `None` where only sessions know it.
pub(super) fn row_scope(
    template: &ScopeTemplate,
    row: &RowColumns,
) -> Result<Option<ScopePath>, Trouble> {
    let held = template.columns().into_iter().map(|name| {
        let held = row.iter().find(|(known, _)| known == name);
        held.and_then(|(_, value)| value.clone())
    });
    let held: Vec<_> = held.collect();
    match sealing::row_scope(template, &held) {
        Ok(scope) => Ok(Some(scope)),
        Err(RowProblem::NeedsSession { .. }) => Ok(None),
        Err(RowProblem::NoScope { column }) => Err(Trouble::Faulty(format!(
            "column {column}, which its scope is taken from, is NULL or no name there"
        ))),
        Err(_) => Err(Trouble::Faulty(format!(
            "its row is in no scope of {template}"
        ))),
    }
}

/// Whether a value can be opened at another time.
pub(crate) fn trouble(error: KeyError) -> Trouble {
    match error {
        KeyError::Destroyed { .. } | KeyError::NotFound { .. } | KeyError::Damaged { .. } => {
            Trouble::Faulty(error.to_string())
        }
        _ => Trouble::Later(error.to_string()),
    }
}
