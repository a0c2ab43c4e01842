//! Table `pgveil.overrides`: what scopes do differently since it was set at run time.

use std::{collections::BTreeMap, time::Duration};

use pgveil_config::{
    ScopePath,
    settings::{Failure, OwnRotation},
};
use serde_json::json;
use tokio_postgres::Row;

use super::{Keystore, KeystoreError};
use crate::{
    audit::{Actor, Event, Operation},
    scopes::Own,
    step_up::Authority,
};

/// A row, with who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideRecord {
    /// Whose.
    pub scope: ScopePath,
    /// What it says.
    pub own: Own,
    /// When, as the keystore's server writes it (ISO 8601, UTC).
    pub set_at: String,
    /// By whom.
    pub set_by: String,
}

const ALL: &str = "SELECT scope, provider, kek_id, failure, dek_epoch, dek_max_usage, destroy_retired_after, \
    to_char(set_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), set_by \
    FROM pgveil.overrides ORDER BY scope COLLATE \"C\"";
const SET: &str = "INSERT INTO pgveil.overrides \
        (scope, provider, kek_id, failure, dek_epoch, dek_max_usage, destroy_retired_after, set_by) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
    ON CONFLICT (scope) DO UPDATE SET provider = excluded.provider, kek_id = excluded.kek_id, \
        failure = excluded.failure, dek_epoch = excluded.dek_epoch, dek_max_usage = excluded.dek_max_usage, \
        destroy_retired_after = excluded.destroy_retired_after, set_at = now(), set_by = excluded.set_by";
const CLEAR: &str = "DELETE FROM pgveil.overrides WHERE scope = $1";

impl Keystore {
    /// What was set at run time, in the order of scopes.
    pub async fn overrides(&self) -> Result<Vec<OverrideRecord>, KeystoreError> {
        let rows = self.query(ALL, &[]).await?;
        rows.iter().map(parse).collect()
    }

    /// [`Keystore::overrides`], as [`crate::Scopes::with_stored`] takes them.
    pub async fn stored(&self) -> Result<BTreeMap<ScopePath, Own>, KeystoreError> {
        let all = self.overrides().await?.into_iter();
        Ok(all.map(|found| (found.scope, found.own)).collect())
    }

    /// Stores what a scope says, in place of what it said; nothing at all clears it.
    pub async fn set_override(
        &self,
        scope: &ScopePath,
        own: &Own,
        right: Authority<'_>,
    ) -> Result<(), KeystoreError> {
        let operation = override_operation(own);
        let mut change = self.change().await?;
        right.permit(&mut change, operation, scope).await?;
        let path = scope.as_str();
        let (provider, kek) = match &own.key {
            Some((provider, kek)) => (provider.as_deref(), Some(kek.as_str())),
            None => (None, None),
        };
        let failure = own.failure.map(Failure::as_str);
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs() as i64);
        let OwnRotation {
            dek_epoch,
            dek_max_usage,
            destroy_retired_after,
        } = own.rotation;
        let (dek_epoch, destroy) = (seconds(dek_epoch), seconds(destroy_retired_after));
        if own.is_empty() {
            change.query(CLEAR, &[&path]).await?;
        } else {
            let by = Actor::current().name;
            let uses = dek_max_usage.map(|uses| uses as i64);
            change
                .query(
                    SET,
                    &[
                        &path, &provider, &kek, &failure, &dek_epoch, &uses, &destroy, &by,
                    ],
                )
                .await?;
        }
        let detail = json!({
            "provider": provider,
            "kek": kek,
            "failure": failure,
            "dek_epoch_s": dek_epoch,
            "dek_max_usage": dek_max_usage,
            "destroy_retired_after_s": destroy,
        });
        let event = Event::new(operation).scope(scope).detail(detail);
        change.commit(event).await
    }
}

/// Which operation it is to store what a scope says.
pub fn override_operation(own: &Own) -> Operation {
    if own.is_empty() {
        Operation::OverrideClear
    } else {
        Operation::OverrideSet
    }
}

fn parse(row: &Row) -> Result<OverrideRecord, KeystoreError> {
    let provider: Option<String> = row.try_get(1)?;
    let kek: Option<String> = row.try_get(2)?;
    let failure: Option<&str> = row.try_get(3)?;
    let positive = |at: usize| -> Result<Option<u64>, KeystoreError> {
        let number: Option<i64> = row.try_get(at)?;
        number
            .map(|number| u64::try_from(number).map_err(|_| damaged("a negative number")))
            .transpose()
    };
    Ok(OverrideRecord {
        scope: ScopePath::parse(row.try_get(0)?).map_err(|_| damaged("a scope that is none"))?,
        own: Own {
            key: kek.map(|kek| (provider, kek)),
            failure: match failure {
                None => None,
                Some("closed") => Some(Failure::Closed),
                Some("open") => Some(Failure::Open),
                Some(_) => return Err(damaged("an unknown failure policy")),
            },
            rotation: OwnRotation {
                dek_epoch: positive(4)?.map(Duration::from_secs),
                dek_max_usage: positive(5)?,
                destroy_retired_after: positive(6)?.map(Duration::from_secs),
            },
        },
        set_at: row.try_get(7)?,
        set_by: row.try_get(8)?,
    })
}

fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.overrides",
        reason: reason.to_owned(),
    }
}
