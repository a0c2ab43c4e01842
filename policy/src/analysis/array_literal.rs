//! `ARRAY['a', 'b']` of literals: one value, as a literal of its text form. Arrays with parameters or columns in them are
//! others' business.

use sqlparser::ast::Expr;

use super::{
    Analyser,
    literal::Literal,
    operand::{Cast, What, array_of},
};
use crate::{Refusal, types::LogicalType};

/// What the elements have turned out to be.
#[derive(Default)]
struct Elements {
    text: String,
    /// The types that elements have by themselves.
    types: Vec<LogicalType>,
}

impl Analyser<'_> {
    /// The literal that an array constructor is, if it holds nothing but literals without casts.
    pub(super) fn array_literal(&self, expr: &Expr) -> Result<Option<Literal>, Refusal> {
        let mut elements = Elements::default();
        if !self.collect(expr, &mut elements)? {
            return Ok(None);
        }
        Ok(common_type(&elements.types).map(|element| Literal {
            text: elements.text,
            logical: array_of(element),
        }))
    }

    fn collect(&self, expr: &Expr, into: &mut Elements) -> Result<bool, Refusal> {
        if let Expr::Array(array) = expr {
            if array.elem.is_empty() {
                return Ok(false);
            }
            for (index, element) in array.elem.iter().enumerate() {
                into.text.push(if index == 0 { '{' } else { ',' });
                if !self.collect(element, into)? {
                    return Ok(false);
                }
            }
            into.text.push('}');
            return Ok(true);
        }
        let operand = self.operand(expr)?;
        let Some(operand) = operand.filter(|operand| operand.cast == Cast::None) else {
            return Ok(false);
        };
        match operand.what {
            What::Null => into.text.push_str("NULL"),
            What::Literal(literal) => {
                into.types.extend(literal.logical);
                into.text.push('"');
                for c in literal.text.chars() {
                    if matches!(c, '"' | '\\') {
                        into.text.push('\\');
                    }
                    into.text.push(c);
                }
                into.text.push('"');
            }
            What::Param(..) | What::Applied { .. } | What::Asked(_) => return Ok(false),
        }
        Ok(true)
    }
}

/// Strings take the type of the others, and are text among themselves.
fn common_type(types: &[LogicalType]) -> Option<LogicalType> {
    use LogicalType::{Bool, Int4, Int8, Numeric, Text};
    let rank = |kind: &LogicalType| match kind {
        Int4 => Some(1),
        Int8 => Some(2),
        Numeric(_) => Some(3),
        _ => None,
    };
    if types.is_empty() {
        return Some(Text);
    }
    if types.iter().all(|kind| *kind == Bool) {
        return Some(Bool);
    }
    let ranks = types.iter().map(rank).collect::<Option<Vec<_>>>()?;
    Some(match ranks.into_iter().max()? {
        1 => Int4,
        2 => Int8,
        _ => Numeric(None),
    })
}
