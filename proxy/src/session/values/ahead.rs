//! The keys that all values of a statement need, had together when the first one of them is not in memory: rows of many scopes
//! wait for their keys once, not one after the other. It seals nothing, and what fails here fails again where it is needed.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
};

use pgveil_keys::Wanted;
use pgveil_policy::{
    plan::{Make, Slot},
    ruleset::Protected,
    types::Conversion,
};

use super::{Maker, key_of};
use crate::session::scoped::Scoped;

/// Whether it was looked ahead for the keys of one execution.
#[derive(Debug, Default)]
pub struct Ahead(AtomicBool);

impl Maker<'_> {
    /// Has the keys of all values whose scopes are known by now. Once for each execution.
    pub(super) async fn keys_ahead(&self) {
        if self.ahead.0.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut wanted = HashSet::new();
        for (index, slot) in self.prepared.plan.slots.iter().enumerate() {
            if let Some(column) = self.rules.columns.get(&slot.column) {
                self.want(index, slot, column, &mut wanted);
            }
        }
        wanted.retain(|key| !self.engine.keys.has(key));
        // One alone is had where it is needed.
        if wanted.len() > 1 {
            self.engine.keys.ready(wanted).await;
        }
    }

    fn want(&self, index: usize, slot: &Slot, column: &Protected, wanted: &mut HashSet<Wanted>) {
        match slot.make {
            Make::Seal | Make::SealBare => {
                let value = self.value(&slot.operand, column.logical, Conversion::Assignment);
                if let (Ok(Some(_)), Ok(scope)) = (value, self.scope(index, slot)) {
                    want_to_seal(column, &scope, wanted);
                }
            }
            Make::SealElements => {
                let elements = self.scoped_elements(index, slot, column);
                for (_, scope) in elements.into_iter().flatten().flatten().flatten() {
                    want_to_seal(column, &scope, wanted);
                }
            }
            Make::SealPerScope | Make::SealElementsPerScope => {
                let slots = self.prepared.plan.slots.len();
                for (_, scope) in self.asked_scopes(slot, slots).into_iter().flatten() {
                    want_to_seal(column, &scope, wanted);
                }
            }
            Make::SealFetched => {
                for scope in self.fetched_scopes(slot) {
                    want_to_seal(column, &scope, wanted);
                }
            }
            Make::EqualityTerm | Make::EqualityTerms => {
                if let Ok(scope) = self.scope(index, slot) {
                    want_to_compare(column, &scope, wanted);
                }
            }
            Make::SealMembers => {}
        }
    }
}

pub(super) fn want_to_seal(column: &Protected, scope: &Scoped, wanted: &mut HashSet<Wanted>) {
    wanted.insert(Wanted::Sealing(scope.sealing(column).clone()));
    if !column.terms {
        return;
    }
    want_to_compare(column, scope, wanted);
    if let Some(other) = &column.also {
        let (owner, newest) = key_of(other.search_key(), other.generation, scope.other());
        wanted.insert(Wanted::Index(owner.into_owned(), newest));
    }
}

fn want_to_compare(column: &Protected, scope: &Scoped, wanted: &mut HashSet<Wanted>) {
    let (owner, newest) = key_of(column.search_key, column.generation, scope.compared());
    wanted.insert(Wanted::Index(owner.into_owned(), newest));
}
