//! Writing to columns that hold sealed values without being in the policy: copies of tables, temporary tables. Nothing
//! says for which column and scope a value should be sealed there, so only values that are sealed already may go in.

use sqlparser::ast::Expr;

use super::{
    Analyser,
    expr::Cx,
    kind::Kind,
    operand::{Operand, What, is_default},
    refusals,
};
use crate::{
    Refusal,
    catalog::{Column, Relation},
};

impl Analyser<'_> {
    /// Whether a column holds sealed values without being a column of the policy.
    pub(super) fn is_moved(&self, relation: &Relation, column: &Column) -> bool {
        column.sealed_domain().is_some() && self.protected(relation, column.attnum).is_none()
    }

    /// A cell of VALUES for such a column.
    pub(super) fn check_moved_operand(
        &mut self,
        relation: &Relation,
        column: &Column,
        operand: Option<&Operand>,
        cell: &Expr,
    ) -> Result<(), Refusal> {
        match operand {
            Some(Operand {
                what: What::Null, ..
            }) => Ok(()),
            _ => {
                Err(refusals::no_policy_column(&relation.name, &column.name)
                    .at(self.start_of(cell)))
            }
        }
    }

    /// A selected value for such a column: sealed values of its type and NULL fit.
    pub(super) fn check_moved(
        relation: &Relation,
        column: &Column,
        kind: &Kind,
        operand: Option<&Operand>,
    ) -> Result<(), Refusal> {
        let is_null = matches!(operand, Some(operand) if matches!(operand.what, What::Null));
        match kind {
            Kind::Sealed(sealed)
                if column
                    .sealed_domain()
                    .is_some_and(|domain| sealed.may_be_kept(domain)) =>
            {
                Ok(())
            }
            Kind::Untyped if is_null => Ok(()),
            Kind::Sealed(_) | Kind::Untyped | Kind::Plain(_) | Kind::Holder(_) => {
                Err(refusals::no_policy_column(&relation.name, &column.name))
            }
        }
    }

    /// `SET column = value` for such a column.
    pub(super) fn assign_moved(
        &mut self,
        relation: &Relation,
        column: &Column,
        value: &Expr,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        if is_default(value) {
            return Ok(());
        }
        let operand = self.operand(value)?;
        let kind = match &operand {
            Some(_) => Kind::Untyped,
            None => self.expr(value, cx)?,
        };
        Self::check_moved(relation, column, &kind, operand.as_ref())
            .map_err(|refusal| refusal.at(self.start_of(value)))
    }
}
