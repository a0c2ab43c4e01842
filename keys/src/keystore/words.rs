//! What rows of `pgveil.scopes` say of a scope and of those above it: that it is sealed, or not. Judged here, written by
//! [`super::sealing`].
//!
//! A scope that was never sealed needs no row and no MAC. One that was has a row under a MAC ever after, and
//! `pgveil.row_changes` names the record of the audit log with which it was written last: who takes a seal off by hand, by
//! changing the row, taking it away or putting an older one back, has all of the scope's keys refused.

use serde_json::Value;

use super::KeystoreError;
use crate::{
    audit::secrets::{Secrets, same},
    canonical::Canonical,
};

const LABEL: &[u8] = b"scopes";
/// As `pgveil.row_changes` and records name the table.
pub(super) const TABLE: &str = "scopes";

/// The rows that say something, or ever did, of paths that a subquery gives: JSON as text; NULL where there are none, as for
/// nearly every scope.
macro_rules! words_of {
    ($($paths:tt)+) => {
        concat!(
            "(SELECT json_agg(json_build_array(p.path, s.state, s.audit_seq, encode(s.mac, 'hex'), ",
            us!("s.sealed_at"),
            ", ",
            us!("s.erased_at"),
            ", c.last))::text FROM ",
            $($paths)+,
            " AS p (path) LEFT JOIN pgveil.scopes s ON s.path = p.path \
             CROSS JOIN LATERAL (SELECT max(w.audit_seq) AS last FROM pgveil.row_changes w \
                 WHERE w.table_name = 'scopes' AND w.row_name = p.path) c \
             WHERE s.state <> 'open' OR s.mac IS NOT NULL OR c.last IS NOT NULL)"
        )
    };
}

/// The same of a scope's chain, as [`pgveil_config::ScopePath::chain`] has it.
macro_rules! words_of_chain {
    ($scope:literal) => {
        words_of!(concat!(
            "(SELECT DISTINCT unnest(ARRAY['platform', ",
            $scope,
            ", split_part(",
            $scope,
            ", '/', 1), split_part(",
            $scope,
            ", '/', 1) || '/' || split_part(",
            $scope,
            ", '/', 2), split_part(",
            $scope,
            ", '/', 1) || '/' || split_part(",
            $scope,
            ", '/', 3)]))"
        ))
    };
}
pub(super) use {words_of, words_of_chain};

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) path: String,
    pub(super) is_sealed: bool,
    /// Microseconds since 1970.
    pub(super) sealed_us: Option<i64>,
    pub(super) erased_us: Option<i64>,
    /// Whether its row has a MAC.
    pub(super) has_mac: bool,
}

/// A row as it is stored, or its want.
struct Said {
    /// `None`: there is no row.
    word: Option<Word>,
    path: String,
    seq: Option<i64>,
    mac: Option<Vec<u8>>,
    /// The last record of the audit log that names it.
    last: Option<i64>,
}

impl Word {
    /// The MAC that its row must have.
    pub(super) fn authentic(&self, seq: i64, secrets: &Secrets) -> [u8; 32] {
        let mut bytes = Canonical::default();
        bytes.number(seq).text(&self.path).text(self.state());
        bytes.maybe(self.sealed_us).maybe(self.erased_us);
        secrets.mac_row(LABEL, bytes.as_ref())
    }

    /// As the row spells it.
    pub(super) fn state(&self) -> &'static str {
        if self.is_sealed { "sealed" } else { "open" }
    }
}

/// Rows as [`words_of`] answers them, each judged by itself. A row that says sealed is believed as far as that goes: nobody but
/// pgveil can open what it shuts.
pub(super) fn judged(
    answer: Option<&str>,
    secrets: &Secrets,
) -> Result<Vec<Result<Word, KeystoreError>>, KeystoreError> {
    let Some(answer) = answer else {
        return Ok(Vec::new());
    };
    let rows: Vec<Vec<Value>> =
        serde_json::from_str(answer).map_err(|_| damaged("it does not read"))?;
    let said: Option<Vec<Said>> = rows.iter().map(|row| Said::of(row)).collect();
    let said = said.ok_or_else(|| damaged("a row does not read"))?;
    Ok(said.into_iter().map(|said| said.judged(secrets)).collect())
}

/// With which record the row of a path was written, as it says itself.
pub(super) fn seq_of(answer: Option<&str>, path: &str) -> Option<u64> {
    let rows: Vec<Vec<Value>> = serde_json::from_str(answer?).ok()?;
    let said = rows.iter().filter_map(|row| Said::of(row));
    let found = said
        .into_iter()
        .find(|said| said.path == path && said.word.is_some())?;
    u64::try_from(found.seq?).ok()
}

/// Whether one of the rows seals.
pub(super) fn is_sealed(answer: Option<&str>, secrets: &Secrets) -> Result<bool, KeystoreError> {
    let mut sealed = false;
    for word in judged(answer, secrets)? {
        sealed |= word?.is_sealed;
    }
    Ok(sealed)
}

impl Said {
    fn of(row: &[Value]) -> Option<Self> {
        let [path, state, seq, mac, sealed, erased, last] = row else {
            return None;
        };
        let path = path.as_str()?.to_owned();
        let word = match state {
            Value::Null => None,
            state => Some(Word {
                path: path.clone(),
                is_sealed: state.as_str()? != "open",
                sealed_us: sealed.as_i64(),
                erased_us: erased.as_i64(),
                has_mac: !mac.is_null(),
            }),
        };
        let mac = mac.as_str().map(hex::decode).transpose().ok()?;
        Some(Self {
            word,
            path,
            seq: seq.as_i64(),
            mac,
            last: last.as_i64(),
        })
    }

    fn judged(self, secrets: &Secrets) -> Result<Word, KeystoreError> {
        let path = &self.path;
        let refused = |reason: &str| Err(damaged(&format!("the row of {path} {reason}")));
        let Some(word) = self.word else {
            return refused("is gone: the scope may have been sealed");
        };
        let (Some(seq), Some(mac)) = (self.seq, &self.mac) else {
            return match self.last {
                Some(_) => refused("has lost its MAC: somebody else than pgveil wrote it"),
                // Of an earlier pgveil, or by hand: it opens nothing.
                None => Ok(word),
            };
        };
        if !same(&word.authentic(seq, secrets), mac) {
            return refused("was changed by somebody else than pgveil: its MAC does not fit");
        }
        match self.last {
            Some(last) if last > seq => {
                refused("is an older one than the last that pgveil wrote: somebody put it back")
            }
            _ => Ok(word),
        }
    }
}

pub(super) fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.scopes",
        reason: reason.to_owned(),
    }
}
