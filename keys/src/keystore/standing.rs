//! What stands under a version of a KEK: keys that nobody can unwrap again once it is destroyed. Keys that others have wrapped
//! under it, or that a user has encrypted with it, are not known here.

use std::fmt;

use serde_json::{Value, json};
use tokio_postgres::Row;

use super::{Keystore, KeystoreError};

/// For [`Standing::of`]; a version that is NULL means all.
pub(super) const STANDING: &str = "SELECT count(*) FILTER (WHERE purpose = 'data'), count(*) FILTER (WHERE purpose = 'index'), \
    count(DISTINCT scope), min(scope COLLATE \"C\"), EXISTS (SELECT FROM pgveil.audit_keys WHERE retired_at IS NULL \
        AND provider = $1 AND kek_id = $2 AND ($3::text IS NULL OR kek_version = $3)) \
    FROM pgveil.keys WHERE provider = $1 AND kek_id = $2 AND ($3::text IS NULL OR kek_version = $3) AND state <> 'destroyed'";

/// Living keys under a KEK, or under one version of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Data keys: what they sealed cannot be read without them.
    pub data: u64,
    /// Index keys: columns with search terms cannot be compared or written without them.
    pub index: u64,
    /// The scopes that they are of.
    pub scopes: u64,
    /// One of these.
    pub example: Option<String>,
    /// Whether the audit log's own key is under it.
    pub audit: bool,
}

impl Standing {
    /// Of a row that [`STANDING`] answers.
    pub(super) fn of(rows: &[Row]) -> Result<Self, KeystoreError> {
        let Some(row) = rows.first() else {
            return Ok(Self::default());
        };
        let count = |at: usize| Ok::<_, KeystoreError>(row.try_get::<_, i64>(at)?.unsigned_abs());
        Ok(Self {
            data: count(0)?,
            index: count(1)?,
            scopes: count(2)?,
            example: row.try_get(3)?,
            audit: row.try_get(4)?,
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.data == 0 && self.index == 0 && !self.audit
    }

    /// For a record.
    pub(super) fn as_json(&self) -> Value {
        json!({ "data_keys": self.data, "index_keys": self.index, "scopes": self.scopes, "audit_log_key": self.audit })
    }
}

/// What stands there, and what would be lost with it.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.data > 0 {
            parts.push(format!(
                "{}, without which no value they sealed can be read",
                counted(self.data, "data key")
            ));
        }
        if self.index > 0 {
            parts.push(format!(
                "{}, without which their columns can be neither searched nor written",
                counted(self.index, "index key")
            ));
        }
        if self.audit {
            parts.push("the audit log's own key, without which no process starts and no key is ever changed again".to_owned());
        }
        f.write_str(&parts.join("; "))?;
        match (&self.example, self.scopes) {
            (Some(scope), 1) => write!(f, " (scope {scope})"),
            (Some(scope), more) => write!(f, " ({more} scopes, the first {scope})"),
            (None, _) => Ok(()),
        }
    }
}

fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

impl Keystore {
    /// What stands under a version of a KEK, or under all of them.
    pub async fn standing(
        &self,
        provider: &str,
        kek: &str,
        version: Option<&str>,
    ) -> Result<Standing, KeystoreError> {
        let rows = self.query(STANDING, &[&provider, &kek, &version]).await?;
        Standing::of(&rows)
    }
}
