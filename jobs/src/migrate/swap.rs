//! The swap: under a short lock the last rows are sealed, the plaintext columns make way and the shadows take their names.
//! What is not ready then is not swapped; the lock is given up and the migration goes on.

use tokio_postgres::Client;

use super::{
    MigratedColumn, Migration, Phase, Run, Way, backfill, begin, decrypt, index, names, short,
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
    let (found, _) = backfill::few(run, known, migration, (way, UNDER_LOCK + 1)).await?;
    if found > u64::from(UNDER_LOCK) {
        return Ok(false);
    }
    let left = known.at_work(run, migration).count_stale(way, 1).await?;
    Ok(left == 0)
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
    if !index::are_ready(client, migration, &planned).await? {
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
    let stale = sql::qualified(&migration.schema, &names::stale_index(migration.id));
    let mut text = vec![format!("DROP INDEX {stale}")];
    text.extend(indexes(migration, &planned));
    for column in &migration.columns {
        text.extend(renamed(migration, column));
    }
    let doing = || JobError::while_doing(format!("swap the columns of {}", migration.shown()));
    client
        .batch_execute(&text.join("; "))
        .await
        .map_err(doing())?;
    let registry = run.keys.registry().await?;
    for column in &migration.columns {
        let kept = names::kept(&column.name);
        carry_over(client, migration, (column.plain, &kept), &column.name).await?;
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

fn renamed(migration: &Migration, column: &MigratedColumn) -> Vec<String> {
    let table = migration.quoted();
    let (name, kept) = (
        sql::quoted(&column.name),
        sql::quoted(&names::kept(&column.name)),
    );
    let shadow = sql::quoted(&names::shadow(&column.name));
    let mut text = vec![
        format!("ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL"),
        format!("ALTER TABLE {table} RENAME COLUMN {name} TO {kept}"),
        format!("ALTER TABLE {table} RENAME COLUMN {shadow} TO {name}"),
    ];
    if column.not_null {
        text.push(not_null(migration, column, column.sealed));
    }
    text
}

/// Stands in for NOT NULL: that would have the table looked through under the lock.
pub(super) fn not_null(migration: &Migration, column: &MigratedColumn, attnum: i16) -> String {
    format!(
        "ALTER TABLE {} ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID",
        migration.quoted(),
        sql::quoted(&names::not_null(migration.id, attnum)),
        sql::quoted(&column.name)
    )
}

/// A column's comment and privileges go to another one of the table.
pub(super) async fn carry_over(
    client: &Client,
    migration: &Migration,
    (attnum, from): (i16, &str),
    to: &str,
) -> Result<(), JobError> {
    let doing = || JobError::while_doing(format!("carry over what belongs to {to}"));
    let (table, name, kept) = (migration.quoted(), sql::quoted(to), sql::quoted(from));
    let mut text = Vec::new();
    let comment = "SELECT col_description($1, $2)";
    let row = client
        .query_one(comment, &[&migration.oid, &i32::from(attnum)])
        .await;
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
             WHERE a.attrelid = $1 AND a.attnum = $2",
            &[&migration.oid, &attnum],
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

/// NOT NULL again, without looking through the table under a lock; and statistics.
pub(super) async fn settle(client: &Client, migration: &Migration) -> Result<(), JobError> {
    for column in &migration.columns {
        let attnum = if migration.phase == Phase::RolledBack || migration.way == Way::Open {
            column.plain
        } else {
            column.sealed
        };
        set_not_null(client, migration, (&column.name, attnum)).await?;
    }
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
