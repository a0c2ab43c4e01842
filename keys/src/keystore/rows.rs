//! Rows of `pgveil.keys`, whole, each under a MAC of the audit log's key: read, judged, changed and written. What a row may
//! become is decided elsewhere.
//!
//! Nobody but pgveil can make such a MAC, so that a key which somebody else wrapped, or a state that somebody else wrote, is
//! not used. An older row of the same key has a right MAC too: it names the record of the audit log with which it was
//! written, and a later one that names the key gives it away.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio_postgres::Row;

use super::{Keystore, KeystoreError, bigint_of, written::Written};
use crate::{
    audit::{Actor, Change, Event, Operation, Outcome, secrets::Secrets},
    canonical::Canonical,
};

const LABEL: &[u8] = b"keys";
/// Keys whose last row a process remembers, and those that it told of.
const MAX_KNOWN: usize = 65_536;

/// A time as microseconds since 1970.
macro_rules! us {
    ($column:literal) => {
        concat!("(extract(epoch FROM ", $column, ") * 1000000)::int8")
    };
}

/// Microseconds since 1970 as a time.
macro_rules! at {
    ($us:literal) => {
        concat!(
            "(timestamptz '1970-01-01 00:00:00+00' + ",
            $us,
            " * interval '1 microsecond')"
        )
    };
}

/// What `pgveil.row_changes` and records call what is kept of a KEK, of its provider and itself in SQL: no two have the same.
macro_rules! kek_name {
    ($provider:literal, $kek:literal) => {
        concat!(
            "(octet_length(",
            $provider,
            ") || ':' || ",
            $provider,
            " || ' ' || ",
            $kek,
            ")"
        )
    };
}

/// With an explicit order, for [`KeyRow::of`]; the table is called `k`.
macro_rules! row_columns {
    () => {
        concat!(
            "k.id, k.scope, k.purpose, k.epoch, k.state, k.provider, k.kek_id, k.kek_version, k.wrapped, ",
            us!("k.created_at"),
            ", ",
            us!("k.retired_at"),
            ", ",
            us!("k.destroy_at"),
            ", ",
            us!("k.destroyed_at"),
            ", k.audit_seq, k.mac, (SELECT max(c.audit_seq) FROM pgveil.key_changes c WHERE c.key_id = k.id)"
        )
    };
}
pub(super) use {at, kek_name, row_columns, us};

/// How many columns [`row_columns`] are.
pub(super) const ROW_COLUMNS: usize = 16;

const LOCK: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM pgveil.keys k WHERE k.id = ANY ($1) ORDER BY k.id FOR UPDATE OF k"
);
const NOW: &str = concat!("SELECT ", us!("now()"));
/// Written as a whole. Who, what and which epoch a row is for never changes, and was judged when it was read.
const PUT: &str = concat!(
    "WITH v AS (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::int8[], \
     $8::int8[], $9::int8[], $10::int8[], $11::bytea[]) \
     AS v (id, state, provider, kek_id, kek_version, wrapped, retired, destroy, destroyed, audit_seq, mac)), \
     changes AS (INSERT INTO pgveil.key_changes (key_id, audit_seq) SELECT id, audit_seq FROM v) \
     UPDATE pgveil.keys k SET state = v.state, provider = v.provider, kek_id = v.kek_id, kek_version = v.kek_version, \
     wrapped = v.wrapped, retired_at = ",
    at!("v.retired"),
    ", destroy_at = ",
    at!("v.destroy"),
    ", destroyed_at = ",
    at!("v.destroyed"),
    ", audit_seq = v.audit_seq, mac = v.mac FROM v WHERE k.id = v.id RETURNING k.id"
);
/// The conflict may be on the id (our own, when a lost connection had committed): the winner is read afterwards.
const INSERT: &str = concat!(
    "WITH v AS (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::int4[], $5::text[], $6::text[], $7::text[], \
     $8::text[], $9::bytea[], $10::int8[], $11::int8[], $12::bytea[]) \
     AS v (id, scope, purpose, epoch, state, provider, kek_id, kek_version, wrapped, created, audit_seq, mac)), \
     scopes AS (INSERT INTO pgveil.scopes (path) SELECT DISTINCT scope FROM v ON CONFLICT DO NOTHING), \
     stored AS (INSERT INTO pgveil.keys \
     (id, scope, purpose, epoch, state, provider, kek_id, kek_version, wrapped, created_at, audit_seq, mac) \
     SELECT id, scope, purpose, epoch, state, provider, kek_id, kek_version, wrapped, ",
    at!("v.created"),
    ", audit_seq, mac FROM v ON CONFLICT DO NOTHING RETURNING id, audit_seq) \
     INSERT INTO pgveil.key_changes (key_id, audit_seq) SELECT id, audit_seq FROM stored RETURNING key_id"
);

/// The same here.
pub(super) fn name_of_kek(provider: &str, kek: &str) -> String {
    format!("{}:{provider} {kek}", provider.len())
}

/// A row as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct KeyRow {
    pub(super) id: u64,
    pub(super) scope: String,
    pub(super) purpose: String,
    pub(super) epoch: u32,
    pub(super) state: String,
    pub(super) provider: String,
    pub(super) kek: String,
    pub(super) kek_version: String,
    pub(super) wrapped: Option<Vec<u8>>,
    /// Microseconds since 1970, by the keystore's clock, as are the others.
    pub(super) created_us: i64,
    pub(super) retired_us: Option<i64>,
    pub(super) destroy_us: Option<i64>,
    pub(super) destroyed_us: Option<i64>,
    audit_seq: Option<i64>,
    mac: Option<Vec<u8>>,
    /// The last record of the audit log that names it.
    last_seq: Option<i64>,
}

/// What a new row holds.
pub(super) struct Fresh<'a> {
    pub(super) key: &'a super::NewKey,
    pub(super) epoch: u32,
    pub(super) now_us: i64,
}

impl KeyRow {
    /// Of a row that begins with [`row_columns`]. Nothing is judged.
    pub(super) fn of(row: &Row) -> Result<Self, KeystoreError> {
        let id: i64 = row.try_get(0)?;
        let id = u64::try_from(id).map_err(|_| damaged("a negative id"))?;
        // One row that somebody made unreadable is no reason to refuse those beside it.
        Self::read(id, row).map_err(|error| KeystoreError::KeyRow {
            id,
            reason: error.to_string(),
        })
    }

    fn read(id: u64, row: &Row) -> Result<Self, KeystoreError> {
        Ok(Self {
            id,
            scope: row.try_get(1)?,
            purpose: row.try_get(2)?,
            epoch: u32::try_from(row.try_get::<_, i32>(3)?)
                .map_err(|_| damaged("a negative epoch"))?,
            state: row.try_get(4)?,
            provider: row.try_get(5)?,
            kek: row.try_get(6)?,
            kek_version: row.try_get(7)?,
            wrapped: row.try_get(8)?,
            created_us: row.try_get(9)?,
            retired_us: row.try_get(10)?,
            destroy_us: row.try_get(11)?,
            destroyed_us: row.try_get(12)?,
            audit_seq: row.try_get(13)?,
            mac: row.try_get(14)?,
            last_seq: row.try_get(15)?,
        })
    }

    fn fresh(new: &Fresh<'_>) -> Self {
        let Fresh { key, epoch, now_us } = new;
        Self {
            id: key.id,
            scope: key.scope.clone(),
            purpose: key.purpose.as_str().to_owned(),
            epoch: *epoch,
            state: "active".to_owned(),
            provider: key.provider.clone(),
            kek: key.kek.clone(),
            kek_version: key.wrapped.kek_version.clone(),
            wrapped: Some(key.wrapped.bytes.clone()),
            created_us: *now_us,
            retired_us: None,
            destroy_us: None,
            destroyed_us: None,
            audit_seq: None,
            mac: None,
            last_seq: None,
        }
    }

    /// Whether pgveil wrote it, and wrote it last.
    pub(super) fn judge(&self, secrets: &Secrets) -> Result<(), KeystoreError> {
        let written = Written {
            mac: self.mac.as_deref(),
            seq: self.audit_seq,
            last: self.last_seq,
        };
        let judged = written.judge(|seq| self.authentic(seq, secrets));
        judged.map_err(|why| KeystoreError::KeyRow {
            id: self.id,
            reason: why.to_owned(),
        })
    }

    /// The record of the audit log with which it was written.
    pub(super) fn record(&self) -> u64 {
        let seq = self.audit_seq.and_then(|seq| u64::try_from(seq).ok());
        seq.unwrap_or_default()
    }

    /// Erases what is wrapped.
    pub(super) fn destroy(&mut self, now_us: i64) {
        "destroyed".clone_into(&mut self.state);
        self.wrapped = None;
        self.retired_us.get_or_insert(now_us);
        self.destroyed_us = Some(now_us);
        self.destroy_us = None;
    }

    /// The MAC that it must have.
    fn authentic(&self, seq: i64, secrets: &Secrets) -> [u8; 32] {
        let mut bytes = Canonical::default();
        bytes.number(self.id as i64).number(seq);
        bytes.text(&self.scope).text(&self.purpose);
        bytes.number(i64::from(self.epoch)).text(&self.state);
        bytes.text(&self.provider).text(&self.kek);
        bytes.text(&self.kek_version).bytes(self.wrapped.as_deref());
        bytes.number(self.created_us);
        bytes.maybe(self.retired_us).maybe(self.destroy_us);
        bytes.maybe(self.destroyed_us);
        secrets.mac_row(LABEL, bytes.as_ref())
    }
}

impl Change {
    /// Rows as nobody else changes them until this ends, not judged yet.
    pub(super) async fn read_keys(&mut self, ids: &[u64]) -> Result<Vec<KeyRow>, KeystoreError> {
        let ids: Result<Vec<i64>, _> = ids.iter().map(|id| bigint_of(*id)).collect();
        let rows = self.query(LOCK, &[&ids?]).await?;
        rows.iter().map(KeyRow::of).collect()
    }

    /// The keystore's time, in microseconds since 1970.
    pub(super) async fn keystore_now_us(&mut self) -> Result<i64, KeystoreError> {
        let rows = self.query(NOW, &[]).await?;
        let row = rows.first().ok_or_else(|| damaged("no time"))?;
        Ok(row.try_get(0)?)
    }

    /// Writes rows that were read here, with the `event`th of the events that this is committed with, which must name them
    /// ([`Event::changes`]).
    pub(super) async fn put_keys(
        &mut self,
        rows: &[KeyRow],
        event: usize,
    ) -> Result<(), KeystoreError> {
        self.put_each(rows, &vec![event; rows.len()]).await
    }

    /// The same, each row with an event of its own.
    pub(super) async fn put_each(
        &mut self,
        rows: &[KeyRow],
        events: &[usize],
    ) -> Result<(), KeystoreError> {
        let seqs = self.seqs(events)?;
        let macs = self.macs(rows, &seqs);
        let ids: Vec<i64> = rows.iter().map(|row| row.id as i64).collect();
        let texts = |of: fn(&KeyRow) -> &String| rows.iter().map(of).collect::<Vec<_>>();
        let times = |of: fn(&KeyRow) -> Option<i64>| rows.iter().map(of).collect::<Vec<_>>();
        let wrapped: Vec<_> = rows.iter().map(|row| row.wrapped.as_deref()).collect();
        let stored = self
            .query(
                PUT,
                &[
                    &ids,
                    &texts(|row| &row.state),
                    &texts(|row| &row.provider),
                    &texts(|row| &row.kek),
                    &texts(|row| &row.kek_version),
                    &wrapped,
                    &times(|row| row.retired_us),
                    &times(|row| row.destroy_us),
                    &times(|row| row.destroyed_us),
                    &seqs,
                    &macs,
                ],
            )
            .await?;
        if stored.len() != rows.len() {
            return Err(damaged("a row that was locked is gone"));
        }
        Ok(())
    }

    /// Stores new active keys, the first with the first of the events that this is committed with, and so on. False: there is
    /// one of such an id, or of such a scope.
    pub(super) async fn insert_keys(&mut self, new: &[Fresh<'_>]) -> Result<bool, KeystoreError> {
        let rows: Vec<KeyRow> = new.iter().map(KeyRow::fresh).collect();
        let events: Vec<usize> = (0..rows.len()).collect();
        let seqs = self.seqs(&events)?;
        let macs = self.macs(&rows, &seqs);
        let ids: Vec<i64> = rows.iter().map(|row| row.id as i64).collect();
        let epochs: Result<Vec<i32>, _> = rows.iter().map(|row| row.epoch.try_into()).collect();
        let epochs = epochs.map_err(|_| damaged("an epoch beyond int4"))?;
        let texts = |of: fn(&KeyRow) -> &String| rows.iter().map(of).collect::<Vec<_>>();
        let wrapped: Vec<_> = rows.iter().map(|row| row.wrapped.as_deref()).collect();
        let created: Vec<i64> = rows.iter().map(|row| row.created_us).collect();
        let stored = self
            .query(
                INSERT,
                &[
                    &ids,
                    &texts(|row| &row.scope),
                    &texts(|row| &row.purpose),
                    &epochs,
                    &texts(|row| &row.state),
                    &texts(|row| &row.provider),
                    &texts(|row| &row.kek),
                    &texts(|row| &row.kek_version),
                    &wrapped,
                    &created,
                    &seqs,
                    &macs,
                ],
            )
            .await?;
        Ok(stored.len() == rows.len())
    }

    fn seqs(&self, events: &[usize]) -> Result<Vec<i64>, KeystoreError> {
        let seqs = events
            .iter()
            .map(|event| bigint_of(self.record_seq(*event)));
        seqs.collect()
    }

    fn macs(&self, rows: &[KeyRow], seqs: &[i64]) -> Vec<Vec<u8>> {
        let macs = rows.iter().zip(seqs);
        macs.map(|(row, seq)| row.authentic(*seq, self.secrets()).to_vec())
            .collect()
    }
}

impl Keystore {
    /// Rows as nobody else changes them until the change ends: each one pgveil's.
    pub(super) async fn locked(
        &self,
        change: &mut Change,
        ids: &[u64],
    ) -> Result<Vec<KeyRow>, KeystoreError> {
        let rows = change.read_keys(ids).await?;
        let judged = rows.iter().try_for_each(|row| row.judge(change.secrets()));
        self.told(judged)?;
        Ok(rows)
    }

    /// As [`Keystore::locked`], with those that are not pgveil's apart.
    pub(super) async fn locked_apart(
        &self,
        change: &mut Change,
        ids: &[u64],
    ) -> Result<(Vec<KeyRow>, Vec<u64>), KeystoreError> {
        let rows = change.read_keys(ids).await?;
        let (ours, others): (Vec<_>, Vec<_>) =
            { rows.into_iter() }.partition(|row| self.told(row.judge(change.secrets())).is_ok());
        Ok((ours, others.into_iter().map(|row| row.id).collect()))
    }

    /// Refuses a row that pgveil did not write, or not last.
    pub(super) async fn judged(&self, row: &KeyRow) -> Result<(), KeystoreError> {
        let secrets = self.log.secrets().await?;
        let judged = row.judge(&secrets).and_then(|()| self.rows.see(row));
        self.told(judged.and_then(|()| {
            if self.log.remembered.was_ended(row.id, row.record()) {
                return Err(KeystoreError::KeyRow {
                    id: row.id,
                    reason: "it is from before the key was destroyed: somebody put it back"
                        .to_owned(),
                });
            }
            Ok(())
        }))
    }

    /// Tells of a row that was refused: once per key and process.
    pub(super) fn told(&self, judged: Result<(), KeystoreError>) -> Result<(), KeystoreError> {
        if let Err(KeystoreError::KeyRow { id, reason }) = &judged {
            let name = id.to_string();
            self.tell_refused("pgveil.keys", &name, &name, reason);
        }
        judged
    }

    /// Tells of a row that was refused, under what it is called in its table and under the key it is of: once per process.
    pub(super) fn tell_refused(&self, table: &'static str, row: &str, key: &str, reason: &str) {
        if !self.rows.is_news(table, row) {
            return;
        }
        tracing::error!(table, row, reason, "a row of the keystore is refused");
        let event = Event::new(Operation::KeyRefuse)
            .outcome(Outcome::Refused)
            .actor(Actor::pgveil())
            .key(key)
            .detail(serde_json::json!({ "table": table, "reason": reason }));
        let log = std::sync::Arc::clone(&self.log);
        tokio::spawn(async move {
            if let Err(error) = log.note(event).await {
                tracing::error!(%error, "that a row was refused could not be recorded");
            }
        });
    }
}

/// What this process knows of rows.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// The record of the audit log with which the last row was written that was seen, by key.
    last: HashMap<u64, i64>,
    /// Rows that were refused: which table, and what they are called there.
    refused: HashSet<(&'static str, String)>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a row, and refuses one that is older than one that was seen.
    fn see(&self, row: &KeyRow) -> Result<(), KeystoreError> {
        let seq = row.audit_seq.unwrap_or_default();
        let mut seen = self.lock();
        let room = seen.last.len() < MAX_KNOWN;
        match seen.last.get_mut(&row.id) {
            Some(last) if *last > seq => Err(KeystoreError::KeyRow {
                id: row.id,
                reason: "it is an older row than one that this process has seen".to_owned(),
            }),
            Some(last) => {
                *last = seq;
                Ok(())
            }
            None => {
                if room {
                    seen.last.insert(row.id, seq);
                }
                Ok(())
            }
        }
    }

    fn is_news(&self, table: &'static str, row: &str) -> bool {
        let mut seen = self.lock();
        seen.refused.len() < MAX_KNOWN && seen.refused.insert((table, row.to_owned()))
    }
}

fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.keys",
        reason: reason.to_owned(),
    }
}
