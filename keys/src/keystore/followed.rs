//! Table `pgveil.keks`: which version of each KEK the wrapped keys follow, and who brings them to the next one. A rotation is
//! asked for and followed by one process at a time; what it leaves unfinished, another one goes on with.

mod row;

use std::time::Duration;

use pgveil_config::ScopePath;
use serde_json::{Value, json};
use tokio_postgres::Row;

use self::row::{FollowedRow, GONE, ROW_COLUMNS, named, refused, row_columns};
use super::{
    Keystore, KeystoreError, NewJob, bigint_of,
    rows::{kek_name, us},
};
use crate::{
    audit::{Change, Event, Operation},
    scopes::KekRef,
    step_up::Authority,
};

/// As `pgveil.row_changes` and records name the table.
const TABLE: &str = "keks";

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
const ALL: &str = concat!(
    "SELECT ",
    row_columns!(),
    ", to_char(k.first_seen AT TIME ZONE 'UTC', $1), to_char(k.last_seen AT TIME ZONE 'UTC', $1), \
     to_char(k.rotated_at AT TIME ZONE 'UTC', $1), ",
    us!("clock_timestamp()"),
    " FROM pgveil.keks k ORDER BY k.provider COLLATE \"C\", k.kek_id COLLATE \"C\""
);
/// Of rows that were written and are not there, what `pgveil.row_changes` calls them.
const LOST: &str = concat!(
    "SELECT DISTINCT c.row_name FROM pgveil.row_changes c WHERE c.table_name = 'keks' \
     AND NOT EXISTS (SELECT FROM pgveil.keks k WHERE c.row_name = ",
    kek_name!("k.provider", "k.kek_id"),
    ") LIMIT 100"
);
/// The audit log's key is the platform's: without it nothing that has a MAC can be judged.
const USES: &str = "SELECT provider, kek_id, kek_version, count(*), count(DISTINCT scope) FROM (\
        SELECT provider, kek_id, kek_version, scope FROM pgveil.keys WHERE state <> 'destroyed' UNION ALL \
        SELECT provider, kek_id, kek_version, 'platform' FROM pgveil.audit_keys WHERE retired_at IS NULL) k \
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
const SEE: &str = concat!(
    "UPDATE pgveil.keks k SET last_seen = now() WHERE k.provider = $1 AND k.kek_id = $2 RETURNING ",
    row_columns!()
);
/// A version under which keys stand, that is not how wrappings name the present one.
const EARLIER: &str = "SELECT min(kek_version) FROM pgveil.keys WHERE provider = $1 AND kek_id = $2 \
    AND state <> 'destroyed' AND kek_version <> $3";
/// A right that would last longer than any does is none.
const CLAIM: &str = concat!(
    "UPDATE pgveil.keks k SET lease_until = now() + make_interval(secs => $5), leased_by = $4 \
     WHERE k.provider = $1 AND k.kek_id = $2 AND (k.version <> $3 OR k.next_version IS NOT NULL) \
     AND (k.lease_until IS NULL OR k.lease_until < now() OR k.lease_until > now() + make_interval(secs => $5) \
          OR k.leased_by = $4) RETURNING ",
    row_columns!()
);
const RENEW: &str = "UPDATE pgveil.keks SET lease_until = now() + make_interval(secs => $4) \
    WHERE provider = $1 AND kek_id = $2 AND leased_by = $3 AND next_version IS NOT NULL RETURNING version";
const GIVE_UP: &str = "UPDATE pgveil.keks SET lease_until = NULL, leased_by = NULL \
    WHERE provider = $1 AND kek_id = $2 AND leased_by = $3 RETURNING version";

impl Keystore {
    /// All KEKs that were seen, as their rows stand there: to be shown, and for nothing else.
    pub async fn keks_unjudged(&self) -> Result<Vec<KekRow>, KeystoreError> {
        let rows = self.query(ALL, &[&UTC]).await?;
        rows.iter().map(kek_row).collect()
    }

    /// All KEKs that were seen, each with what its row says, or why that is not believed. A KEK whose row is from before there
    /// were MACs is not among them: it is as if seen for the first time.
    pub async fn keks(
        &self,
    ) -> Result<Vec<(KekRef, Result<KekRow, KeystoreError>)>, KeystoreError> {
        let rows = self.query(ALL, &[&UTC]).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let secrets = self.log.secrets().await?;
        let mut all = Vec::new();
        for row in &rows {
            let stored = FollowedRow::of(row)?;
            if stored.is_old() {
                continue;
            }
            let judged = match self.told_kek(&stored.kek, stored.judge(&secrets)) {
                Ok(()) => kek_row(row),
                Err(refused) => Err(refused),
            };
            all.push((stored.kek, judged));
        }
        Ok(all)
    }

    /// Whether what the row of a KEK says is believed; so is that there never was one.
    pub async fn judge_kek(&self, kek: &KekRef) -> Result<(), KeystoreError> {
        let mut change = self.change().await?;
        let judged = change.judged_kek(kek).await.map(drop);
        change.rollback().await?;
        self.told_kek(kek, judged)
    }

    /// Rows that are not believed, and those that are gone.
    pub(super) async fn refused_keks(&self) -> Result<Vec<KeystoreError>, KeystoreError> {
        let all = self.keks().await?.into_iter();
        let mut refused: Vec<_> = all.filter_map(|(_, judged)| judged.err()).collect();
        for row in self.query(LOST, &[]).await? {
            let name: &str = row.try_get(0)?;
            refused.push(damaged(&format!("the row of {name} is refused: {GONE}")));
        }
        Ok(refused)
    }

    /// How many living keys, the audit log's own among them, stand under which version of which KEK.
    pub async fn kek_uses(&self) -> Result<Vec<KekUse>, KeystoreError> {
        let rows = self.query(USES, &[]).await?;
        let count = |row: &Row, at: usize| -> Result<u64, KeystoreError> {
            u64::try_from(row.try_get::<_, i64>(at)?).map_err(|_| out_of_range())
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
        let rows = self.query(SEE, &[&kek.provider, &kek.kek]).await?;
        let seen = rows.first().map(FollowedRow::of).transpose()?;
        if let Some(row) = seen.filter(|row| !row.is_old()) {
            let secrets = self.log.secrets().await?;
            self.told_kek(kek, row.judge(&secrets))?;
            return Ok(row.is_behind(version));
        }
        let mut change = self.change().await?;
        let stored = self.told_kek(kek, change.read_kek(kek).await)?;
        let row = match stored {
            // Another process was faster.
            Some(row) if !row.is_old() => {
                let judged = row.judge(change.secrets());
                change.rollback().await?;
                self.told_kek(kek, judged)?;
                return Ok(row.is_behind(version));
            }
            // What it says was left unfinished is begun anew.
            Some(mut old) => {
                (old.next_version, old.began_seq, old.began_key) = (None, None, None);
                old
            }
            None => {
                let now_us = change.keystore_now_us().await?;
                let earlier = earlier(&mut change, kek, wraps_as).await?;
                FollowedRow::fresh(kek, earlier.as_deref().unwrap_or(version), now_us)
            }
        };
        let detail =
            json!({ "provider": kek.provider, "kek_version": version, "follows": row.version });
        let event = Event::new(Operation::KekSee).scope(&ScopePath::platform());
        change.put_kek(&row, 0).await?;
        let event = event.key(&kek.kek).detail(detail);
        change.commit(of_row(event, kek)).await?;
        Ok(row.is_behind(version))
    }

    /// Takes the right to bring the keys of a KEK to a version; `None` while another process has it, or there is nothing to do.
    /// `horizon` is an id from before it begins. Begun by a process that was stopped, it goes on from where that began.
    pub async fn claim_kek(
        &self,
        kek: &KekRef,
        version: &str,
        horizon: u64,
    ) -> Result<Option<Claim>, KeystoreError> {
        let (by, lease) = (&self.log.instance, LEASE.as_secs_f64());
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&kek.provider, &kek.kek, &version, by, &lease];
        let rows = self.query(CLAIM, &params).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let row = FollowedRow::of(row)?;
        let claimed = match row.next_version.as_deref() {
            Some(next) if next == version => {
                let secrets = self.log.secrets().await?;
                self.told_kek(kek, row.judge(&secrets))
                    .and_then(|()| claim_of(&row))
                    .map(Some)
            }
            _ => self.begin(kek, version, horizon).await,
        };
        if !matches!(claimed, Ok(Some(_))) {
            // Best effort: the right ends by itself.
            let _ = self.give_up_claim(kek).await;
        }
        claimed
    }

    async fn begin(
        &self,
        kek: &KekRef,
        version: &str,
        horizon: u64,
    ) -> Result<Option<Claim>, KeystoreError> {
        let mut change = self.change().await?;
        // It follows from a rotation that was permitted, or that the provider did by itself.
        change.automatic();
        let judged = change.judged_kek(kek).await;
        let Some(mut row) = self
            .told_kek(kek, judged)?
            .filter(|row| row.is_behind(version))
        else {
            change.rollback().await?;
            return Ok(None);
        };
        row.next_version = Some(version.to_owned());
        row.began_seq = Some(bigint_of(change.record_seq(0))?);
        row.began_key = Some(bigint_of(horizon)?);
        change.put_kek(&row, 0).await?;
        let detail = json!({ "step": "begun", "provider": kek.provider, "from": row.version, "kek_version": version });
        change.commit(of_row(rotation(kek, detail), kek)).await?;
        claim_of(&row).map(Some)
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
        let judged = self.told_kek(kek, change.judged_kek(kek).await)?;
        let is_for_this = |row: &FollowedRow| row.next_version.as_deref() == Some(version);
        let Some(mut row) = judged.filter(is_for_this) else {
            change.rollback().await?;
            return Ok(None);
        };
        version.clone_into(&mut row.version);
        (row.next_version, row.began_seq, row.began_key) = (None, None, None);
        row.rotated_us = Some(change.keystore_now_us().await?);
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
            let (id, event) = change.queue_job(job, events.len()).await?;
            detail["job"] = json!(id);
            events.push(event);
            queued = Some(id);
        }
        change.put_kek(&row, events.len()).await?;
        events.push(of_row(rotation(kek, detail), kek));
        change.commit_all(events).await?;
        Ok(queued)
    }

    /// Records that a provider is about to be asked for a new version; a token is used up with it. A row that is not believed
    /// is written anew: all keys are brought to the version that the KEK has then.
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
        let now_us = change.keystore_now_us().await?;
        let mut detail =
            json!({ "step": "asked", "provider": kek.provider, "kek_version": version });
        let mut row = match self.told_kek(kek, change.judged_kek(kek).await) {
            Err(KeystoreError::Damaged { reason, .. }) => {
                detail["step"] = json!("written-anew");
                detail["because"] = json!(reason);
                FollowedRow::fresh(kek, UNKNOWN, now_us)
            }
            stored => stored?.unwrap_or_else(|| FollowedRow::fresh(kek, version, now_us)),
        };
        row.asked_us = Some(now_us);
        change.put_kek(&row, 0).await?;
        let event = rotation(kek, detail).scope(scope);
        change.commit(of_row(event, kek)).await
    }

    /// As [`Keystore::ask_for_rotation`], if the KEK's period has passed and nobody has asked yet; answers whether.
    pub async fn ask_if_due(&self, kek: &KekRef, period: Duration) -> Result<bool, KeystoreError> {
        let mut change = self.change().await?;
        change.automatic();
        let now_us = change.keystore_now_us().await?;
        let judged = self.told_kek(kek, change.judged_kek(kek).await)?;
        let has_passed = |since_us: i64, time: Duration| since(since_us, now_us) >= time;
        let is_due = |row: &FollowedRow| {
            has_passed(row.since_us(), period)
                && row
                    .asked_us
                    .is_none_or(|asked| has_passed(asked, ASK_AGAIN))
        };
        let Some(mut row) = judged.filter(is_due) else {
            change.rollback().await?;
            return Ok(false);
        };
        row.asked_us = Some(now_us);
        change.put_kek(&row, 0).await?;
        let detail = json!({ "step": "due", "provider": kek.provider, "kek_version": row.version });
        change.commit(of_row(rotation(kek, detail), kek)).await?;
        Ok(true)
    }

    /// Tells of a row that was refused, once per process.
    fn told_kek<T>(
        &self,
        kek: &KekRef,
        judged: Result<T, KeystoreError>,
    ) -> Result<T, KeystoreError> {
        if let Err(KeystoreError::Damaged { reason, .. }) = &judged {
            self.tell_refused("pgveil.keks", &row::row_name(kek), &kek.kek, reason);
        }
        judged
    }
}

/// A version that no KEK has.
const UNKNOWN: &str = "";

fn of_row(event: Event, kek: &KekRef) -> Event {
    let (table, names) = named(kek);
    event.changes_rows(table, &names)
}

async fn earlier(
    change: &mut Change,
    kek: &KekRef,
    wraps_as: &str,
) -> Result<Option<String>, KeystoreError> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&kek.provider, &kek.kek, &wraps_as];
    let rows = change.query(EARLIER, &params).await?;
    Ok(rows.first().map_or(Ok(None), |row| row.try_get(0))?)
}

fn claim_of(row: &FollowedRow) -> Result<Claim, KeystoreError> {
    let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    let both = number(row.began_seq).zip(number(row.began_key));
    let (record, horizon) =
        both.ok_or_else(|| refused(&row.kek, "it does not say where it began"))?;
    Ok(Claim { record, horizon })
}

fn since(then_us: i64, now_us: i64) -> Duration {
    Duration::from_micros(u64::try_from(now_us.saturating_sub(then_us)).unwrap_or(0))
}

/// Of a row of [`ALL`].
fn kek_row(row: &Row) -> Result<KekRow, KeystoreError> {
    let stored = FollowedRow::of(row)?;
    Ok(KekRow {
        age: since(stored.since_us(), row.try_get(ROW_COLUMNS + 3)?),
        kek: stored.kek,
        version: stored.version,
        next_version: stored.next_version,
        first_seen: row.try_get(ROW_COLUMNS)?,
        last_seen: row.try_get(ROW_COLUMNS + 1)?,
        rotated_at: row.try_get(ROW_COLUMNS + 2)?,
    })
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

fn out_of_range() -> KeystoreError {
    damaged("a number out of its range")
}

fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.keks",
        reason: reason.to_owned(),
    }
}
