//! The lists that say with which records rows of the keystore were written (`pgveil.key_changes`, `pgveil.row_changes`), held
//! against the records themselves. Who takes an entry out, so that an older row passes for the last one, has it put back: the
//! records are under MACs and in a chain, and the lists are not.

use std::sync::Arc;

use serde_json::json;

use super::{
    Actor, Event, Log, Operation, Outcome, Record,
    log::Seen,
    remembered::behind,
    stored::StoredRecord,
    verify::{Fault, Sound},
};
use crate::keystore::{KeystoreError, bigint_of};

const PUT_KEYS: &str = "INSERT INTO pgveil.key_changes (key_id, audit_seq) SELECT unnest($1::bigint[]), $2 \
    ON CONFLICT DO NOTHING RETURNING key_id";
const PUT_ROWS: &str = "INSERT INTO pgveil.row_changes (table_name, row_name, audit_seq) \
    SELECT split_part(n, ' ', 1), substr(n, strpos(n, ' ') + 1), $2 FROM unnest($1::text[]) AS n \
    ON CONFLICT DO NOTHING RETURNING row_name";
/// pgveil erases what is wrapped in a row of a key, and never takes the row away.
const LOST_KEYS: &str = "SELECT DISTINCT c.key_id FROM pgveil.key_changes c \
    WHERE NOT EXISTS (SELECT FROM pgveil.keys k WHERE k.id = c.key_id) ORDER BY c.key_id LIMIT 100";
/// Records whose entries are put back in one go; the next go finds the rest.
const MAX_MISSING: usize = 10_000;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// How many entries were put back.
    pub put_back: usize,
    /// The first thing that is wrong with the log, entries that were missing apart.
    pub judged: Result<Sound, Fault>,
}

/// What a record names and the lists do not.
struct Missing {
    seq: u64,
    keys: Vec<u64>,
    rows: Vec<String>,
}

impl Missing {
    fn of(row: &StoredRecord) -> Option<Self> {
        let record = Record::from_bytes(&row.record)?;
        let (mut keys, mut rows) = (record.changed_keys(), record.changed_rows());
        keys.retain(|key| !row.columns.changed_keys.contains(key));
        rows.retain(|name| !row.columns.changed_rows.contains(name));
        let some = !keys.is_empty() || !rows.is_empty();
        some.then_some(Self {
            seq: row.seq,
            keys,
            rows,
        })
    }
}

impl Log {
    /// Keys that records name and `pgveil.keys` does not have, as far as the list of changes knows; up to 100.
    pub async fn lost_keys(&self) -> Result<Vec<u64>, KeystoreError> {
        let rows = self.connection.query(LOST_KEYS, &[]).await?;
        let id = |row: &tokio_postgres::Row| Ok(row.try_get::<_, i64>(0)?.unsigned_abs());
        rows.iter().map(id).collect()
    }

    /// Holds the lists against the whole log, for who decides by rows that somebody may have put back, and has not followed what was
    /// recorded since they were written: a command that ends at once.
    ///
    /// # Errors
    /// If the log is not as pgveil wrote it: then nobody knows which rows are the last ones.
    pub async fn catch_up(self: &Arc<Self>) -> Result<(), KeystoreError> {
        let Listed { put_back, judged } = self.mend_lists().await?;
        if put_back > 0 {
            tracing::error!(
                entries = put_back,
                "somebody took entries out of pgveil.key_changes or pgveil.row_changes, so that older rows pass for the last ones; they were put back"
            );
        }
        judged.map(drop).map_err(|fault| KeystoreError::Damaged {
            table: "pgveil.audit",
            reason: fault.to_string(),
        })
    }

    /// Reads the whole log, judges it, and puts back entries that are missing in the lists. That there were such is recorded.
    pub async fn mend_lists(self: &Arc<Self>) -> Result<Listed, KeystoreError> {
        let mut missing = Vec::new();
        let mut other = None;
        let mut forgive = |row: &StoredRecord, fault: &Fault| {
            let Fault::Column { column, .. } = fault else {
                return false;
            };
            let found = Missing::of(row);
            // What is too much in a list has a row refused at worst.
            if found.is_none() || !column.starts_with("audit_seq") {
                other.get_or_insert_with(|| fault.clone());
            }
            if let Some(record) = Record::from_bytes(&row.record) {
                self.remembered.learn(&record);
            }
            if missing.len() < MAX_MISSING {
                missing.extend(found);
            }
            true
        };
        let mut end = None;
        let mut each = |seen: Seen<'_>| {
            if let Seen::Record(record, row) = seen {
                self.remembered.learn(record);
                end = behind(record, &row.record, &row.mac);
            }
            Ok(())
        };
        let judged = self.verify_all(&mut each, &mut forgive).await?;
        if let (Some(end), Ok(sound)) = (end, &judged)
            && end.seq == sound.last
        {
            self.remembered.read_to(end);
        }
        let judged = match other {
            Some(fault) => judged.and(Err(fault)),
            None => judged,
        };
        let mut put_back = 0;
        for Missing { seq, keys, rows } in &missing {
            let seq = bigint_of(*seq)?;
            let keys: Result<Vec<i64>, _> = keys.iter().map(|key| bigint_of(*key)).collect();
            put_back += self
                .connection
                .query(PUT_KEYS, &[&keys?, &seq])
                .await?
                .len();
            put_back += self.connection.query(PUT_ROWS, &[rows, &seq]).await?.len();
        }
        if put_back > 0 {
            let records: Vec<u64> = { missing.iter().take(100) }.map(|one| one.seq).collect();
            let detail = json!({
                "table": "pgveil.key_changes, pgveil.row_changes",
                "reason": "somebody took entries out, so that older rows pass for the last ones; they were put back",
                "entries": put_back,
                "of_records": records,
            });
            let event = Event::new(Operation::KeyRefuse).outcome(Outcome::Refused);
            self.record(event.actor(Actor::pgveil()).detail(detail))
                .await?;
        }
        Ok(Listed { put_back, judged })
    }
}
