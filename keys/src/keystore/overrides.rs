//! Table `pgveil.overrides`: what scopes do differently since it was set at run time.

use std::{collections::BTreeMap, time::Duration};

use pgveil_config::{
    ScopePath,
    settings::{Failure, OwnRotation},
};
use serde_json::json;
use tokio_postgres::Row;

use super::{Keystore, KeystoreError, bigint_of, sealing::notify};
use crate::{
    audit::{
        Actor, Event, Operation,
        secrets::{Secrets, same},
    },
    canonical::Canonical,
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

/// Rows, judged.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// What pgveil wrote, and wrote last.
    pub good: Vec<OverrideRecord>,
    /// What it did not, and what is gone: whose, and why it is refused.
    pub refused: Vec<(ScopePath, KeystoreError)>,
}

const LABEL: &[u8] = b"overrides";
const ALL: &str = "SELECT scope, provider, kek_id, failure, dek_epoch, dek_max_usage, destroy_retired_after, \
    to_char(set_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), set_by, audit_seq, mac, kek_period \
    FROM pgveil.overrides ORDER BY scope COLLATE \"C\"";
/// What was done last with each scope's row.
const LAST: &str = "SELECT DISTINCT ON (scope) scope, seq, operation FROM pgveil.audit \
    WHERE operation IN ('override.set', 'override.clear') AND outcome = 'done' ORDER BY scope, seq DESC";
const SET: &str = "INSERT INTO pgveil.overrides \
        (scope, provider, kek_id, failure, dek_epoch, dek_max_usage, destroy_retired_after, set_by, audit_seq, mac, kek_period) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
    ON CONFLICT (scope) DO UPDATE SET provider = excluded.provider, kek_id = excluded.kek_id, \
        failure = excluded.failure, dek_epoch = excluded.dek_epoch, dek_max_usage = excluded.dek_max_usage, \
        destroy_retired_after = excluded.destroy_retired_after, set_at = now(), set_by = excluded.set_by, \
        audit_seq = excluded.audit_seq, mac = excluded.mac, kek_period = excluded.kek_period";
const CLEAR: &str = "DELETE FROM pgveil.overrides WHERE scope = $1";

impl Keystore {
    /// What was set at run time, in the order of scopes. A row that pgveil did not write, or not last, is an error: it may
    /// name somebody else's KEK.
    pub async fn overrides(&self) -> Result<Vec<OverrideRecord>, KeystoreError> {
        let Judged { good, refused } = self.judged_overrides().await?;
        match refused.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(good),
        }
    }

    /// What was set at run time, as it stands there: to be shown, and for nothing else.
    pub async fn overrides_unjudged(&self) -> Result<Vec<OverrideRecord>, KeystoreError> {
        let rows = self.query(ALL, &[]).await?;
        rows.iter().map(parse).collect()
    }

    /// [`Keystore::overrides_unjudged`], as [`crate::Scopes::with_stored`] takes them.
    pub async fn stored_unjudged(&self) -> Result<BTreeMap<ScopePath, Own>, KeystoreError> {
        let all = self.overrides_unjudged().await?.into_iter();
        Ok(all.map(|found| (found.scope, found.own)).collect())
    }

    /// What was set at run time, and apart from it what is refused.
    pub async fn judged_overrides(&self) -> Result<Judged, KeystoreError> {
        let rows = self.query(ALL, &[]).await?;
        let mut last = self.last_said().await?;
        let mut judged = Judged::default();
        for row in &rows {
            let record = match parse(row) {
                Ok(record) => record,
                Err(why) => {
                    judged.refused.push(unread(row, &why)?);
                    continue;
                }
            };
            let (seq, mac): (Option<i64>, Option<&[u8]>) = (row.try_get(9)?, row.try_get(10)?);
            let said = last.remove(record.scope.as_str());
            match self.judge(&record, seq, mac, said).await {
                Ok(()) => judged.good.push(record),
                Err(error @ KeystoreError::Damaged { .. }) => {
                    judged.refused.push((record.scope, error));
                }
                Err(error) => return Err(error),
            }
        }
        // What was set last and is not there.
        for (scope, _) in last.iter().filter(|(_, (_, is_set))| *is_set) {
            if let Ok(path) = ScopePath::parse(scope) {
                let error = damaged(&format!("the row of {scope} is gone"));
                judged.refused.push((path, error));
            }
        }
        Ok(judged)
    }

    /// By scope: the record of the audit log with which its row was written or taken away last, and whether it was written.
    async fn last_said(&self) -> Result<BTreeMap<String, (i64, bool)>, KeystoreError> {
        let rows = self.query(LAST, &[]).await?;
        let said = rows.iter().map(|row| {
            let operation: &str = row.try_get(2)?;
            let is_set = operation == Operation::OverrideSet.as_str();
            Ok((row.try_get(0)?, (row.try_get(1)?, is_set)))
        });
        said.collect()
    }

    async fn judge(
        &self,
        record: &OverrideRecord,
        seq: Option<i64>,
        mac: Option<&[u8]>,
        last: Option<(i64, bool)>,
    ) -> Result<(), KeystoreError> {
        let scope = &record.scope;
        let (Some(seq), Some(mac)) = (seq, mac) else {
            return Err(damaged(&format!(
                "the row of {scope} has no MAC: pgveil did not write it"
            )));
        };
        let secrets = self.log.secrets().await?;
        if !same(&record.authentic(seq, &secrets), mac) {
            return Err(damaged(&format!(
                "the MAC of the row of {scope} does not fit: it was changed by somebody else than pgveil"
            )));
        }
        match last {
            Some((last, _)) if last > seq => Err(damaged(&format!(
                "the row of {scope} is an older one than the last that pgveil wrote: somebody put it back"
            ))),
            _ => Ok(()),
        }
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
            kek_period,
            destroy_retired_after,
        } = own.rotation;
        let (dek_epoch, destroy) = (seconds(dek_epoch), seconds(destroy_retired_after));
        let kek_period = seconds(kek_period);
        if own.is_empty() {
            change.query(CLEAR, &[&path]).await?;
        } else {
            let by = Actor::current().name;
            let uses = dek_max_usage.map(|uses| uses as i64);
            let seq = bigint_of(change.record_seq(0))?;
            let mac: &[u8] = &authentic(scope, own, &by, seq, change.secrets());
            change
                .query(
                    SET,
                    &[
                        &path,
                        &provider,
                        &kek,
                        &failure,
                        &dek_epoch,
                        &uses,
                        &destroy,
                        &by,
                        &seq,
                        &mac,
                        &kek_period,
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
            "kek_period_s": kek_period,
            "destroy_retired_after_s": destroy,
        });
        notify(&mut change, scope).await?;
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

impl OverrideRecord {
    /// The MAC that its row must have.
    pub(super) fn authentic(&self, seq: i64, secrets: &Secrets) -> [u8; 32] {
        authentic(&self.scope, &self.own, &self.set_by, seq, secrets)
    }
}

fn authentic(scope: &ScopePath, own: &Own, set_by: &str, seq: i64, secrets: &Secrets) -> [u8; 32] {
    let (provider, kek) = match &own.key {
        Some((provider, kek)) => (provider.as_deref(), Some(kek.as_str())),
        None => (None, None),
    };
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs() as i64);
    let rotation = &own.rotation;
    let mut bytes = Canonical::default();
    bytes.number(seq).text(scope.as_str());
    bytes.maybe_text(provider).maybe_text(kek);
    bytes.maybe_text(own.failure.map(Failure::as_str));
    bytes.maybe(seconds(rotation.dek_epoch));
    bytes.maybe(rotation.dek_max_usage.map(|uses| uses as i64));
    bytes.maybe(seconds(rotation.kek_period));
    bytes.maybe(seconds(rotation.destroy_retired_after));
    bytes.text(set_by);
    secrets.mac_row(LABEL, bytes.as_ref())
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
                kek_period: positive(11)?.map(Duration::from_secs),
                destroy_retired_after: positive(6)?.map(Duration::from_secs),
            },
        },
        set_at: row.try_get(7)?,
        set_by: row.try_get(8)?,
    })
}

/// A row that does not read as one of pgveil's: NULL where there is always something, or words that it does not write.
fn unread(row: &Row, why: &KeystoreError) -> Result<(ScopePath, KeystoreError), KeystoreError> {
    let scope = row.try_get::<_, Option<&str>>(0)?.unwrap_or_default();
    let error = damaged(&format!("the row of {scope} does not read: {why}"));
    Ok((
        ScopePath::parse(scope).unwrap_or(ScopePath::platform()),
        error,
    ))
}

fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.overrides",
        reason: reason.to_owned(),
    }
}
