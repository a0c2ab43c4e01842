//! The elements of an array that stand for rows, each sealed with the keys of its own row. What an array holds as one value is
//! another file's.

use std::borrow::Cow;

use pgveil_policy::{
    Refusal,
    plan::{ScopePart, Slot},
    ruleset::Protected,
    types::{Conversion, Converted, Value},
};

use super::{Made, Maker, does_not_fit, not_exact};
use crate::session::scoped::Scoped;

impl Maker<'_> {
    /// Each element with the keys of its own row.
    pub(super) async fn seal_elements(
        &self,
        index: usize,
        slot: &Slot,
        column: &Protected,
    ) -> Result<Made, Refusal> {
        let Some(elements) = self.scoped_elements(index, slot, column)? else {
            return Ok(Made::Null);
        };
        let mut sealed = Vec::with_capacity(elements.len());
        for element in &elements {
            sealed.push(match element {
                None => None,
                Some((value, scope)) => Some(self.seal(column, scope, value).await?),
            });
        }
        Ok(Made::Array(sealed))
    }

    /// The elements of an array, each with the scope of its own row. `None`: there is no array.
    #[expect(
        clippy::type_complexity,
        reason = "an array that may be NULL of what may be NULL"
    )]
    pub(super) fn scoped_elements(
        &self,
        index: usize,
        slot: &Slot,
        column: &Protected,
    ) -> Result<Option<Vec<Option<(Value, Cow<'_, Scoped>)>>>, Refusal> {
        let why = Conversion::Assignment;
        let elements = self.elements(&slot.operand, column.logical, why);
        if slot.exact {
            let bare = column.logical.without_modifiers();
            let bare = self.elements(&slot.operand, bare, why)?;
            if elements.as_ref().ok() != Some(&bare) {
                return Err(not_exact(column));
            }
        }
        let Some(elements) = elements? else {
            return Ok(None);
        };
        let mut beside = Vec::new();
        for part in &slot.scope {
            if let ScopePart::Element(operand, logical) = part {
                beside.push(self.elements(operand, *logical, why)?.unwrap_or_default());
            }
        }
        let mut scoped = Vec::with_capacity(elements.len());
        for (at, element) in elements.into_iter().enumerate() {
            scoped.push(match element {
                None => None,
                Some(Converted::NeverEqual) => return Err(does_not_fit(column)),
                Some(Converted::Value(value)) => {
                    // The server pads the shorter array with NULL.
                    let row: Vec<Option<&Converted>> = beside
                        .iter()
                        .map(|array| array.get(at).and_then(Option::as_ref))
                        .collect();
                    let scope = self.scope_of(index, slot, &row, &[])?;
                    Some((value, scope))
                }
            });
        }
        Ok(Some(scoped))
    }
}
