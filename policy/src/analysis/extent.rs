//! Where an expression stands in the text, to the last bracket: the parser's spans leave out brackets, casts and
//! types, the tokens do not. Knows only the expressions that pgveil edits.

use std::ops::Range;

use sqlparser::{
    ast::{
        BinaryOperator, CastKind, Expr, FunctionArguments, ObjectNamePart, Query, SetExpr,
        UnaryOperator,
    },
    tokenizer::{Location, Token as Kind},
};

use super::refusals;
use crate::{Refusal, text::Tokens};

/// Sums of more are not followed.
const MOST_ADDED: usize = 16;

/// Whether only so many are added to or multiplied with each other: the parser makes a tree of any depth of them.
pub(super) fn is_short(sum: &Expr) -> bool {
    let mut sum = sum;
    for _ in 0..MOST_ADDED {
        match sum {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply,
                ..
            } => sum = left,
            _ => return true,
        }
    }
    false
}

impl Tokens<'_> {
    fn token_at(&self, location: Location) -> Result<usize, Refusal> {
        self.starting(location).ok_or_else(|| {
            refusals::not_understood("A part of the statement has no place in its text")
        })
    }

    /// Checks that a bracket of this kind stands at the index, and yields it.
    fn bracket_before(&self, index: usize, kind: &Kind) -> Result<usize, Refusal> {
        let at = index.checked_sub(1).filter(|at| self.kind(*at) == kind);
        at.ok_or_else(|| {
            refusals::not_understood("A bracket is not where it should be")
                .at(self.range(index).start)
        })
    }

    /// The index behind the bracket that closes `open`.
    pub(super) fn behind_pair(&self, open: usize) -> Result<usize, Refusal> {
        self.pair(open).map(|close| close + 1).ok_or_else(|| {
            refusals::not_understood("A bracket is never closed").at(self.range(open).start)
        })
    }

    /// The tokens of an expression.
    pub(super) fn extent(&self, expr: &Expr) -> Result<Range<usize>, Refusal> {
        match expr {
            Expr::Identifier(ident) => self.token_at(ident.span.start).map(|at| at..at + 1),
            Expr::CompoundIdentifier(parts) => match (parts.first(), parts.last()) {
                (Some(first), Some(last)) => {
                    Ok(self.token_at(first.span.start)?..self.token_at(last.span.start)? + 1)
                }
                _ => Err(refusals::not_understood("An empty name")),
            },
            Expr::Value(value) => self.token_at(value.span.start).map(|at| at..at + 1),
            Expr::Nested(inner) => self.bracketed(&self.extent(inner)?),
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => {
                let inner = self.extent(expr)?;
                Ok(self.bracket_before(inner.start, &Kind::Minus)?..inner.end)
            }
            Expr::UnaryOp {
                op: UnaryOperator::Plus,
                expr,
            } => {
                let inner = self.extent(expr)?;
                Ok(self.bracket_before(inner.start, &Kind::Plus)?..inner.end)
            }
            Expr::Cast {
                kind: CastKind::DoubleColon,
                expr,
                ..
            } => {
                let inner = self.extent(expr)?;
                Ok(inner.start..self.cast_type(&inner)?.end)
            }
            Expr::Cast {
                kind: CastKind::Cast,
                expr,
                ..
            } => {
                let inner = self.extent(expr)?;
                let open = self.bracket_before(inner.start, &Kind::LParen)?;
                Ok(open.saturating_sub(1)..self.behind_pair(open)?)
            }
            Expr::TypedString(typed) => {
                let literal = self.token_at(typed.value.span.start)?;
                let start = self.type_before(literal)?;
                let end = if self.is_word(start, "interval") {
                    self.behind_interval_fields(literal + 1)
                } else {
                    literal + 1
                };
                Ok(start..end)
            }
            Expr::Tuple(members) => match members.first() {
                Some(first) => {
                    let open = self.bracket_before(self.extent(first)?.start, &Kind::LParen)?;
                    Ok(open..self.behind_pair(open)?)
                }
                None => Err(refusals::not_understood("An empty row")),
            },
            Expr::Array(array) => match array.elem.first() {
                Some(first) => {
                    let open = self.bracket_before(self.extent(first)?.start, &Kind::LBracket)?;
                    let start = if array.named {
                        open.saturating_sub(1)
                    } else {
                        open
                    };
                    Ok(start..self.behind_pair(open)?)
                }
                None => Err(refusals::not_understood("An empty array")),
            },
            Expr::Subquery(query) => {
                let open = self.subquery_bracket(query)?;
                Ok(open..self.behind_pair(open)?)
            }
            Expr::Case {
                case_token,
                end_token,
                ..
            } => {
                Ok(self.token_at(case_token.0.span.start)?
                    ..self.token_at(end_token.0.span.start)? + 1)
            }
            Expr::BinaryOp {
                left,
                op:
                    op @ (BinaryOperator::StringConcat
                    | BinaryOperator::Plus
                    | BinaryOperator::Minus
                    | BinaryOperator::Multiply),
                right,
            } if *op == BinaryOperator::StringConcat || is_short(expr) => {
                let (left, right) = (self.extent(left)?, self.extent(right)?);
                let between = match op {
                    BinaryOperator::Plus => Kind::Plus,
                    BinaryOperator::Minus => Kind::Minus,
                    BinaryOperator::Multiply => Kind::Mul,
                    _ => Kind::StringConcat,
                };
                if *self.kind(left.end) != between || right.start != left.end + 1 {
                    return Err(refusals::not_understood(
                        "An operator is not where it should be",
                    ));
                }
                Ok(left.start..right.end)
            }
            Expr::Substring { expr, .. } => {
                let open = self.bracket_before(self.extent(expr)?.start, &Kind::LParen)?;
                Ok(open.saturating_sub(1)..self.behind_pair(open)?)
            }
            Expr::Trim {
                expr, trim_what, ..
            } => {
                let first = trim_what.as_deref().unwrap_or(expr);
                let mut start = self.extent(first)?.start;
                let words = ["from", "both", "leading", "trailing"];
                while start > 0 && words.iter().any(|word| self.is_word(start - 1, word)) {
                    start -= 1;
                }
                let open = self.bracket_before(start, &Kind::LParen)?;
                Ok(open.saturating_sub(1)..self.behind_pair(open)?)
            }
            Expr::Function(function) if !matches!(function.args, FunctionArguments::None) => {
                let (
                    Some(ObjectNamePart::Identifier(first)),
                    Some(ObjectNamePart::Identifier(last)),
                ) = (function.name.0.first(), function.name.0.last())
                else {
                    return Err(refusals::not_understood("An unusual function call"));
                };
                let open = self.token_at(last.span.start)? + 1;
                Ok(self.token_at(first.span.start)?..self.behind_call(open)?)
            }
            Expr::Function(function) if function.over.is_none() => {
                let [ObjectNamePart::Identifier(word)] = function.name.0.as_slice() else {
                    return Err(refusals::not_understood("An unusual function call"));
                };
                self.token_at(word.span.start).map(|at| at..at + 1)
            }
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => {
                let (of, zone) = (self.extent(timestamp)?, self.extent(time_zone)?);
                if !self.are_words(of.end, &["at", "time", "zone"]) || zone.start != of.end + 3 {
                    return Err(refusals::not_understood(
                        "An operator is not where it should be",
                    ));
                }
                Ok(of.start..zone.end)
            }
            _ => Err(refusals::not_understood(
                "An expression has no exact place in the text",
            )),
        }
    }

    /// The index behind a call, given the bracket of its arguments: with its FILTER and OVER.
    fn behind_call(&self, open: usize) -> Result<usize, Refusal> {
        let mut end = self.behind_pair(open)?;
        loop {
            end = if self.are_words(end, &["within", "group"]) {
                self.behind_pair(end + 2)?
            } else if self.are_words(end, &["respect", "nulls"])
                || self.are_words(end, &["ignore", "nulls"])
            {
                end + 2
            } else if self.is_word(end, "filter") && matches!(self.kind(end + 1), Kind::LParen) {
                self.behind_pair(end + 1)?
            } else if self.is_word(end, "over") {
                return match self.kind(end + 1) {
                    Kind::LParen => self.behind_pair(end + 1),
                    _ => Ok(end + 2),
                };
            } else {
                return Ok(end);
            };
        }
    }

    fn bracketed(&self, inner: &Range<usize>) -> Result<Range<usize>, Refusal> {
        let open = self.bracket_before(inner.start, &Kind::LParen)?;
        if self.pair(open) != Some(inner.end) {
            return Err(
                refusals::not_understood("Brackets do not match").at(self.range(open).start)
            );
        }
        Ok(open..inner.end + 1)
    }

    /// The tokens of the type of a cast `inner::type`.
    pub(super) fn cast_type(&self, inner: &Range<usize>) -> Result<Range<usize>, Refusal> {
        let end = matches!(self.kind(inner.end), Kind::DoubleColon)
            .then(|| self.type_end(inner.end + 1))
            .flatten();
        end.map(|end| inner.end + 1..end).ok_or_else(|| {
            refusals::not_understood("The type of a cast is not understood")
                .at(self.range(inner.end).start)
        })
    }

    /// The first token of `type 'literal'`, given the literal's.
    pub(super) fn type_before(&self, literal: usize) -> Result<usize, Refusal> {
        // The longest is `timestamp(3) without time zone`; a qualified name has two tokens more.
        let mut candidates = (literal.saturating_sub(9)..literal).rev();
        candidates
            .find(|start| self.is_type_word(*start) && self.type_end(*start) == Some(literal))
            .ok_or_else(|| {
                refusals::not_understood("The type of a literal is not understood")
                    .at(self.range(literal).start)
            })
    }

    /// A word that begins a type name (not `zone` of `with time zone`, not `precision`).
    fn is_type_word(&self, index: usize) -> bool {
        let follows_part = index > 0
            && (matches!(self.kind(index - 1), Kind::Period)
                || ["with", "without", "time", "double", "national"]
                    .iter()
                    .any(|word| self.is_word(index - 1, word))
                || (self.is_word(index, "varying")));
        matches!(self.kind(index), Kind::Word(_)) && !follows_part
    }

    /// The index behind the type name that starts at `start`.
    pub(super) fn type_end(&self, start: usize) -> Option<usize> {
        matches!(self.kind(start), Kind::Word(_)).then_some(())?;
        let mut last = start;
        while matches!(self.kind(last + 1), Kind::Period)
            && matches!(self.kind(last + 2), Kind::Word(_))
        {
            last += 2;
        }
        if self.are_words(last, &["double", "precision"]) || self.is_word(last, "national") {
            last += 1;
        }
        if self.is_word(last + 1, "varying") {
            last += 1;
        }
        let mut end = last + 1;
        if matches!(self.kind(end), Kind::LParen) {
            end = self.pair(end)? + 1;
        }
        let timed = self.is_word(last, "timestamp") || self.is_word(last, "time");
        if timed
            && (self.are_words(end, &["with", "time", "zone"])
                || self.are_words(end, &["without", "time", "zone"]))
        {
            end += 3;
        }
        if self.is_word(last, "interval") {
            end = self.behind_interval_fields(end);
        }
        while matches!(self.kind(end), Kind::LBracket) {
            end = self.pair(end)? + 1;
        }
        Some(end)
    }

    /// The bracket right around a sub-select.
    pub(super) fn subquery_bracket(&self, query: &Query) -> Result<usize, Refusal> {
        let (first, brackets) = self.lead(query)?;
        let open = first
            .checked_sub(brackets + 1)
            .filter(|open| matches!(self.kind(*open), Kind::LParen));
        open.ok_or_else(|| refusals::not_understood("A sub-select has no exact place in the text"))
    }

    /// The first keyword of a query, and how many brackets of its own stand before it.
    pub(super) fn lead(&self, query: &Query) -> Result<(usize, usize), Refusal> {
        if let Some(with) = &query.with {
            return Ok((self.token_at(with.with_token.0.span.start)?, 0));
        }
        let (mut body, mut brackets) = (query.body.as_ref(), 0);
        loop {
            match body {
                SetExpr::Select(select) => {
                    return Ok((self.token_at(select.select_token.0.span.start)?, brackets));
                }
                SetExpr::SetOperation { left, .. } => body = left,
                SetExpr::Query(inner) => {
                    brackets += 1;
                    if inner.with.is_some() {
                        let (first, more) = self.lead(inner)?;
                        return Ok((first, brackets + more));
                    }
                    body = &inner.body;
                }
                SetExpr::Values(values) => {
                    let row = values
                        .rows
                        .first()
                        .ok_or_else(|| refusals::not_understood("VALUES without rows"))?;
                    let open = self.token_at(row.opening_token.0.span.start)?;
                    return Ok((open.saturating_sub(1), brackets));
                }
                _ => return Err(refusals::not_understood("An unusual sub-select")),
            }
        }
    }
}
