//! What this process has read in the audit log and does not forget: which records wrote the rows of seals last, and which ended
//! keys. Who takes rows and the entries of the lists of changes out of the tables has none of it undone here.
//!
//! It is filled by the reading of the whole log ([`super::lists`]) and by what is recorded from then on
//! ([`crate::keystore`]). A log that went back behind what was read is remembered too: nothing is shown by it any more.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Log, Operation, Record, chain::Tip, record::Hash};
use crate::{audit::chain::link, keystore::KeystoreError};

/// Scopes, and keys, that are remembered; what `pgveil.row_changes` and `pgveil.key_changes` say holds for all.
const MAX_REMEMBERED: usize = 1 << 18;
/// As records name rows of `pgveil.scopes`.
const SCOPES: &str = "scopes ";

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Up to where the log was followed.
    tip: Option<Tip>,
    /// By scope, the last record that wrote its row.
    scopes: HashMap<String, u64>,
    /// By key, the record that ended it.
    ended: HashMap<u64, u64>,
    /// What shows that the log is not the one that was read.
    set_back: Option<String>,
}

impl Remembered {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to where the log was followed.
    pub(crate) fn tip(&self) -> Option<Tip> {
        self.lock().tip
    }

    /// That it was followed up to there.
    pub(crate) fn follow(&self, tip: Tip) {
        self.lock().tip = Some(tip);
    }

    /// That all of it was read up to there: what came since is followed from there on.
    pub(super) fn read_to(&self, tip: Tip) {
        let mut inner = self.lock();
        if inner.tip.is_none_or(|followed| followed.seq > tip.seq) {
            inner.tip = Some(tip);
        }
    }

    /// Learns from a record that was judged.
    pub(crate) fn learn(&self, record: &Record) {
        let ends = [Operation::ScopeErase, Operation::KeyDestroy];
        let ends = ends.iter().any(|ends| record.operation == ends.as_str());
        let rows = record.changed_rows();
        let scopes = rows.iter().filter_map(|row| row.strip_prefix(SCOPES));
        let mut inner = self.lock();
        for scope in scopes {
            if inner.scopes.len() < MAX_REMEMBERED || inner.scopes.contains_key(scope) {
                let last = inner.scopes.entry(scope.to_owned()).or_default();
                *last = record.seq.max(*last);
            }
        }
        if ends {
            for key in record.changed_keys() {
                if inner.ended.len() < MAX_REMEMBERED {
                    inner.ended.insert(key, record.seq);
                }
            }
        }
    }

    /// The last record that wrote the row of a scope, as far as this process knows.
    pub(crate) fn scope(&self, path: &str) -> Option<u64> {
        self.lock().scopes.get(path).copied()
    }

    /// Whether any scope's is known.
    pub(crate) fn knows_scopes(&self) -> bool {
        !self.lock().scopes.is_empty()
    }

    /// Whether a row of a key is from before the key was ended.
    pub(crate) fn was_ended(&self, key: u64, record: u64) -> bool {
        self.lock().ended.get(&key).is_some_and(|end| record < *end)
    }
}

impl Log {
    /// Remembers that the log is not the one that this process has read.
    pub(crate) fn went_back(&self, why: &str) {
        let mut inner = self.remembered.lock();
        if inner.set_back.is_none() {
            tracing::error!(
                why,
                "the audit log was set back, and the keystore with it: nothing protected is shown or written any more"
            );
            inner.set_back = Some(why.to_owned());
        }
    }

    /// Refuses once the log went back: what the keystore says since then may have been taken back by whoever did that.
    pub fn stands(&self) -> Result<(), KeystoreError> {
        match &self.remembered.lock().set_back {
            None => Ok(()),
            Some(why) => Err(KeystoreError::Damaged {
                table: "pgveil.audit_head",
                reason: why.clone(),
            }),
        }
    }
}

/// The end of the chain behind a record as it is stored.
pub(crate) fn behind(record: &Record, bytes: &[u8], mac: &[u8]) -> Option<Tip> {
    let mac: Hash = mac.try_into().ok()?;
    Some(Tip {
        seq: record.seq,
        link: link(bytes, &mac),
    })
}
