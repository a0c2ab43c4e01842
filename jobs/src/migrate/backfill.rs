//! The backfill: walks over the table again and again until hardly a copy is stale. Takes no lock but on the rows of one
//! batch, for the moment of writing them, and waits for nobody.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{
    Migration, Phase, Run, Way, late,
    parts::{self, Part, Resume},
    rows::Found,
    table::{self, Known},
};
use crate::{
    JobError,
    apply::progress::Progress,
    walk::{Cursor, Walk, Wanted},
};

/// Most bytes in a batch.
const BATCH_BYTES: i64 = 2 << 20;
/// Fewer stale rows than this are left for the swap, which finds them by an index.
const FEW: u32 = 500;
/// Leaves that one question is about.
const LEAVES: usize = 100;
/// Times in a row that rows are found and none can be written, because others hold them.
const MAX_STUCK: u32 = 30;
/// Between them.
const PAUSE: Duration = Duration::from_secs(1);

/// Copies until few rows are left.
pub(super) async fn table(run: &Run<'_>, migration: &mut Migration) -> Result<(), JobError> {
    let known = table::known(run, migration).await?;
    fill(run, &known, migration, migration.way).await?;
    migration.enter(run.client, Phase::Index).await
}

/// Walks until few rows are stale, and every partition is known.
pub(super) async fn fill(
    run: &Run<'_>,
    known: &Known,
    migration: &mut Migration,
    way: Way,
) -> Result<(), JobError> {
    let mut held = Held::default();
    loop {
        let before = migration.rows;
        pass(run, known, migration, way).await?;
        let mut left = 0;
        let leaves = leaves(run, migration).await?;
        for leaf in &leaves {
            left += { known.at_work(run, migration, leaf) }
                .count_stale(way, FEW)
                .await?;
        }
        if !leaves.iter().all(|leaf| leaf.is_known) {
            continue;
        }
        if left < u64::from(FEW) {
            return Ok(());
        }
        held.wait(migration, migration.rows > before, left).await?;
    }
}

/// What is to be walked over: what was verified has hardly a stale row, and the swap finds those by an index.
async fn leaves(run: &Run<'_>, migration: &Migration) -> Result<Vec<Part>, JobError> {
    let mut leaves = parts::leaves(run.client, migration).await?;
    if migration.phase == Phase::Backfill {
        leaves.retain(|leaf| !leaf.is_verified);
    }
    Ok(leaves)
}

/// Rows that others hold, again and again.
#[derive(Default)]
pub(super) struct Held {
    stuck: u32,
}

impl Held {
    /// Lets some time pass if nothing could be written, and gives up if that goes on.
    pub(super) async fn wait(
        &mut self,
        migration: &Migration,
        wrote: bool,
        left: u64,
    ) -> Result<(), JobError> {
        if wrote {
            self.stuck = 0;
            return Ok(());
        }
        self.stuck += 1;
        if self.stuck == MAX_STUCK {
            return Err(JobError::RowsHeld {
                table: migration.shown(),
                rows: left,
            });
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

async fn pass(
    run: &Run<'_>,
    known: &Known,
    migration: &mut Migration,
    way: Way,
) -> Result<(), JobError> {
    let client = run.client;
    let verb = if way == Way::Seal {
        "sealing"
    } else {
        "opening"
    };
    let progress = Progress::rows(verb, &known.plan, estimate(client, migration).await);
    for leaf in leaves(run, migration).await? {
        late::known(run, known, migration, (&leaf, way)).await?;
        let after = match leaf.resume(migration.cursor.as_deref()) {
            Resume::Through => continue,
            resume => resume.place(),
        };
        let within = Within {
            run,
            known,
            leaf: &leaf,
            way,
            progress: &progress,
        };
        within.walk(migration, after).await?;
    }
    progress.done();
    // The next pass begins at the beginning: what has become stale meanwhile may lie anywhere.
    if migration.cursor.is_some() {
        migration.step(client, None, 0, 0).await?;
    }
    Ok(())
}

/// A walk over the rows of one leaf.
struct Within<'w, 'r> {
    run: &'w Run<'r>,
    known: &'w Known,
    leaf: &'w Part,
    way: Way,
    progress: &'w Progress,
}

impl Within<'_, '_> {
    async fn walk(
        &self,
        migration: &mut Migration,
        mut after: Option<Cursor>,
    ) -> Result<(), JobError> {
        let (client, pacing, way) = (self.run.client, &self.run.pacing, self.way);
        let walk = Walk::over(client, self.leaf.oid).await?;
        let Some(end) = walk.end(client).await? else {
            return Ok(());
        };
        let wanted = {
            let table = self.known.at_work(self.run, migration, self.leaf);
            Wanted {
                condition: table.stale(way),
                size: table.size(),
                rows: pacing.rows(),
                bytes: BATCH_BYTES,
            }
        };
        while let Some(step) = walk
            .next(client, after.as_ref(), Some(&end), &wanted)
            .await?
        {
            let upto = step.upto.as_ref().or(Some(&end));
            let range = format!(
                "{} AND {}",
                walk.between(after.as_ref(), upto),
                wanted.condition
            );
            let table = self.known.at_work(self.run, migration, self.leaf);
            let rows = match step.rows {
                0 => Vec::new(),
                _ => table.read(&walk.place(), &range, None).await?,
            };
            let rows = with_shown_places(rows, &walk);
            let copies = table.copies(&rows, way).await?;
            let begun = Instant::now();
            let begin = JobError::while_doing("begin a batch");
            client
                .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                .await
                .map_err(begin)?;
            let written = if rows.is_empty() {
                Ok(0)
            } else {
                table.write(&rows, copies, way).await
            };
            drop(table);
            let cursor = self.leaf.cursor(step.upto.as_ref());
            let noted = match written {
                Ok(written) => migration.step(client, cursor.as_deref(), written, 0).await,
                Err(error) => Err(error),
            };
            super::short::end(client, "a batch", noted).await?;
            self.progress.advance(rows.len());
            if !rows.is_empty() {
                pacing.pause(client, begun.elapsed(), self.progress).await;
            }
            after = step.upto;
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// So that errors name rows as people do.
pub(super) fn with_shown_places(mut rows: Vec<Found>, walk: &Walk) -> Vec<Found> {
    for row in &mut rows {
        row.place = walk.shown_place(&row.place);
    }
    rows
}

/// Copies the stale rows that the index finds, at most `limit`; answers how many there were, and how many of them were
/// written.
pub(super) async fn few(
    run: &Run<'_>,
    known: &Known,
    migration: &Migration,
    (way, limit): (Way, u32),
) -> Result<(u64, u64), JobError> {
    let leaves = stale_leaves(run, known, migration, way).await?;
    few_of(run, known, migration, (way, limit), leaves).await
}

/// The same for leaves that have some.
pub(super) async fn few_of(
    run: &Run<'_>,
    known: &Known,
    migration: &Migration,
    (way, limit): (Way, u32),
    leaves: Vec<Part>,
) -> Result<(u64, u64), JobError> {
    let (mut found, mut written) = (0_u64, 0_u64);
    for leaf in leaves {
        let left = u64::from(limit).saturating_sub(found);
        let Ok(left @ 1..) = u32::try_from(left) else {
            break;
        };
        let table = known.at_work(run, migration, &leaf);
        let rows = table
            .read("t.ctid::text", &table.stale(way), Some(left))
            .await?;
        if rows.is_empty() {
            continue;
        }
        let copies = table.copies(&rows, way).await?;
        found += rows.len() as u64;
        written += table.write(&rows, copies, way).await?;
    }
    Ok((found, written))
}

/// The leaves that have a stale row, in one question: it is asked with the table locked.
pub(super) async fn stale_leaves(
    run: &Run<'_>,
    known: &Known,
    migration: &Migration,
    way: Way,
) -> Result<Vec<Part>, JobError> {
    let leaves = parts::leaves(run.client, migration).await?;
    let asked = leaves.iter().map(|leaf| {
        let stale = known.at_work(run, migration, leaf).stale(way);
        format!(
            "SELECT {}::oid WHERE EXISTS (SELECT FROM ONLY {} AS t WHERE {stale})",
            leaf.oid,
            leaf.quoted()
        )
    });
    let asked: Vec<String> = asked.collect();
    let mut found: Vec<u32> = Vec::new();
    for asked in asked.chunks(LEAVES) {
        let rows = run.client.query(&asked.join(" UNION ALL "), &[]).await;
        let doing = || JobError::while_doing(format!("read the rows of {}", migration.shown()));
        for row in &rows.map_err(doing())? {
            found.push(row.try_get(0).map_err(doing())?);
        }
    }
    let is_found = |leaf: &Part| found.contains(&leaf.oid);
    Ok(leaves.into_iter().filter(is_found).collect())
}

/// The server's estimate of the table's rows, or of its partitions'.
pub(super) async fn estimate(client: &Client, migration: &Migration) -> Option<u64> {
    let sql = "SELECT sum(CASE WHEN reltuples >= 0 THEN reltuples::int8 END)::int8 FROM pg_class \
               WHERE relkind <> 'p' AND (oid = $1 OR oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass)))";
    let row = client.query_opt(sql, &[&migration.oid]).await.ok()??;
    let rows: Option<i64> = row.try_get(0).ok()?;
    rows.map(i64::unsigned_abs)
}
