//! `left(x, 3)`, `right(x, 4)`, `substring(x from 2 for 5)`, `split_part(x, '@', 1)`: functions that take a part of a text, with
//! what they take given as literals. What the text is, others say.

use sqlparser::ast::{Expr, FunctionArguments};

use super::{
    Analyser,
    from::unnamed,
    operand::{Cast, Operand, What},
};
use crate::{
    Refusal,
    types::{LogicalType, TextFunction},
};

impl Analyser<'_> {
    /// Such a function, and the text of which it takes a part.
    pub(super) fn part_of_text<'e>(
        &self,
        expr: &'e Expr,
    ) -> Result<Option<(TextFunction, &'e Expr)>, Refusal> {
        match expr {
            Expr::Function(function) => {
                let (Some(name), FunctionArguments::List(list)) =
                    (self.plain_call(function), &function.args)
                else {
                    return Ok(None);
                };
                let Some(args) = unnamed(&list.args) else {
                    return Ok(None);
                };
                let function = match (name.as_str(), args.as_slice()) {
                    ("left", [_, count]) => self.whole(count)?.map(TextFunction::Left),
                    ("right", [_, count]) => self.whole(count)?.map(TextFunction::Right),
                    ("substr" | "substring", [_, from]) => self.slice(Some(from), None)?,
                    ("substr" | "substring", [_, from, length]) => {
                        self.slice(Some(from), Some(length))?
                    }
                    ("split_part", [_, delimiter, field]) => {
                        let field = self
                            .whole(field)?
                            .and_then(|field| usize::try_from(field).ok());
                        let delimiter = self.text_of(delimiter)?;
                        delimiter
                            .zip(field.filter(|field| *field > 0))
                            .map(|(delimiter, field)| TextFunction::Field { delimiter, field })
                    }
                    _ => None,
                };
                Ok(function.zip(args.first().copied()))
            }
            Expr::Substring {
                expr: text,
                substring_from,
                substring_for,
                special,
                shorthand,
            } => {
                // With FROM and FOR it is always PostgreSQL's own.
                let name = if *shorthand { "substr" } else { "substring" };
                if (*special || *shorthand) && !self.is_own(name) {
                    return Ok(None);
                }
                let (from, length) = (substring_from.as_deref(), substring_for.as_deref());
                if from.is_none() && length.is_none() {
                    return Ok(None);
                }
                let slice = self.slice(from, length)?;
                Ok(slice.map(|slice| (slice, text.as_ref())))
            }
            _ => Ok(None),
        }
    }

    fn slice(
        &self,
        from: Option<&Expr>,
        length: Option<&Expr>,
    ) -> Result<Option<TextFunction>, Refusal> {
        let start = match from {
            Some(from) => self.whole(from)?,
            None => Some(1),
        };
        let length = match length {
            // A negative one is an error.
            Some(length) => match self.whole(length)?.filter(|length| *length >= 0) {
                Some(length) => Some(length),
                None => return Ok(None),
            },
            None => None,
        };
        Ok(start.map(|start| TextFunction::Slice { start, length }))
    }

    /// A literal that is an `integer`.
    fn whole(&self, expr: &Expr) -> Result<Option<i32>, Refusal> {
        Ok(match self.operand(expr)? {
            Some(Operand {
                what: What::Literal(literal),
                cast: Cast::None,
                ..
            }) if literal.logical == Some(LogicalType::Int4) => literal.text.parse().ok(),
            _ => None,
        })
    }
}
