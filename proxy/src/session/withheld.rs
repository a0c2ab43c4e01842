//! Who was shown a mask or NULL instead of a protected value, for the audit log: once for each role, address and column in a
//! while, not for each value. What is shown is decided where values are opened.

use std::time::{Duration, Instant};

use dashmap::DashMap;
use pgveil_keys::{
    Keys,
    audit::{Actor, Event, Operation, Outcome},
};
use pgveil_policy::{
    Ruleset,
    plan::{ColumnId, Field, Shape},
};
use serde_json::json;

/// How long the same refusal is not recorded again.
const AGAIN_AFTER: Duration = Duration::from_mins(10);
/// Refusals remembered. Beyond it nothing is forgotten in the log: what is not remembered is recorded again.
const MAX_REMEMBERED: usize = 16_384;

/// Which refusals were recorded a while ago.
#[derive(Debug, Default)]
pub struct Withheld(DashMap<(String, String, ColumnId), Instant>);

impl Withheld {
    /// Records that whoever the task acts for asked for these columns and may not see them.
    pub fn note(&self, keys: &Keys, rules: &Ruleset, columns: &[ColumnId]) {
        let (actor, now) = (Actor::current(), Instant::now());
        for id in columns {
            let Some(column) = rules.columns.get(id) else {
                continue;
            };
            let who = (actor.name.clone(), actor.address.clone(), *id);
            let known = self.0.get(&who).map(|noted| *noted);
            if known.is_some_and(|noted| now < noted + AGAIN_AFTER) {
                continue;
            }
            if self.0.len() >= MAX_REMEMBERED {
                self.0.retain(|_, noted| now < *noted + AGAIN_AFTER);
            }
            if self.0.len() < MAX_REMEMBERED {
                self.0.insert(who, now);
            }
            let event = Event::new(Operation::RevealRefuse)
                .outcome(Outcome::Refused)
                .actor(actor.clone())
                .detail(json!({ "column": column.display_name() }));
            keys.record(event);
        }
    }
}

/// The columns whose values a result may hold and its reader may not see.
pub fn of_fields(fields: &[Field], revealed: &[ColumnId]) -> Vec<ColumnId> {
    let mut found = Vec::new();
    for field in fields {
        match field {
            Field::Plain => {}
            Field::Sealed { columns, .. } => found.extend(columns),
            Field::Holder(shape) => inside(shape, &mut found),
        }
    }
    found.retain(|id| !revealed.contains(id));
    found.sort_unstable();
    found.dedup();
    found
}

fn inside(shape: &Shape, found: &mut Vec<ColumnId>) {
    match shape {
        Shape::Plain => {}
        Shape::Sealed { columns, .. } | Shape::Json { columns, .. } => found.extend(columns),
        Shape::Array { element, .. } | Shape::Listed { element, .. } => inside(element, found),
        Shape::Row(fields) | Shape::Text { fields, .. } => {
            for field in fields {
                inside(field, found);
            }
        }
    }
}
