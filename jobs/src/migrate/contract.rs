//! The contract: the plaintext columns and what hangs on them are dropped. From then on nothing can be undone.

use std::time::Duration;

use tokio_postgres::Client;

use super::{
    Migration, Phase, begin, names,
    parts::{self, Part},
    short,
};
use crate::{JobError, change::barrier, sql};

/// Drops what is kept of one table.
pub(super) async fn table(
    client: &Client,
    migration: &mut Migration,
    patience: Duration,
) -> Result<(), JobError> {
    super::swap::settle(client, migration).await?;
    // One that looks at the database as it was before the swap would miss what was sealed in the swap. Until now proxies find
    // out by the columns beside it.
    barrier::transactions(client, patience).await?;
    short::lock(client, migration).await?;
    let done = under_lock(client, migration).await;
    short::end(
        client,
        &format!("the contract of {}", migration.shown()),
        done,
    )
    .await
}

async fn under_lock(client: &Client, migration: &mut Migration) -> Result<(), JobError> {
    let table = migration.quoted();
    begin::drop_triggers(client, migration.id, &table).await?;
    let drops = migration.columns.iter().map(|column| {
        let kept = sql::quoted(&names::kept(&column.name));
        format!("ALTER TABLE {table} DROP COLUMN {kept}")
    });
    let drops = drops.collect::<Vec<_>>().join("; ");
    let doing = JobError::while_doing(format!("drop the plaintext of {}", migration.shown()));
    client.batch_execute(&drops).await.map_err(doing)?;
    let file = "UPDATE pgveil.migrations SET file = pg_catalog.pg_relation_filenode(table_oid) WHERE id = $1";
    let doing = JobError::while_doing("note which file held the plaintext");
    client
        .execute(file, &[&migration.id])
        .await
        .map_err(doing)?;
    let parts = parts::all(client, migration).await?;
    if parts.iter().any(Part::is_partition) {
        parts::note_files(client, migration).await?;
    }
    migration.enter(client, Phase::Contracted).await
}

/// Partitions that were detached while the table was migrated, and hold its plaintext still: sentences for people.
pub(super) async fn detached(
    client: &Client,
    migration: &Migration,
) -> Result<Vec<String>, JobError> {
    let mut found = Vec::new();
    for column in &migration.columns {
        let shown = sql::shown(&column.name);
        let (kept, shadow) = (names::kept(&column.name), names::shadow(&column.name));
        for table in parts::left_with(client, migration, &kept).await? {
            found.push(format!(
                "{table}, detached from {} behind the swap: ALTER TABLE {table} DROP COLUMN {kept};",
                migration.shown(),
                kept = sql::shown(&kept)
            ));
        }
        for table in parts::left_with(client, migration, &shadow).await? {
            found.push(format!(
                "{table}, detached from {} before the swap: {shown} is plaintext in it, and nobody seals it; its column {} can go",
                migration.shown(),
                sql::shown(&shadow)
            ));
        }
    }
    Ok(found)
}
