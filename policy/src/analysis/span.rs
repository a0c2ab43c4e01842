//! Intervals and numbers of days that a statement gives, to be added to the server's time (decision 164): literals,
//! parameters, their products, `make_interval`, and texts that are cast to `interval`.

use sqlparser::ast::{
    BinaryOperator, CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
};
use zeroize::Zeroizing;

use super::{
    Analyser,
    compare::strip,
    literal::Literal,
    namespace::name_of,
    operand::{Cast, Given, Operand, What},
};
use crate::{
    Refusal,
    types::{LogicalType, Number, Span, TextExpression, TimeStep},
};

/// An interval without fields or precision.
const INTERVAL: LogicalType = LogicalType::Interval(None, None);

/// So many products may be in each other.
const DEEPEST: usize = 4;

/// The arguments of `make_interval`, by their names.
const FIELDS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

impl Analyser<'_> {
    /// What an expression beside a time of this type does to it, and the parameters in it.
    pub(super) fn step(
        &self,
        by: &Expr,
        back: bool,
        of: LogicalType,
    ) -> Result<Option<(TimeStep, Vec<Given>)>, Refusal> {
        if of == LogicalType::Date
            && let Some(operand) = self.operand(by)?
            && let Some((number, params)) = self.days(operand)?
        {
            return Ok(Some((TimeStep::days(number, back), params)));
        }
        // `time + unknown` and `date + unknown` are several operators, and `timestamp - unknown` is no interval.
        let bare = !back && matches!(of, LogicalType::Timestamp(_) | LogicalType::Timestamptz(_));
        let mut params = Vec::new();
        let span = self.span(by, bare, DEEPEST, &mut params)?;
        Ok(span.map(|span| (TimeStep::shift(span, back), params)))
    }

    /// A number of days: a whole number that says that it is one.
    fn days(&self, operand: Operand) -> Result<Option<(Number, Vec<Given>)>, Refusal> {
        use LogicalType::{Int2, Int4};
        let whole = |logical: LogicalType| matches!(logical, Int2 | Int4);
        Ok(match (&operand.what, &operand.cast) {
            (What::Literal(literal), Cast::None) if literal.logical == Some(Int4) => {
                number_of(literal).map(|number| (number, Vec::new()))
            }
            (What::Param(param, token), cast) => {
                let given = self.parameter_type(*param, cast)?;
                let cast_too = match cast {
                    Cast::To(to) => whole(*to),
                    Cast::None => true,
                    _ => false,
                };
                given.filter(|given| whole(*given) && cast_too).map(|_| {
                    let given = Given {
                        param: *param,
                        token: *token,
                        cast: cast.clone(),
                    };
                    (Number::Param(*param), vec![given])
                })
            }
            _ => None,
        })
    }

    /// An interval. `bare`: a parameter of no type of its own is one here.
    fn span(
        &self,
        expr: &Expr,
        bare: bool,
        depth: usize,
        params: &mut Vec<Given>,
    ) -> Result<Option<Span>, Refusal> {
        let Some(depth) = depth.checked_sub(1) else {
            return Ok(None);
        };
        let expr = strip(expr);
        match expr {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Multiply,
                right,
            } => {
                for (span, number) in [(left, right), (right, left)] {
                    let mark = params.len();
                    if let Some(span) = self.span(span, false, depth, params)?
                        && let Some(number) = self.number(number, LogicalType::Float8, params)?
                    {
                        return Ok(Some(Span::Times(Box::new(span), number)));
                    }
                    params.truncate(mark);
                }
                Ok(None)
            }
            Expr::Function(function) => self.make_interval(function, params),
            Expr::Cast {
                kind: CastKind::DoubleColon | CastKind::Cast,
                expr: inner,
                ..
            } if self.is_text_made(inner)? => {
                let extent = self.tokens.extent(inner)?;
                if self.cast_type(expr, &extent)? != Cast::To(INTERVAL) {
                    return Ok(None);
                }
                let Some(Operand {
                    what:
                        What::Applied {
                            expression,
                            params: given,
                            ..
                        },
                    ..
                }) = self.operand(inner)?
                else {
                    return Ok(None);
                };
                params.extend(given);
                Ok(Some(Span::Text(expression)))
            }
            _ => {
                let Some(operand) = self.operand(expr)? else {
                    return Ok(None);
                };
                self.one_span(operand, bare, params)
            }
        }
    }

    /// A literal or a parameter that is an interval.
    fn one_span(
        &self,
        operand: Operand,
        bare: bool,
        params: &mut Vec<Given>,
    ) -> Result<Option<Span>, Refusal> {
        match (operand.what, operand.cast) {
            (What::Literal(literal), Cast::To(interval @ LogicalType::Interval(..)))
                if literal.logical.is_none() =>
            {
                Ok(self.literal_span(literal, interval))
            }
            // Beside `timestamp +` PostgreSQL takes it for an interval too.
            (What::Literal(literal), Cast::None) if bare && literal.logical.is_none() => {
                Ok(self.literal_span(literal, INTERVAL))
            }
            (What::Param(param, token), cast) => {
                let given = self.parameter_type(param, &cast)?;
                let cast = match cast {
                    Cast::To(INTERVAL) | Cast::None if given == Some(INTERVAL) => cast,
                    Cast::None if bare && given.is_none() => Cast::To(INTERVAL),
                    _ => return Ok(None),
                };
                params.push(Given { param, token, cast });
                Ok(Some(Span::Param(param)))
            }
            _ => Ok(None),
        }
    }

    /// A text as an interval. What is none is PostgreSQL's error, once the value is made.
    fn literal_span(&self, literal: Literal, interval: LogicalType) -> Option<Span> {
        match interval.input(literal.text.as_bytes(), &self.view.format) {
            Ok(value) => Span::literal(value),
            Err(error) if error.is_unsupported() || interval != INTERVAL => None,
            Err(_) => {
                let text = Zeroizing::new(literal.text);
                Some(Span::Text(TextExpression::Given(Some(text))))
            }
        }
    }

    /// Whether a text is made of parameters by functions.
    fn is_text_made(&self, expr: &Expr) -> Result<bool, Refusal> {
        Ok(matches!(
            self.operand(expr)?,
            Some(Operand {
                what: What::Applied { spells: false, .. },
                cast: Cast::To(LogicalType::Text),
                ..
            })
        ))
    }

    /// A number that is wanted as `float8` or `int4`, which a parameter without a type becomes.
    fn number(
        &self,
        expr: &Expr,
        wanted: LogicalType,
        params: &mut Vec<Given>,
    ) -> Result<Option<Number>, Refusal> {
        use LogicalType::{Float4, Float8, Int2, Int4, Int8, Numeric};
        let fits = |logical: LogicalType| match wanted {
            Int4 => matches!(logical, Int2 | Int4),
            _ => matches!(
                logical,
                Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(None)
            ),
        };
        let Some(operand) = self.operand(expr)? else {
            return Ok(None);
        };
        Ok(match (&operand.what, operand.cast) {
            (What::Literal(literal), Cast::None) if literal.logical.is_some_and(fits) => {
                number_of(literal)
            }
            (What::Param(param, token), cast) => {
                let (param, token) = (*param, *token);
                let given = self.parameter_type(param, &cast)?;
                let cast = match (cast, given) {
                    (Cast::None, None) => Cast::To(wanted),
                    (Cast::None, Some(given)) if fits(given) => Cast::None,
                    (Cast::To(to), Some(given)) if fits(to) && fits(given) => Cast::To(to),
                    _ => return Ok(None),
                };
                params.push(Given { param, token, cast });
                Some(Number::Param(param))
            }
            _ => None,
        })
    }

    /// `make_interval(days => 3, hours => $1)`
    fn make_interval(
        &self,
        function: &Function,
        params: &mut Vec<Given>,
    ) -> Result<Option<Span>, Refusal> {
        let (Some("make_interval"), FunctionArguments::List(list)) =
            (self.plain_call(function).as_deref(), &function.args)
        else {
            return Ok(None);
        };
        let mut numbers = [Number::Literal(0.0); 7];
        let mut given = [false; 7];
        for (place, arg) in list.args.iter().enumerate() {
            let (field, expr) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => (Some(place), expr),
                FunctionArg::Named {
                    name,
                    arg: FunctionArgExpr::Expr(expr),
                    ..
                }
                | FunctionArg::ExprNamed {
                    name: Expr::Identifier(name),
                    arg: FunctionArgExpr::Expr(expr),
                    ..
                } => {
                    let name = name_of(name);
                    (FIELDS.iter().position(|field| *field == name), expr)
                }
                _ => return Ok(None),
            };
            let Some(field) = field.filter(|field| *field < FIELDS.len()) else {
                return Ok(None);
            };
            let wanted = match FIELDS[field] {
                "secs" => LogicalType::Float8,
                _ => LogicalType::Int4,
            };
            // PostgreSQL takes none twice.
            if std::mem::replace(&mut given[field], true) {
                return Ok(None);
            }
            match self.number(expr, wanted, params)? {
                Some(number) => numbers[field] = number,
                None => return Ok(None),
            }
        }
        Ok(Some(Span::Made(Box::new(numbers))))
    }
}

/// A literal that is a number, in a type that it has by itself.
fn number_of(literal: &Literal) -> Option<Number> {
    literal.text.parse().ok().map(Number::Literal)
}
