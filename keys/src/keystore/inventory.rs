//! Table `pgveil.keys` for people: what there is, and the end of what is not needed any more. Whether values still use a key
//! is found out elsewhere.

use std::time::Duration;

use pgveil_config::ScopePath;
use serde_json::Value;
use tokio_postgres::Row;

use super::{Keystore, KeystoreError, presence::behind};
use crate::{
    audit::{Event, Operation},
    step_up::Authority,
};

/// A key, without its wrapped bytes. Times are the keystore server's, as it writes them (ISO 8601, UTC).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// What sealed values name.
    pub id: u64,
    /// The scope's path.
    pub scope: String,
    /// `data` or `index`.
    pub purpose: String,
    /// From 1, per scope and purpose.
    pub epoch: u32,
    /// `active`, `decrypt_only` or `destroyed`.
    pub state: String,
    /// `[provider.NAME]`.
    pub provider: String,
    /// The KEK's id in that provider.
    pub kek: String,
    /// The KEK's version in the provider's own terms.
    pub kek_version: String,
    /// Uses that were leased: at least as many as values were sealed with it.
    pub uses: u64,
    /// When it was made.
    pub created_at: String,
    /// How long ago.
    pub age: Duration,
    /// When it was replaced.
    pub retired_at: Option<String>,
    /// How long ago.
    pub retired_for: Option<Duration>,
    /// When its destruction is due.
    pub destroy_at: Option<String>,
    /// How long until then; zero if it has passed.
    pub destroy_in: Option<Duration>,
    /// When it was destroyed.
    pub destroyed_at: Option<String>,
}

/// A key whose destruction is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The key.
    pub id: u64,
    /// Its scope.
    pub scope: String,
    /// Whether nobody can have values under way that name it.
    pub settled: bool,
    /// It only waits for transactions that run just now.
    pub nearly: bool,
    /// Of those that may, processes that have not said that they have none: which connections of theirs.
    pub behind: Vec<String>,
}

const UTC: &str = "YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"";

const ALL: &str = "SELECT id, scope, purpose, epoch, state, provider, kek_id, kek_version, uses, \
        to_char(created_at AT TIME ZONE 'UTC', $1), \
        greatest(0, extract(epoch FROM clock_timestamp() - created_at))::float8, \
        to_char(retired_at AT TIME ZONE 'UTC', $1), to_char(destroy_at AT TIME ZONE 'UTC', $1), \
        CASE WHEN destroy_at IS NOT NULL THEN greatest(0, extract(epoch FROM destroy_at - clock_timestamp())) END::float8, \
        to_char(destroyed_at AT TIME ZONE 'UTC', $1), \
        greatest(0, extract(epoch FROM clock_timestamp() - retired_at))::float8 \
    FROM pgveil.keys ORDER BY scope COLLATE \"C\", purpose, epoch";
/// Whoever sealed with it did so within the time that a replica may hold it as the active one, in a transaction that
/// began before now, or says that values are under way. A transaction that has written nothing yet has no number, but it has
/// a virtual one.
const HORIZON: &str = "UPDATE pgveil.keys SET destroy_horizon = pg_snapshot_xmax(pg_current_snapshot()), \
        destroy_waits = (SELECT coalesce(array_agg(DISTINCT virtualtransaction), '{}') FROM pg_locks \
            WHERE locktype = 'virtualxid' AND pid <> pg_backend_pid()) \
    WHERE id = $1";
const NO_HORIZON: &str =
    "UPDATE pgveil.keys SET destroy_horizon = NULL, destroy_waits = NULL WHERE id = $1";
/// Of whom all of those have ended, and everybody has said that nothing is under way.
const ENDED: &str = concat!(
    "SELECT id, audit_seq FROM pgveil.keys k WHERE destroy_at <= now() AND state = 'decrypt_only' AND audit_seq IS NOT NULL \
        AND destroy_waits IS NOT NULL AND pg_snapshot_xmin(pg_current_snapshot()) >= destroy_horizon \
        AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'virtualxid' AND virtualtransaction = ANY (destroy_waits)) \
        AND NOT EXISTS (SELECT FROM pg_locks l WHERE ",
    behind!("k.audit_seq"),
    ")"
);
/// One of those that was prepared meanwhile has a number by now, and may be committed at any time. By a later snapshot than the
/// one before: what it shows as ended must have ended when this one is taken.
const SECOND_HORIZON: &str = "UPDATE pgveil.keys SET destroy_horizon = pg_snapshot_xmax(pg_current_snapshot()), destroy_waits = NULL \
    WHERE (id, audit_seq) IN (SELECT * FROM unnest($1::int8[], $2::int8[])) AND destroy_waits IS NOT NULL";
const DUE: &str = concat!(
    "SELECT id, scope, coalesce(pg_snapshot_xmin(pg_current_snapshot()) >= destroy_horizon, false) AND destroy_waits IS NULL, \
        destroy_waits IS NULL, ARRAY(SELECT format('pid %s%s', l.pid, ' from ' || host(a.client_addr)) \
            FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE destroy_waits IS NOT NULL AND ",
    behind!("k.audit_seq"),
    ") FROM pgveil.keys k WHERE destroy_at <= now() AND state = 'decrypt_only' ORDER BY id"
);
const SCOPE_OF: &str = "SELECT scope FROM pgveil.keys WHERE id = $1";

impl Keystore {
    /// All keys, by scope, purpose and epoch.
    pub async fn inventory(&self) -> Result<Vec<KeyEntry>, KeystoreError> {
        let rows = self.query(ALL, &[&UTC]).await?;
        rows.iter().map(entry).collect()
    }

    /// The scope of a key.
    pub async fn scope_of(&self, id: u64) -> Result<Option<String>, KeystoreError> {
        let Ok(id) = i64::try_from(id) else {
            return Ok(None);
        };
        let rows = self.query(SCOPE_OF, &[&id]).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
    }

    /// Schedules the destruction of a retired DEK. `unused_for` is the time that a replica may go on sealing with a key
    /// after it was retired; `proof` goes into the record. False: it is no retired DEK, was retired too short a time ago, or is
    /// scheduled already.
    pub async fn schedule_destruction(
        &self,
        id: u64,
        scope: &ScopePath,
        after: Duration,
        unused_for: Duration,
        proof: &Value,
        right: Authority<'_>,
    ) -> Result<bool, KeystoreError> {
        let mut change = self.change().await?;
        right
            .permit(&mut change, Operation::KeySchedule, scope)
            .await?;
        let now_us = change.keystore_now_us().await?;
        let mut rows = self.locked(&mut change, &[id]).await?;
        rows.retain(|row| {
            let retired = row.retired_us.map(|retired| now_us.saturating_sub(retired));
            row.scope == scope.as_str()
                && row.purpose == "data"
                && row.state == "decrypt_only"
                && row.destroy_us.is_none()
                && retired.is_some_and(|since| since > micros(unused_for))
        });
        let [row] = &mut rows[..] else {
            change.rollback().await?;
            return Ok(false);
        };
        row.destroy_us = Some(now_us.saturating_add(micros(after)));
        change.put_keys(&rows, 0).await?;
        change.query(HORIZON, &[&bigint(id)?]).await?;
        let detail = serde_json::json!({ "after_s": after.as_secs(), "proof": proof });
        let event = Event::new(Operation::KeySchedule)
            .scope(scope)
            .key(id)
            .detail(detail)
            .changes([id]);
        change.commit(event).await?;
        Ok(true)
    }

    /// Calls a scheduled destruction off. False: none is scheduled.
    pub async fn cancel_destruction(&self, id: u64, why: &Value) -> Result<bool, KeystoreError> {
        let mut change = self.change().await?;
        let mut rows = self.locked(&mut change, &[id]).await?;
        rows.retain(|row| row.state != "destroyed" && row.destroy_us.is_some());
        let [row] = &mut rows[..] else {
            change.rollback().await?;
            return Ok(false);
        };
        row.destroy_us = None;
        let event = Event::new(Operation::KeyCancel)
            .scope_text(&row.scope)
            .key(id)
            .detail(why.clone())
            .changes([id]);
        change.put_keys(&rows, 0).await?;
        change.query(NO_HORIZON, &[&bigint(id)?]).await?;
        change.commit(event).await?;
        Ok(true)
    }

    /// Keys whose destruction is due.
    pub async fn due(&self) -> Result<Vec<Due>, KeystoreError> {
        let ended = self.query(ENDED, &[]).await?;
        if !ended.is_empty() {
            let column = |at: usize| ended.iter().map(move |row| row.try_get::<_, i64>(at));
            let ids: Vec<i64> = column(0).collect::<Result<_, _>>()?;
            let records: Vec<i64> = column(1).collect::<Result<_, _>>()?;
            self.query(SECOND_HORIZON, &[&ids, &records]).await?;
        }
        let rows = self.query(DUE, &[]).await?;
        let due = |row: &Row| {
            Ok(Due {
                id: unsigned(row.try_get(0)?)?,
                scope: row.try_get(1)?,
                settled: row.try_get(2)?,
                nearly: row.try_get(3)?,
                behind: row.try_get(4)?,
            })
        };
        rows.iter().map(due).collect()
    }

    /// Erases the wrapped bytes of a key whose destruction is due. False: it is not due any more.
    pub async fn destroy(&self, id: u64, proof: &Value) -> Result<bool, KeystoreError> {
        let mut change = self.change().await?;
        // It was permitted when it was scheduled.
        change.automatic();
        let now_us = change.keystore_now_us().await?;
        let mut rows = self.locked(&mut change, &[id]).await?;
        rows.retain(|row| {
            row.state == "decrypt_only" && row.destroy_us.is_some_and(|due| due <= now_us)
        });
        let [row] = &mut rows[..] else {
            change.rollback().await?;
            return Ok(false);
        };
        row.destroy(now_us);
        let event = Event::new(Operation::KeyDestroy)
            .scope_text(&row.scope)
            .key(id)
            .detail(serde_json::json!({ "proof": proof }))
            .changes([id]);
        change.put_keys(&rows, 0).await?;
        change.commit(event).await?;
        Ok(true)
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn entry(row: &Row) -> Result<KeyEntry, KeystoreError> {
    let seconds = |at: usize| -> Result<Option<Duration>, KeystoreError> {
        let seconds: Option<f64> = row.try_get(at)?;
        seconds
            .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(|_| damaged()))
            .transpose()
    };
    Ok(KeyEntry {
        id: unsigned(row.try_get(0)?)?,
        scope: row.try_get(1)?,
        purpose: row.try_get(2)?,
        epoch: u32::try_from(row.try_get::<_, i32>(3)?).map_err(|_| damaged())?,
        state: row.try_get(4)?,
        provider: row.try_get(5)?,
        kek: row.try_get(6)?,
        kek_version: row.try_get(7)?,
        uses: unsigned(row.try_get(8)?)?,
        created_at: row.try_get(9)?,
        age: seconds(10)?.unwrap_or_default(),
        retired_at: row.try_get(11)?,
        retired_for: seconds(15)?,
        destroy_at: row.try_get(12)?,
        destroy_in: seconds(13)?,
        destroyed_at: row.try_get(14)?,
    })
}

fn unsigned(number: i64) -> Result<u64, KeystoreError> {
    u64::try_from(number).map_err(|_| damaged())
}

fn bigint(number: u64) -> Result<i64, KeystoreError> {
    i64::try_from(number).map_err(|_| damaged())
}

fn damaged() -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.keys",
        reason: "a number out of its range".to_owned(),
    }
}
