//! Columns that bear a registered name and stand elsewhere than the registered one did: a table was dropped and another one took
//! its name, or the database was restored from a dump. What their values were sealed for is read from the values. Writes nothing.

use pgveil_policy::{
    catalog::{Catalog, Column, Relation},
    ruleset::RegisteredColumn,
};
use tokio_postgres::{Client, error::SqlState};

use crate::{JobError, sql};

/// Where a sealed value names its column (docs/sealed-value.md): the first byte, counted from 1, and how many.
const COLUMN_ID: &str = "5, 4";

/// Gives registrations the place of the column that bears their name now, if it holds nothing but values that were sealed
/// for that registration, or with terms that match its own. Answers whether every such column could be looked at: a table that
/// somebody has locked is left for another time, since that one may be waiting for pgveil.
pub async fn recognise(
    client: &Client,
    catalog: &Catalog,
    registered: &mut [RegisteredColumn],
) -> Result<bool, JobError> {
    let mut all = true;
    for at in 0..registered.len() {
        let Some((relation, column)) = elsewhere(catalog, registered, at) else {
            continue;
        };
        if is_held(client, relation).await? {
            all = false;
            continue;
        }
        let past = &registered[at];
        let known: Vec<Vec<u8>> = registered
            .iter()
            .filter(|other| other.id == past.id || match_each_other(past, other))
            .map(|other| other.id.0.to_be_bytes().to_vec())
            .collect();
        if holds_only(client, relation, column, &known).await? {
            registered[at].place = (relation.oid, column.attnum);
        }
    }
    Ok(all)
}

/// The same for what a transaction sees that has not committed, where others see `known`: a column that is not in that is
/// taken for the registered one of its name.
pub fn made_in_a_transaction(seen: &Catalog, known: &Catalog, registered: &mut [RegisteredColumn]) {
    for at in 0..registered.len() {
        if let Some((relation, column)) = elsewhere(seen, registered, at) {
            let there = known.relation_by_oid(relation.oid);
            if there.is_none_or(|there| there.attribute(column.attnum).is_none()) {
                registered[at].place = (relation.oid, column.attnum);
            }
        }
    }
}

/// The column that bears the name of the newest registration of that name, if it is not the registered one.
fn elsewhere<'a>(
    catalog: &'a Catalog,
    registered: &[RegisteredColumn],
    at: usize,
) -> Option<(&'a Relation, &'a Column)> {
    let past = &registered[at];
    let relation = catalog.relation(&past.schema, &past.table)?;
    let column = relation.column(&past.column)?;
    column.sealed_domain()?;
    let place = (relation.oid, column.attnum);
    let same = registered
        .iter()
        .filter(|other| other.place == place || is_named_like(other, past));
    let is_newest = !same.clone().any(|other| other.id > past.id);
    let is_taken = { same }.any(|other| other.place == place);
    (is_newest && !is_taken).then_some((relation, column))
}

fn is_named_like(one: &RegisteredColumn, other: &RegisteredColumn) -> bool {
    (&one.schema, &one.table, &one.column) == (&other.schema, &other.table, &other.column)
}

/// Whether equal plaintexts of both have equal terms.
fn match_each_other(one: &RegisteredColumn, other: &RegisteredColumn) -> bool {
    one.equality
        && other.equality
        && one.equality_group.is_some()
        && one.equality_group == other.equality_group
        && one.logical_type == other.logical_type
        && one.shared_key == other.shared_key
        && one.scope == other.scope
}

/// Whether every value of a column names one of these ids. Who may not look at all rows cannot know.
async fn holds_only(
    client: &Client,
    relation: &Relation,
    column: &Column,
    ids: &[Vec<u8>],
) -> Result<bool, JobError> {
    if !may_look(client, relation).await? {
        return Ok(false);
    }
    let table = sql::qualified(&relation.schema, &relation.name);
    let name = sql::quoted(&column.name);
    let query = format!(
        "SELECT NOT EXISTS (SELECT FROM {table} WHERE \
         pg_catalog.substr({name}::pg_catalog.bytea, {COLUMN_ID}) <> ALL ($1::pg_catalog.bytea[]))"
    );
    let doing = || {
        JobError::while_doing(format!(
            "look at the values of {}.{}.{}",
            relation.schema, relation.name, column.name
        ))
    };
    match client.query_one(&query, &[&ids]).await {
        Ok(row) => row.try_get(0).map_err(doing()),
        Err(error) if error.code().is_some_and(is_gone) => Ok(false),
        Err(error) => Err(doing()(error)),
    }
}

/// It went meanwhile: there is nothing to know.
fn is_gone(code: &SqlState) -> bool {
    [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::INVALID_SCHEMA_NAME,
    ]
    .contains(code)
}

/// Whether another session holds a lock on a table, or waits for one, under which it cannot be read.
async fn is_held(client: &Client, relation: &Relation) -> Result<bool, JobError> {
    let doing = || JobError::while_doing("ask for the locks on a table");
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' \
             AND relation = $1 AND pid <> pg_catalog.pg_backend_pid() \
             AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))",
            &[&relation.oid],
        )
        .await
        .map_err(doing())?;
    row.try_get(0).map_err(doing())
}

/// Whether this role sees every row of a table.
pub(crate) async fn may_look(client: &Client, relation: &Relation) -> Result<bool, JobError> {
    let doing = || JobError::while_doing("ask for the rights on a table");
    let row = client
        .query_opt(
            "SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT') \
             AND NOT pg_catalog.row_security_active(c.oid) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
            &[&relation.oid],
        )
        .await
        .map_err(doing())?;
    row.map_or(Ok(false), |row| row.try_get(0).map_err(doing()))
}
