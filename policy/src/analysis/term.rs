//! Equality terms: which sealed values have comparable ones, and what stands in the text instead of a sealed side and
//! of an operand. Which expressions are compared at all is `compare`'s business.

use sqlparser::ast::{CastKind, Expr, FunctionArg, FunctionArgExpr, Spanned, Value as Constant};

use super::{
    Analyser,
    alternatives::unlike,
    expr::Cx,
    kind::{Kind, Sealed},
    operand::{Cast, Made, Operand, What},
    refusals,
};
use crate::{
    Refusal,
    plan::{Make, Replacement},
    types::{Conversion, LogicalType, can_cast},
};

/// The function that yields a sealed value's equality term.
pub(super) const EQ_TERM: &str = "pgveil.eq_term(";

/// What stands before a sealed value of which the compared term is taken.
pub(super) fn eq_term(sealed: &Sealed) -> String {
    numbered(sealed.column().generation.number)
}

/// The same for terms of a number.
pub(super) fn numbered(number: u32) -> String {
    match number {
        0 => EQ_TERM.to_owned(),
        number => format!("{EQ_TERM}{number}, "),
    }
}

/// A term that equals no term: what an operand becomes that no value of the column can equal.
pub(super) const NO_TERM: &str = "'\\x'::bytea";

/// What a comparison is made with, for messages.
pub(super) const COMPARISON: &str = "a comparison";

impl Analyser<'_> {
    /// What one side of a comparison is: casts that change nothing are looked through.
    pub(super) fn comparand(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Kind, Refusal> {
        match self.passed(expr, cx)? {
            Kind::Holder(holder) => {
                Err(refusals::holder(&holder, COMPARISON).at(self.start_of(expr)))
            }
            kind @ (Kind::Plain(_) | Kind::Untyped | Kind::Sealed(_)) => Ok(kind),
        }
    }

    /// As [`Self::comparand`], where a holder may stand too.
    pub(super) fn passed(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Kind, Refusal> {
        let idents = match uncast(expr) {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => &[],
        };
        // Casts of holders have rules of their own.
        if !idents.is_empty()
            && matches!(cx.scope.find(idents), Ok(found) if matches!(found.kind, Kind::Holder(_)))
        {
            return self.expr(expr, cx);
        }
        let inner = if self.stored { expr } else { uncast(expr) };
        let kind = self.expr(inner, cx)?;
        if let (Kind::Sealed(sealed), false) = (&kind, std::ptr::eq(inner, expr)) {
            self.check_cast(expr, sealed)?;
        }
        Ok(kind)
    }

    /// The same where only NULL matters, which no cast changes.
    pub(super) fn comparand_under_any_cast(
        &mut self,
        expr: &Expr,
        cx: Cx<'_>,
    ) -> Result<Kind, Refusal> {
        let inner = uncast(expr);
        if std::ptr::eq(inner, expr) {
            return self.expr(expr, cx);
        }
        let kind = self.expr(inner, cx)?;
        if let Kind::Sealed(sealed) = &kind {
            self.check_casts(expr, sealed, &|cast| {
                can_cast(sealed.logical(), cast)
                    || cast.without_modifiers() == sealed.logical().without_modifiers()
            })?;
        }
        Ok(kind)
    }

    /// A cast of a compared column is fine where it means the same value: to its own type, or among `text` and `varchar`.
    fn check_cast(&self, expr: &Expr, sealed: &Sealed) -> Result<(), Refusal> {
        let logical = sealed.logical();
        self.check_casts(expr, sealed, &|cast| {
            let bare = cast == cast.without_modifiers();
            cast == logical
                || cast == logical.without_modifiers()
                || (bare && is_text(cast) && is_text(logical))
        })
    }

    /// The type that a cast names.
    pub(super) fn cast_target(&self, cast: &Expr, inner: &Expr) -> Result<Cast, Refusal> {
        let inner = self.tokens.extent(inner)?;
        let range = match cast {
            Expr::Cast {
                kind: CastKind::DoubleColon,
                ..
            } => self.tokens.cast_type(&inner)?,
            _ => inner.end + 1..self.tokens.extent(cast)?.end - 1,
        };
        Ok(self.named_type(range))
    }

    fn check_casts(
        &self,
        expr: &Expr,
        sealed: &Sealed,
        fits: &dyn Fn(LogicalType) -> bool,
    ) -> Result<(), Refusal> {
        let mut at = expr;
        loop {
            at = match at {
                Expr::Nested(next) => next,
                Expr::Cast { expr: next, .. } => {
                    if !matches!(self.cast_target(at, next)?, Cast::To(cast) if fits(cast)) {
                        return Err(refusals::not_supported(
                            sealed.column(),
                            "a cast to another type",
                        )
                        .at(self.start_of(expr)));
                    }
                    next
                }
                _ => return Ok(()),
            };
        }
    }

    /// Puts the term function around a sealed expression; brackets and casts around it go.
    pub(super) fn wrap_term(&mut self, expr: &Expr, sealed: &Sealed) -> Result<(), Refusal> {
        check_equality(sealed, COMPARISON).map_err(|refusal| refusal.at(self.start_of(expr)))?;
        self.wrap(expr, &eq_term(sealed), ")")
    }

    /// Puts text around the column under brackets and casts, and drops those.
    pub(super) fn wrap(&mut self, expr: &Expr, before: &str, behind: &str) -> Result<(), Refusal> {
        let outer = self.tokens.extent(expr)?;
        let inner = self.tokens.extent(uncast(expr))?;
        let starts = |at: usize| self.tokens.range(at).start;
        let ends = |at: usize| self.tokens.range(at - 1).end;
        let lead = starts(outer.start)..starts(inner.start);
        let trail = ends(inner.end)..ends(outer.end);
        self.edits.lead(lead, before);
        self.edits.trail(trail, behind);
        Ok(())
    }

    /// Whether equal values have equal terms on both sides.
    pub(super) fn check_comparable(&self, left: &Sealed, right: &Sealed) -> Result<(), Refusal> {
        check_equality(left, COMPARISON)?;
        check_equality(right, COMPARISON)?;
        let first = left.column();
        for source in left.sources.iter().chain(&right.sources) {
            let column = &source.column;
            let other = format!("protected column \"{}\"", column.name);
            if !first.logical.comparable_with(column.logical) {
                return Err(refusals::not_comparable(
                    first,
                    &other,
                    "their logical types differ",
                ));
            }
            if first.context != column.context {
                return Err(refusals::not_comparable(
                    first,
                    &other,
                    "they are not in one equality_group",
                ));
            }
            if first.search_key != column.search_key {
                return Err(refusals::not_comparable(
                    first,
                    &other,
                    "their search_key differs",
                ));
            }
            if first.generation != column.generation {
                return Err(refusals::not_comparable(
                    first,
                    &other,
                    "their equality terms are of different index keys",
                ));
            }
        }
        let (ours, theirs) = (self.terms_scope(left), self.terms_scope(right));
        if ours.is_none() || ours != theirs {
            return Err(refusals::scope_not_pinned(first, COMPARISON));
        }
        Ok(())
    }

    /// Where an expression starts, for error positions.
    pub(super) fn start_of(&self, expr: &Expr) -> usize {
        let at = self.tokens.starting(expr.span().start);
        at.map_or(0, |at| self.tokens.range(at).start)
    }

    /// Turns an operand into the equality term of a column.
    pub(super) fn term(&mut self, sealed: &Sealed, operand: Operand) -> Result<(), Refusal> {
        let at = self.tokens.range(operand.extent.start).start;
        check_equality(sealed, COMPARISON).map_err(|refusal| refusal.at(at))?;
        let column = sealed.column();
        let (what, column) = match &operand.what {
            What::Null => {
                self.replace_operand(&operand, Replacement::Text("NULL".to_owned()));
                return Ok(());
            }
            What::Literal(_) => match self.made(&operand, column, Conversion::Comparison)? {
                Made::NeverEqual => {
                    self.replace_operand(&operand, Replacement::Text(NO_TERM.to_owned()));
                    return Ok(());
                }
                made => (Operand::planned(made), column.clone()),
            },
            What::Param(..) | What::Applied { .. } | What::Asked(_) => {
                (operand.what.planned_param(), column.clone())
            }
        };
        let scope = self
            .pinned_scope(sealed, COMPARISON)
            .map_err(|refusal| refusal.at(at))?;
        let what =
            what.ok_or_else(|| refusals::not_understood("An operand without a value").at(at))?;
        self.slot(Make::EqualityTerm, what, &column, scope, &operand)
    }

    /// Replaces the whole operand, its casts and brackets included.
    pub(super) fn replace_operand(&mut self, operand: &Operand, with: Replacement) {
        self.account_tokens(operand.extent.clone());
        self.edits.replace(self.tokens.bytes(&operand.extent), with);
    }
}

/// Whether `text` and this type compare alike.
pub(super) fn is_text(logical: LogicalType) -> bool {
    matches!(logical, LogicalType::Text | LogicalType::Varchar(_))
}

/// What is under brackets and casts, if that is a column.
pub(super) fn uncast(expr: &Expr) -> &Expr {
    let mut inner = expr;
    loop {
        inner = match inner {
            Expr::Nested(next)
            | Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr: next,
                ..
            } => next,
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => return inner,
            _ => return expr,
        };
    }
}

/// Whether a sealed value has equality terms, all of one kind.
pub(super) fn check_equality(sealed: &Sealed, place: &str) -> Result<(), Refusal> {
    if sealed.converted {
        return Err(refusals::not_supported(
            sealed.column(),
            &format!("{place} under a cast to another type"),
        ));
    }
    match sealed.sources.iter().find(|source| !source.column.equality) {
        Some(source) => Err(refusals::no_equality(&source.column, place)),
        None => match unlike(sealed) {
            Some((one, other)) => Err(refusals::unlike(&one.column, &other.column, place)),
            None => Ok(()),
        },
    }
}

/// Whether the terms that a definition takes are those that are compared now.
pub(super) fn check_number(sealed: &Sealed, number: u32) -> Result<(), Refusal> {
    if sealed.column().generation.number == number {
        Ok(())
    } else {
        Err(refusals::stored_terms(sealed.column()))
    }
}

/// The value of which the arguments of `pgveil.eq_term` take the term, and the term's number.
pub(super) fn numbered_value(arguments: &[FunctionArg]) -> Option<(u32, &Expr)> {
    let of = |argument| match argument {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref of)) => Some(of),
        _ => None,
    };
    match arguments {
        [value] => Some((0, of(value)?)),
        [number, value] => {
            let Expr::Value(number) = of(number)? else {
                return None;
            };
            let Constant::Number(digits, _) = &number.value else {
                return None;
            };
            Some((digits.parse().ok()?, of(value)?))
        }
        _ => None,
    }
}
