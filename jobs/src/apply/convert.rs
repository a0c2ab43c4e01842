//! Converts one table, in one transaction. How the parts do it stands in the other files of this folder.
//!
//! The sealed values are made by reading the rows through a cursor and are staged in a temporary table by the rows'
//! places (ctid); then one ALTER TABLE rewrites the heap and takes each row's sealed values from there. Attribute
//! numbers, names, order, NOT NULL, privileges and comments stay, and no page of the old heap survives the commit.

use pgveil_config::{PolicyFile, SearchKey};
use pgveil_keys::{
    Keys,
    keystore::registry::{self, NewColumn, Registry},
};
use pgveil_policy::{catalog::enums_of, plan::ColumnId, ruleset::RegisteredColumn};
use tokio_postgres::Client;

use super::{lock, rows, sealing::Sealing, staging, verify};
use crate::{
    JobError, catalog, findings, labels,
    plan::{ColumnPlan, TablePlan, of_rule, wanted_by},
    recognise::recognise,
};

/// Rows and values of the table.
pub(crate) type Counts = (u64, u64);

/// Converts `table`, which must still be as planned once it is locked.
pub(crate) async fn table(
    client: &Client,
    keys: &Keys,
    policy: &PolicyFile,
    table: &TablePlan,
) -> Result<Counts, JobError> {
    let doing = || JobError::while_doing(format!("begin converting {}", table.shown()));
    client
        .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        .await
        .map_err(doing())?;
    let result = in_transaction(client, keys, policy, table).await;
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await;
    let counts = result?;
    ended.map_err(JobError::while_doing(format!(
        "commit the conversion of {}",
        table.shown()
    )))?;
    Ok(counts)
}

async fn in_transaction(
    client: &Client,
    keys: &Keys,
    policy: &PolicyFile,
    planned: &TablePlan,
) -> Result<Counts, JobError> {
    settle(client, planned).await?;
    lock::table(client, planned).await?;
    let registry = keys.registry().await?;
    let table = plan_again(client, &registry, policy, planned).await?;

    for sql in table.indexes.iter().filter_map(|step| step.drop.as_ref()) {
        client
            .batch_execute(sql)
            .await
            .map_err(JobError::while_doing(format!(
                "drop an index of {}",
                table.shown()
            )))?;
    }
    let mut counts = (0, 0);
    if !table.columns.is_empty() {
        record_labels(client, &registry, &table).await?;
        let ids = register(client, &registry, &table).await?;
        let registered = registered(client, &registry, &table, &ids).await?;
        let sealing = Sealing::new(keys, &table, registered);
        let (before, values) = rows::seal_all(client, &table, &sealing).await?;
        staging::rewrite(client, &table, before.rows()).await?;
        let after = verify::digest(client, &table, &sealing, before.rows()).await?;
        if before != after {
            return Err(JobError::VerificationFailed {
                table: table.shown(),
            });
        }
        counts = (before.rows(), values);
    }
    for step in &table.indexes {
        let Some(sql) = &step.create else { continue };
        let doing = format!(
            "make index {} on the search terms of {}",
            step.name,
            table.shown()
        );
        client
            .batch_execute(sql)
            .await
            .map_err(JobError::while_doing(doing))?;
    }
    // Last: nobody writes a record of the audit log from here to the commit.
    registry.seal(client, "converted").await?;
    Ok(counts)
}

/// Settings for the transaction. Nothing but the lock may time out; no name is looked up along a path; and row
/// security raises an error instead of hiding rows.
pub(crate) async fn settle(client: &Client, table: &TablePlan) -> Result<(), JobError> {
    let sql = format!(
        "SET LOCAL search_path = pg_catalog; SET LOCAL row_security = off; SET LOCAL lock_timeout = '{}'; \
         SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN \
         ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')",
        lock::LOCK_TIMEOUT
    );
    client
        .batch_execute(&sql)
        .await
        .map_err(JobError::while_doing(format!(
            "prepare converting {}",
            table.shown()
        )))
}

/// Under the lock nothing can change any more: what was confirmed must still be true. Sizes may differ.
pub(crate) async fn plan_again(
    client: &Client,
    registry: &Registry,
    policy: &PolicyFile,
    planned: &TablePlan,
) -> Result<TablePlan, JobError> {
    let catalog = catalog::read_in_transaction(client, registry).await?;
    let changed = || JobError::ChangedMeanwhile {
        table: planned.shown(),
    };
    let rule = policy
        .tables
        .iter()
        .find(|r| r.schema == planned.schema && r.name == planned.name);
    let mut registered = history(client).await?;
    recognise(client, &catalog, &mut registered).await?;
    let found = findings::of_policy(policy, &catalog, &registered);
    if !found.errors.is_empty() {
        return Err(changed());
    }
    let rule = rule.ok_or_else(changed)?;
    let wanted = wanted_by(rule, &found.wanted);
    let now = of_rule(client, &catalog, rule, &wanted)
        .await?
        .ok_or_else(changed)?;
    let alike = TablePlan {
        rows: planned.rows,
        bytes: planned.bytes,
        ..now.clone()
    } == *planned;
    if alike { Ok(now) } else { Err(changed()) }
}

/// Enum labels must be on record before values are sealed as their numbers.
pub(crate) async fn record_labels(
    client: &Client,
    registry: &Registry,
    table: &TablePlan,
) -> Result<(), JobError> {
    let enums = enums_of(table.columns.iter().map(|column| column.to));
    if enums.is_empty() {
        return Ok(());
    }
    let catalog = labels::in_transaction(client, registry, &enums).await?;
    let same = |column: &ColumnPlan| catalog.parse_type(&column.to.sql_name()) == Ok(column.to);
    if table.columns.iter().all(same) {
        return Ok(());
    }
    Err(JobError::ChangedMeanwhile {
        table: table.shown(),
    })
}

async fn history(client: &Client) -> Result<Vec<RegisteredColumn>, JobError> {
    Ok(registry::history_unjudged(client)
        .await?
        .into_iter()
        .map(|past| past.column)
        .collect())
}

/// What the registry says of these, in their order.
pub(crate) async fn registered(
    client: &Client,
    registry: &Registry,
    table: &TablePlan,
    ids: &[ColumnId],
) -> Result<Vec<RegisteredColumn>, JobError> {
    let all = registry.history(client).await?;
    let all: Vec<_> = all.into_iter().map(|past| past.column).collect();
    let of = |id: &ColumnId| all.iter().find(|column| column.id == *id).cloned();
    let found: Option<Vec<_>> = ids.iter().map(of).collect();
    found.ok_or_else(|| JobError::ChangedMeanwhile {
        table: table.shown(),
    })
}

/// One id per column to seal, in their order.
pub(crate) async fn register(
    client: &Client,
    registry: &Registry,
    table: &TablePlan,
) -> Result<Vec<ColumnId>, JobError> {
    let mut ids = Vec::new();
    for column in &table.columns {
        ids.push(register_one(client, registry, table, column).await?);
    }
    Ok(ids)
}

/// A registration that is still live under this name belongs to a column that is gone: a dropped table, made again.
async fn register_one(
    client: &Client,
    registry: &Registry,
    table: &TablePlan,
    column: &ColumnPlan,
) -> Result<ColumnId, JobError> {
    for past in registry.list(client).await? {
        if past.schema == table.schema && past.table == table.name && past.column == column.name {
            registry.retire(client, past.id).await?;
        }
    }
    let new = NewColumn {
        schema: table.schema.clone(),
        table: table.name.clone(),
        column: column.name.clone(),
        table_oid: table.oid,
        attnum: column.attnum,
        logical_type: column.to.sql_name(),
        equality: column.equality,
        shared_key: column.search_key == SearchKey::Shared,
        equality_group: column.equality_group.clone(),
        scope: table.scope.to_string(),
    };
    Ok(registry.register(client, &new).await?)
}
