//! The plan for programs. Says nothing that the plan does not hold.

use pgveil_config::Diagnostic;
use pgveil_policy::ruleset::Step;
use serde_json::{Value, json};

use super::{ChangePlan, Estimate, IndexStep, Obstacle, PlanReport, SchemaStep, TablePlan, Trace};
use crate::migrate::Migration;

impl PlanReport {
    /// Sizes are bytes, times seconds; what is not known is null.
    pub fn json(&self) -> Value {
        let table = |table: &TablePlan| {
            let estimate = self.estimates.iter().find(|guess| guess.oid == table.oid);
            of_table(table, estimate)
        };
        json!({
            "database": self.database,
            "nothing_to_do": self.is_nothing_to_do(),
            "blocked": self.is_blocked(),
            "schema": schema(self.schema),
            "tables": all(&self.tables, table),
            "changes": all(&self.changes, change),
            "migrations": all(&self.migrations, Migration::json),
            "traces": all(&self.traces, trace),
            "errors": all(&self.findings, finding_json),
            "warnings": all(&self.warnings, finding_json),
        })
    }
}

/// What is wrong, and where.
pub fn finding_json(found: &Diagnostic) -> Value {
    let at = found.at.as_ref();
    json!({
        "file": at.map(|at| at.file.display().to_string()),
        "line": at.map(|at| at.line),
        "column": at.map(|at| at.column),
        "message": found.message,
        "cure": found.cure,
    })
}

fn all<T>(of: &[T], each: impl Fn(&T) -> Value) -> Vec<Value> {
    of.iter().map(each).collect()
}

fn schema(step: SchemaStep) -> Value {
    match step {
        SchemaStep::UpToDate => json!({ "step": "none" }),
        SchemaStep::Install { version } => json!({ "step": "install", "to": version }),
        SchemaStep::Upgrade { from, to } => json!({ "step": "upgrade", "from": from, "to": to }),
    }
}

fn of_table(table: &TablePlan, estimate: Option<&Estimate>) -> Value {
    let columns = { table.columns.iter() }.map(|column| {
        json!({
            "name": column.name,
            "from": column.from_name,
            "to": format!("pgveil.{}", column.to.domain()),
            "type": column.to.sql_name(),
            "equality": column.equality,
        })
    });
    let estimate = estimate.map(|guess| {
        json!({
            "sealed_bytes": guess.sealed.round(),
            "index_bytes": guess.indexes.round(),
            "at_once_s": guess.at_once.0,
            "at_once_bytes": guess.at_once.1.round(),
            "online_s": guess.online.0,
            "online_bytes": guess.online.1.round(),
            "paced_s": guess.paced,
        })
    });
    json!({
        "table": table.shown(),
        "rows": table.rows,
        "bytes": table.bytes,
        "columns": columns.collect::<Vec<_>>(),
        "indexes": all(&table.indexes, index),
        "obstacles": all(&table.obstacles, obstacle),
        "not_online": table.only_at_once,
        "estimate": estimate,
    })
}

fn change(change: &ChangePlan) -> Value {
    let step = match &change.wanted.step {
        Step::AddTerms { .. } => json!({ "step": "add terms" }),
        Step::TurnTerms(new) => json!({
            "step": "other terms", "shared_key": new.shared_key, "group": new.equality_group,
        }),
        Step::DropTerms => json!({ "step": "drop terms" }),
        Step::Widen { from, to } => {
            json!({ "step": "widen", "from": from.to_string(), "to": to.to_string() })
        }
        Step::Narrow { from, to } => {
            json!({ "step": "narrow", "from": from.to_string(), "to": to.to_string() })
        }
    };
    let obstacles = change.table.obstacles.iter().chain(&change.obstacles);
    json!({
        "column": change.shown(),
        "change": step,
        "rows": change.table.rows,
        "bytes": change.table.bytes,
        "indexes": all(&change.indexes, index),
        "obstacles": obstacles.map(obstacle).collect::<Vec<_>>(),
    })
}

fn index(step: &IndexStep) -> Value {
    let what = match (&step.drop, &step.create) {
        (Some(_), Some(_)) => "change",
        (None, _) => "make",
        (Some(_), None) => "drop",
    };
    json!({ "name": step.name, "step": what, "becomes": step.summary })
}

fn obstacle(obstacle: &Obstacle) -> Value {
    json!({ "blocks": obstacle.blocks, "what": obstacle.what, "cure": obstacle.cure })
}

fn trace(trace: &Trace) -> Value {
    json!({
        "table": trace.table,
        "bytes": trace.bytes,
        "dropped_at": trace.dropped_at,
        "dead_rows": trace.dead_rows,
    })
}
