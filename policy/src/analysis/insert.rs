//! INSERT: literals and parameters for protected columns become sealed values of the row's scope. What ON CONFLICT
//! does is `conflict`'s business.

use std::{collections::HashMap, sync::Arc};

use sqlparser::ast::{Expr, Ident, Insert, ObjectName, Query, SelectItem, SetExpr, TableObject};

use super::{
    Analyser,
    expr::Cx,
    facts::Constant,
    kind::Kind,
    meant::{Use, Wanted},
    namespace::{Ctes, Namespace, Scope, name_of},
    operand::{Cast, Operand, What, is_default},
    query::Rows,
    refusals,
    relation::idents_of,
    scope::Part,
    written::Written,
};
use crate::{
    Refusal,
    catalog::{self, Relation},
    text::quote_identifier,
    types::{Conversion, LogicalType},
};

/// What is known of the one row that is inserted.
pub(super) type RowConstants = HashMap<String, Constant>;

/// Where an INSERT writes.
pub(super) struct Target<'a> {
    /// What the statement names.
    pub(super) written: Written<'a>,
    /// The table that the rows go to.
    pub(super) relation: &'a Relation,
    pub(super) instance: usize,
    /// The columns that get values, in the order of the values.
    pub(super) columns: Vec<&'a catalog::Column>,
    /// Whether the statement lists them.
    listed: bool,
    /// Where each stands in the list.
    places: Vec<usize>,
}

impl<'a> Analyser<'a> {
    /// An INSERT, and what it returns.
    pub(super) fn insert(&mut self, insert: &Insert, ctes: &Ctes) -> Result<Rows, Refusal> {
        check_clauses(insert)?;
        let TableObject::TableName(name) = &insert.table else {
            return Err(refusals::construct("INSERT into this"));
        };
        let alias = insert.table_alias.as_ref().map(|alias| {
            self.account(&alias.alias);
            name_of(&alias.alias)
        });
        let (written, names) = self.written_to(name, alias)?;
        let target = self.insert_target(&insert.columns, written)?;
        let mark = self.facts.len();
        let row = match &insert.source {
            None => Some(RowConstants::new()),
            Some(source) => {
                let (row, width) = self.source(source, &target, ctes)?;
                let last = insert.table_alias.as_ref().map(|alias| &alias.alias);
                self.list_targets(last, name, &target, width)?;
                row
            }
        };
        if let Some(on) = &insert.on {
            self.conflict(on, &target, &names, row.as_ref(), ctes)?;
        }
        self.facts.truncate(mark);
        self.returning(insert.returning.as_deref(), &names, ctes)
    }

    pub(super) fn insert_target(
        &mut self,
        names: &[ObjectName],
        written: Written<'a>,
    ) -> Result<Target<'a>, Refusal> {
        let listed = !names.is_empty();
        let mut columns: Vec<&catalog::Column> = Vec::new();
        let mut places = Vec::new();
        for name in names {
            let idents = idents_of(name)?;
            let [ident] = idents.as_slice() else {
                return Err(refusals::construct("a qualified column in INSERT"));
            };
            columns.push(self.column_named(&written, ident)?);
            places.push(
                self.tokens
                    .starting(ident.span.start)
                    .map_or(0, |at| self.tokens.range(at).start),
            );
        }
        if !listed {
            columns = written.positional()?;
        }
        Ok(Target {
            relation: written.table,
            instance: written.instance,
            columns,
            written,
            listed,
            places,
        })
    }

    /// The column that an identifier names in a list of targets.
    pub(super) fn column_named(
        &mut self,
        written: &Written<'a>,
        ident: &sqlparser::ast::Ident,
    ) -> Result<&'a catalog::Column, Refusal> {
        self.account(ident);
        self.targets.extend(self.tokens.starting(ident.span.start));
        let name = name_of(ident);
        let at = self
            .tokens
            .starting(ident.span.start)
            .map_or(0, |at| self.tokens.range(at).start);
        let mut columns = written.columns.iter();
        let found = columns.find(|column| column.name == name).ok_or_else(|| {
            let message = format!(
                "column \"{name}\" of relation \"{}\" does not exist",
                written.named.name
            );
            Refusal::new("42703", "undefined-column", message).at(at)
        })?;
        written.writable(*found).map_err(|refusal| refusal.at(at))
    }

    /// Names the columns of a table that the server has in another order, behind `last` or the table's name: as many as
    /// get values.
    fn list_targets(
        &mut self,
        last: Option<&Ident>,
        name: &ObjectName,
        target: &Target<'a>,
        width: Option<usize>,
    ) -> Result<(), Refusal> {
        let table = target.written.named;
        if target.listed || !table.reshaped {
            return Ok(());
        }
        let refused = || refusals::reshaped("INSERT without a list of columns", &table.name);
        let width = width.filter(|width| *width > 0 && !self.stored);
        let width = width.ok_or_else(refused)?;
        let idents = idents_of(name)?;
        let last = last.or_else(|| idents.last().copied());
        let at = last.and_then(|ident| self.tokens.starting(ident.span.start));
        let end = self.tokens.range(at.ok_or_else(refused)?).end;
        let names = target.columns.iter().take(width);
        let names: Vec<_> = names.map(|column| quote_identifier(&column.name)).collect();
        self.edits.close(end, format!(" ({})", names.join(", ")));
        Ok(())
    }

    /// The rows to insert; what is known of them if it is one row of VALUES; and how many columns they have, if that is known.
    fn source(
        &mut self,
        source: &Query,
        target: &Target<'a>,
        ctes: &Ctes,
    ) -> Result<(Option<RowConstants>, Option<usize>), Refusal> {
        let source = within_brackets(source);
        let SetExpr::Values(values) = source.body.as_ref() else {
            let width = self.selected(source, target, ctes)?;
            return Ok((None, width));
        };
        if source.with.is_some()
            || source.order_by.is_some()
            || source.limit_clause.is_some()
            || source.fetch.is_some()
        {
            return Err(refusals::construct("VALUES with WITH, ORDER BY or LIMIT"));
        }
        let empty = Namespace::default();
        let scope = Scope {
            names: &empty,
            parent: None,
        };
        let cx = Cx {
            scope: &scope,
            ctes,
            grouping: None,
        };
        let mut known = None;
        for row in &values.rows {
            known = Some(self.row(&row.content, target, cx)?);
        }
        let width = values.rows.first().map(|row| row.content.len());
        Ok((known.filter(|_| values.rows.len() == 1), width))
    }

    /// One row of VALUES.
    pub(super) fn row(
        &mut self,
        cells: &[Expr],
        target: &Target<'a>,
        cx: Cx<'_>,
    ) -> Result<RowConstants, Refusal> {
        if cells.len() > target.columns.len()
            || (target.listed && cells.len() < target.columns.len())
        {
            let what = if cells.len() > target.columns.len() {
                "expressions than target columns"
            } else {
                "target columns than expressions"
            };
            // Postgres points at the first one that has no partner.
            let extra = cells
                .get(target.columns.len())
                .map(|cell| self.start_of(cell));
            let at = extra
                .or_else(|| target.places.get(cells.len()).copied())
                .unwrap_or(0);
            return Err(Refusal::new(
                "42601",
                "statement-not-understood",
                format!("INSERT has more {what}"),
            )
            .at(at));
        }
        let mut constants = RowConstants::new();
        let mut parts: HashMap<String, Part> = HashMap::new();
        let mut sealed = Vec::new();
        for (cell, column) in cells.iter().zip(&target.columns) {
            if is_default(cell) {
                if let Expr::Identifier(ident) = cell {
                    self.account(ident);
                }
                continue;
            }
            let operand = self.operand(cell)?;
            if self.is_moved(target.relation, column) {
                self.check_moved_operand(target.relation, column, operand.as_ref(), cell)?;
                continue;
            }
            match (self.protected(target.relation, column.attnum), operand) {
                (Some(protected), _) => sealed.push((protected, cell)),
                (None, Some(operand)) => {
                    self.know_stored(&operand, column);
                    if let Some(constant) = self.assigned(column, &operand) {
                        parts.insert(column.name.clone(), Part::Constant(constant.clone()));
                        constants.insert(column.name.clone(), constant);
                    }
                }
                (None, None) => {
                    if let Some(part) = self.assigned_part(column, cell, cx)? {
                        parts.insert(column.name.clone(), part);
                    }
                    self.plain(cell, cx, &format!("a value for column \"{}\"", column.name))?;
                }
            }
        }
        for (protected, cell) in sealed {
            let held = |name: &str| parts.get(name).cloned();
            self.written(cell, protected, &held, cx)?;
        }
        Ok(constants)
    }

    /// What a row of VALUES writes to protected columns, besides literals and parameters.
    pub(super) fn row_uses<'q>(
        &self,
        cells: &'q [Expr],
        target: &Target<'a>,
        source: &Namespace,
        cx: Cx<'_>,
    ) -> Result<Vec<Use<'q>>, Refusal> {
        let mut parts = HashMap::new();
        for (cell, column) in cells.iter().zip(&target.columns) {
            if self.protected(target.relation, column.attnum).is_none()
                && !is_default(cell)
                && let Some(part) = self.assigned_part(column, cell, cx)?
            {
                parts.insert(column.name.clone(), self.part_of_source(part, source));
            }
        }
        let mut uses = Vec::new();
        for (value, column) in cells.iter().zip(&target.columns) {
            if let Some(protected) = self.protected(target.relation, column.attnum)
                && !is_default(value)
                && self.operand(value)?.is_none()
            {
                uses.push(Use {
                    column: Arc::clone(protected),
                    value,
                    parts: parts.clone(),
                    asks: false,
                });
            }
        }
        Ok(uses)
    }

    /// What a plain column will hold, if scopes can be made of it.
    pub(super) fn assigned(&self, column: &catalog::Column, operand: &Operand) -> Option<Constant> {
        let logical = LogicalType::from_oid(column.base_type_oid, column.typmod)?;
        self.constant(operand, logical, Conversion::Assignment)
    }

    /// `INSERT INTO t SELECT ...`: sealed values move; literals and parameters of the select list are sealed. Gives the
    /// number of columns, if it is known.
    fn selected(
        &mut self,
        source: &Query,
        target: &Target<'a>,
        ctes: &Ctes,
    ) -> Result<Option<usize>, Refusal> {
        if source.with.is_none() && matches!(source.body.as_ref(), SetExpr::Select(_)) {
            let wanted = |column: &&'a catalog::Column| {
                (
                    *column,
                    self.protected(target.relation, column.attnum).cloned(),
                )
            };
            let columns = target.columns.iter().map(wanted).collect();
            self.wanted = Some(Wanted { columns });
        }
        self.given.clear();
        let rows = self.query(source, None, ctes)?;
        self.touched_rows = self.selected_rows.take();
        let given = std::mem::take(&mut self.given);
        let protects = target
            .columns
            .iter()
            .any(|column| self.protected(target.relation, column.attnum).is_some());
        if rows.open && (protects || rows.is_sealed()) {
            return Err(refusals::construct(
                "INSERT from a function whose columns only the server knows",
            ));
        }
        let items = literal_items(source);
        let item = |index: usize| items.as_ref().and_then(|items| items.get(index).copied());
        let mut parts: HashMap<String, Part> = HashMap::new();
        self.facts.extend(rows.facts.iter().cloned());
        for (index, (column, output)) in target.columns.iter().zip(&rows.columns).enumerate() {
            let part = match self.selected_part(column, &output.kind, item(index))? {
                None => given.get(&column.name).cloned(),
                part => part,
            };
            if let Some(part) = part {
                let part = match part {
                    Part::Cell(cell) => self.written_part(cell),
                    part => part,
                };
                parts.insert(column.name.clone(), part);
            }
        }
        let mut elements: HashMap<String, Part> = HashMap::new();
        for (index, column) in target.columns.iter().enumerate() {
            if self.protected(target.relation, column.attnum).is_none()
                && let Some(logical) = LogicalType::from_oid(column.base_type_oid, column.typmod)
                && let Ok(Some(array)) = self.elements_of(source, index)
                && let Some(part) = self.element_part(&array, logical)
            {
                elements.insert(column.name.clone(), part);
            }
        }
        let held = |name: &str| parts.get(name).cloned();
        let held_elements = |name: &str| held(name).or_else(|| elements.get(name).cloned());
        for (index, output) in rows.columns.iter().enumerate() {
            let column = target.columns.get(index);
            let protected =
                column.and_then(|column| self.protected(target.relation, column.attnum));
            let position = item(index).map_or(0, |expr| self.start_of(expr));
            match (&output.kind, protected) {
                (Kind::Sealed(sealed), Some(protected)) => {
                    self.check_move(sealed, protected, &held)
                        .map_err(|refusal| refusal.at(position))?;
                    self.note(format!(
                        "Sealed values of {} are moved as they are.",
                        refusals::name_of(sealed.column())
                    ));
                }
                (kind, None) if column.is_some_and(|c| self.is_moved(target.relation, c)) => {
                    let column = column
                        .ok_or_else(|| refusals::not_understood("A value without a column"))?;
                    let operand = item(index).map(|expr| self.operand(expr)).transpose()?;
                    Self::check_moved(target.relation, column, kind, operand.flatten().as_ref())
                        .map_err(|refusal| refusal.at(position))?;
                }
                (Kind::Sealed(sealed), None) => {
                    let place = "a value for a column that is not protected";
                    return Err(refusals::not_supported(sealed.column(), place).at(position));
                }
                (Kind::Holder(holder), _) => {
                    return Err(refusals::holder(holder, "a value to store").at(position));
                }
                (Kind::Plain(_) | Kind::Untyped, Some(protected)) => {
                    if item(index).is_some_and(|item| self.is_fetched(item)) {
                        continue;
                    }
                    let operand = item(index)
                        .map(|expr| self.operand(expr))
                        .transpose()?
                        .flatten();
                    match (operand, self.elements_of(source, index)?) {
                        (Some(operand), _) => {
                            let bare = match operand.what {
                                What::Param(_, token) if operand.cast == Cast::None => Some(token),
                                _ => None,
                            };
                            self.seal(protected, operand, &held)?;
                            if let Some(token) = bare {
                                self.resolve_last(token);
                            }
                        }
                        (None, Some(array)) => {
                            self.seal_elements(protected, array, &held_elements)?;
                        }
                        (None, None) => {
                            return Err(refusals::not_constant(protected).at(position));
                        }
                    }
                }
                (Kind::Plain(_) | Kind::Untyped, None) => {
                    let operand = item(index).map(|expr| self.operand(expr)).transpose()?;
                    if let (Some(operand), Some(column)) = (operand.flatten(), column) {
                        self.know_stored(&operand, column);
                    }
                }
            }
        }
        self.ask_touched()?;
        Ok(Some(rows.columns.len()).filter(|_| !rows.open))
    }

    /// What a plain column of the inserted rows will hold.
    fn selected_part(
        &self,
        column: &catalog::Column,
        kind: &Kind,
        item: Option<&Expr>,
    ) -> Result<Option<Part>, Refusal> {
        let Some(logical) = LogicalType::from_oid(column.base_type_oid, column.typmod) else {
            return Ok(None);
        };
        Ok(match kind {
            Kind::Plain(Some(cell)) => {
                let same = self.keeps_scope_text(*cell, logical);
                same.then(|| self.written_part(*cell))
            }
            Kind::Untyped => match item.map(|expr| self.operand(expr)).transpose()?.flatten() {
                Some(operand) => self.assigned(column, &operand).map(Part::Constant),
                None => None,
            },
            _ => None,
        })
    }

    /// RETURNING.
    pub(super) fn returning(
        &mut self,
        items: Option<&[SelectItem]>,
        names: &Namespace,
        ctes: &Ctes,
    ) -> Result<Rows, Refusal> {
        let Some(items) = items else {
            return Ok(Rows::default());
        };
        let scope = Scope {
            names,
            parent: None,
        };
        let (outputs, open) = self.projection(
            items,
            Cx {
                scope: &scope,
                ctes,
                grouping: None,
            },
        )?;
        let column = |output: super::group::Output| super::namespace::Column {
            name: output.name,
            kind: output.kind,
        };
        Ok(Rows {
            columns: outputs.into_iter().map(column).collect(),
            open,
            facts: Vec::new(),
        })
    }
}

/// A query that stands in brackets alone.
fn within_brackets(source: &Query) -> &Query {
    let mut query = source;
    while let SetExpr::Query(inner) = query.body.as_ref()
        && query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
    {
        query = inner;
    }
    query
}

/// The items of a plain SELECT, one per column; `None` where literals could not be told from what they become.
fn literal_items(source: &Query) -> Option<Vec<&Expr>> {
    let SetExpr::Select(select) = source.body.as_ref() else {
        return None;
    };
    if select.distinct.is_some() {
        return None;
    }
    let item = |item| match item {
        &SelectItem::UnnamedExpr(ref expr) | &SelectItem::ExprWithAlias { ref expr, .. } => {
            Some(expr)
        }
        _ => None,
    };
    select.projection.iter().map(item).collect()
}

fn check_clauses(insert: &Insert) -> Result<(), Refusal> {
    let unusual = insert.or.is_some()
        || insert.ignore
        || insert.overwrite
        || insert.partitioned.is_some()
        || !insert.after_columns.is_empty()
        || insert.has_table_keyword
        || insert.replace_into
        || insert.priority.is_some()
        || insert.insert_alias.is_some()
        || insert.settings.is_some()
        || insert.format_clause.is_some()
        || insert.output.is_some()
        || !insert.assignments.is_empty()
        || insert.multi_table_insert_type.is_some()
        || !insert.into;
    if unusual {
        Err(refusals::construct("an unusual clause of INSERT"))
    } else {
        Ok(())
    }
}
