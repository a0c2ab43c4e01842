//! MERGE: its arms write as INSERT and UPDATE do, each with what its own conditions say. What is written of a source of
//! literals and parameters is sealed where it stands (`meant`).

use sqlparser::{
    ast::{
        Expr, Merge, MergeAction, MergeClause, MergeClauseKind, MergeInsertExpr, MergeInsertKind,
        MergeUpdateExpr, MergeUpdateKind, OutputClause, TableFactor,
    },
    tokenizer::Token as Kind,
};

use super::{
    Analyser,
    expr::Cx,
    meant::Use,
    namespace::{Ctes, Namespace, Scope, name_of},
    query::Rows,
    refusals,
    touched::{MergeSections, Touched},
    written::Written,
};
use crate::Refusal;

/// The rows that an arm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Of both tables.
    Both,
    /// Of the source, without a partner.
    Source,
    /// Of the target, without a partner.
    Target,
}

/// What every arm is given.
struct Merged<'a, 'm> {
    written: Written<'a>,
    on: &'m Expr,
    /// The target alone, the source alone, and both.
    target: Namespace,
    source: Namespace,
    both: Namespace,
    ctes: &'m Ctes,
}

impl Merged<'_, '_> {
    /// The names that an arm sees.
    fn names(&self, side: Side) -> &Namespace {
        match side {
            Side::Both => &self.both,
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }
}

impl<'a> Analyser<'a> {
    /// A MERGE, and what it returns.
    pub(super) fn merge(&mut self, merge: &Merge, ctes: &Ctes) -> Result<Rows, Refusal> {
        let returning = match &merge.output {
            None => None,
            Some(OutputClause::Returning { select_items, .. }) => Some(select_items.as_slice()),
            Some(OutputClause::Output { .. }) => return Err(refusals::construct("OUTPUT")),
        };
        if !merge.into || !merge.optimizer_hints.is_empty() {
            return Err(refusals::construct("an unusual form of MERGE"));
        }
        let (written, target) = self.target(&merge.table)?;
        if written.is_view() {
            return Err(refusals::construct("MERGE into a view").hint("Name the table."));
        }
        let mark = self.facts.len();
        let none = Namespace::default();
        let mut conditions = Vec::new();
        let source = self.factor(&merge.source, &none, None, ctes, &mut conditions)?;
        self.source_cells(&source);
        let inner = Scope {
            names: &source,
            parent: None,
        };
        let cx = Cx {
            scope: &inner,
            ctes,
            grouping: None,
        };
        self.facts_of(&conditions, None, cx);
        self.join_conditions(&conditions, cx)?;
        let mut merged = Merged {
            written,
            on: &merge.on,
            both: target.clone().and(source.clone()),
            target,
            source,
            ctes,
        };
        self.touched_rows = self.merge_touched(merge, &merged);
        let mut uses = Vec::new();
        for clause in &merge.clauses {
            uses.extend(self.arm_uses(clause, &merged)?);
        }
        let both = merged.both.clone();
        let scope = Scope {
            names: &both,
            parent: None,
        };
        let cx = Cx {
            scope: &scope,
            ctes,
            grouping: None,
        };
        merged.source = self.seal_sources(&uses, merged.source, cx)?;
        merged.both = merged.target.clone().and(merged.source.clone());
        let scope = Scope {
            names: &merged.both,
            parent: None,
        };
        self.condition(
            &merge.on,
            Cx {
                scope: &scope,
                ..cx
            },
        )?;
        for clause in &merge.clauses {
            self.arm(clause, &merged)?;
        }
        self.ask_touched()?;
        self.facts.truncate(mark);
        // `*` shows the source first.
        let names = merged.source.and(merged.target);
        self.returning(returning, &names, ctes)
    }

    /// Analyses something of an arm with what its conditions say.
    fn within<T>(
        &mut self,
        clause: &MergeClause,
        merged: &Merged<'_, '_>,
        analyse: impl FnOnce(&mut Self, Cx<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let side = side_of(clause);
        let scope = Scope {
            names: merged.names(side),
            parent: None,
        };
        let cx = Cx {
            scope: &scope,
            ctes: merged.ctes,
            grouping: None,
        };
        let mark = self.facts.len();
        if side == Side::Both {
            self.collect_facts(merged.on, cx);
        }
        if let Some(predicate) = &clause.predicate {
            self.collect_facts(predicate, cx);
        }
        let done = analyse(self, cx);
        self.facts.truncate(mark);
        done
    }

    /// What an arm writes to protected columns, besides literals and parameters.
    fn arm_uses<'q>(
        &mut self,
        clause: &'q MergeClause,
        merged: &Merged<'a, '_>,
    ) -> Result<Vec<Use<'q>>, Refusal> {
        let written = &merged.written;
        self.within(clause, merged, |this, cx| match &clause.action {
            MergeAction::Insert(insert) => {
                let target = this.insert_target(&insert.columns, written.clone())?;
                this.row_uses(inserted(insert)?, &target, &merged.source, cx)
            }
            MergeAction::Update(MergeUpdateExpr {
                kind: MergeUpdateKind::Set(assignments),
                ..
            }) => this.assigned_uses(assignments, written, &merged.source, cx),
            _ => Ok(Vec::new()),
        })
    }

    fn arm(&mut self, clause: &MergeClause, merged: &Merged<'a, '_>) -> Result<(), Refusal> {
        let written = &merged.written;
        // One arm that changes scopes does not keep the others from asking for theirs.
        let touched = self.touched_rows.clone();
        self.within(clause, merged, |this, cx| {
            if let Some(predicate) = &clause.predicate {
                this.boolean(predicate, cx)?;
            }
            match &clause.action {
                MergeAction::Insert(insert)
                    if insert.columns.is_empty() && written.named.reshaped =>
                {
                    let what = "INSERT without a list of columns";
                    Err(refusals::reshaped(what, &written.named.name))
                }
                MergeAction::Insert(insert) => {
                    let touched = this.touched_rows.take();
                    let target = this.insert_target(&insert.columns, written.clone())?;
                    this.row(inserted(insert)?, &target, cx)?;
                    this.touched_rows = touched;
                    Ok(())
                }
                MergeAction::Update(update) => {
                    let (MergeUpdateKind::Set(assignments), None, None) = (
                        &update.kind,
                        &update.update_predicate,
                        &update.delete_predicate,
                    ) else {
                        return Err(refusals::construct("this form of UPDATE in MERGE"));
                    };
                    this.assignments(assignments, written, cx)
                }
                MergeAction::Delete { .. } | MergeAction::DoNothing { .. } => Ok(()),
            }
        })?;
        self.touched_rows = self.touched_rows.take().or(touched);
        Ok(())
    }

    /// The rows whose scopes the server can be asked for.
    fn merge_touched(&self, merge: &Merge, merged: &Merged<'_, '_>) -> Option<Touched> {
        let TableFactor::Table { name, alias, .. } = &merge.table else {
            return None;
        };
        let scope = Scope {
            names: &merged.both,
            parent: None,
        };
        let cx = Cx {
            scope: &scope,
            ctes: merged.ctes,
            grouping: None,
        };
        let alias = alias.as_ref().map(|alias| name_of(&alias.name));
        let touched = self.touched(name, alias, &merged.written, Some(&merge.on), cx)?;
        let sections = self.merge_sections(merge)?;
        Some(Self::merge_touches(touched, sections))
    }

    /// Finds the parts of the MERGE.
    fn merge_sections(&self, merge: &Merge) -> Option<MergeSections> {
        let tokens = self.tokens;
        let start = tokens.starting(merge.merge_token.0.span.start)?;
        let when = merge.clauses.first()?.when_token.0.span.start;
        let when = tokens.starting(when)?;
        let (mut using, mut on) = (None, None);
        let mut at = start + 2;
        while at < when {
            match tokens.kind(at) {
                Kind::LParen => {
                    at = tokens.pair(at)? + 1;
                    continue;
                }
                _ if using.is_none() && tokens.is_word(at, "using") => using = Some(at),
                // The last: those before it are of a join.
                _ if using.is_some() && tokens.is_word(at, "on") => on = Some(at),
                _ => {}
            }
            at += 1;
        }
        let (using, on) = (using?, on?);
        // Rows without a partner are touched too: all rows may be.
        let alone = merge.clauses.iter().any(|clause| {
            side_of(clause) == Side::Target && matches!(clause.action, MergeAction::Update(_))
        });
        Some(MergeSections {
            merge: start,
            table: start + 2..using,
            matched: (!alone).then_some((using + 1..on, on + 1..when)),
        })
    }
}

fn side_of(clause: &MergeClause) -> Side {
    match clause.clause_kind {
        MergeClauseKind::Matched => Side::Both,
        MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => Side::Source,
        MergeClauseKind::NotMatchedBySource => Side::Target,
    }
}

/// The values that an arm inserts.
fn inserted(insert: &MergeInsertExpr) -> Result<&[Expr], Refusal> {
    match (&insert.kind, &insert.insert_predicate) {
        (MergeInsertKind::Values(values), None) => match values.rows.as_slice() {
            [row] => Ok(&row.content),
            _ => Err(refusals::construct("INSERT of several rows in MERGE")),
        },
        _ => Err(refusals::construct("this form of INSERT in MERGE")),
    }
}
