//! A walk over the rows of one table or partition, range by range: along its primary key, or block by block where it has
//! none. It says which rows come next, and brings them along where it finds them anyway; it changes nothing.
//!
//! What holds while others write: every row that is there when the walk begins, stays until it ends and keeps its primary
//! key lies in exactly one range. A row that is inserted, or whose key is changed, meanwhile may lie in a range or not; and
//! without a primary key, the same is true of a row that is updated, since it gets another place. So a walk by itself proves
//! nothing: whoever must have all rows counts afterwards, and walks again.
//!
//! Statements expect `search_path = pg_catalog` and DateStyle and IntervalStyle to stay as they are between cursors.

mod key;

use pgveil_keys::database::Database;
use tokio_postgres::{Client, Row};

use crate::{JobError, sql};
use key::KeyColumn;

/// Rows, of whatever kind, that are looked at to find the next ones that are wanted.
const MAX_SCANNED: u32 = 10_000;
/// Rows of a block where the server has no estimate.
const ROWS_PER_BLOCK: f64 = 60.0;
/// Rows that fit into a block of 8 KiB.
const MAX_ROWS_PER_BLOCK: u16 = 291;

const TABLE: &str = "SELECT n.nspname::text, c.relname::text, CASE WHEN c.relpages > 0 AND c.reltuples > 0 \
    THEN (c.reltuples / c.relpages)::float8 END \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1";

/// How a table is walked.
#[derive(Clone, Debug)]
pub struct Walk {
    oid: u32,
    schema: String,
    name: String,
    by: By,
}

#[derive(Clone, Debug)]
enum By {
    Key(Vec<KeyColumn>),
    Block { rows: f64 },
}

/// How far a walk has come, to be stored as text: JSON, the texts of a primary key or the number of a block. The row, or the
/// block, itself is behind the walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// As it was stored.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn key(&self) -> Option<Vec<String>> {
        serde_json::from_str(&self.0).ok()
    }

    fn block(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

/// Which rows are wanted of a walk, and how many at a time. The texts are SQL about a row `t`.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// A condition: `true` for every row.
    pub condition: String,
    /// How much a wanted row weighs, in bytes: a range ends before it gets heavier than `bytes`, but has one row at least.
    pub size: String,
    /// Wanted rows in one range. Block by block, a range may have a block's rows more.
    pub rows: u32,
    /// See `size`.
    pub bytes: i64,
}

impl Wanted {
    /// Every row, so many at a time, whatever they weigh.
    pub fn every(rows: u32) -> Self {
        Self {
            condition: "true".to_owned(),
            size: "0".to_owned(),
            rows,
            bytes: i64::MAX,
        }
    }
}

/// The next range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it ends. `None`: where the walk does.
    pub upto: Option<Cursor>,
    /// Wanted rows in it, when it was looked at. There may be none: so many rows were looked at, and none was wanted.
    pub rows: u64,
}

/// What is read of a range's wanted rows while it is looked for.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Expressions about a row `t`, with its `ctid`. They stand first in the rows that are brought along.
    pub list: String,
    /// A range with a row that weighs more is not brought along.
    pub most: i64,
}

impl Walk {
    /// The table's OID.
    pub fn oid(&self) -> u32 {
        self.oid
    }

    /// Reads how a table can be walked.
    ///
    /// # Errors
    /// If the server refuses, or the table is gone.
    pub async fn over(client: &Client, oid: u32) -> Result<Self, JobError> {
        let (table, key) = (client.query(TABLE, &[&oid]).await, key::KEY);
        Self::of(oid, table, client.query(key, &[&oid]).await)
    }

    /// The same over a connection that keeps its statements.
    pub(crate) async fn over_by(client: &Database, oid: u32) -> Result<Self, JobError> {
        let (table, key) = (client.ask(TABLE, &[&oid]).await, key::KEY);
        Self::of(oid, table, client.ask(key, &[&oid]).await)
    }

    fn of(
        oid: u32,
        table: Result<Vec<Row>, tokio_postgres::Error>,
        key: Result<Vec<Row>, tokio_postgres::Error>,
    ) -> Result<Self, JobError> {
        let doing = || JobError::while_doing("read the primary key of a table");
        let rows = table.map_err(doing())?;
        let row = rows.first().ok_or(JobError::TableGone { oid })?;
        let rows: Option<f64> = row.try_get(2).map_err(doing())?;
        let rows = rows.unwrap_or(ROWS_PER_BLOCK);
        let key = key.and_then(|rows| key::read(&rows)).map_err(doing())?;
        let by = match key {
            Some(columns) => By::Key(columns),
            None => By::Block {
                rows: rows.clamp(1.0, f64::from(MAX_ROWS_PER_BLOCK)),
            },
        };
        Ok(Self {
            oid,
            schema: row.try_get(0).map_err(doing())?,
            name: row.try_get(1).map_err(doing())?,
            by,
        })
    }

    /// `"schema"."table"`.
    pub fn quoted(&self) -> String {
        sql::qualified(&self.schema, &self.name)
    }

    /// `schema.table`, for people.
    pub fn shown(&self) -> String {
        sql::shown_qualified(&self.schema, &self.name)
    }

    /// Whether it goes along a primary key.
    pub fn has_key(&self) -> bool {
        matches!(self.by, By::Key(_))
    }

    /// An SQL text about row `t` that is its cursor; block by block, it tells the row from the others of its block.
    pub fn place(&self) -> String {
        match &self.by {
            By::Key(columns) => key::cursor(columns),
            By::Block { .. } => "t.ctid::pg_catalog.text".to_owned(),
        }
    }

    /// A place for people: `id = 42`, or `ctid = (0,7)`.
    pub fn shown_place(&self, place: &str) -> String {
        match (&self.by, Cursor(place.to_owned()).key()) {
            (By::Key(columns), Some(values)) => key::shown(columns, &values),
            _ => format!("ctid = {place}"),
        }
    }

    /// The condition that row `t` lies behind `after` and not behind `upto`. A cursor that does not fit the table any more,
    /// because its primary key is another one, counts as none.
    pub fn between(&self, after: Option<&Cursor>, upto: Option<&Cursor>) -> String {
        let mut parts = Vec::new();
        match &self.by {
            By::Key(columns) => {
                let key = |cursor: Option<&Cursor>| {
                    let values = cursor.and_then(Cursor::key);
                    values.filter(|values| values.len() == columns.len())
                };
                parts.extend(key(after).map(|values| key::behind(columns, &values)));
                parts.extend(key(upto).map(|values| key::not_behind(columns, &values)));
            }
            By::Block { .. } => {
                let first = |cursor: Option<&Cursor>| cursor.and_then(Cursor::block);
                parts.extend(first(after).map(|block| format!("t.ctid >= '({},0)'", block + 1)));
                parts.extend(first(upto).map(|block| format!("t.ctid < '({},0)'", block + 1)));
            }
        }
        if parts.is_empty() {
            return "true".to_owned();
        }
        parts.join(" AND ")
    }

    /// Where the table ends now: a walk that is to come to an end while others append stops there. `None`: it has no rows.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn end(&self, client: &Client) -> Result<Option<Cursor>, JobError> {
        let statement = match &self.by {
            By::Key(columns) => format!(
                "SELECT {} FROM ONLY {} AS t ORDER BY {} LIMIT 1",
                key::cursor(columns),
                self.quoted(),
                key::order(columns, " DESC")
            ),
            By::Block { .. } => format!(
                "SELECT (pg_relation_size({oid}::oid) / current_setting('block_size')::bigint - 1)::text \
                 WHERE pg_relation_size({oid}::oid) > 0",
                oid = self.oid
            ),
        };
        let row = client.query_opt(&statement, &[]).await;
        let row = row.map_err(self.walking())?;
        row.map(|row| row.try_get(0).map(Cursor))
            .transpose()
            .map_err(self.walking())
    }

    /// The range behind `after`, up to `end`. `None`: there are no more rows.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn next(
        &self,
        client: &Client,
        after: Option<&Cursor>,
        end: Option<&Cursor>,
        wanted: &Wanted,
    ) -> Result<Option<Step>, JobError> {
        let stepped = self
            .next_reading(client, (after, end), wanted, None)
            .await?;
        Ok(stepped.map(|(step, _)| step))
    }

    /// The same, with the wanted rows of the range where that takes no further look at the table.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn next_reading(
        &self,
        client: &Client,
        (after, end): (Option<&Cursor>, Option<&Cursor>),
        wanted: &Wanted,
        reading: Option<&Reading>,
    ) -> Result<Option<(Step, Option<Vec<Row>>)>, JobError> {
        let range = (after, end);
        let stepped = match &self.by {
            By::Key(columns) => { self.next_by_key(client, columns, range, wanted, reading) }.await,
            By::Block { rows } => {
                { self.next_by_block(client, *rows, range, wanted, reading) }.await
            }
        };
        stepped.map_err(self.walking())
    }

    async fn next_by_key(
        &self,
        client: &Client,
        columns: &[KeyColumn],
        (after, end): (Option<&Cursor>, Option<&Cursor>),
        wanted: &Wanted,
        reading: Option<&Reading>,
    ) -> Result<Option<(Step, Option<Vec<Row>>)>, tokio_postgres::Error> {
        let (table, range) = (self.quoted(), self.between(after, end));
        let (texts, order) = (key::texts(columns), key::order(columns, ""));
        let Wanted {
            condition,
            size,
            rows,
            bytes,
        } = wanted;
        let list = reading.map_or_else(String::new, |reading| format!("{}, ", reading.list));
        let statement = format!(
            "SELECT {list}({size})::bigint, {texts} FROM (SELECT t.ctid, t.* FROM ONLY {table} AS t WHERE {range} \
             ORDER BY {order} LIMIT {MAX_SCANNED}) AS t WHERE {condition} ORDER BY {order} LIMIT {rows}"
        );
        let mut found = client.query_typed(&statement, &[]).await?;
        // Behind what was asked for stand the weight and the key.
        let key = |row: &Row| row.len().saturating_sub(columns.len());
        let (mut weight, mut count, mut is_full, mut is_small) = (0_i64, 0, false, true);
        for row in &found {
            let size: i64 = row.try_get(key(row).saturating_sub(1))?;
            weight = weight.saturating_add(size);
            if count > 0 && weight > *bytes {
                is_full = true;
                break;
            }
            is_small &= reading.is_some_and(|reading| size <= reading.most);
            count += 1;
        }
        found.truncate(count);
        let wanted_rows = found.len() as u64;
        is_full |= wanted_rows >= u64::from(*rows);
        let upto = if let (true, Some(last)) = (is_full, found.last()) {
            let texts = (key(last)..last.len()).map(|at| last.try_get(at));
            let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
            Some(Cursor(serde_json::Value::from(texts).to_string()))
        } else {
            // All that may be looked at at once was: where does it end?
            let (place, last) = (key::cursor(columns), MAX_SCANNED - 1);
            let statement = format!(
                "SELECT {place} FROM ONLY {table} AS t WHERE {range} ORDER BY {order} OFFSET {last} LIMIT 1"
            );
            match client.query_typed(&statement, &[]).await?.first() {
                Some(row) => Some(Cursor(row.try_get(0)?)),
                None if found.is_empty() => return Ok(None),
                None => None,
            }
        };
        let step = Step {
            upto,
            rows: wanted_rows,
        };
        Ok(Some((step, is_small.then_some(found))))
    }

    async fn next_by_block(
        &self,
        client: &Client,
        density: f64,
        (after, end): (Option<&Cursor>, Option<&Cursor>),
        wanted: &Wanted,
        reading: Option<&Reading>,
    ) -> Result<Option<(Step, Option<Vec<Row>>)>, tokio_postgres::Error> {
        let Some(end) = (match end.and_then(Cursor::block) {
            Some(block) => Some(block),
            None => self.last_block(client).await?,
        }) else {
            return Ok(None);
        };
        let first = after.and_then(Cursor::block).map_or(0, |block| block + 1);
        if first > end {
            return Ok(None);
        }
        let last = end.min(first + (f64::from(MAX_SCANNED) / density) as u64);
        let range = self.between(after, Some(&Cursor(last.to_string())));
        let Wanted {
            condition,
            size,
            rows,
            bytes,
        } = wanted;
        let list = reading.map_or_else(String::new, |reading| format!("{}, ", reading.list));
        // A range ends with a block: the last one of these rows may be cut, and the range is full without it.
        let most = rows.saturating_add(u32::from(MAX_ROWS_PER_BLOCK));
        let statement = format!(
            "SELECT {list}({size})::bigint, (t.ctid::pg_catalog.text::pg_catalog.point)[0]::bigint FROM ONLY {} AS t \
             WHERE {range} AND ({condition}) ORDER BY t.ctid LIMIT {most}",
            self.quoted()
        );
        let mut found = client.query_typed(&statement, &[]).await?;
        let weighed = found.iter().map(|row| {
            let behind = row.len().saturating_sub(2);
            Ok((row.try_get(behind)?, row.try_get(behind + 1)?))
        });
        let weighed: Vec<(i64, i64)> = weighed.collect::<Result<_, tokio_postgres::Error>>()?;
        let (mut weight, mut count, mut upto, mut is_full) = (0_i64, 0, None, false);
        for block in weighed.chunk_by(|(_, one), (_, other)| one == other) {
            let sizes = block.iter().map(|(size, _)| *size);
            weight = sizes.fold(weight, i64::saturating_add);
            if count > 0 && (weight > *bytes || count as u64 >= u64::from(*rows)) {
                is_full = true;
                break;
            }
            count += block.len();
            upto = block.first().map(|(_, block)| *block);
        }
        // A single block with more rows than one can have, of a server with larger ones: whoever has the range reads it.
        let is_cut = !is_full && found.len() as u64 >= u64::from(most);
        let is_small =
            |reading: &Reading| { weighed[..count].iter() }.all(|(size, _)| *size <= reading.most);
        let is_read = !is_cut && reading.is_some_and(is_small);
        found.truncate(count);
        let block = match upto {
            Some(block) if is_full || is_cut => block.unsigned_abs(),
            _ => last,
        };
        let step = Step {
            upto: Some(Cursor(block.to_string())),
            rows: count as u64,
        };
        Ok(Some((step, is_read.then_some(found))))
    }

    async fn last_block(&self, client: &Client) -> Result<Option<u64>, tokio_postgres::Error> {
        let statement = "SELECT pg_relation_size($1::oid) / current_setting('block_size')::bigint";
        let blocks: i64 = client
            .query_one(statement, &[&self.oid])
            .await?
            .try_get(0)?;
        Ok(blocks.unsigned_abs().checked_sub(1))
    }

    fn walking(&self) -> impl FnOnce(tokio_postgres::Error) -> JobError {
        JobError::while_doing(format!("walk over {}", self.shown()))
    }
}
