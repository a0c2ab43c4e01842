//! One range of rows: read without a lock, remade outside of any transaction, written where nothing has changed meanwhile.
//!
//! The rows, and that the batch is done, are one transaction, which the token must still be valid for. It takes only locks that
//! it gets at once, so that it never waits for a row while it holds another: no application can be in a deadlock with it.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::{TryStreamExt, future::try_join_all};
use pgveil_keys::database::Database;
use pgveil_policy::types::{LogicalType, Value};
use tokio::join;
use tokio_postgres::{Row, Statement, types::ToSql};

use super::{Shared, array::Array, claim::BATCH_BYTES, pace, part::Columns, place::Place, session};
use crate::{
    JobError,
    apply::raw::Raw,
    remake::{At, Remake, Trouble},
    walk::{Cursor, Walk},
};

/// What does not open is named so often.
const MAX_FAULTS: usize = 20;
/// Behind a batch that could remake nothing for now: a seal, an outage.
const LATER: Duration = Duration::from_secs(1);
/// The first pause after a failure; it doubles.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LAST_BACK_OFF: Duration = Duration::from_mins(1);
/// How long a server that is away is waited for with a batch in hand; then its lease is over too.
const PATIENCE: Duration = Duration::from_secs(110);

/// Statements for arrays, of one row each, that are sent together.
const ARRAYS_AT_ONCE: usize = 64;

/// A range that this worker has in hand.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) token: i64,
    pub(super) job: i64,
    pub(super) part: i32,
    pub(super) walk: Walk,
    pub(super) columns: Columns,
    pub(super) after: Option<Cursor>,
    pub(super) upto: Option<Cursor>,
    /// Failures before.
    pub(super) attempts: i32,
    /// Its rows, if they were read when it was claimed: for the first attempt.
    pub(super) rows: Option<Vec<Row>>,
}

/// What tells an old value from any other, and the new one.
type Change<'a> = (&'a [u8], Vec<u8>);

/// A row that was read.
struct Read<'a> {
    ctid: Place,
    /// By column; those that stay are `None`.
    values: Vec<Option<&'a [u8]>>,
    /// Of a column of arrays.
    array: Option<&'a Array>,
    /// What else the kind of job must know of it.
    beside: Vec<(String, Option<(LogicalType, Value)>)>,
}

/// A row with something to write.
struct Remade<'a> {
    ctid: Place,
    /// By column.
    values: Vec<Option<Change<'a>>>,
    /// Of a column of arrays.
    array: Option<(&'a Array, Array)>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default)]
struct Tally {
    written: i64,
    rows: i64,
    left: i64,
    faulty: i64,
    faults: Vec<String>,
    /// Why something was left.
    later: Option<String>,
}

/// Begins a batch's transaction. One that nobody is in the way of writes at once; a row that somebody holds ends it after this
/// time, and then it is written by the statement that passes over such rows.
const AT_ONCE: &str = "BEGIN; SET LOCAL lock_timeout = '1ms'";
const PASSING_OVER: &str = "BEGIN";
const QUIET: &str = "; SET LOCAL session_replication_role = 'replica'";

const COMMIT: &str = "COMMIT";

/// Not if the job was cancelled: another may be bringing the same values to something else.
const HOLDS: &str = "SELECT FROM pgveil.job_batches b WHERE token = $1 AND NOT is_done \
    AND EXISTS (SELECT FROM pgveil.jobs j WHERE j.id = b.job AND j.state IN ('queued', 'running', 'paused')) FOR UPDATE OF b";
const DONE: &str = "UPDATE pgveil.job_batches SET is_done = true, until = clock_timestamp() + make_interval(secs => $2), \
    written = $3, rows = $4, left_rows = $5, faulty = $6, faults = $7 WHERE token = $1";
const FAILED: &str = "UPDATE pgveil.job_batches SET attempts = attempts + 1, worker = NULL, error = $2, \
    until = clock_timestamp() + make_interval(secs => $3) WHERE token = $1 AND NOT is_done";
const WAITS: &str = "UPDATE pgveil.jobs SET waits = $2 WHERE id = $1 AND waits IS DISTINCT FROM $2";

impl Batch {
    /// Does it, and gives the connection back if it is still good.
    pub(super) async fn run(
        mut self,
        shared: &Shared,
        kind: &dyn Remake,
        mut connection: Option<Database>,
    ) -> Option<Database> {
        let began = Instant::now();
        loop {
            let database = match connection.take().filter(|held| !held.is_closed()) {
                Some(held) => Ok(held),
                None => session::open(&shared.settings).await,
            };
            let done = match &database {
                Ok(database) => self.attempt(shared, kind, database).await,
                Err(_) => Ok(()),
            };
            let error = match (database, done) {
                (Ok(database), Ok(())) => return Some(database),
                (Ok(database), Err(error)) => {
                    if !error.is_passing() {
                        self.failed(shared, &database, error).await;
                        return Some(database).filter(|held| !held.is_closed());
                    }
                    error
                }
                (Err(error), _) => error,
            };
            // The server is away: it is not the batch that failed.
            if began.elapsed() > PATIENCE {
                tracing::warn!(job = self.job, %error, "a batch was given up; another worker takes it");
                return None;
            }
            tokio::time::sleep(FIRST_BACK_OFF).await;
        }
    }

    async fn attempt(
        &mut self,
        shared: &Shared,
        kind: &dyn Remake,
        client: &Database,
    ) -> Result<(), JobError> {
        let mut tally = Tally::default();
        // Until the server has said what became of the batch.
        let _flight = shared.keys.enter();
        let rows = match self.rows.take() {
            Some(rows) => rows,
            None => self.read(client, kind).await?,
        };
        let arrays = self.arrays(&rows).map_err(self.reading())?;
        let remade = self
            .remake(client, kind, (&rows, &arrays), &mut tally)
            .await?;
        // One batch more than may be written at once is read and remade ahead.
        let _turn = shared.writing.acquire().await;
        // The last time, each row by itself: then it is known which one cannot be written.
        let max = i32::try_from(shared.settings.reencrypt.max_retries).unwrap_or(i32::MAX);
        if self.attempts >= max && self.attempts > 0 && remade.len() > 1 {
            for row in &remade {
                let alone = std::slice::from_ref(row);
                if let Err(error) = self.write(shared, client, alone, &mut tally, false).await {
                    return Err(JobError::RowRefused {
                        table: self.walk.shown(),
                        row: self.shown_row(client, row.ctid).await,
                        source: Box::new(error),
                    });
                }
            }
            return self.write(shared, client, &[], &mut tally, true).await;
        }
        self.write(shared, client, &remade, &mut tally, true).await
    }

    /// The rows of the range that have something to remake, up to a limit: what is beyond it is left to the next pass.
    async fn read(&self, client: &Database, kind: &dyn Remake) -> Result<Vec<Row>, JobError> {
        let reading = || JobError::while_doing(format!("read rows of {}", self.walk.shown()));
        let relation = self.walk.oid();
        let wants = |column: &str, value: &str| kind.wants(At { relation, column }, value);
        let statement = format!(
            "SELECT {} FROM ONLY {} AS t WHERE {} AND ({})",
            self.columns.list(wants, &kind.row_columns(relation)),
            self.walk.quoted(),
            self.walk.between(self.after.as_ref(), self.upto.as_ref()),
            self.columns.condition(wants)
        );
        let none: [&(dyn ToSql + Sync); 0] = [];
        let stream = client
            .query_raw(&statement, none)
            .await
            .map_err(reading())?;
        let mut stream = pin!(stream);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) = stream.try_next().await.map_err(reading())? {
            bytes += i64::try_from(row.raw_size_bytes()).unwrap_or(i64::MAX);
            rows.push(row);
            // Rows grew since they were weighed.
            if bytes > 2 * BATCH_BYTES {
                break;
            }
        }
        Ok(rows)
    }

    async fn remake<'a>(
        &self,
        client: &Database,
        kind: &dyn Remake,
        (rows, arrays): (&'a [Row], &'a [Array]),
        tally: &mut Tally,
    ) -> Result<Vec<Remade<'a>>, JobError> {
        let mut page = Vec::with_capacity(rows.len());
        let relation = self.walk.oid();
        let names = kind.row_columns(relation);
        for (at, row) in rows.iter().enumerate() {
            let read = self.taken_apart(row, arrays.get(at), &names);
            page.push(read.map_err(self.reading())?);
        }
        let values: Vec<&[u8]> = { page.iter() }
            .flat_map(|read| read.values.iter().flatten().copied())
            .collect();
        kind.prepare(&values).await;
        let mut remade = Vec::with_capacity(page.len());
        for read in page {
            let Read {
                ctid,
                values,
                array,
                beside,
            } = read;
            let mut news = Vec::with_capacity(values.len());
            for (at, value) in values.iter().enumerate() {
                let Some(value) = value else {
                    news.push(None);
                    continue;
                };
                let column = self.columns.name(at);
                match kind.remake(At { relation, column }, &beside, value).await {
                    Ok(new) => {
                        tally.written += i64::from(kind.looks());
                        news.push(new);
                    }
                    Err(trouble) => {
                        self.troubled(client, tally, trouble, (at, ctid)).await;
                        news.push(None);
                    }
                }
            }
            if kind.looks() {
                tally.rows += 1;
            }
            if news.iter().all(Option::is_none) {
                continue;
            }
            remade.push(match array {
                None => Remade {
                    ctid,
                    values: { values.into_iter().zip(news) }
                        .map(|(old, new)| Some((mark(old?), new?)))
                        .collect(),
                    array: None,
                },
                Some(old) => {
                    let mut new = old.clone();
                    for (element, value) in new.elements.iter_mut().zip(news) {
                        if let Some(value) = value {
                            *element = Some(value);
                        }
                    }
                    let values = Vec::new();
                    Remade {
                        ctid,
                        values,
                        array: Some((old, new)),
                    }
                }
            });
        }
        Ok(remade)
    }

    async fn troubled(
        &self,
        client: &Database,
        tally: &mut Tally,
        trouble: Trouble,
        (at, ctid): (usize, Place),
    ) {
        match trouble {
            Trouble::Later(why) => {
                tally.left += 1;
                tally.later = Some(why);
            }
            Trouble::Faulty(why) => {
                tally.faulty += 1;
                if tally.faults.len() < MAX_FAULTS {
                    tally.faults.push(format!(
                        "{}.{}, row with {}: {why}",
                        self.walk.shown(),
                        self.columns.name(at),
                        self.shown_row(client, ctid).await
                    ));
                }
            }
        }
    }

    /// A row for people: by its primary key, if it is still where it was.
    async fn shown_row(&self, client: &Database, ctid: Place) -> String {
        let statement = format!(
            "SELECT {} FROM ONLY {} AS t WHERE t.ctid = $1",
            self.walk.place(),
            self.walk.quoted()
        );
        let row = client.query_opt(&statement, &[&ctid]).await;
        let place = row.ok().flatten().and_then(|row| row.try_get(0).ok());
        let place: String = place.unwrap_or_default();
        if place.is_empty() {
            return format!("ctid = {ctid}");
        }
        self.walk.shown_place(&place)
    }

    /// The arrays of rows, if it is those that are remade.
    fn arrays(&self, rows: &[Row]) -> Result<Vec<Array>, tokio_postgres::Error> {
        if self.columns.array.is_none() {
            return Ok(Vec::new());
        }
        rows.iter().map(|row| row.try_get(1)).collect()
    }

    /// `names`: of the columns beside the values.
    fn taken_apart<'a>(
        &self,
        row: &'a Row,
        array: Option<&'a Array>,
        names: &[String],
    ) -> Result<Read<'a>, tokio_postgres::Error> {
        let ctid = row.try_get(0)?;
        let behind = 1 + self.columns.count();
        let mut beside = Vec::with_capacity(names.len());
        for (at, name) in (behind..).zip(names) {
            let logical = LogicalType::from_oid(row.columns()[at].type_().oid(), -1);
            let value: Option<Raw<'_>> = row.try_get(at)?;
            let value = value.map(|raw| Value::from_send_form(raw.0.to_vec()));
            beside.push((name.clone(), logical.zip(value)));
        }
        let values = match array {
            Some(array) => {
                // Only what begins as a sealed value does is one.
                let sealed = |value: &&[u8]| value.starts_with(&pgveil_keys::sealed::MAGIC);
                let elements = array.elements.iter();
                elements
                    .map(|element| element.as_deref().filter(sealed))
                    .collect()
            }
            None => { 1..behind }
                .map(|at| row.try_get(at))
                .collect::<Result<_, _>>()?,
        };
        Ok(Read {
            ctid,
            values,
            array,
            beside,
        })
    }

    /// Writes rows that are as they were read; with `ends`, the batch is done with it.
    async fn write(
        &self,
        shared: &Shared,
        client: &Database,
        rows: &[Remade<'_>],
        tally: &mut Tally,
        ends: bool,
    ) -> Result<(), JobError> {
        { client.know(&[pace::LAG, HOLDS, DONE]) }
            .await
            .map_err(self.writing())?;
        // Arrays are written one by one; they always pass over.
        let mut passes_over = self.columns.array.is_some();
        let before = tally.clone();
        let (is_valid, waits) = loop {
            let begin = if passes_over { PASSING_OVER } else { AT_ONCE };
            let quiet = if self.columns.skips_triggers {
                QUIET
            } else {
                ""
            };
            let begin = format!("{begin}{quiet}");
            let token: [&(dyn ToSql + Sync); 1] = [&self.token];
            // Sent together: the token is looked at in the transaction, the standbys before it.
            let (lag, begun, held) = join!(
                biased;
                pace::lag(client),
                client.batch_execute(&begin),
                client.ask(HOLDS, &token)
            );
            let done = match begun.and(held) {
                Ok(held) if held.is_empty() => Ok((false, None)),
                Ok(_) => {
                    let judge = |took| ends.then(|| shared.pace.judge(took, lag));
                    self.in_transaction(client, rows, tally, passes_over, judge)
                        .await
                        .map(|waits| (true, waits))
                }
                Err(error) => Err(self.writing()(error)),
            };
            if !matches!(done, Ok((true, _))) {
                let ended = client.batch_execute("ROLLBACK").await;
                ended.map_err(self.writing())?;
            }
            match done {
                Err(error) if !passes_over && error.is_locked() => {
                    (passes_over, *tally) = (true, before.clone());
                }
                done => break done?,
            }
        };
        if !is_valid {
            tracing::info!(
                job = self.job,
                part = self.part,
                "a batch was another worker's meanwhile; nothing was written"
            );
        }
        if let Some(waits) = waits {
            let shown = client.execute(WAITS, &[&self.job, &waits]).await;
            shown.map_err(self.writing())?;
        }
        Ok(())
    }

    /// Writes, and commits what was written. Answers what the job waits for.
    async fn in_transaction(
        &self,
        client: &Database,
        rows: &[Remade<'_>],
        tally: &mut Tally,
        passes_over: bool,
        judge: impl FnOnce(Duration) -> Option<(Duration, Option<String>)>,
    ) -> Result<Option<String>, JobError> {
        let began = Instant::now();
        let (updated, written) = if rows.is_empty() {
            (0, 0)
        } else if self.columns.array.is_some() {
            self.update_arrays(client, rows)
                .await
                .map_err(self.writing())?
        } else {
            { self.update(client, rows, passes_over) }
                .await
                .map_err(self.writing())?
        };
        let took = began.elapsed();
        tally.rows += updated;
        tally.written += written;
        // Locked or changed meanwhile.
        tally.left += i64::try_from(rows.len()).unwrap_or(i64::MAX) - updated;
        let Some((mut pause, slowed)) = judge(took) else {
            let ended = client.batch_execute(COMMIT).await;
            return ended.map(|()| None).map_err(self.writing());
        };
        if tally.rows == 0 && tally.later.is_some() {
            pause = pause.max(LATER);
        }
        let Tally {
            written,
            rows,
            left,
            faulty,
            faults,
            later,
        } = tally;
        let params: [&(dyn ToSql + Sync); 7] = [
            &self.token,
            &pause.as_secs_f64(),
            written,
            rows,
            left,
            faulty,
            faults,
        ];
        // Sent together: a COMMIT behind what failed is a ROLLBACK.
        let (done, ended) = join!(
            biased;
            client.ask(DONE, &params),
            client.batch_execute(COMMIT)
        );
        done.map_err(self.writing())?;
        ended.map_err(self.writing())?;
        Ok(later.take().or(slowed))
    }

    async fn update(
        &self,
        client: &Database,
        rows: &[Remade<'_>],
        passes_over: bool,
    ) -> Result<(i64, i64), tokio_postgres::Error> {
        let ctids: Vec<Place> = rows.iter().map(|row| row.ctid).collect();
        let count = self.columns.names.len();
        let column =
            |at: usize, pick: for<'b> fn(&'b Change<'b>) -> &'b [u8]| -> Vec<Option<&[u8]>> {
                rows.iter()
                    .map(|row| row.values[at].as_ref().map(pick))
                    .collect()
            };
        let mut arrays = Vec::with_capacity(2 * count);
        for at in 0..count {
            arrays.push(column(at, |(mark, _)| mark));
            arrays.push(column(at, |(_, new)| new));
        }
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&ctids];
        params.extend(arrays.iter().map(|array| array as &(dyn ToSql + Sync)));
        let statement = self.update_statement(passes_over);
        let rows = client.ask_again(&statement, &params).await?;
        // An aggregate has one row.
        let number = |at| rows.first().map_or(Ok(0), |row| row.try_get(at));
        Ok((number(0)?, number(1)?))
    }

    /// Its parameters are the places of rows, and for each column the marks of its old values and the new ones.
    fn update_statement(&self, passes_over: bool) -> String {
        let table = self.walk.quoted();
        let (mut params, mut names) = (String::new(), String::new());
        let (mut unchanged, mut set, mut written) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (name, value)) in { self.columns.names.iter() }
            .zip(self.columns.values())
            .enumerate()
        {
            let (old, new) = (2 * at + 2, 2 * at + 3);
            params.push_str(&format!(", ${old}::bytea[], ${new}::bytea[]"));
            names.push_str(&format!(", o{at}, n{at}"));
            unchanged.push(format!(
                "(new.n{at} IS NULL OR substr({value}, 1, octet_length(new.o{at})) = new.o{at})"
            ));
            set.push(format!("{name} = coalesce(new.n{at}, {value})"));
            written.push(format!("(new.n{at} IS NOT NULL)::int"));
        }
        let new = format!("unnest($1::tid[]{params}) AS new(place{names})");
        let (unchanged, set) = (unchanged.join(" AND "), set.join(", "));
        let at_its_place = "t.ctid = new.place";
        let (locked, of, condition) = if passes_over {
            let locked = format!(
                "locked AS MATERIALIZED (SELECT new.* FROM {new}, ONLY {table} AS t WHERE {at_its_place} AND {unchanged} \
                 FOR NO KEY UPDATE OF t SKIP LOCKED), "
            );
            (locked, "locked AS new".to_owned(), at_its_place.to_owned())
        } else {
            (
                String::new(),
                new,
                format!("{at_its_place} AND {unchanged}"),
            )
        };
        format!(
            "WITH {locked}done AS (UPDATE ONLY {table} AS t SET {set} FROM {of} WHERE {condition} RETURNING {} AS written) \
             SELECT count(*), coalesce(sum(written), 0)::bigint FROM done",
            written.join(" + ")
        )
    }

    async fn update_arrays(
        &self,
        client: &Database,
        rows: &[Remade<'_>],
    ) -> Result<(i64, i64), tokio_postgres::Error> {
        let (table, value) = (self.walk.quoted(), self.columns.array_value());
        let (name, cast) = (
            &self.columns.names[0],
            self.columns.array.as_deref().unwrap_or("bytea[]"),
        );
        let statement = format!(
            "WITH locked AS MATERIALIZED (SELECT t.ctid AS place FROM ONLY {table} AS t \
                WHERE t.ctid = $1 AND {value} = $2::bytea[] FOR NO KEY UPDATE OF t SKIP LOCKED) \
             UPDATE ONLY {table} AS t SET {name} = $3::bytea[]::{cast} FROM locked WHERE t.ctid = locked.place"
        );
        let statement = client.prepare(&statement).await?;
        let (mut updated, mut written) = (0, 0);
        for rows in rows.chunks(ARRAYS_AT_ONCE) {
            // Sent one behind the other, without waiting for each answer.
            let mut sent = Vec::with_capacity(rows.len());
            for row in rows {
                if let Some((old, new)) = &row.array {
                    sent.push(update_array(client, &statement, row.ctid, (old, new)));
                }
            }
            for changed in try_join_all(sent).await?.into_iter().flatten() {
                updated += 1;
                written += changed;
            }
        }
        Ok((updated, written))
    }

    /// Tries again later, or ends the job.
    async fn failed(&self, shared: &Shared, client: &Database, error: JobError) {
        let max = i32::try_from(shared.settings.reencrypt.max_retries).unwrap_or(i32::MAX);
        if self.attempts >= max {
            let job = u64::try_from(self.job).unwrap_or(0);
            shared.fail(job, &error).await;
        } else {
            tracing::warn!(job = self.job, %error, "a batch failed; it is tried again");
        }
        let doubled = 1 << u32::try_from(self.attempts).unwrap_or(0).min(10);
        let back_off = FIRST_BACK_OFF.saturating_mul(doubled).min(LAST_BACK_OFF);
        let params: [&(dyn ToSql + Sync); 3] =
            [&self.token, &error.to_string(), &back_off.as_secs_f64()];
        if let Err(error) = client.execute(FAILED, &params).await {
            tracing::warn!(job = self.job, %error, "a failed batch keeps its lease");
        }
    }

    fn reading(&self) -> impl FnOnce(tokio_postgres::Error) -> JobError {
        JobError::while_doing(format!("read rows of {}", self.walk.shown()))
    }

    fn writing(&self) -> impl FnOnce(tokio_postgres::Error) -> JobError {
        JobError::while_doing(format!("write rows of {}", self.walk.shown()))
    }
}

/// Answers how many elements were changed, if the row is as it was read.
async fn update_array(
    client: &Database,
    statement: &Statement,
    ctid: Place,
    (old, new): (&Array, &Array),
) -> Result<Option<i64>, tokio_postgres::Error> {
    let updated = client.execute(statement, &[&ctid, old, new]).await?;
    let elements = old.elements.iter().zip(&new.elements);
    let changed = elements.filter(|(old, new)| old != new).count();
    Ok((updated > 0).then(|| i64::try_from(changed).unwrap_or(i64::MAX)))
}

/// The beginning of a sealed value up to its nonce, which no other value has.
fn mark(value: &[u8]) -> &[u8] {
    &value[..value.len().min(pgveil_keys::sealed::marked_len(value))]
}
