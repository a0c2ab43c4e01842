//! Common table expressions: analysed once, where they stand; every use is a row variable of its own.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use sqlparser::ast::{Cte as CteSyntax, SetExpr, SetOperator, SetQuantifier, With};

use super::{
    Analyser,
    kind::Kind,
    namespace::{Ctes, Scope, name_of},
    query::{Cte, Rows, combine},
    refusals,
};
use crate::Refusal;

impl Analyser<'_> {
    pub(super) fn with(
        &mut self,
        with: &With,
        parent: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<Ctes, Refusal> {
        let mut ctes = ctes.clone();
        for cte in &with.cte_tables {
            if cte.from.is_some() {
                return Err(refusals::construct("this form of WITH"));
            }
            let rows = match cte.query.body.as_ref() {
                SetExpr::SetOperation {
                    op: SetOperator::Union,
                    set_quantifier,
                    left,
                    right,
                } if with.recursive && cte.query.with.is_none() => {
                    self.recursive(cte, left, *set_quantifier, right, parent, &ctes)?
                }
                _ => self.query(&cte.query, parent, &ctes)?,
            };
            let mut cells = Vec::new();
            for column in 0..rows.columns.len() {
                cells.push(self.cells_of(&cte.query, column)?);
            }
            let rows = self.renamed(rows, Some(&cte.alias))?;
            let cells = RefCell::new(cells);
            ctes = ctes.with(name_of(&cte.alias.name), Rc::new(Cte { rows, cells }));
        }
        Ok(ctes)
    }

    /// The first branch of a recursive query says what it yields; the second may read that.
    fn recursive(
        &mut self,
        cte: &CteSyntax,
        left: &SetExpr,
        quantifier: SetQuantifier,
        right: &SetExpr,
        parent: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<Rows, Refusal> {
        let mut first = self.set_expr(left, parent, ctes)?;
        // What is known of the first rows is not known of those that follow.
        first.facts.clear();
        for column in &mut first.columns {
            match &column.kind {
                Kind::Plain(_) => column.kind = Kind::Plain(None),
                Kind::Sealed(sealed)
                    if !sealed
                        .sources
                        .iter()
                        .all(|source| source.column.scope.columns().is_empty()) =>
                {
                    return Err(refusals::scope_not_pinned(
                        sealed.column(),
                        "WITH RECURSIVE",
                    ));
                }
                Kind::Holder(holder) => {
                    return Err(refusals::holder(holder, "WITH RECURSIVE"));
                }
                Kind::Sealed(_) | Kind::Untyped => {}
            }
        }
        let named = self.renamed(first.clone(), Some(&cte.alias))?;
        let inner = ctes.with(
            name_of(&cte.alias.name),
            Rc::new(Cte {
                rows: named,
                cells: RefCell::default(),
            }),
        );
        let second = self.set_expr(right, parent, &inner)?;
        let mut rows = combine(SetOperator::Union, quantifier, first, second)?;
        rows.facts.clear();
        if let Some(order_by) = &cte.query.order_by {
            self.order_outputs(order_by, &rows, parent, ctes)?;
        }
        self.limits(&cte.query, parent, ctes)?;
        Ok(rows)
    }

    /// The same rows once more, as row variables of their own: two uses of one CTE are not the same row.
    pub(super) fn afresh(&mut self, rows: &Rows) -> Rows {
        let mut fresh: HashMap<usize, usize> = HashMap::new();
        let mut rows = rows.clone();
        let instances = &mut self.instances;
        rows.renumber(&mut |instance| {
            *fresh.entry(instance).or_insert_with(|| {
                let relation = instances[instance];
                instances.push(relation);
                instances.len() - 1
            })
        });
        for (old, new) in fresh {
            if let Some(call) = self.calls.get(&old).cloned() {
                self.calls.insert(new, call);
            }
        }
        rows
    }
}
