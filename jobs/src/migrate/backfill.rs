//! The backfill: walks over the table again and again until hardly a copy is stale. Takes no lock but on the rows of one
//! batch, for the moment of writing them, and waits for nobody.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{
    Migration, Phase, Run, Way,
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

/// Walks until few rows are stale.
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
        let left = known.at_work(run, migration).count_stale(way, FEW).await?;
        if left < u64::from(FEW) {
            return Ok(());
        }
        held.wait(migration, migration.rows > before, left).await?;
    }
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
    let walk = Walk::over(client, migration.oid).await?;
    let Some(end) = walk.end(client).await? else {
        return Ok(());
    };
    let verb = if way == Way::Seal {
        "sealing"
    } else {
        "opening"
    };
    let progress = Progress::rows(verb, &known.plan, estimate(client, migration).await);
    let wanted = {
        let table = known.at_work(run, migration);
        Wanted {
            condition: table.stale(way),
            size: table.size(),
            rows: run.pacing.rows(),
            bytes: BATCH_BYTES,
        }
    };
    let mut after = migration.cursor.clone().map(Cursor::new);
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
        let table = known.at_work(run, migration);
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
        let cursor = step.upto.as_ref().map(|cursor| cursor.as_str().to_owned());
        let noted = match written {
            Ok(written) => migration.step(client, cursor.as_deref(), written, 0).await,
            Err(error) => Err(error),
        };
        super::short::end(client, "a batch", noted).await?;
        progress.advance(rows.len());
        if !rows.is_empty() {
            run.pacing.pause(client, begun.elapsed(), &progress).await;
        }
        after = step.upto;
        if after.is_none() {
            break;
        }
    }
    progress.done();
    // The next pass begins at the beginning: what has become stale meanwhile may lie anywhere.
    if migration.cursor.is_some() {
        migration.step(client, None, 0, 0).await?;
    }
    Ok(())
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
    let table = known.at_work(run, migration);
    let rows = table
        .read("t.ctid::text", &table.stale(way), Some(limit))
        .await?;
    if rows.is_empty() {
        return Ok((0, 0));
    }
    let copies = table.copies(&rows, way).await?;
    let written = table.write(&rows, copies, way).await?;
    Ok((rows.len() as u64, written))
}

/// The server's estimate of the table's rows.
pub(super) async fn estimate(client: &Client, migration: &Migration) -> Option<u64> {
    let sql =
        "SELECT CASE WHEN reltuples >= 0 THEN reltuples::int8 END FROM pg_class WHERE oid = $1";
    let row = client.query_opt(sql, &[&migration.oid]).await.ok()??;
    let rows: Option<i64> = row.try_get(0).ok()?;
    rows.map(i64::unsigned_abs)
}
