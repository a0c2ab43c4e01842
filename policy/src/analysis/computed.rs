//! Functions of text over a literal or parameter: `lower($1)`, `trim('x ')`, `$1 || '@example.com'`. The server must not
//! see their argument, so what they make is computed here (`types::computed`).

use sqlparser::ast::{BinaryOperator, Expr, Function, FunctionArguments, TrimWhereField};
use zeroize::Zeroizing;

use super::{
    Analyser,
    from::unnamed,
    literal::Literal,
    operand::{Cast, Operand, What},
};
use crate::{
    Refusal,
    types::{LogicalType, TextFunction},
};

/// Functions inside each other that are followed.
const MOST: usize = 16;

impl Analyser<'_> {
    /// Reads such an expression as an operand.
    pub(super) fn computed(&self, expr: &Expr) -> Result<Option<Operand>, Refusal> {
        let Some((function, inner)) = self.text_function(expr)? else {
            return Ok(None);
        };
        let Some(operand) = self.operand(inner)? else {
            return Ok(None);
        };
        let open = match (&operand.what, &operand.cast) {
            (What::Applied { .. }, _) => true,
            (What::Literal(literal), Cast::None) => literal.logical.is_none(),
            (_, Cast::None | Cast::To(LogicalType::Text | LogicalType::Varchar(None))) => true,
            _ => false,
        };
        if !open {
            return Ok(None);
        }
        let what = match operand.what {
            What::Null => What::Null,
            What::Literal(literal) => match function.apply(&literal.text, &self.view.format) {
                Ok(text) => What::Literal(Literal {
                    text: text.as_str().to_owned(),
                    logical: None,
                }),
                Err(_) => return Ok(None),
            },
            What::Param(param, token) if self.arrives_as_text(param) => What::Applied {
                param,
                token,
                functions: vec![function],
            },
            What::Applied {
                param,
                token,
                mut functions,
            } if functions.len() < MOST => {
                functions.push(function);
                What::Applied {
                    param,
                    token,
                    functions,
                }
            }
            What::Param(..) | What::Applied { .. } => return Ok(None),
        };
        // The client is told of the type that it is cast to.
        let cast = match (&what, operand.cast) {
            (What::Applied { .. }, cast @ Cast::To(_)) => cast,
            _ => Cast::To(LogicalType::Text),
        };
        Ok(self.tokens.extent(expr).ok().map(|extent| Operand {
            what,
            cast,
            common: None,
            extent,
        }))
    }

    /// The function of an expression, and what it is applied to.
    fn text_function<'e>(
        &self,
        expr: &'e Expr,
    ) -> Result<Option<(TextFunction, &'e Expr)>, Refusal> {
        match expr {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::StringConcat,
                right,
            } => {
                if let Some(text) = self.text_of(left)? {
                    return Ok(Some((TextFunction::Behind(text), right)));
                }
                let text = self.text_of(right)?;
                Ok(text.map(|text| (TextFunction::Before(text), &**left)))
            }
            Expr::Trim {
                expr,
                trim_where,
                trim_what,
                trim_characters: None,
            } => {
                let characters = match trim_what {
                    Some(what) => self.text_of(what)?,
                    None => Some(blank()),
                };
                let trim = |characters| TextFunction::Trim {
                    leading: !matches!(trim_where, Some(TrimWhereField::Trailing)),
                    trailing: !matches!(trim_where, Some(TrimWhereField::Leading)),
                    characters,
                };
                Ok(characters.map(|characters| (trim(characters), &**expr)))
            }
            Expr::Function(function) => self.named_text_function(function),
            _ => Ok(None),
        }
    }

    fn named_text_function<'e>(
        &self,
        function: &'e Function,
    ) -> Result<Option<(TextFunction, &'e Expr)>, Refusal> {
        let plain = function.over.is_none()
            && function.filter.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none()
            && matches!(function.parameters, FunctionArguments::None);
        let FunctionArguments::List(list) = &function.args else {
            return Ok(None);
        };
        if !plain || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
            return Ok(None);
        }
        let (Some(name), Some(args)) = (self.own_name(function), unnamed(&list.args)) else {
            return Ok(None);
        };
        let trim = |leading, trailing, characters| TextFunction::Trim {
            leading,
            trailing,
            characters,
        };
        let sides = match name.as_str() {
            "btrim" => (true, true),
            "ltrim" => (true, false),
            "rtrim" => (false, true),
            _ => (false, false),
        };
        Ok(match (name.as_str(), args.as_slice()) {
            ("lower", [text]) => Some((TextFunction::Lower, *text)),
            ("upper", [text]) => Some((TextFunction::Upper, *text)),
            ("btrim" | "ltrim" | "rtrim", [text]) => Some((trim(sides.0, sides.1, blank()), *text)),
            ("btrim" | "ltrim" | "rtrim", [text, characters]) => {
                let characters = self.text_of(characters)?;
                characters.map(|characters| (trim(sides.0, sides.1, characters), *text))
            }
            _ => None,
        })
    }

    /// The name of a function that can only be PostgreSQL's own.
    fn own_name(&self, function: &Function) -> Option<String> {
        let name = super::function::last_name(&function.name)?;
        let first = self
            .view
            .schemas
            .iter()
            .find(|schema| !schema.starts_with("pg_temp"));
        let own = match function.name.0.as_slice() {
            [_] => {
                first.is_some_and(|schema| schema == "pg_catalog")
                    && !self
                        .rules
                        .catalog
                        .functions
                        .iter()
                        .any(|other| other.name == name)
            }
            [schema, _] => schema.to_string().eq_ignore_ascii_case("pg_catalog"),
            _ => false,
        };
        own.then_some(name)
    }

    /// A literal that can only be a text.
    fn text_of(&self, expr: &Expr) -> Result<Option<Zeroizing<String>>, Refusal> {
        Ok(match self.operand(expr)? {
            Some(Operand {
                what: What::Literal(literal),
                cast: Cast::None | Cast::To(LogicalType::Text),
                ..
            }) if literal.logical.is_none() => Some(Zeroizing::new(literal.text)),
            _ => None,
        })
    }
}

fn blank() -> Zeroizing<String> {
    Zeroizing::new(" ".to_owned())
}
