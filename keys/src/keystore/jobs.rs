//! Table `pgveil.jobs`: work over tables, as it is asked for and told of. Nothing is done here: crate `jobs` runs it, and keeps
//! how far it has come in `pgveil.job_parts` and `pgveil.job_batches`.

mod pinned;

use std::{fmt, str::FromStr};

use pgveil_config::ScopePath;
use serde_json::{Value, json};
use tokio_postgres::Row;

use self::pinned::Pinned;
use super::{Keystore, KeystoreError, bigint_of};
use crate::{
    audit::{Actor, Change, Event, Operation, Outcome, secrets::Secrets},
    scopes::KekRef,
    step_up::Token,
};

/// The kind of job that brings values to their scope's present DEK.
pub const REWRAP: &str = "rewrap";

/// The kind of job that gives scopes new index keys, and values the search terms of these.
pub const INDEX_ROTATION: &str = "index rotation";

/// The kind of job that gives columns the search terms that the policy wants of them, in the place of those that they have.
pub const TERM_CHANGE: &str = "term change";

/// The kind of job that brings one column's values to what the policy wants of them: search terms, or none, or another length.
pub const COLUMN_CHANGE: &str = "column change";

/// Columns that the record of a queued job names.
const MAX_TOLD: usize = 100;

/// Names every state of a job once: the variant and its text.
macro_rules! states {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Where a job stands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum JobState {
            $($(#[$doc])* $variant,)*
        }

        impl JobState {
            /// As the table spells it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl FromStr for JobState {
            type Err = KeystoreError;

            fn from_str(text: &str) -> Result<Self, KeystoreError> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(damaged("an unknown state")),
                }
            }
        }
    };
}

states! {
    /// Nobody has begun.
    Queued = "queued",
    /// At work, or waiting for what `waits` says.
    Running = "running",
    /// Stopped by hand, to be resumed.
    Paused = "paused",
    /// Done, and proved.
    Completed = "completed",
    /// Stopped by an error; what it did stays, and it can be resumed.
    Failed = "failed",
    /// It did not get on for the time of `[reencrypt] lease`; it can be resumed.
    Expired = "expired",
    /// Ended by hand; what it did stays.
    Cancelled = "cancelled",
}

impl JobState {
    /// Whether nothing more happens by itself.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Paused)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A job that somebody wants.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// [`REWRAP`], or another that crate `jobs` knows.
    pub kind: &'static str,
    /// Whose values.
    pub scope: ScopePath,
    /// And those of all scopes below it.
    pub below: bool,
    /// What the values are brought to, by kind.
    pub target: Value,
    /// Why, in a few words for people.
    pub reason: String,
}

impl NewJob {
    /// Brings every value that a data key before `horizon` sealed to its scope's active key. The horizon is taken with
    /// [`super::KeyTable::next_id`] before the new keys are made, so that they are above it.
    pub fn rewrap(scope: &ScopePath, below: bool, horizon: u64, reason: &str) -> Self {
        Self {
            kind: REWRAP,
            scope: scope.clone(),
            below,
            target: json!({ "horizon": horizon }),
            reason: reason.to_owned(),
        }
    }

    /// Replaces every index key before `horizon`, and the search terms that it made.
    pub fn index_rotation(scope: &ScopePath, below: bool, horizon: u64) -> Self {
        Self {
            kind: INDEX_ROTATION,
            scope: scope.clone(),
            below,
            target: json!({ "horizon": horizon }),
            reason: "rotation of the index key by hand".to_owned(),
        }
    }

    /// Gives columns other search terms: `columns` says which, and which.
    pub fn term_change(columns: &Value) -> Self {
        Self {
            kind: TERM_CHANGE,
            scope: ScopePath::platform(),
            below: true,
            target: json!({ "columns": columns }),
            reason: "the policy wants other search terms".to_owned(),
        }
    }

    /// Brings a column's values to what the policy wants of them: `column` says which, and what, and `reason` does for people.
    pub fn column_change(column: &Value, reason: String) -> Self {
        Self {
            kind: COLUMN_CHANGE,
            scope: ScopePath::platform(),
            below: true,
            target: json!({ "columns": [column] }),
            reason,
        }
    }

    /// The target, for a record, which holds only so much.
    fn told(&self) -> Value {
        match self.target["columns"].as_array() {
            Some(columns) => {
                let ids: Vec<&Value> = columns.iter().map(|column| &column["id"]).collect();
                json!({ "columns": columns.len(), "ids": ids[..ids.len().min(MAX_TOLD)] })
            }
            None => self.target.clone(),
        }
    }

    /// Only values whose data keys are retired already: no key is replaced.
    pub fn of_retired_keys(mut self) -> Self {
        self.target["retired_only"] = json!(true);
        self
    }

    /// Only values whose data keys are wrapped by this KEK.
    pub fn under_kek(mut self, kek: &KekRef) -> Self {
        self.target["provider"] = json!(kek.provider);
        self.target["key"] = json!(kek.kek);
        self
    }
}

/// A job, for people. Times are the keystore server's, as it writes them (ISO 8601, UTC).
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// Its number.
    pub id: u64,
    /// [`NewJob::kind`].
    pub kind: String,
    /// [`NewJob::scope`].
    pub scope: String,
    /// [`NewJob::below`].
    pub below: bool,
    /// [`NewJob::target`].
    pub target: Value,
    /// Where it stands.
    pub state: JobState,
    /// Whether all of this is as pgveil wrote it. `None`: the audit log's key cannot be had, so that nobody knows.
    pub is_ours: Option<bool>,
    /// Who wanted it.
    pub made_by: String,
    /// Why.
    pub reason: String,
    /// When it was wanted.
    pub created_at: String,
    /// When it was begun.
    pub started_at: Option<String>,
    /// When it last got on.
    pub moved_at: String,
    /// Seconds that it has run, until now or until it ended.
    pub running_s: f64,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Why it ended, if it did so without having done its work.
    pub failure: Option<String>,
    /// What it waits for.
    pub waits: Option<String>,
    /// Data keys that could not be had when it was last looked: rows are not read for values that name one.
    pub held: Vec<u64>,
    /// How often the tables have been walked over.
    pub pass: i32,
    /// Values that were to be remade when they were first counted.
    pub found: i64,
    /// Values that were remade.
    pub written: i64,
    /// Rows that were written.
    pub rows: i64,
    /// The tables of the present pass.
    pub parts: Vec<PartRecord>,
}

/// A table in a job's present pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRecord {
    /// `schema.table`.
    pub table: String,
    /// Values to be remade when the pass began.
    pub found: i64,
    /// Values that were remade.
    pub written: i64,
    /// Rows left to the next pass: somebody else had them.
    pub left: i64,
    /// Values that do not open.
    pub faulty: i64,
    /// Which, by table and key, up to a limit.
    pub faults: Vec<String>,
    /// Whether the walk has come to its end.
    pub exhausted: bool,
    /// Rows that are dead and not vacuumed, as the server estimates.
    pub dead_rows: i64,
}

/// What may be done to a job by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobOrder {
    /// Stops it for the time being.
    Pause,
    /// Lets a paused, failed or expired one go on.
    Resume,
    /// Ends it.
    Cancel,
}

impl JobOrder {
    /// As records spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }
}

const NEXT_ID: &str = "SELECT nextval('pgveil.job_ids')";
const QUEUE: &str = "WITH changes AS (\
        INSERT INTO pgveil.row_changes (table_name, row_name, audit_seq) VALUES ('jobs', $1::int8::text, $9)) \
    INSERT INTO pgveil.jobs (id, kind, scope, below, target, made_by, reason, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const UTC: &str = "YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"";
const ALL: &str = "SELECT id, kind, scope, below, target, state, made_by, reason, \
        to_char(created_at AT TIME ZONE 'UTC', $2), to_char(started_at AT TIME ZONE 'UTC', $2), \
        coalesce(extract(epoch FROM coalesce(ended_at, clock_timestamp()) - started_at), 0)::float8, \
        to_char(ended_at AT TIME ZONE 'UTC', $2), failure, waits, pass, found, \
        (written + (SELECT coalesce(sum(p.written), 0) FROM pgveil.job_parts p WHERE p.job = jobs.id) \
            + (SELECT coalesce(sum(b.written), 0) FROM pgveil.job_batches b WHERE b.job = jobs.id))::bigint, \
        (rows + (SELECT coalesce(sum(p.rows), 0) FROM pgveil.job_parts p WHERE p.job = jobs.id) \
            + (SELECT coalesce(sum(b.rows), 0) FROM pgveil.job_batches b WHERE b.job = jobs.id))::bigint, \
        to_char(moved_at AT TIME ZONE 'UTC', $2), held, mac \
    FROM pgveil.jobs WHERE $1::bigint IS NULL OR id = $1 ORDER BY id";
const PARTS: &str = "SELECT p.schema_name || '.' || p.table_name, p.found, \
        (p.written + (SELECT coalesce(sum(b.written), 0) FROM pgveil.job_batches b WHERE b.job = p.job AND b.part = p.part))::bigint, \
        p.left_rows, p.faulty, p.faults, \
        p.exhausted, coalesce(s.n_dead_tup, 0) \
    FROM pgveil.job_parts p LEFT JOIN pg_stat_all_tables s ON s.relid = p.relation WHERE p.job = $1 ORDER BY p.part";
const UNFINISHED: &str =
    "SELECT EXISTS (SELECT FROM pgveil.jobs WHERE state IN ('queued', 'running'))";
const PAUSE: &str = "UPDATE pgveil.jobs SET state = 'paused', waits = NULL, mac = $2 \
    WHERE id = $1 AND state IN ('queued', 'running') RETURNING scope";
/// After a failure it begins with another count: what a cursor meant may have changed.
const RESUME: &str = "UPDATE pgveil.jobs SET state = 'queued', phase = CASE WHEN state = 'paused' AND phase <> 'held' THEN phase ELSE 'count' END, \
        failure = NULL, ended_at = NULL, moved_at = now(), look_at = now(), mac = $2 \
    WHERE id = $1 AND state IN ('paused', 'failed', 'expired') RETURNING scope";
/// Not where columns are between two index keys: only the job brings them out of that. What somebody else has changed is ended
/// wherever he says that it stands.
const CANCEL: &str = "UPDATE pgveil.jobs SET state = 'cancelled', ended_at = now(), waits = NULL, mac = $2, \
        failure = CASE WHEN $3 THEN failure ELSE 'somebody else than pgveil changed its row' END \
    WHERE id = $1 AND (NOT $3 OR state NOT IN ('completed', 'cancelled')) AND NOT EXISTS (SELECT FROM pgveil.columns c \
        WHERE c.change IN ('announced', 'turning') AND c.other_number = jobs.id OR c.change IN ('turned', 'clearing') AND c.term_number = jobs.id) \
    RETURNING scope";
/// What failed before may be tried as often again.
const ATTEMPTS: &str =
    "UPDATE pgveil.job_batches SET attempts = 0, until = now() WHERE job = $1 AND NOT is_done";
const END: &str = "UPDATE pgveil.jobs SET state = $2, failure = $3, ended_at = now(), waits = NULL, mac = $4 \
    WHERE id = $1 AND state = 'running' RETURNING scope";

impl Change {
    /// Queues a job with whatever else this transaction does. The event belongs to it and is to be committed with it, behind so many
    /// others.
    pub async fn queue_job(
        &mut self,
        job: &NewJob,
        others: usize,
    ) -> Result<(u64, Event), KeystoreError> {
        let rows = self.query(NEXT_ID, &[]).await?;
        let id: i64 = rows
            .first()
            .ok_or_else(|| damaged("there is no number"))?
            .try_get(0)?;
        let pinned = Pinned {
            id,
            kind: job.kind.to_owned(),
            scope: job.scope.as_str().to_owned(),
            below: job.below,
            target: job.target.to_string(),
            made_by: Actor::current().name,
            reason: job.reason.clone(),
        };
        let mac: &[u8] = &pinned.authentic(JobState::Queued, self.secrets());
        let seq = bigint_of(self.record_seq(others))?;
        let Pinned {
            scope,
            target,
            made_by,
            ..
        } = &pinned;
        self.query(
            QUEUE,
            &[
                &id,
                &job.kind,
                scope,
                &job.below,
                target,
                made_by,
                &job.reason,
                &mac,
                &seq,
            ],
        )
        .await?;
        let detail = json!({
            "job": id, "state": "queued", "kind": job.kind, "below": job.below, "target": job.told(), "reason": job.reason,
        });
        let event = Event::new(Operation::JobChange)
            .scope(&job.scope)
            .detail(detail)
            .changes_rows(pinned::TABLE, &[id.to_string()]);
        Ok((unsigned(id)?, event))
    }
}

impl Keystore {
    /// Queues a job, recorded; answers its number.
    pub async fn queue_job(&self, job: &NewJob) -> Result<u64, KeystoreError> {
        let mut change = self.change().await?;
        let (id, event) = change.queue_job(job, 0).await?;
        change.commit(event).await?;
        Ok(id)
    }

    /// Permits, with a token, that a scope's data keys before `horizon` are replaced, and those of scopes below; with `rewraps`,
    /// queues the job that brings their values to the new ones. Making the keys follows from it
    /// ([`crate::Keys::sealing_key_since`]); the job makes those that are not there yet.
    pub async fn order_rotation(
        &self,
        scope: &ScopePath,
        below: bool,
        horizon: u64,
        rewraps: bool,
        token: &Token,
    ) -> Result<Option<u64>, KeystoreError> {
        let mut change = self.change().await?;
        change.step_up(token, Operation::DekRotate, scope).await?;
        let mut detail = json!({ "ordered": true, "horizon": horizon, "below": below });
        let mut job = None;
        let mut events = Vec::new();
        if rewraps {
            let wanted = NewJob::rewrap(scope, below, horizon, "rotation by hand");
            let (id, event) = change.queue_job(&wanted, 1).await?;
            detail["job"] = json!(id);
            job = Some(id);
            events.push(event);
        }
        let rotation = Event::new(Operation::DekRotate).scope(scope).detail(detail);
        events.insert(0, rotation);
        change.commit_all(events).await?;
        Ok(job)
    }

    /// Whether a job is queued or running.
    pub async fn has_jobs(&self) -> Result<bool, KeystoreError> {
        let rows = self.query(UNFINISHED, &[]).await?;
        rows.first().map_or(Ok(false), |row| Ok(row.try_get(0)?))
    }

    /// All jobs, by number.
    pub async fn jobs(&self) -> Result<Vec<JobRecord>, KeystoreError> {
        self.read_jobs(None).await
    }

    /// One job.
    pub async fn job(&self, id: u64) -> Result<Option<JobRecord>, KeystoreError> {
        Ok(self.read_jobs(Some(bigint_of(id)?)).await?.pop())
    }

    async fn read_jobs(&self, id: Option<i64>) -> Result<Vec<JobRecord>, KeystoreError> {
        let mut jobs = Vec::new();
        let rows = self.query(ALL, &[&id, &UTC]).await?;
        // Without the key they are shown all the same, as what nobody has judged.
        let secrets = if rows.is_empty() {
            None
        } else {
            self.log.secrets().await.ok()
        };
        for row in rows {
            let mut job = job(&row, secrets.as_deref())?;
            if id.is_some() {
                let parts = self.query(PARTS, &[&id]).await?;
                job.parts = parts.iter().map(part).collect::<Result<_, _>>()?;
            }
            jobs.push(job);
        }
        Ok(jobs)
    }

    /// Does as it was told by hand. False: a job in that state does not take the order.
    pub async fn order_job(&self, id: u64, order: JobOrder) -> Result<bool, KeystoreError> {
        let id = bigint_of(id)?;
        let mut change = self.change().await?;
        let Some((job, judged)) = change.locked_job(id).await? else {
            change.rollback().await?;
            return Ok(false);
        };
        let is_ours = judged.is_ok();
        if let (Err(refused), true) = (self.told_job(id, judged), order != JobOrder::Cancel) {
            change.rollback().await?;
            return Err(refused);
        }
        let secrets = change.secrets();
        let rows = match order {
            JobOrder::Pause => {
                let mac: &[u8] = &job.authentic(JobState::Paused, secrets);
                change.query(PAUSE, &[&id, &mac]).await?
            }
            JobOrder::Resume => {
                let mac: &[u8] = &job.authentic(JobState::Queued, secrets);
                change.query(RESUME, &[&id, &mac]).await?
            }
            JobOrder::Cancel => {
                let mac: &[u8] = &job.authentic(JobState::Cancelled, secrets);
                change.query(CANCEL, &[&id, &mac, &is_ours]).await?
            }
        };
        let Some(row) = rows.first() else {
            change.rollback().await?;
            return Ok(false);
        };
        if order == JobOrder::Resume {
            change.query(ATTEMPTS, &[&id]).await?;
        }
        let mut detail = json!({ "job": id, "order": order.as_str() });
        if !is_ours {
            detail["changed_by_others"] = json!(true);
        }
        let event = Event::new(Operation::JobChange)
            .scope_text(row.try_get(0)?)
            .detail(detail);
        change.commit(event).await?;
        Ok(true)
    }

    /// Ends a running job, and records how. False: it does not run any more.
    pub async fn end_job(
        &self,
        id: u64,
        state: JobState,
        failure: Option<&str>,
        detail: Value,
    ) -> Result<bool, KeystoreError> {
        let id = bigint_of(id)?;
        let mut change = self.change().await?;
        let Some((job, judged)) = change.locked_job(id).await? else {
            change.rollback().await?;
            return Ok(false);
        };
        if let Err(refused) = self.told_job(id, judged) {
            change.rollback().await?;
            return Err(refused);
        }
        let mac: &[u8] = &job.authentic(state, change.secrets());
        let rows = change
            .query(END, &[&id, &state.as_str(), &failure, &mac])
            .await?;
        let Some(row) = rows.first() else {
            change.rollback().await?;
            return Ok(false);
        };
        let outcome = match state {
            JobState::Completed => Outcome::Done,
            _ => Outcome::Failed,
        };
        let mut told = json!({ "job": id, "state": state.as_str() });
        if let Some(failure) = failure {
            told["reason"] = json!(failure);
        }
        if !detail.is_null() {
            told["proof"] = detail;
        }
        let event = Event::new(Operation::JobChange)
            .outcome(outcome)
            .scope_text(row.try_get(0)?)
            .detail(told);
        change.commit(event).await?;
        Ok(true)
    }
}

fn job(row: &Row, secrets: Option<&Secrets>) -> Result<JobRecord, KeystoreError> {
    let (target, state): (&str, &str) = (row.try_get(4)?, row.try_get(5)?);
    let pinned = Pinned {
        id: row.try_get(0)?,
        kind: row.try_get(1)?,
        scope: row.try_get(2)?,
        below: row.try_get(3)?,
        target: target.to_owned(),
        made_by: row.try_get(6)?,
        reason: row.try_get(7)?,
    };
    let mac: Option<&[u8]> = row.try_get(20)?;
    Ok(JobRecord {
        is_ours: secrets.map(|secrets| pinned.judge(state, mac, secrets).is_ok()),
        id: unsigned(row.try_get(0)?)?,
        kind: row.try_get(1)?,
        scope: row.try_get(2)?,
        below: row.try_get(3)?,
        // Of a row that is refused.
        target: serde_json::from_str(target).unwrap_or(Value::Null),
        state: state.parse()?,
        made_by: row.try_get(6)?,
        reason: row.try_get(7)?,
        created_at: row.try_get(8)?,
        started_at: row.try_get(9)?,
        moved_at: row.try_get(18)?,
        running_s: row.try_get(10)?,
        ended_at: row.try_get(11)?,
        failure: row.try_get(12)?,
        waits: row.try_get(13)?,
        held: { row.try_get::<_, Vec<i64>>(19)?.into_iter() }
            .map(unsigned)
            .collect::<Result<_, _>>()?,
        pass: row.try_get(14)?,
        found: row.try_get(15)?,
        written: row.try_get(16)?,
        rows: row.try_get(17)?,
        parts: Vec::new(),
    })
}

fn part(row: &Row) -> Result<PartRecord, KeystoreError> {
    Ok(PartRecord {
        table: row.try_get(0)?,
        found: row.try_get(1)?,
        written: row.try_get(2)?,
        left: row.try_get(3)?,
        faulty: row.try_get(4)?,
        faults: row.try_get(5)?,
        exhausted: row.try_get(6)?,
        dead_rows: row.try_get(7)?,
    })
}

fn unsigned(number: i64) -> Result<u64, KeystoreError> {
    u64::try_from(number).map_err(|_| damaged("a negative number"))
}

fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.jobs",
        reason: reason.to_owned(),
    }
}
