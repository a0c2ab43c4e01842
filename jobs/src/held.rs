//! Columns that hold, or may hold, sealed values: the one list that counting and rewriting share. It reads no row.

use tokio_postgres::Client;

/// A column of the sealed domains, of arrays of them, or of plain bytea, into which sealed values can be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Its table's OID.
    pub(crate) oid: u32,
    /// Its table: `schema.table`, each quoted where it must be.
    pub(crate) table: String,
    /// Its name, quoted where it must be.
    pub(crate) column: String,
    /// Its type, as the server writes it.
    pub(crate) type_name: String,
    /// Whether the values are elements of arrays.
    pub(crate) is_array: bool,
    /// Whether nobody can write it: its table is a materialized view.
    pub(crate) is_view: bool,
}

/// Temporary tables of other sessions cannot be read; they end with their sessions.
const COLUMNS: &str = "WITH RECURSIVE bytes AS (SELECT 'bytea'::pg_catalog.regtype::oid AS oid \
        UNION SELECT t.oid FROM pg_catalog.pg_type t, bytes WHERE t.typbasetype = bytes.oid), \
    held AS (SELECT oid, false AS is_array FROM bytes \
        UNION SELECT t.oid, true FROM pg_catalog.pg_type t, bytes WHERE t.typelem = bytes.oid AND t.typcategory = 'A'), \
    arrays AS (SELECT * FROM held \
        UNION SELECT t.oid, a.is_array FROM pg_catalog.pg_type t, arrays a WHERE t.typbasetype = a.oid) \
    SELECT c.oid, format('%I.%I', n.nspname, c.relname), quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), \
        arrays.is_array, c.relkind = 'm' \
    FROM pg_catalog.pg_attribute a \
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't' \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    JOIN arrays ON arrays.oid = a.atttypid \
    WHERE a.attnum > 0 AND NOT a.attisdropped AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgveil') \
        AND n.nspname !~ '^pg_toast' \
    ORDER BY 2, 3";

/// All of the database, by table. Wants `search_path = pg_catalog`.
pub(crate) async fn columns(client: &Client) -> Result<Vec<Held>, tokio_postgres::Error> {
    let rows = client.query(COLUMNS, &[]).await?;
    let held = |row: &tokio_postgres::Row| {
        Ok(Held {
            oid: row.try_get(0)?,
            table: row.try_get(1)?,
            column: row.try_get(2)?,
            type_name: row.try_get(3)?,
            is_array: row.try_get(4)?,
            is_view: row.try_get(5)?,
        })
    };
    rows.iter().map(held).collect()
}

/// A condition on an expression of type bytea: that it begins as a sealed value does, and that `wants` holds of it.
pub(crate) fn is_sealed_and(value: &str, wants: &str) -> String {
    format!(
        "(pg_catalog.octet_length({value}) >= 45 AND pg_catalog.substr({value}, 1, 4) = '\\x50475601'::pg_catalog.bytea AND {wants})"
    )
}
