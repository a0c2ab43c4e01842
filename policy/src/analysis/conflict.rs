//! INSERT ... ON CONFLICT: a protected column in the target is its equality term; EXCLUDED is a row like any other.

use sqlparser::ast::{ConflictTarget, Expr, OnConflict, OnConflictAction, OnInsert};

use super::{
    Analyser,
    expr::Cx,
    facts::Fact,
    insert::{RowConstants, Target},
    kind::{Cell, Sealed},
    namespace::{Ctes, Entry, Namespace, Scope, name_of},
    operand::Operand,
    refusals,
    relation::idents_of,
    scope::{Part, written_scope},
    term::{check_equality, eq_term},
    touched::{failing, row_key},
    written::{Spelling, spelt},
};
use crate::{
    Refusal, catalog,
    plan::{self, CONFLICT_OF_SCOPES, Make},
    ruleset::Protected,
    text::quote_identifier,
};
use pgveil_config::SearchKey;

/// The row that is there and the row that was to be inserted.
pub(super) struct Conflicting {
    /// What expressions call the table, quoted.
    name: String,
    /// How its columns are spelt.
    spelling: Option<Spelling>,
    pub(super) excluded: usize,
    /// What is known of the row that was to be inserted.
    row: Option<RowConstants>,
}

impl Conflicting {
    /// The columns of a scope, as the statement can name them. `None`: it cannot name all.
    fn columns(&self, of: &Protected) -> Option<Vec<String>> {
        let columns = of.scope.columns().into_iter();
        let spelt = |column| spelt(self.spelling.as_ref(), column).map(str::to_owned);
        columns.map(spelt).collect()
    }
}

impl<'a> Analyser<'a> {
    pub(super) fn conflict(
        &mut self,
        on: &OnInsert,
        target: &Target<'a>,
        names: &Namespace,
        row: Option<&RowConstants>,
        ctes: &Ctes,
    ) -> Result<(), Refusal> {
        let OnInsert::OnConflict(OnConflict {
            conflict_target,
            action,
        }) = on
        else {
            return Err(refusals::construct("ON DUPLICATE KEY"));
        };
        let mut keys = Vec::new();
        if let Some(ConflictTarget::Columns(columns)) = conflict_target {
            for ident in columns {
                let column = self.column_named(&target.written, ident)?;
                if self.is_moved(target.relation, column) {
                    return Err(refusals::construct(
                        "ON CONFLICT with a column of sealed values that is not in the policy",
                    ));
                }
                keys.push((ident, column.attnum));
            }
        }
        let mut attnums: Vec<i16> = keys.iter().map(|(_, attnum)| *attnum).collect();
        if let Some(ConflictTarget::OnConstraint(name)) = conflict_target {
            attnums = self.constraint(name, target)?;
        }
        for (ident, attnum) in &keys {
            if let Some(protected) = self.protected(target.relation, *attnum) {
                let at = self.tokens.starting(ident.span.start);
                let at = at.ok_or_else(|| {
                    refusals::not_understood("ON CONFLICT has no place in the text")
                })?;
                let range = self.tokens.range(at);
                let sealed = Sealed::new(std::sync::Arc::clone(protected), target.instance);
                check_equality(&sealed, "ON CONFLICT")
                    .map_err(|refusal| refusal.at(range.start))?;
                check_conflict_scope(&sealed, target, &attnums)
                    .map_err(|refusal| refusal.at(range.start))?;
                self.note(format!(
                    "ON CONFLICT compares the equality terms of {}.",
                    refusals::name_of(protected)
                ));
                self.edits.open(range.start, eq_term(&sealed));
                self.edits.close(range.end, ")");
            }
        }
        let OnConflictAction::DoUpdate(update) = action else {
            return Ok(());
        };
        let excluded = self.instance_of(target.relation);
        let entry = Entry {
            id: self.next_entry(),
            name: Some("excluded".to_owned()),
            schema: None,
            columns: self.excluded_columns(&target.written, excluded),
            open: false,
            table: true,
            reshaped: target.written.named.reshaped,
        };
        let table = names.entries.first();
        let table_name = table.and_then(|table| table.name.clone());
        let names = names.clone().and(Namespace::of(entry));
        let scope = Scope {
            names: &names,
            parent: None,
        };
        let cx = Cx {
            scope: &scope,
            ctes,
            grouping: None,
        };
        self.conflict_facts(target, excluded, &attnums, row);
        if let Some(condition) = &update.selection {
            self.collect_facts(condition, cx);
        }
        self.conflict = table_name.map(|name| Conflicting {
            name: quote_identifier(&name),
            spelling: target.written.spelling(),
            excluded,
            row: row.cloned(),
        });
        self.assignments(&update.assignments, &target.written, cx)?;
        self.conflict = None;
        if let Some(condition) = &update.selection {
            self.boolean(condition, cx)?;
        }
        Ok(())
    }

    /// Seals a value for the scope of the row that was to be inserted; that the row in conflict has the same is checked
    /// by the server. `None` if that does not help.
    pub(super) fn seal_conflicting(
        &mut self,
        column: &Protected,
        what: plan::Operand,
        operand: &Operand,
    ) -> Option<Result<(), Refusal>> {
        let conflict = self.conflict.as_ref()?;
        let row = conflict.row.as_ref()?;
        let held = |name: &str| row.get(name).cloned().map(Part::Constant);
        let scope = written_scope(column, &held).ok()?;
        conflict.columns(column)?;
        let range = self.tokens.bytes(&operand.extent);
        self.guard(column, range);
        Some(self.slot(Make::Seal, what, column, scope, operand))
    }

    /// Moves a value of the row that was to be inserted; that the row in conflict has the same scope is checked by the
    /// server. False if that does not help.
    pub(super) fn move_conflicting(
        &mut self,
        value: &Expr,
        sealed: &Sealed,
        column: &Protected,
    ) -> Result<bool, Refusal> {
        let Some(conflict) = &self.conflict else {
            return Ok(false);
        };
        let excluded = conflict.excluded;
        let held = |name: &str| self.part_of_row(excluded, name);
        if self.check_move(sealed, column, &held).is_err() || conflict.columns(column).is_none() {
            return Ok(false);
        }
        let extent = self.tokens.extent(value)?;
        self.guard(column, self.tokens.bytes(&extent));
        Ok(true)
    }

    /// Sets a scope column of the row in conflict to the other's only where that changes nothing. False outside of ON
    /// CONFLICT.
    pub(super) fn keep_conflicting(&mut self, column: &str, value: &Expr) -> Result<bool, Refusal> {
        let Some(conflict) = &self.conflict else {
            return Ok(false);
        };
        let columns = [column.to_owned()];
        let there = row_key(&conflict.name, &columns);
        let excluded = row_key("excluded", &columns);
        let extent = self.tokens.extent(value)?;
        let range = self.tokens.bytes(&extent);
        self.edits.open(
            range.start,
            format!("(CASE WHEN {there} OPERATOR(pg_catalog.=) {excluded} THEN "),
        );
        self.edits.close(
            range.end,
            format!(
                " WHEN {} IS NULL THEN NULL END)",
                failing(CONFLICT_OF_SCOPES)
            ),
        );
        Ok(true)
    }

    /// Puts a value that is sealed for the scope of the row that was to be inserted where only rows of that scope get it.
    fn guard(&mut self, column: &Protected, range: std::ops::Range<usize>) {
        let Some(conflict) = &self.conflict else {
            return;
        };
        let Some(columns) = conflict.columns(column) else {
            return;
        };
        let (there, excluded) = (
            row_key(&conflict.name, &columns),
            row_key("excluded", &columns),
        );
        self.note(format!(
            "The server checks that the row in conflict has the scope that values for {} are sealed for.",
            refusals::name_of(column)
        ));
        self.edits.open(
            range.start,
            format!("(CASE WHEN {there} OPERATOR(pg_catalog.=) {excluded} THEN "),
        );
        self.edits.close(
            range.end,
            format!(" ELSE {} END)", failing(CONFLICT_OF_SCOPES)),
        );
    }

    /// The columns of a constraint. Uniqueness of a protected column is an index on its terms, which is no constraint to
    /// Postgres: the index's keys are named instead.
    fn constraint(
        &mut self,
        name: &sqlparser::ast::ObjectName,
        target: &Target<'a>,
    ) -> Result<Vec<i16>, Refusal> {
        let idents = idents_of(name)?;
        let [ident] = idents.as_slice() else {
            return Err(refusals::construct("this form of ON CONSTRAINT"));
        };
        self.account(ident);
        let name = name_of(ident);
        if target.written.named.oid != target.relation.oid {
            let at = self.tokens.starting(ident.span.start);
            let message = format!(
                "constraint \"{name}\" for table \"{}\" does not exist",
                target.written.named.name
            );
            return Err(Refusal::new("42704", "undefined-object", message)
                .at(at.map_or(0, |at| self.tokens.range(at).start)));
        }
        let Some(index) = target.relation.uniques.iter().find(|u| u.name == name) else {
            // Of another kind, or none: the server knows.
            return Ok(Vec::new());
        };
        let columns = &target.relation.columns;
        let mut attnums = Vec::new();
        let mut on_terms = false;
        for (attnum, key) in index.attnums.iter().zip(&index.keys) {
            let Some((_, inner)) = catalog::term_key(key) else {
                attnums.push(*attnum);
                continue;
            };
            on_terms = true;
            let inner = inner.trim_start_matches('(');
            let named = |column: &&catalog::Column| {
                let quoted = quote_identifier(&column.name);
                [quoted.as_str(), column.name.as_str()].iter().any(|name| {
                    let rest = inner.strip_prefix(name);
                    rest.is_some_and(|rest| {
                        rest.is_empty() || rest.starts_with(')') || rest.starts_with("::")
                    })
                })
            };
            let column = columns.iter().find(named);
            attnums.push(column.map_or(0, |column| column.attnum));
        }
        if !on_terms {
            return Ok(attnums);
        }
        let place = self.tokens.starting(ident.span.start);
        let Some(at) = place.filter(|_| !index.partial && !attnums.contains(&0)) else {
            return Err(
                refusals::construct("ON CONFLICT ON CONSTRAINT of this index")
                    .hint("Name the columns instead: ON CONFLICT (column)."),
            );
        };
        let range = self.tokens.range(at - 2).start..self.tokens.range(at).end;
        let mut keys = index.keys.clone();
        for (attnum, key) in attnums.iter().zip(&mut keys) {
            if let Some(protected) = self.protected(target.relation, *attnum) {
                let sealed = Sealed::new(std::sync::Arc::clone(protected), target.instance);
                check_conflict_scope(&sealed, target, &attnums)
                    .map_err(|refusal| refusal.at(range.start))?;
                // While the column gets other terms there are two indexes, of which one goes: the compared terms stay.
                let number = protected.generation.number;
                if catalog::term_key(key).is_some_and(|(other, _)| other != number) {
                    *key = format!("{}{})", eq_term(&sealed), quote_identifier(&protected.name));
                }
            }
        }
        self.note(format!(
            "\"{name}\" is an index on search terms; ON CONFLICT names its keys."
        ));
        let keys = format!("({})", keys.join(", "));
        self.edits.replace(range, plan::Replacement::Text(keys));
        Ok(attnums)
    }

    /// The row that is there and the row that was to be inserted are equal in the conflict target.
    fn conflict_facts(
        &mut self,
        target: &Target<'_>,
        excluded: usize,
        keys: &[i16],
        row: Option<&RowConstants>,
    ) {
        for attnum in keys {
            if self.protected(target.relation, *attnum).is_none() {
                let cell = |instance| Cell {
                    instance,
                    attnum: *attnum,
                };
                self.add_same(cell(target.instance), cell(excluded));
            }
        }
        for column in &target.relation.columns {
            if let Some(constant) = row.and_then(|row| row.get(&column.name)) {
                let cell = Cell {
                    instance: excluded,
                    attnum: column.attnum,
                };
                self.facts.push(Fact::Is(cell, constant.clone()));
            }
        }
    }
}

/// Rows of two scopes never conflict by their terms, so the scope must be part of the target.
fn check_conflict_scope(sealed: &Sealed, target: &Target<'_>, keys: &[i16]) -> Result<(), Refusal> {
    let column = sealed.column();
    if column.search_key == SearchKey::Shared {
        return Ok(());
    }
    let in_target = |name: &&str| {
        let found = target
            .relation
            .columns
            .iter()
            .find(|column| column.name == **name);
        found.is_some_and(|found| keys.contains(&found.attnum))
    };
    if column.scope.columns().iter().all(in_target) {
        Ok(())
    } else {
        Err(refusals::scope_not_pinned(column, "ON CONFLICT")
            .hint("Make the scope's columns part of the conflict target."))
    }
}
