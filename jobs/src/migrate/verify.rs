//! The verification: every row of the table is read, its sealed values opened with the keys of its own scope and compared with
//! its plaintext. Repairs nothing. What is stale is not verified here: it is copied again before the swap.

use std::time::Instant;

use super::{
    Migration, Phase, Run, Way, backfill,
    parts::{self, Part},
    rows::{Found, Table},
    table::{self, Known},
};
use crate::{
    JobError,
    apply::progress::Progress,
    walk::{Cursor, Walk, Wanted},
};

/// Most bytes at a time.
const BATCH_BYTES: i64 = 2 << 20;

/// Walks over the whole table once, or over the partitions that nobody has verified yet.
pub(super) async fn table(run: &Run<'_>, migration: &mut Migration) -> Result<(), JobError> {
    let client = run.client;
    let known = table::known(run, migration).await?;
    let leaves = parts::leaves(client, migration).await?;
    if leaves.iter().any(|leaf| !leaf.is_known) {
        return migration.enter(client, Phase::Backfill).await;
    }
    let progress = Progress::rows(
        "verifying",
        &known.plan,
        backfill::estimate(client, migration).await,
    );
    for leaf in leaves.iter().filter(|leaf| !leaf.is_verified) {
        let is_through = leaf.is_partition() && migration.cursor == leaf.cursor(None);
        if !is_through {
            let after = leaf.resume(migration.cursor.as_deref()).place();
            rows(run, &known, migration, (leaf, after), &progress).await?;
        }
        leaf.note(client, migration, true).await?;
    }
    progress.done();
    migration.enter(client, Phase::Swap).await
}

async fn rows(
    run: &Run<'_>,
    known: &Known,
    migration: &mut Migration,
    (leaf, mut after): (&Part, Option<Cursor>),
    progress: &Progress,
) -> Result<(), JobError> {
    let client = run.client;
    let walk = Walk::over(client, leaf.oid).await?;
    let end = walk.end(client).await?;
    let size = known.at_work(run, migration, leaf).size();
    let wanted = Wanted {
        condition: "true".to_owned(),
        size,
        rows: run.pacing.rows(),
        bytes: BATCH_BYTES,
    };
    while let Some(step) = walk
        .next(client, after.as_ref(), end.as_ref(), &wanted)
        .await?
    {
        let upto = step.upto.as_ref().or(end.as_ref());
        let at_work = known.at_work(run, migration, leaf);
        let range = walk.between(after.as_ref(), upto);
        let begun = Instant::now();
        let rows = at_work.read(&walk.place(), &range, None).await?;
        let took = begun.elapsed();
        let rows = backfill::with_shown_places(rows, &walk);
        for row in &rows {
            compare(&at_work, row).await?;
        }
        drop(at_work);
        let cursor = leaf.cursor(step.upto.as_ref());
        migration
            .step(client, cursor.as_deref(), 0, rows.len() as u64)
            .await?;
        progress.advance(rows.len());
        after = step.upto;
        if after.is_none() {
            break;
        }
        run.pacing.pause(client, took, progress).await;
    }
    Ok(())
}

async fn compare(table: &Table<'_>, row: &Found) -> Result<(), JobError> {
    let differs = || JobError::VerificationFailed {
        table: format!("{}, row with {}", table.part.shown(), row.place),
    };
    let opened = table.opened(row).await?;
    for ((column, (plain, sealed)), opened) in
        table.plan.columns.iter().zip(&row.values).zip(opened)
    {
        let same = match (plain, sealed, opened) {
            (_, None, _) if table.migration.way == Way::Seal => true,
            (None, Some(_), _) if table.migration.way == Way::Open => true,
            (None, None, None) => true,
            (Some(plain), Some(_), Some(opened)) => {
                let value = table.sealing.fit(column, plain);
                let value = value.map_err(|problem| problem.of(&table.part.shown(), &row.place))?;
                value.as_bytes() == opened.as_slice()
            }
            _ => false,
        };
        if !same {
            return Err(differs());
        }
    }
    Ok(())
}
