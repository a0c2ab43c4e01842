//! Where plaintext from before a migration may still lie, and what clears it. Clears nothing.

use tokio_postgres::Client;

use crate::{JobError, sql};

/// A table that was contracted, and whose file is still the one that held the plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// `schema.table`.
    pub table: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// When the plaintext column was dropped, as the server writes it.
    pub dropped_at: String,
    /// Rows that are dead and not vacuumed, as the server estimates.
    pub dead_rows: i64,
}

/// Not of tables that were decrypted since. DROP COLUMN hides values and removes none; VACUUM FULL and whatever else writes the table anew gives it another file.
fn traces(held: &str) -> String {
    format!(
        "SELECT n.nspname::text, c.relname::text, pg_catalog.pg_table_size(c.oid), \
         to_char(max(m.ended_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"'), coalesce(pg_catalog.pg_stat_get_dead_tuples(c.oid), 0) \
         FROM pgveil.migrations m {held} JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE m.phase = 'contracted' AND to_jsonb(m) ->> 'way' = 'seal' \
         AND NOT EXISTS (SELECT FROM pgveil.migrations d WHERE d.table_oid = m.table_oid AND d.id > m.id \
             AND to_jsonb(d) ->> 'way' = 'open' AND d.phase = 'contracted') \
         GROUP BY n.nspname, c.relname, c.oid ORDER BY 1, 2"
    )
}

/// Tables by themselves.
const TABLES: &str = "JOIN pg_catalog.pg_class c ON c.oid = m.table_oid \
    AND (to_jsonb(m) ->> 'file')::oid = pg_catalog.pg_relation_filenode(c.oid)";
/// The partitions of others.
const PARTS: &str = "JOIN pgveil.migrated_parts p ON p.migration = m.id \
    JOIN pg_catalog.pg_class c ON c.oid = p.part AND p.file = pg_catalog.pg_relation_filenode(c.oid)";

/// All of the database. None where there is no keystore.
pub(super) async fn of(client: &Client) -> Result<Vec<Trace>, JobError> {
    let doing = || JobError::while_doing("look where plaintext may still lie");
    let known = "SELECT to_regclass('pgveil.migrations') IS NOT NULL, to_regclass('pgveil.migrated_parts') IS NOT NULL";
    let known = client.query_one(known, &[]).await.map_err(doing())?;
    let is_known = |at: usize| known.try_get::<_, bool>(at);
    let mut rows = Vec::new();
    for (at, held) in [(0, TABLES), (1, PARTS)] {
        if is_known(at).map_err(doing())? {
            rows.extend(client.query(&traces(held), &[]).await.map_err(doing())?);
        }
    }
    let trace = |row: &tokio_postgres::Row| {
        let (schema, table): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Trace {
            table: sql::shown_qualified(&schema, &table),
            bytes: row.try_get::<_, i64>(2)?.unsigned_abs(),
            dropped_at: row.try_get(3)?,
            dead_rows: row.try_get(4)?,
        })
    };
    rows.iter()
        .map(trace)
        .collect::<Result<_, tokio_postgres::Error>>()
        .map_err(doing())
}
