//! Tables `pgveil.local_keys`, `pgveil.local_keks` and `pgveil.meta`: where local providers keep their keys. Nothing is unsealed
//! or verified here.

use async_trait::async_trait;
use pgveil_providers::local::{
    KekStore, KekStoreError, KeyChange, MaterialChange, RootCheck, StoredKey,
};
use tokio_postgres::Row;

use super::{Keystore, KeystoreError};

const ROOT_CHECK: &str = "SELECT value FROM pgveil.meta WHERE name = $1";
const ADOPT_ROOT: &str =
    "INSERT INTO pgveil.meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const NOW: &str = "SELECT floor(extract(epoch FROM clock_timestamp()))::int8";
const KEY: &str = "SELECT kek_id, revision, record, mac FROM pgveil.local_keys \
    WHERE provider = $1 AND kek_id = $2";
const KEYS: &str = "SELECT kek_id, revision, record, mac FROM pgveil.local_keys \
    WHERE provider = $1 AND kek_id COLLATE \"C\" > $2 ORDER BY kek_id COLLATE \"C\" LIMIT $3";
const DUE: &str = "SELECT kek_id FROM pgveil.local_keys \
    WHERE provider = $1 AND rotate_at <= $2 ORDER BY rotate_at LIMIT $3";
const MATERIAL: &str = "SELECT sealed FROM pgveil.local_keks \
    WHERE provider = $1 AND kek_id = $2 AND version = $3 AND sealed IS NOT NULL";
/// All of it or nothing. A record takes the place of the one before it, and of no other; only a first one is new.
const CHANGE: &str = "WITH changed AS (\
        INSERT INTO pgveil.local_keys AS stored (provider, kek_id, revision, record, mac, rotate_at) \
        SELECT $1, $2, $3::int8, $4, $5, $6 \
        WHERE $3 = 1 OR EXISTS (SELECT FROM pgveil.local_keys WHERE provider = $1 AND kek_id = $2) \
        ON CONFLICT (provider, kek_id) DO UPDATE \
            SET revision = EXCLUDED.revision, record = EXCLUDED.record, mac = EXCLUDED.mac, rotate_at = EXCLUDED.rotate_at \
            WHERE stored.revision = EXCLUDED.revision - 1 \
        RETURNING kek_id), \
    put AS (\
        INSERT INTO pgveil.local_keks AS kek (provider, kek_id, version, state, sealed) \
        SELECT $1, kek_id, $7::int4, 'active', $8::bytea FROM changed WHERE $8::bytea IS NOT NULL \
        ON CONFLICT (provider, kek_id, version) DO UPDATE SET state = 'active', sealed = EXCLUDED.sealed), \
    erased AS (\
        UPDATE pgveil.local_keks SET state = 'destroyed', sealed = NULL, destroyed_at = now() \
        WHERE provider = $1 AND version = $7::int4 AND $8::bytea IS NULL AND kek_id IN (SELECT kek_id FROM changed)) \
    SELECT count(*) FROM changed";

#[async_trait]
impl KekStore for Keystore {
    async fn root_check(&self, provider: &str) -> Result<Option<RootCheck>, KekStoreError> {
        let rows = self.query(ROOT_CHECK, &[&meta_name(provider)]).await?;
        rows.first()
            .map(parse_check)
            .transpose()
            .map_err(Into::into)
    }

    async fn adopt_root(
        &self,
        provider: &str,
        check: &RootCheck,
    ) -> Result<RootCheck, KekStoreError> {
        self.query(ADOPT_ROOT, &[&meta_name(provider), &hex::encode(check.0)])
            .await?;
        self.root_check(provider)
            .await?
            .ok_or_else(|| damaged("pgveil.meta", "a root check is gone").into())
    }

    async fn now(&self) -> Result<u64, KekStoreError> {
        let rows = self.query(NOW, &[]).await?;
        let now: i64 = first(&rows)?.try_get(0).map_err(KeystoreError::from)?;
        u64::try_from(now).map_err(|_| damaged("pgveil.meta", "its clock is before 1970").into())
    }

    async fn key(&self, provider: &str, name: &str) -> Result<Option<StoredKey>, KekStoreError> {
        let rows = self.query(KEY, &[&provider, &name]).await?;
        rows.first().map(parse_key).transpose().map_err(Into::into)
    }

    async fn keys(
        &self,
        provider: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<StoredKey>, KekStoreError> {
        let limit = i64::from(limit);
        let rows = self.query(KEYS, &[&provider, &after, &limit]).await?;
        let keys: Result<_, KeystoreError> = rows.iter().map(parse_key).collect();
        Ok(keys?)
    }

    async fn due(
        &self,
        provider: &str,
        now: u64,
        limit: u32,
    ) -> Result<Vec<String>, KekStoreError> {
        let (now, limit) = (bigint(now)?, i64::from(limit));
        let rows = self.query(DUE, &[&provider, &now, &limit]).await?;
        let names: Result<_, _> = rows.iter().map(|row| row.try_get(0)).collect();
        Ok(names.map_err(KeystoreError::from)?)
    }

    async fn material(
        &self,
        provider: &str,
        name: &str,
        version: u32,
    ) -> Result<Option<Vec<u8>>, KekStoreError> {
        let Ok(version) = i32::try_from(version) else {
            return Ok(None);
        };
        let rows = self.query(MATERIAL, &[&provider, &name, &version]).await?;
        let sealed = rows.first().map(|row| row.try_get(0)).transpose();
        Ok(sealed.map_err(KeystoreError::from)?)
    }

    async fn change(&self, change: &KeyChange) -> Result<bool, KekStoreError> {
        let (version, sealed) = match &change.material {
            MaterialChange::Keep => (None, None),
            MaterialChange::Put(version, sealed) => (Some(*version), Some(sealed)),
            MaterialChange::Erase(version) => (Some(*version), None),
        };
        let version = version.map(i32::try_from).transpose();
        let version = version.map_err(|_| damaged(MATERIAL_TABLE, "a version beyond int4"))?;
        let key = &change.key;
        let revision = bigint(key.revision)?;
        let rotate_at = change.rotate_at.map(bigint).transpose()?;
        let rows = self
            .query(
                CHANGE,
                &[
                    &change.provider,
                    &key.name,
                    &revision,
                    &key.record,
                    &key.mac,
                    &rotate_at,
                    &version,
                    &sealed,
                ],
            )
            .await?;
        let changed: i64 = first(&rows)?.try_get(0).map_err(KeystoreError::from)?;
        Ok(changed == 1)
    }
}

const TABLE: &str = "pgveil.local_keys";
const MATERIAL_TABLE: &str = "pgveil.local_keks";

fn meta_name(provider: &str) -> String {
    format!("local_root_check:{provider}")
}

fn first(rows: &[Row]) -> Result<&Row, KeystoreError> {
    rows.first()
        .ok_or_else(|| damaged(TABLE, "a query that answers one row answers none"))
}

fn bigint(number: u64) -> Result<i64, KeystoreError> {
    i64::try_from(number).map_err(|_| damaged(TABLE, "a number beyond int8"))
}

fn parse_check(row: &Row) -> Result<RootCheck, KeystoreError> {
    let mut check = [0; 16];
    hex::decode_to_slice(row.try_get::<_, &str>(0)?, &mut check)
        .map_err(|_| damaged("pgveil.meta", "a root check is no hexadecimal text"))?;
    Ok(RootCheck(check))
}

fn parse_key(row: &Row) -> Result<StoredKey, KeystoreError> {
    Ok(StoredKey {
        name: row.try_get(0)?,
        revision: u64::try_from(row.try_get::<_, i64>(1)?)
            .map_err(|_| damaged(TABLE, "a negative revision"))?,
        record: row.try_get(2)?,
        mac: row.try_get(3)?,
    })
}

fn damaged(table: &'static str, reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table,
        reason: reason.to_owned(),
    }
}

impl From<KeystoreError> for KekStoreError {
    fn from(error: KeystoreError) -> Self {
        Self {
            reason: error.to_string(),
        }
    }
}
