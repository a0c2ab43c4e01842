//! Columns that are made of nothing but literals and parameters, as those of VALUES and of `SELECT 'x'` are. Beside a
//! protected column they become terms or sealed values, one by one.

use sqlparser::ast::{
    Expr, ObjectNamePart, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, TableFactor,
};

use super::{
    Analyser,
    compare::strip,
    elements::{is_expression, is_simple},
    kind::Sealed,
    list::common_type,
    namespace::name_of,
    operand::{Operand, What},
    refusals,
    scope::Part,
    term::is_text,
};
use crate::{Refusal, plan::Replacement, ruleset::Protected, types::LogicalType};

/// Such a column.
pub(super) struct Cells {
    /// Its values.
    pub(super) operands: Vec<Operand>,
    /// Its type; `None` while all values are literals and parameters without one.
    pub(super) logical: Option<LogicalType>,
}

impl Analyser<'_> {
    /// A column of a query, if it is made of literals and parameters.
    pub(super) fn cells_of(&self, query: &Query, column: usize) -> Result<Option<Cells>, Refusal> {
        // With an order, what it is sorted by could be the column.
        if query.with.is_some() || query.order_by.is_some() {
            return Ok(None);
        }
        let cells = self.cells_of_body(&query.body, column)?;
        Ok(cells.map(|cells| Cells {
            logical: cells.logical.or(Some(LogicalType::Text)),
            ..cells
        }))
    }

    pub(super) fn cells_of_body(
        &self,
        body: &SetExpr,
        column: usize,
    ) -> Result<Option<Cells>, Refusal> {
        match body {
            SetExpr::Values(values) => {
                let cells = values.rows.iter().map(|row| row.content.get(column));
                match cells.collect::<Option<Vec<&Expr>>>() {
                    Some(cells) => self.cells(&cells),
                    None => Ok(None),
                }
            }
            SetExpr::Select(select) if is_simple(select) => {
                if !select.projection.iter().all(is_expression) {
                    return Ok(None);
                }
                match select.projection.get(column) {
                    Some(
                        SelectItem::UnnamedExpr(item)
                        | SelectItem::ExprWithAlias { expr: item, .. },
                    ) => self.cells(&[item]),
                    _ => Ok(None),
                }
            }
            // What is sealed, or is no value of the column's, would not be told apart by UNION without ALL.
            SetExpr::SetOperation {
                op: SetOperator::Union,
                set_quantifier: SetQuantifier::All,
                left,
                right,
            } => {
                let Some(ours) = self.cells_of_body(left, column)? else {
                    return Ok(None);
                };
                let Some(theirs) = self.cells_of_body(right, column)? else {
                    return Ok(None);
                };
                Ok(ours.and(theirs))
            }
            SetExpr::Query(query) if query.with.is_none() && query.order_by.is_none() => {
                self.cells_of_body(&query.body, column)
            }
            _ => Ok(None),
        }
    }

    fn cells(&self, cells: &[&Expr]) -> Result<Option<Cells>, Refusal> {
        let (mut operands, mut types) = (Vec::new(), Vec::new());
        for cell in cells {
            let Some(operand) = self.operand(strip(cell))? else {
                return Ok(None);
            };
            let Ok(logical) = self.type_among(&operand) else {
                return Ok(None);
            };
            types.push(logical);
            operands.push(operand);
        }
        if types.iter().all(Option::is_none) {
            return Ok(Some(Cells {
                operands,
                logical: None,
            }));
        }
        Ok(common_type(types).map(|logical| Cells {
            operands,
            logical: Some(logical),
        }))
    }

    /// The same of `SELECT c FROM w`, where `w` is a common table expression of VALUES and nothing else uses its column.
    pub(super) fn listed_cells(
        &mut self,
        query: &Query,
        column: usize,
    ) -> Result<Option<Cells>, Refusal> {
        let bare = query.with.is_none()
            && query.order_by.is_none()
            && query.limit_clause.is_none()
            && query.fetch.is_none();
        let (SetExpr::Select(select), true) = (query.body.as_ref(), bare) else {
            return Ok(None);
        };
        let [table] = select.from.as_slice() else {
            return Ok(None);
        };
        let TableFactor::Table {
            name, args: None, ..
        } = &table.relation
        else {
            return Ok(None);
        };
        let ([ObjectNamePart::Identifier(cte)], true) = (name.0.as_slice(), table.joins.is_empty())
        else {
            return Ok(None);
        };
        let ident = match select.projection.get(column) {
            Some(
                SelectItem::UnnamedExpr(Expr::Identifier(ident))
                | SelectItem::ExprWithAlias {
                    expr: Expr::Identifier(ident),
                    ..
                },
            ) if select.projection.iter().all(is_expression) => ident,
            Some(SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents))) => {
                match idents.as_slice() {
                    [_, ident] => ident,
                    _ => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        self.cells_of_cte(&name_of(cte), ident)
    }

    /// Turns the cells into the equality terms of a column.
    pub(super) fn term_cells(&mut self, sealed: &Sealed, cells: Cells) -> Result<(), Refusal> {
        for operand in cells.operands {
            let operand = Operand {
                common: cells.logical,
                ..operand
            };
            self.check_common(sealed, &operand)?;
            if matches!(operand.what, What::Null) {
                self.replace_operand(&operand, Replacement::Text("NULL::bytea".to_owned()));
                continue;
            }
            self.term(sealed, operand)?;
        }
        Ok(())
    }

    /// Seals the cells for a column.
    pub(super) fn seal_cells(
        &mut self,
        column: &Protected,
        cells: Cells,
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Result<(), Refusal> {
        // They stand where the rows that the statement changes cannot be named.
        let touched = self.touched_rows.take();
        for operand in cells.operands {
            let at = self.tokens.range(operand.extent.start).start;
            if matches!(operand.what, What::Null) {
                self.replace_operand(&operand, Replacement::Text("NULL::bytea".to_owned()));
                continue;
            }
            let operand = Operand {
                common: cells.logical,
                ..operand
            };
            // PostgreSQL says that a literal does not fit only where it is stored.
            self.seal(column, operand, held)
                .map_err(|refusal| match refusal.sqlstate {
                    "22001" | "22003" => {
                        refusals::not_sealable(column, "a literal that does not fit").at(at)
                    }
                    _ => refusal,
                })?;
        }
        self.touched_rows = touched;
        Ok(())
    }
}

impl Cells {
    /// The single values, if PostgreSQL takes them for this type without a cast that changes them.
    pub(super) fn of_type(self, wanted: LogicalType) -> Option<Vec<Operand>> {
        let own = self.logical.unwrap_or(LogicalType::Text);
        let wanted = wanted.without_modifiers();
        let fits = own == wanted || (is_text(own) && is_text(wanted));
        let of_type = |operand| Operand {
            common: Some(own),
            ..operand
        };
        fits.then(|| self.operands.into_iter().map(of_type).collect())
    }

    /// The rows of both, as UNION ALL makes them.
    fn and(mut self, other: Self) -> Option<Self> {
        self.logical = match (self.logical, other.logical) {
            (None, None) => Some(LogicalType::Text),
            (ours, theirs) => Some(common_type([ours, theirs])?),
        };
        self.operands.extend(other.operands);
        Some(self)
    }
}
