//! How to treat rows that come without a description of their own: those of portals and cursors.

use std::sync::Arc;

use pgveil_policy::plan::Output;

use super::super::{
    ledger::{Ledger, Portal},
    lock,
    names::Planned,
    results::{ResultRules, with_formats},
};

/// The rules for a portal's rows, made at its first row if no Describe made them.
pub(super) fn portal_rules(portal: &Portal, ledger: &Ledger) -> Arc<ResultRules> {
    if let Some(rules) = lock(&portal.rules).as_ref() {
        return Arc::clone(rules);
    }
    let described = lock(&portal.statement.described).clone();
    let rules = match (Planned::of_portal(portal), described) {
        (Some(planned), _) => cursor_rules(Some(ledger.follow(planned)), &portal.formats),
        (None, Some(described)) => with_formats(&described, &portal.formats),
        (None, None) => ResultRules::unknown(),
    };
    let rules = Arc::new(rules);
    *lock(&portal.rules) = Some(Arc::clone(&rules));
    rules
}

/// The rules for rows that were never described, by the analysis alone.
pub(super) fn cursor_rules(planned: Option<Planned>, formats: &[i16]) -> ResultRules {
    match &planned {
        Some(planned) => match (planned.output(), &planned.view) {
            (Output::Explained, _) => ResultRules::explained(1),
            (Output::Fields(fields), Some(view)) => {
                ResultRules::planned(&planned.ruleset, view, fields, formats)
            }
            _ => ResultRules::unknown(),
        },
        None => ResultRules::unknown(),
    }
}
