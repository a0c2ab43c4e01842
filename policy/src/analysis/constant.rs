//! Operands as constants of scopes: the value that a scope column equals or gets, in the form that makes the scope's name.

use super::{
    Analyser,
    facts::{Constant, Known},
    operand::{Operand, What, given_type},
};
use crate::types::{Conversion, Converted, LogicalType, convert};

impl Analyser<'_> {
    /// An operand as the constant that a scope column of this type equals or gets.
    pub(super) fn constant(
        &self,
        operand: &Operand,
        column: LogicalType,
        why: Conversion,
    ) -> Option<Constant> {
        let supported = |logical: LogicalType| {
            use LogicalType::*;
            matches!(
                logical,
                Text | Varchar(_) | Int2 | Int4 | Int8 | Uuid | Bool
            )
        };
        if !supported(column) {
            return None;
        }
        match &operand.what {
            What::Null | What::Applied { .. } | What::Asked(_) => None,
            What::Param(number, _) => {
                let given = self.parameter_type(*number, &operand.cast).ok()?;
                let logical = given.unwrap_or(column.without_modifiers());
                // What is stored is cut to the column's length, if only blanks are lost.
                let is_cut =
                    why == Conversion::Assignment && logical == logical.without_modifiers();
                let cut = matches!(column, LogicalType::Varchar(Some(_))) && is_cut;
                let logical = if cut { column } else { logical };
                let stays =
                    given.is_none_or(|given| supported(given) && family(given) == family(column));
                stays.then_some(Constant {
                    what: Known::Param(*number),
                    logical,
                })
            }
            What::Literal(literal) => {
                let target = if why == Conversion::Assignment {
                    column
                } else {
                    column.without_modifiers()
                };
                let format = &self.view.format;
                let given = given_type(operand, literal.logical).ok()?;
                let value = match given {
                    None => target.input(literal.text.as_bytes(), format).ok()?,
                    Some(given) if given == given.without_modifiers() && supported(given) => {
                        let value = given.input(literal.text.as_bytes(), format).ok()?;
                        match convert(&value, given, target, why, format).ok()? {
                            Converted::Value(value) => value,
                            Converted::NeverEqual => return None,
                        }
                    }
                    Some(_) => return None,
                };
                target.scope_text(&value).filter(|text| !text.is_empty())?;
                Some(Constant {
                    what: Known::Literal(value),
                    logical: target,
                })
            }
        }
    }
}

/// Types whose equal values have the same text form.
pub(super) fn family(logical: LogicalType) -> LogicalType {
    use LogicalType::*;
    match logical.without_modifiers() {
        Int2 | Int4 | Int8 => Int8,
        Varchar(_) => Text,
        other => other,
    }
}
