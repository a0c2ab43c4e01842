//! Hands out the next range of rows to one worker, over all replicas: a short transaction under one lock. It opens no values.
//!
//! A done batch keeps its place until the pause behind it is over, so that the pace holds however many replicas there are.

use std::time::Duration;

use pgveil_config::settings::Reencrypt;
use pgveil_keys::database::Database;
use tokio::join;
use tokio_postgres::{Row, types::ToSql};

use super::{batch::Batch, part::Columns, session::ALIVE};
use crate::{
    JobError,
    remake::{At, Remake},
    walk::{Cursor, Reading, Walk, Wanted},
};

/// Whoever has a batch must be done by then: longer with each attempt.
const LEASE_S: f64 = 120.0;
/// Bytes of values in one batch; one row may always be larger.
pub(super) const BATCH_BYTES: i64 = 4 << 20;
/// Bytes that are read at most to find a range: more than it will have.
const BATCH_BYTES_READ: i64 = 2 * BATCH_BYTES;
/// Rows of a batch at full speed.
const FULL_SPEED_ROWS: usize = 2000;
/// Ranges without wanted rows that are walked over in one claim.
const MAX_STEPS: usize = 20;
/// After another replica was claiming.
const CLAIMED_ELSEWHERE: Duration = Duration::from_millis(20);
/// The lock under which batches are claimed: "PGVc".
const CLAIMS: i32 = 0x5047_5663;

pub(super) enum Claimed {
    Batch(Box<Batch>),
    /// This job has no range to give at the moment.
    Nothing,
    /// All ranges are done: it is to be counted what is left.
    Walked,
    /// As many batches as may be are at work, or resting.
    Busy {
        wait: Duration,
    },
}

const BEGIN: &str = "BEGIN";
const LOCK: &str = "SELECT pg_try_advisory_xact_lock($1, 0)";
/// A process that is there holds the lock of its number.
macro_rules! worker_lives {
    () => {
        "EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.classid = $1::int4::oid \
            AND l.objid = b.worker::oid AND l.objsubid = 2 \
            AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database()))"
    };
}
/// A pause behind a batch takes a place from those who keep to one.
const PLACES: &str = concat!(
    "SELECT count(*), coalesce(extract(epoch FROM min(b.until) - clock_timestamp()), 0)::float8 \
    FROM pgveil.job_batches b WHERE b.until > clock_timestamp() \
        AND (b.is_done AND $2 OR NOT b.is_done AND (b.worker IS NULL OR ",
    worker_lives!(),
    "))"
);
const TAKE_OVER: &str = concat!(
    "UPDATE pgveil.job_batches u SET token = nextval('pgveil.job_tokens'), worker = $2, \
        until = clock_timestamp() + make_interval(secs => $3::float8 * (1 + u.attempts)) \
    FROM pgveil.job_parts p WHERE u.token = (SELECT b.token FROM pgveil.job_batches b WHERE b.job = $4 AND NOT b.is_done \
        AND (b.until <= clock_timestamp() OR b.worker IS NOT NULL AND NOT ",
    worker_lives!(),
    ") ORDER BY b.token LIMIT 1 FOR UPDATE SKIP LOCKED) AND p.job = u.job AND p.part = u.part \
    RETURNING u.token, u.part, p.relation, p.columns, u.after, u.upto, u.attempts"
);
const FOLD: &str = "WITH done AS (DELETE FROM pgveil.job_batches WHERE job = $1 AND is_done AND (until <= clock_timestamp() OR NOT $2) \
        RETURNING part, written, rows, left_rows, faulty, faults), \
    sums AS (SELECT part, sum(written) AS written, sum(rows) AS rows, sum(left_rows) AS left_rows, sum(faulty) AS faulty \
        FROM done GROUP BY part), \
    named AS (SELECT part, array_agg(fault) AS faults FROM done, unnest(done.faults) AS fault GROUP BY part), \
    moved AS (UPDATE pgveil.jobs SET moved_at = now() WHERE id = $1 AND EXISTS (SELECT FROM sums WHERE rows > 0)) \
    UPDATE pgveil.job_parts p SET written = p.written + sums.written, rows = p.rows + sums.rows, \
        left_rows = p.left_rows + sums.left_rows, faulty = p.faulty + sums.faulty, \
        faults = (p.faults || coalesce(named.faults, '{}'))[1:20] \
    FROM sums LEFT JOIN named USING (part) WHERE p.job = $1 AND p.part = sums.part";
const PART: &str = "SELECT part, relation, columns, after, upto FROM pgveil.job_parts \
    WHERE job = $1 AND NOT exhausted ORDER BY claimed_at NULLS FIRST, part LIMIT 1 FOR UPDATE";
const ADVANCE: &str = "UPDATE pgveil.job_parts SET after = $3, exhausted = $4, claimed_at = clock_timestamp() \
    WHERE job = $1 AND part = $2";
const TAKE: &str = "INSERT INTO pgveil.job_batches (token, job, part, after, upto, worker, until) \
    VALUES (nextval('pgveil.job_tokens'), $1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6)) RETURNING token";
const LEFT: &str = "SELECT EXISTS (SELECT FROM pgveil.job_batches WHERE job = $1) \
    OR EXISTS (SELECT FROM pgveil.job_parts WHERE job = $1 AND NOT exhausted)";
const WALKED: &str =
    "UPDATE pgveil.jobs SET phase = 'count', look_at = now() WHERE id = $1 AND phase = 'walk'";
const IS_RUNNING: &str =
    "SELECT FROM pgveil.jobs WHERE id = $1 AND state = 'running' AND phase = 'walk'";

/// The next range of a job. `worker` is this process's number.
pub(super) async fn claim(
    client: &Database,
    worker: i32,
    settings: &Reencrypt,
    job: u64,
    kind: &dyn Remake,
) -> Result<Claimed, JobError> {
    let known = client.know(&[
        BEGIN, LOCK, IS_RUNNING, PLACES, FOLD, TAKE_OVER, PART, ADVANCE, TAKE,
    ]);
    known.await.map_err(claiming())?;
    let claim = Claim {
        client,
        worker,
        settings,
        job: i64::try_from(job).unwrap_or(i64::MAX),
    };
    let claimed = claim.next(kind).await;
    let end = if claimed.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    let ended = client.batch_execute(end).await;
    let claimed = claimed?;
    ended.map_err(claiming())?;
    Ok(claimed)
}

struct Claim<'a> {
    client: &'a Database,
    worker: i32,
    settings: &'a Reencrypt,
    job: i64,
}

impl Claim<'_> {
    async fn next(&self, kind: &dyn Remake) -> Result<Claimed, JobError> {
        // Sent together, done one after another: what is asked under the lock is what holds under it.
        let pauses = self.pauses();
        let job: [&(dyn ToSql + Sync); 1] = [&self.job];
        let (lock, places): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 2]) =
            ([&CLAIMS], [&ALIVE, &pauses]);
        let (begun, locked, running, places) = join!(
            biased;
            self.row(BEGIN, &[]),
            self.row(LOCK, &lock),
            self.row(IS_RUNNING, &job),
            self.row(PLACES, &places),
        );
        begun?;
        if !locked?.is_some_and(|row| row.try_get(0).unwrap_or(false)) {
            return Ok(Claimed::Busy {
                wait: CLAIMED_ELSEWHERE,
            });
        }
        if running?.is_none() {
            return Ok(Claimed::Nothing);
        }
        if let Some(wait) = self.wait(places?)? {
            return Ok(Claimed::Busy { wait });
        }
        let fold: [&(dyn ToSql + Sync); 2] = [&self.job, &pauses];
        let take: [&(dyn ToSql + Sync); 4] = [&ALIVE, &self.worker, &LEASE_S, &self.job];
        let (folded, taken, part) = join!(
            biased;
            self.execute(FOLD, &fold),
            self.row(TAKE_OVER, &take),
            self.row(PART, &job),
        );
        folded?;
        if let Some(row) = taken? {
            return Ok(Claimed::Batch(Box::new(self.taken_over(&row).await?)));
        }
        let mut next = part?;
        while let Some(part) = next {
            if let Some(batch) = self.range_of(&part, kind).await? {
                return Ok(Claimed::Batch(Box::new(batch)));
            }
            next = self.row(PART, &[&self.job]).await?;
        }
        let left = self.row(LEFT, &[&self.job]).await?;
        if left.is_some_and(|row| row.try_get(0).unwrap_or(true)) {
            return Ok(Claimed::Nothing);
        }
        self.execute(WALKED, &[&self.job]).await?;
        Ok(Claimed::Walked)
    }

    /// Whether it keeps to pauses. Who goes at full speed waits for nobody else's either.
    fn pauses(&self) -> bool {
        !self.settings.interval.is_zero()
    }

    /// Batches that may be in hand. At full speed one is read and remade while the others are written: the server has always
    /// something to do.
    fn places(&self) -> usize {
        let ahead = usize::from(!self.pauses());
        self.settings.concurrency.saturating_add(ahead)
    }

    /// How long until there is a place, if there is none: of all jobs together.
    fn wait(&self, places: Option<Row>) -> Result<Option<Duration>, JobError> {
        let Some(row) = places else {
            return Ok(None);
        };
        let (taken, wait): (i64, f64) = (get(&row, 0)?, get(&row, 1)?);
        let full = usize::try_from(taken).unwrap_or(0) >= self.places();
        Ok(full.then(|| Duration::try_from_secs_f64(wait).unwrap_or_default()))
    }

    /// A batch whose worker is gone, or whose lease or pause is over. Its old token is not valid any more.
    async fn taken_over(&self, row: &Row) -> Result<Batch, JobError> {
        let (after, upto): (Option<String>, Option<String>) = (get(row, 4)?, get(row, 5)?);
        Ok(Batch {
            token: get(row, 0)?,
            job: self.job,
            part: get(row, 1)?,
            walk: Walk::over_by(self.client, get(row, 2)?).await?,
            columns: columns(get(row, 3)?)?,
            after: after.map(Cursor::new),
            upto: upto.map(Cursor::new),
            attempts: get(row, 6)?,
            rows: None,
        })
    }

    /// The next range of a part that has something to remake. `None`: there was none, and the part has moved on.
    async fn range_of(&self, row: &Row, kind: &dyn Remake) -> Result<Option<Batch>, JobError> {
        let (part, relation): (i32, u32) = (get(row, 0)?, get(row, 1)?);
        let columns = columns(get(row, 2)?)?;
        let (after, end): (Option<String>, Option<String>) = (get(row, 3)?, get(row, 4)?);
        let (mut after, end) = (after.map(Cursor::new), end.map(Cursor::new));
        let walk = match Walk::over_by(self.client, relation).await {
            // What it held is gone with it.
            Err(JobError::TableGone { .. }) => {
                self.advance(part, None, true).await?;
                return Ok(None);
            }
            walk => walk?,
        };
        let rows = if self.settings.interval.is_zero() {
            self.settings.batch_size.max(FULL_SPEED_ROWS)
        } else {
            self.settings.batch_size
        };
        let wanted = Wanted {
            condition: columns
                .condition(|column, value| kind.wants(At { relation, column }, value)),
            size: columns.size(),
            rows: u32::try_from(rows).unwrap_or(u32::MAX),
            bytes: BATCH_BYTES,
        };
        let reading = reading(relation, &columns, kind, rows);
        for _ in 0..MAX_STEPS {
            let range = (after.as_ref(), end.as_ref());
            let step = walk.next_reading(self.client, range, &wanted, reading.as_ref());
            let Some((step, rows)) = step.await? else {
                self.advance(part, after.as_ref(), true).await?;
                return Ok(None);
            };
            let before = std::mem::replace(&mut after, step.upto);
            if step.rows > 0 {
                let upto = after.clone().or(end);
                let (advanced, token) = join!(
                    biased;
                    self.advance(part, after.as_ref(), after.is_none()),
                    self.take(part, before.as_ref(), upto.as_ref()),
                );
                advanced?;
                return Ok(Some(Batch {
                    token: token?,
                    job: self.job,
                    part,
                    walk,
                    columns,
                    after: before,
                    upto,
                    attempts: 0,
                    rows,
                }));
            }
            if after.is_none() {
                self.advance(part, None, true).await?;
                return Ok(None);
            }
        }
        self.advance(part, after.as_ref(), false).await?;
        Ok(None)
    }

    async fn take(
        &self,
        part: i32,
        after: Option<&Cursor>,
        upto: Option<&Cursor>,
    ) -> Result<i64, JobError> {
        let (from, to) = (after.map(Cursor::as_str), upto.map(Cursor::as_str));
        let params: [&(dyn ToSql + Sync); 6] =
            [&self.job, &part, &from, &to, &self.worker, &LEASE_S];
        let row = self.row(TAKE, &params).await?;
        get(&row.ok_or(JobError::NoConnection)?, 0)
    }

    async fn advance(&self, part: i32, after: Option<&Cursor>, end: bool) -> Result<(), JobError> {
        let after = after.map(Cursor::as_str);
        self.execute(ADVANCE, &[&self.job, &part, &after, &end])
            .await
    }

    async fn row(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, JobError> {
        let rows = self.client.ask(sql, params).await.map_err(claiming())?;
        Ok(rows.into_iter().next())
    }

    async fn execute(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<(), JobError> {
        self.row(sql, params).await.map(drop)
    }
}

fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, JobError> {
    row.try_get(at).map_err(claiming())
}

/// What is read of rows while the next range is looked for. Rows that are so large that many of them would be too much at once
/// are weighed first, and arrays: they are read by whoever has the range in hand.
fn reading(relation: u32, columns: &Columns, kind: &dyn Remake, rows: usize) -> Option<Reading> {
    if columns.array.is_some() {
        return None;
    }
    let values = i64::try_from(rows.max(1).saturating_mul(columns.count())).unwrap_or(i64::MAX);
    let most = BATCH_BYTES_READ / values.max(1);
    let wants = |column: &str, value: &str| {
        let wanted = kind.wants(At { relation, column }, value);
        format!("{wanted} AND pg_catalog.octet_length({value}) <= {most}")
    };
    let list = columns.list(wants, &kind.row_columns(relation));
    Some(Reading { list, most })
}

fn columns(text: &str) -> Result<Columns, JobError> {
    Columns::parse(text).ok_or(JobError::UnknownJob {
        kind: "with other columns".to_owned(),
    })
}

fn claiming() -> impl FnOnce(tokio_postgres::Error) -> JobError {
    JobError::while_doing("claim a range of rows")
}
