//! FROM: tables, sub-selects, functions and joins. Conditions of joins are kept for later, when all facts are known.

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias,
    TableFactor, TableWithJoins,
};

use super::{
    Analyser,
    elements::Source,
    expr::Cx,
    kind::Kind,
    namespace::{Column, Ctes, Entry, Namespace, Scope, name_of},
    protection::Standing,
    query::Rows,
    refusals,
    relation::idents_of,
    using::Pair,
};
use crate::Refusal;

/// A join's condition, looked at when all facts are known.
pub(super) enum Condition<'q> {
    On {
        on: &'q Expr,
        /// The names it can use.
        names: Namespace,
        /// Rows for which it fails may still appear: its facts hold only inside itself.
        outer: bool,
    },
    /// USING with a protected column, and its first column's token.
    Using { pairs: Vec<Pair>, first: usize },
}

/// How a join treats rows without a partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Inner,
    Left,
    Right,
    Full,
}

impl Analyser<'_> {
    /// A FROM list.
    pub(super) fn from<'q>(
        &mut self,
        from: &'q [TableWithJoins],
        parent: Option<&Scope<'_>>,
        ctes: &Ctes,
        conditions: &mut Vec<Condition<'q>>,
    ) -> Result<Namespace, Refusal> {
        let mut names = Namespace::default();
        for tree in from {
            let next = self.joined(tree, &names, parent, ctes, conditions)?;
            names = names.and(next);
        }
        Ok(names)
    }

    /// One member of a FROM list with its joins. `before` are the members that LATERAL may name.
    fn joined<'q>(
        &mut self,
        tree: &'q TableWithJoins,
        before: &Namespace,
        parent: Option<&Scope<'_>>,
        ctes: &Ctes,
        conditions: &mut Vec<Condition<'q>>,
    ) -> Result<Namespace, Refusal> {
        let first = self.instances.len();
        let mut names = self.factor(&tree.relation, before, parent, ctes, conditions)?;
        for join in &tree.joins {
            let visible = before.clone().and(names.clone());
            let second = self.instances.len();
            let right = self.factor(&join.relation, &visible, parent, ctes, conditions)?;
            use JoinOperator::{FullOuter, Left, LeftOuter, Right, RightOuter};
            let end = self.instances.len();
            match &join.join_operator {
                Left(_) | LeftOuter(_) => self.padded.extend(second..end),
                Right(_) | RightOuter(_) => self.padded.extend(first..second),
                FullOuter(_) => self.padded.extend(first..end),
                _ => {}
            }
            names = self.join(join, names, right, conditions)?;
        }
        Ok(names)
    }

    fn join<'q>(
        &mut self,
        join: &'q Join,
        left: Namespace,
        right: Namespace,
        conditions: &mut Vec<Condition<'q>>,
    ) -> Result<Namespace, Refusal> {
        use JoinOperator::*;
        let (side, constraint) = match &join.join_operator {
            Join(constraint) | Inner(constraint) | CrossJoin(constraint) => {
                (Side::Inner, constraint)
            }
            Left(constraint) | LeftOuter(constraint) => (Side::Left, constraint),
            Right(constraint) | RightOuter(constraint) => (Side::Right, constraint),
            FullOuter(constraint) => (Side::Full, constraint),
            _ => return Err(refusals::construct("this kind of JOIN")),
        };
        if join.global {
            return Err(refusals::construct("GLOBAL JOIN"));
        }
        match constraint {
            JoinConstraint::None => Ok(left.and(right)),
            JoinConstraint::On(on) => {
                let names = left.and(right);
                conditions.push(Condition::On {
                    on,
                    names: names.clone(),
                    outer: side != Side::Inner,
                });
                Ok(names)
            }
            JoinConstraint::Using(columns) => {
                self.join_using(columns, side, left, right, conditions)
            }
            JoinConstraint::Natural => self.join_natural(side, left, right),
        }
    }

    pub(super) fn factor<'q>(
        &mut self,
        factor: &'q TableFactor,
        before: &Namespace,
        parent: Option<&Scope<'_>>,
        ctes: &Ctes,
        conditions: &mut Vec<Condition<'q>>,
    ) -> Result<Namespace, Refusal> {
        let visible = Scope {
            names: before,
            parent,
        };
        let cx = Cx {
            scope: &visible,
            ctes,
            grouping: None,
        };
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                partitions,
                json_path,
                index_hints,
                with_ordinality,
                ..
            } => {
                if !with_hints.is_empty()
                    || version.is_some()
                    || !partitions.is_empty()
                    || json_path.is_some()
                    || !index_hints.is_empty()
                {
                    return Err(refusals::construct("an unusual table reference"));
                }
                match args {
                    None => self.table(name, alias.as_ref(), ctes),
                    Some(args) if args.settings.is_none() => {
                        self.table_function(name, &args.args, alias.as_ref(), *with_ordinality, cx)
                    }
                    Some(_) => Err(refusals::construct("an unusual table function")),
                }
            }
            TableFactor::Function {
                name,
                args,
                alias,
                with_ordinality,
                ..
            } => self.table_function(name, args, alias.as_ref(), *with_ordinality, cx),
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                ..
            } => {
                let first = self.instances.len();
                let mut sources = Vec::new();
                let mut rows = self.query(
                    subquery,
                    if *lateral { Some(&visible) } else { parent },
                    ctes,
                )?;
                // What ties it to rows outside holds only if the join keeps no others.
                rows.facts
                    .retain(|fact| fact.cells().all(|cell| cell.instance >= first));
                for column in 0..rows.columns.len() {
                    let array = self.elements_of(subquery, column)?;
                    sources.push(match array {
                        Some(array) => Some(Source::Array(array)),
                        None => self.cells_of(subquery, column)?.map(Source::Cells),
                    });
                }
                let names = self.derived(rows, alias.as_ref(), None)?;
                self.remember_elements(&names, None, sources);
                Ok(names)
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                let names = self.joined(table_with_joins, before, parent, ctes, conditions)?;
                self.nested(names, alias.as_ref())
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset,
                with_ordinality,
                ..
            } => {
                if *with_offset {
                    return Err(refusals::construct("WITH OFFSET"));
                }
                self.unnested(array_exprs, alias.as_ref(), *with_ordinality, cx)
            }
            _ => Err(refusals::construct("this kind of table expression")),
        }
    }

    /// A sub-select, CTE or aliased join as an entry.
    pub(super) fn derived(
        &mut self,
        rows: Rows,
        alias: Option<&TableAlias>,
        name: Option<String>,
    ) -> Result<Namespace, Refusal> {
        let rows = self.renamed(rows, alias)?;
        self.facts.extend(rows.facts);
        let entry = Entry {
            id: self.next_entry(),
            name: alias.map(|alias| name_of(&alias.name)).or(name),
            schema: None,
            columns: rows.columns,
            open: rows.open,
            table: false,
            reshaped: false,
        };
        Ok(Namespace::of(entry))
    }

    fn nested(
        &mut self,
        names: Namespace,
        alias: Option<&TableAlias>,
    ) -> Result<Namespace, Refusal> {
        let Some(alias) = alias else { return Ok(names) };
        if let Some(entry) = names.entries.iter().find(|entry| entry.reshaped) {
            let name = entry.name.as_deref().unwrap_or_default();
            return Err(refusals::reshaped("an alias of a join", name));
        }
        if names.reshaped {
            return Err(refusals::construct(
                "an alias of a join that uses a protected column (USING)",
            ));
        }
        let open = names.entries.iter().any(|entry| entry.open);
        let columns = names.shown.iter().map(|shown| Column {
            name: shown.name.clone(),
            kind: shown.kind.clone(),
        });
        self.derived(
            Rows {
                columns: columns.collect(),
                open,
                facts: Vec::new(),
            },
            Some(alias),
            None,
        )
    }

    fn table_function(
        &mut self,
        name: &ObjectName,
        args: &[FunctionArg],
        alias: Option<&TableAlias>,
        ordinality: bool,
        cx: Cx<'_>,
    ) -> Result<Namespace, Refusal> {
        if let Some(function) = self.callee(name, args, 'f', cx)? {
            return self.call_entry(function, (name, args), alias, ordinality, cx);
        }
        if !ordinality && let Some(names) = self.record_rows(name, args, alias, cx)? {
            return Ok(names);
        }
        let last = self.check_function(name)?;
        if last == "unnest"
            && let Some(arrays) = unnamed(args)
        {
            return self.unnested(arrays, alias, ordinality, cx);
        }
        for arg in args {
            match arg {
                FunctionArg::Named {
                    arg: FunctionArgExpr::Expr(expr),
                    ..
                }
                | FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                    self.plain(expr, cx, &format!("function {last}"))?;
                }
                _ => {
                    return Err(refusals::construct(
                        "this form of argument of a table function",
                    ));
                }
            }
        }
        self.called(name, last, alias, ordinality)
    }

    /// Rows of a function: plain columns, of which the server knows more than the alias says.
    pub(super) fn function_rows(
        &mut self,
        alias: Option<&TableAlias>,
        name: Option<String>,
    ) -> Result<Namespace, Refusal> {
        let name = alias.map(|alias| name_of(&alias.name)).or(name);
        let rows = self.renamed(
            Rows {
                open: true,
                ..Rows::default()
            },
            alias,
        )?;
        let id = self.next_entry();
        Ok(Namespace::of(Entry {
            id,
            name,
            schema: None,
            columns: rows.columns,
            open: true,
            table: false,
            reshaped: false,
        }))
    }

    fn table(
        &mut self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
        ctes: &Ctes,
    ) -> Result<Namespace, Refusal> {
        let idents = idents_of(name)?;
        if let [only] = idents.as_slice()
            && let Some(cte) = ctes.get(&name_of(only))
        {
            self.account(only);
            let rows = self.afresh(&cte.rows);
            let names = self.derived(rows, alias, Some(name_of(only)))?;
            let cells = cte.cells.take().into_iter();
            let sources = cells.map(|cells| cells.map(Source::Cells)).collect();
            self.remember_elements(&names, Some(name_of(only)), sources);
            return Ok(names);
        }
        let relation = self.relation(name)?;
        if relation.is_view() && self.protection.standing(relation) == Standing::Dependent {
            let at = idents
                .first()
                .and_then(|ident| self.tokens.starting(ident.span.start));
            let at = at.map_or(0, |at| self.tokens.range(at).start);
            return self
                .view_entry(relation, alias)
                .map_err(|refusal| refusal.at(at));
        }
        let (mut entry, _) = self.table_entry(relation, alias.map(|alias| name_of(&alias.name)));
        if let Some(alias) = alias {
            self.account(&alias.name);
            if entry.reshaped && !alias.columns.is_empty() {
                return Err(refusals::reshaped(
                    "a list of column aliases",
                    &relation.name,
                ));
            }
            if alias.columns.len() > entry.columns.len() {
                return Err(refusals::not_understood(
                    "An alias names more columns than there are",
                ));
            }
            for (column, named) in entry.columns.iter_mut().zip(&alias.columns) {
                self.account(&named.name);
                column.name = Some(name_of(&named.name));
            }
        }
        Ok(Namespace::of(entry))
    }
}

/// The arguments of a call, if all of them are expressions without names.
pub(super) fn unnamed(args: &[FunctionArg]) -> Option<Vec<&Expr>> {
    args.iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect()
}

/// The merged column of two that USING compares: what it holds.
pub(super) fn merged(side: Side, left: &Kind, right: &Kind) -> Kind {
    match side {
        Side::Inner | Side::Left => left.clone(),
        Side::Right => right.clone(),
        Side::Full => Kind::Plain(None),
    }
}
