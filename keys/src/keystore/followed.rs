//! Table `pgveil.keks`: which version of each KEK the wrapped keys follow, and who brings them to the next one. A rotation is
//! asked for and followed by one process at a time; what it leaves unfinished, another one goes on with.

use std::time::Duration;

use pgveil_config::ScopePath;
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::{Keystore, KeystoreError, NewJob, bigint_of};
use crate::{
    audit::{Event, Operation},
    scopes::KekRef,
    step_up::Authority,
};

/// A KEK as its row has it. Times are the keystore server's, as it writes them (ISO 8601, UTC).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KekRow {
    /// Which.
    pub kek: KekRef,
    /// The version that wrapped keys follow.
    pub version: String,
    /// The version that they are being brought to.
    pub next_version: Option<String>,
    /// When it was seen first.
    pub first_seen: String,
    /// When it was seen last.
    pub last_seen: String,
    /// When the last rotation was followed.
    pub rotated_at: Option<String>,
    /// How long ago it was rotated, or seen first.
    pub age: Duration,
}

impl KekRow {
    /// Whether a version that is seen may be the answer of a provider that has not heard everywhere of its last rotation: then
    /// nothing follows from it yet.
    pub fn settles(&self, seen: &str) -> bool {
        let rotated = self.rotated_at.is_some() && self.next_version.is_none();
        rotated && self.version != seen && self.age < SETTLES
    }
}

/// Living keys under one version of a KEK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KekUse {
    /// Which KEK.
    pub kek: KekRef,
    /// Its version, as the wrapping names it.
    pub version: String,
    /// How many keys.
    pub keys: u64,
    /// How many scopes they are of.
    pub scopes: u64,
}

/// The right to bring keys to a version, for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Rows that were written with this record of the audit log, or an earlier one, are to be wrapped anew.
    pub record: u64,
    /// Data keys up to this id are to be replaced.
    pub horizon: u64,
}

/// What a version was followed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Keys wrapped anew in this go.
    pub rewrapped: u64,
    /// Scopes that got their next data key.
    pub rotated: u64,
    /// The job that brings their values to it, if one was wanted and there is something to do.
    pub job: Option<u64>,
}

/// How long a process that brings keys to a version may say nothing.
const LEASE: Duration = Duration::from_mins(2);
/// So long after a rotation, a provider may answer with either version.
const SETTLES: Duration = Duration::from_mins(1);
/// A provider that was asked is not asked again within this time.
const ASK_AGAIN: Duration = Duration::from_hours(1);

const UTC: &str = "YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"";
const ALL: &str = "SELECT provider, kek_id, version, next_version, to_char(first_seen AT TIME ZONE 'UTC', $1), \
        to_char(last_seen AT TIME ZONE 'UTC', $1), to_char(rotated_at AT TIME ZONE 'UTC', $1), \
        greatest(0, extract(epoch FROM clock_timestamp() - coalesce(rotated_at, first_seen)))::float8 \
    FROM pgveil.keks ORDER BY provider COLLATE \"C\", kek_id COLLATE \"C\"";
const USES: &str = "SELECT provider, kek_id, kek_version, count(*), count(DISTINCT scope) FROM pgveil.keys \
    WHERE state <> 'destroyed' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
/// Seen for the first time, keys may stand under an earlier version: that is the one they follow.
const SEE: &str = "INSERT INTO pgveil.keks AS known (provider, kek_id, version) \
    VALUES ($1, $2, coalesce((SELECT min(kek_version) FROM pgveil.keys WHERE provider = $1 AND kek_id = $2 \
        AND state <> 'destroyed' AND kek_version <> $4), $3)) \
    ON CONFLICT (provider, kek_id) DO UPDATE SET last_seen = now() \
    RETURNING version <> $3 OR next_version IS NOT NULL";
/// Begun again by another process, it goes on from where it began.
const CLAIM: &str = "UPDATE pgveil.keks SET \
        began_seq = CASE WHEN next_version = $3 THEN began_seq ELSE coalesce((SELECT max(seq) FROM pgveil.audit_head), 0) END, \
        began_key = CASE WHEN next_version = $3 THEN began_key ELSE $4 END, \
        next_version = $3, lease_until = now() + make_interval(secs => $6), leased_by = $5 \
    WHERE provider = $1 AND kek_id = $2 AND (version <> $3 OR next_version IS NOT NULL) \
        AND (lease_until IS NULL OR lease_until < now() OR leased_by = $5) RETURNING began_seq, began_key";
const RENEW: &str = "UPDATE pgveil.keks SET lease_until = now() + make_interval(secs => $4) \
    WHERE provider = $1 AND kek_id = $2 AND leased_by = $3 AND next_version IS NOT NULL RETURNING version";
const GIVE_UP: &str = "UPDATE pgveil.keks SET lease_until = NULL, leased_by = NULL \
    WHERE provider = $1 AND kek_id = $2 AND leased_by = $3 RETURNING version";
const FINISH: &str = "UPDATE pgveil.keks SET version = next_version, next_version = NULL, rotated_at = now(), \
        lease_until = NULL, leased_by = NULL \
    WHERE provider = $1 AND kek_id = $2 AND next_version = $3 RETURNING version";
const ASKED: &str = "INSERT INTO pgveil.keks AS known (provider, kek_id, version, asked_at) VALUES ($1, $2, $3, now()) \
    ON CONFLICT (provider, kek_id) DO UPDATE SET asked_at = now() RETURNING version";
const ASK_IF_DUE: &str = "UPDATE pgveil.keks SET asked_at = now() WHERE provider = $1 AND kek_id = $2 \
    AND coalesce(rotated_at, first_seen) <= now() - make_interval(secs => $3) \
    AND (asked_at IS NULL OR asked_at < now() - make_interval(secs => $4)) RETURNING version";

impl Keystore {
    /// All KEKs that were seen.
    pub async fn keks(&self) -> Result<Vec<KekRow>, KeystoreError> {
        let rows = self.query(ALL, &[&UTC]).await?;
        let kek = |row: &Row| {
            Ok(KekRow {
                kek: kek_of(row)?,
                version: row.try_get(2)?,
                next_version: row.try_get(3)?,
                first_seen: row.try_get(4)?,
                last_seen: row.try_get(5)?,
                rotated_at: row.try_get(6)?,
                age: Duration::try_from_secs_f64(row.try_get(7)?).map_err(|_| damaged())?,
            })
        };
        rows.iter().map(kek).collect()
    }

    /// How many living keys stand under which version of which KEK.
    pub async fn kek_uses(&self) -> Result<Vec<KekUse>, KeystoreError> {
        let rows = self.query(USES, &[]).await?;
        let count = |row: &Row, at: usize| -> Result<u64, KeystoreError> {
            u64::try_from(row.try_get::<_, i64>(at)?).map_err(|_| damaged())
        };
        let found = |row: &Row| {
            Ok(KekUse {
                kek: kek_of(row)?,
                version: row.try_get(2)?,
                keys: count(row, 3)?,
                scopes: count(row, 4)?,
            })
        };
        rows.iter().map(found).collect()
    }

    /// Notes the version that a KEK has at its provider, and the one that wrappings name; answers whether keys are to be
    /// brought to it.
    pub async fn see_kek(
        &self,
        kek: &KekRef,
        version: &str,
        wraps_as: &str,
    ) -> Result<bool, KeystoreError> {
        let rows = self
            .query(SEE, &[&kek.provider, &kek.kek, &version, &wraps_as])
            .await?;
        Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
    }

    /// Takes the right to bring the keys of a KEK to a version; `None` while another process has it, or there is nothing to do.
    /// `horizon` is an id from before it begins.
    pub async fn claim_kek(
        &self,
        kek: &KekRef,
        version: &str,
        horizon: u64,
    ) -> Result<Option<Claim>, KeystoreError> {
        let (by, lease) = (&self.log.instance, LEASE.as_secs_f64());
        let horizon = bigint_of(horizon)?;
        let rows = self
            .query(
                CLAIM,
                &[&kek.provider, &kek.kek, &version, &horizon, by, &lease],
            )
            .await?;
        let claim = |row: &Row| {
            let number = |at: usize| -> Result<u64, KeystoreError> {
                u64::try_from(row.try_get::<_, i64>(at)?).map_err(|_| damaged())
            };
            Ok(Claim {
                record: number(0)?,
                horizon: number(1)?,
            })
        };
        rows.first().map(claim).transpose()
    }

    /// Keeps the right; false if it was lost.
    pub async fn renew_claim(&self, kek: &KekRef) -> Result<bool, KeystoreError> {
        let (by, lease) = (&self.log.instance, LEASE.as_secs_f64());
        let rows = self
            .query(RENEW, &[&kek.provider, &kek.kek, by, &lease])
            .await?;
        Ok(!rows.is_empty())
    }

    /// Lets others have the right.
    pub async fn give_up_claim(&self, kek: &KekRef) -> Result<(), KeystoreError> {
        let by = &self.log.instance;
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&kek.provider, &kek.kek, by];
        self.query(GIVE_UP, &params).await.map(drop)
    }

    /// Records that the keys of a KEK follow a version, and queues `job` with it; answers the job's number.
    pub async fn kek_followed(
        &self,
        kek: &KekRef,
        version: &str,
        followed: Followed,
        job: Option<&NewJob>,
    ) -> Result<Option<u64>, KeystoreError> {
        let mut change = self.change().await?;
        // It follows from a rotation that was permitted, or that the provider did by itself.
        change.automatic();
        let rows = change
            .query(FINISH, &[&kek.provider, &kek.kek, &version])
            .await?;
        if rows.is_empty() {
            change.rollback().await?;
            return Ok(None);
        }
        let mut detail = json!({
            "step": "followed",
            "provider": kek.provider,
            "kek_version": version,
            "keys_rewrapped": followed.rewrapped,
            "scopes_rotated": followed.rotated,
        });
        let mut events = Vec::new();
        let mut queued = None;
        if let Some(job) = job {
            let (id, event) = change.queue_job(job).await?;
            detail["job"] = json!(id);
            events.push(event);
            queued = Some(id);
        }
        events.push(rotation(kek, detail));
        change.commit_all(events).await?;
        Ok(queued)
    }

    /// Records that a provider is about to be asked for a new version; a token is used up with it.
    pub async fn ask_for_rotation(
        &self,
        kek: &KekRef,
        version: &str,
        scope: &ScopePath,
        right: Authority<'_>,
    ) -> Result<(), KeystoreError> {
        let mut change = self.change().await?;
        right
            .permit(&mut change, Operation::KekRotate, scope)
            .await?;
        change
            .query(ASKED, &[&kek.provider, &kek.kek, &version])
            .await?;
        let detail = json!({ "step": "asked", "provider": kek.provider, "kek_version": version });
        change.commit(rotation(kek, detail).scope(scope)).await
    }

    /// As [`Keystore::ask_for_rotation`], if the KEK's period has passed and nobody has asked yet; answers whether.
    pub async fn ask_if_due(&self, kek: &KekRef, period: Duration) -> Result<bool, KeystoreError> {
        let mut change = self.change().await?;
        change.automatic();
        let (period, again) = (period.as_secs_f64(), ASK_AGAIN.as_secs_f64());
        let rows = change
            .query(ASK_IF_DUE, &[&kek.provider, &kek.kek, &period, &again])
            .await?;
        let Some(row) = rows.first() else {
            change.rollback().await?;
            return Ok(false);
        };
        let version: &str = row.try_get(0)?;
        let detail = json!({ "step": "due", "provider": kek.provider, "kek_version": version });
        change.commit(rotation(kek, detail)).await?;
        Ok(true)
    }
}

fn rotation(kek: &KekRef, detail: Value) -> Event {
    let event = Event::new(Operation::KekRotate).scope(&ScopePath::platform());
    event.key(&kek.kek).detail(detail)
}

fn kek_of(row: &Row) -> Result<KekRef, KeystoreError> {
    Ok(KekRef {
        provider: row.try_get(0)?,
        kek: row.try_get(1)?,
    })
}

fn damaged() -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.keks",
        reason: "a number out of its range".to_owned(),
    }
}
