//! The indexes of the columns to come: made beside writers, under names of their own. One that was not finished is dropped
//! and made again. It writes no rows.

use tokio_postgres::Client;

use super::{Migration, Phase, Run, Way, decrypt, names, table};
use crate::{
    JobError, catalog,
    plan::{IndexStep, TablePlan, of_rule},
    sql,
};

/// Makes what is missing, and the index that finds stale rows.
pub(super) async fn table(run: &Run<'_>, migration: &mut Migration) -> Result<(), JobError> {
    let client = run.client;
    let planned = planned(run, migration).await?;
    for name in unplanned(client, migration, &planned).await? {
        let path = sql::qualified(&migration.schema, &name);
        let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {path}");
        { client.batch_execute(&drop).await }.map_err(making(migration))?;
    }
    for (at, step) in planned.indexes.iter().enumerate() {
        make(client, migration, at, step).await?;
    }
    let known = table::known(run, migration).await?;
    stale(client, migration, &known, migration.way).await?;
    migration.enter(client, Phase::Verify).await
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
    let name = names::stale_index(migration.id);
    let condition = super::rows::stale("", &known.names, way);
    let rest = format!("{} ((1)) WHERE {condition}", migration.quoted());
    if is_ready(client, migration, &name, &rest).await? {
        return Ok(());
    }
    let create = format!("CREATE INDEX CONCURRENTLY {} ON {rest}", sql::quoted(&name));
    anew(client, migration, &name, &create, &rest).await
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
    let name = names::new_index(migration.id, at);
    let marked = marked(step);
    if is_ready(client, migration, &name, &marked).await? {
        return Ok(());
    }
    anew(client, migration, &name, &online.sql(&name), &marked).await
}

/// Indexes that were made for what the table had then. A unique one would go on refusing values that the table may hold by now.
async fn unplanned(
    client: &Client,
    migration: &Migration,
    planned: &TablePlan,
) -> Result<Vec<String>, JobError> {
    let made = { client }
        .query(
            "SELECT c.relname::text, obj_description(c.oid, 'pg_class') FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
             WHERE i.indrelid = $1 AND starts_with(c.relname::text, $2)",
            &[&migration.oid, &names::new_indexes(migration.id)],
        )
        .await
        .map_err(making(migration))?;
    let steps = { planned.indexes.iter().enumerate() }.filter(|(_, step)| step.online.is_some());
    let wanted: Vec<_> = steps
        .map(|(at, step)| (names::new_index(migration.id, at), Some(marked(step))))
        .collect();
    let mut left = Vec::new();
    for row in &made {
        let found = (row.try_get(0), row.try_get(1));
        let found = (
            found.0.map_err(making(migration))?,
            found.1.map_err(making(migration))?,
        );
        if !wanted.contains(&found) {
            left.push(found.0);
        }
    }
    Ok(left)
}

/// Whether every index that the swap needs is there, and no other.
pub(super) async fn are_ready(
    client: &Client,
    migration: &Migration,
    planned: &TablePlan,
) -> Result<bool, JobError> {
    for (at, step) in planned.indexes.iter().enumerate() {
        let name = names::new_index(migration.id, at);
        if step.online.is_some() && !is_ready(client, migration, &name, &marked(step)).await? {
            return Ok(false);
        }
    }
    Ok(unplanned(client, migration, planned).await?.is_empty())
}

/// What it is for and how it was made, kept as its comment: the table's indexes may change before the swap.
fn marked(step: &IndexStep) -> String {
    let online = step.online.as_ref();
    let rest = online.map_or("", |online| online.rest.as_str());
    let unique = online.is_some_and(|online| online.unique);
    let unique = if unique { "unique, " } else { "" };
    format!("{}: {unique}{rest}", step.name)
}

async fn is_ready(
    client: &Client,
    migration: &Migration,
    name: &str,
    mark: &str,
) -> Result<bool, JobError> {
    let row = client
        .query_opt(
            "SELECT i.indisvalid AND obj_description(c.oid, 'pg_class') IS NOT DISTINCT FROM $3 \
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1 AND c.relname = $2",
            &[&migration.oid, &name, &mark],
        )
        .await;
    let row = row.map_err(making(migration))?;
    row.map_or(Ok(false), |row| row.try_get(0).map_err(making(migration)))
}

async fn anew(
    client: &Client,
    migration: &Migration,
    name: &str,
    create: &str,
    mark: &str,
) -> Result<(), JobError> {
    let path = sql::qualified(&migration.schema, name);
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
