//! The way back. Before the swap the shadows are dropped; after it, what was written since is opened into the plaintext
//! columns, which take their names again under a short lock, with the indexes that they have kept.

use super::{
    Migration, Phase, Run, Way, backfill, begin, decrypt, index, names, parts, short, swap,
    table::{self, Known},
};
use crate::{JobError, sql};

/// Undoes one migration, from whatever phase it is in.
pub(super) async fn table(run: &Run<'_>, migration: &mut Migration) -> Result<(), JobError> {
    let client = run.client;
    if migration.way == Way::Open {
        return decrypt::undo(client, migration).await;
    }
    let what = format!("the end of the migration of {}", migration.shown());
    if !migration.phase.is_swapped() {
        short::lock(client, migration).await?;
        let done = drop_sealed(run, migration, &[]).await;
        return short::end(client, &what, done).await;
    }
    if migration.phase == Phase::Swapped {
        migration.enter(client, Phase::Undo).await?;
    }
    let known = table::known(run, migration).await?;
    backfill::fill(run, &known, migration, Way::Open).await?;
    index::stale(client, migration, &known, Way::Open).await?;
    loop {
        let leaves = parts::leaves(client, migration).await?;
        if !leaves.iter().all(|leaf| leaf.is_known) {
            backfill::fill(run, &known, migration, Way::Open).await?;
            index::stale(client, migration, &known, Way::Open).await?;
        }
        swap::catch_up(run, &known, migration, Way::Open).await?;
        short::lock(client, migration).await?;
        let done = under_lock(run, migration, &known).await;
        if let Ok(false) = done {
            let doing = JobError::while_doing("give up a lock");
            client.batch_execute("ROLLBACK").await.map_err(doing)?;
            continue;
        }
        short::end(client, &what, done).await?;
        return swap::settle(client, migration).await;
    }
}

async fn under_lock(
    run: &Run<'_>,
    migration: &mut Migration,
    known: &Known,
) -> Result<bool, JobError> {
    let client = run.client;
    let leaves = parts::leaves(client, migration).await?;
    if !leaves.iter().all(|leaf| leaf.is_known) {
        return Ok(false);
    }
    if !swap::is_complete(run, known, migration, Way::Open).await? {
        return Ok(false);
    }
    let doing = || JobError::while_doing(format!("swap the columns of {} back", migration.shown()));
    let old = "SELECT old_indexes FROM pgveil.migrations WHERE id = $1";
    let row = client.query_one(old, &[&migration.id]).await;
    let old: Vec<String> = row.and_then(|row| row.try_get(0)).map_err(doing())?;
    let table = migration.quoted();
    let is_not_null = swap::not_null_now(client, migration).await?;
    let mut behind = Vec::new();
    for column in &migration.columns {
        let (name, kept) = (
            sql::quoted(&column.name),
            sql::quoted(&names::kept(&column.name)),
        );
        behind.push(format!(
            "ALTER TABLE {table} RENAME COLUMN {kept} TO {name}"
        ));
        if is_not_null.contains(&column.sealed) {
            behind.push(swap::not_null(migration, column, column.plain));
        }
    }
    for (at, name) in old.iter().enumerate() {
        let from = sql::qualified(&migration.schema, &names::old_index(migration.id, at));
        behind.push(format!(
            "ALTER INDEX IF EXISTS {from} RENAME TO {}",
            sql::quoted(name)
        ));
    }
    for column in &migration.columns {
        let kept = names::kept(&column.name);
        swap::carry_over(client, migration, &column.name, &kept).await?;
    }
    drop_sealed(run, migration, &behind).await?;
    Ok(true)
}

/// Drops the sealed columns, their indexes and the triggers, and does what comes `behind` it.
async fn drop_sealed(
    run: &Run<'_>,
    migration: &mut Migration,
    behind: &[String],
) -> Result<(), JobError> {
    let client = run.client;
    let table = migration.quoted();
    begin::drop_triggers(client, migration.id, &table).await?;
    let swapped = migration.phase.is_swapped();
    let mut text = Vec::new();
    for column in &migration.columns {
        let sealed = if swapped {
            column.name.clone()
        } else {
            names::shadow(&column.name)
        };
        text.push(format!(
            "ALTER TABLE {table} DROP COLUMN {}",
            sql::quoted(&sealed)
        ));
    }
    text.extend_from_slice(behind);
    let doing = JobError::while_doing(format!("drop the sealed columns of {}", migration.shown()));
    client
        .batch_execute(&text.join("; "))
        .await
        .map_err(doing)?;
    let registry = run.keys.registry().await?;
    for column in &migration.columns {
        let place = (migration.oid, column.plain);
        registry.given_back(client, column.id, place).await?;
    }
    migration.enter(client, Phase::RolledBack).await?;
    Ok(registry.seal(client, "migration undone").await?)
}
