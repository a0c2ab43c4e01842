//! The backfill: walks over the table again and again until hardly a copy is stale. Takes no lock but on the rows of one
//! batch, for the moment of writing them, and waits for nobody.

use pgveil_config::PolicyFile;
use pgveil_keys::Keys;
use tokio_postgres::Client;

use super::{
    Migration, Phase,
    rows::{Found, Way},
    table::{self, Known},
};
use crate::{
    JobError,
    apply::progress::Progress,
    walk::{Cursor, Walk, Wanted},
};

/// Most rows in a batch, and most bytes.
const BATCH: (u32, i64) = (2000, 2 << 20);
/// Fewer stale rows than this are left for the swap, which finds them by an index.
const FEW: u32 = 500;

/// Seals until few rows are left.
pub(super) async fn table(
    client: &Client,
    keys: &Keys,
    policy: &PolicyFile,
    migration: &mut Migration,
) -> Result<(), JobError> {
    let known = table::known(client, policy, migration).await?;
    fill(client, keys, &known, migration, Way::Seal).await?;
    migration.enter(client, Phase::Index).await
}

/// Walks until few rows are stale.
pub(super) async fn fill(
    client: &Client,
    keys: &Keys,
    known: &Known,
    migration: &mut Migration,
    way: Way,
) -> Result<(), JobError> {
    loop {
        pass(client, keys, known, migration, way).await?;
        let left = known
            .at_work(client, keys, migration)
            .count_stale(way, FEW)
            .await?;
        if left < u64::from(FEW) {
            return Ok(());
        }
    }
}

async fn pass(
    client: &Client,
    keys: &Keys,
    known: &Known,
    migration: &mut Migration,
    way: Way,
) -> Result<(), JobError> {
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
        let table = known.at_work(client, keys, migration);
        Wanted {
            condition: table.stale(way),
            size: table.size(),
            rows: BATCH.0,
            bytes: BATCH.1,
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
        let table = known.at_work(client, keys, migration);
        let rows = match step.rows {
            0 => Vec::new(),
            _ => table.read(&walk.place(), &range, None).await?,
        };
        let rows = with_shown_places(rows, &walk);
        let copies = table.copies(&rows, way).await?;
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
        after = step.upto;
        if after.is_none() {
            break;
        }
    }
    progress.done();
    Ok(())
}

/// So that errors name rows as people do.
pub(super) fn with_shown_places(mut rows: Vec<Found>, walk: &Walk) -> Vec<Found> {
    for row in &mut rows {
        row.place = walk.shown_place(&row.place);
    }
    rows
}

/// Copies the stale rows that the index finds, at most `limit`; answers how many there were.
pub(super) async fn few(
    client: &Client,
    keys: &Keys,
    known: &Known,
    migration: &Migration,
    (way, limit): (Way, u32),
) -> Result<u64, JobError> {
    let table = known.at_work(client, keys, migration);
    let rows = table
        .read("t.ctid::text", &table.stale(way), Some(limit))
        .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let copies = table.copies(&rows, way).await?;
    table.write(&rows, copies, way).await?;
    Ok(rows.len() as u64)
}

/// The server's estimate of the table's rows.
pub(super) async fn estimate(client: &Client, migration: &Migration) -> Option<u64> {
    let sql =
        "SELECT CASE WHEN reltuples >= 0 THEN reltuples::int8 END FROM pg_class WHERE oid = $1";
    let row = client.query_opt(sql, &[&migration.oid]).await.ok()??;
    let rows: Option<i64> = row.try_get(0).ok()?;
    rows.map(i64::unsigned_abs)
}
