//! Tables `pgveil.local_keys`, `pgveil.local_keks` and `pgveil.meta`: where local providers keep their keys. Nothing is unsealed
//! or verified here. What is done to a key is recorded in the audit log, in the same transaction.

use std::sync::Arc;

use async_trait::async_trait;
use pgveil_config::ScopePath;
use pgveil_providers::local::{
    Deed, Grant, KekStore, KekStoreError, KeyChange, MaterialChange, RootCheck, StoredKey,
};
use serde_json::json;
use tokio_postgres::{Row, types::ToSql};

use super::{
    Keystore, KeystoreError, bigint_of,
    rows::{kek_name, name_of_kek},
    standing::{STANDING, Standing},
};
use crate::{
    audit::{Event, Operation},
    step_up::{Authority, StepUpError, Token},
};

const LOG_IS_UNDER: &str =
    "SELECT FROM pgveil.audit_keys WHERE retired_at IS NULL AND provider = $1 AND kek_id = $2";
const HAS_LOG: &str = "SELECT EXISTS (SELECT FROM pgveil.audit_keys WHERE retired_at IS NULL)";
const ROOT_CHECK: &str = "SELECT value FROM pgveil.meta WHERE name = $1";
const ADOPT_ROOT: &str =
    "INSERT INTO pgveil.meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const NOW: &str = "SELECT floor(extract(epoch FROM clock_timestamp()))::int8";
/// Revisions are counted without gaps. Only a first one, and one that lets the audit log be opened again, may have no record.
macro_rules! record_columns {
    () => {
        concat!(
            "k.kek_id, k.revision, k.record, k.mac, EXISTS (SELECT FROM pgveil.row_changes c \
             WHERE c.table_name = 'local_keys' AND c.row_name IN (",
            kek_name!("k.provider", "k.kek_id"),
            " || ' ' || (k.revision + 1), ",
            kek_name!("k.provider", "k.kek_id"),
            " || ' ' || (k.revision + 2)))"
        )
    };
}

const KEY: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM pgveil.local_keys k WHERE k.provider = $1 AND k.kek_id = $2"
);
const KEYS: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM pgveil.local_keys k WHERE k.provider = $1 AND k.kek_id COLLATE \"C\" > $2 \
     ORDER BY k.kek_id COLLATE \"C\" LIMIT $3"
);
/// As `pgveil.row_changes` and records name the table.
const RECORDS: &str = "local_keys";
const NOTE: &str = concat!(
    "INSERT INTO pgveil.row_changes (table_name, row_name, audit_seq) VALUES ('local_keys', ",
    kek_name!("$1::text", "$2::text"),
    " || ' ' || $3::int8, $4)"
);
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
        let right = Authority::Automatic;
        Ok(self.change_kek(change, right, Loss::Refused).await?)
    }
}

impl Keystore {
    /// Makes a change together with its record.
    async fn change_kek(
        &self,
        change: &KeyChange,
        right: Authority<'_>,
        loss: Loss,
    ) -> Result<bool, KeystoreError> {
        let row = Parameters::of(change)?;
        if !self.is_recorded(&change.deed).await? {
            return changed(&self.query(CHANGE, &row.all(change)).await?);
        }
        if self.opens_the_log(change).await? {
            let done = changed(&self.query(CHANGE, &row.all(change)).await?)?;
            if done && let Err(error) = self.log.record(event(change)).await {
                tracing::error!(%error, "a key was enabled, and the audit log does not open yet");
            }
            return Ok(done);
        }
        let operation = operation(&change.deed);
        let mut done = self.change().await?;
        if operation.needs_step_up() {
            right
                .permit(&mut done, operation, &ScopePath::platform())
                .await?;
        }
        if !changed(&done.query(CHANGE, &row.all(change)).await?)? {
            done.rollback().await?;
            return Ok(false);
        }
        let seq = bigint_of(done.record_seq(0))?;
        let params: [&(dyn ToSql + Sync); 4] =
            [&change.provider, &change.key.name, &row.revision, &seq];
        done.query(NOTE, &params).await?;
        let mut event = event(change);
        if let Deed::DestroyVersion(version) = change.deed {
            let version = version.to_string();
            let params: [&(dyn ToSql + Sync); 3] = [&change.provider, &change.key.name, &version];
            let lost = Standing::of(&done.query(STANDING, &params).await?)?;
            if !lost.is_empty() {
                if loss == Loss::Refused {
                    done.rollback().await?;
                    return Err(KeystoreError::Refused {
                        message: format!("under version {version} stand {lost}"),
                    });
                }
                event = event.more("accepted_loss", lost.as_json());
            }
        }
        let names = [row_name(change)];
        done.commit(event.changes_rows(RECORDS, &names)).await?;
        Ok(true)
    }

    /// Whether this gives back the key without which the log's own does not open: it is done first and recorded then.
    async fn opens_the_log(&self, change: &KeyChange) -> Result<bool, KeystoreError> {
        if !matches!(change.deed, Deed::EnableVersion(_) | Deed::Activate) {
            return Ok(false);
        }
        let name = &change.key.name;
        let rows = self.query(LOG_IS_UNDER, &[&change.provider, name]).await?;
        Ok(!rows.is_empty()
            && matches!(
                self.log.secrets().await,
                Err(KeystoreError::Unaudited { .. })
            ))
    }

    /// What pgveil needs before there is a log is not recorded: the log's own key is wrapped by it.
    async fn is_recorded(&self, deed: &Deed) -> Result<bool, KeystoreError> {
        match deed {
            Deed::Adopt => Ok(false),
            Deed::Service => {
                let rows = self.query(HAS_LOG, &[]).await?;
                Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
            }
            _ => Ok(true),
        }
    }
}

/// The keys of local providers for somebody with a step-up token: what needs one uses it up.
#[derive(Debug)]
pub struct PermittedKeks {
    keystore: Arc<Keystore>,
    token: Option<Token>,
    loss: Loss,
}

/// Whether a version may be destroyed under which keys stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is refused.
    Refused,
    /// Somebody said that what they sealed may be lost.
    Accepted,
}

impl PermittedKeks {
    /// Without a token, only what needs none can be done.
    pub fn new(keystore: Arc<Keystore>, token: Option<Token>, loss: Loss) -> Self {
        Self {
            keystore,
            token,
            loss,
        }
    }
}

#[async_trait]
impl KekStore for PermittedKeks {
    async fn root_check(&self, provider: &str) -> Result<Option<RootCheck>, KekStoreError> {
        self.keystore.root_check(provider).await
    }

    async fn adopt_root(
        &self,
        provider: &str,
        check: &RootCheck,
    ) -> Result<RootCheck, KekStoreError> {
        self.keystore.adopt_root(provider, check).await
    }

    async fn now(&self) -> Result<u64, KekStoreError> {
        self.keystore.now().await
    }

    async fn key(&self, provider: &str, name: &str) -> Result<Option<StoredKey>, KekStoreError> {
        self.keystore.key(provider, name).await
    }

    async fn keys(
        &self,
        provider: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<StoredKey>, KekStoreError> {
        self.keystore.keys(provider, after, limit).await
    }

    async fn due(
        &self,
        provider: &str,
        now: u64,
        limit: u32,
    ) -> Result<Vec<String>, KekStoreError> {
        KekStore::due(&*self.keystore, provider, now, limit).await
    }

    async fn material(
        &self,
        provider: &str,
        name: &str,
        version: u32,
    ) -> Result<Option<Vec<u8>>, KekStoreError> {
        self.keystore.material(provider, name, version).await
    }

    async fn change(&self, change: &KeyChange) -> Result<bool, KekStoreError> {
        let operation = operation(&change.deed);
        let right = match &self.token {
            Some(token) => Authority::Token(token),
            None if operation.needs_step_up() && is_by_a_person(&change.deed) => {
                let needed: KeystoreError = StepUpError::Needed { operation }.into();
                return Err(needed.into());
            }
            None => Authority::Automatic,
        };
        Ok(self.keystore.change_kek(change, right, self.loss).await?)
    }
}

fn is_by_a_person(deed: &Deed) -> bool {
    !matches!(deed, Deed::Service | Deed::Adopt | Deed::RotateDue)
}

/// As what a deed is recorded.
fn operation(deed: &Deed) -> Operation {
    match deed {
        Deed::Rotate | Deed::RotateDue => Operation::KekRotate,
        Deed::DestroyVersion(_) | Deed::Delete => Operation::KmsDestroy,
        _ => Operation::KmsChange,
    }
}

/// As `pgveil.row_changes` and records name what is written.
fn row_name(change: &KeyChange) -> String {
    let key = &change.key;
    let kek = name_of_kek(&change.provider, &key.name);
    format!("{kek} {}", key.revision)
}

fn event(change: &KeyChange) -> Event {
    let version = match (&change.deed, &change.material) {
        (
            Deed::DestroyVersion(version)
            | Deed::EnableVersion(version)
            | Deed::DisableVersion(version),
            _,
        )
        | (_, MaterialChange::Put(version, _)) => Some(*version),
        _ => None,
    };
    let detail = json!({
        "deed": change.deed.as_str(),
        "provider": change.provider,
        "revision": change.key.revision,
        "version": version,
        "by": change.by,
    });
    let event = Event::new(operation(&change.deed)).scope(&ScopePath::platform());
    let event = event.key(&change.key.name).detail(detail);
    let before = |grant: &Option<Grant>| json!(grant.as_ref().map(names));
    match &change.deed {
        Deed::Create(grants) => {
            let grants = { grants.iter() }
                .map(|grant| json!({ "to": grant.to.to_string(), "operations": names(grant) }));
            event.more("grants", grants.collect())
        }
        Deed::Grant { grant, before: was } => event
            .more("to", json!(grant.to.to_string()))
            .more("operations", json!(names(grant)))
            .more("before", before(was)),
        Deed::Revoke { from, before: was } => event
            .more("from", json!(from.to.to_string()))
            .more("operations", before(was)),
        Deed::Schedule(days) => event.more("every_days", json!(days)),
        _ => event,
    }
}

/// What a grant allows, as the command line spells it.
fn names(grant: &Grant) -> Vec<&'static str> {
    let operations = grant.operations.iter();
    operations.map(|operation| operation.as_str()).collect()
}

/// What [`CHANGE`] takes.
struct Parameters {
    revision: i64,
    rotate_at: Option<i64>,
    version: Option<i32>,
    sealed: Option<Vec<u8>>,
}

impl Parameters {
    fn of(change: &KeyChange) -> Result<Self, KeystoreError> {
        let (version, sealed) = match &change.material {
            MaterialChange::Keep => (None, None),
            MaterialChange::Put(version, sealed) => (Some(*version), Some(sealed.clone())),
            MaterialChange::Erase(version) => (Some(*version), None),
        };
        let version = version.map(i32::try_from).transpose();
        Ok(Self {
            revision: bigint(change.key.revision)?,
            rotate_at: change.rotate_at.map(bigint).transpose()?,
            version: version.map_err(|_| damaged(MATERIAL_TABLE, "a version beyond int4"))?,
            sealed,
        })
    }

    fn all<'a>(&'a self, change: &'a KeyChange) -> [&'a (dyn ToSql + Sync); 8] {
        let key = &change.key;
        [
            &change.provider,
            &key.name,
            &self.revision,
            &key.record,
            &key.mac,
            &self.rotate_at,
            &self.version,
            &self.sealed,
        ]
    }
}

fn changed(rows: &[Row]) -> Result<bool, KeystoreError> {
    Ok(first(rows)?.try_get::<_, i64>(0)? == 1)
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
        is_superseded: row.try_get(4)?,
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
