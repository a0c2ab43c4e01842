//! A protected boolean as a condition by itself: `WHERE active` becomes `WHERE (pgveil.eq_term(active) = term of true)`.

use sqlparser::ast::Expr;

use super::{
    Analyser,
    expr::Cx,
    kind::{Kind, Sealed},
    refusals,
    term::{COMPARISON, check_equality, eq_term},
};
use crate::{
    Refusal,
    plan::{self, Make, Slot},
    types::{LogicalType, Value},
};

/// `true` as it is sent.
const TRUE: u8 = 1;

impl Analyser<'_> {
    /// An expression whose truth counts.
    pub(super) fn truth(&mut self, expr: &Expr, cx: Cx<'_>, place: &str) -> Result<Kind, Refusal> {
        match self.passed(expr, cx)? {
            Kind::Holder(holder) => Err(refusals::holder(&holder, place).at(self.start_of(expr))),
            Kind::Sealed(sealed) if sealed.shown == LogicalType::Bool && !sealed.converted => {
                self.is_true(expr, &sealed).map(|()| Kind::Plain(None))
            }
            Kind::Sealed(sealed) => {
                Err(refusals::not_supported(sealed.column(), place).at(self.start_of(expr)))
            }
            kind @ (Kind::Plain(_) | Kind::Untyped) => Ok(kind),
        }
    }

    fn is_true(&mut self, expr: &Expr, sealed: &Sealed) -> Result<(), Refusal> {
        let at = self.start_of(expr);
        check_equality(sealed, "a condition by itself").map_err(|refusal| refusal.at(at))?;
        let scope = self.pinned_scope(sealed, COMPARISON);
        let slot = self.slots.len();
        self.slots.push(Slot {
            make: Make::EqualityTerm,
            operand: plan::Operand::Literal(Some(Value::from_send_form(vec![TRUE]))),
            column: sealed.column().id,
            scope: scope.map_err(|refusal| refusal.at(at))?,
            members: None,
            exact: false,
        });
        self.wrap(expr, &format!("({}", eq_term(sealed)), ") = ")?;
        let end = self.tokens.extent(expr)?.end;
        let end = self.tokens.range(end - 1).end;
        self.edits.close_slot(end, slot);
        self.edits.close(end, ")");
        Ok(())
    }
}
