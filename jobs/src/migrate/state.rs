//! Tables `pgveil.migrations` and `migrated_columns`: which tables are migrated online, and how far. Written in the
//! transactions that do the work.

use pgveil_keys::keystore::registry::{Begun, BegunColumn, Registry};
use pgveil_policy::plan::ColumnId;
use tokio_postgres::{Client, Row};

use crate::{JobError, sql};

/// Which way values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Plaintext is sealed.
    Seal,
    /// Sealed values are opened.
    Open,
}

impl Way {
    /// As it stands in the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
        }
    }
}

/// How far a migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Values are sealed into the shadow columns.
    Backfill,
    /// Indexes are made on their terms.
    Index,
    /// Every row is opened again and compared.
    Verify,
    /// The columns are about to change places.
    Swap,
    /// They have; the plaintext is kept.
    Swapped,
    /// What was written since the swap is decrypted into the plaintext column.
    Undo,
    /// The plaintext column is gone.
    Contracted,
    /// The sealed column is gone.
    RolledBack,
}

impl Phase {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Backfill, "backfill"),
        (Self::Index, "index"),
        (Self::Verify, "verify"),
        (Self::Swap, "swap"),
        (Self::Swapped, "swapped"),
        (Self::Undo, "undo"),
        (Self::Contracted, "contracted"),
        (Self::RolledBack, "rolled_back"),
    ];

    /// As it stands in the table.
    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(phase, _)| *phase == self);
        found.map_or("", |(_, name)| name)
    }

    fn parse(text: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(phase, _)| *phase)
    }

    /// Whether the columns have changed places.
    pub fn is_swapped(self) -> bool {
        matches!(self, Self::Swapped | Self::Undo | Self::Contracted)
    }

    /// Whether it goes over the table row by row.
    fn walks(self) -> bool {
        matches!(self, Self::Backfill | Self::Verify | Self::Undo)
    }
}

/// One table under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Migration {
    /// Ordinal.
    pub id: i64,
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
    /// `pg_class.oid`.
    pub oid: u32,
    /// Whether it seals, or is a decryption.
    pub way: Way,
    /// How far it is.
    pub phase: Phase,
    /// Where the walk of this phase goes on.
    pub cursor: Option<String>,
    /// Rows written.
    pub rows: i64,
    /// Rows verified.
    pub verified: i64,
    /// Rows a second since this phase began, and seconds until its first walk is through: guesses.
    pub pace: Option<(f64, Option<f64>)>,
    /// Why it stands still.
    pub reason: Option<String>,
    /// Its columns.
    pub columns: Vec<MigratedColumn>,
    /// Of what never changes; of a keystore of the version before there is none.
    mac: Option<Vec<u8>>,
}

/// One column of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigratedColumn {
    /// The id in sealed values.
    pub id: ColumnId,
    /// The name that applications know.
    pub name: String,
    /// Attribute number of the plaintext.
    pub plain: i16,
    /// Attribute number of the sealed values.
    pub sealed: i16,
    /// Whether the plaintext was NOT NULL.
    pub not_null: bool,
}

impl Migration {
    /// `"schema"."table"`.
    pub(crate) fn quoted(&self) -> String {
        sql::qualified(&self.schema, &self.table)
    }

    /// `schema.table`.
    pub fn shown(&self) -> String {
        sql::shown_qualified(&self.schema, &self.table)
    }

    /// Refuses one that pgveil did not begin like this: what it names is about to be opened.
    pub(super) fn judge(&self, registry: &Registry) -> Result<(), JobError> {
        let place = (self.schema.as_str(), self.table.as_str(), self.oid);
        let begun = begun(self.id, self.way, place, &self.columns);
        Ok(registry.judge_migration(&begun, self.mac.as_deref())?)
    }

    /// Whether this migration is of the table of this name.
    pub(crate) fn is_of(&self, schema: &str, table: &str) -> bool {
        (self.schema.as_str(), self.table.as_str()) == (schema, table)
    }

    /// For machines.
    pub fn json(&self) -> serde_json::Value {
        let columns = self.columns.iter().map(|column| column.name.as_str());
        serde_json::json!({
            "id": self.id,
            "table": self.shown(),
            "columns": columns.collect::<Vec<_>>(),
            "way": self.way.as_str(),
            "phase": self.phase.as_str(),
            "rows": self.rows,
            "verified": self.verified,
            "rows_per_second": self.pace.map(|(rate, _)| rate.round()),
            "seconds_left": self.pace.and_then(|(_, left)| left).map(f64::round),
            "reason": self.reason,
        })
    }

    /// Notes a new phase, in the caller's transaction if there is one.
    pub(crate) async fn enter(&mut self, client: &Client, phase: Phase) -> Result<(), JobError> {
        let ended = matches!(phase, Phase::Contracted | Phase::RolledBack);
        client
            .execute(
                "UPDATE pgveil.migrations SET phase = $2, cursor = NULL, reason = NULL, updated_at = clock_timestamp(), \
                 phase_at = clock_timestamp(), phase_rows = rows + verified, ended_at = CASE WHEN $3 THEN now() END WHERE id = $1",
                &[&self.id, &phase.as_str(), &ended],
            )
            .await
            .map_err(noting())?;
        (self.phase, self.cursor, self.reason) = (phase, None, None);
        Ok(())
    }

    /// Notes how far the walk is.
    pub(crate) async fn step(
        &mut self,
        client: &Client,
        cursor: Option<&str>,
        rows: u64,
        verified: u64,
    ) -> Result<(), JobError> {
        let row = client
            .query_one(
                "UPDATE pgveil.migrations SET cursor = $2, rows = rows + $3, verified = verified + $4, \
                 reason = NULL, updated_at = clock_timestamp() WHERE id = $1 RETURNING rows, verified",
                &[&self.id, &cursor, &rows.cast_signed(), &verified.cast_signed()],
            )
            .await
            .map_err(noting())?;
        self.rows = row.try_get(0).map_err(noting())?;
        self.verified = row.try_get(1).map_err(noting())?;
        self.cursor = cursor.map(str::to_owned);
        Ok(())
    }

    /// Notes why it stands still.
    pub(crate) async fn stopped(&self, client: &Client, why: &str) -> Result<(), JobError> {
        let note = "UPDATE pgveil.migrations SET reason = $2, updated_at = now() WHERE id = $1";
        let noted = client.execute(note, &[&self.id, &why]).await;
        noted.map(|_| ()).map_err(noting())
    }
}

/// A keystore of the version before has no such column.
const HAS_MAC: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'pgveil.migrations'::regclass \
    AND attname = 'mac' AND NOT attisdropped)";
const ADD_MAC: &str = "ALTER TABLE pgveil.migrations ADD COLUMN IF NOT EXISTS mac bytea; \
    COMMENT ON COLUMN pgveil.migrations.mac IS 'Of what never changes, and of its columns'";

/// Nor such a table.
const HAS_PARTS: &str = "SELECT pg_catalog.to_regclass('pgveil.migrated_parts') IS NOT NULL";
const ADD_PARTS: &str = "CREATE TABLE IF NOT EXISTS pgveil.migrated_parts (\
    migration bigint NOT NULL REFERENCES pgveil.migrations, part oid NOT NULL, fence oid NOT NULL, \
    verified bool NOT NULL DEFAULT false, file oid, PRIMARY KEY (migration, part)); \
    COMMENT ON TABLE pgveil.migrated_parts IS 'The leaves of a partitioned table under way, and how far each is'";

/// What is under the MAC.
fn begun<'a>(
    id: i64,
    way: Way,
    (schema, table, table_oid): (&'a str, &'a str, u32),
    columns: &'a [MigratedColumn],
) -> Begun<'a> {
    let mut columns: Vec<BegunColumn<'a>> = { columns.iter() }
        .map(|column| BegunColumn {
            id: column.id.0,
            name: &column.name,
            places: (column.plain, column.sealed),
            not_null: column.not_null,
        })
        .collect();
    columns.sort_by_key(|column| column.id);
    Begun {
        id,
        way: way.as_str(),
        table: (schema, table),
        table_oid,
        columns,
    }
}

/// Begins one, in the caller's transaction; answers its number.
pub(crate) async fn begin(
    client: &Client,
    registry: &Registry,
    way: Way,
    (schema, table, oid): (&str, &str, u32),
    columns: &[MigratedColumn],
) -> Result<i64, JobError> {
    let has_mac = client.query_one(HAS_MAC, &[]).await.map_err(noting())?;
    if !has_mac.try_get::<_, bool>(0).map_err(noting())? {
        client.batch_execute(ADD_MAC).await.map_err(noting())?;
    }
    let has_parts = client.query_one(HAS_PARTS, &[]).await.map_err(noting())?;
    if !has_parts.try_get::<_, bool>(0).map_err(noting())? {
        client.batch_execute(ADD_PARTS).await.map_err(noting())?;
    }
    let row = client
        .query_one(
            "INSERT INTO pgveil.migrations (schema_name, table_name, table_oid, phase, way) \
             VALUES ($1, $2, $3, 'backfill', $4) RETURNING id",
            &[&schema, &table, &oid, &way.as_str()],
        )
        .await
        .map_err(noting())?;
    let id: i64 = row.try_get(0).map_err(noting())?;
    for column in columns {
        client
            .execute(
                "INSERT INTO pgveil.migrated_columns (migration, column_id, name, plain_place, sealed_place, not_null) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
                &[&id, &column.id.0.cast_signed(), &column.name, &column.plain, &column.sealed, &column.not_null],
            )
            .await
            .map_err(noting())?;
    }
    let mac = registry.mac_of_migration(&begun(id, way, (schema, table, oid), columns));
    let keep = "UPDATE pgveil.migrations SET mac = $2 WHERE id = $1";
    let kept = client.execute(keep, &[&id, &mac.as_slice()]).await;
    kept.map_err(noting())?;
    Ok(id)
}

/// Of one phase: what it has done since it began, and how long it has worked at it. A keystore of the version before has no
/// such columns (`to_jsonb`).
const MIGRATIONS: &str = "SELECT m.id, m.schema_name, m.table_name, m.table_oid, m.phase, m.cursor, m.rows, m.verified, m.reason, \
    coalesce(to_jsonb(m) ->> 'way', 'seal'), \
    greatest(m.rows + m.verified - (to_jsonb(m) ->> 'phase_rows')::int8, 0)::float8, \
    extract(epoch FROM m.updated_at - (to_jsonb(m) ->> 'phase_at')::timestamptz)::float8, \
    (SELECT sum(CASE WHEN c.reltuples >= 0 THEN c.reltuples::float8 END) FROM pg_catalog.pg_class c WHERE c.relkind <> 'p' \
        AND (c.oid = m.table_oid OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(m.table_oid::regclass)))), \
    (to_jsonb(m) ->> 'mac')::bytea FROM pgveil.migrations m";
const COLUMNS: &str = "SELECT c.migration, c.column_id, c.name, c.plain_place, c.sealed_place, c.not_null \
    FROM pgveil.migrated_columns c JOIN pgveil.migrations m ON m.id = c.migration";

/// Those that have not ended, in the order in which they began; none where the schema is not installed.
pub async fn live(client: &Client) -> Result<Vec<Migration>, JobError> {
    those(client, "m.ended_at IS NULL").await
}

/// Decryptions that have ended, of columns that are still where they were put.
pub(super) async fn decrypted(client: &Client) -> Result<Vec<Migration>, JobError> {
    let ended = "m.ended_at IS NOT NULL AND m.phase = 'contracted' AND to_jsonb(m) ->> 'way' = 'open' \
        AND NOT EXISTS (SELECT FROM pgveil.migrated_columns n LEFT JOIN pg_catalog.pg_attribute a \
            ON a.attrelid = m.table_oid AND a.attnum = n.plain_place AND a.attname = n.name AND NOT a.attisdropped \
            WHERE n.migration = m.id AND a.attnum IS NULL)";
    those(client, ended).await
}

async fn those(client: &Client, which: &str) -> Result<Vec<Migration>, JobError> {
    let known = "SELECT to_regclass('pgveil.migrations') IS NOT NULL";
    let known = client.query_one(known, &[]).await.map_err(noting())?;
    if !known.try_get::<_, bool>(0).map_err(noting())? {
        return Ok(Vec::new());
    }
    let rows = format!("{MIGRATIONS} WHERE {which} ORDER BY m.id");
    let rows = client.query(&rows, &[]).await.map_err(noting())?;
    let columns = format!("{COLUMNS} WHERE {which} ORDER BY c.migration, c.plain_place");
    let columns = client.query(&columns, &[]).await.map_err(noting())?;
    let mut found = Vec::new();
    for row in &rows {
        let mut migration = migration(row).map_err(noting())?;
        for row in &columns {
            if row.try_get::<_, i64>(0).map_err(noting())? == migration.id {
                migration.columns.push(column(row).map_err(noting())?);
            }
        }
        found.push(migration);
    }
    Ok(found)
}

fn migration(row: &Row) -> Result<Migration, tokio_postgres::Error> {
    let (phase, way): (String, String) = (row.try_get(4)?, row.try_get(9)?);
    let phase = Phase::parse(&phase).unwrap_or(Phase::Backfill);
    Ok(Migration {
        way: if way == Way::Open.as_str() {
            Way::Open
        } else {
            Way::Seal
        },
        pace: phase
            .walks()
            .then_some(pace(row.try_get(10)?, row.try_get(11)?, row.try_get(12)?))
            .flatten(),
        id: row.try_get(0)?,
        schema: row.try_get(1)?,
        table: row.try_get(2)?,
        oid: row.try_get(3)?,
        phase,
        cursor: row.try_get(5)?,
        rows: row.try_get(6)?,
        verified: row.try_get(7)?,
        reason: row.try_get(8)?,
        columns: Vec::new(),
        mac: row.try_get(13)?,
    })
}

/// Rows a second, and seconds until as many are done as the table is thought to have.
fn pace(done: Option<f64>, seconds: Option<f64>, rows: Option<f64>) -> Option<(f64, Option<f64>)> {
    let (done, seconds) = (done?, seconds?);
    if done <= 0.0 || seconds <= 0.0 {
        return None;
    }
    let rate = done / seconds;
    Some((rate, rows.map(|rows| (rows - done).max(0.0) / rate)))
}

fn column(row: &Row) -> Result<MigratedColumn, tokio_postgres::Error> {
    Ok(MigratedColumn {
        id: ColumnId(row.try_get::<_, i32>(1)?.cast_unsigned()),
        name: row.try_get(2)?,
        plain: row.try_get(3)?,
        sealed: row.try_get(4)?,
        not_null: row.try_get(5)?,
    })
}

fn noting() -> impl FnOnce(tokio_postgres::Error) -> JobError {
    JobError::while_doing("read or note how far a migration is")
}
