//! Reads the facts out of a condition: which columns equal which constants and each other. Makes no edits.

use sqlparser::ast::{BinaryOperator, Expr};

use super::{
    Analyser,
    compare::{row_of, strip},
    constant::family,
    expr::Cx,
    facts::{Constant, Fact},
    kind::Cell,
};
use crate::types::Conversion;

/// Constants of which a column may be one by OR.
const MOST_AMONG: usize = 64;

impl Analyser<'_> {
    /// Adds what the conjuncts of a condition say.
    pub(super) fn collect_facts(&mut self, expr: &Expr, cx: Cx<'_>) {
        match expr {
            Expr::Nested(inner) => self.collect_facts(inner, cx),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => {
                self.collect_facts(left, cx);
                self.collect_facts(right, cx);
            }
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } => self.collect_equality(left, right, cx),
            Expr::InList {
                expr,
                list,
                negated: false,
            } if list.len() == 1 => self.collect_equality(expr, &list[0], cx),
            Expr::InList { .. }
            | Expr::AnyOp { .. }
            | Expr::BinaryOp {
                op: BinaryOperator::Or,
                ..
            } => {
                if let Some((cell, constants)) = self.among(expr, cx) {
                    self.facts.push(Fact::Among(cell, constants));
                }
            }
            _ => {}
        }
    }

    /// `tenant_id IN (1, 2)`, `tenant_id = ANY (ARRAY[1, 2])`, `tenant_id = 1 OR tenant_id = 2`: a column, and what it is one of.
    fn among(&self, expr: &Expr, cx: Cx<'_>) -> Option<(Cell, Vec<Constant>)> {
        let listed = |left: &Expr, list: &[Expr]| {
            let cell = self.cell_of(left, cx)?;
            let constants = list.iter().map(|item| self.constant_of(cell, item));
            Some((cell, constants.collect::<Option<Vec<_>>>()?))
        };
        match expr {
            Expr::Nested(inner) => self.among(inner, cx),
            Expr::InList {
                expr,
                list,
                negated: false,
            } => listed(expr, list),
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                ..
            } => match strip(right) {
                Expr::Array(array) => listed(left, &array.elem),
                _ => None,
            },
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } => match self.cell_of(left, cx) {
                Some(_) => listed(left, std::slice::from_ref(right)),
                None => listed(right, std::slice::from_ref(left)),
            },
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Or,
                right,
            } => {
                let (cell, mut constants) = self.among(left, cx)?;
                let (other, more) = self.among(right, cx)?;
                constants.extend(more);
                (cell == other && constants.len() <= MOST_AMONG).then_some((cell, constants))
            }
            _ => None,
        }
    }

    fn constant_of(&self, cell: Cell, expr: &Expr) -> Option<Constant> {
        let operand = self.operand(expr).ok()??;
        self.constant(&operand, self.column_type(cell)?, Conversion::Comparison)
    }

    pub(super) fn collect_equality(&mut self, left: &Expr, right: &Expr, cx: Cx<'_>) {
        if let (Some(lefts), Some(rights)) = (row_of(left), row_of(right)) {
            if lefts.len() == rights.len() {
                lefts
                    .iter()
                    .zip(rights)
                    .for_each(|(left, right)| self.collect_equality(left, right, cx));
            }
            return;
        }
        match (self.cell_of(left, cx), self.cell_of(right, cx)) {
            (Some(a), Some(b)) => self.add_same(a, b),
            (Some(cell), None) => self.add_constant(cell, right),
            (None, Some(cell)) => self.add_constant(cell, left),
            (None, None) => {}
        }
    }

    /// Two columns are equal, if equal values of theirs make the same scope.
    pub(super) fn add_same(&mut self, a: Cell, b: Cell) {
        if let (Some(left), Some(right)) = (self.column_type(a), self.column_type(b))
            && family(left) == family(right)
        {
            self.facts.push(Fact::Same(a, b));
        }
    }

    fn add_constant(&mut self, cell: Cell, expr: &Expr) {
        if let Some(constant) = self.constant_of(cell, expr) {
            self.facts.push(Fact::Is(cell, constant));
        }
    }

    /// The plain column that an expression is.
    pub(super) fn cell_of(&self, expr: &Expr, cx: Cx<'_>) -> Option<Cell> {
        let idents = match strip(expr) {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => return None,
        };
        let found = cx.scope.find(idents).ok()?;
        found.kind.cell().or_else(|| self.source_cell(&found))
    }
}
