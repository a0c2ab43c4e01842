//! Sealed columns go back to plaintext, while applications write: a column of the logical type beside each, which a trigger
//! clears whenever the sealed value changes; then the way of every migration, the other way round. The swap ends with the
//! sealed columns dropped: every row has been opened twice and compared, and a copy that stayed would be shown by `SELECT *` as
//! soon as no policy names the table.
//!
//! It asks nobody: who begins one has a step-up token.

use std::{sync::Arc, time::Duration};

use pgveil_config::ScopePath;
use pgveil_keys::{
    Keystore,
    audit::{Event, Operation},
    keystore::registry::{self, Registry},
    step_up::Token,
};
use pgveil_policy::{ruleset::RegisteredColumn, types::LogicalType};
use serde_json::json;
use tokio_postgres::Client;

use super::{MigratedColumn, Migration, Phase, Run, Way, begin, names, parts, short, state, swap};
use crate::{
    JobError, catalog,
    change::barrier,
    plan::{Obstacle, TablePlan, copies, decrypting},
    sql,
};

/// One table of which columns are to be decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decryption {
    /// What it takes.
    pub table: TablePlan,
    /// What the registry says of its columns.
    columns: Vec<RegisteredColumn>,
    /// Copies of their values elsewhere.
    copies: Vec<Obstacle>,
}

impl Decryption {
    /// What must go first.
    pub fn obstacles(&self) -> impl Iterator<Item = &Obstacle> {
        self.table.obstacles.iter().chain(&self.copies)
    }
}

/// Plans the decryption of columns as the registry has them (before anything is opened, it is judged: [`super::table::known`]), named as `schema.table.column`. What is under way already is left out, and what has been decrypted: who was
/// interrupted at the very end says the same again.
pub(super) async fn plan(client: &Client, wanted: &[String]) -> Result<Vec<Decryption>, JobError> {
    let catalog = catalog::read_unjudged(client).await?;
    let registered = registry::list_unjudged(client).await?;
    let live = state::live(client).await?;
    let done = state::decrypted(client).await?;
    let mut tables: Vec<(u32, Vec<RegisteredColumn>)> = Vec::new();
    for name in wanted {
        // Behind its swap it is registered no more, and has still to be finished.
        if { live.iter() }.any(|other| other.way == Way::Open && has(other, name)) {
            continue;
        }
        let unknown = || JobError::NotSealed {
            column: name.clone(),
        };
        let past = registered.iter().find(|past| shown(past) == *name);
        if past.is_none() && done.iter().any(|other| has(other, name)) {
            continue;
        }
        let past = past.ok_or_else(unknown)?;
        if let Some(other) = live.iter().find(|other| other.oid == past.place.0) {
            return Err(JobError::BeingMigrated {
                table: other.shown(),
            });
        }
        match tables.iter_mut().find(|(oid, _)| *oid == past.place.0) {
            Some((_, columns)) => columns.push(past.clone()),
            None => tables.push((past.place.0, vec![past.clone()])),
        }
    }
    let mut found = Vec::new();
    for (oid, columns) in tables {
        let unknown = || JobError::NotSealed {
            column: columns.first().map(shown).unwrap_or_default(),
        };
        let relation = catalog.relation_by_oid(oid).ok_or_else(unknown)?;
        let table = decrypting(client, &catalog, relation, &columns).await?;
        let table = table.ok_or_else(unknown)?;
        let copies = copies(client, (&catalog, &table), &columns).await?;
        found.push(Decryption {
            table,
            columns,
            copies,
        });
    }
    Ok(found)
}

fn has(migration: &Migration, name: &str) -> bool {
    let mut columns = migration.columns.iter();
    columns.any(|column| format!("{}.{}", migration.shown(), sql::shown(&column.name)) == name)
}

fn shown(past: &RegisteredColumn) -> String {
    let table = sql::shown_qualified(&past.schema, &past.table);
    format!("{table}.{}", sql::shown(&past.column))
}

/// Records what is about to begin; the token is used up with it.
pub(super) async fn permit(
    keystore: &Arc<Keystore>,
    planned: &[Decryption],
    token: &Token,
) -> Result<(), JobError> {
    let columns: Vec<String> = { planned.iter().flat_map(|one| &one.columns) }
        .map(shown)
        .collect();
    let platform = ScopePath::platform();
    let mut change = keystore.log().change().await?;
    { change.step_up(token, Operation::ColumnDecrypt, &platform) }.await?;
    let event = Event::new(Operation::ColumnDecrypt).scope(&platform);
    let detail = json!({ "step": "begin", "columns": columns, "writes": "plaintext at rest" });
    Ok(change.commit(event.detail(detail)).await?)
}

/// Begins with a table. That it may has been recorded.
pub(super) async fn begin(
    client: &Client,
    registry: &Registry,
    planned: &Decryption,
) -> Result<(), JobError> {
    let table = planned.table.shown();
    short::lock_table(client, (&planned.table.quoted(), &table), planned.table.oid).await?;
    let begun = in_transaction(client, registry, planned).await;
    let what = format!("the beginning of the decryption of {table}");
    short::end(client, &what, begun).await
}

async fn in_transaction(
    client: &Client,
    registry: &Registry,
    planned: &Decryption,
) -> Result<(), JobError> {
    let table = again(client, &planned.table, &planned.columns).await?;
    let doing = || JobError::while_doing(format!("add columns to {}", table.shown()));
    let quoted = table.quoted();
    let mut columns = Vec::new();
    for column in &table.columns {
        let past = { planned.columns.iter() }
            .find(|past| past.place.1 == column.attnum)
            .ok_or_else(|| changed(&table))?;
        let kept = names::kept(&column.name);
        let named = "SELECT pg_catalog.format_type($1, $2)";
        let row = client
            .query_one(named, &[&column.to.oid(), &column.to.typmod()])
            .await;
        let type_name: String = row.and_then(|row| row.try_get(0)).map_err(doing())?;
        let text = format!(
            "ALTER TABLE {quoted} ADD COLUMN {} {type_name}",
            sql::quoted(&kept)
        );
        client.batch_execute(&text).await.map_err(doing())?;
        let row = client
            .query_one(
                "SELECT (SELECT attnum FROM pg_attribute WHERE attrelid = $1 AND attname = $2), \
                 (SELECT attnotnull FROM pg_attribute WHERE attrelid = $1 AND attnum = $3)",
                &[&table.oid, &kept, &column.attnum],
            )
            .await
            .map_err(doing())?;
        columns.push(MigratedColumn {
            id: past.id,
            name: column.name.clone(),
            plain: row.try_get(0).map_err(doing())?,
            sealed: column.attnum,
            not_null: row.try_get(1).map_err(doing())?,
        });
    }
    let place = (table.schema.as_str(), table.name.as_str(), table.oid);
    let id = state::begin(client, registry, Way::Open, place, &columns).await?;
    let watched: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let cleared: Vec<String> = watched.iter().map(|name| names::kept(name)).collect();
    begin::triggers(client, (id, &quoted), &watched, &cleared).await?;
    parts::fence(client, (id, table.oid)).await
}

/// Whether no plaintext is there yet.
pub(super) fn has_not_written(migration: &Migration) -> bool {
    migration.phase == Phase::Backfill && migration.rows == 0
}

/// Whether the table is still what was planned for, in the caller's transaction.
async fn again(
    client: &Client,
    planned: &TablePlan,
    columns: &[RegisteredColumn],
) -> Result<TablePlan, JobError> {
    let catalog = catalog::read_in_transaction_unjudged(client).await?;
    let relation = catalog.relation_by_oid(planned.oid);
    let relation = relation.ok_or_else(|| changed(planned))?;
    let now = decrypting(client, &catalog, relation, columns).await?;
    let now = now.ok_or_else(|| changed(planned))?;
    let alike = TablePlan {
        rows: planned.rows,
        bytes: planned.bytes,
        ..now.clone()
    } == *planned;
    if alike {
        Ok(now)
    } else {
        Err(changed(planned))
    }
}

fn changed(table: &TablePlan) -> JobError {
    JobError::ChangedMeanwhile {
        table: table.shown(),
    }
}

/// The plan of one that is under way, as the table is now. Something that blocks may have been made meanwhile.
pub(super) async fn planned(client: &Client, migration: &Migration) -> Result<TablePlan, JobError> {
    let catalog = catalog::read_unjudged(client).await?;
    let changed = || JobError::ChangedMeanwhile {
        table: migration.shown(),
    };
    let columns = registered(client, migration).await?;
    let relation = catalog.relation_by_oid(migration.oid).ok_or_else(changed)?;
    let table = decrypting(client, &catalog, relation, &columns).await?;
    let table = table.ok_or_else(changed)?;
    let same = columns.len() == migration.columns.len()
        && (&table.schema, &table.name) == (&migration.schema, &migration.table);
    if !same {
        return Err(changed());
    }
    match table.obstacles.first() {
        None => Ok(table),
        Some(obstacle) => Err(JobError::OnlyAtOnce {
            table: migration.shown(),
            why: format!("{}: {}", obstacle.what, obstacle.cure),
        }),
    }
}

/// The same under the lock.
pub(super) async fn plan_again(
    client: &Client,
    migration: &Migration,
    planned: &TablePlan,
) -> Result<TablePlan, JobError> {
    let columns = registered(client, migration).await?;
    again(client, planned, &columns).await
}

async fn registered(
    client: &Client,
    migration: &Migration,
) -> Result<Vec<RegisteredColumn>, JobError> {
    let mut columns = registry::list_unjudged(client).await?;
    columns.retain(|past| { migration.columns.iter() }.any(|column| column.id == past.id));
    Ok(columns)
}

/// Under the lock, with every row opened: the plaintext takes the name, what is sealed goes.
pub(super) async fn swap(
    run: &Run<'_>,
    migration: &mut Migration,
    planned: &TablePlan,
) -> Result<(), JobError> {
    let client = run.client;
    let table = migration.quoted();
    begin::drop_triggers(client, migration.id, &table).await?;
    for column in &migration.columns {
        let kept = names::kept(&column.name);
        swap::carry_over(client, migration, &column.name, &kept).await?;
    }
    let is_not_null = swap::not_null_now(client, migration).await?;
    let mut text = Vec::new();
    for column in &migration.columns {
        let (name, kept) = (
            sql::quoted(&column.name),
            sql::quoted(&names::kept(&column.name)),
        );
        // Its indexes go with it.
        text.push(format!("ALTER TABLE {table} DROP COLUMN {name}"));
        text.push(format!(
            "ALTER TABLE {table} RENAME COLUMN {kept} TO {name}"
        ));
        if is_not_null.contains(&column.sealed) {
            text.push(swap::not_null(migration, column, column.plain));
        }
    }
    for column in bytes(planned, migration) {
        text.push(format!(
            "ALTER TABLE {table} ADD CONSTRAINT {} CHECK (substr({}, 1, 4) <> '\\x50475601'::bytea) NOT VALID",
            sql::quoted(&names::no_envelope(migration.id, column.plain)),
            sql::quoted(&column.name)
        ));
    }
    for (at, step) in planned.indexes.iter().enumerate() {
        let new = names::new_index(migration.id, at);
        let path = sql::qualified(&migration.schema, &new);
        text.push(format!("COMMENT ON INDEX {path} IS NULL"));
        text.push(format!(
            "ALTER INDEX {path} RENAME TO {}",
            sql::quoted(&step.name)
        ));
    }
    let doing = JobError::while_doing(format!("swap the columns of {}", migration.shown()));
    client
        .batch_execute(&text.join("; "))
        .await
        .map_err(doing)?;
    let registry = run.keys.registry().await?;
    for column in &migration.columns {
        let place = (migration.oid, column.plain);
        registry.given_back(client, column.id, place).await?;
    }
    migration.enter(client, Phase::Swapped).await?;
    Ok(registry.seal(client, "decrypted").await?)
}

/// Columns that would take a sealed value for one of theirs: every other type is another one than that of sealed values.
fn bytes<'m>(
    planned: &'m TablePlan,
    migration: &'m Migration,
) -> impl Iterator<Item = &'m MigratedColumn> {
    migration.columns.iter().filter(|column| {
        let mut plans = planned.columns.iter();
        plans.any(|plan| plan.attnum == column.sealed && plan.to == LogicalType::Bytea)
    })
}

/// After the swap: NOT NULL, statistics, and the end of the net for statements that were planned before it. Then it has ended,
/// and the log says so.
pub(super) async fn settle(
    client: &Client,
    keystore: &Arc<Keystore>,
    migration: &mut Migration,
    patience: Duration,
) -> Result<(), JobError> {
    swap::settle(client, migration).await?;
    let doing = || JobError::while_doing(format!("finish {}", migration.shown()));
    let table = migration.quoted();
    let prefix = names::no_envelope(migration.id, 0);
    let prefix = prefix.trim_end_matches('0');
    let nets = client
        .query(
            "SELECT conname::text FROM pg_constraint WHERE conrelid = $1 AND starts_with(conname::text, $2)",
            &[&migration.oid, &prefix],
        )
        .await
        .map_err(doing())?;
    if !nets.is_empty() {
        barrier::wait(client, patience).await?;
        short::lock(client, migration).await?;
        let mut text = Vec::new();
        for row in &nets {
            let name: String = row.try_get(0).map_err(doing())?;
            text.push(format!(
                "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {}",
                sql::quoted(&name)
            ));
        }
        let done = client.batch_execute(&text.join("; ")).await;
        short::end(client, "the end of a decryption", done.map_err(doing())).await?;
    }
    let columns: Vec<&str> = { migration.columns.iter() }
        .map(|column| column.name.as_str())
        .collect();
    let platform = ScopePath::platform();
    let event = Event::new(Operation::ColumnDecrypt).scope(&platform);
    let detail = json!({ "step": "end", "table": migration.shown(), "columns": columns, "rows": migration.rows,
        "verified": migration.verified });
    let mut change = keystore.log().change().await?;
    // It follows from what a token was given for.
    change.automatic();
    change.commit(event.detail(detail)).await?;
    migration.enter(client, Phase::Contracted).await
}

/// Before the swap: the columns that were to come are dropped.
pub(super) async fn undo(client: &Client, migration: &mut Migration) -> Result<(), JobError> {
    if migration.phase.is_swapped() {
        return Err(JobError::Decrypted {
            table: migration.shown(),
        });
    }
    short::lock(client, migration).await?;
    let done = drop_coming(client, migration).await;
    let what = format!("the end of the decryption of {}", migration.shown());
    short::end(client, &what, done).await
}

async fn drop_coming(client: &Client, migration: &mut Migration) -> Result<(), JobError> {
    let table = migration.quoted();
    begin::drop_triggers(client, migration.id, &table).await?;
    let drops = migration.columns.iter().map(|column| {
        let kept = sql::quoted(&names::kept(&column.name));
        format!("ALTER TABLE {table} DROP COLUMN {kept}")
    });
    let drops = drops.collect::<Vec<_>>().join("; ");
    let doing = JobError::while_doing(format!("drop columns of {}", migration.shown()));
    client.batch_execute(&drops).await.map_err(doing)?;
    migration.enter(client, Phase::RolledBack).await
}
