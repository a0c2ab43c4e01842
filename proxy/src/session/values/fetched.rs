//! Values that plain columns hold, each sealed for the row that it is stored in.

use std::{collections::HashSet, fmt::Write};

use pgveil_policy::{
    Refusal,
    plan::{FetchedAs, Operand, ScopePart, Slot, fetched_key},
    ruleset::Protected,
    types::{Conversion, Converted, LogicalType, Value},
};
use zeroize::Zeroizing;

use super::{Made, Maker, Scoped, adapt, does_not_fit, input_refusal, unknown_column};

/// A row that was fetched.
type Row = Vec<Option<String>>;

impl Maker<'_> {
    /// The values of all rows that were fetched, by what a row finds its own.
    pub(super) async fn seal_fetched(
        &self,
        slot: &Slot,
        column: &Protected,
    ) -> Result<Made, Refusal> {
        let mut known = HashSet::new();
        let mut text = String::from("{");
        for row in self.fetched_rows(slot)? {
            let key = row_key(slot, row)?;
            if !known.insert(key.clone()) {
                continue;
            }
            let comma = if known.len() > 1 { "," } else { "" };
            // Writing to a String does not fail.
            let _ = write!(text, "{comma}\"{key}\":");
            match self.fetched_value(slot, row, column)? {
                None => text.push_str("null"),
                Some(value) => {
                    let scope = self.scope_of(usize::MAX, slot, &[], row)?;
                    let sealed = self.seal(column, &scope, &value).await?;
                    let _ = write!(text, "\"{}\"", hex::encode(sealed));
                }
            }
        }
        text.push('}');
        Ok(Made::Bytes(text.into_bytes()))
    }

    /// The scopes that values are sealed for.
    pub(super) fn fetched_scopes(&self, slot: &Slot) -> Vec<Scoped> {
        let mut scopes: Vec<Scoped> = Vec::new();
        let mut known = HashSet::new();
        for row in self.fetched_rows(slot).into_iter().flatten() {
            let asked = asked_of(slot, row);
            if known.insert(asked)
                && let Ok(scope) = self.scope_of(usize::MAX, slot, &[], row)
            {
                scopes.push(scope.into_owned());
            }
        }
        scopes
    }

    fn fetched_rows(&self, slot: &Slot) -> Result<&[Row], Refusal> {
        let Operand::Fetched(fetched) = &slot.operand else {
            return Err(unknown_column());
        };
        let rows = self.asked.get(fetched.query);
        rows.map(|rows| rows.0.as_slice())
            .ok_or_else(unknown_column)
    }

    /// What is stored of a row; `None` is NULL.
    fn fetched_value(
        &self,
        slot: &Slot,
        row: &Row,
        column: &Protected,
    ) -> Result<Option<Value>, Refusal> {
        let Operand::Fetched(fetched) = &slot.operand else {
            return Err(unknown_column());
        };
        let settings = &self.view.session.format;
        let (value, logical) = match &fetched.made {
            FetchedAs::Value(logical) => {
                let column = fetched.columns.first().ok_or_else(unknown_column)?;
                let bytes = bytes_of(row, *column)?;
                let value = bytes
                    .map(|bytes| logical.recv(&bytes, settings))
                    .transpose();
                (value.map_err(input_refusal)?, *logical)
            }
            FetchedAs::Text(expression) => {
                let text = |leaf: usize| {
                    let bytes = fetched
                        .columns
                        .get(leaf)
                        .map(|column| bytes_of(row, *column));
                    let bytes = bytes.and_then(Result::ok).flatten();
                    let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                    Ok(text.map(Zeroizing::new))
                };
                let text = expression.value(&text, settings).map_err(input_refusal)?;
                let value = text.map(|text| Value::from_send_form(text.as_bytes().to_vec()));
                (value, LogicalType::Text)
            }
        };
        let Some(value) = value else {
            return Ok(None);
        };
        match adapt(
            value,
            logical,
            column.logical,
            Conversion::Assignment,
            settings,
        ) {
            Ok(Converted::Value(value)) => Ok(Some(value)),
            Ok(Converted::NeverEqual) => Err(does_not_fit(column)),
            // The row may be none that the statement writes.
            Err(_) if !fetched.all => Err(may_not_fit(column)),
            Err(error) => Err(input_refusal(error)),
        }
    }
}

fn may_not_fit(column: &Protected) -> Refusal {
    let name = &column.name;
    Refusal::unsupported(
        "value-not-constant",
        format!("protected column \"{name}\" cannot be set to what these rows hold"),
    )
    .detail("A value does not fit the column, and whether its row is written is known to the server only.")
    .hint("Leave such rows out in WHERE, or shorten the value: left(name, 20).")
}

/// The bytes of a column's send form.
fn bytes_of(row: &Row, column: usize) -> Result<Option<Vec<u8>>, Refusal> {
    let digits = row.get(column).ok_or_else(unknown_column)?;
    let bytes = digits.as_ref().map(hex::decode).transpose();
    bytes.map_err(|_| unknown_column())
}

/// The columns that the scope is made of, each once.
fn asked_of<'r>(slot: &Slot, row: &'r Row) -> Vec<Option<&'r str>> {
    let mut columns: Vec<usize> = Vec::new();
    for part in &slot.scope {
        if let ScopePart::Asked { column, .. } = part
            && !columns.contains(column)
        {
            columns.push(*column);
        }
    }
    let text = |column: usize| row.get(column).and_then(Option::as_deref);
    columns.into_iter().map(text).collect()
}

/// What the server finds a row by.
fn row_key(slot: &Slot, row: &Row) -> Result<String, Refusal> {
    let Operand::Fetched(fetched) = &slot.operand else {
        return Err(unknown_column());
    };
    // `concat_ws` leaves out what is NULL.
    let scope: Vec<&str> = asked_of(slot, row).into_iter().flatten().collect();
    let digits = |column: &usize| row.get(*column).and_then(Option::as_deref);
    let fetched: Vec<_> = fetched.columns.iter().map(digits).collect();
    Ok(fetched_key(&scope, &fetched))
}
