//! Keys that a KEK does not unwrap any more: what would be lost with them, told before anything is done. It moves no key.

use std::collections::BTreeMap;

use pgveil_config::ScopePath;
use pgveil_jobs::uses::Uses;
use pgveil_keys::{Purpose, rewrap::loss::Lost};
use serde_json::{Value, json};

use super::table;

/// Reasons and places that are shown of one key.
const MAX_COLUMNS: usize = 3;

/// What would be lost.
pub(super) struct Loss<'a> {
    lost: &'a [Lost],
    uses: &'a Uses,
}

impl<'a> Loss<'a> {
    pub(super) fn new(lost: &'a [Lost], uses: &'a Uses) -> Self {
        Self { lost, uses }
    }

    /// Values that could not be read any more.
    pub(super) fn values(&self) -> u64 {
        self.lost.iter().map(|lost| self.of(lost)).sum()
    }

    fn of(&self, lost: &Lost) -> u64 {
        match lost.key.purpose {
            Purpose::Data => self.uses.of(lost.key.id),
            Purpose::Index => 0,
        }
    }

    fn places(&self, lost: &Lost) -> String {
        let none = BTreeMap::new();
        let columns = self.uses.values.get(&lost.key.id).unwrap_or(&none);
        let mut named: Vec<&str> = { columns.keys() }
            .map(String::as_str)
            .take(MAX_COLUMNS)
            .collect();
        if columns.len() > MAX_COLUMNS {
            named.push("...");
        }
        named.join(", ")
    }

    /// Scopes whose search terms cannot be made.
    fn unsearched(&self) -> Vec<&str> {
        let index = |lost: &&Lost| lost.key.purpose == Purpose::Index;
        let mut scopes: Vec<&str> = { self.lost.iter().filter(index) }
            .map(|lost| lost.key.scope.as_str())
            .collect();
        scopes.dedup();
        scopes
    }

    pub(super) fn print(&self) {
        let rows = self.lost.iter().map(|lost| {
            let key = &lost.key;
            vec![
                key.id.to_string(),
                key.scope.clone(),
                key.purpose.as_str().to_owned(),
                key.provider.clone(),
                key.kek.clone(),
                table::version_of(&key.kek, &key.wrapped.kek_version),
                self.of(lost).to_string(),
                self.places(lost),
                lost.source.to_string(),
            ]
        });
        table::print(
            &[
                "ID", "SCOPE", "PURPOSE", "PROVIDER", "KEY", "VERSION", "VALUES", "IN", "WHY",
            ],
            rows,
        );
        println!();
    }

    pub(super) fn as_json(&self) -> Value {
        let each = self.lost.iter().map(|lost| {
            let key = &lost.key;
            json!({
                "id": key.id,
                "scope": key.scope,
                "purpose": key.purpose.as_str(),
                "provider": key.provider,
                "key": key.kek,
                "key_version": key.wrapped.kek_version,
                "values": self.of(lost),
                "in": self.uses.values.get(&key.id),
                "why": lost.source.to_string(),
            })
        });
        json!({ "keys": each.collect::<Vec<_>>(), "values": self.values() })
    }

    /// Why nothing was done, and what can be.
    pub(super) fn refusal(&self, scope: &ScopePath) -> String {
        let mut text = format!(
            "{} keys are not unwrapped by their KEK any more, and {} values could not be read without them; nothing was changed. \
             Bring the KEK back, or run it again with --accept-loss and a token for dek.rewrap on {scope}; it asks for that name again: the other keys are moved, \
             and scopes get a next data key in the place of a lost one. Lost keys stay where they are: their values are refused, and open again \
             if the KEK comes back",
            self.lost.len(),
            self.values(),
        );
        text.extend(self.hint());
        text
    }

    /// What accepting does not help.
    pub(super) fn hint(&self) -> Option<String> {
        let scopes = self.unsearched();
        let (first, more) = (scopes.first()?, scopes.len() - 1);
        let more = if more > 0 {
            format!(" and of {more} scopes more")
        } else {
            String::new()
        };
        Some(format!(
            ". The index key of {first}{more} is among them: columns with search terms can be neither compared nor written there; \
             `pgveil scopes erase` and `pgveil unseal` let a scope begin anew"
        ))
    }
}
