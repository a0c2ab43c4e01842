//! ORDER BY and DISTINCT of a SELECT: which of its columns they name. How DISTINCT tells sealed values apart is
//! `group`'s business.

use sqlparser::ast::{Distinct, Expr, OrderByExpr, Select, Value as Constant};

use super::{
    Analyser,
    expr::Cx,
    group::Output,
    kind::Kind,
    namespace::{Column, name_of},
    refusals,
};
use crate::Refusal;

impl Analyser<'_> {
    pub(super) fn distinctness(
        &mut self,
        select: &Select,
        outputs: &[Output],
        open: bool,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let sealed = outputs
            .iter()
            .any(|output| output.kind.protected().is_some());
        match &select.distinct {
            Some(Distinct::Distinct) if sealed && open => {
                Err(refusals::construct("DISTINCT beside a function's columns"))
            }
            Some(Distinct::Distinct) if sealed => {
                let at = self.tokens.starting(select.select_token.0.span.start);
                let at =
                    at.ok_or_else(|| refusals::not_understood("SELECT has no place in the text"))?;
                let position = self.tokens.range(at).start;
                self.distinct(at, outputs)
                    .map_err(|refusal| refusal.at(position))
            }
            Some(Distinct::On(keys)) => self.distinct_on(keys, outputs, cx),
            _ => Ok(()),
        }
    }

    /// A key of ORDER BY: an output column by name or number, else an expression.
    pub(super) fn order_key(
        &mut self,
        key: &OrderByExpr,
        outputs: &[Column],
        open: bool,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let position = self.start_of(&key.expr);
        let output = match &key.expr {
            Expr::Identifier(ident) => {
                let name = name_of(ident);
                let named = |output: &&Column| output.name.as_deref() == Some(&name);
                let sealed = outputs
                    .iter()
                    .filter(named)
                    .find(|output| output.kind.protected().is_some());
                let found = sealed.or_else(|| outputs.iter().find(named));
                if found.is_some() {
                    self.account(ident);
                }
                let guessed = outputs.iter().any(|output| output.name.is_none());
                if found.is_none() && guessed && cx.scope.find(std::slice::from_ref(ident)).is_err()
                {
                    // The name of a computed column, which only the server knows.
                    return Ok(());
                }
                found
            }
            Expr::Value(value) => {
                let Constant::Number(number, _) = &value.value else {
                    return Ok(());
                };
                let sealed = outputs
                    .iter()
                    .any(|output| output.kind.protected().is_some());
                if open && sealed {
                    return Err(refusals::construct(
                        "ORDER BY a number beside a function's columns",
                    )
                    .at(position));
                }
                let index = number
                    .parse::<usize>()
                    .ok()
                    .and_then(|number| number.checked_sub(1));
                match index.and_then(|index| outputs.get(index)) {
                    Some(output) => Some(output),
                    None => return Ok(()),
                }
            }
            _ => None,
        };
        match output {
            Some(Column {
                kind: Kind::Sealed(sealed),
                ..
            }) => Err(refusals::no_order(sealed.column(), "ORDER BY").at(position)),
            Some(Column {
                kind: Kind::Holder(holder),
                ..
            }) => Err(refusals::holder(holder, "ORDER BY").at(position)),
            Some(Column {
                kind: Kind::Plain(_) | Kind::Untyped,
                ..
            }) => Ok(()),
            None => self.order_keys(std::slice::from_ref(key), cx, "ORDER BY"),
        }
    }
}
