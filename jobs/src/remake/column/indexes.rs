//! Indexes on the terms of a column that gets some or loses them. They are planned as `pgveil plan` plans them, at the moment
//! when they are made; the server builds and drops them while the table is used.

use pgveil_config::Settings;
use pgveil_keys::database::Database;
use pgveil_policy::{catalog::Relation, ruleset::RegisteredColumn, template::ScopeTemplate};

use super::{WantedColumn, What};
use crate::{
    JobError, catalog, connect,
    plan::{IndexStep, change},
    sql,
};

/// Waits for whatever must end; names are printed with their schemas.
const SET_UP: &str = "SET search_path = pg_catalog, pg_temp; SET statement_timeout = 0; SET lock_timeout = 0; \
    SET idle_in_transaction_session_timeout = '1min'";
/// Invalid indexes of a table on terms, whose names begin with one of these.
const UNFINISHED: &str = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index i \
    JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE i.indrelid = $1 AND NOT i.indisvalid AND pg_get_indexdef(i.indexrelid) LIKE '%pgveil.eq_term(%' \
        AND EXISTS (SELECT FROM unnest($2::text[]) AS stem WHERE starts_with(c.relname, stem)) \
    ORDER BY c.oid";

/// Every value bears a term: the indexes that search wants are made, unless they are there.
pub(super) async fn make(
    settings: &Settings,
    column: &RegisteredColumn,
    wanted: &WantedColumn,
    scope: &ScopeTemplate,
) -> Result<(), JobError> {
    let client = open(settings).await?;
    let made = make_all(&client, column, wanted, scope).await;
    client.close().await;
    made
}

async fn make_all(
    client: &Database,
    column: &RegisteredColumn,
    wanted: &WantedColumn,
    scope: &ScopeTemplate,
) -> Result<(), JobError> {
    let What::AddTerms {
        shared_key,
        equality_group,
    } = &wanted.what
    else {
        return Ok(());
    };
    let catalog = catalog::read_unjudged(client).await?;
    let Some(relation) = catalog.relation_by_oid(column.place.0) else {
        return Ok(());
    };
    let searched = change::Searched {
        column: name_of(relation, column),
        scope,
        shared_key: *shared_key,
        equality_group: equality_group.as_ref(),
    };
    let mut steps = change::indexes_of(client, relation, &searched).await?;
    if drop_unfinished(client, relation.oid, &steps).await? {
        steps = change::indexes_of(client, relation, &searched).await?;
    }
    for step in steps {
        let Some(create) = &step.create else { continue };
        // The server makes those of a partitioned table's partitions with it, and not concurrently.
        let sql = if relation.kind == 'p' {
            create.clone()
        } else {
            create.replacen("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1)
        };
        run(client, &sql, "make", &step, relation).await?;
    }
    Ok(())
}

/// Whoever was killed while it made an index concurrently left one that is written to and never read.
async fn drop_unfinished(
    client: &Database,
    table: u32,
    steps: &[IndexStep],
) -> Result<bool, JobError> {
    let doing = || JobError::while_doing("drop an unfinished index on search terms");
    let stems: Vec<&str> = { steps.iter() }
        .filter(|step| step.create.is_some())
        .map(|step| step.name.trim_end_matches(|c: char| c.is_ascii_digit()))
        .collect();
    let found = client.query(UNFINISHED, &[&table, &stems]).await;
    let found = found.map_err(doing())?;
    for row in &found {
        let index: &str = row.try_get(0).map_err(doing())?;
        let sql = format!("DROP INDEX CONCURRENTLY {index}");
        client.batch_execute(&sql).await.map_err(doing())?;
    }
    Ok(!found.is_empty())
}

/// Nobody compares terms any more: indexes on them go. Answers what must go first, and is not pgveil's to drop.
pub(super) async fn drop(
    settings: &Settings,
    column: &RegisteredColumn,
) -> Result<Option<String>, JobError> {
    let client = open(settings).await?;
    let dropped = drop_all(&client, column).await;
    client.close().await;
    dropped
}

async fn drop_all(
    client: &Database,
    column: &RegisteredColumn,
) -> Result<Option<String>, JobError> {
    let catalog = catalog::read_unjudged(client).await?;
    let Some(relation) = catalog.relation_by_oid(column.place.0) else {
        return Ok(None);
    };
    let name = name_of(relation, column);
    let (steps, obstacles) = change::users_of(client, &catalog, relation, name).await?;
    if let Some(first) = obstacles.iter().find(|obstacle| obstacle.blocks) {
        return Ok(Some(format!("{}: {}", first.what, first.cure)));
    }
    for step in steps {
        let Some(drop) = &step.drop else { continue };
        run(client, drop, "drop", &step, relation).await?;
    }
    Ok(None)
}

/// What the column is called now.
fn name_of<'a>(relation: &'a Relation, column: &'a RegisteredColumn) -> &'a str {
    let now = relation.attribute(column.place.1);
    now.map_or(&column.column, |now| &now.name)
}

async fn open(settings: &Settings) -> Result<Database, JobError> {
    let client = connect(settings).await?;
    let set = client.batch_execute(SET_UP).await;
    set.map_err(JobError::while_doing("prepare a connection for indexes"))?;
    Ok(client)
}

async fn run(
    client: &Database,
    statement: &str,
    what: &str,
    step: &IndexStep,
    relation: &Relation,
) -> Result<(), JobError> {
    let done = client.batch_execute(statement).await;
    done.map_err(JobError::while_doing(format!(
        "{what} index {} on the search terms of {}",
        step.name,
        sql::shown_qualified(&relation.schema, &relation.name)
    )))
}
