//! NULLIF of a literal or parameter that is stored in a protected column: the server compares search terms and stores
//! the sealed value or NULL. NULLIF of a sealed value is `passing`'s business.

use std::sync::Arc;

use sqlparser::ast::{Expr, Function};

use super::{
    Analyser,
    branch::arguments,
    expr::Cx,
    kind::{Kind, Place, Sealed, Source},
    operand::{Operand, What},
    refusals,
    scope::{Part, planned, scope_parts},
    term::is_text,
};
use crate::{Refusal, plan::Replacement, ruleset::Protected, types::LogicalType};

impl Analyser<'_> {
    /// `SET email = NULLIF($1, '')` becomes `CASE WHEN term of $1 = term of '' THEN NULL ELSE sealed $1 END`. `false` if it
    /// is not of this form, and nothing is changed.
    pub(super) fn written_nullif(
        &mut self,
        expr: &Expr,
        function: &Function,
        column: &Protected,
        held: &dyn Fn(&str) -> Option<Part>,
        cx: Cx<'_>,
    ) -> Result<bool, Refusal> {
        let args = arguments(function);
        let Some([first, second]) = args.as_deref() else {
            return Ok(false);
        };
        let Some(given) = self.operand(first)? else {
            return Ok(false);
        };
        let own = self.rules.columns.get(&column.id);
        let (Some(own), Some(parts)) = (own, scope_parts(column, held)) else {
            return Ok(false);
        };
        if !column.equality || matches!(given.what, What::Null) || planned(&parts).is_none() {
            return Ok(false);
        }
        let other = self.operand(second)?;
        let Some(common) = self.type_of_nullif(&given, other.as_ref(), column)? else {
            return Ok(false);
        };
        self.check_function(&function.name)?;
        let own = Sealed {
            sources: vec![Source {
                column: Arc::clone(own),
                place: Place::Made(Some(parts)),
            }],
            computed: true,
            shown: column.logical.without_modifiers(),
            converted: false,
            attribute: None,
        };
        let of_both = |operand| Operand {
            common: Some(common),
            ..operand
        };
        self.term(&own, of_both(given))?;
        match other {
            Some(other) => self.term(&own, of_both(other))?,
            None => self.term_beside(&own, second, cx)?,
        }
        self.as_case(expr, first, second)?;
        let again = self.operand(first)?.map(of_both);
        let misplaced = || refusals::not_understood("NULLIF is not where it should be");
        let at = self.start_of(first);
        let sealed = self.seal(column, again.ok_or_else(misplaced)?, held);
        // PostgreSQL says that a literal does not fit only where it is stored.
        sealed.map_err(|refusal| match refusal.sqlstate {
            "22001" | "22003" => {
                refusals::not_sealable(column, "a literal that does not fit").at(at)
            }
            _ => refusal,
        })?;
        let sealed = self.edits.take_back().ok_or_else(misplaced)?;
        let end = self.tokens.bytes(&self.tokens.extent(expr)?).end;
        self.edits.close_with(end, vec![sealed]);
        self.edits.close(end, " END");
        Ok(true)
    }

    /// The type in which both are compared, where that is the column's.
    fn type_of_nullif(
        &self,
        given: &Operand,
        other: Option<&Operand>,
        column: &Protected,
    ) -> Result<Option<LogicalType>, Refusal> {
        let mut types = vec![self.type_among(given)?];
        if let Some(other) = other {
            types.push(self.type_among(other)?);
        }
        let own = column.logical.without_modifiers();
        if is_text(own) {
            let texts = types.iter().flatten().all(|given| is_text(*given));
            return Ok(texts.then_some(LogicalType::Text));
        }
        // Beside another column both are of its type; among themselves values without a type are text.
        let typed = other.is_none() || types.iter().any(Option::is_some);
        let same = types.iter().flatten().all(|given| *given == own);
        Ok((typed && same).then_some(own))
    }

    fn term_beside(&mut self, own: &Sealed, second: &Expr, cx: Cx<'_>) -> Result<(), Refusal> {
        let position = self.start_of(second);
        match self.comparand(second, cx)? {
            Kind::Sealed(other) => {
                self.check_comparable(own, &other)
                    .map_err(|refusal| refusal.at(position))?;
                self.wrap_term(second, &other)
            }
            Kind::Plain(_) | Kind::Untyped | Kind::Holder(_) => {
                Err(refusals::not_constant(own.column()).at(position))
            }
        }
    }

    /// `NULLIF(a, b)` becomes `CASE WHEN a = b THEN NULL ELSE`.
    pub(super) fn as_case(
        &mut self,
        call: &Expr,
        first: &Expr,
        second: &Expr,
    ) -> Result<(), Refusal> {
        let call = self.tokens.extent(call)?;
        let (a, b) = (self.tokens.extent(first)?, self.tokens.extent(second)?);
        let range = self.tokens.bytes(&a);
        let text = |text: &str| Replacement::Text(text.to_owned());
        let lead = self.tokens.range(call.start).start..range.start;
        self.edits.replace(lead, text("CASE WHEN "));
        let comma = range.end..self.tokens.range(b.start).start;
        self.edits.trail(comma, " = ");
        let end = self.tokens.range(call.end - 1);
        self.edits.replace(end, text(" THEN NULL ELSE "));
        Ok(())
    }
}
