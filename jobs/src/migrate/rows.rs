//! Rows of a table under way: reading both columns of each, finding those whose copy is stale, and writing it. A row is
//! written only if it is the very version that was read, in the very file, and is passed over while somebody else has it. It walks
//! nowhere.

use pgveil_config::ScopePath;
use pgveil_policy::types::{LogicalType, Value};
use tokio_postgres::{Client, Row};
use zeroize::{Zeroize, Zeroizing};

use super::{Migration, Way, parts::Part};
use crate::{
    JobError,
    apply::{
        raw::Raw,
        sealing::{RowProblem, Sealing},
    },
    plan::TablePlan,
    sql,
};

/// The table as it is now: the names that its columns have in this phase.
pub(super) struct Table<'a> {
    pub(super) client: &'a Client,
    pub(super) migration: &'a Migration,
    /// Where the rows are: the table, or a partition.
    pub(super) part: &'a Part,
    pub(super) plan: &'a TablePlan,
    pub(super) sealing: Sealing<'a>,
    /// Name of the plaintext column and of the sealed one, quoted, and the type of the former, by column.
    pub(super) columns: Vec<Names>,
}

/// What one column is called now.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) plain: String,
    pub(super) sealed: String,
    /// Its plaintext type.
    pub(super) from: String,
    /// That is an array: PostgreSQL has no arrays of arrays, so it is given as text.
    pub(super) is_array: bool,
}

/// Plaintext and sealed value.
type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);
/// What is to be written into a row, by column.
pub(super) type Copied = Vec<Option<Vec<u8>>>;

/// One row.
pub(super) struct Found {
    /// The table's file in which it stood there: another one has other rows at its places, with the same transaction if they
    /// were written together.
    file: Option<u32>,
    ctid: Vec<u8>,
    xmin: Vec<u8>,
    /// For people.
    pub(super) place: String,
    scope: Vec<Option<(LogicalType, Value)>>,
    /// Plaintext and sealed value by column.
    pub(super) values: Vec<Pair>,
}

impl Drop for Found {
    fn drop(&mut self) {
        for (plain, _) in &mut self.values {
            plain.zeroize();
        }
    }
}

impl Table<'_> {
    /// The condition that a row `t` has a value of which there is no copy.
    pub(super) fn stale(&self, way: Way) -> String {
        stale("t.", &self.columns, way)
    }

    /// How many bytes of a row are read.
    pub(super) fn size(&self) -> String {
        let columns = self.columns.iter().map(|names| {
            let (plain, sealed) = (&names.plain, &names.sealed);
            format!("coalesce(octet_length(t.{sealed}), pg_column_size(t.{plain}), 0)")
        });
        columns.collect::<Vec<_>>().join(" + ")
    }

    /// Rows `t` under a condition, with a text for their place.
    pub(super) async fn read(
        &self,
        place: &str,
        condition: &str,
        limit: Option<u32>,
    ) -> Result<Vec<Found>, JobError> {
        let scope = self.plan.scope.columns();
        let scopes: Vec<_> = scope
            .iter()
            .map(|name| format!(", t.{}", sql::quoted(name)))
            .collect();
        let values = self.columns.iter();
        let values: Vec<_> = values
            .map(|names| format!(", t.{}, t.{}::bytea", names.plain, names.sealed))
            .collect();
        let limit = limit
            .map(|limit| format!(" LIMIT {limit}"))
            .unwrap_or_default();
        let statement = format!(
            "SELECT t.ctid, t.xmin, {place}{}{}, pg_relation_filenode({}) FROM ONLY {} AS t WHERE {condition}{limit}",
            scopes.concat(),
            values.concat(),
            self.part.oid,
            self.part.quoted()
        );
        let rows = self.client.query(&statement, &[]).await;
        let rows = rows.map_err(self.reading())?;
        let found = rows.iter().map(|row| found(row, scope.len()));
        found.collect::<Result<_, _>>().map_err(self.reading())
    }

    fn reading(&self) -> impl FnOnce(tokio_postgres::Error) -> JobError + use<> {
        JobError::while_doing(format!("read the rows of {}", self.part.shown()))
    }

    /// Whether any row is stale; at most `limit` are counted.
    pub(super) async fn count_stale(&self, way: Way, limit: u32) -> Result<u64, JobError> {
        let statement = format!(
            "SELECT count(*) FROM (SELECT FROM ONLY {} AS t WHERE {} LIMIT {limit}) AS t",
            self.part.quoted(),
            self.stale(way)
        );
        let row = self.client.query_one(&statement, &[]).await;
        let count: i64 = row.and_then(|row| row.try_get(0)).map_err(self.reading())?;
        Ok(count.unsigned_abs())
    }

    /// Makes the copies of these rows, outside of any transaction: keys may have to be fetched.
    pub(super) async fn copies(&self, rows: &[Found], way: Way) -> Result<Vec<Copied>, JobError> {
        if way == Way::Seal {
            let full =
                { rows.iter() }.filter(|row| row.values.iter().any(|(plain, _)| plain.is_some()));
            let scopes = full.filter_map(|row| self.scope(row).ok());
            self.sealing.ready(scopes.collect()).await;
        }
        let mut copies = Vec::with_capacity(rows.len());
        for row in rows {
            let copy = match way {
                Way::Seal => self.seal(row).await,
                Way::Open => self.open(row).await,
            };
            copies.push(copy.map_err(|problem| self.explain(problem, row))?);
        }
        Ok(copies)
    }

    async fn seal(&self, row: &Found) -> Result<Copied, RowProblem> {
        let values: Vec<Option<&[u8]>> = row
            .values
            .iter()
            .map(|(plain, _)| plain.as_deref())
            .collect();
        if values.iter().all(Option::is_none) {
            return Ok(vec![None; values.len()]);
        }
        let sealed = self.sealing.seal(&self.scope(row)?, &values).await?;
        Ok(sealed
            .into_iter()
            .map(|value| value.map(|(sealed, _)| sealed))
            .collect())
    }

    /// A value may have been moved here, or its row to another scope: its header says whose key it needs.
    async fn open(&self, row: &Found) -> Result<Copied, RowProblem> {
        let opened = self.sealing.open_by_header(&sealed(row)).await?;
        let columns = self.plan.columns.iter().zip(&self.columns);
        let values = columns.zip(opened).map(|((column, names), value)| {
            let Some(value) = value else {
                return Ok(None);
            };
            let restored = if names.is_array {
                self.sealing.restore_text(column, &value)
            } else {
                self.sealing.restore(column, &value)
            };
            restored.map(Some).map_err(RowProblem::Job)
        });
        values.collect()
    }

    /// The sealed values' plaintexts, in the policy's types. What pgveil has just sealed must bear its own column and scope.
    pub(super) async fn opened(
        &self,
        row: &Found,
    ) -> Result<Vec<Option<Zeroizing<Vec<u8>>>>, JobError> {
        let values = sealed(row);
        if self.migration.way == Way::Open {
            let opened = self.sealing.open_by_header(&values).await;
            return opened.map_err(|problem| self.explain(problem, row));
        }
        if values.iter().all(Option::is_none) {
            return Ok(vec![None; values.len()]);
        }
        let scope = self.scope(row);
        let scope = scope.map_err(|problem| self.explain(problem, row))?;
        self.sealing.open(&scope, &values).await
    }

    fn explain(&self, problem: RowProblem, row: &Found) -> JobError {
        problem.of(&self.part.shown(), &row.place)
    }

    fn scope(&self, row: &Found) -> Result<ScopePath, RowProblem> {
        self.sealing.scope(&row.scope)
    }

    /// Writes the copies. Answers how many rows got them: the others have changed since, or somebody has them.
    pub(super) async fn write(
        &self,
        rows: &[Found],
        copies: Vec<Copied>,
        way: Way,
    ) -> Result<u64, JobError> {
        let file = rows.first().and_then(|row| row.file);
        let (ctids, xmins): (Vec<Raw<'_>>, Vec<Raw<'_>>) = rows
            .iter()
            .map(|row| (Raw(&row.ctid), Raw(&row.xmin)))
            .unzip();
        let mut columns: Vec<Vec<Option<Raw<'_>>>> = vec![Vec::new(); self.columns.len()];
        for copy in &copies {
            for (column, value) in columns.iter_mut().zip(copy) {
                column.push(value.as_deref().map(Raw));
            }
        }
        let mut parameters: Vec<&(dyn postgres_types::ToSql + Sync)> = vec![&ctids, &xmins, &file];
        parameters.extend(
            columns
                .iter()
                .map(|column| column as &(dyn postgres_types::ToSql + Sync)),
        );
        let statement = self.writing(way);
        let written = self.client.execute(&statement, &parameters).await;
        written.map_err(JobError::while_writing(self.part.shown(), "write the rows"))
    }

    fn writing(&self, way: Way) -> String {
        let (mut arrays, mut names, mut locked, mut set) =
            (String::new(), String::new(), String::new(), Vec::new());
        for (at, column) in self.columns.iter().enumerate() {
            let (target, of, cast) = match way {
                Way::Seal => (&column.sealed, "bytea", String::new()),
                Way::Open if column.is_array => {
                    (&column.plain, "text", format!("::{}", column.from))
                }
                Way::Open => (&column.plain, column.from.as_str(), String::new()),
            };
            arrays.push_str(&format!(", ${}::{of}[]", at + 4));
            names.push_str(&format!(", c{at}"));
            locked.push_str(&format!(", v.c{at}"));
            set.push(format!("{target} = l.c{at}{cast}"));
        }
        let table = self.part.quoted();
        format!(
            "WITH v AS MATERIALIZED (SELECT * FROM unnest($1::tid[], $2::xid[]{arrays}) AS v(place, version{names})), \
             l AS MATERIALIZED (SELECT t.ctid AS place{locked} FROM ONLY {table} AS t JOIN v ON t.ctid = v.place \
             WHERE t.xmin = v.version AND pg_relation_filenode({}) = $3::oid FOR UPDATE OF t SKIP LOCKED) \
             UPDATE ONLY {table} AS t SET {} FROM l WHERE t.ctid = l.place",
            self.part.oid,
            set.join(", ")
        )
    }
}

fn sealed(row: &Found) -> Vec<Option<&[u8]>> {
    let values = row.values.iter();
    values.map(|(_, sealed)| sealed.as_deref()).collect()
}

/// The condition that a value has no copy. `row` is what stands before the columns.
pub(super) fn stale(row: &str, columns: &[Names], way: Way) -> String {
    let columns = columns.iter().map(|names| {
        let (from, to) = match way {
            Way::Seal => (&names.plain, &names.sealed),
            Way::Open => (&names.sealed, &names.plain),
        };
        format!("({row}{from} IS NOT NULL AND {row}{to} IS NULL)")
    });
    format!("({})", columns.collect::<Vec<_>>().join(" OR "))
}

fn found(row: &Row, scopes: usize) -> Result<Found, tokio_postgres::Error> {
    let bytes = |at: usize| {
        let raw: Option<Raw<'_>> = row.try_get(at)?;
        Ok::<_, tokio_postgres::Error>(raw.map(|raw| raw.0.to_vec()))
    };
    let scope = (3..3 + scopes).map(|at| {
        let logical = LogicalType::from_oid(row.columns()[at].type_().oid(), -1);
        Ok(logical.zip(bytes(at)?.map(Value::from_send_form)))
    });
    let last = row.len() - 1;
    let values = (3 + scopes..last).step_by(2);
    Ok(Found {
        file: row.try_get(last)?,
        ctid: bytes(0)?.unwrap_or_default(),
        xmin: bytes(1)?.unwrap_or_default(),
        place: row.try_get(2)?,
        scope: scope.collect::<Result<_, tokio_postgres::Error>>()?,
        values: values
            .map(|at| Ok((bytes(at)?, bytes(at + 1)?)))
            .collect::<Result<_, tokio_postgres::Error>>()?,
    })
}
