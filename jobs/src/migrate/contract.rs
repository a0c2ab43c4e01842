//! The contract: the plaintext columns and what hangs on them are dropped. From then on nothing can be undone.

use std::time::Duration;

use tokio_postgres::Client;

use super::{Migration, Phase, begin, names, short};
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
    migration.enter(client, Phase::Contracted).await
}
