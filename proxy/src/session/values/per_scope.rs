//! One value sealed for every scope that a scope query found.

use pgveil_policy::{
    Refusal,
    plan::{MAX_ASKED_SCOPES, ScopePart, ScopeQuery, Slot, scope_key},
    ruleset::Protected,
    types::{Conversion, Converted},
};

use super::{Made, Maker, Scoped, does_not_fit, unknown_column};

/// Values that one statement has sealed for the scopes of its rows at most.
const MAX_SEALED: usize = 64 * 1024;

/// The distinct values of the scope columns of the rows that a statement touches.
#[derive(Debug, Default)]
pub struct AskedScopes(pub(super) Vec<Vec<Option<String>>>);

impl AskedScopes {
    /// Reads what the server answered.
    ///
    /// # Errors
    /// `PV001` if there are too many, or if row-level security hides some.
    pub fn read(query: &ScopeQuery, rows: Vec<Vec<Option<Vec<u8>>>>) -> Result<Self, Refusal> {
        if rows.len() > query.most && query.most > MAX_ASKED_SCOPES {
            return Err(too_many_values(query.most));
        }
        if rows.len() > query.most {
            return Err(not_resolved()
                .detail(format!(
                    "The statement touches rows of more than {MAX_ASKED_SCOPES} scopes."
                ))
                .hint("Name the scope's columns in WHERE, and update the rows of one scope after the other."));
        }
        let mut scopes = Vec::with_capacity(rows.len());
        for row in rows {
            let text = |field: Option<Vec<u8>>| field.map(String::from_utf8).transpose();
            let fields: Result<Vec<_>, _> = row.into_iter().map(text).collect();
            let mut fields = fields.map_err(|_| unknown_column())?;
            if query.asks_security && fields.pop() != Some(Some("false".to_owned())) {
                return Err(not_resolved()
                    .detail("Row-level security is in force, and the statement reads no column of the table: it touches rows that cannot be asked for.")
                    .hint("Name a column of the table in WHERE."));
            }
            if fields.len() != query.columns.len() {
                return Err(unknown_column());
            }
            scopes.push(fields);
        }
        Ok(Self(scopes))
    }
}

impl AskedScopes {
    /// A column of the only row.
    pub(super) fn only(&self, column: usize) -> Option<&str> {
        match self.0.as_slice() {
            [row] => row.get(column)?.as_deref(),
            _ => None,
        }
    }
}

impl Maker<'_> {
    /// Each scope's key, and the value sealed for it.
    pub(super) async fn seal_per_scope(
        &self,
        slot: &Slot,
        column: &Protected,
    ) -> Result<Made, Refusal> {
        let why = Conversion::Assignment;
        let value = match self.value(&slot.operand, column.logical, why)? {
            None => return Ok(Made::Null),
            Some(Converted::Value(value)) => value,
            Some(Converted::NeverEqual) => return Err(does_not_fit(column)),
        };
        let mut made: Vec<Option<Vec<u8>>> = Vec::new();
        for (key, scope) in self.asked_scopes(slot, self.prepared.plan.slots.len())? {
            made.push(Some(key));
            made.push(Some(self.seal(column, &scope, &value).await?));
        }
        Ok(Made::Array(made))
    }

    /// The same for each element of an array, as the text of a `bytea[]`.
    pub(super) async fn seal_elements_per_scope(
        &self,
        slot: &Slot,
        column: &Protected,
    ) -> Result<Made, Refusal> {
        let why = Conversion::Assignment;
        let Some(elements) = self.elements(&slot.operand, column.logical, why)? else {
            return Ok(Made::Null);
        };
        let slots = self.prepared.plan.slots.len();
        let scopes = self.asked_scopes(slot, elements.len().saturating_mul(slots))?;
        let mut made = Vec::with_capacity(elements.len());
        for element in &elements {
            let value = match element {
                None => {
                    made.push(None);
                    continue;
                }
                Some(Converted::Value(value)) => value,
                Some(Converted::NeverEqual) => return Err(does_not_fit(column)),
            };
            let mut text = String::from("{");
            for (key, scope) in &scopes {
                push_bytea(&mut text, key);
                push_bytea(&mut text, &self.seal(column, scope, value).await?);
            }
            text.push('}');
            made.push(Some(text.into_bytes()));
        }
        Ok(Made::Array(made))
    }

    /// The scopes that a slot's value is sealed for, each with its key. `values` are sealed for each of them.
    pub(super) fn asked_scopes(
        &self,
        slot: &Slot,
        values: usize,
    ) -> Result<Vec<(Vec<u8>, Scoped)>, Refusal> {
        let mut columns: Vec<(usize, usize)> = Vec::new();
        for part in &slot.scope {
            if let ScopePart::Asked { query, column, .. } = part
                && !columns.contains(&(*query, *column))
            {
                columns.push((*query, *column));
            }
        }
        let query = columns.first().map_or(0, |(query, _)| *query);
        let rows = self.asked.get(query).ok_or_else(unknown_column)?;
        if values.saturating_mul(rows.0.len()) > MAX_SEALED {
            return Err(not_resolved()
                .detail(format!("The statement's values times the scopes of its rows are more than {MAX_SEALED}."))
                .hint("Name the scope's columns in WHERE, and update the rows of one scope after the other."));
        }
        let mut scopes: Vec<(Vec<u8>, Scoped)> = Vec::with_capacity(rows.0.len());
        for row in &rows.0 {
            let scope = self.scope_of(usize::MAX, slot, &[], row)?;
            let texts: Option<Vec<&str>> = columns
                .iter()
                .map(|(_, column)| row.get(*column).and_then(Option::as_deref))
                .collect();
            let key = scope_key(&texts.ok_or_else(unknown_column)?).into_bytes();
            if !scopes.iter().any(|(known, _)| *known == key) {
                scopes.push((key, scope.into_owned()));
            }
        }
        Ok(scopes)
    }
}

/// One more element of a `bytea[]` in its text form.
fn push_bytea(text: &mut String, bytes: &[u8]) {
    use std::fmt::Write;
    let comma = if text.ends_with('{') { "" } else { "," };
    text.push_str(comma);
    text.push_str("\"\\\\x");
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('"');
}

/// Rows that hold too many different values, or too much of them.
pub fn too_many_values(most: usize) -> Refusal {
    Refusal::new(
        "54000",
        "too-long",
        "the statement stores too many different values of columns that are not protected",
    )
    .detail(format!(
        "pgveil seals each of them first: {most} at most, and 64 MiB."
    ))
    .hint("Write fewer rows at a time.")
}

fn not_resolved() -> Refusal {
    Refusal::new(
        "PV001",
        "scope-not-resolved",
        "the scope of a protected value cannot be resolved",
    )
}
