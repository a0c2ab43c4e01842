//! Functions of text over literals and parameters: `lower($1)`, `trim('x ')`, `$1 || '@' || $2`. The server must not
//! see their arguments, so what they make is computed here (`types::computed`).

use std::ops::Range;

use sqlparser::ast::{BinaryOperator, Expr, Function, FunctionArguments, TrimWhereField};
use zeroize::Zeroizing;

use super::{
    Analyser,
    compare::strip,
    from::unnamed,
    function::is_nullif,
    literal::Literal,
    operand::{Cast, Given, Operand, What},
};
use crate::{
    Refusal, plan,
    types::{LogicalType, TextExpression, TextFunction},
};

/// Texts and functions in one expression that are followed.
const MOST: usize = 64;

/// An expression of texts, and the parameters in it.
struct Text {
    expression: TextExpression,
    params: Vec<Given>,
}

impl Text {
    fn made(self, function: TextFunction) -> Self {
        Self {
            expression: TextExpression::Made(function, Box::new(self.expression)),
            ..self
        }
    }

    /// Several, made one.
    fn all(texts: Vec<Self>, make: impl FnOnce(Vec<TextExpression>) -> TextExpression) -> Self {
        let (mut expressions, mut params) = (Vec::new(), Vec::new());
        for text in texts {
            expressions.push(text.expression);
            params.extend(text.params);
        }
        Self {
            expression: make(expressions),
            params,
        }
    }
}

impl Analyser<'_> {
    /// Reads such an expression as an operand.
    pub(super) fn computed(&self, expr: &Expr) -> Result<Option<Operand>, Refusal> {
        let Some(text) = self.text_expression(expr)? else {
            return Ok(None);
        };
        let mut parts = 0;
        text.expression.each(&mut |_| parts += 1);
        if parts > MOST {
            return Ok(None);
        }
        let what = self.text_operand(text);
        let extent = self.tokens.extent(expr).ok();
        Ok(what.zip(extent).map(|(what, extent)| Operand {
            what,
            cast: Cast::To(LogicalType::Text),
            common: None,
            extent,
        }))
    }

    /// A text as an operand; of literals alone it is one. `None`: it is not known here.
    fn text_operand(&self, Text { expression, params }: Text) -> Option<What> {
        if !params.is_empty() {
            return Some(What::Applied {
                expression,
                params,
                spells: false,
            });
        }
        let text = expression.value(&|_| Ok(None), &self.view.format).ok()?;
        Some(match text {
            Some(text) => What::Literal(Literal {
                text: text.as_str().to_owned(),
                logical: None,
            }),
            None => What::Null,
        })
    }

    /// `NULLIF($1, '')` among the values of which one is stored: both are texts there.
    pub(super) fn text_nullif(&self, expr: &Expr) -> Result<Option<Operand>, Refusal> {
        let Expr::Function(function) = expr else {
            return Ok(None);
        };
        let FunctionArguments::List(list) = &function.args else {
            return Ok(None);
        };
        let args = unnamed(&list.args).filter(|_| is_nullif(function));
        let Some([text, other]) = args.as_deref() else {
            return Ok(None);
        };
        let (Some(text), Some(other)) = (self.text(text)?, self.text(other)?) else {
            return Ok(None);
        };
        let text = Text::all(vec![text, other], |mut both| {
            let other = both.pop().unwrap_or(TextExpression::Given(None));
            let text = both.pop().unwrap_or(TextExpression::Given(None));
            TextExpression::Unless(Box::new(text), Box::new(other))
        });
        let extent = self.tokens.extent(expr)?;
        Ok(self.text_operand(text).map(|what| Operand {
            what,
            cast: Cast::To(LogicalType::Text),
            common: None,
            extent,
        }))
    }

    /// What functions and operators make of texts.
    fn text_expression(&self, expr: &Expr) -> Result<Option<Text>, Refusal> {
        if let Some((part, text)) = self.part_of_text(expr)? {
            return Ok(self.text(text)?.map(|text| text.made(part)));
        }
        match expr {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::StringConcat,
                right,
            } => {
                // A parameter beside what is no text would have another type.
                let (Some(left), Some(right)) = (self.text(left)?, self.text(right)?) else {
                    return Ok(None);
                };
                Ok(Some(Text::all(vec![left, right], TextExpression::Joined)))
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
                let Some(characters) = characters else {
                    return Ok(None);
                };
                Ok(self.text(expr)?.map(|text| text.made(trim(characters))))
            }
            Expr::Function(function) => self.named_text_function(function),
            _ => Ok(None),
        }
    }

    /// An argument that is a text: a literal, a parameter or what functions make of them.
    fn text(&self, expr: &Expr) -> Result<Option<Text>, Refusal> {
        let Some(operand) = self.operand(expr)? else {
            return Ok(None);
        };
        let is_text = matches!(
            operand.cast,
            Cast::None | Cast::To(LogicalType::Text | LogicalType::Varchar(None))
        );
        Ok(match operand.what {
            What::Applied {
                expression, params, ..
            } => Some(Text { expression, params }),
            What::Null if is_text => Some(given(None)),
            What::Literal(literal) if is_text && literal.logical.is_none() => {
                Some(given(Some(Zeroizing::new(literal.text))))
            }
            What::Param(param, token) if is_text && self.arrives_as_text(param) => Some(Text {
                expression: TextExpression::Param(param),
                params: vec![Given {
                    param,
                    token,
                    cast: match operand.cast {
                        Cast::None => Cast::To(LogicalType::Text),
                        cast => cast,
                    },
                }],
            }),
            What::Null | What::Literal(_) | What::Param(..) | What::Asked(_) => None,
        })
    }

    /// A text by itself that is to be read as the value that it spells.
    pub(super) fn whole_text(&self, expr: &Expr) -> Result<Option<(What, Range<usize>)>, Refusal> {
        let Some(Text { expression, params }) = self.text(expr)? else {
            return Ok(None);
        };
        let extent = self.tokens.extent(expr)?;
        let what = match expression {
            TextExpression::Given(None) => What::Null,
            TextExpression::Given(Some(text)) => What::Literal(Literal {
                text: text.as_str().to_owned(),
                logical: None,
            }),
            _ if params.is_empty() => return Ok(None),
            expression => What::Applied {
                expression,
                params,
                spells: true,
            },
        };
        Ok(Some((what, extent)))
    }

    /// `string_to_array(x, ',')`: the text as an operand, and what stands between its pieces.
    pub(super) fn split_text(
        &self,
        expr: &Expr,
    ) -> Result<Option<(Operand, plan::Operand)>, Refusal> {
        let Expr::Function(function) = strip(expr) else {
            return Ok(None);
        };
        let (Some("string_to_array"), FunctionArguments::List(list)) =
            (self.plain_call(function).as_deref(), &function.args)
        else {
            return Ok(None);
        };
        let args = unnamed(&list.args);
        let Some([text, between]) = args.as_deref() else {
            return Ok(None);
        };
        let (Some(text), Some(between)) = (self.text(text)?, self.text_of(between)?) else {
            return Ok(None);
        };
        let between = TextExpression::Given(Some(between));
        let split = plan::Operand::Split(text.expression.clone(), between);
        let operand = Operand {
            what: What::Applied {
                expression: text.expression,
                params: text.params,
                spells: false,
            },
            cast: Cast::To(LogicalType::Text),
            common: None,
            extent: self.tokens.extent(expr)?,
        };
        Ok(Some((operand, split)))
    }

    /// An argument of a function that takes any type: a parameter must have one.
    fn typed_text(&self, expr: &Expr) -> Result<Option<Text>, Refusal> {
        if let Some(Operand {
            what: What::Param(param, _),
            cast: Cast::None,
            ..
        }) = self.operand(expr)?
            && matches!(self.oids.get(param).copied().unwrap_or(0), 0 | 705)
        {
            return Ok(None);
        }
        self.text(expr)
    }

    fn typed_texts(&self, exprs: &[&Expr]) -> Result<Option<Vec<Text>>, Refusal> {
        exprs.iter().map(|expr| self.typed_text(expr)).collect()
    }

    /// The name of a function of PostgreSQL's own that is called with nothing but arguments.
    pub(super) fn plain_call(&self, function: &Function) -> Option<String> {
        let plain = function.over.is_none()
            && function.filter.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none()
            && matches!(function.parameters, FunctionArguments::None);
        let FunctionArguments::List(list) = &function.args else {
            return None;
        };
        if !plain || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
            return None;
        }
        self.own_name(function)
    }

    fn named_text_function(&self, function: &Function) -> Result<Option<Text>, Refusal> {
        let (Some(name), FunctionArguments::List(list)) =
            (self.plain_call(function), &function.args)
        else {
            return Ok(None);
        };
        let Some(args) = unnamed(&list.args) else {
            return Ok(None);
        };
        if let Some(made) = self.listed_text(&name, &args)? {
            return Ok(Some(made));
        }
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
        let (function, text) = match (name.as_str(), args.as_slice()) {
            ("lower", [text]) => (TextFunction::Lower, *text),
            ("upper", [text]) => (TextFunction::Upper, *text),
            ("btrim" | "ltrim" | "rtrim", [text]) => (trim(sides.0, sides.1, blank()), *text),
            ("btrim" | "ltrim" | "rtrim", [text, characters]) => match self.text_of(characters)? {
                Some(characters) => (trim(sides.0, sides.1, characters), *text),
                None => return Ok(None),
            },
            ("replace", [text, from, to]) => match (self.text_of(from)?, self.text_of(to)?) {
                (Some(from), Some(to)) => (TextFunction::Replace { from, to }, *text),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(self.text(text)?.map(|text| text.made(function)))
    }

    /// `concat`, `concat_ws`, and `format` with nothing but `%s`.
    fn listed_text(&self, name: &str, args: &[&Expr]) -> Result<Option<Text>, Refusal> {
        let (separator, texts) = match (name, args) {
            ("concat", [_, ..]) => (given(Some(Zeroizing::default())), self.typed_texts(args)?),
            ("concat_ws", [separator, texts @ ..]) if !texts.is_empty() => {
                let Some(separator) = self.text(separator)? else {
                    return Ok(None);
                };
                (separator, self.typed_texts(texts)?)
            }
            ("format", [form, texts @ ..]) => {
                let Some(form) = self.text_of(form)? else {
                    return Ok(None);
                };
                let texts = self.typed_texts(texts)?;
                let texts = texts.and_then(|texts| formatted(&form, texts));
                (given(Some(Zeroizing::default())), texts)
            }
            _ => return Ok(None),
        };
        Ok(texts.map(|texts| {
            let mut all = vec![separator];
            all.extend(texts);
            Text::all(all, |mut all| {
                let separator = all.remove(0);
                TextExpression::Listed(Box::new(separator), all)
            })
        }))
    }

    /// Whether a function's bare name can only be PostgreSQL's own.
    pub(super) fn is_own(&self, name: &str) -> bool {
        let mut schemas = self.view.schemas.iter();
        let first = schemas.find(|schema| !schema.starts_with("pg_temp"));
        let mut functions = self.rules.catalog.functions.iter();
        first.is_some_and(|schema| schema == "pg_catalog")
            && !functions.any(|other| other.name == name)
    }

    /// The name of a function that can only be PostgreSQL's own.
    fn own_name(&self, function: &Function) -> Option<String> {
        let name = super::function::last_name(&function.name)?;
        let own = match function.name.0.as_slice() {
            [_] => self.is_own(&name),
            [schema, _] => schema.to_string().eq_ignore_ascii_case("pg_catalog"),
            _ => false,
        };
        own.then_some(name)
    }

    /// A literal that can only be a text.
    pub(super) fn text_of(&self, expr: &Expr) -> Result<Option<Zeroizing<String>>, Refusal> {
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

fn given(text: Option<Zeroizing<String>>) -> Text {
    Text {
        expression: TextExpression::Given(text),
        params: Vec::new(),
    }
}

/// The pieces of `format`, if its form wants these texts and nothing but their text.
fn formatted(form: &str, texts: Vec<Text>) -> Option<Vec<Text>> {
    let mut texts = texts.into_iter();
    let mut pieces = Vec::new();
    let mut piece = Zeroizing::new(String::with_capacity(form.len()));
    let mut rest = form.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => match rest.next()? {
                '%' => piece.push('%'),
                's' => {
                    pieces.push(given(Some(std::mem::take(&mut piece))));
                    piece.reserve(form.len());
                    pieces.push(texts.next()?);
                }
                _ => return None,
            },
            c => piece.push(c),
        }
    }
    pieces.push(given(Some(piece)));
    texts.next().is_none().then_some(pieces)
}
