//! Table `pgveil.columns`: which id means which protected column. Works on any connection, so that `apply` can register
//! a column in the transaction that converts it. Ids are never reused, rows never deleted.

use std::time::Duration;

use pgveil_policy::{
    plan::ColumnId,
    ruleset::{Change, RegisteredColumn, ShownAt},
};
use tokio_postgres::{GenericClient, Row};

use super::KeystoreError;

/// How long a process goes by what it has read of the catalog and the registry: nothing protected is planned with what is
/// older. Who changes a column's description waits that long before anything is done that those who do not know it yet
/// would not understand.
pub const LEASE: Duration = Duration::from_secs(5);

/// A column to protect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewColumn {
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Column.
    pub column: String,
    /// `pg_class.oid` of the table.
    pub table_oid: u32,
    /// `pg_attribute.attnum` of the column.
    pub attnum: i16,
    /// What applications see, with modifiers.
    pub logical_type: String,
    /// Values carry equality terms.
    pub equality: bool,
    /// Terms are made with the platform's index key.
    pub shared_key: bool,
    /// The equality group.
    pub equality_group: Option<String>,
    /// The scope template whose keys make the terms, verbatim.
    pub scope: String,
}

/// A row of `pgveil.columns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What the policy needs of it.
    pub column: RegisteredColumn,
    /// `pg_class.oid` when it was registered.
    pub table_oid: u32,
    /// `pg_attribute.attnum` when it was registered.
    pub attnum: i16,
    /// No longer protected; stored values may still name it.
    pub retired: bool,
}

macro_rules! select_columns {
    ($rest:literal) => {
        concat!(
            "SELECT id, schema_name, table_name, column_name, logical_type, equality, shared_key, equality_group, \
             table_oid, attnum, retired_at IS NOT NULL, scope_template, \
             (pg_catalog.to_jsonb(columns) ->> 'shown_at')::int2, \
             CASE pg_catalog.jsonb_typeof(pg_catalog.to_jsonb(columns) -> 'shown_before') WHEN 'array' \
             THEN ARRAY(SELECT pg_catalog.jsonb_array_elements_text(pg_catalog.to_jsonb(columns) -> 'shown_before')) END, \
             pg_catalog.to_jsonb(columns) ->> 'change', pg_catalog.to_jsonb(columns) ->> 'change_type', \
             coalesce((pg_catalog.to_jsonb(columns) ->> 'searched')::bool, false) \
             FROM pgveil.columns ",
            $rest
        )
    };
}

/// The columns that are protected now, by id. A name stands in it once.
pub async fn list(client: &impl GenericClient) -> Result<Vec<RegisteredColumn>, KeystoreError> {
    let rows = client
        .query(select_columns!("WHERE retired_at IS NULL ORDER BY id"), &[])
        .await?;
    rows.iter()
        .map(|row| parse(row).map(|registration| registration.column))
        .collect()
}

/// All columns that were ever protected, by id: every id that a stored value can name.
pub async fn history(client: &impl GenericClient) -> Result<Vec<Registration>, KeystoreError> {
    let rows = client.query(select_columns!("ORDER BY id"), &[]).await?;
    rows.iter().map(parse).collect()
}

/// The greatest id that was ever given.
pub async fn newest(client: &impl GenericClient) -> Result<Option<ColumnId>, KeystoreError> {
    let row = client
        .query_one("SELECT max(id) FROM pgveil.columns", &[])
        .await?;
    let id: Option<i32> = row.try_get(0)?;
    id.map(|id| u32::try_from(id).map(ColumnId).map_err(|_| damaged()))
        .transpose()
}

/// Gives a column an id. Refused (unique) while the same column is registered and not retired.
pub async fn register(
    client: &impl GenericClient,
    column: &NewColumn,
) -> Result<ColumnId, KeystoreError> {
    let row = client
        .query_one(
            "INSERT INTO pgveil.columns (schema_name, table_name, column_name, table_oid, attnum, logical_type, \
             equality, shared_key, equality_group, scope_template) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
             RETURNING id",
            &[
                &column.schema,
                &column.table,
                &column.column,
                &column.table_oid,
                &column.attnum,
                &column.logical_type,
                &column.equality,
                &column.shared_key,
                &column.equality_group,
                &column.scope,
            ],
        )
        .await?;
    column_id(&row)
}

/// Gives a registration the names and the place that its column has now.
pub async fn moved(
    client: &impl GenericClient,
    id: ColumnId,
    names: (&str, &str, &str),
    place: (u32, i16),
) -> Result<(), KeystoreError> {
    let id = i32::try_from(id.0).map_err(|_| damaged())?;
    let (schema, table, column) = names;
    client
        .execute(
            "UPDATE pgveil.columns SET schema_name = $2, table_name = $3, column_name = $4, table_oid = $5, attnum = $6 \
             WHERE id = $1 AND retired_at IS NULL",
            &[&id, &schema, &table, &column, &place.0, &place.1],
        )
        .await?;
    Ok(())
}

/// Notes where applications see a column that the server keeps elsewhere; `None`: where it stands.
pub async fn shown_at(
    client: &impl GenericClient,
    id: ColumnId,
    shown: Option<&ShownAt>,
) -> Result<(), KeystoreError> {
    let id = i32::try_from(id.0).map_err(|_| damaged())?;
    let attnum = shown.map(|shown| shown.attnum);
    let before = shown.map(|shown| shown.before.as_slice());
    client
        .execute(
            "UPDATE pgveil.columns SET shown_at = $2, shown_before = $3 WHERE id = $1",
            &[&id, &attnum, &before],
        )
        .await?;
    Ok(())
}

/// How often descriptions of columns were changed: another number means that they are to be read again.
pub async fn revision(client: &impl GenericClient) -> Result<i64, KeystoreError> {
    let row = client
        .query_one(
            "SELECT coalesce(sum(revision), 0)::int8 FROM pgveil.columns",
            &[],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// What a column's values are from now on, or are becoming. Every replica follows within [`LEASE`].
///
/// Answers whether the column was as `before` says until now, and not retired.
pub async fn describe(
    client: &impl GenericClient,
    before: &RegisteredColumn,
    now: &RegisteredColumn,
) -> Result<bool, KeystoreError> {
    let id = i32::try_from(before.id.0).map_err(|_| damaged())?;
    let (was, _) = stored(before.change.as_ref());
    let (change, change_type) = stored(now.change.as_ref());
    let changed = client
        .execute(
            "UPDATE pgveil.columns SET logical_type = $4, equality = $5, shared_key = $6, equality_group = $7, \
             scope_template = $8, change = $9, change_type = $10, revision = revision + 1, \
             searched = searched OR $3 OR $5 OR $9 IS NOT DISTINCT FROM 'adding terms' \
             WHERE id = $1 AND retired_at IS NULL AND change IS NOT DISTINCT FROM $2 AND equality = $3",
            &[
                &id,
                &was,
                &before.equality,
                &now.logical_type,
                &now.equality,
                &now.shared_key,
                &now.equality_group,
                &now.scope,
                &change,
                &change_type,
            ],
        )
        .await?;
    Ok(changed == 1)
}

fn stored(change: Option<&Change>) -> (Option<&'static str>, Option<&str>) {
    match change {
        None => (None, None),
        Some(Change::AddingTerms) => (Some("adding terms"), None),
        Some(Change::EndingTerms) => (Some("ending terms"), None),
        Some(Change::DroppingTerms) => (Some("dropping terms"), None),
        Some(Change::Widening(to)) => (Some("widening"), Some(to)),
        Some(Change::Narrowing(to)) => (Some("narrowing"), Some(to)),
    }
}

/// Marks a column as no longer protected. Its id stays known, because values sealed for it may still be around.
/// Answers whether it was protected until now.
pub async fn retire(client: &impl GenericClient, column: ColumnId) -> Result<bool, KeystoreError> {
    let id = i32::try_from(column.0).map_err(|_| damaged())?;
    let retired = client
        .execute(
            "UPDATE pgveil.columns SET retired_at = now() WHERE id = $1 AND retired_at IS NULL",
            &[&id],
        )
        .await?;
    Ok(retired == 1)
}

fn parse(row: &Row) -> Result<Registration, KeystoreError> {
    let column = RegisteredColumn {
        id: column_id(row)?,
        schema: row.try_get(1)?,
        table: row.try_get(2)?,
        column: row.try_get(3)?,
        logical_type: row.try_get(4)?,
        equality: row.try_get(5)?,
        shared_key: row.try_get(6)?,
        equality_group: row.try_get(7)?,
        scope: row.try_get(11)?,
        place: (row.try_get(8)?, row.try_get(9)?),
        shown: shown(row)?,
        change: change(row)?,
        searched: row.try_get(16)?,
    };
    Ok(Registration {
        column,
        table_oid: row.try_get(8)?,
        attnum: row.try_get(9)?,
        retired: row.try_get(10)?,
    })
}

fn shown(row: &Row) -> Result<Option<ShownAt>, KeystoreError> {
    let attnum: Option<i16> = row.try_get(12)?;
    let before: Option<Vec<String>> = row.try_get(13)?;
    let before = before.unwrap_or_default();
    Ok(attnum.map(|attnum| ShownAt { attnum, before }))
}

/// `to_jsonb` above: a keystore of the version before has no such column, and is planned for all the same.
fn change(row: &Row) -> Result<Option<Change>, KeystoreError> {
    let Some(change): Option<String> = row.try_get(14)? else {
        return Ok(None);
    };
    let logical_type = || row.try_get::<_, Option<String>>(15)?.ok_or_else(damaged);
    Ok(Some(match change.as_str() {
        "adding terms" => Change::AddingTerms,
        "ending terms" => Change::EndingTerms,
        "dropping terms" => Change::DroppingTerms,
        "widening" => Change::Widening(logical_type()?),
        "narrowing" => Change::Narrowing(logical_type()?),
        _ => return Err(damaged()),
    }))
}

fn column_id(row: &Row) -> Result<ColumnId, KeystoreError> {
    u32::try_from(row.try_get::<_, i32>(0)?)
        .map(ColumnId)
        .map_err(|_| damaged())
}

fn damaged() -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.columns",
        reason: "an id out of range".to_owned(),
    }
}
