//! The swap: under a short lock the last rows are sealed, the plaintext columns make way and the shadows take their names.
//! What is not ready then is not swapped; the lock is given up and the migration goes on.

use std::collections::HashSet;

use tokio_postgres::Client;

use super::{
    MigratedColumn, Migration, Phase, Run, Way, backfill, begin, decrypt, index, names,
    parts::{self, Part},
    short,
    table::{self, Known},
};
use crate::{JobError, apply::convert, plan::TablePlan, sql};

/// More rows than this are not copied while the table is locked.
pub(super) const UNDER_LOCK: u32 = 500;

/// How a try ended.
enum Tried {
    Swapped,
    /// Too many rows were stale.
    Behind,
    /// The table, or its indexes, are not what was prepared for.
    Unprepared,
}

/// Swaps, or goes back to what has to be done first.
pub(super) async fn table(run: &Run<'_>, migration: &mut Migration) -> Result<(), JobError> {
    let client = run.client;
    loop {
        let planned = index::planned(run, migration).await?;
        if !parts::are_verified(client, migration).await? {
            return migration.enter(client, Phase::Backfill).await;
        }
        if !index::are_ready(client, migration, &planned).await? {
            // One that is not planned any more may be in the way of rows that are to be copied.
            return migration.enter(client, Phase::Index).await;
        }
        let known = table::known(run, migration).await?;
        catch_up(run, &known, migration, migration.way).await?;
        short::lock(client, migration).await?;
        let tried = under_lock(run, migration, (&planned, &known)).await;
        let what = format!("the swap of {}", migration.shown());
        match tried {
            Ok(Tried::Swapped) => return short::end(client, &what, Ok(())).await,
            Ok(Tried::Behind) => give_up(client).await?,
            Ok(Tried::Unprepared) | Err(JobError::ChangedMeanwhile { .. }) => {
                give_up(client).await?;
                return migration.enter(client, Phase::Index).await;
            }
            Err(error) => return short::end(client, &what, Err(error)).await,
        }
    }
}

/// Copies stale rows until few are left.
pub(super) async fn catch_up(
    run: &Run<'_>,
    known: &Known,
    migration: &Migration,
    way: Way,
) -> Result<(), JobError> {
    let client = run.client;
    by_index(client, "SET").await?;
    let mut held = backfill::Held::default();
    loop {
        let (found, written) = backfill::few(run, known, migration, (way, 2 * UNDER_LOCK)).await?;
        if found < u64::from(UNDER_LOCK) {
            break;
        }
        held.wait(migration, written > 0, found).await?;
    }
    client
        .batch_execute("RESET enable_seqscan")
        .await
        .map_err(JobError::while_doing("reset how rows are found"))
}

/// The index is the way to find stale rows, however few rows the server thinks there are.
async fn by_index(client: &Client, set: &str) -> Result<(), JobError> {
    let text = format!("{set} enable_seqscan = off");
    let doing = JobError::while_doing("say how rows are to be found");
    client.batch_execute(&text).await.map_err(doing)
}

/// Whether all rows have their copies now, in the transaction that holds the lock.
pub(super) async fn is_complete(
    run: &Run<'_>,
    known: &Known,
    migration: &Migration,
    way: Way,
) -> Result<bool, JobError> {
    by_index(run.client, "SET LOCAL").await?;
    let leaves = backfill::stale_leaves(run, known, migration, way).await?;
    // Nobody else writes meanwhile.
    if leaves.is_empty() {
        return Ok(true);
    }
    let limit = (way, UNDER_LOCK + 1);
    let (found, _) = backfill::few_of(run, known, migration, limit, leaves).await?;
    if found > u64::from(UNDER_LOCK) {
        return Ok(false);
    }
    let stale = backfill::stale_leaves(run, known, migration, way).await?;
    Ok(stale.is_empty())
}

async fn give_up(client: &Client) -> Result<(), JobError> {
    let doing = JobError::while_doing("give up a lock");
    client.batch_execute("ROLLBACK").await.map_err(doing)
}

async fn under_lock(
    run: &Run<'_>,
    migration: &mut Migration,
    (planned, known): (&TablePlan, &Known),
) -> Result<Tried, JobError> {
    let client = run.client;
    let planned = match migration.way {
        Way::Seal => {
            let registry = run.keys.registry().await?;
            convert::plan_again(client, &registry, run.policy, planned).await?
        }
        Way::Open => decrypt::plan_again(client, migration, planned).await?,
    };
    let is_ready = index::are_ready(client, migration, &planned).await?;
    if !is_ready || !parts::are_verified(client, migration).await? {
        return Ok(Tried::Unprepared);
    }
    if !is_complete(run, known, migration, migration.way).await? {
        return Ok(Tried::Behind);
    }
    if migration.way == Way::Open {
        decrypt::swap(run, migration, &planned).await?;
        return Ok(Tried::Swapped);
    }
    let quoted = migration.quoted();
    begin::drop_triggers(client, migration.id, &quoted).await?;
    let mut text = vec![index::drop_own_stale(migration)];
    text.extend(indexes(migration, &planned));
    let not_null = not_null_now(client, migration).await?;
    text.extend(renamed(migration, &not_null));
    let doing = || JobError::while_doing(format!("swap the columns of {}", migration.shown()));
    client
        .batch_execute(&text.join("; "))
        .await
        .map_err(doing())?;
    let registry = run.keys.registry().await?;
    for column in &migration.columns {
        let kept = names::kept(&column.name);
        carry_over(client, migration, &kept, &column.name).await?;
        let place = (migration.oid, column.sealed);
        let names = (
            migration.schema.as_str(),
            migration.table.as_str(),
            column.name.as_str(),
        );
        registry.moved(client, column.id, names, place).await?;
    }
    let old: Vec<&str> = planned
        .indexes
        .iter()
        .map(|step| step.name.as_str())
        .collect();
    let note = "UPDATE pgveil.migrations SET old_indexes = $2 WHERE id = $1";
    client
        .execute(note, &[&migration.id, &old])
        .await
        .map_err(doing())?;
    // From now on a write through pgveil leaves no plaintext of before beside it.
    let watched: Vec<&str> = migration
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    let cleared: Vec<String> = watched.iter().map(|name| names::kept(name)).collect();
    begin::triggers(client, (migration.id, &quoted), &watched, &cleared).await?;
    parts::fence(client, (migration.id, migration.oid)).await?;
    migration.enter(client, Phase::Swapped).await?;
    registry.seal(client, "migrated").await?;
    Ok(Tried::Swapped)
}

/// The old ones make way, and stay for a roll-back; the new ones take their names.
fn indexes(migration: &Migration, planned: &TablePlan) -> Vec<String> {
    let rename = |from: &str, to: &str| {
        let from = sql::qualified(&migration.schema, from);
        format!("ALTER INDEX {from} RENAME TO {}", sql::quoted(to))
    };
    let mut text = Vec::new();
    for (at, step) in planned.indexes.iter().enumerate() {
        if step.drop.is_some() {
            text.push(rename(&step.name, &names::old_index(migration.id, at)));
        }
        if step.online.is_some() {
            let new = names::new_index(migration.id, at);
            let path = sql::qualified(&migration.schema, &new);
            text.push(format!("COMMENT ON INDEX {path} IS NULL"));
            text.push(rename(&new, &step.name));
        }
    }
    text
}

/// The columns change names. What else is changed of them is one statement before and one behind it: the server goes through
/// all partitions for each.
fn renamed(migration: &Migration, is_not_null: &HashSet<i16>) -> Vec<String> {
    let table = migration.quoted();
    let not_null = || { migration.columns.iter() }.filter(|it| is_not_null.contains(&it.plain));
    let mut text = Vec::new();
    // All of them: a partition may have got one of its own.
    let nullable = migration.columns.iter().map(|column| {
        let name = sql::quoted(&column.name);
        format!("ALTER COLUMN {name} DROP NOT NULL")
    });
    text.extend(altered(&table, nullable));
    for column in &migration.columns {
        let (name, kept) = (&column.name, names::kept(&column.name));
        let shadow = names::shadow(name);
        for (from, to) in [(name, &kept), (&shadow, name)] {
            let (from, to) = (sql::quoted(from), sql::quoted(to));
            text.push(format!("ALTER TABLE {table} RENAME COLUMN {from} TO {to}"));
        }
    }
    let checks = not_null().map(|column| not_null_check(migration, column, column.sealed));
    text.extend(altered(&table, checks));
    text
}

/// Columns of the table that are NOT NULL at this moment, by their numbers: that may have been changed since it was begun. Also
/// those for which a constraint of the migration's own stands in.
pub(super) async fn not_null_now(
    client: &Client,
    migration: &Migration,
) -> Result<HashSet<i16>, JobError> {
    let own = names::not_null_prefix(migration.id);
    let asked = "SELECT attnum FROM pg_attribute WHERE attrelid = $1 AND attnotnull AND attnum > 0 AND NOT attisdropped \
                 UNION SELECT conkey[1] FROM pg_constraint WHERE conrelid = $1 AND conname = $2 || conkey[1]";
    let rows = client.query(asked, &[&migration.oid, &own]).await;
    let numbers = rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
    let doing = JobError::while_doing(format!("see what of {} is NOT NULL", migration.shown()));
    numbers.map_err(doing)
}

/// One statement for all; none for nothing.
fn altered(table: &str, changes: impl Iterator<Item = String>) -> Option<String> {
    let changes = changes.collect::<Vec<_>>().join(", ");
    (!changes.is_empty()).then(|| format!("ALTER TABLE {table} {changes}"))
}

/// Stands in for NOT NULL: that would have the table looked through under the lock.
pub(super) fn not_null(migration: &Migration, column: &MigratedColumn, attnum: i16) -> String {
    let check = not_null_check(migration, column, attnum);
    format!("ALTER TABLE {} {check}", migration.quoted())
}

fn not_null_check(migration: &Migration, column: &MigratedColumn, attnum: i16) -> String {
    format!(
        "ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID",
        sql::quoted(&names::not_null(migration.id, attnum)),
        sql::quoted(&column.name)
    )
}

/// A column's comment and privileges go to another one of the table; so do those that partitions have of their own.
pub(super) async fn carry_over(
    client: &Client,
    migration: &Migration,
    from: &str,
    to: &str,
) -> Result<(), JobError> {
    let parts = parts::all(client, migration).await?;
    let oids: Vec<u32> = parts.iter().map(|part| part.oid).collect();
    // The table is locked meanwhile, and most partitions have none.
    let rows = client
        .query(
            "SELECT a.attrelid FROM pg_attribute a WHERE a.attrelid = ANY ($1) AND a.attname = $2 AND NOT a.attisdropped \
             AND (a.attacl IS NOT NULL OR col_description(a.attrelid, a.attnum) IS NOT NULL)",
            &[&oids, &from],
        )
        .await;
    let doing = || JobError::while_doing(format!("carry over what belongs to {to}"));
    for row in &rows.map_err(doing())? {
        let oid: u32 = row.try_get(0).map_err(doing())?;
        for part in parts.iter().filter(|part| part.oid == oid) {
            carry_over_in(client, part, from, to).await?;
        }
    }
    Ok(())
}

async fn carry_over_in(client: &Client, part: &Part, from: &str, to: &str) -> Result<(), JobError> {
    let doing = || JobError::while_doing(format!("carry over what belongs to {to}"));
    let (table, name, kept) = (part.quoted(), sql::quoted(to), sql::quoted(from));
    let mut text = Vec::new();
    let comment = "SELECT (SELECT col_description($1, a.attnum) FROM pg_attribute a \
                   WHERE a.attrelid = $1 AND a.attname = $2 AND NOT a.attisdropped)";
    let row = client.query_one(comment, &[&part.oid, &from]).await;
    let comment: Option<String> = row.and_then(|row| row.try_get(0)).map_err(doing())?;
    if let Some(comment) = comment {
        text.push(format!(
            "COMMENT ON COLUMN {table}.{name} IS {}",
            sql::literal(&comment)
        ));
        text.push(format!("COMMENT ON COLUMN {table}.{kept} IS NULL"));
    }
    let rows = client
        .query(
            "SELECT x.privilege_type, coalesce(quote_ident(r.rolname), 'PUBLIC'), x.is_grantable \
             FROM pg_attribute a CROSS JOIN aclexplode(a.attacl) x LEFT JOIN pg_roles r ON r.oid = x.grantee \
             WHERE a.attrelid = $1 AND a.attname = $2 AND NOT a.attisdropped",
            &[&part.oid, &from],
        )
        .await
        .map_err(doing())?;
    for row in &rows {
        let privilege: String = row.try_get(0).map_err(doing())?;
        let role: String = row.try_get(1).map_err(doing())?;
        let with = if row.try_get(2).map_err(doing())? {
            " WITH GRANT OPTION"
        } else {
            ""
        };
        text.push(format!(
            "GRANT {privilege} ({name}) ON {table} TO {role}{with}"
        ));
        text.push(format!(
            "REVOKE {privilege} ({kept}) ON {table} FROM {role}"
        ));
    }
    client
        .batch_execute(&text.join("; "))
        .await
        .map_err(doing())
}

/// NOT NULL again, without looking through the table under a lock; the names of partitions' indexes; and statistics. What found
/// stale rows goes, too: under the lock it would be a statement for each partition.
pub(super) async fn settle(client: &Client, migration: &Migration) -> Result<(), JobError> {
    index::drop_stale(client, migration).await?;
    for column in &migration.columns {
        let attnum = if migration.phase == Phase::RolledBack || migration.way == Way::Open {
            column.plain
        } else {
            column.sealed
        };
        set_not_null(client, migration, (&column.name, attnum)).await?;
    }
    index::name_parts(client, migration).await?;
    let analyze = format!("ANALYZE {}", migration.quoted());
    let doing = JobError::while_doing(format!("analyze {}", migration.shown()));
    client.batch_execute(&analyze).await.map_err(doing)
}

async fn set_not_null(
    client: &Client,
    migration: &Migration,
    (name, attnum): (&str, i16),
) -> Result<(), JobError> {
    let doing = || JobError::while_doing(format!("make {name} NOT NULL"));
    let constraint = names::not_null(migration.id, attnum);
    let known = "SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = $1 AND conname = $2)";
    let row = client
        .query_one(known, &[&migration.oid, &constraint])
        .await;
    if !row
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(doing())?
    {
        return Ok(());
    }
    let (table, name, constraint) = (
        migration.quoted(),
        sql::quoted(name),
        sql::quoted(&constraint),
    );
    let validate = format!("ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}");
    client.batch_execute(&validate).await.map_err(doing())?;
    short::lock(client, migration).await?;
    let text = format!(
        "ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL; ALTER TABLE {table} DROP CONSTRAINT {constraint}"
    );
    let done = client.batch_execute(&text).await.map_err(doing());
    short::end(client, "NOT NULL", done).await
}
