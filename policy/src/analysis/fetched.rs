//! What plain columns hold, stored in protected ones: `INSERT INTO customers (email) SELECT email FROM staging`,
//! `SET email = 'deleted-' || id`. The server is asked for what they hold, each value is sealed, and each row picks its own.

use std::{collections::HashMap, sync::Arc};

use sqlparser::ast::{Expr, FunctionArguments, Select};

use super::{
    Analyser,
    compare::strip,
    expr::Cx,
    from::unnamed,
    joined::Leaf,
    kind::{Cell, Kind},
    namespace::Reference,
    operand::{Cast, Operand, What, check_types},
    refusals,
    scope::{Part, written_scope},
    term::is_text,
    touched::{AskedColumn, Selected, Touched, TouchedBy, failing_text, hex},
};
use crate::{
    Refusal, catalog,
    plan::{self, ANOTHER_VALUE, Fetched, FetchedAs, Make, ScopePart},
    ruleset::Protected,
    types::{Conversion, LogicalType, TextExpression},
};

/// Columns that one value is made of at most.
const MOST: usize = 16;

/// An item of a SELECT, and the column that gets it.
type Wants<'q> = (&'q Expr, (&'q catalog::Column, Option<Arc<Protected>>));

/// A value that is made of plain columns.
struct Found {
    made: FetchedAs,
    columns: Vec<AskedColumn>,
}

/// The type of what the server makes.
pub(super) enum Made {
    /// One of pgveil's.
    Of(LogicalType),
    /// Another.
    OfAnother,
}

impl Analyser<'_> {
    /// Seals what a value is in each row that the statement writes. False if it is not made of plain columns, or the server
    /// cannot be asked for them. `chosen`: not every row that is asked for stores it.
    pub(super) fn fetch(
        &mut self,
        value: &Expr,
        column: &Protected,
        held: &dyn Fn(&str) -> Option<Part>,
        cx: Cx<'_>,
        chosen: bool,
    ) -> Result<bool, Refusal> {
        if self.stored || self.in_body || self.conflict.is_some() || self.touched_rows.is_none() {
            return Ok(false);
        }
        let Some(found) = self.fetchable(value, column, cx)? else {
            return Ok(false);
        };
        let extent = self.tokens.extent(value)?;
        let at = self.tokens.range(extent.start).start;
        let Some(mut touched) = self.touched_rows.take() else {
            return Ok(false);
        };
        let made = self.fetched_of(found, column, held, chosen, &mut touched);
        if made.is_some() {
            touched.fetches = true;
            if touched.first.is_none() {
                touched.first = self.rules.columns.get(&column.id).map(|c| (c.clone(), at));
            }
        }
        self.touched_rows = Some(touched);
        let Some((fetched, scope, key)) = made else {
            let why = "neither the statement nor its rows tell it";
            return Err(refusals::scope_not_resolved(column, why).at(at));
        };
        self.note(format!(
            "The server is asked for what is stored in {}; each value is sealed, and each row picks its own.",
            refusals::name_of(column)
        ));
        let range = self.tokens.bytes(&extent);
        self.edits.open(
            range.start,
            format!(
                "(SELECT pg_catalog.decode(COALESCE(\"pgveil v\" OPERATOR(pg_catalog.->) {key}, \
                 {}::pg_catalog.jsonb) OPERATOR(pg_catalog.#>>) '{{}}', 'hex') \
                 FROM (SELECT (SELECT pg_catalog.convert_from(",
                failing_text(ANOTHER_VALUE)
            ),
        );
        // Read once for the statement, not for each row.
        self.edits.close(
            range.end,
            ", 'UTF8')::pg_catalog.jsonb) AS \"pgveil v\" OFFSET 0) AS \"pgveil values\")",
        );
        let operand = Operand {
            what: What::Applied {
                expression: TextExpression::Given(None),
                params: Vec::new(),
                spells: false,
            },
            cast: Cast::None,
            common: None,
            extent,
        };
        let what = plan::Operand::Fetched(fetched);
        self.slot(Make::SealFetched, what, column, scope, &operand)?;
        Ok(true)
    }

    /// What is fetched, the scope, and what a row finds its value by.
    fn fetched_of(
        &self,
        found: Found,
        column: &Protected,
        held: &dyn Fn(&str) -> Option<Part>,
        chosen: bool,
        touched: &mut Touched,
    ) -> Option<(Fetched, Vec<ScopePart>, String)> {
        let (scope, asked) = match written_scope(column, held) {
            Ok(scope) => (scope, Vec::new()),
            Err(_) => self.asked_parts(touched, column, held)?,
        };
        let mut key: Vec<String> = asked.iter().map(|asked| hex(&asked.sql)).collect();
        let digits = found.columns.iter();
        key.extend(digits.map(|fetched| format!("COALESCE({}, '~')", fetched.sql)));
        let chooses = match &touched.by {
            TouchedBy::Update => false,
            // Its clauses have conditions of their own.
            TouchedBy::Merge(_) => true,
            TouchedBy::Select(selected) => selected.chooses,
        };
        let columns = found.columns.iter().map(|fetched| touched.ask(fetched));
        let fetched = Fetched {
            query: self.scope_queries.len(),
            columns: columns.collect(),
            made: found.made,
            all: !chosen && !chooses,
        };
        let key = format!("pg_catalog.concat_ws('/', {})", key.join(", "));
        Some((fetched, scope, key))
    }

    /// Reads a value as one that is made of plain columns.
    fn fetchable(
        &self,
        value: &Expr,
        column: &Protected,
        cx: Cx<'_>,
    ) -> Result<Option<Found>, Refusal> {
        if let Some(logical) = self.server_value(value, cx)? {
            let text = is_text(column.logical) || matches!(column.logical, LogicalType::Bpchar(_));
            let logical = match logical {
                Made::Of(logical) => logical,
                // Every type is assigned to a text as its text form.
                Made::OfAnother if text => LogicalType::Text,
                Made::OfAnother => return Ok(None),
            };
            let Some(sql) = self.send_form(value, logical)? else {
                return Ok(None);
            };
            check_types(logical, column, Conversion::Assignment)
                .map_err(|refusal| refusal.at(self.start_of(value)))?;
            let made = FetchedAs::Value(logical);
            let columns = vec![AskedColumn { sql, logical }];
            return Ok(Some(Found { made, columns }));
        }
        if !column.logical.is_string() {
            return Ok(None);
        }
        let mut leaves = Vec::new();
        let Some(expression) = self.text_of_leaves(strip(value), &mut leaves, cx)? else {
            return Ok(None);
        };
        if leaves.is_empty() || leaves.len() > MOST {
            return Ok(None);
        }
        let mut columns = Vec::new();
        for Leaf { column, sealed } in leaves {
            if sealed || self.server_value(column, cx)?.is_none() {
                return Ok(None);
            }
            let logical = LogicalType::Text;
            match self.send_form(column, logical)? {
                Some(sql) => columns.push(AskedColumn { sql, logical }),
                None => return Ok(None),
            }
        }
        let made = FetchedAs::Text(expression);
        Ok(Some(Found { made, columns }))
    }

    /// A value that the server makes of plain columns alone, and its type: a column, also under a cast, or one of
    /// PostgreSQL's functions of texts. `None`: something else is in it.
    pub(super) fn server_value(&self, value: &Expr, cx: Cx<'_>) -> Result<Option<Made>, Refusal> {
        // Functions of one text that depend on nothing but it and its collation.
        const OF_ONE: [&str; 9] = [
            "btrim", "initcap", "lower", "ltrim", "md5", "reverse", "rtrim", "trim", "upper",
        ];
        if let Some((idents, cast)) = self.column_used(value)? {
            let Some(own) = cx
                .scope
                .find(idents)
                .ok()
                .and_then(|found| self.stored_in(&found))
            else {
                return Ok(None);
            };
            return Ok(match cast {
                None => Some(self.column_type(own).map_or(Made::OfAnother, Made::Of)),
                Some((_, _, Cast::To(to))) => Some(Made::Of(to)),
                Some(_) => None,
            });
        }
        let Expr::Function(function) = strip(value) else {
            return Ok(None);
        };
        let FunctionArguments::List(list) = &function.args else {
            return Ok(None);
        };
        let known = self
            .plain_call(function)
            .is_some_and(|name| OF_ONE.contains(&name.as_str()));
        match unnamed(&list.args).as_deref() {
            Some([arg]) if known => Ok(match self.server_value(arg, cx)? {
                Some(Made::Of(logical)) if is_text(logical) => Some(Made::Of(LogicalType::Text)),
                _ => None,
            }),
            _ => Ok(None),
        }
    }

    /// The column of a table that a name stands for, if it is one and not protected.
    fn stored_in(&self, found: &Reference) -> Option<Cell> {
        let Kind::Plain(Some(cell)) = found.kind else {
            return None;
        };
        let relation = self.instances.get(cell.instance)?;
        let has = relation
            .columns
            .iter()
            .any(|column| column.attnum == cell.attnum);
        (has && !found.qualify).then_some(cell)
    }

    /// The digits of a value's send form, which no setting changes.
    fn send_form(&self, value: &Expr, logical: LogicalType) -> Result<Option<String>, Refusal> {
        let Some((name, send)) = logical.send_function() else {
            return Ok(None);
        };
        let extent = self.tokens.extent(value)?;
        let text = &self.tokens.sql[self.tokens.bytes(&extent)];
        Ok(Some(format!(
            "pg_catalog.encode(pg_catalog.{send}(({text})::pg_catalog.{name}), 'hex')"
        )))
    }

    /// Seals the items of a SELECT that an INSERT stores and that are made of plain columns. `parts`: what plain columns of
    /// the table get.
    pub(super) fn fetch_items(
        &mut self,
        select: &Select,
        items: &[Wants<'_>],
        parts: &HashMap<String, Part>,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let Some(at) = self.tokens.starting(select.select_token.0.span.start) else {
            return Ok(());
        };
        let selected = Selected {
            select: at,
            given: self.given_columns(items, cx)?,
            chooses: self.leaves_rows_out(at),
        };
        let touched = Touched::of_select(selected, !cx.ctes.is_empty());
        let around = self.touched_rows.replace(touched);
        let held = |name: &str| parts.get(name).cloned();
        for (item, (_, column)) in items {
            if let Some(column) = column
                && self.operand(item)?.is_none()
                && self.fetch(item, column, &held, cx, false)?
            {
                self.fetched_items.insert(std::ptr::from_ref(*item).addr());
            }
        }
        self.selected_rows = std::mem::replace(&mut self.touched_rows, around);
        Ok(())
    }

    /// Whether an item of a SELECT was sealed so.
    pub(super) fn is_fetched(&self, item: &Expr) -> bool {
        let place = std::ptr::from_ref(item).addr();
        self.fetched_items.contains(&place)
    }

    /// Columns of tables that plain columns get, as far as scopes can be made of them.
    fn given_columns(
        &self,
        items: &[Wants<'_>],
        cx: Cx<'_>,
    ) -> Result<HashMap<String, AskedColumn>, Refusal> {
        let mut given = HashMap::new();
        for (item, (column, protected)) in items {
            let Some((idents, _)) = self.column_used(item)? else {
                continue;
            };
            let found = cx.scope.find(idents).ok();
            let stored = found.is_some_and(|found| self.stored_in(&found).is_some());
            let cell = self.cell_under_cast(item, cx);
            if let (None, true, Some(cell)) = (protected, stored, cell)
                && let Some(logical) = LogicalType::from_oid(column.base_type_oid, column.typmod)
                && self.keeps_scope_text(cell, logical)
            {
                let extent = self.tokens.extent(item)?;
                let text = &self.tokens.sql[self.tokens.bytes(&extent)];
                let sql = format!("({text})::pg_catalog.text");
                given.insert(column.name.clone(), AskedColumn { sql, logical });
            }
        }
        Ok(given)
    }
}
