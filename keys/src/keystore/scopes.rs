//! Table `pgveil.scopes`, for people: which scopes have keys, and how many.

use super::{Keystore, KeystoreError};

/// A scope that has had keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeRecord {
    /// The scope's path.
    pub path: String,
    /// `open`, `sealed`, or `erased`, which is sealed with all its keys destroyed.
    pub state: String,
    /// Keys of either purpose that seal and open.
    pub active: i64,
    /// That open only.
    pub decrypt_only: i64,
    /// That were destroyed.
    pub destroyed: i64,
}

impl Keystore {
    /// All scopes that have had keys, in the order of their paths.
    pub async fn scopes(&self) -> Result<Vec<ScopeRecord>, KeystoreError> {
        let rows = self
            .query(
                "SELECT s.path, CASE WHEN s.state <> 'open' AND s.erased_at IS NOT NULL THEN 'erased' ELSE s.state END AS state, \
                   count(k.id) FILTER (WHERE k.state = 'active') AS active, \
                   count(k.id) FILTER (WHERE k.state = 'decrypt_only') AS decrypt_only, \
                   count(k.id) FILTER (WHERE k.state = 'destroyed') AS destroyed \
                 FROM pgveil.scopes s LEFT JOIN pgveil.keys k ON k.scope = s.path \
                 GROUP BY s.path ORDER BY s.path COLLATE \"C\"",
                &[],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let failed = |error: tokio_postgres::Error| KeystoreError::from_statement(&error);
                Ok(ScopeRecord {
                    path: row.try_get("path").map_err(failed)?,
                    state: row.try_get("state").map_err(failed)?,
                    active: row.try_get("active").map_err(failed)?,
                    decrypt_only: row.try_get("decrypt_only").map_err(failed)?,
                    destroyed: row.try_get("destroyed").map_err(failed)?,
                })
            })
            .collect()
    }
}
