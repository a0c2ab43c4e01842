//! Reads names and types of the live database into a `policy::catalog::Catalog`, and tells cheaply whether they
//! changed. Decides nothing about them.
//!
//! Needs no rights beyond what PUBLIC has, and works on PostgreSQL 14 to 18.

mod busy;
pub mod seen;

use std::sync::Arc;

use pgveil_keys::keystore::registry::{self, Registry};
use pgveil_policy::catalog::{Catalog, Column, Function, Relation, Type, Unique, session};
use tokio_postgres::{Client, Row, error::SqlState};

use crate::{JobError, sql};

/// A DDL statement that commits while the catalog is read can make one of its functions fail; then it is read again.
const ATTEMPTS: usize = 5;
/// What [`read_beside`] waits for a lock that another transaction got between its question and its reading.
const SHORT_WAIT: &str = "SET LOCAL lock_timeout = '250ms'";

/// Reads the catalog of the connection's database, in one read-only transaction of its own: `client` must not be in
/// one. Temporary relations are left out; a session asks for its own. Waits for transactions that change a relation. As which
/// numbers labels are sealed is judged.
pub async fn read(client: &Client, registry: &Registry) -> Result<Catalog, JobError> {
    Ok(read_again(client, Some(registry), None).await?.0)
}

/// The same with the labels as they stand there: values of enum types are neither sealed nor opened by it.
pub async fn read_unjudged(client: &Client) -> Result<Catalog, JobError> {
    Ok(read_again(client, None, None).await?.0)
}

/// The same without waiting for anybody: definitions of relations that another transaction has locked to change them are
/// taken from what was known before. Also returns the relations so locked, if anything had to be taken from there. Without a
/// registry, labels are not judged.
pub async fn read_beside(
    client: &Client,
    registry: Option<&Registry>,
    before: Option<&Catalog>,
) -> Result<(Catalog, Vec<u32>), JobError> {
    read_again(client, registry, before).await
}

/// The relations that other transactions have locked to change them.
pub async fn being_changed(client: &Client) -> Result<Vec<u32>, JobError> {
    let rows = rows(client, busy::BUSY).await?;
    let oids = rows.iter().map(|row| row.try_get(0));
    oids.collect::<Result<_, _>>().map_err(reading)
}

async fn read_again(
    client: &Client,
    registry: Option<&Registry>,
    before: Option<&Catalog>,
) -> Result<(Catalog, Vec<u32>), JobError> {
    let mut attempt = 1;
    loop {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        client
            .batch_execute(begin)
            .await
            .map_err(JobError::while_doing("begin reading the catalog"))?;
        let catalog = match before {
            Some(before) => {
                read_without_waiting(client, registry, before, attempt == ATTEMPTS).await
            }
            None => read_but(client, registry, |sql| busy::without(sql, &[]))
                .await
                .map(|catalog| (catalog, Vec::new())),
        };
        client
            .batch_execute("ROLLBACK")
            .await
            .map_err(JobError::while_doing("end reading the catalog"))?;
        match catalog {
            Err(error) if attempt < ATTEMPTS && is_race(&error) => attempt += 1,
            result => return result,
        }
    }
}

/// With `nothing_new`, of no relation is anything printed.
async fn read_without_waiting(
    client: &Client,
    registry: Option<&Registry>,
    before: &Catalog,
    nothing_new: bool,
) -> Result<(Catalog, Vec<u32>), JobError> {
    client
        .batch_execute(SHORT_WAIT)
        .await
        .map_err(JobError::while_doing("limit the wait for locks"))?;
    let mut busy = being_changed(client).await?;
    let mut catalog = if nothing_new {
        // No relation's OID: the next look finds others locked, whoever it is.
        busy.insert(0, 0);
        read_but(client, registry, busy::without_all).await?
    } else {
        read_but(client, registry, |sql| busy::without(sql, &busy)).await?
    };
    let any = busy::fill(&mut catalog, before);
    Ok((catalog, if any { busy } else { Vec::new() }))
}

/// The same inside the caller's transaction, whose `search_path` is set to nothing until its end, so that
/// expressions are printed with qualified names, and whose statements are not compiled.
pub(crate) async fn read_in_transaction(
    client: &Client,
    registry: &Registry,
) -> Result<Catalog, JobError> {
    read_but(client, Some(registry), |sql| busy::without(sql, &[])).await
}

/// The same with the labels as they stand there.
pub(crate) async fn read_in_transaction_unjudged(client: &Client) -> Result<Catalog, JobError> {
    read_but(client, None, |sql| busy::without(sql, &[])).await
}

/// The catalog, with the queries changed by `but`.
async fn read_but(
    client: &Client,
    registry: Option<&Registry>,
    but: impl Fn(&str) -> String,
) -> Result<Catalog, JobError> {
    // Compiled, such a question takes far longer than it runs.
    let settings = "SET LOCAL search_path = pg_catalog; SET LOCAL jit = off";
    client
        .batch_execute(settings)
        .await
        .map_err(JobError::while_doing("set the search path"))?;
    let database = rows(client, "SELECT current_database()::text").await?;
    let relations = rows(client, &but(include_str!("catalog/relations.sql"))).await?;
    let columns = rows(client, &but(include_str!("catalog/columns.sql"))).await?;
    let uniques = rows(client, &but(include_str!("catalog/uniques.sql"))).await?;
    let functions = rows(client, &but(include_str!("catalog/functions.sql"))).await?;
    let types = rows(client, include_str!("catalog/types.sql")).await?;
    let system = rows(client, include_str!("catalog/system.sql")).await?;
    let system = { system.iter() }
        .map(|row| Ok((row.try_get("proname")?, row.try_get("columns")?)))
        .collect::<Result<_, _>>()
        .map_err(reading)?;

    let mut catalog = Catalog {
        database: database
            .first()
            .map_or_else(|| Ok(String::new()), |row| row.try_get(0))
            .map_err(reading)?,
        functions: functions
            .iter()
            .map(function)
            .collect::<Result<_, _>>()
            .map_err(reading)?,
        types: types
            .iter()
            .map(type_of)
            .collect::<Result<_, _>>()
            .map_err(reading)?,
        sealed_labels: match registry {
            Some(registry) => registry.labels(client).await?,
            None => registry::labels_unjudged(client).await?,
        },
        system_functions: Arc::new(system),
        ..Catalog::default()
    };
    for row in &relations {
        add_relation(&mut catalog, row).map_err(reading)?;
    }
    for row in &columns {
        if let Some(relation) = owner(&mut catalog, row).map_err(reading)? {
            relation.columns.push(column(row).map_err(reading)?);
        }
    }
    for row in &uniques {
        if let Some(relation) = owner(&mut catalog, row).map_err(reading)? {
            relation.uniques.push(unique(row).map_err(reading)?);
        }
    }
    Ok(catalog)
}

/// A number that changes whenever committed DDL touched something that `read` reads: relations, columns, defaults,
/// indexes, inheritance, rules, triggers, functions, domains, enums, schemas. Cheap enough to ask every few seconds (one
/// statement, no locks, no transaction of its own).
///
/// It cannot see temporary objects, DDL that has not committed, roles and settings, nor what a superuser writes
/// into the system's own schemas. Two catalogs share a number with a chance of 2^-64.
pub async fn fingerprint(client: &Client) -> Result<u64, JobError> {
    let rows = rows(client, include_str!("catalog/fingerprint.sql")).await?;
    let mark: i64 = rows
        .first()
        .map_or(Ok(0), |row| row.try_get(0))
        .map_err(reading)?;
    Ok(mark.cast_unsigned())
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<Row>, JobError> {
    client
        .query(sql, &[])
        .await
        .map_err(JobError::while_doing("read the catalog"))
}

fn reading(source: tokio_postgres::Error) -> JobError {
    JobError::while_doing("understand a row of the catalog")(source)
}

/// `cache lookup failed for ...` and its like: an object went, or was locked, while it was read.
fn is_race(error: &JobError) -> bool {
    [
        SqlState::INTERNAL_ERROR,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::LOCK_NOT_AVAILABLE,
    ]
    .iter()
    .any(|state| error.sqlstate() == Some(state))
}

fn add_relation(catalog: &mut Catalog, row: &Row) -> Result<(), tokio_postgres::Error> {
    let relation = Relation {
        oid: row.try_get("oid")?,
        schema: row.try_get("nspname")?,
        name: row.try_get("relname")?,
        kind: char::from(row.try_get::<_, i8>("relkind")?.cast_unsigned()),
        columns: Vec::new(),
        reshaped: false,
        uniques: Vec::new(),
        reads: row.try_get("reads")?,
        calls: row.try_get("calls")?,
        parents: row.try_get("parents")?,
        trigger_functions: row.try_get("trigger_functions")?,
        has_rules: row.try_get("has_rules")?,
        has_instead_triggers: row.try_get("has_instead_triggers")?,
        definition: row.try_get("definition")?,
        partition_key: row.try_get("partition_key")?,
        is_partition: row.try_get("relispartition")?,
    };
    let place = catalog.relations.len();
    catalog
        .by_name
        .insert((relation.schema.clone(), relation.name.clone()), place);
    catalog.by_oid.insert(relation.oid, place);
    catalog.relations.push(relation);
    Ok(())
}

/// The relation that a row's first column names. Committed in between and therefore not there: none.
fn owner<'a>(
    catalog: &'a mut Catalog,
    row: &Row,
) -> Result<Option<&'a mut Relation>, tokio_postgres::Error> {
    let oid: u32 = row.try_get(0)?;
    Ok(catalog
        .by_oid
        .get(&oid)
        .and_then(|place| catalog.relations.get_mut(*place)))
}

fn column(row: &Row) -> Result<Column, tokio_postgres::Error> {
    Ok(Column {
        attnum: row.try_get("attnum")?,
        name: row.try_get("attname")?,
        type_oid: row.try_get("atttypid")?,
        base_type_oid: row.try_get("base_type")?,
        type_name: row.try_get("type_name")?,
        typmod: row.try_get("atttypmod")?,
        not_null: row.try_get("attnotnull")?,
        default: row.try_get("default_expression")?,
        generated: row.try_get("generated")?,
        identity: row.try_get("identity")?,
    })
}

fn unique(row: &Row) -> Result<Unique, tokio_postgres::Error> {
    let keys: Vec<Option<String>> = row.try_get("keys")?;
    Ok(Unique {
        name: row.try_get("relname")?,
        primary: row.try_get("indisprimary")?,
        attnums: row.try_get("attnums")?,
        keys: keys.into_iter().flatten().map(sql::index_key).collect(),
        partial: row.try_get("partial")?,
    })
}

fn type_of(row: &Row) -> Result<Type, tokio_postgres::Error> {
    let oids: Option<Vec<u32>> = row.try_get("label_oids")?;
    let labels: Option<Vec<String>> = row.try_get("labels")?;
    Ok(Type {
        oid: row.try_get("oid")?,
        array_oid: row.try_get("typarray")?,
        schema: row.try_get("nspname")?,
        name: row.try_get("typname")?,
        labels: oids
            .zip(labels)
            .map(|(oids, labels)| oids.into_iter().zip(labels).collect()),
    })
}

fn function(row: &Row) -> Result<Function, tokio_postgres::Error> {
    Ok(Function {
        oid: row.try_get("oid")?,
        schema: row.try_get("nspname")?,
        name: row.try_get("proname")?,
        body: row.try_get("body")?,
        returns_relation: row.try_get("returns_relation")?,
        language: row.try_get("language")?,
        kind: char::from(row.try_get::<_, i8>("prokind")?.cast_unsigned()),
        returns_set: row.try_get("proretset")?,
        parsed: row.try_get("parsed")?,
        settings: row.try_get("settings")?,
        shadows: row.try_get("shadows")?,
        defaults: usize::try_from(row.try_get::<_, i16>("pronargdefaults")?).unwrap_or_default(),
        // What cannot be read is no function that could be called.
        parameters: session::read_parameters(row.try_get("parameters")?).unwrap_or_default(),
    })
}
