//! The indexes of the columns to come: made beside writers, under names of their own. One that was not finished is dropped
//! and made again. It writes no rows.

use std::collections::HashSet;

use tokio_postgres::{Client, error::SqlState};

use super::{
    Migration, Phase, Run, Way, decrypt, names,
    parts::{self, Part},
    short, table,
};
use crate::{
    JobError, catalog,
    plan::{IndexStep, OnlineIndex, TablePlan, of_rule},
    sql,
};

/// How long transactions over a partition are waited for, before what finds its stale rows is left where it is.
const STALE_WAITS: &str = "10s";

/// Makes what is missing, and the index that finds stale rows.
pub(super) async fn table(run: &Run<'_>, migration: &mut Migration) -> Result<(), JobError> {
    let client = run.client;
    let planned = planned(run, migration).await?;
    // From above: with the index of a partitioned table go those of its partitions.
    while let Some((part, name)) = unplanned(client, migration, &planned).await?.first() {
        drop_one(client, migration, part, name).await?;
    }
    for (at, step) in planned.indexes.iter().enumerate() {
        make(client, migration, at, step).await?;
    }
    let known = table::known(run, migration).await?;
    stale(client, migration, &known, migration.way).await?;
    migration.enter(client, Phase::Verify).await
}

async fn drop_one(
    client: &Client,
    migration: &Migration,
    part: &Part,
    name: &str,
) -> Result<(), JobError> {
    let path = sql::qualified(&part.schema, name);
    if part.is_leaf {
        let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {path}");
        return { client.batch_execute(&drop).await }.map_err(making(migration));
    }
    // There is no other way to drop one of a partitioned table.
    short::lock(client, migration).await?;
    let drop = format!("DROP INDEX IF EXISTS {path}");
    let dropped = { client.batch_execute(&drop).await }.map_err(making(migration));
    short::end(client, "the end of an index", dropped).await
}

/// The plan of the table as it is before the swap. Something that blocks may have been made meanwhile.
pub(super) async fn planned(run: &Run<'_>, migration: &Migration) -> Result<TablePlan, JobError> {
    if migration.way == Way::Open {
        return decrypt::planned(run.client, migration).await;
    }
    let (client, policy) = (run.client, run.policy);
    let changed = || JobError::ChangedMeanwhile {
        table: migration.shown(),
    };
    let catalog = catalog::read_unjudged(client).await?;
    let mut rules = policy.tables.iter();
    let rule = rules
        .find(|rule| migration.is_of(&rule.schema, &rule.name))
        .ok_or_else(changed)?;
    let plan = of_rule(client, &catalog, rule, &[])
        .await?
        .ok_or_else(changed)?;
    let names = |plan: &TablePlan| {
        plan.columns
            .iter()
            .map(|column| column.attnum)
            .collect::<Vec<_>>()
    };
    let ours: Vec<i16> = migration
        .columns
        .iter()
        .map(|column| column.plain)
        .collect();
    if plan.oid != migration.oid || names(&plan) != ours {
        return Err(changed());
    }
    if let Some(obstacle) = plan.obstacles.iter().find(|obstacle| obstacle.blocks) {
        let why = format!("{}: {}", obstacle.what, obstacle.cure);
        return Err(JobError::OnlyAtOnce {
            table: migration.shown(),
            why,
        });
    }
    if plan.only_at_once.is_empty() {
        return Ok(plan);
    }
    Err(JobError::OnlyAtOnce {
        table: migration.shown(),
        why: plan.only_at_once.join("; "),
    })
}

/// The index that finds rows with stale copies: almost none, so that it is small.
pub(super) async fn stale(
    client: &Client,
    migration: &Migration,
    known: &table::Known,
    way: Way,
) -> Result<(), JobError> {
    let condition = super::rows::stale("", &known.names, way);
    for leaf in parts::leaves(client, migration).await? {
        let name = stale_name(migration, &leaf);
        let rest = format!("{} ((1)) WHERE {condition}", leaf.quoted());
        if is_ready(client, migration, (&leaf, &name), &rest).await? {
            continue;
        }
        let create = format!("CREATE INDEX CONCURRENTLY {} ON {rest}", sql::quoted(&name));
        anew(client, migration, (&leaf, &name), (&create, &rest)).await?;
    }
    Ok(())
}

fn stale_name(migration: &Migration, leaf: &Part) -> String {
    names::stale_index(migration.id, leaf.is_partition().then_some(leaf.oid))
}

/// SQL that drops that of an ordinary table, with the table locked. Those of partitions are many: see [`drop_stale`].
pub(super) fn drop_own_stale(migration: &Migration) -> String {
    let path = sql::qualified(&migration.schema, &names::stale_index(migration.id, None));
    format!("DROP INDEX IF EXISTS {path}")
}

/// Drops what is left of them, beside writers. Where somebody has a transaction over a partition they stay for now: they harm
/// nobody, another run drops them, and the contract or a roll-back drops a column that they are about.
pub(super) async fn drop_stale(client: &Client, migration: &Migration) -> Result<(), JobError> {
    let leaves = parts::leaves(client, migration).await?;
    let oids: Vec<u32> = leaves.iter().map(|leaf| leaf.oid).collect();
    let names: Vec<String> = { leaves.iter() }
        .map(|leaf| stale_name(migration, leaf))
        .collect();
    let there = "SELECT i.indrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
        JOIN unnest($1::oid[], $2::text[]) AS t(leaf, name) ON t.leaf = i.indrelid AND t.name = c.relname";
    let rows = client.query(there, &[&oids, &names]).await;
    let rows = rows.map_err(making(migration))?;
    let there: Result<HashSet<u32>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    let there = there.map_err(making(migration))?;
    if there.is_empty() {
        return Ok(());
    }
    let set = async |timeout: &str| {
        let set = format!("SET lock_timeout = '{timeout}'");
        client.batch_execute(&set).await.map_err(making(migration))
    };
    set(STALE_WAITS).await?;
    for (leaf, name) in leaves.iter().zip(&names) {
        if !there.contains(&leaf.oid) {
            continue;
        }
        let path = sql::qualified(&leaf.schema, name);
        let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {path}");
        match client.batch_execute(&drop).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                tracing::info!(
                    table = migration.shown(),
                    "indexes of stale rows stay for now: transactions use partitions"
                );
                break;
            }
            dropped => dropped.map_err(making(migration))?,
        }
    }
    set("0").await
}

fn new_name(migration: &Migration, at: usize, part: &Part) -> String {
    if part.is_partition() {
        names::new_index_of(migration.id, at, part.oid)
    } else {
        names::new_index(migration.id, at)
    }
}

async fn make(
    client: &Client,
    migration: &Migration,
    at: usize,
    step: &IndexStep,
) -> Result<(), JobError> {
    let Some(online) = &step.online else {
        return Ok(());
    };
    let mark = marked(migration, step);
    loop {
        let parts = parts::all(client, migration).await?;
        let Some(top) = parts.first() else {
            return Err(JobError::ChangedMeanwhile {
                table: migration.shown(),
            });
        };
        let name = new_name(migration, at, top);
        if is_ready(client, migration, (top, &name), &mark).await? {
            return Ok(());
        }
        if !top.is_leaf && is_there(client, migration, (top, &name)).await? {
            drop_one(client, migration, top, &name).await?;
        }
        let ready = ready(client, migration, &parts, &mark).await?;
        for leaf in parts.iter().filter(|part| part.is_leaf) {
            let name = new_name(migration, at, leaf);
            if ready.contains(&(leaf.oid, name.clone())) {
                continue;
            }
            let create = online.sql(&name, &leaf.quoted());
            anew(client, migration, (leaf, &name), (&create, &mark)).await?;
        }
        if top.is_leaf {
            return Ok(());
        }
        short::lock(client, migration).await?;
        let joined = join(client, migration, (at, online), &mark).await;
        if let Ok(false) = joined {
            let doing = JobError::while_doing("give up a lock");
            client.batch_execute("ROLLBACK").await.map_err(doing)?;
            continue;
        }
        return short::end(client, "the index of a partitioned table", joined.map(drop)).await;
    }
}

/// With the table locked, the indexes of the leaves become those of the tables above them. Not if a leaf has come that has none.
async fn join(
    client: &Client,
    migration: &Migration,
    (at, online): (usize, &OnlineIndex),
    mark: &str,
) -> Result<bool, JobError> {
    let parts = parts::all(client, migration).await?;
    let path = |part: &Part| sql::qualified(&part.schema, &new_name(migration, at, part));
    let ready = ready(client, migration, &parts, mark).await?;
    let mut text = Vec::new();
    for part in &parts {
        let name = new_name(migration, at, part);
        if !part.is_leaf {
            text.push(online.above(&name, &part.quoted()));
        } else if !ready.contains(&(part.oid, name)) {
            return Ok(false);
        }
    }
    // From below: an index is valid once those of all partitions belong to it.
    for part in parts.iter().rev() {
        let above = parts.iter().find(|other| Some(other.oid) == part.parent);
        text.extend(above.map(|above| {
            format!(
                "ALTER INDEX {} ATTACH PARTITION {}",
                path(above),
                path(part)
            )
        }));
    }
    text.extend(
        parts
            .first()
            .map(|top| format!("COMMENT ON INDEX {} IS {}", path(top), sql::literal(mark))),
    );
    let joined = client.batch_execute(&text.join("; ")).await;
    joined.map(|()| true).map_err(making(migration))
}

/// Indexes of partitions get names after those that they belong to, once these have theirs.
pub(super) async fn name_parts(client: &Client, migration: &Migration) -> Result<(), JobError> {
    let prefix = names::new_indexes(migration.id);
    for part in parts::all(client, migration).await? {
        if !part.is_partition() {
            continue;
        }
        let rows = client
            .query(
                "SELECT c.relname::text, p.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                 JOIN pg_inherits h ON h.inhrelid = c.oid JOIN pg_class p ON p.oid = h.inhparent \
                 WHERE i.indrelid = $1 AND starts_with(c.relname::text, $2) ORDER BY 1",
                &[&part.oid, &prefix],
            )
            .await
            .map_err(making(migration))?;
        for row in &rows {
            let name: String = row.try_get(0).map_err(making(migration))?;
            let above: String = row.try_get(1).map_err(making(migration))?;
            let path = sql::qualified(&part.schema, &name);
            let free = free_name(client, migration, &part, &above).await?;
            let text = format!(
                "COMMENT ON INDEX {path} IS NULL; ALTER INDEX {path} RENAME TO {}",
                sql::quoted(&free)
            );
            client
                .batch_execute(&text)
                .await
                .map_err(making(migration))?;
        }
    }
    Ok(())
}

async fn free_name(
    client: &Client,
    migration: &Migration,
    part: &Part,
    above: &str,
) -> Result<String, JobError> {
    let mut number = 0;
    loop {
        let name = names::index_of_part(part.name(), above, number);
        let path = sql::qualified(&part.schema, &name);
        let row = client
            .query_one("SELECT to_regclass($1) IS NULL", &[&path])
            .await;
        let is_free = row.and_then(|row| row.try_get(0));
        if is_free.map_err(making(migration))? {
            return Ok(name);
        }
        number += 1;
    }
}

/// Indexes that were made for what the table had then, from above. A unique one would go on refusing values that the table may
/// hold by now.
async fn unplanned(
    client: &Client,
    migration: &Migration,
    planned: &TablePlan,
) -> Result<Vec<(Part, String)>, JobError> {
    let parts = parts::all(client, migration).await?;
    let oids: Vec<u32> = parts.iter().map(|part| part.oid).collect();
    let made = { client }
        .query(
            "SELECT i.indrelid, c.relname::text, obj_description(c.oid, 'pg_class') \
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
             WHERE i.indrelid = ANY ($1) AND starts_with(c.relname::text, $2)",
            &[&oids, &names::new_indexes(migration.id)],
        )
        .await
        .map_err(making(migration))?;
    let made = made
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
    let made: Vec<(u32, String, Option<String>)> = { made }
        .collect::<Result<_, tokio_postgres::Error>>()
        .map_err(making(migration))?;
    let mut left = Vec::new();
    for part in parts {
        let is_wanted = |name: &str, mark: Option<&String>| {
            let mut steps = planned.indexes.iter().enumerate();
            steps.any(|(at, step)| {
                step.online.is_some()
                    && name == new_name(migration, at, &part)
                    // Those between the table and its leaves are made with the table's.
                    && (part.is_partition() && !part.is_leaf
                        || mark == Some(&marked(migration, step)))
            })
        };
        let own = made.iter().filter(|(oid, ..)| *oid == part.oid);
        let own = own.filter(|(_, name, mark)| !is_wanted(name, mark.as_ref()));
        let names: Vec<String> = own.map(|(_, name, _)| name.clone()).collect();
        left.extend(names.into_iter().map(|name| (part.clone(), name)));
    }
    Ok(left)
}

/// Whether every index that the swap needs is there, and no other.
pub(super) async fn are_ready(
    client: &Client,
    migration: &Migration,
    planned: &TablePlan,
) -> Result<bool, JobError> {
    let parts = parts::all(client, migration).await?;
    let Some(top) = parts.first() else {
        return Ok(false);
    };
    for (at, step) in planned.indexes.iter().enumerate() {
        let name = new_name(migration, at, top);
        let mark = marked(migration, step);
        if step.online.is_some() && !is_ready(client, migration, (top, &name), &mark).await? {
            return Ok(false);
        }
    }
    Ok(unplanned(client, migration, planned).await?.is_empty())
}

/// What it is for and how it was made, kept as its comment: the table's indexes may change before the swap.
fn marked(migration: &Migration, step: &IndexStep) -> String {
    let online = step.online.as_ref();
    let rest = online.map_or_else(String::new, |online| {
        format!("{} {}", migration.quoted(), online.rest)
    });
    let unique = online.is_some_and(|online| online.unique);
    let unique = if unique { "unique, " } else { "" };
    format!("{}: {unique}{rest}", step.name)
}

async fn is_ready(
    client: &Client,
    migration: &Migration,
    (part, name): (&Part, &str),
    mark: &str,
) -> Result<bool, JobError> {
    let row = client
        .query_opt(
            "SELECT i.indisvalid AND obj_description(c.oid, 'pg_class') IS NOT DISTINCT FROM $3 \
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1 AND c.relname = $2",
            &[&part.oid, &name, &mark],
        )
        .await;
    let row = row.map_err(making(migration))?;
    row.map_or(Ok(false), |row| row.try_get(0).map_err(making(migration)))
}

/// The indexes of these that are ready: whose, and their names.
async fn ready(
    client: &Client,
    migration: &Migration,
    parts: &[Part],
    mark: &str,
) -> Result<HashSet<(u32, String)>, JobError> {
    let oids: Vec<u32> = parts.iter().map(|part| part.oid).collect();
    let rows = client
        .query(
            "SELECT i.indrelid, c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
             WHERE i.indrelid = ANY ($1) AND i.indisvalid AND obj_description(c.oid, 'pg_class') = $2",
            &[&oids, &mark],
        )
        .await
        .map_err(making(migration))?;
    let found = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    { found.collect::<Result<_, tokio_postgres::Error>>() }.map_err(making(migration))
}

async fn is_there(
    client: &Client,
    migration: &Migration,
    (part, name): (&Part, &str),
) -> Result<bool, JobError> {
    let there = "SELECT to_regclass($1) IS NOT NULL";
    let path = sql::qualified(&part.schema, name);
    let row = client.query_one(there, &[&path]).await;
    row.and_then(|row| row.try_get(0))
        .map_err(making(migration))
}

async fn anew(
    client: &Client,
    migration: &Migration,
    (part, name): (&Part, &str),
    (create, mark): (&str, &str),
) -> Result<(), JobError> {
    let path = sql::qualified(&part.schema, name);
    // Each by itself: neither may stand in a transaction, nor beside others.
    let comment = format!("COMMENT ON INDEX {path} IS {}", sql::literal(mark));
    for text in [
        format!("DROP INDEX CONCURRENTLY IF EXISTS {path}"),
        create.to_owned(),
        comment,
    ] {
        client
            .batch_execute(&text)
            .await
            .map_err(making(migration))?;
    }
    Ok(())
}

fn making(migration: &Migration) -> impl FnOnce(tokio_postgres::Error) -> JobError + use<> {
    JobError::while_writing(migration.shown(), "make the indexes")
}
