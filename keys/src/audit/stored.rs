//! Reading the log's tables. Nothing is believed here: [`super::verify`] does that.

use std::time::{Duration, SystemTime};

use tokio_postgres::Row;

use super::{Log, Record, chain::Tip, record::Hash};
use crate::keystore::{KeystoreError, bigint_of};

/// Records read at once.
pub const PAGE: i64 = 1000;

const AFTER: &str = "SELECT seq, record, mac, operation_id, at, operation, outcome, scope, actor, \
    ARRAY(SELECT key_id FROM pgveil.key_changes WHERE audit_seq = seq ORDER BY key_id), \
    ARRAY(SELECT table_name || ' ' || row_name FROM pgveil.row_changes WHERE audit_seq = seq) FROM pgveil.audit \
    WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT 1000";
const FOUND: &str = "SELECT record FROM pgveil.audit \
    WHERE ($1::text IS NULL OR operation = $1) AND ($2::text IS NULL OR outcome = $2) \
    AND ($3::text IS NULL OR scope = $3 OR starts_with(scope, $3 || '/')) AND ($4::text IS NULL OR actor = $4) \
    AND ($5::timestamptz IS NULL OR at >= $5) AND ($6::timestamptz IS NULL OR at < $6) \
    ORDER BY seq DESC LIMIT $7";
const CHECKPOINTS: &str =
    "SELECT seq, line FROM pgveil.audit_checkpoints WHERE seq > $1 ORDER BY seq LIMIT 1000";
const HEAD: &str = "SELECT seq, link, mac FROM pgveil.audit_head";
const FIRST: &str = "SELECT min(seq) FROM pgveil.audit";
const CHECKPOINT_AT: &str = "SELECT line FROM pgveil.audit_checkpoints WHERE seq = $1";
const UNSIGNED: &str = "SELECT (SELECT coalesce(max(seq), 0) FROM pgveil.audit_head), \
    (SELECT coalesce(max(seq), 0) FROM pgveil.audit_checkpoints)";

/// Which records are listed. `None` admits all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `dek.create`, ...
    pub operation: Option<String>,
    /// `done`, `refused` or `failed`.
    pub outcome: Option<String>,
    /// A scope, and all below it.
    pub scope: Option<String>,
    /// Exactly.
    pub actor: Option<String>,
    /// From this time on, in microseconds since 1970.
    pub since_us: Option<u64>,
    /// Before this time.
    pub until_us: Option<u64>,
    /// The newest so many.
    pub limit: u32,
}

/// A row of `pgveil.audit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number.
    pub seq: u64,
    /// Canonical bytes, if nobody changed them.
    pub record: Vec<u8>,
    /// Its MAC.
    pub mac: Vec<u8>,
    /// What the columns for filters say.
    pub columns: Columns,
}

/// What a row repeats of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The id.
    pub operation_id: Vec<u8>,
    /// Microseconds since 1970.
    pub at_us: u64,
    /// What.
    pub operation: String,
    /// How it ended.
    pub outcome: String,
    /// The scope.
    pub scope: String,
    /// Who.
    pub actor: String,
    /// The rows of `pgveil.keys` that were written with it, which stand in `pgveil.key_changes`.
    pub changed_keys: Vec<u64>,
    /// The rows of other tables, which stand in `pgveil.row_changes`, in the order of their bytes.
    pub changed_rows: Vec<String>,
}

impl Columns {
    /// What a record's columns must say.
    pub fn of(record: &Record) -> Self {
        Self {
            operation_id: record.id.to_vec(),
            at_us: record.at_us,
            operation: record.operation.clone(),
            outcome: record.outcome.clone(),
            scope: record.scope.clone(),
            actor: record.actor.clone(),
            changed_keys: record.changed_keys(),
            changed_rows: record.changed_rows(),
        }
    }
}

/// The row of `pgveil.audit_head`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// Where the log ends.
    pub tip: Tip,
    /// The MAC of that.
    pub mac: Vec<u8>,
}

impl Log {
    /// The newest records that a filter admits, the newest first.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Record>, KeystoreError> {
        let (since, until) = (filter.since_us.map(time), filter.until_us.map(time));
        let limit = i64::from(filter.limit);
        let rows = self
            .connection
            .query(
                FOUND,
                &[
                    &filter.operation,
                    &filter.outcome,
                    &filter.scope,
                    &filter.actor,
                    &since,
                    &until,
                    &limit,
                ],
            )
            .await?;
        let record = |row: &Row| {
            Record::from_bytes(row.try_get(0)?).ok_or_else(|| damaged("a record does not read"))
        };
        rows.iter().map(record).collect()
    }

    /// The next records after a number, up to another: [`PAGE`] of them.
    pub async fn after(&self, seq: u64, upto: u64) -> Result<Vec<StoredRecord>, KeystoreError> {
        let (seq, upto) = (bigint_of(seq)?, bigint_of(upto)?);
        let rows = self.connection.query(AFTER, &[&seq, &upto]).await?;
        rows.iter().map(StoredRecord::of).collect()
    }

    /// The next checkpoints after a number, as number and line.
    pub async fn checkpoints_after(&self, seq: u64) -> Result<Vec<(u64, String)>, KeystoreError> {
        let rows = self
            .connection
            .query(CHECKPOINTS, &[&bigint_of(seq)?])
            .await?;
        let line = |row: &Row| Ok((number(row.try_get(0)?)?, row.try_get(1)?));
        rows.iter().map(line).collect()
    }

    /// Where the log ends; `None` before the first record.
    pub async fn stored_head(&self) -> Result<Option<StoredHead>, KeystoreError> {
        let rows = self.connection.query(HEAD, &[]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let link: &[u8] = row.try_get(1)?;
        let link: Hash = link
            .try_into()
            .map_err(|_| damaged("a link of another length"))?;
        let seq = number(row.try_get(0)?)?;
        let tip = Tip { seq, link };
        Ok(Some(StoredHead {
            tip,
            mac: row.try_get(2)?,
        }))
    }

    /// The number of the oldest record that is kept.
    pub(super) async fn first(&self) -> Result<Option<u64>, KeystoreError> {
        let rows = self.connection.query(FIRST, &[]).await?;
        let first: Option<i64> = rows.first().map_or(Ok(None), |row| row.try_get(0))?;
        first.map(number).transpose()
    }

    /// The checkpoint after which the oldest record stands; `None` if that is the first of all.
    pub async fn anchor(&self) -> Result<Option<String>, KeystoreError> {
        let before = match self.first().await? {
            None | Some(0 | 1) => return Ok(None),
            Some(first) => bigint_of(first - 1)?,
        };
        let rows = self.connection.query(CHECKPOINT_AT, &[&before]).await?;
        let row = rows.first();
        let row = row.ok_or_else(|| {
            damaged("the first records are gone, and no checkpoint stands in their place")
        })?;
        Ok(Some(row.try_get(0)?))
    }

    /// How many records no checkpoint covers.
    pub(super) async fn unsigned(&self) -> Result<u64, KeystoreError> {
        let rows = self.connection.query(UNSIGNED, &[]).await?;
        let row = rows.first().ok_or_else(|| damaged("no answer"))?;
        Ok(number(row.try_get(0)?)?.saturating_sub(number(row.try_get(1)?)?))
    }
}

impl StoredRecord {
    fn of(row: &Row) -> Result<Self, KeystoreError> {
        let at: SystemTime = row.try_get(4)?;
        let at = at.duration_since(SystemTime::UNIX_EPOCH);
        let changed: Vec<i64> = row.try_get(9)?;
        let changed: Result<_, KeystoreError> = changed.into_iter().map(number).collect();
        let mut changed_rows: Vec<String> = row.try_get(10)?;
        changed_rows.sort_unstable();
        Ok(Self {
            seq: number(row.try_get(0)?)?,
            record: row.try_get(1)?,
            mac: row.try_get(2)?,
            columns: Columns {
                operation_id: row.try_get(3)?,
                at_us: at.map_or(0, |at| at.as_micros() as u64),
                operation: row.try_get(5)?,
                outcome: row.try_get(6)?,
                scope: row.try_get(7)?,
                actor: row.try_get(8)?,
                changed_keys: changed?,
                changed_rows,
            },
        })
    }
}

/// Microseconds since 1970 as the driver takes them; beyond what PostgreSQL can hold, the end of 9999.
fn time(us: u64) -> SystemTime {
    const LAST_US: u64 = 253_402_300_799_000_000;
    SystemTime::UNIX_EPOCH + Duration::from_micros(us.min(LAST_US))
}

fn number(n: i64) -> Result<u64, KeystoreError> {
    u64::try_from(n).map_err(|_| damaged("a negative number"))
}

fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.audit",
        reason: reason.to_owned(),
    }
}
