//! What is done once for a whole job: counting what is to be remade, laying out the tables to walk over, and the proof that
//! nothing is left, with which a job is completed. It writes no rows of applications.

use std::collections::BTreeMap;

use pgveil_keys::{
    database::Database,
    keystore::{JobRecord, JobState},
};
use serde_json::json;
use tokio_postgres::types::ToSql;

use super::{
    Shared, again,
    held_back::{self, HeldBack},
    part::Columns,
    session::{self, LEADS},
    settle::{Settled, settle},
};
use crate::{
    JobError,
    held::{self, Held, is_sealed_and},
    remake::{At, Next, Remake},
    uses::BEGIN,
    walk::Walk,
};

/// Between looks at what has to end by itself.
const LOOK_AGAIN_S: f64 = 1.0;
/// Between looks at what somebody else has to do first.
const WAIT_S: f64 = 2.0;
/// Between passes that got nowhere: it doubles.
const MAX_PASS_PAUSE_S: f64 = 30.0;
/// Values that a failure names.
const MAX_NAMED: usize = 5;

const TRY_LOCK: &str = "SELECT pg_try_advisory_lock($1, ($2::bigint % 2147483647)::int4)";
const WAIT: &str = "UPDATE pgveil.jobs SET waits = $2, look_at = clock_timestamp() + make_interval(secs => $3), phase = $4 \
    WHERE id = $1 AND state = 'running'";
/// What a pass has come to, for the job as a whole.
const FOLD: &str = "WITH parts AS (DELETE FROM pgveil.job_parts WHERE job = $1 RETURNING written, rows), \
    batches AS (DELETE FROM pgveil.job_batches WHERE job = $1 RETURNING written, rows, is_done), \
    both_of AS (SELECT written, rows FROM parts UNION ALL SELECT written, rows FROM batches WHERE is_done) \
    UPDATE pgveil.jobs SET written = jobs.written + (SELECT coalesce(sum(written), 0) FROM both_of), \
        rows = jobs.rows + (SELECT coalesce(sum(rows), 0) FROM both_of) WHERE id = $1";
const PART: &str = "INSERT INTO pgveil.job_parts (job, part, relation, schema_name, table_name, columns, upto, found) \
    SELECT $1, $2, c.oid, n.nspname, c.relname, $4, $5, $6 \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $3";
/// A pass behind one that got nowhere is no getting on.
const WALK: &str = "UPDATE pgveil.jobs SET phase = 'walk', pass = pass + 1, waits = $2, look_at = now(), \
        moved_at = CASE WHEN $4 THEN moved_at ELSE now() END, found = greatest(found, written + $3), held = $5 \
    WHERE id = $1 AND state = 'running'";
/// It is looked at these keys, and not at rows, until one of them can be had.
const HOLD: &str = "UPDATE pgveil.jobs SET waits = $2, look_at = clock_timestamp() + make_interval(secs => $3), phase = 'held', \
        held = $4 \
    WHERE id = $1 AND state = 'running'";
const MOVED: &str = "UPDATE pgveil.jobs SET moved_at = now() WHERE id = $1";
/// Triggers or rules that an UPDATE of this very table fires.
const IS_WATCHED: &str = "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal AND tgenabled IN ('O', 'A') \
        AND tgtype & 16 <> 0) \
    OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = $1 AND ev_type = '2' AND ev_enabled <> 'D')";
const MAY_SKIP: &str = "BEGIN; SET LOCAL session_replication_role = 'replica'; ROLLBACK";

/// Takes the job's next step, unless another replica is at it. What goes wrong ends the job, or is tried again.
pub(super) async fn lead(shared: &Shared, job: u64) {
    let Err(error) = lead_once(shared, job).await else {
        return;
    };
    if error.is_passing() {
        tracing::warn!(job, %error, "a job could not go on; it is tried again");
    } else {
        shared.fail(job, &error).await;
    }
}

async fn lead_once(shared: &Shared, job: u64) -> Result<(), JobError> {
    let client = session::open(&shared.settings).await?;
    let led = Lead::of(shared, &client, job).await;
    let done = match led {
        Ok(Some(lead)) => lead.step().await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    // The lock goes with the connection.
    client.close().await;
    done
}

struct Lead<'a> {
    shared: &'a Shared,
    client: &'a Database,
    job: JobRecord,
    id: i64,
    phase: String,
    kind: std::sync::Arc<dyn Remake>,
}

/// Values to be remade, by table; in columns that nobody can write apart.
#[derive(Debug, Default)]
struct Count {
    columns: usize,
    tables: usize,
    found: BTreeMap<u32, Vec<(Held, i64)>>,
    in_views: Vec<(String, i64)>,
}

impl Lead<'_> {
    async fn of<'a>(
        shared: &'a Shared,
        client: &'a Database,
        job: u64,
    ) -> Result<Option<Lead<'a>>, JobError> {
        let id = i64::try_from(job).unwrap_or(i64::MAX);
        let locked = client.query_one(TRY_LOCK, &[&LEADS, &id]).await;
        let locked: bool = { locked.and_then(|row| row.try_get(0)) }.map_err(leading())?;
        if !locked {
            return Ok(None);
        }
        // What holds now, under the lock.
        let phase = { client }
            .query_opt("SELECT phase FROM pgveil.jobs WHERE id = $1 AND state = 'running' AND phase <> 'walk'", &[&id])
            .await
            .map_err(leading())?;
        let (Some(phase), Some(job)) = (phase, shared.job(job).await?) else {
            return Ok(None);
        };
        Ok(Some(Lead {
            shared,
            client,
            kind: shared.kind(&job).await?,
            job,
            id,
            phase: phase.try_get(0).map_err(leading())?,
        }))
    }

    async fn step(&self) -> Result<(), JobError> {
        let waits = self.kind.begin().await?;
        let cache = self.shared.settings.cache;
        let settled = settle(self.client, self.id, &self.kind.rests(), cache).await?;
        if let (Settled::NotYet(why), "settle") = (&settled, self.phase.as_str()) {
            let why = waits.as_deref().unwrap_or(why);
            return self.wait(why, LOOK_AGAIN_S, "settle").await;
        }
        if self.phase == "held" {
            let held = held_back::try_all(&self.shared.keys, self.job.held.clone()).await;
            if held.keys != self.job.held {
                // One that can be had is what it waited for.
                { self.client.execute(MOVED, &[&self.id]).await }.map_err(leading())?;
            } else if !self.shared.recount_is_due(self.job.id) {
                return self.hold(&held).await;
            }
        }
        if self.kind.looks() {
            // What is written from now on passes; what was there is looked at once.
            if let Settled::NotYet(why) = settled {
                return self.wait(why, LOOK_AGAIN_S, "settle").await;
            }
            if self.has_been_seen() {
                return self.judge(waits).await;
            }
        } else if let (Settled::NotYet(why), true) = (&settled, self.has_been_written()) {
            // The pass left nothing: it is counted once more when nothing can come after, and not before.
            let why = waits.as_deref().unwrap_or(why);
            return self.wait(why, LOOK_AGAIN_S, "settle").await;
        }
        let count = if self.kind.walks() {
            self.count().await?
        } else {
            Count::default()
        };
        let total: i64 = { count.found.values().flatten() }
            .map(|(_, found)| found)
            .sum();
        if total > 0 {
            return self.walk(count, total, waits).await;
        }
        if !count.in_views.is_empty() {
            return Err(in_views(&count));
        }
        match settled {
            Settled::NotYet(why) => {
                self.wait(waits.as_deref().unwrap_or(why), LOOK_AGAIN_S, "settle")
                    .await
            }
            Settled::Yes => self.advance(&count, waits).await,
        }
    }

    /// Whether a pass has come to its end, and was not kept from any value.
    fn has_been_seen(&self) -> bool {
        let parts = &self.job.parts;
        let seen = parts.iter().all(|part| part.exhausted && part.left == 0);
        !parts.is_empty() && seen && self.phase != "walk"
    }

    /// The same, and it was not kept from any by what does not open, nor left any out.
    fn has_been_written(&self) -> bool {
        let parts = &self.job.parts;
        self.has_been_seen()
            && parts.iter().all(|part| part.faulty == 0)
            && self.job.held.is_empty()
    }

    /// Every value has been looked at.
    async fn judge(&self, waits: Option<String>) -> Result<(), JobError> {
        let faulty: i64 = self.job.parts.iter().map(|part| part.faulty).sum();
        if faulty > 0 {
            self.kind.give_up().await?;
            return Err(JobError::DoNotFit {
                values: faulty,
                named: self.named_faults(),
            });
        }
        let seen = again::look(self.client, &*self.kind, self.horizon().await?).await?;
        if seen.faulty > 0 {
            self.kind.give_up().await?;
            return Err(JobError::DoNotFit {
                values: seen.faulty,
                named: named(seen.faults.iter().map(String::as_str)),
            });
        }
        if let Some(why) = &seen.later {
            return self.wait(why, WAIT_S, "count").await;
        }
        self.advance(&Count::default(), waits).await
    }

    /// What began before this transaction had ended when the walk could begin.
    async fn horizon(&self) -> Result<u64, JobError> {
        let horizon = { self.client }
            .query_opt(
                "SELECT settle_horizon::text FROM pgveil.jobs WHERE id = $1",
                &[&self.id],
            )
            .await
            .map_err(leading())?;
        let horizon: Option<String> = match horizon {
            Some(row) => row.try_get(0).map_err(leading())?,
            None => None,
        };
        // None, of a job that does not wait for anybody: every row counts as written since.
        Ok(horizon.and_then(|text| text.parse().ok()).unwrap_or(3))
    }

    /// Nothing is left: the next step, or the end.
    async fn advance(&self, count: &Count, waits: Option<String>) -> Result<(), JobError> {
        if let (Some(why), false) = (&waits, self.kind.walks()) {
            return self.wait(why, WAIT_S, "count").await;
        }
        let next = match self.kind.advance().await {
            // A value that an index cannot be built over, say: another count finds it.
            Err(error) if error.is_locked() => Next::Wait(error.to_string()),
            next => next?,
        };
        match next {
            Next::Complete => self.complete(count).await,
            Next::Wait(why) => self.wait(&why, WAIT_S, "count").await,
            // What the walk has come to is kept; parts that are done say nothing of the next step.
            Next::Again => { self.client.execute(FOLD, &[&self.id]).await }
                .map(drop)
                .map_err(leading()),
        }
    }

    async fn wait(&self, why: &str, seconds: f64, phase: &str) -> Result<(), JobError> {
        {
            self.client
                .execute(WAIT, &[&self.id, &why, &seconds, &phase])
                .await
        }
        .map(drop)
        .map_err(leading())
    }

    /// In one snapshot, by the headers of values: nothing is decrypted.
    async fn count(&self) -> Result<Count, JobError> {
        let counting = || JobError::while_doing("count the values that are to be remade");
        self.client.batch_execute(BEGIN).await.map_err(counting())?;
        let counted = self.count_in_transaction().await;
        self.client
            .batch_execute("ROLLBACK")
            .await
            .map_err(counting())?;
        counted.map_err(counting())
    }

    async fn count_in_transaction(&self) -> Result<Count, tokio_postgres::Error> {
        let mut count = Count::default();
        let mut tables: BTreeMap<u32, Vec<Held>> = BTreeMap::new();
        for held in held::columns(self.client).await? {
            count.columns += 1;
            tables.entry(held.oid).or_default().push(held);
        }
        count.tables = tables.len();
        for (oid, columns) in tables {
            for (held, values) in self.count_table(columns).await? {
                if values == 0 {
                    continue;
                }
                if held.is_view {
                    count.in_views.push((held.table, values));
                } else {
                    count.found.entry(oid).or_default().push((held, values));
                }
            }
        }
        Ok(count)
    }

    /// All columns of one table, in one scan, or by indexes on the headers of all; columns of arrays by themselves.
    async fn count_table(
        &self,
        columns: Vec<Held>,
    ) -> Result<Vec<(Held, i64)>, tokio_postgres::Error> {
        let is = |held: &Held, value: &str| {
            let (relation, column) = (held.oid, held.column.as_str());
            is_sealed_and(value, &self.kind.counts(At { relation, column }, value))
        };
        // What the job is not about is not read.
        let is_wanted = |held: &Held| {
            let (relation, column) = (held.oid, held.column.as_str());
            self.kind.wants(At { relation, column }, "t") != "false"
        };
        let (columns, others): (Vec<_>, Vec<_>) = columns.into_iter().partition(is_wanted);
        let mut counted: Vec<(Held, i64)> = others.into_iter().map(|held| (held, 0)).collect();
        let (arrays, plain): (Vec<_>, Vec<_>) = columns.into_iter().partition(|held| held.is_array);
        if let Some(first) = plain.first() {
            let left = plain.iter().map(|held| {
                let value = format!("t.{}::pg_catalog.bytea", held.column);
                is(held, &value)
            });
            let left: Vec<String> = left.collect();
            let each = left
                .iter()
                .map(|is| format!("count(*) FILTER (WHERE {is})"));
            let each: Vec<String> = each.collect();
            let sql = format!(
                "SELECT {} FROM ONLY {} AS t WHERE {}",
                each.join(", "),
                first.table,
                left.join(" OR ")
            );
            let row = self.client.query_one(&sql, &[]).await?;
            for (at, held) in plain.into_iter().enumerate() {
                counted.push((held, row.try_get(at)?));
            }
        }
        for held in arrays {
            let sql = format!(
                "SELECT count(*) FROM ONLY {} AS t, unnest(t.{}::pg_catalog.bytea[]) AS held(element) WHERE {}",
                held.table,
                held.column,
                is(&held, "held.element")
            );
            let row = self.client.query_one(&sql, &[]).await?;
            counted.push((held, row.try_get(0)?));
        }
        Ok(counted)
    }

    /// Another pass, or the end if the last one showed that none will help.
    async fn walk(&self, count: Count, total: i64, waits: Option<String>) -> Result<(), JobError> {
        let last = &self.job.parts;
        let left: i64 = last.iter().map(|part| part.left).sum();
        // A look that was kept from some values sees all of them again: not at once.
        let idle = last.iter().all(|part| part.written == 0) || self.kind.looks() && left > 0;
        let stuck = !last.is_empty() && idle;
        // More than did not open are others, which were written since.
        let faulty: i64 = last.iter().map(|part| part.faulty).sum();
        if stuck && left == 0 && (1..=faulty).contains(&total) {
            return self.faulty(total).await;
        }
        let mut held = HeldBack::default();
        if !last.is_empty() && (left > 0 || !self.job.held.is_empty()) {
            let columns = count.found.values().flatten().map(|(held, _)| held);
            held = held_back::look(self.client, &*self.kind, &self.shared.keys, columns).await?;
            let others = total - held.values;
            let are_done = others <= 0 || stuck && left == 0 && others <= faulty;
            if held.values > 0 && (are_done || self.kind.looks()) {
                self.shared.counted(self.job.id);
                return self.hold(&held).await;
            }
        }
        if stuck && self.phase == "count" {
            // A seal, an outage, a lock: somebody else has to move first.
            let pause = 2_f64.powi(self.job.pass.clamp(0, 20)).min(MAX_PASS_PAUSE_S);
            let why = self.job.waits.clone().or_else(|| waits.clone());
            let why = why.unwrap_or_else(|| match left {
                0 => "values were written while the last pass went on".to_owned(),
                _ => format!("{left} rows are locked by others"),
            });
            return self.wait(&why, pause, "retry").await;
        }
        self.client
            .execute(FOLD, &[&self.id])
            .await
            .map_err(leading())?;
        let mut part = 0;
        for (oid, columns) in count.found {
            let watched = self.client.query_one(IS_WATCHED, &[&oid]).await;
            let watched: bool = { watched.and_then(|row| row.try_get(0)) }.map_err(leading())?;
            let skips_triggers = watched && !self.shared.settings.reencrypt.fires_triggers;
            if skips_triggers {
                self.may_skip(&columns[0].0.table).await?;
            }
            let walk = Walk::over(self.client, oid).await?;
            let end = walk.end(self.client).await?;
            let end = end.as_ref().map(|end| end.as_str());
            let (arrays, plain): (Vec<_>, Vec<_>) =
                columns.into_iter().partition(|(held, _)| held.is_array);
            let mut groups: Vec<Vec<(Held, i64)>> =
                arrays.into_iter().map(|one| vec![one]).collect();
            groups.extend((!plain.is_empty()).then_some(plain));
            for group in groups {
                let found: i64 = group.iter().map(|(_, found)| found).sum();
                let array = { group[0].0.is_array }.then(|| group[0].0.type_name.clone());
                let names = group.into_iter().map(|(held, _)| held.column).collect();
                let columns = Columns {
                    names,
                    array,
                    skips_triggers,
                };
                part += 1;
                let text = columns.to_text();
                {
                    self.client
                        .execute(PART, &[&self.id, &part, &oid, &text, &end, &found])
                        .await
                }
                .map_err(leading())?;
            }
        }
        let ids = held.ids();
        let walk: [&(dyn ToSql + Sync); 5] = [&self.id, &waits, &total, &stuck, &ids];
        { self.client.execute(WALK, &walk).await }
            .map(drop)
            .map_err(leading())
    }

    /// Nothing can be done until one of these keys can be had.
    async fn hold(&self, held: &HeldBack) -> Result<(), JobError> {
        let (why, pause, ids) = (held.why.as_str(), held.pause_s(), held.ids());
        {
            self.client
                .execute(HOLD, &[&self.id, &why, &pause, &ids])
                .await
        }
        .map(drop)
        .map_err(leading())
    }

    async fn may_skip(&self, table: &str) -> Result<(), JobError> {
        let Err(error) = self.client.batch_execute(MAY_SKIP).await else {
            return Ok(());
        };
        if !error.is_closed() {
            self.client
                .batch_execute("ROLLBACK")
                .await
                .map_err(leading())?;
            return Err(JobError::Triggers {
                table: table.to_owned(),
            });
        }
        Err(leading()(error))
    }

    async fn faulty(&self, total: i64) -> Result<(), JobError> {
        self.kind.give_up().await?;
        Err(JobError::DoNotOpen {
            values: total,
            named: self.named_faults(),
        })
    }

    fn named_faults(&self) -> String {
        named({ self.job.parts.iter() }.flat_map(|part| part.faults.iter().map(String::as_str)))
    }

    /// Proved: nothing is left, and nothing can come after.
    async fn complete(&self, count: &Count) -> Result<(), JobError> {
        self.client
            .execute(FOLD, &[&self.id])
            .await
            .map_err(leading())?;
        let mut proof = self.kind.proof();
        proof["columns"] = json!(count.columns);
        proof["tables"] = json!(count.tables);
        proof["values"] = json!(0);
        proof["passes"] = json!(self.job.pass);
        proof["values_written"] = json!(self.job.written);
        let (keystore, id) = (&self.shared.keystore, self.job.id);
        if keystore
            .end_job(id, JobState::Completed, None, proof)
            .await?
        {
            tracing::info!(job = id, values = self.job.written, "a job is completed");
        }
        self.shared.retired.schedule(self.shared).await;
        Ok(())
    }
}

fn in_views(count: &Count) -> JobError {
    let named: Vec<String> = { count.in_views.iter() }
        .map(|(view, values)| format!("{view} ({values})"))
        .collect();
    JobError::InMaterializedViews {
        views: named.join(", "),
    }
}

fn named<'a>(faults: impl Iterator<Item = &'a str>) -> String {
    faults.take(MAX_NAMED).collect::<Vec<_>>().join("; ")
}

fn leading() -> impl FnOnce(tokio_postgres::Error) -> JobError {
    JobError::while_doing("lead a job")
}
