//! UPDATE and DELETE: assigned literals and parameters become sealed values; sealed values move only where their scope
//! stays right. INSERT ... ON CONFLICT DO UPDATE assigns by the same rules.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Ident, ObjectName, TableFactor,
    TableWithJoins, Update, UpdateTableFromKind,
};

use super::{
    Analyser,
    compare::{row_of, strip},
    elements::Source,
    expr::Cx,
    kind::Kind,
    meant::Use,
    namespace::{Ctes, Namespace, Scope, name_of},
    operand::is_default,
    query::Rows,
    refusals,
    relation::idents_of,
    scope::Part,
    written::Written,
};
use crate::{
    Refusal,
    catalog::{self, Relation},
    types::LogicalType,
};

/// One column and what it is set to.
struct Assigned<'a, 'q> {
    column: &'a catalog::Column,
    /// As the statement spells it.
    name: String,
    value: &'q Expr,
}

impl<'a> Analyser<'a> {
    /// An UPDATE, and what it returns.
    pub(super) fn update(&mut self, update: &Update, ctes: &Ctes) -> Result<Rows, Refusal> {
        let unusual = update.output.is_some()
            || update.or.is_some()
            || !update.order_by.is_empty()
            || update.limit.is_some();
        if unusual {
            return Err(refusals::construct("an unusual clause of UPDATE"));
        }
        let mark = self.facts.len();
        let (mut written, target) = self.target_of(&update.table)?;
        let facts = std::mem::take(&mut written.facts);
        self.facts.extend(facts);
        let none = Vec::new();
        let from = match &update.from {
            None => &none,
            Some(UpdateTableFromKind::AfterSet(from)) => from,
            Some(UpdateTableFromKind::BeforeSet(_)) => {
                return Err(refusals::construct("FROM before SET"));
            }
        };
        let mut conditions = Vec::new();
        let others = self.from(from, None, ctes, &mut conditions)?;
        self.source_cells(&others);
        let names = target.clone().and(others.clone());
        let scope = Scope {
            names: &names,
            parent: None,
        };
        let cx = Cx {
            scope: &scope,
            ctes,
            grouping: None,
        };
        self.facts_of(&conditions, update.selection.as_ref(), cx);
        if let TableFactor::Table { name, alias, .. } = &update.table.relation {
            let alias = alias.as_ref().map(|alias| name_of(&alias.name));
            let selection = update.selection.as_ref();
            self.touched_rows = self.touched(name, alias, &written, selection, cx);
        }
        let uses = self.assigned_uses(&update.assignments, &written, &others, cx)?;
        let others = self.seal_sources(&uses, others, cx)?;
        let names = target.and(others);
        let scope = Scope {
            names: &names,
            parent: None,
        };
        let cx = Cx {
            scope: &scope,
            ..cx
        };
        self.join_conditions(&conditions, cx)?;
        // WHERE first, as the server does: the first use of a parameter decides its type.
        if let Some(condition) = &update.selection {
            self.boolean(condition, cx)?;
        }
        self.assignments(&update.assignments, &written, cx)?;
        self.ask_touched()?;
        self.facts.truncate(mark);
        self.returning(update.returning.as_deref(), &names, ctes)
    }

    /// A DELETE, and what it returns.
    pub(super) fn delete(&mut self, delete: &Delete, ctes: &Ctes) -> Result<Rows, Refusal> {
        let unusual = delete.output.is_some()
            || !delete.order_by.is_empty()
            || delete.limit.is_some()
            || !delete.tables.is_empty();
        let (FromTable::WithFromKeyword(tables), false) = (&delete.from, unusual) else {
            return Err(refusals::construct("an unusual form of DELETE"));
        };
        let [table] = tables.as_slice() else {
            return Err(refusals::construct("DELETE from several tables"));
        };
        let mark = self.facts.len();
        let (written, target) = self.target_of(table)?;
        self.facts.extend(written.facts);
        let mut conditions = Vec::new();
        let others = self.from(
            delete.using.as_deref().unwrap_or_default(),
            None,
            ctes,
            &mut conditions,
        )?;
        let names = target.and(others);
        let scope = Scope {
            names: &names,
            parent: None,
        };
        let cx = Cx {
            scope: &scope,
            ctes,
            grouping: None,
        };
        self.facts_of(&conditions, delete.selection.as_ref(), cx);
        self.join_conditions(&conditions, cx)?;
        if let Some(condition) = &delete.selection {
            self.boolean(condition, cx)?;
        }
        self.facts.truncate(mark);
        self.returning(delete.returning.as_deref(), &names, ctes)
    }

    fn target_of(&mut self, table: &TableWithJoins) -> Result<(Written<'a>, Namespace), Refusal> {
        if !table.joins.is_empty() {
            return Err(refusals::construct("writing to this"));
        }
        self.target(&table.relation)
    }

    /// What is written to.
    pub(super) fn target(
        &mut self,
        table: &TableFactor,
    ) -> Result<(Written<'a>, Namespace), Refusal> {
        let TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } = table
        else {
            return Err(refusals::construct("writing to this"));
        };
        let alias = match alias {
            Some(alias) if !alias.columns.is_empty() => {
                return Err(refusals::construct("this form of alias"));
            }
            Some(alias) => {
                self.account(&alias.name);
                Some(name_of(&alias.name))
            }
            None => None,
        };
        self.written_to(name, alias)
    }

    /// SET.
    pub(super) fn assignments(
        &mut self,
        assignments: &[Assignment],
        written: &Written<'a>,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let (relation, instance) = (written.table, written.instance);
        let (mut assigned, mut rows) = (Vec::new(), Vec::new());
        for assignment in assignments {
            self.assignment(assignment, written, &mut assigned, &mut rows)?;
        }
        let mut changed = self.changed_parts(&assigned, instance, cx)?;
        if !self.keeps_scopes(&assigned, relation, &mut changed)? {
            // The rows do not keep the scopes that could be asked for or compared.
            self.touched_rows = None;
            self.conflict = None;
        }
        let held = |this: &Self, name: &str| match changed.get(name) {
            Some(part) => part.clone(),
            None => this.part_of_row(instance, name),
        };
        for (columns, value) in rows {
            let known = |this: &Self, name: &str| held(this, name);
            self.assigned_row(&columns, relation, value, cx, &known)?;
        }
        for &Assigned { column, value, .. } in &assigned {
            let Some(protected) = self.protected(relation, column.attnum) else {
                if self.is_moved(relation, column) {
                    self.assign_moved(relation, column, value, cx)?;
                } else if !is_default(value) {
                    if let Some(operand) = self.operand(value)? {
                        self.know_stored(&operand, column);
                    }
                    self.plain(
                        value,
                        cx,
                        &format!("a value for column \"{}\"", column.name),
                    )?;
                }
                continue;
            };
            if is_default(value) || self.is_picked(value)? {
                continue;
            }
            // What the row will hold is looked up before its edits are made.
            let parts: HashMap<String, Option<Part>> = protected
                .scope
                .columns()
                .into_iter()
                .map(|name| (name.to_owned(), held(self, name)))
                .collect();
            let held = |name: &str| parts.get(name).cloned().flatten();
            if self.operand(value)?.is_none()
                && let Some(source) = self.element_column(value, cx)?
            {
                match source {
                    Source::Array(array) => self.seal_elements(protected, array, &held)?,
                    Source::Cells(cells) => self.seal_cells(protected, cells, &held)?,
                }
                continue;
            }
            self.written(value, protected, &held, cx)?;
        }
        Ok(())
    }

    /// What columns will hold that an UPDATE changes.
    fn changed_parts<'c>(
        &self,
        assigned: &[Assigned<'c, '_>],
        instance: usize,
        cx: Cx<'_>,
    ) -> Result<HashMap<&'c str, Option<Part>>, Refusal> {
        let mut changed = HashMap::new();
        for &Assigned { column, value, .. } in assigned {
            let part = self.assigned_part(column, value, cx)?;
            let before = self.part_of_row(instance, &column.name);
            // `SET tenant_id = EXCLUDED.tenant_id` where both are known to be equal changes nothing.
            if part.is_none() || part != before {
                changed.insert(column.name.as_str(), part);
            }
        }
        Ok(changed)
    }

    /// What SET writes to protected columns, besides literals and parameters.
    pub(super) fn assigned_uses<'q>(
        &mut self,
        assignments: &'q [Assignment],
        written: &Written<'a>,
        source: &Namespace,
        cx: Cx<'_>,
    ) -> Result<Vec<Use<'q>>, Refusal> {
        let (relation, instance) = (written.table, written.instance);
        let mut assigned = Vec::new();
        for assignment in assignments {
            match &assignment.target {
                AssignmentTarget::ColumnName(name) => {
                    let (column, name) = self.assigned_column(name, written)?;
                    assigned.push(Assigned {
                        column,
                        name,
                        value: &assignment.value,
                    });
                }
                AssignmentTarget::Tuple(names) => {
                    let values = row_of(&assignment.value).unwrap_or_default();
                    for (name, value) in names.iter().zip(values) {
                        let (column, name) = self.assigned_column(name, written)?;
                        assigned.push(Assigned {
                            column,
                            name,
                            value,
                        });
                    }
                }
            }
        }
        let changed = self.changed_parts(&assigned, instance, cx)?;
        let mut uses = Vec::new();
        for &Assigned { column, value, .. } in &assigned {
            let Some(protected) = self.protected(relation, column.attnum) else {
                continue;
            };
            if is_default(value) || self.operand(value)?.is_some() {
                continue;
            }
            let mut parts = HashMap::new();
            let mut keeps = true;
            for name in protected.scope.columns() {
                keeps &= !changed.contains_key(name);
                let part = match changed.get(name) {
                    Some(part) => part.clone(),
                    None => self.part_of_row(instance, name),
                };
                if let Some(part) = part {
                    parts.insert(name.to_owned(), self.part_of_source(part, source));
                }
            }
            uses.push(Use {
                column: Arc::clone(protected),
                value,
                parts,
                asks: keeps,
            });
        }
        Ok(uses)
    }

    /// What a plain column will hold, if it is known.
    pub(super) fn assigned_part(
        &self,
        column: &catalog::Column,
        value: &Expr,
        cx: Cx<'_>,
    ) -> Result<Option<Part>, Refusal> {
        if let Some(operand) = self.operand(value)? {
            return Ok(self.assigned(column, &operand).map(Part::Constant));
        }
        let logical = LogicalType::from_oid(column.base_type_oid, column.typmod);
        let cell = self
            .cell_under_cast(value, cx)
            .filter(|cell| logical.is_some_and(|to| self.keeps_scope_text(*cell, to)));
        Ok(cell.map(|cell| self.written_part(cell)))
    }

    fn assignment<'q>(
        &mut self,
        assignment: &'q Assignment,
        written: &Written<'a>,
        assigned: &mut Vec<Assigned<'a, 'q>>,
        rows: &mut Vec<(Vec<&'a catalog::Column>, &'q Expr)>,
    ) -> Result<(), Refusal> {
        match &assignment.target {
            AssignmentTarget::ColumnName(name) => {
                let (column, name) = self.assigned_column(name, written)?;
                assigned.push(Assigned {
                    column,
                    name,
                    value: &assignment.value,
                });
            }
            AssignmentTarget::Tuple(names) => {
                let columns: Result<Vec<_>, _> = names
                    .iter()
                    .map(|name| self.assigned_column(name, written))
                    .collect();
                let columns = columns?;
                match row_of(&assignment.value) {
                    Some(values) if values.len() == columns.len() => {
                        let pairs = columns.into_iter().zip(values);
                        assigned.extend(pairs.map(|((column, name), value)| Assigned {
                            column,
                            name,
                            value,
                        }));
                    }
                    _ => {
                        let columns = columns.iter().map(|(column, _)| *column).collect();
                        rows.push((columns, &assignment.value));
                    }
                }
            }
        }
        Ok(())
    }

    fn assigned_column(
        &mut self,
        name: &ObjectName,
        written: &Written<'a>,
    ) -> Result<(&'a catalog::Column, String), Refusal> {
        let idents: Vec<&Ident> = idents_of(name)?;
        let [ident] = idents.as_slice() else {
            return Err(refusals::construct("a qualified column in SET"));
        };
        Ok((self.column_named(written, ident)?, name_of(ident)))
    }

    /// `SET (a, b) = (SELECT ...)`: sealed values move into protected columns, plain ones into the others.
    fn assigned_row(
        &mut self,
        columns: &[&catalog::Column],
        relation: &Relation,
        value: &Expr,
        cx: Cx<'_>,
        held: &dyn Fn(&Self, &str) -> Option<Part>,
    ) -> Result<(), Refusal> {
        let scope_columns = self.scope_columns(relation);
        let mut sealed = None;
        for column in columns {
            if let Some(protected) = self.protected(relation, column.attnum) {
                sealed = sealed.or(Some(protected));
            }
            if self.is_moved(relation, column) {
                let refusal = refusals::no_policy_column(&relation.name, &column.name);
                return Err(refusal.at(self.start_of(value)));
            }
            if scope_columns.contains(column.name.as_str()) {
                return Err(scope_column(&column.name));
            }
        }
        let Some(sealed) = sealed else {
            return self
                .plain(value, cx, "a value for columns that are not protected")
                .map(|_| ());
        };
        let position = self.start_of(value);
        let Expr::Subquery(query) = strip(value) else {
            return Err(refusals::not_constant(sealed).at(position));
        };
        let rows = self.query(query, Some(cx.scope), cx.ctes)?;
        if rows.open || rows.columns.len() != columns.len() {
            return Err(refusals::construct(
                "a sub-select with another number of columns",
            ));
        }
        let mark = self.facts.len();
        // Without a row all of them become NULL.
        self.facts.extend(rows.facts.iter().cloned());
        let moved = columns
            .iter()
            .zip(&rows.columns)
            .try_for_each(|(column, item)| {
                let Some(protected) = self.protected(relation, column.attnum) else {
                    let place = format!("a value for column \"{}\"", column.name);
                    let refused = refusals::not_plain(&item.kind, &place);
                    return refused.map_or(Ok(()), Err);
                };
                match &item.kind {
                    Kind::Sealed(value) => {
                        self.check_move(value, protected, &|name| held(self, name))
                    }
                    Kind::Plain(_) | Kind::Untyped | Kind::Holder(_) => {
                        Err(refusals::not_constant(protected))
                    }
                }
            });
        self.facts.truncate(mark);
        moved.map_err(|refusal| refusal.at(position))
    }

    /// The columns that scopes of a table's protected columns are made of.
    fn scope_columns(&self, relation: &Relation) -> HashSet<&'a str> {
        let protected = relation
            .columns
            .iter()
            .filter_map(|column| self.protected(relation, column.attnum));
        protected
            .flat_map(|protected| protected.scope.columns())
            .collect()
    }

    /// `SET tenant_id = EXCLUDED.tenant_id`, where some protected column keeps its value: only if the server finds that
    /// this changes nothing.
    fn keeps_conflicting(
        &mut self,
        assigned: &[Assigned<'_, '_>],
        scopes: &HashSet<&str>,
        changed: &mut HashMap<&str, Option<Part>>,
    ) -> Result<bool, Refusal> {
        let given: Vec<_> = assigned
            .iter()
            .filter(|given| {
                let name = given.column.name.as_str();
                scopes.contains(name) && changed.contains_key(name)
            })
            .collect();
        if !given.iter().all(|given| is_excluded(given)) {
            return Ok(false);
        }
        for given in given {
            if !self.keep_conflicting(&given.name, given.value)? {
                return Ok(false);
            }
            changed.remove(given.column.name.as_str());
        }
        Ok(true)
    }

    /// A row whose scope changes must get new values for all that was sealed for the old one.
    /// Says whether all rows keep their scopes.
    fn keeps_scopes(
        &mut self,
        assigned: &[Assigned<'_, '_>],
        relation: &Relation,
        changed: &mut HashMap<&str, Option<Part>>,
    ) -> Result<bool, Refusal> {
        let scopes = self.scope_columns(relation);
        let Some(name) = changed.keys().find(|name| scopes.contains(**name)).copied() else {
            return Ok(true);
        };
        for column in &relation.columns {
            let Some(protected) = self.protected(relation, column.attnum) else {
                continue;
            };
            let given = assigned
                .iter()
                .find(|assigned| assigned.column.attnum == column.attnum);
            // Whether what is given fits the new scope is looked at value by value.
            if given.is_none()
                && protected
                    .scope
                    .columns()
                    .iter()
                    .any(|column| changed.contains_key(column))
            {
                if !self.keeps_conflicting(assigned, &scopes, changed)? {
                    return Err(scope_column(name));
                }
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a column is set to that of the row that was to be inserted.
fn is_excluded(given: &Assigned<'_, '_>) -> bool {
    match given.value {
        Expr::CompoundIdentifier(idents) => match idents.as_slice() {
            [table, column] => name_of(table) == "excluded" && name_of(column) == given.name,
            _ => false,
        },
        _ => false,
    }
}

fn scope_column(name: &str) -> Refusal {
    Refusal::unsupported(
        "scope-column-update",
        format!("column \"{name}\" decides the scope of protected columns and cannot be changed by itself"),
    )
    .detail("The row's protected values are sealed with the keys of its present scope.")
    .hint("Assign every protected column of the table a literal or parameter in the same UPDATE.")
}
