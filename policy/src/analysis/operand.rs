//! Operands: what can stand where a sealed value or a search term is made. A literal, a parameter or NULL, with or
//! without a cast. Makes no edits.

use std::ops::Range;

use sqlparser::{
    ast::{BinaryOperator, CastKind, Expr, TypedString, UnaryOperator, Value as Constant},
    tokenizer::Token as Kind,
};

use super::{
    Analyser,
    literal::{self, Literal},
    moment, refusals, type_name,
};
use crate::{
    Refusal, plan,
    ruleset::Protected,
    types::{
        Conversion, Converted, Element, LogicalType, TextExpression, Value, convert, has_operator,
        is_assignable,
    },
};

/// A literal, parameter or NULL of the statement.
pub(super) struct Operand {
    /// Which.
    pub(super) what: What,
    /// What it is cast to, if anything.
    pub(super) cast: Cast,
    /// The type that it gets together with the other values of a list or an array, without modifiers.
    pub(super) common: Option<LogicalType>,
    /// Its tokens, cast and brackets included.
    pub(super) extent: Range<usize>,
}

/// The three kinds of operands.
pub(super) enum What {
    Null,
    Literal(Literal),
    /// From 0; and the token it is.
    Param(usize, usize),
    /// What functions make of parameters that are texts.
    Applied {
        expression: TextExpression,
        params: Vec<Given>,
        /// It stands for the value that it spells.
        spells: bool,
    },
    /// What the server is asked for.
    Asked(Box<Asked>),
}

/// What the server is asked for, and the parameters of which something is computed with it.
pub(super) struct Asked {
    pub(super) timed: plan::Timed,
    pub(super) params: Vec<Given>,
}

/// A parameter of which an operand is made.
#[derive(Clone)]
pub(super) struct Given {
    /// From 0.
    pub(super) param: usize,
    /// Its token.
    pub(super) token: usize,
    /// What it is cast to.
    pub(super) cast: Cast,
}

/// What an operand is cast to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cast {
    None,
    To(LogicalType),
    /// A text that is read as this type: it stands in a column of VALUES, which is cast where it is used, or is cast again.
    Read(LogicalType),
    /// An array of a logical type.
    Array(LogicalType),
    /// Some other type, or several casts: this text.
    Other(String),
}

/// What a literal becomes.
pub(super) enum Made {
    Null,
    Value(Value),
    /// No value of the column equals it.
    NeverEqual,
}

impl Analyser<'_> {
    /// Reads an expression as an operand, if it is one.
    pub(super) fn operand(&self, expr: &Expr) -> Result<Option<Operand>, Refusal> {
        // Each in a frame of its own: they are in each other as deep as a statement is.
        match expr {
            Expr::Nested(inner) => self.nested_operand(expr, inner),
            Expr::Cast {
                kind: CastKind::DoubleColon | CastKind::Cast,
                expr: inner,
                ..
            } => match self.operand(inner)? {
                Some(operand) => self.cast_operand(expr, operand),
                None => Ok(None),
            },
            Expr::TypedString(typed) => self.typed_string(expr, typed),
            Expr::Array(_) => self.array_of_literals(expr),
            Expr::Function(_)
            | Expr::Trim { .. }
            | Expr::Substring { .. }
            | Expr::BinaryOp {
                op: BinaryOperator::StringConcat,
                ..
            } => match self.moment(expr)? {
                None => self.computed(expr),
                moment => Ok(moment),
            },
            Expr::AtTimeZone { .. }
            | Expr::BinaryOp {
                op: BinaryOperator::Plus | BinaryOperator::Minus,
                ..
            } => self.moment(expr),
            _ => self.constant_operand(expr),
        }
    }

    fn nested_operand(&self, expr: &Expr, inner: &Expr) -> Result<Option<Operand>, Refusal> {
        let Some(operand) = self.operand(inner)? else {
            return Ok(None);
        };
        Ok(Some(Operand {
            extent: self.tokens.extent(expr)?,
            ..operand
        }))
    }

    /// What a cast makes of an operand.
    fn cast_operand(&self, expr: &Expr, operand: Operand) -> Result<Option<Operand>, Refusal> {
        use LogicalType::{Text, Varchar};
        let extent = self.tokens.extent(expr)?;
        let named = self.cast_type(expr, &operand.extent)?;
        if let What::Asked(asked) = operand.what {
            let Cast::To(to) = named else { return Ok(None) };
            let Asked { timed, params } = *asked;
            return Ok(moment::cast(timed, to).map(|timed| Operand {
                what: What::Asked(Box::new(Asked { timed, params })),
                cast: named,
                common: None,
                extent,
            }));
        }
        let cast = match operand.cast {
            Cast::None => named,
            // psycopg 2 writes `'...'::uuid`, and SQLAlchemy `::UUID` behind it.
            same @ (Cast::To(_) | Cast::Array(_)) if same == named => named,
            // The text stays what it is.
            Cast::To(Text | Varchar(None))
                if matches!(named, Cast::To(Text | Varchar(None)))
                    && matches!(&operand.what, What::Literal(text) if text.logical.is_none()) =>
            {
                named
            }
            Cast::To(first @ (Text | Varchar(None))) => self.read_as(&operand.what, first, named),
            _ => Cast::Other("given by several casts".to_owned()),
        };
        let what = match operand.what {
            // A cast of ARRAY['a', 'b'] is one of its elements, which have no type of their own.
            What::Literal(literal) if literal.logical == array_of(LogicalType::Text) => {
                What::Literal(Literal {
                    logical: None,
                    ..literal
                })
            }
            what => what,
        };
        Ok(Some(Operand {
            what,
            cast,
            common: None,
            extent,
        }))
    }

    fn typed_string(&self, expr: &Expr, typed: &TypedString) -> Result<Option<Operand>, Refusal> {
        let literal = self.tokens.starting(typed.value.span.start);
        let extent = self.tokens.extent(expr)?;
        let cast = match literal {
            // An interval's fields stand behind it.
            Some(literal) if literal + 1 < extent.end => {
                self.type_named(&[extent.start..literal, literal + 1..extent.end])
            }
            _ => self.named_type(extent.start..extent.end - 1),
        };
        let literal = literal
            .map(|at| literal::read(self.tokens, at, false))
            .transpose()?
            .flatten();
        Ok(literal.map(|literal| Operand {
            what: What::Literal(literal),
            cast,
            common: None,
            extent,
        }))
    }

    fn array_of_literals(&self, expr: &Expr) -> Result<Option<Operand>, Refusal> {
        let Some(literal) = self.array_literal(expr)? else {
            return Ok(None);
        };
        Ok(Some(Operand {
            what: What::Literal(literal),
            cast: Cast::None,
            common: None,
            extent: self.tokens.extent(expr)?,
        }))
    }

    fn constant_operand(&self, expr: &Expr) -> Result<Option<Operand>, Refusal> {
        let (value, negative) = match expr {
            Expr::Value(value) => (value, false),
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => match expr.as_ref() {
                Expr::Value(value) => (value, true),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let extent = self.tokens.extent(expr)?;
        let at = extent.end - 1;
        if self.is_document(at) {
            return Ok(None);
        }
        let what = match &value.value {
            Constant::Null if !negative => What::Null,
            // In a function's body it is a name of an argument.
            Constant::Placeholder(_) if self.in_body => return Ok(None),
            Constant::Placeholder(_) if !negative => What::Param(self.parameter(at)?, at),
            _ => match literal::read(self.tokens, at, negative)? {
                Some(literal) => What::Literal(literal),
                None => return Ok(None),
            },
        };
        Ok(Some(Operand {
            what,
            cast: Cast::None,
            common: None,
            extent,
        }))
    }

    /// What a text becomes by a further cast: `CAST($1::text AS mood)`, as Prisma sends every enum, reads it.
    fn read_as(&self, what: &What, first: LogicalType, named: Cast) -> Cast {
        let several = Cast::Other("given by several casts".to_owned());
        let Cast::To(to) = named else { return several };
        if to.is_string() || matches!(to, LogicalType::Array(_)) {
            return several;
        }
        match what {
            // As a text it is described to the client.
            What::Param(param, _) if first == LogicalType::Text && self.arrives_as_text(*param) => {
                Cast::Read(to)
            }
            What::Literal(literal) if literal.logical.is_none() => Cast::To(to),
            What::Null => Cast::To(to),
            What::Param(..) | What::Literal(_) | What::Applied { .. } | What::Asked(_) => several,
        }
    }

    /// The number of the parameter at a token, from 0.
    pub(super) fn parameter(&self, at: usize) -> Result<usize, Refusal> {
        let number = self.tokens.raw(at)[1..].parse::<usize>().ok();
        let in_reach = number.filter(|number| (1..=usize::from(u16::MAX)).contains(number));
        in_reach.map(|number| number - 1).ok_or_else(|| {
            Refusal::new(
                "42P02",
                "parameter-not-usable",
                format!("there is no parameter {}", self.tokens.raw(at)),
            )
            .at(self.tokens.range(at).start)
        })
    }

    /// The type of a cast whose operand has this extent.
    pub(super) fn cast_type(&self, expr: &Expr, inner: &Range<usize>) -> Result<Cast, Refusal> {
        let range = match expr {
            Expr::Cast {
                kind: CastKind::DoubleColon,
                ..
            } => self.tokens.cast_type(inner)?,
            _ => inner.end + 1..self.tokens.extent(expr)?.end - 1,
        };
        Ok(self.named_type(range))
    }

    /// The type that some tokens name.
    pub(super) fn named_type(&self, range: Range<usize>) -> Cast {
        self.type_named(&[range])
    }

    /// The same of a name in pieces.
    fn type_named(&self, ranges: &[Range<usize>]) -> Cast {
        let pieces: Vec<&str> = ranges
            .iter()
            .map(|range| &self.tokens.sql[self.tokens.bytes(range)])
            .collect();
        let text = pieces.join(" ");
        match type_name::named(&text, &self.rules.catalog, self.view) {
            Some(LogicalType::Array(element)) => Cast::Array(element.kind()),
            Some(logical) => Cast::To(logical),
            None => {
                let text = text.to_ascii_lowercase();
                let bare = text.strip_prefix("pg_catalog.").map(str::to_owned);
                Cast::Other(bare.unwrap_or(text))
            }
        }
    }

    /// The value that a literal operand has for a column.
    pub(super) fn made(
        &self,
        operand: &Operand,
        column: &Protected,
        why: Conversion,
    ) -> Result<Made, Refusal> {
        let literal = match &operand.what {
            What::Null => return Ok(Made::Null),
            What::Literal(literal) => literal,
            What::Param(..) | What::Applied { .. } | What::Asked(_) => {
                return Err(refusals::not_understood(
                    "A parameter where a literal should be",
                ));
            }
        };
        // Of `date 'x'` the server points at the text.
        let (first, last) = (operand.extent.start, operand.extent.end.saturating_sub(1));
        let typed = literal::is_text(self.tokens.kind(last)) && last > first;
        let at = self.tokens.range(if typed { last } else { first }).start;
        let target = match why {
            Conversion::Assignment => column.logical,
            Conversion::Comparison => column.logical.operand(),
        };
        let given = given_type(operand, literal.logical).map_err(|other| {
            let value = format!("a value of type {other}");
            match why {
                Conversion::Assignment => refusals::not_sealable(column, &value).at(at),
                Conversion::Comparison => {
                    refusals::not_comparable(column, &value, "the types differ").at(at)
                }
            }
        })?;
        let input = |logical: LogicalType| {
            logical
                .input(literal.text.as_bytes(), &self.view.format)
                .map_err(|error| refusals::input(error, at))
        };
        let Some(given) = given.or(operand.common) else {
            return input(target).map(Made::Value);
        };
        if given != given.without_modifiers() {
            let checked = match &operand.cast {
                Cast::To(cast) => check_length(*cast, &literal.text),
                // Of an array the longest element could be all of the text.
                Cast::Array(cast) => check_length(*cast, &literal.text),
                Cast::None | Cast::Read(_) | Cast::Other(_) => Ok(()),
            };
            checked.map_err(|refusal| refusal.at(at))?;
        }
        check_types(given, column, why).map_err(|refusal| refusal.at(at))?;
        let value = match literal.logical.filter(|own| *own != given) {
            // `5::bigint`: the number has a type of its own first.
            Some(own) => match convert(
                &input(own)?,
                own,
                given,
                Conversion::Assignment,
                &self.view.format,
            ) {
                Ok(Converted::Value(value)) => value,
                Ok(Converted::NeverEqual) => return Ok(Made::NeverEqual),
                Err(error) => return Err(refusals::input(error, at)),
            },
            None => input(given)?,
        };
        let (value, given) = match operand.common {
            // Among other values it becomes what they are first.
            Some(common) if common != given.without_modifiers() => {
                check_types(common, column, why).map_err(|refusal| refusal.at(at))?;
                let settings = &self.view.format;
                match convert(&value, given, common, Conversion::Assignment, settings) {
                    Ok(Converted::Value(value)) => (value, common),
                    Ok(Converted::NeverEqual) => return Ok(Made::NeverEqual),
                    Err(error) => return Err(refusals::input(error, at)),
                }
            }
            _ => (value, given),
        };
        if matches!(why, Conversion::Comparison) {
            check_blanks(given, column).map_err(|refusal| refusal.at(at))?;
        }
        match convert(&value, given, target, why, &self.view.format) {
            Ok(Converted::Value(value)) => Ok(Made::Value(value)),
            Ok(Converted::NeverEqual) => Ok(Made::NeverEqual),
            Err(error) => Err(refusals::input(error, at)),
        }
    }

    /// The type that a parameter has by its declaration or cast, if it has one.
    pub(super) fn parameter_type(
        &self,
        number: usize,
        cast: &Cast,
    ) -> Result<Option<LogicalType>, Refusal> {
        let declared = match self.oids.get(number).copied().unwrap_or(0) {
            // 0: not given; 705: `unknown`.
            0 | 705 => None,
            oid => Some(self.rules.catalog.type_of(oid, -1).ok_or_else(|| {
                unusable(number, "it is declared with a type that cannot be sealed")
            })?),
        };
        let cast = match cast {
            Cast::None => return Ok(declared),
            Cast::Read(_) => return Ok(declared.or(Some(LogicalType::Text))),
            Cast::To(logical) => *logical,
            Cast::Array(element) => array_of(*element)
                .ok_or_else(|| unusable(number, "it is cast to a type that cannot be sealed"))?,
            Cast::Other(_) => {
                return Err(unusable(
                    number,
                    "it is cast to a type that cannot be sealed",
                ));
            }
        };
        if cast != cast.without_modifiers() {
            return Err(unusable(
                number,
                "it is cast to a type with a length or precision",
            ));
        }
        match declared {
            None => Ok(Some(cast)),
            Some(declared) if declared.comparable_with(cast) || keeps_value(declared, cast) => {
                Ok(Some(declared))
            }
            // As such a cast it reads the text, whose form is the same in both formats.
            Some(LogicalType::Text | LogicalType::Varchar(_)) if !cast.is_string() => {
                Ok(Some(cast))
            }
            Some(_) => Err(unusable(
                number,
                "it is declared with another type than it is cast to",
            )),
        }
    }

    /// The parameters among some tokens.
    pub(super) fn placeholders(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        range.filter(|at| matches!(self.tokens.kind(*at), Kind::Placeholder(_)))
    }
}

/// A parameter that cannot be sealed.
pub(super) fn unusable(number: usize, why: &str) -> Refusal {
    Refusal::unsupported(
        "parameter-not-usable",
        format!(
            "parameter ${} cannot be used for a protected column",
            number + 1
        ),
    )
    .detail(format!("As pgveil sees it, {why}."))
    .hint("Leave the parameter's type open, or give it the column's own type.")
}

/// Whether a value cast from one type to the other becomes, stored or compared, what it becomes without the cast.
pub(super) fn keeps_value(declared: LogicalType, cast: LogicalType) -> bool {
    use LogicalType::*;
    declared == cast
        || matches!(
            (declared, cast),
            (Int2, Int4 | Int8 | Numeric(None)) | (Int4, Int8 | Numeric(None)) | (Int8, Numeric(None))
                // Not the other way: jsonb forgets how a json was written.
                | (Jsonb, Json)
        )
}

/// The array type of an element type.
pub(super) fn array_of(element: LogicalType) -> Option<LogicalType> {
    Element::new(element).map(LogicalType::Array)
}

/// An explicit cast cuts a text that is too long; an assignment refuses it. So only what needs no cut may pass.
fn check_length(cast: LogicalType, text: &str) -> Result<(), Refusal> {
    let most = match cast {
        LogicalType::Varchar(most) | LogicalType::Bpchar(most) => most,
        _ => None,
    };
    if most.is_some_and(|most| text.chars().count() > most as usize) {
        return Err(refusals::construct("a cast that cuts a literal short"));
    }
    Ok(())
}

/// Whether Postgres would assign or compare this type to the column at all.
pub(super) fn check_types(
    given: LogicalType,
    column: &Protected,
    why: Conversion,
) -> Result<(), Refusal> {
    let fits = match why {
        Conversion::Assignment => is_assignable(given, column.logical),
        Conversion::Comparison => has_operator(given, column.logical),
    };
    match why {
        _ if fits => Ok(()),
        Conversion::Assignment => Err(refusals::wrong_type(column, &given.sql_name())),
        Conversion::Comparison => {
            use LogicalType::{Macaddr, Macaddr8};
            let refusal = match (column.logical, given) {
                (Macaddr, Macaddr8) | (Macaddr8, Macaddr) => refusals::operator_not_unique,
                _ => refusals::no_operator,
            };
            let name = |logical: LogicalType| logical.without_modifiers().sql_name();
            Err(refusal(&name(column.logical), &name(given)))
        }
    }
}

/// `varchar = char(n)` is a comparison as `char(n)`: blanks at the end of a stored value would not count, and make
/// terms of their own.
pub(super) fn check_blanks(given: LogicalType, column: &Protected) -> Result<(), Refusal> {
    match (given, column.logical) {
        (LogicalType::Bpchar(_), LogicalType::Varchar(_)) => Err(refusals::not_comparable(
            column,
            "a value of type character",
            "PostgreSQL leaves blanks at the end of both out, and the search terms do not",
        )),
        _ => Ok(()),
    }
}

impl What {
    /// The plan's form of a parameter, or of what is computed of one.
    pub(super) fn planned_param(&self) -> Option<plan::Operand> {
        match self {
            Self::Param(param, _) => Some(plan::Operand::Param(*param)),
            Self::Applied {
                expression, spells, ..
            } => Some(match spells {
                true => plan::Operand::Spelled(expression.clone()),
                false => plan::Operand::Computed(expression.clone()),
            }),
            Self::Asked(asked) => Some(plan::Operand::Moment(asked.timed.clone())),
            Self::Null | Self::Literal(_) => None,
        }
    }
}

impl Operand {
    /// The parameters that it is made of.
    pub(super) fn params(&self) -> Vec<Given> {
        match &self.what {
            What::Param(param, token) => vec![Given {
                param: *param,
                token: *token,
                cast: self.cast.clone(),
            }],
            What::Applied { params, .. } => params.clone(),
            What::Asked(asked) => asked.params.clone(),
            What::Null | What::Literal(_) => Vec::new(),
        }
    }

    /// The plan's form of an operand that is no parameter.
    pub(super) fn planned(made: Made) -> Option<plan::Operand> {
        match made {
            Made::Value(value) => Some(plan::Operand::Literal(Some(value))),
            Made::Null | Made::NeverEqual => None,
        }
    }
}

/// The type that an operand has by its cast or by itself; the text of one that is no logical type as error.
pub(super) fn given_type(
    operand: &Operand,
    own: Option<LogicalType>,
) -> Result<Option<LogicalType>, String> {
    match &operand.cast {
        Cast::None => Ok(own),
        Cast::To(logical) | Cast::Read(logical) => Ok(Some(*logical)),
        Cast::Array(element) => match array_of(*element) {
            Some(array) => Ok(Some(array)),
            None => Err(format!("{}[]", element.sql_name())),
        },
        Cast::Other(text) => Err(text.clone()),
    }
}

/// Whether an expression is the word DEFAULT.
pub(super) fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}
