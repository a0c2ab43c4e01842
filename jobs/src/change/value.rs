//! What becomes of one value: the same plaintext sealed anew, with a term or without; or a look at whether it fits a type.

use pgveil_config::ScopePath;
use pgveil_keys::{
    DataKey, KeyError, Keys, nonce,
    sealed::{self, Envelope},
};
use pgveil_policy::{
    plan::ColumnId,
    ruleset::{OtherTerms, RegisteredColumn, Wanted},
    types::{Conversion, Converted, FormatSettings, LogicalType, Value, convert},
};
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::{JobError, sql, terms};

/// Why one value stays as it is; the row is named by whoever reads it. Holds no value.
pub(super) enum Problem {
    /// It does not open.
    Damaged,
    /// It was moved here from a column that is shown otherwise.
    OfAnother,
    /// It is longer or more precise than the type.
    DoesNotFit { sqlstate: &'static str },
    /// A column that its row's scope is taken from is NULL, empty or no name.
    NoScope { column: String },
    /// Keys.
    Job(JobError),
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        Self::Job(error.into())
    }
}

/// The terms that values get, or that they lose them.
pub(super) struct Terms<'a> {
    keys: &'a Keys,
    logical: LogicalType,
    made: Option<Made>,
}

struct Made {
    id: ColumnId,
    described: OtherTerms,
    /// See [`Wanted`].
    matching: Vec<ColumnId>,
    alike: Vec<ColumnId>,
}

impl<'a> Terms<'a> {
    /// Every value gets a term.
    pub(super) fn with(
        keys: &'a Keys,
        logical: LogicalType,
        column: &RegisteredColumn,
        wanted: &Wanted,
    ) -> Self {
        Self {
            keys,
            logical,
            made: Some(Made {
                id: column.id,
                described: terms::compared(column),
                matching: wanted.matching.clone(),
                alike: wanted.alike.clone(),
            }),
        }
    }

    /// No value has one.
    pub(super) fn without(keys: &'a Keys, logical: LogicalType) -> Self {
        Self {
            keys,
            logical,
            made: None,
        }
    }

    /// What tells a value that is not so yet, by its header: a condition over `value`.
    pub(super) fn is_missing(&self, value: &str) -> String {
        match &self.made {
            // A value that was moved here from another column has that one's term, if any.
            Some(made) => {
                let ids = made.matching.iter().map(|id| format!("'\\x{:08x}'", id.0));
                let ids: Vec<String> = ids.collect();
                let moved = format!(
                    "pg_catalog.substr({value}, 5, 4) NOT IN ({})",
                    ids.join(", ")
                );
                let bears = sql::bears_only(value, made.described.generation.number);
                format!("(NOT {bears} OR {moved})")
            }
            None => sql::bears_any(value),
        }
    }

    /// Which column's value it is from now on: whose policy it is shown under.
    fn column(&self, sealed_for: ColumnId) -> Result<ColumnId, Problem> {
        match &self.made {
            Some(made) if made.matching.contains(&sealed_for) => Ok(sealed_for),
            Some(made) if made.alike.contains(&sealed_for) => Ok(made.id),
            Some(_) => Err(Problem::OfAnother),
            None => Ok(sealed_for),
        }
    }

    /// The value sealed anew, with the scope's key of now. `row`: the scope that the row is in; `None`
    /// where only sessions know it: then it stays the one that the value was sealed for.
    pub(super) async fn rewritten(
        &self,
        bytes: &[u8],
        row: Option<&ScopePath>,
    ) -> Result<Vec<u8>, Problem> {
        let envelope = Envelope::parse(bytes).map_err(|_| Problem::Damaged)?;
        let column = self.column(envelope.column)?;
        let key = opening_key(self.keys, &envelope).await?;
        let mut plain = Zeroizing::new(Vec::new());
        envelope
            .open(&key, &mut plain)
            .map_err(|_| Problem::Damaged)?;
        let scope = row.unwrap_or(key.scope());
        let terms = match &self.made {
            None => sealed::Terms::NONE,
            Some(made) => {
                let value = (made.id, self.logical);
                let made = terms::make(self.keys, &made.described, value, scope, &plain).await?;
                sealed::Terms::one(made.0, made.1)
            }
        };
        let mut out = Vec::new();
        loop {
            let key = match self.keys.cached_sealing_key(scope) {
                Some(key) => key,
                None => self.keys.sealing_key(scope).await?,
            };
            let nonce = nonce::next();
            let sealed = sealed::seal(&key, column, &terms, &nonce, &plain, &mut out);
            // Without a use left: the next key is there, or is an error.
            if sealed.is_ok() {
                return Ok(out);
            }
        }
    }
}

/// Whether values fit a narrower type.
pub(super) struct Fit<'a> {
    pub(super) keys: &'a Keys,
    pub(super) from: LogicalType,
    pub(super) to: LogicalType,
}

impl Fit<'_> {
    /// Opens the value: it must be the same in the narrower type, byte for byte.
    pub(super) async fn check(&self, bytes: &[u8]) -> Result<(), Problem> {
        let envelope = Envelope::parse(bytes).map_err(|_| Problem::Damaged)?;
        let key = opening_key(self.keys, &envelope).await?;
        let mut plain = Zeroizing::new(Vec::new());
        envelope
            .open(&key, &mut plain)
            .map_err(|_| Problem::Damaged)?;
        let value = Value::from_send_form(plain.to_vec());
        let settings = FormatSettings::default();
        let why = Conversion::Assignment;
        match convert(&value, self.from, self.to, why, &settings) {
            Ok(Converted::Value(same)) if same == value => Ok(()),
            Ok(_) => Err(Problem::DoesNotFit { sqlstate: "22000" }),
            Err(error) => Err(Problem::DoesNotFit {
                sqlstate: error.sqlstate,
            }),
        }
    }
}

async fn opening_key(keys: &Keys, envelope: &Envelope<'_>) -> Result<Arc<DataKey>, KeyError> {
    match keys.cached_opening_key(envelope.dek) {
        Some(key) => Ok(key),
        None => keys.opening_key(envelope.dek).await,
    }
}
