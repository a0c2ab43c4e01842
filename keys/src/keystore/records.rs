//! Tables `pgveil.keys` and `pgveil.scopes`: wrapped keys, as [`crate::Keys`] asks for them. Nothing is unwrapped here.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use pgveil_config::ScopePath;
use pgveil_providers::Wrapped;
use serde_json::json;
use tokio_postgres::Row;

use super::{Keystore, KeystoreError};
use crate::{
    Purpose,
    audit::{Change, Event, Log, Operation},
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

    /// The active key of a scope.
    async fn active(
        &self,
        scope: &str,
        purpose: Purpose,
    ) -> Result<Option<KeyRecord>, KeystoreError>;

    /// A data key, in whatever state.
    async fn data_key(&self, id: u64) -> Result<Option<KeyRecord>, KeystoreError>;

    /// Those of these data keys that there are, in whatever state.
    async fn data_keys(&self, ids: &[u64]) -> Result<Vec<KeyRecord>, KeystoreError>;

    /// Stores a key as its scope's active one, in the next epoch, unless there is an active one already.
    /// The caller reads [`KeyTable::active`] afterwards to learn whose it is.
    async fn offer(&self, key: &NewKey) -> Result<(), KeystoreError>;

    /// Retires the key `retiring` and stores `key` as its scope's active one in the next epoch, unless `retiring` is
    /// not active any more. The caller reads [`KeyTable::active`] afterwards to learn whose it is.
    async fn replace(
        &self,
        retiring: u64,
        key: &NewKey,
        right: Authority<'_>,
    ) -> Result<(), KeystoreError>;

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

/// Whether a scope or one above it is sealed by hand: its chain, as [`pgveil_config::ScopePath::chain`] has it.
macro_rules! is_sealed {
    ($scope:literal) => {
        concat!(
            "EXISTS (SELECT FROM pgveil.scopes s WHERE s.state <> 'open' AND s.path IN ('platform', ",
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
            ", '/', 3)))"
        )
    };
}

/// With an explicit order of columns, for [`KeyRecord::from_row`].
macro_rules! select_key {
    ($condition:literal) => {
        concat!(
            "SELECT k.id, k.scope, k.purpose, k.epoch, k.state, ",
            is_sealed!("k.scope"),
            ", k.provider, k.kek_id, k.kek_version, coalesce(k.wrapped, ''), k.uses, \
             greatest(0, extract(epoch FROM clock_timestamp() - k.created_at))::float8 FROM pgveil.keys k WHERE ",
            $condition
        )
    };
}

const NEXT_ID: &str = "SELECT nextval('pgveil.key_ids')";
const ACTIVE: &str = select_key!("k.scope = $1 AND k.purpose = $2 AND k.state = 'active'");
const DATA_KEY: &str = select_key!("k.id = $1 AND k.purpose = 'data'");
const DATA_KEYS: &str = select_key!("k.id = ANY ($1) AND k.purpose = 'data'");
const LEASE: &str = "UPDATE pgveil.keys SET uses = uses + $2 \
    WHERE id = $1 AND state = 'active' AND uses + $2 <= $3 RETURNING uses";
/// The conflict may be on the active key, on the epoch (another replica's) or on the id (our own, when a lost
/// connection had committed): in every case the winner is read afterwards.
const OFFER: &str = "WITH scope AS (INSERT INTO pgveil.scopes (path) VALUES ($2) ON CONFLICT DO NOTHING) \
    INSERT INTO pgveil.keys (id, scope, purpose, epoch, state, provider, kek_id, kek_version, wrapped) \
    SELECT $1, $2, $3, \
        1 + coalesce((SELECT max(epoch) FROM pgveil.keys WHERE scope = $2 AND purpose = $3), 0), \
        'active', $4, $5, $6, $7 \
    ON CONFLICT DO NOTHING RETURNING epoch";
const PAGE: &str = select_key!("k.id > $1 ORDER BY k.id LIMIT 1000");
const REWRAPPED: &str = "UPDATE pgveil.keys SET provider = $3, kek_id = $4, kek_version = $5, wrapped = $6 \
    WHERE id = $1 AND state <> 'destroyed' AND wrapped = $2 RETURNING id";
/// The new row waits for the old one's lock and is made only by the one that retired it: run twice, or by two replicas, it
/// makes one key.
const REPLACE: &str = "WITH retired AS (UPDATE pgveil.keys SET state = 'decrypt_only', retired_at = now() \
        WHERE id = $8 AND scope = $2 AND purpose = $3 AND state = 'active' RETURNING epoch) \
    INSERT INTO pgveil.keys (id, scope, purpose, epoch, state, provider, kek_id, kek_version, wrapped) \
    SELECT $1, $2, $3, 1 + retired.epoch, 'active', $4, $5, $6, $7 FROM retired RETURNING epoch";
/// Asked while nobody else changes anything: whoever seals a scope holds the end of the audit log too.
const IS_SEALED: &str = concat!("SELECT ", is_sealed!("$1::text"));

#[async_trait]
impl KeyTable for Keystore {
    async fn next_id(&self) -> Result<u64, KeystoreError> {
        let rows = self.query(NEXT_ID, &[]).await?;
        let id: i64 = rows
            .first()
            .ok_or_else(|| damaged("nextval answers nothing"))?
            .try_get(0)?;
        u64::try_from(id).map_err(|_| damaged("a negative id"))
    }

    async fn active(
        &self,
        scope: &str,
        purpose: Purpose,
    ) -> Result<Option<KeyRecord>, KeystoreError> {
        let rows = self.query(ACTIVE, &[&scope, &purpose.as_str()]).await?;
        rows.first().map(KeyRecord::from_row).transpose()
    }

    async fn data_key(&self, id: u64) -> Result<Option<KeyRecord>, KeystoreError> {
        // Ids beyond bigint are in no table; they come from damaged values.
        let Ok(id) = i64::try_from(id) else {
            return Ok(None);
        };
        let rows = self.query(DATA_KEY, &[&id]).await?;
        rows.first().map(KeyRecord::from_row).transpose()
    }

    async fn data_keys(&self, ids: &[u64]) -> Result<Vec<KeyRecord>, KeystoreError> {
        let ids: Vec<i64> = ids.iter().filter_map(|id| (*id).try_into().ok()).collect();
        let rows = self.query(DATA_KEYS, &[&ids]).await?;
        rows.iter().map(KeyRecord::from_row).collect()
    }

    async fn offer(&self, key: &NewKey) -> Result<(), KeystoreError> {
        match self.offer_once(key).await {
            Err(KeystoreError::Unavailable { .. }) => self.offer_once(key).await,
            answer => answer,
        }
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
        rows.iter().map(KeyRecord::from_row).collect()
    }

    async fn rewrapped(&self, keys: &[Rewrapped]) -> Result<u64, KeystoreError> {
        let mut change = self.change().await?;
        // It follows from the settings that were permitted.
        change.automatic();
        let mut events = Vec::new();
        for Rewrapped { was, kek, wrapped } in keys {
            let id = bigint(was.id)?;
            let Wrapped { bytes, kek_version } = wrapped;
            let rows = change
                .query(
                    REWRAPPED,
                    &[
                        &id,
                        &was.wrapped.bytes,
                        &kek.provider,
                        &kek.kek,
                        kek_version,
                        bytes,
                    ],
                )
                .await?;
            if rows.is_empty() {
                continue;
            }
            let detail = json!({
                "purpose": was.purpose.as_str(),
                "epoch": was.epoch,
                "from": { "provider": was.provider, "kek": was.kek, "kek_version": was.wrapped.kek_version },
                "to": { "provider": kek.provider, "kek": kek.kek, "kek_version": kek_version },
            });
            events.push(
                Event::new(Operation::DekRewrap)
                    .scope_text(&was.scope)
                    .key(was.id)
                    .detail(detail),
            );
        }
        let stored = events.len() as u64;
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
    /// The key and its record, or neither.
    async fn offer_once(&self, key: &NewKey) -> Result<(), KeystoreError> {
        let id = bigint(key.id)?;
        let purpose = key.purpose.as_str();
        let Wrapped { bytes, kek_version } = &key.wrapped;
        let mut change = self.change().await?;
        let sealed = change.query(IS_SEALED, &[&key.scope]).await?;
        if sealed.first().map_or(Ok(false), |row| row.try_get(0))? {
            change.rollback().await?;
            return Err(KeystoreError::ScopeSealed {
                scope: key.scope.clone(),
            });
        }
        let rows = change
            .query(
                OFFER,
                &[
                    &id,
                    &key.scope,
                    &purpose,
                    &key.provider,
                    &key.kek,
                    kek_version,
                    bytes,
                ],
            )
            .await?;
        made(change, Operation::DekCreate, key, &rows, json!(null)).await
    }

    async fn replace_once(
        &self,
        retiring: u64,
        key: &NewKey,
        right: Authority<'_>,
    ) -> Result<(), KeystoreError> {
        let (id, old) = (bigint(key.id)?, bigint(retiring)?);
        let purpose = key.purpose.as_str();
        let Wrapped { bytes, kek_version } = &key.wrapped;
        let scope = ScopePath::parse(&key.scope).map_err(|_| damaged("a scope that is none"))?;
        let mut change = self.change().await?;
        right
            .permit(&mut change, Operation::DekRotate, &scope)
            .await?;
        let rows = change
            .query(
                REPLACE,
                &[
                    &id,
                    &key.scope,
                    &purpose,
                    &key.provider,
                    &key.kek,
                    kek_version,
                    bytes,
                    &old,
                ],
            )
            .await?;
        made(change, Operation::DekRotate, key, &rows, json!(retiring)).await
    }
}

/// Records a key that was stored, or undoes what was begun for one that was not. `rows`: its epoch.
async fn made(
    change: Change,
    operation: Operation,
    key: &NewKey,
    rows: &[Row],
    replaces: serde_json::Value,
) -> Result<(), KeystoreError> {
    let Some(row) = rows.first() else {
        return change.rollback().await;
    };
    let epoch: i32 = row.try_get(0)?;
    let mut detail = json!({
        "purpose": key.purpose.as_str(),
        "epoch": epoch,
        "provider": key.provider,
        "kek": key.kek,
        "kek_version": key.wrapped.kek_version,
    });
    if !replaces.is_null() {
        detail["replaces"] = replaces;
    }
    let event = Event::new(operation)
        .scope_text(&key.scope)
        .key(key.id)
        .detail(detail);
    change.commit(event).await
}

impl KeyRecord {
    pub(super) fn from_row(row: &Row) -> Result<Self, KeystoreError> {
        let positive = |n: i64| u64::try_from(n).map_err(|_| damaged("a negative number"));
        Ok(Self {
            id: positive(row.try_get(0)?)?,
            scope: row.try_get(1)?,
            purpose: parse_purpose(row.try_get(2)?)?,
            epoch: u32::try_from(row.try_get::<_, i32>(3)?)
                .map_err(|_| damaged("a negative epoch"))?,
            state: parse_state(row.try_get(4)?)?,
            scope_sealed: row.try_get(5)?,
            provider: row.try_get(6)?,
            kek: row.try_get(7)?,
            wrapped: Wrapped {
                kek_version: row.try_get(8)?,
                bytes: row.try_get(9)?,
            },
            uses: positive(row.try_get(10)?)?,
            age: Duration::try_from_secs_f64(row.try_get(11)?)
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

fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.keys",
        reason: reason.to_owned(),
    }
}
