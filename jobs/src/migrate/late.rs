//! Partitions that came while their table was migrated: nothing has watched over the copies that they bring, if they bring any.
//! These are cleared, and made again like all that is stale.

use super::{Migration, Run, Way, parts::Part, short, table::Known};
use crate::{
    JobError,
    walk::{Cursor, Walk, Wanted},
};

/// Longer than this nobody's row is waited for; run again, it goes on.
const LOCK_TIMEOUT: &str = "30s";

/// Clears what a partition brought, if it is not known, and knows it from now on.
pub(super) async fn known(
    run: &Run<'_>,
    known: &Known,
    migration: &Migration,
    (leaf, way): (&Part, Way),
) -> Result<(), JobError> {
    if leaf.is_known {
        return Ok(());
    }
    let targets: Vec<&String> = { known.names.iter() }
        .map(|names| match way {
            Way::Seal => &names.sealed,
            Way::Open => &names.plain,
        })
        .collect();
    let brought: Vec<String> = { targets.iter() }
        .map(|target| format!("t.{target} IS NOT NULL"))
        .collect();
    let brought = format!("({})", brought.join(" OR "));
    let cleared: Vec<String> = { targets.iter() }
        .map(|target| format!("{target} = NULL"))
        .collect();
    let cleared = cleared.join(", ");
    // A row may be written to another place while the walk is under way.
    while has_any(run, leaf, &brought).await? {
        clear(run, migration, leaf, (&brought, &cleared)).await?;
    }
    leaf.note(run.client, migration, false).await
}

async fn has_any(run: &Run<'_>, leaf: &Part, brought: &str) -> Result<bool, JobError> {
    let asked = format!(
        "SELECT EXISTS (SELECT FROM ONLY {} AS t WHERE {brought})",
        leaf.quoted()
    );
    let row = run.client.query_one(&asked, &[]).await;
    let doing = JobError::while_doing(format!("look what {} brings", leaf.shown()));
    row.and_then(|row| row.try_get(0)).map_err(doing)
}

async fn clear(
    run: &Run<'_>,
    migration: &Migration,
    leaf: &Part,
    (brought, cleared): (&str, &str),
) -> Result<(), JobError> {
    let client = run.client;
    let walk = Walk::over(client, leaf.oid).await?;
    let Some(end) = walk.end(client).await? else {
        return Ok(());
    };
    let wanted = Wanted {
        condition: brought.to_owned(),
        ..Wanted::every(run.pacing.rows())
    };
    let mut after: Option<Cursor> = None;
    while let Some(step) = walk
        .next(client, after.as_ref(), Some(&end), &wanted)
        .await?
    {
        let upto = step.upto.as_ref().or(Some(&end));
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
        );
        let doing = JobError::while_doing("begin a batch");
        client.batch_execute(&begin).await.map_err(doing)?;
        let clear = format!(
            "UPDATE ONLY {} AS t SET {cleared} WHERE {} AND {brought}",
            leaf.quoted(),
            walk.between(after.as_ref(), upto)
        );
        let cleared = client.batch_execute(&clear).await;
        let doing = JobError::while_writing(migration.shown(), "clear what a partition brings");
        short::end(client, "a batch", cleared.map_err(doing)).await?;
        after = step.upto;
        if after.is_none() {
            break;
        }
    }
    Ok(())
}
