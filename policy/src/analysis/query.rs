//! Queries: WITH, set operations, VALUES, LIMIT. A SELECT by itself is `select`'s business.

use std::cell::RefCell;

use sqlparser::ast::{
    Expr, LimitClause, OrderBy, OrderByKind, Query, SetExpr, SetOperator, SetQuantifier, Statement,
    TableAlias, Values,
};

use super::{
    Analyser,
    cells::Cells,
    difference::Matching,
    expr::Cx,
    facts::Fact,
    kind::Kind,
    namespace::{Column, Ctes, Namespace, Scope, name_of},
    refusals,
};
use crate::Refusal;

/// What a query yields.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// Its columns, in order.
    pub(super) columns: Vec<Column>,
    /// It has columns that only the server knows (`SELECT * FROM f()`).
    pub(super) open: bool,
    /// What is known of every row.
    pub(super) facts: Vec<Fact>,
}

impl Rows {
    /// Gives the row variables other numbers.
    pub(super) fn renumber(&mut self, number: &mut dyn FnMut(usize) -> usize) {
        for column in &mut self.columns {
            column
                .kind
                .each_instance(&mut |instance| *instance = number(*instance));
        }
        for fact in &mut self.facts {
            fact.renumber(number);
        }
    }

    /// Whether any column is sealed or holds sealed values.
    pub(super) fn is_sealed(&self) -> bool {
        self.columns
            .iter()
            .any(|column| column.kind.protected().is_some())
    }
}

/// A common table expression.
pub(super) struct Cte {
    pub(super) rows: Rows,
    /// Which of its columns are made of literals and parameters; taken by the first use.
    pub(super) cells: RefCell<Vec<Option<Cells>>>,
}

impl Analyser<'_> {
    /// A query, and what it yields.
    pub(super) fn query(
        &mut self,
        query: &Query,
        parent: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<Rows, Refusal> {
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            return Err(refusals::construct("an unusual clause"));
        }
        let ctes = match &query.with {
            Some(with) => self.with(with, parent, ctes)?,
            None => ctes.clone(),
        };
        let rows = match query.body.as_ref() {
            SetExpr::Select(select) => {
                self.select(select, query.order_by.as_ref(), parent, &ctes)?
            }
            body => {
                let rows = self.set_expr(body, parent, &ctes)?;
                if let Some(order_by) = &query.order_by {
                    self.order_outputs(order_by, &rows, parent, &ctes)?;
                }
                rows
            }
        };
        self.limits(query, parent, &ctes)?;
        Ok(rows)
    }

    pub(super) fn limits(
        &mut self,
        query: &Query,
        parent: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<(), Refusal> {
        let empty = Namespace::default();
        let scope = Scope {
            names: &empty,
            parent,
        };
        let cx = Cx {
            scope: &scope,
            ctes,
            grouping: None,
        };
        match &query.limit_clause {
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) if limit_by.is_empty() => {
                let offset = offset.as_ref().map(|offset| &offset.value);
                limit
                    .iter()
                    .chain(offset)
                    .try_for_each(|expr| self.plain(expr, cx, "LIMIT").map(|_| ()))?;
            }
            Some(_) => return Err(refusals::construct("this form of LIMIT")),
            None => {}
        }
        match query
            .fetch
            .as_ref()
            .and_then(|fetch| fetch.quantity.as_ref())
        {
            Some(quantity) => self.plain(quantity, cx, "FETCH").map(|_| ()),
            None => Ok(()),
        }
    }

    pub(super) fn set_expr(
        &mut self,
        body: &SetExpr,
        parent: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<Rows, Refusal> {
        match body {
            SetExpr::Select(select) => self.select(select, None, parent, ctes),
            SetExpr::Query(query) => self.query(query, parent, ctes),
            SetExpr::SetOperation {
                left,
                op,
                set_quantifier,
                right,
            } => {
                let mut ours = self.set_expr(left, parent, ctes)?;
                let mut theirs = self.set_expr(right, parent, ctes)?;
                let (all, distinct) = (
                    *set_quantifier == SetQuantifier::All,
                    matches!(
                        set_quantifier,
                        SetQuantifier::None | SetQuantifier::Distinct
                    ),
                );
                if all || distinct {
                    self.seal_branches((left, &mut ours), (right, &mut theirs))?;
                }
                let sealed = ours.is_sealed() || theirs.is_sealed();
                let listed =
                    !ours.open && !theirs.open && ours.columns.len() == theirs.columns.len();
                if *op == SetOperator::Union && distinct && sealed && listed {
                    return self.unite((left, ours), (right, theirs));
                }
                if let Some(matching) = Matching::of(*op, all)
                    && sealed
                    && listed
                    && (all || distinct)
                {
                    return self.matched(matching, (left, ours), (right, theirs));
                }
                combine(*op, *set_quantifier, ours, theirs)
            }
            SetExpr::Values(values) => self.values(values, parent, ctes),
            SetExpr::Insert(Statement::Insert(insert)) => self.insert(insert, ctes),
            SetExpr::Update(Statement::Update(update)) => self.update(update, ctes),
            SetExpr::Delete(Statement::Delete(delete)) => self.delete(delete, ctes),
            SetExpr::Merge(Statement::Merge(merge)) => self.merge(merge, ctes),
            _ => Err(refusals::construct("this kind of query")),
        }
    }

    fn values(
        &mut self,
        values: &Values,
        parent: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<Rows, Refusal> {
        let empty = Namespace::default();
        let scope = Scope {
            names: &empty,
            parent,
        };
        let cx = Cx {
            scope: &scope,
            ctes,
            grouping: None,
        };
        let mut made: Vec<bool> = Vec::new();
        for row in &values.rows {
            made.resize(made.len().max(row.content.len()), true);
            for (cell, made) in row.content.iter().zip(&mut made) {
                self.plain(cell, cx, "VALUES")?;
                *made &= self.operand(cell)?.is_some();
            }
        }
        let width = made.len();
        let column = |index: usize| Column {
            name: Some(format!("column{}", index + 1)),
            kind: if made[index] {
                Kind::Untyped
            } else {
                Kind::Plain(None)
            },
        };
        Ok(Rows {
            columns: (0..width).map(column).collect(),
            ..Rows::default()
        })
    }

    /// ORDER BY of a set operation: names and numbers of its columns.
    pub(super) fn order_outputs(
        &mut self,
        order_by: &OrderBy,
        rows: &Rows,
        parent: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<(), Refusal> {
        let OrderByKind::Expressions(keys) = &order_by.kind else {
            return Err(refusals::construct("ORDER BY ALL"));
        };
        let empty = Namespace::default();
        let scope = Scope {
            names: &empty,
            parent,
        };
        let cx = Cx {
            scope: &scope,
            ctes,
            grouping: None,
        };
        for key in keys {
            if !matches!(key.expr, Expr::Identifier(_) | Expr::Value(_)) {
                return Err(refusals::order_of_rows().at(self.start_of(&key.expr)));
            }
            self.order_key(key, &rows.columns, rows.open, cx)?;
        }
        Ok(())
    }

    /// Applies the column names of an alias: `t(a, b)`.
    pub(super) fn renamed(
        &mut self,
        mut rows: Rows,
        alias: Option<&TableAlias>,
    ) -> Result<Rows, Refusal> {
        let Some(alias) = alias else { return Ok(rows) };
        self.account(&alias.name);
        if alias.at.is_some() || (rows.open && !alias.columns.is_empty() && rows.is_sealed()) {
            return Err(refusals::construct("this form of alias"));
        }
        if rows.is_sealed()
            && alias
                .columns
                .iter()
                .any(|column| column.data_type.is_some())
        {
            return Err(refusals::construct(
                "a list of column definitions over protected values",
            ));
        }
        for (index, column) in alias.columns.iter().enumerate() {
            self.account(&column.name);
            let name = Some(name_of(&column.name));
            match rows.columns.get_mut(index) {
                Some(renamed) => renamed.name = name,
                None if rows.open => rows.columns.push(Column {
                    name,
                    kind: Kind::Plain(None),
                }),
                None => {
                    return Err(refusals::not_understood(
                        "An alias names more columns than there are",
                    ));
                }
            }
        }
        Ok(rows)
    }
}

/// UNION ALL keeps sealed values; every other set operation compares them.
pub(super) fn combine(
    op: SetOperator,
    quantifier: SetQuantifier,
    left: Rows,
    right: Rows,
) -> Result<Rows, Refusal> {
    let sealed = left.is_sealed() || right.is_sealed();
    let all = op == SetOperator::Union && quantifier == SetQuantifier::All;
    let first_sealed = || {
        left.columns
            .iter()
            .chain(&right.columns)
            .find_map(|column| column.kind.protected())
    };
    if sealed && !all {
        let column = first_sealed().cloned();
        let name = match op {
            SetOperator::Union => "UNION",
            SetOperator::Intersect => "INTERSECT",
            _ => "EXCEPT",
        };
        return Err(match column {
            Some(column) => Refusal::unsupported(
                "set-operation-not-supported",
                format!(
                    "protected column \"{}\" cannot be used in {name}",
                    column.name
                ),
            )
            .detail(format!(
                "{name} compares rows, and {} holds sealed values.",
                refusals::name_of(&column)
            ))
            .hint("Use UNION ALL, or SELECT DISTINCT over it where the column has equality."),
            None => refusals::construct(name),
        });
    }
    combine_all(left, right)
}

/// The rows of either, as UNION ALL yields them.
pub(super) fn combine_all(left: Rows, right: Rows) -> Result<Rows, Refusal> {
    let sealed = left.is_sealed() || right.is_sealed();
    if sealed && (left.open || right.open || left.columns.len() != right.columns.len()) {
        return Err(refusals::construct(
            "a set operation over different columns",
        ));
    }
    let open = left.open || right.open;
    let mut facts = left.facts;
    facts.extend(right.facts);
    let mut columns = Vec::with_capacity(left.columns.len());
    for (ours, theirs) in left.columns.into_iter().zip(right.columns) {
        let kind = combined(ours.kind, theirs.kind)?;
        columns.push(Column {
            name: ours.name,
            kind,
        });
    }
    Ok(Rows {
        columns,
        open,
        facts,
    })
}

fn combined(left: Kind, right: Kind) -> Result<Kind, Refusal> {
    match (left, right) {
        (Kind::Sealed(a), Kind::Sealed(b)) => {
            let name = a.column().name.clone();
            let both = a.or(b);
            both.map(Kind::Sealed)
                .ok_or_else(|| different(&name, "a column of another type"))
        }
        (Kind::Holder(ours), Kind::Holder(theirs)) => {
            let refused = refusals::holder(&ours, "a set operation with one of another make");
            ours.merged(theirs).map(Kind::Holder).ok_or(refused)
        }
        (Kind::Holder(holder), _) | (_, Kind::Holder(holder)) => Err(refusals::holder(
            &holder,
            "a set operation with something else",
        )),
        (Kind::Sealed(sealed), _) | (_, Kind::Sealed(sealed)) => Err(different(
            &sealed.column().name,
            "something that is not protected",
        )),
        (Kind::Plain(_) | Kind::Untyped, Kind::Plain(_) | Kind::Untyped) => Ok(Kind::Plain(None)),
    }
}

fn different(column: &str, other: &str) -> Refusal {
    Refusal::unsupported(
        "set-operation-not-supported",
        format!("a set operation cannot combine protected column \"{column}\" with {other}"),
    )
    .hint("Combine columns of the same logical type, or run the queries one by one.")
}
