//! Tables `pgveil.keys` and `pgveil.scopes`: wrapped keys, as [`crate::Keys`] asks for them. Nothing is unwrapped here.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use pgveil_config::ScopePath;
use pgveil_providers::Wrapped;
use serde_json::json;
use tokio_postgres::Row;

use super::{
    Keystore, KeystoreError,
    rows::{Fresh, KeyRow, ROW_COLUMNS, row_columns, us},
    watch::CHANNEL,
    words::{self, words_of, words_of_chain},
};
use crate::{
    Purpose,
    audit::{Event, Log, Operation, event::MAX_CHANGED_KEYS},
    scopes::KekRef,
    step_up::Authority,
};

/// The states of a key (design: active, decrypt-only, destroyed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Seals and opens.
    Active,
    /// Opens only.
    DecryptOnly,
    /// Wrapped bytes erased.
    Destroyed,
}

/// A row of `pgveil.keys`, with what its scope's row adds.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// What sealed values name.
    pub id: u64,
    /// The scope's path.
    pub scope: String,
    /// DEK or index key.
    pub purpose: Purpose,
    /// From 1, per scope and purpose.
    pub epoch: u32,
    /// What it may be used for.
    pub state: KeyState,
    /// Whether its scope, or one above it, is sealed by hand.
    pub scope_sealed: bool,
    /// `[provider.NAME]`.
    pub provider: String,
    /// The KEK's id in that provider.
    pub kek: String,
    /// Under the KEK; empty once destroyed.
    pub wrapped: Wrapped,
    /// Uses that were leased: at least as many as values were sealed with it.
    pub uses: u64,
    /// The record of the audit log with which its row was written last.
    pub record: u64,
    /// Since it was made, by the keystore's clock.
    pub age: Duration,
}

impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRecord")
            .field("id", &self.id)
            .field("scope", &self.scope)
            .field("purpose", &self.purpose)
            .field("epoch", &self.epoch)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A key that was just made and wrapped.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// From [`KeyTable::next_id`].
    pub id: u64,
    /// The scope's path.
    pub scope: String,
    /// DEK or index key.
    pub purpose: Purpose,
    /// `[provider.NAME]`.
    pub provider: String,
    /// The KEK's id in that provider.
    pub kek: String,
    /// Under that KEK.
    pub wrapped: Wrapped,
}

/// A key as another KEK wraps it.
#[derive(Clone, Debug)]
pub struct Rewrapped {
    /// Its row as it was read.
    pub was: KeyRecord,
    /// Which KEK.
    pub kek: KekRef,
    /// Under that KEK.
    pub wrapped: Wrapped,
}

/// Where wrapped keys are kept. What a method answers is committed.
#[async_trait]
pub trait KeyTable: Send + Sync + fmt::Debug {
    /// An id that no key has had.
    async fn next_id(&self) -> Result<u64, KeystoreError>;

    /// So many such ids.
    async fn next_ids(&self, count: usize) -> Result<Vec<u64>, KeystoreError> {
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            ids.push(self.next_id().await?);
        }
        Ok(ids)
    }

    /// The active key of a scope.
    async fn active(
        &self,
        scope: &str,
        purpose: Purpose,
    ) -> Result<Option<KeyRecord>, KeystoreError>;

    /// The scope's newest index key with an id up to `newest`, else its oldest, of those that are not destroyed.
    async fn index_key(&self, scope: &str, newest: u64)
    -> Result<Option<KeyRecord>, KeystoreError>;

    /// A data key, in whatever state.
    async fn data_key(&self, id: u64) -> Result<Option<KeyRecord>, KeystoreError>;

    /// Those of these data keys that there are, in whatever state.
    async fn data_keys(&self, ids: &[u64]) -> Result<Vec<KeyRecord>, KeystoreError>;

    /// Stores a key as its scope's active one, in the next epoch, unless there is an active one already.
    /// The caller reads [`KeyTable::active`] afterwards to learn whose it is.
    async fn offer(&self, key: &NewKey) -> Result<(), KeystoreError>;

    /// Retires the key `retiring` and stores `key` as its scope's active one in the next epoch, unless `retiring` is
    /// not active any more. The caller reads [`KeyTable::active`] afterwards to learn whose it is. An index key is refused whose
    /// id a column's terms may mean already: they were made with the one before.
    async fn replace(
        &self,
        retiring: u64,
        key: &NewKey,
        right: Authority<'_>,
    ) -> Result<(), KeystoreError>;

    /// As [`KeyTable::replace`] for data keys of different scopes, all or none: pgveil does it by itself. Beside each is the one
    /// that it retires. Answers how many were still active.
    async fn replace_all(&self, keys: &[(u64, NewKey)]) -> Result<u64, KeystoreError> {
        for (retiring, key) in keys {
            self.replace(*retiring, key, Authority::Automatic).await?;
        }
        Ok(keys.len() as u64)
    }

    /// Adds to an active key's count of uses, if it stays within `limit`; answers the count now. `None`: it would not,
    /// or the key is not active any more.
    async fn lease(&self, id: u64, uses: u64, limit: u64) -> Result<Option<u64>, KeystoreError>;

    /// The keys after an id, in the order of ids, up to a page.
    async fn records(&self, after: u64) -> Result<Vec<KeyRecord>, KeystoreError>;

    /// Stores other wrappings of the same keys, all or none; answers how many rows were still as they were read.
    async fn rewrapped(&self, keys: &[Rewrapped]) -> Result<u64, KeystoreError>;

    /// The audit log that belongs to it; a table in memory has none.
    fn log(&self) -> Option<&Arc<Log>> {
        None
    }
}

/// [`row_columns`], and what [`KeyRecord`] has beside them.
macro_rules! select_key {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            row_columns!(),
            ", ",
            words_of_chain!("k.scope"),
            ", k.uses, greatest(0, extract(epoch FROM clock_timestamp() - k.created_at))::float8 FROM pgveil.keys k WHERE ",
            $condition
        )
    };
}

/// With the newest id that was given out as far as anybody knows. It is of before this statement, so that those who are given
/// ids beside it cannot have passed it.
const NEXT_IDS: &str = "SELECT nextval('pgveil.key_ids'), m.newest FROM (SELECT greatest(0, \
        (SELECT max(id) FROM pgveil.keys), (SELECT max(key_id) FROM pgveil.key_changes)) AS newest) m, \
    generate_series(1, $1::int8)";
const ACTIVE: &str = select_key!("k.scope = $1 AND k.purpose = $2 AND k.state = 'active'");
const INDEX_KEY: &str = select_key!(
    "k.scope = $1 AND k.purpose = 'index' AND k.state <> 'destroyed' \
     ORDER BY k.id <= $2 DESC, CASE WHEN k.id <= $2 THEN -k.id ELSE k.id END LIMIT 1"
);
/// The newest id that the terms of any column may mean.
const MEANT: &str =
    "SELECT coalesce(max(greatest(newest_key, other_newest_key)), 0) FROM pgveil.columns";
const DATA_KEY: &str = select_key!("k.id = $1 AND k.purpose = 'data'");
const DATA_KEYS: &str = select_key!("k.id = ANY ($1) AND k.purpose = 'data'");
/// No condition that the index `keys_active` has: where the table was not analysed yet, it would be gone through for the id.
const LEASE: &str = "UPDATE pgveil.keys SET uses = uses + $2 \
    WHERE id = $1 AND state || '' = 'active' AND uses + $2 <= $3 RETURNING uses";
const PAGE: &str = select_key!("k.id > $1 ORDER BY k.id LIMIT 1000");
/// A hint: other replicas let go of the old key before its time in their memory is over.
const NOTIFY: &str = "SELECT pg_notify($1, scope) FROM unnest($2::text[]) scope";

#[async_trait]
impl KeyTable for Keystore {
    async fn next_id(&self) -> Result<u64, KeystoreError> {
        let mut ids = self.next_ids(1).await?;
        ids.pop().ok_or_else(|| damaged("nextval answers nothing"))
    }

    async fn next_ids(&self, count: usize) -> Result<Vec<u64>, KeystoreError> {
        let rows = self.query(NEXT_IDS, &[&bigint(count as u64)?]).await?;
        let id = |row: &Row| {
            let (id, newest): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            // What is to be replaced is told by ids: a lower one would name nothing.
            if id <= newest {
                return Err(KeystoreError::Damaged {
                    table: "pgveil.key_ids",
                    reason: format!(
                        "the sequence was set back: it gives {id}, and {newest} was given out"
                    ),
                });
            }
            u64::try_from(id).map_err(|_| damaged("a negative id"))
        };
        rows.iter().map(id).collect()
    }

    async fn active(
        &self,
        scope: &str,
        purpose: Purpose,
    ) -> Result<Option<KeyRecord>, KeystoreError> {
        let rows = self.query(ACTIVE, &[&scope, &purpose.as_str()]).await?;
        self.record(rows.first()).await
    }

    async fn index_key(
        &self,
        scope: &str,
        newest: u64,
    ) -> Result<Option<KeyRecord>, KeystoreError> {
        let rows = self.query(INDEX_KEY, &[&scope, &bigint(newest)?]).await?;
        self.record(rows.first()).await
    }

    async fn data_key(&self, id: u64) -> Result<Option<KeyRecord>, KeystoreError> {
        // Ids beyond bigint are in no table; they come from damaged values.
        let Ok(id) = i64::try_from(id) else {
            return Ok(None);
        };
        let rows = self.query(DATA_KEY, &[&id]).await?;
        self.record(rows.first()).await
    }

    async fn data_keys(&self, ids: &[u64]) -> Result<Vec<KeyRecord>, KeystoreError> {
        let ids: Vec<i64> = ids.iter().filter_map(|id| (*id).try_into().ok()).collect();
        let rows = self.query(DATA_KEYS, &[&ids]).await?;
        self.records_of(&rows, Refused::LeftOut).await
    }

    async fn offer(&self, key: &NewKey) -> Result<(), KeystoreError> {
        self.store_offered(key).await
    }

    async fn replace(
        &self,
        retiring: u64,
        key: &NewKey,
        right: Authority<'_>,
    ) -> Result<(), KeystoreError> {
        match self.replace_once(retiring, key, right).await {
            Err(KeystoreError::Unavailable { .. }) => self.replace_once(retiring, key, right).await,
            answer => answer,
        }
    }

    async fn replace_all(&self, keys: &[(u64, NewKey)]) -> Result<u64, KeystoreError> {
        match self.replace_all_once(keys).await {
            Err(KeystoreError::Unavailable { .. }) => self.replace_all_once(keys).await,
            answer => answer,
        }
    }

    async fn lease(&self, id: u64, uses: u64, limit: u64) -> Result<Option<u64>, KeystoreError> {
        let (id, uses, limit) = (bigint(id)?, bigint(uses)?, bigint(limit)?);
        let rows = self.query(LEASE, &[&id, &uses, &limit]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        u64::try_from(row.try_get::<_, i64>(0)?)
            .map(Some)
            .map_err(|_| damaged("a negative count"))
    }

    async fn records(&self, after: u64) -> Result<Vec<KeyRecord>, KeystoreError> {
        let rows = self.query(PAGE, &[&bigint(after)?]).await?;
        self.records_of(&rows, Refused::Told).await
    }

    async fn rewrapped(&self, keys: &[Rewrapped]) -> Result<u64, KeystoreError> {
        let mut change = self.change().await?;
        // It follows from the settings that were permitted.
        change.automatic();
        let (mut events, mut stored) = (Vec::new(), 0);
        for keys in keys.chunks(MAX_CHANGED_KEYS) {
            let ids: Vec<u64> = keys.iter().map(|key| key.was.id).collect();
            let mut rows = self.locked(&mut change, &ids).await?;
            rows.retain_mut(|row| {
                let found = keys.iter().find(|key| key.was.id == row.id);
                let unchanged =
                    found.filter(|key| row.wrapped.as_ref() == Some(&key.was.wrapped.bytes));
                let Some(Rewrapped { kek, wrapped, .. }) = unchanged else {
                    return false;
                };
                row.provider.clone_from(&kek.provider);
                row.kek.clone_from(&kek.kek);
                row.kek_version.clone_from(&wrapped.kek_version);
                row.wrapped = Some(wrapped.bytes.clone());
                true
            });
            if rows.is_empty() {
                continue;
            }
            change.put_keys(&rows, events.len()).await?;
            stored += rows.len() as u64;
            events.push(rewrap_event(keys, &rows));
        }
        if stored == 0 {
            change.rollback().await?;
        } else {
            change.commit_all(events).await?;
        }
        Ok(stored)
    }

    fn log(&self) -> Option<&Arc<Log>> {
        Some(Keystore::log(self))
    }
}

impl Keystore {
    /// A row that pgveil wrote, and wrote last.
    async fn record(&self, row: Option<&Row>) -> Result<Option<KeyRecord>, KeystoreError> {
        let Some(row) = row else {
            return Ok(None);
        };
        self.log.stands()?;
        let stored = KeyRow::of(row)?;
        self.judged(&stored).await?;
        let secrets = self.log.secrets().await?;
        let said = row.try_get(ROW_COLUMNS)?;
        let sealed = words::is_sealed(said, &secrets)?;
        self.hold_seals(&stored.scope, said)?;
        KeyRecord::of(stored, row, sealed).map(Some)
    }

    async fn records_of(
        &self,
        rows: &[Row],
        refused: Refused,
    ) -> Result<Vec<KeyRecord>, KeystoreError> {
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            match self.record(Some(row)).await {
                Err(KeystoreError::KeyRow { .. }) if refused == Refused::LeftOut => {}
                record => records.extend(record?),
            }
        }
        Ok(records)
    }

    async fn replace_once(
        &self,
        retiring: u64,
        key: &NewKey,
        right: Authority<'_>,
    ) -> Result<(), KeystoreError> {
        let scope = ScopePath::parse(&key.scope).map_err(|_| damaged("a scope that is none"))?;
        let mut change = self.change().await?;
        right
            .permit(&mut change, Operation::DekRotate, &scope)
            .await?;
        let mut rows = self.locked(&mut change, &[retiring]).await?;
        rows.retain(|row| {
            row.state == "active" && row.scope == key.scope && row.purpose == key.purpose.as_str()
        });
        // Run twice, or by two replicas, it makes one key.
        let [old] = &mut rows[..] else {
            return change.rollback().await;
        };
        if key.purpose == Purpose::Index {
            let meant = change.query(MEANT, &[]).await?;
            let meant: i64 = meant.first().map_or(Ok(0), |row| row.try_get(0))?;
            // It was on its way while columns went over to newer keys: another one is made.
            if bigint(key.id)? <= meant {
                return change.rollback().await;
            }
        }
        let (epoch, now_us) = (1 + old.epoch, change.keystore_now_us().await?);
        "decrypt_only".clone_into(&mut old.state);
        old.retired_us = Some(now_us);
        change.put_keys(&rows, 0).await?;
        if !change.insert_keys(&[Fresh { key, epoch, now_us }]).await? {
            return change.rollback().await;
        }
        change
            .query(NOTIFY, &[&CHANNEL, &[&key.scope].as_slice()])
            .await?;
        change.commit(replaced(retiring, key, epoch)).await
    }

    /// Each with a record of its own, in one transaction: no key is replaced whose record is not written.
    async fn replace_all_once(&self, keys: &[(u64, NewKey)]) -> Result<u64, KeystoreError> {
        let mut change = self.change().await?;
        change.automatic();
        let by_retiring: HashMap<u64, &NewKey> = keys
            .iter()
            .map(|(retiring, key)| (*retiring, key))
            .collect();
        let ids: Vec<u64> = by_retiring.keys().copied().collect();
        let now_us = change.keystore_now_us().await?;
        let mut rows = self.locked(&mut change, &ids).await?;
        let (mut events, mut fresh, mut scopes) = (Vec::new(), Vec::new(), Vec::new());
        rows.retain_mut(|row| {
            let next = by_retiring.get(&row.id).filter(|key| {
                key.purpose == Purpose::Data
                    && row.purpose == key.purpose.as_str()
                    && row.scope == key.scope
            });
            let Some(&key) = next.filter(|_| row.state == "active") else {
                return false;
            };
            let epoch = 1 + row.epoch;
            "decrypt_only".clone_into(&mut row.state);
            row.retired_us = Some(now_us);
            events.push(replaced(row.id, key, epoch));
            fresh.push(Fresh { key, epoch, now_us });
            scopes.push(key.scope.as_str());
            true
        });
        if rows.is_empty() {
            change.rollback().await?;
            return Ok(0);
        }
        let of_each: Vec<usize> = (0..rows.len()).collect();
        change.put_each(&rows, &of_each).await?;
        if !change.insert_keys(&fresh).await? {
            change.rollback().await?;
            return Err(damaged("a new key finds another one in its place"));
        }
        change.query(NOTIFY, &[&CHANNEL, &scopes]).await?;
        change.commit_all(events).await?;
        Ok(rows.len() as u64)
    }
}

/// What becomes of rows that pgveil did not write, among others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// The others are answered.
    LeftOut,
    /// They are an error.
    Told,
}

/// Of a key that was made.
pub(super) fn made(operation: Operation, key: &NewKey, epoch: u32) -> Event {
    let detail = json!({
        "purpose": key.purpose.as_str(),
        "epoch": epoch,
        "provider": key.provider,
        "kek": key.kek,
        "kek_version": key.wrapped.kek_version,
    });
    let event = Event::new(operation).scope_text(&key.scope);
    event.key(key.id).detail(detail)
}

/// Of a key that took another one's place.
fn replaced(retiring: u64, key: &NewKey, epoch: u32) -> Event {
    let event = made(Operation::DekRotate, key, epoch).more("replaces", json!(retiring));
    event.changes([retiring, key.id])
}

/// Of keys that were wrapped anew: what they have in common, once.
fn rewrap_event(keys: &[Rewrapped], rows: &[KeyRow]) -> Event {
    let stored = |key: &&Rewrapped| rows.iter().any(|row| row.id == key.was.id);
    let stored: Vec<&Rewrapped> = keys.iter().filter(stored).collect();
    let common = |of: &dyn Fn(&Rewrapped) -> String| {
        let first = stored.first().map(|key| of(key))?;
        stored.iter().all(|key| of(key) == first).then_some(first)
    };
    let detail = json!({
        "keys": stored.len(),
        "from": {
            "provider": common(&|key| key.was.provider.clone()),
            "kek": common(&|key| key.was.kek.clone()),
            "kek_version": common(&|key| key.was.wrapped.kek_version.clone()),
        },
        "to": {
            "provider": common(&|key| key.kek.provider.clone()),
            "kek": common(&|key| key.kek.kek.clone()),
            "kek_version": common(&|key| key.wrapped.kek_version.clone()),
        },
    });
    let mut event = Event::new(Operation::DekRewrap);
    if let Some(scope) = common(&|key| key.was.scope.clone()) {
        event = event.scope_text(&scope);
    }
    if let [only] = &stored[..] {
        event = event.key(only.was.id);
    }
    let event = event.detail(detail);
    event.changes(stored.iter().map(|key| key.was.id))
}

impl KeyRecord {
    fn of(stored: KeyRow, row: &Row, scope_sealed: bool) -> Result<Self, KeystoreError> {
        let positive = |n: i64| u64::try_from(n).map_err(|_| damaged("a negative number"));
        Ok(Self {
            purpose: parse_purpose(&stored.purpose)?,
            state: parse_state(&stored.state)?,
            record: stored.record(),
            id: stored.id,
            scope: stored.scope,
            epoch: stored.epoch,
            scope_sealed,
            provider: stored.provider,
            kek: stored.kek,
            wrapped: Wrapped {
                kek_version: stored.kek_version,
                bytes: stored.wrapped.unwrap_or_default(),
            },
            uses: positive(row.try_get(ROW_COLUMNS + 1)?)?,
            age: Duration::try_from_secs_f64(row.try_get(ROW_COLUMNS + 2)?)
                .map_err(|_| damaged("a time that is none"))?,
        })
    }
}

fn parse_purpose(text: &str) -> Result<Purpose, KeystoreError> {
    match text {
        "data" => Ok(Purpose::Data),
        "index" => Ok(Purpose::Index),
        _ => Err(damaged("an unknown purpose")),
    }
}

fn parse_state(text: &str) -> Result<KeyState, KeystoreError> {
    match text {
        "active" => Ok(KeyState::Active),
        "decrypt_only" => Ok(KeyState::DecryptOnly),
        "destroyed" => Ok(KeyState::Destroyed),
        _ => Err(damaged("an unknown state")),
    }
}

fn bigint(n: u64) -> Result<i64, KeystoreError> {
    i64::try_from(n).map_err(|_| damaged("a number beyond bigint"))
}

pub(super) fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.keys",
        reason: reason.to_owned(),
    }
}
