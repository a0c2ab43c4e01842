//! What it takes to bring sealed columns of a table back to plaintext while it is used: the indexes that are made anew on the
//! values, and what has to go first. Changes nothing.

use pgveil_config::SearchKey;
use pgveil_policy::{
    catalog::{Catalog, Relation},
    ruleset::RegisteredColumn,
    template::ScopeTemplate,
};
use tokio_postgres::Client;

use super::{ColumnPlan, Obstacle, TablePlan, index, obstacle, table::empty};
use crate::{JobError, held, migrate::names, sql};

/// Plans the decryption of columns of one table, which are registered at their places. `None`: one of them is not what its
/// registration says.
pub(crate) async fn of_columns(
    client: &Client,
    catalog: &Catalog,
    relation: &Relation,
    columns: &[RegisteredColumn],
) -> Result<Option<TablePlan>, JobError> {
    let Ok(scope) = ScopeTemplate::parse("platform") else {
        return Ok(None);
    };
    let mut table = empty(relation, scope);
    for past in columns {
        let column = relation.attribute(past.place.1);
        let sealed = column.filter(|column| column.sealed_domain().is_some());
        let (Some(column), Ok(logical)) = (sealed, catalog.parse_type(&past.logical_type)) else {
            return Ok(None);
        };
        table.columns.push(ColumnPlan {
            attnum: column.attnum,
            name: column.name.clone(),
            from_name: column.type_name.clone(),
            from: logical,
            to: logical,
            equality: past.equality,
            search_key: if past.shared_key {
                SearchKey::Shared
            } else {
                SearchKey::Scope
            },
            equality_group: past.equality_group.clone(),
        });
        if past.change.is_some() {
            table.obstacles.push(Obstacle::blocks(
                format!(
                    "the values of {} are being changed",
                    sql::shown(&past.column)
                ),
                "finish that first: pgveil apply",
            ));
        }
    }
    table.columns.sort_by_key(|column| column.attnum);
    obstacle::of_table(client, &mut table).await?;
    obstacle::of_migrating(client, catalog, &mut table).await?;
    // What they warn of is about sealing.
    table.obstacles.retain(|obstacle| obstacle.blocks);
    let only = std::mem::take(&mut table.only_at_once);
    let cure = "it cannot be decrypted while it is there: copy the values with the application instead, or remove that";
    let only = only.into_iter().map(|why| Obstacle::blocks(why, cure));
    table.obstacles.extend(only);
    dependents(client, &mut table).await?;
    let heirs = catalog.heirs(table.oid);
    for heir in obstacle::with_dependents(client, &table, heirs).await? {
        of_heir(client, &mut table, heir).await?;
    }
    index::plan_opened(client, &mut table).await?;
    Ok(Some(table))
}

/// The same of a partition, and its own indexes.
async fn of_heir(client: &Client, table: &mut TablePlan, heir: &Relation) -> Result<(), JobError> {
    let mut part = obstacle::of_heir(table, heir);
    dependents(client, &mut part).await?;
    for name in obstacle::own_indexes(client, &part).await? {
        let (shown, index) = (part.shown(), sql::shown_qualified(&part.schema, &name));
        part.obstacles.push(Obstacle::blocks(
            format!("index {index} of {shown} alone is on a column to decrypt"),
            format!("DROP INDEX {index}; and make it again afterwards: it would go with the sealed column"),
        ));
    }
    for obstacle in part.obstacles {
        if !table.obstacles.contains(&obstacle) {
            table.obstacles.push(obstacle);
        }
    }
    Ok(())
}

/// What hangs on the sealed columns would go with them.
async fn dependents(client: &Client, table: &mut TablePlan) -> Result<(), JobError> {
    let attnums: Vec<i16> = table.columns.iter().map(|column| column.attnum).collect();
    let doing = || JobError::while_doing(format!("read what depends on {}", table.shown()));
    let rows = client
        .query(include_str!("dependents.sql"), &[&table.oid, &attnums])
        .await
        .map_err(doing())?;
    let mut found = Vec::new();
    for row in &rows {
        let attnum: i16 = row.try_get("attnum").map_err(doing())?;
        let kind: String = row.try_get("kind").map_err(doing())?;
        let name: String = row.try_get("name").map_err(doing())?;
        let column = table.columns.iter().find(|column| column.attnum == attnum);
        let Some(column) = column.filter(|_| !names::is_own(&name)) else {
            continue;
        };
        let kind = match kind.as_str() {
            "constraint c" => "CHECK constraint",
            "constraint f" => "foreign key",
            "constraint t" => "constraint trigger",
            "policy" => "row security policy",
            "statistics" => "extended statistics",
            other => other,
        };
        let obstacle = Obstacle::blocks(
            format!("{kind} {name} uses {}", sql::shown(&column.name)),
            "drop it, and make it again afterwards: it would go with the sealed column",
        );
        if !found.contains(&obstacle) {
            found.push(obstacle);
        }
    }
    table.obstacles.extend(found);
    Ok(())
}

/// Values that were moved elsewhere can be read for as long as the policy names the column that sealed them. Looks at every
/// column of the database that may hold some.
pub(crate) async fn copies(
    client: &Client,
    (catalog, table): (&Catalog, &TablePlan),
    columns: &[RegisteredColumn],
) -> Result<Vec<Obstacle>, JobError> {
    let heirs = catalog.heirs(table.oid).into_iter();
    let mut family: Vec<u32> = heirs.map(|heir| heir.oid).collect();
    family.push(table.oid);
    let mut found = Vec::new();
    let doing = || JobError::while_doing("look for copies of values");
    let ids: Vec<Vec<u8>> = { columns.iter() }
        .map(|past| past.id.0.to_be_bytes().to_vec())
        .collect();
    for held in held::columns(client).await.map_err(doing())? {
        let own = { table.columns.iter() }
            .any(|column| held.column == column.name || held.column == sql::quoted(&column.name));
        if own && family.contains(&held.oid) {
            continue;
        }
        let held::Held {
            table: place,
            column,
            is_array,
            ..
        } = held;
        let value = if is_array {
            format!("unnest({column})::pg_catalog.bytea")
        } else {
            format!("{column}::pg_catalog.bytea")
        };
        let is_one = held::is_sealed_and(
            "v",
            "pg_catalog.substr(v, 5, 4) = ANY ($1::pg_catalog.bytea[])",
        );
        let asked = format!(
            "SELECT EXISTS (SELECT FROM (SELECT {value} AS v FROM ONLY {place}) AS held WHERE {is_one})"
        );
        let row = client.query_one(&asked, &[&ids]).await.map_err(doing())?;
        if row.try_get(0).map_err(doing())? {
            found.push(Obstacle::blocks(
                format!("{place}.{column} holds copies of its values, which stay sealed and could not be read any more"),
                "clear that column, or write the values anew through pgveil, as those of a column that stays protected",
            ));
        }
    }
    Ok(found)
}
