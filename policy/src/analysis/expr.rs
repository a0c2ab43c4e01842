//! Expressions: every branch of what may happen to a sealed value inside one. The default is refusal: for a node
//! without a rule, whatever stands below it must be plain. The rules themselves stand in files of their own.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, CastKind, Expr, Query, UnaryOperator, Value as Constant, Visit, Visitor,
};

use super::{
    Analyser,
    branch::is_grouped,
    compare::strip,
    function::{is_value_word, whole_row},
    group::Grouping,
    kind::Kind,
    list::List,
    namespace::{Ctes, Scope},
    refusals,
    term::uncast,
};
use crate::Refusal;

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) struct Cx<'s> {
    /// The names it can use.
    pub(super) scope: &'s Scope<'s>,
    /// The common table expressions it can use.
    pub(super) ctes: &'s Ctes,
    /// The GROUP BY whose groups it is computed for.
    pub(super) grouping: Option<&'s Grouping>,
}

impl Analyser<'_> {
    /// Analyses an expression.
    pub(super) fn expr(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Kind, Refusal> {
        match expr {
            Expr::Identifier(ident) if is_value_word(ident) => Ok(Kind::Plain(None)),
            Expr::Identifier(ident) => {
                Ok(self.reference(std::slice::from_ref(ident), cx.scope)?.kind)
            }
            Expr::CompoundIdentifier(idents) => Ok(self.reference(idents, cx.scope)?.kind),
            Expr::Nested(inner) => self.expr(inner, cx),
            Expr::Value(value)
                if self.in_body && matches!(value.value, Constant::Placeholder(_)) =>
            {
                self.numbered_argument(expr)
            }
            Expr::Value(_) => Ok(self.given_document(expr)?.unwrap_or(Kind::Untyped)),
            Expr::TypedString(_) => {
                let extent = self.tokens.extent(expr)?;
                self.account_tokens(extent);
                Ok(Kind::Untyped)
            }
            Expr::Subquery(query) => self.scalar_query(query, cx).map(|kind| match kind {
                sealed @ Kind::Sealed(_) => sealed.computed(),
                other @ (Kind::Plain(_) | Kind::Untyped | Kind::Holder(_)) => other,
            }),
            Expr::QualifiedWildcard(name, _) => whole_row(name, cx).map(|()| Kind::Plain(None)),
            Expr::Wildcard(_) => Err(refusals::construct("* as a value")),
            Expr::Exists { subquery, .. } => self
                .query(subquery, Some(cx.scope), cx.ctes)
                .map(|_| Kind::Plain(None)),
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => self.null_test(inner, cx),
            Expr::BinaryOp {
                op: BinaryOperator::And,
                ..
            } => self.condition(expr, cx),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Or,
                right,
            } => {
                self.condition(left, cx)?;
                self.condition(right, cx)
            }
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => self.condition(expr, cx),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq | BinaryOperator::NotEq,
                right,
            }
            | Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right) => {
                self.compare(left, right, cx).map(|()| Kind::Plain(None))
            }
            Expr::InList { expr, list, .. } => {
                let list: Vec<&Expr> = list.iter().collect();
                if !self.stored_list(expr, &list, cx)? {
                    self.compare_list(expr, &list, List::In, cx)?;
                }
                Ok(Kind::Plain(None))
            }
            Expr::InSubquery { expr, subquery, .. } => self
                .compare_query(expr, subquery, cx)
                .map(|()| Kind::Plain(None)),
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq | BinaryOperator::NotEq,
                right,
                ..
            }
            | Expr::AllOp {
                left,
                compare_op: BinaryOperator::Eq | BinaryOperator::NotEq,
                right,
            } => {
                let list: Vec<&Expr> = match strip(right) {
                    Expr::Array(array) => array.elem.iter().collect(),
                    _ => Vec::new(),
                };
                if !self.stored_list(left, &list, cx)? {
                    self.compare_array(left, right, cx)?;
                }
                Ok(Kind::Plain(None))
            }
            Expr::Array(array) => self.array_of(array, cx),
            Expr::Tuple(members) => self.tuple(members, cx),
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain, cx),
            Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner) => self
                .truth(inner, cx, "a test of truth")
                .map(|_| Kind::Plain(None)),
            Expr::Cast { .. } => self.cast(expr, cx),
            Expr::Function(function) => self.function(expr, function, cx),
            Expr::Case { .. } => self.chosen(expr, cx),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Arrow,
                right,
            } => self.piece(left, right, cx),
            Expr::BinaryOp { left, op, right } => {
                let place = operator_place(op);
                self.ordered(left, cx, place.clone())?;
                self.ordered(right, cx, place)?;
                Ok(Kind::Plain(None))
            }
            Expr::Between {
                expr, low, high, ..
            } => {
                for part in [expr, low, high] {
                    self.ordered(part, cx, Place::Order("BETWEEN".to_owned()))?;
                }
                Ok(Kind::Plain(None))
            }
            Expr::Like { expr, pattern, .. }
            | Expr::ILike { expr, pattern, .. }
            | Expr::SimilarTo { expr, pattern, .. } => {
                self.plain(expr, cx, "a pattern match (LIKE)")?;
                self.plain(pattern, cx, "a pattern match (LIKE)")?;
                Ok(Kind::Plain(None))
            }
            _ => self.parts(expr, cx),
        }
    }

    /// An expression that must not be sealed.
    pub(super) fn plain(&mut self, expr: &Expr, cx: Cx<'_>, place: &str) -> Result<Kind, Refusal> {
        match self.expr(expr, cx)? {
            Kind::Sealed(sealed) => {
                Err(refusals::not_supported(sealed.column(), place).at(self.start_of(expr)))
            }
            Kind::Holder(holder) => Err(refusals::holder(&holder, place).at(self.start_of(expr))),
            kind @ (Kind::Plain(_) | Kind::Untyped) => Ok(kind),
        }
    }

    /// An operand of an operator that needs an order or the value itself.
    pub(super) fn ordered(&mut self, expr: &Expr, cx: Cx<'_>, place: Place) -> Result<(), Refusal> {
        match (self.expr(expr, cx)?, place) {
            (Kind::Sealed(sealed), Place::Order(place)) => {
                Err(refusals::no_order(sealed.column(), &place).at(self.start_of(expr)))
            }
            (Kind::Sealed(sealed), Place::Operator(place)) => {
                Err(refusals::not_supported(sealed.column(), &place).at(self.start_of(expr)))
            }
            (Kind::Holder(holder), place) => {
                Err(refusals::holder(&holder, place.name()).at(self.start_of(expr)))
            }
            (Kind::Plain(_) | Kind::Untyped, _) => Ok(()),
        }
    }

    /// A condition, however deep: facts of its conjuncts hold while they are analysed. A conjunct decides nothing in
    /// rows for which another one is false, and a row whose scope columns are NULL holds no sealed values.
    pub(super) fn condition(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Kind, Refusal> {
        let mark = self.facts.len();
        self.collect_facts(expr, cx);
        let done = self.boolean(expr, cx);
        self.facts.truncate(mark);
        done
    }

    /// A condition whose facts are already known.
    pub(super) fn boolean(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Kind, Refusal> {
        match expr {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => {
                self.boolean(left, cx)?;
                self.boolean(right, cx)
            }
            Expr::Nested(inner) => self.boolean(inner, cx),
            _ => self.truth(expr, cx, "a condition by itself"),
        }
    }

    fn null_test(&mut self, inner: &Expr, cx: Cx<'_>) -> Result<Kind, Refusal> {
        let kind = self.comparand_under_any_cast(inner, cx)?;
        if let Kind::Sealed(sealed) = kind {
            if is_grouped(uncast(inner), cx)? {
                // The group's key is the term, which is NULL exactly when the value is.
                self.wrap_term(inner, &sealed)?;
            } else {
                self.wrap(inner, "", "")?;
            }
        }
        Ok(Kind::Plain(None))
    }

    fn scalar_query(&mut self, query: &Query, cx: Cx<'_>) -> Result<Kind, Refusal> {
        let rows = self.query(query, Some(cx.scope), cx.ctes)?;
        match rows.columns.as_slice() {
            [column] if !rows.open => Ok(match &column.kind {
                kind @ (Kind::Sealed(_) | Kind::Holder(_)) => kind.clone(),
                Kind::Plain(_) | Kind::Untyped => Kind::Plain(None),
            }),
            _ if rows.is_sealed() => Err(refusals::construct(
                "a sub-select of several protected columns as a value",
            )),
            _ => Ok(Kind::Plain(None)),
        }
    }

    fn cast(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Kind, Refusal> {
        let Expr::Cast {
            kind, expr: inner, ..
        } = expr
        else {
            return self.parts(expr, cx);
        };
        let castable = matches!(kind, CastKind::DoubleColon | CastKind::Cast);
        if !self.stored && castable && self.operand(expr)?.is_none() {
            return self.value(expr, cx);
        }
        let kind = self.expr(inner, cx)?;
        if self.is_stored_domain(expr, inner, &kind)? {
            return Ok(kind);
        }
        if let Kind::Holder(holder) = kind {
            return self.cast_holder(expr, inner, holder);
        }
        match refusals::not_plain(&kind, "a cast") {
            Some(refusal) => Err(refusal.at(self.start_of(expr))),
            None => Ok(Kind::Plain(None)),
        }
    }

    /// A node without a rule: everything right below it must be plain.
    fn parts(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Kind, Refusal> {
        let mut parts = Parts {
            analyser: self,
            cx,
            depth: 0,
            queries: 0,
        };
        match expr.visit(&mut parts) {
            ControlFlow::Continue(()) => Ok(Kind::Plain(None)),
            ControlFlow::Break(refusal) => Err(*refusal),
        }
    }
}

/// What an operator asks of its operands.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Order(String),
    Operator(String),
}

impl Place {
    fn name(&self) -> &str {
        match self {
            Self::Order(place) => place,
            Self::Operator(place) => place,
        }
    }
}

fn operator_place(op: &BinaryOperator) -> Place {
    match op {
        BinaryOperator::Lt | BinaryOperator::LtEq | BinaryOperator::Gt | BinaryOperator::GtEq => {
            Place::Order("an order comparison".to_owned())
        }
        other => Place::Operator(format!("an expression with {other}")),
    }
}

/// Visits the expressions and queries right below a node.
struct Parts<'v, 'a, 's> {
    analyser: &'v mut Analyser<'a>,
    cx: Cx<'s>,
    /// Expressions around the one visited.
    depth: usize,
    /// Queries around it.
    queries: usize,
}

impl Visitor for Parts<'_, '_, '_> {
    type Break = Box<Refusal>;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        self.depth += 1;
        if self.depth == 2 && self.queries == 0 {
            let place = "this expression";
            if let Err(refusal) = self.analyser.plain(expr, self.cx, place) {
                return ControlFlow::Break(Box::new(refusal));
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.queries += 1;
        if self.depth == 1 && self.queries == 1 {
            let analysed = self
                .analyser
                .query(query, Some(self.cx.scope), self.cx.ctes);
            let sealed = analysed.map(|rows| rows.is_sealed());
            match sealed {
                Ok(false) => {}
                Ok(true) => {
                    return ControlFlow::Break(Box::new(refusals::construct(
                        "a sub-select of protected columns here",
                    )));
                }
                Err(refusal) => return ControlFlow::Break(Box::new(refusal)),
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Self::Break> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }
}
