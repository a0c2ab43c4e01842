//! PREPARE: the statement inside is planned as if Parse had sent it, and PREPARE's list of types becomes the server's.

use std::{ops::Range, sync::Arc};

use zeroize::Zeroizing;

use super::{
    Protocol, refusals,
    statement::{Changes, Door, Verdict},
    type_name,
};
use crate::{
    Refusal,
    plan::{Edit, Operand, Output, Plan, PreparedStatement, Replacement, ServerParam, Slot},
    types::LogicalType,
};

/// Stands for a declared type that is no logical type; no type has this OID.
const OTHER_TYPE: u32 = u32::MAX;

impl Door<'_> {
    /// The types of PREPARE's list as Parse would declare them.
    pub(super) fn declared_types(&self, types: &[Range<usize>]) -> Vec<u32> {
        types.iter().map(|range| self.type_oid(range)).collect()
    }

    fn type_oid(&self, range: &Range<usize>) -> u32 {
        let text = &self.tokens.sql[self.tokens.bytes(range)];
        let folded = text.to_ascii_lowercase();
        if folded.strip_prefix("pg_catalog.").unwrap_or(&folded) == "unknown" {
            return 0;
        }
        let logical = type_name::named(text, &self.rules.catalog, self.view);
        logical.map_or(OTHER_TYPE, LogicalType::oid)
    }

    /// What becomes of PREPARE, and what the session must keep.
    pub(super) fn prepare(
        &self,
        list: &Range<usize>,
        types: &[Range<usize>],
        inner: &Range<usize>,
        declared: Vec<u32>,
    ) -> Result<(Verdict, Option<Arc<PreparedStatement>>), Refusal> {
        let start = self.tokens.range(inner.start).start;
        if !self.names_protected(inner) {
            return Ok((Verdict::Relay, None));
        }
        const PREPARABLE: [&str; 9] = [
            "select", "with", "values", "table", "insert", "update", "delete", "merge", "(",
        ];
        if !PREPARABLE
            .iter()
            .any(|word| self.tokens.raw(inner.start).eq_ignore_ascii_case(word))
        {
            return Err(refusals::construct("PREPARE of this").at(start));
        }
        let sql = &self.tokens.sql[self.tokens.bytes(inner)];
        let moved = |mut refusal: Refusal| {
            refusal.position = refusal.position.map(|at| at + start);
            refusal
        };
        let plan = self
            .rules
            .analyse_in(sql, self.view, self.kept, Protocol::Extended, &declared)
            .map_err(moved)?;
        if let Some(refusal) = plan.statements.iter().find_map(|s| s.refused.clone()) {
            return Err(moved(refusal));
        }
        // For its time the server is asked when the statement is executed.
        let asks_scopes = plan
            .scope_queries
            .iter()
            .any(|query| query.moments.is_empty());
        if asks_scopes {
            return Err(refusals::asks_in_prepare().at(start));
        }
        if let Some(slot) = plan.slots.iter().find(|slot| computes_with_arguments(slot)) {
            let column = self.rules.columns.get(&slot.column);
            let refusal = column.map(|column| refusals::not_constant(column));
            return Err(refusal.unwrap_or_else(refusals::asks_in_prepare).at(start));
        }
        if plan.is_identity() && plan.statements.iter().all(|s| s.output == Output::Unknown) {
            return Ok((Verdict::Relay, None));
        }
        let mut edits = Vec::from_iter(self.new_list(list, types, &plan));
        edits.extend(plan.edits.iter().map(|edit| Edit {
            range: edit.range.start + start..edit.range.end + start,
            with: Replacement::Text(sent(&edit.with, &plan)),
        }));
        let changes = Changes {
            edits,
            slots: Vec::new(),
            parameters: self.no_parameters(),
            output: Output::None,
            notes: plan.notes.clone(),
            scope_queries: Vec::new(),
            tag: None,
        };
        let statement = PreparedStatement {
            sql: Zeroizing::new(sql.to_owned()),
            declared,
            plan: Arc::new(plan),
        };
        Ok((
            Verdict::Changed(Box::new(changes)),
            Some(Arc::new(statement)),
        ))
    }

    /// PREPARE's list with the server's types, if it changes.
    fn new_list(&self, list: &Range<usize>, types: &[Range<usize>], plan: &Plan) -> Option<Edit> {
        if plan.slots.is_empty() {
            return None;
        }
        let names = plan.server_params.iter().map(|param| match param {
            ServerParam::Client(n) => types.get(*n).map_or("unknown", |range| {
                &self.tokens.sql[self.tokens.bytes(range)]
            }),
            ServerParam::Slot(slot) if plan.slots[*slot].make.is_array() => "pg_catalog.bytea[]",
            ServerParam::Slot(_) => "pg_catalog.bytea",
        });
        let text = format!("({})", names.collect::<Vec<_>>().join(", "));
        // Without a list it stands behind the name.
        let range = if list.is_empty() {
            let at = self.tokens.range(list.start - 1).end;
            at..at
        } else {
            self.tokens.bytes(list)
        };
        Some(Edit {
            range,
            with: Replacement::Text(text),
        })
    }
}

/// `now() + $1`
fn computes_with_arguments(slot: &Slot) -> bool {
    match &slot.operand {
        Operand::Moment(timed) => timed.has_params(),
        _ => false,
    }
}

/// What an edit of a prepared statement puts in: its slots are parameters.
fn sent(with: &Replacement, plan: &Plan) -> String {
    match with {
        Replacement::Text(text) => text.clone(),
        Replacement::Param(param) => format!("${}", param + 1),
        Replacement::Slot(slot) => {
            let place = plan.server_params.iter();
            let place = { place }.position(|param| *param == ServerParam::Slot(*slot));
            format!("${}", place.map_or(0, |place| place + 1))
        }
    }
}
