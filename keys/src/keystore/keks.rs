//! Tables `pgveil.local_keks` and `pgveil.meta`: where local providers keep their sealed KEKs. Nothing is unsealed here.

use async_trait::async_trait;
use pgveil_providers::local::{KekState, KekStore, KekStoreError, RootCheck, SealedKek};
use tokio_postgres::Row;

use super::{Keystore, KeystoreError};

const ROOT_CHECK: &str = "SELECT value FROM pgveil.meta WHERE name = $1";
const ADOPT_ROOT: &str =
    "INSERT INTO pgveil.meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const NEWEST: &str = "SELECT provider, kek_id, version, state, coalesce(sealed, '') FROM pgveil.local_keks \
    WHERE provider = $1 AND kek_id = $2 ORDER BY version DESC LIMIT 1";
const VERSION: &str = "SELECT provider, kek_id, version, state, coalesce(sealed, '') FROM pgveil.local_keks \
    WHERE provider = $1 AND kek_id = $2 AND version = $3";
const INSERT: &str = "INSERT INTO pgveil.local_keks (provider, kek_id, version, state, sealed) \
    VALUES ($1, $2, $3, 'active', $4) ON CONFLICT DO NOTHING";

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

    async fn newest(&self, provider: &str, kek: &str) -> Result<Option<SealedKek>, KekStoreError> {
        let rows = self.query(NEWEST, &[&provider, &kek]).await?;
        rows.first().map(parse_kek).transpose().map_err(Into::into)
    }

    async fn version(
        &self,
        provider: &str,
        kek: &str,
        version: u32,
    ) -> Result<Option<SealedKek>, KekStoreError> {
        let Ok(version) = i32::try_from(version) else {
            return Ok(None);
        };
        let rows = self.query(VERSION, &[&provider, &kek, &version]).await?;
        rows.first().map(parse_kek).transpose().map_err(Into::into)
    }

    async fn insert(&self, kek: SealedKek) -> Result<SealedKek, KekStoreError> {
        let version =
            i32::try_from(kek.version).map_err(|_| damaged(TABLE, "a version beyond int4"))?;
        self.query(INSERT, &[&kek.provider, &kek.kek, &version, &kek.sealed])
            .await?;
        let stored = self.version(&kek.provider, &kek.kek, kek.version).await?;
        stored.ok_or_else(|| damaged(TABLE, "a key encryption key is gone").into())
    }
}

const TABLE: &str = "pgveil.local_keks";

fn meta_name(provider: &str) -> String {
    format!("local_root_check:{provider}")
}

fn parse_check(row: &Row) -> Result<RootCheck, KeystoreError> {
    let mut check = [0; 16];
    hex::decode_to_slice(row.try_get::<_, &str>(0)?, &mut check)
        .map_err(|_| damaged("pgveil.meta", "a root check is no hexadecimal text"))?;
    Ok(RootCheck(check))
}

fn parse_kek(row: &Row) -> Result<SealedKek, KeystoreError> {
    Ok(SealedKek {
        provider: row.try_get(0)?,
        kek: row.try_get(1)?,
        version: u32::try_from(row.try_get::<_, i32>(2)?)
            .map_err(|_| damaged(TABLE, "a negative version"))?,
        state: parse_state(row.try_get(3)?)?,
        sealed: row.try_get(4)?,
    })
}

fn parse_state(text: &str) -> Result<KekState, KeystoreError> {
    match text {
        "active" => Ok(KekState::Active),
        "decrypt_only" => Ok(KekState::DecryptOnly),
        "destroyed" => Ok(KekState::Destroyed),
        _ => Err(damaged(TABLE, "an unknown state")),
    }
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
