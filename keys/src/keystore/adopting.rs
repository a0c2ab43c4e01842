//! All rows at once: which of them pgveil would refuse, and MACs for those of a keystore from before there were MACs.
//!
//! Rows without MACs are taken over once, and only where the audit log shows that none was ever written with one: else
//! whoever takes all MACs away would have pgveil make new ones.

use serde_json::json;

use super::{
    Keystore, KeystoreError, bigint_of,
    rows::{KeyRow, row_columns, us},
};
use crate::audit::{Event, Operation, event::MAX_CHANGED_KEYS};

const PAGE: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM pgveil.keys k WHERE k.id > $1 ORDER BY k.id LIMIT 1000"
);
const IS_OLD: &str = "SELECT (EXISTS (SELECT FROM pgveil.keys) OR EXISTS (SELECT FROM pgveil.overrides)) \
    AND NOT EXISTS (SELECT FROM pgveil.keys WHERE mac IS NOT NULL OR audit_seq IS NOT NULL) \
    AND NOT EXISTS (SELECT FROM pgveil.overrides WHERE mac IS NOT NULL OR audit_seq IS NOT NULL) \
    AND NOT EXISTS (SELECT FROM pgveil.key_changes) \
    AND NOT EXISTS (SELECT FROM pgveil.audit WHERE operation = 'key.adopt')";
const COLUMNS_ARE_OLD: &str = "SELECT EXISTS (SELECT FROM pgveil.columns) \
    AND NOT EXISTS (SELECT FROM pgveil.columns WHERE mac IS NOT NULL OR audit_seq IS NOT NULL) \
    AND NOT EXISTS (SELECT FROM pgveil.row_changes) \
    AND NOT EXISTS (SELECT FROM pgveil.audit WHERE operation = 'policy.apply')";
const LABELS_ARE_OLD: &str = "SELECT EXISTS (SELECT FROM pgveil.enum_labels) \
    AND NOT EXISTS (SELECT FROM pgveil.enum_labels WHERE mac IS NOT NULL OR audit_seq IS NOT NULL OR labels IS NOT NULL) \
    AND NOT EXISTS (SELECT FROM pgveil.row_changes WHERE table_name = 'enum_labels') \
    AND NOT EXISTS (SELECT FROM pgveil.audit WHERE operation = 'label.record')";
const HAS_ROWS: &str = "SELECT EXISTS (SELECT FROM pgveil.keys) OR EXISTS (SELECT FROM pgveil.overrides) \
    OR EXISTS (SELECT FROM pgveil.row_changes) OR EXISTS (SELECT FROM pgveil.key_changes)";
const PUT_OVERRIDE: &str =
    "UPDATE pgveil.overrides SET audit_seq = $2, mac = $3 WHERE scope = $1 AND mac IS NULL";
/// Rows that are named; of more it is only said that there are.
const MAX_REFUSED: usize = 100;

/// What was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Rows of `pgveil.keys`.
    pub keys: usize,
    /// Rows of `pgveil.overrides`.
    pub overrides: usize,
}

impl Keystore {
    /// Whether there is anything whose MAC can be judged.
    pub async fn has_rows(&self) -> Result<bool, KeystoreError> {
        let rows = self.query(HAS_ROWS, &[]).await?;
        Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
    }

    /// Rows of keys, overrides, scopes, columns, labels, KEKs and jobs that pgveil does not use, because it did not write them, or not last.
    pub async fn refused_rows(&self) -> Result<Vec<KeystoreError>, KeystoreError> {
        let secrets = self.log().secrets().await?;
        let mut refused = Vec::new();
        let mut after = 0_i64;
        while refused.len() < MAX_REFUSED {
            let rows = self.query(PAGE, &[&after]).await?;
            for row in &rows {
                after = row.try_get(0)?;
                refused.extend(KeyRow::of(row).and_then(|row| row.judge(&secrets)).err());
            }
            if rows.is_empty() {
                break;
            }
        }
        for id in self.log().lost_keys().await? {
            refused.push(KeystoreError::KeyRow {
                id,
                reason: "its row is gone, and the audit log says that it was made".to_owned(),
            });
        }
        refused.truncate(MAX_REFUSED);
        let overrides = self.judged_overrides().await?.refused.into_iter();
        refused.extend(overrides.map(|(_, error)| error));
        refused.extend(self.refused_scopes().await?);
        refused.extend(self.refused_columns().await?);
        refused.extend(self.refused_labels().await?);
        refused.extend(self.refused_keks().await?);
        refused.extend(self.refused_jobs().await?);
        Ok(refused)
    }

    /// Gives the rows of a keystore from before there were MACs theirs, in one transaction. Nothing, where rows have had
    /// some, or where the audit log is not sound or not whole.
    pub async fn adopt_rows(&self) -> Result<Adopted, KeystoreError> {
        if !self.is_old().await? {
            return Ok(Adopted::default());
        }
        self.log_is_whole().await?;
        let mut change = self.change().await?;
        change.automatic();
        let mut adopted = Adopted::default();
        let mut events = Vec::new();
        let mut after = 0;
        loop {
            let found = change.query(PAGE, &[&after]).await?;
            let rows: Result<Vec<KeyRow>, _> = found.iter().map(KeyRow::of).collect();
            let rows = rows?;
            let Some(last) = rows.last() else { break };
            after = bigint_of(last.id)?;
            for rows in rows.chunks(MAX_CHANGED_KEYS) {
                change.put_keys(rows, events.len()).await?;
                let event = Event::new(Operation::KeyAdopt).detail(json!({ "keys": rows.len() }));
                events.push(event.changes(rows.iter().map(|row| row.id)));
                adopted.keys += rows.len();
            }
        }
        let seq = bigint_of(change.record_seq(events.len()))?;
        for record in self.overrides_unjudged().await? {
            let mac: &[u8] = &record.authentic(seq, change.secrets());
            change
                .query(PUT_OVERRIDE, &[&record.scope.as_str(), &seq, &mac])
                .await?;
            adopted.overrides += 1;
        }
        let overrides = json!({ "overrides": adopted.overrides });
        events.push(Event::new(Operation::KeyAdopt).detail(overrides));
        change.commit_all(events).await?;
        Ok(adopted)
    }

    /// Whether the rows of columns are those of a keystore from before they had MACs: none has one, and the audit log, which
    /// must be sound and whole, shows that none ever had.
    pub async fn columns_lack_macs(&self) -> Result<bool, KeystoreError> {
        self.lack_macs(COLUMNS_ARE_OLD).await
    }

    /// The same of the labels of enum types.
    pub async fn labels_lack_macs(&self) -> Result<bool, KeystoreError> {
        self.lack_macs(LABELS_ARE_OLD).await
    }

    async fn lack_macs(&self, asked: &'static str) -> Result<bool, KeystoreError> {
        let rows = self.query(asked, &[]).await?;
        let are_old: bool = rows.first().map_or(Ok(false), |row| row.try_get(0))?;
        if are_old {
            self.log_is_whole().await?;
        }
        Ok(are_old)
    }

    async fn log_is_whole(&self) -> Result<(), KeystoreError> {
        let log = self.log();
        if log.anchor().await?.is_none() && log.verify().await?.is_ok() {
            return Ok(());
        }
        Err(KeystoreError::Damaged {
            table: "pgveil.audit",
            reason: "rows without MACs are taken over only with a log that is sound and whole"
                .to_owned(),
        })
    }

    /// Whether there are rows, and none ever had a MAC.
    async fn is_old(&self) -> Result<bool, KeystoreError> {
        let rows = self.query(IS_OLD, &[]).await?;
        Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
    }
}
