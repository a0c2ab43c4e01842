//! Walks over a table's rows with a cursor, a batch at a time: the first pass seals them into the staging table.

use pgveil_policy::types::{LogicalType, Value};
use tokio_postgres::{Client, Row};

use super::{
    digest::Digest,
    progress::Progress,
    raw::Raw,
    row_name,
    sealing::{RowProblem, Sealing},
    staging::Staging,
};
use crate::{JobError, plan::TablePlan, sql};

/// How much a batch may take in memory, by the size of the rows before; one row may always be larger.
const BATCH_BYTES: usize = 4 << 20;
/// Rows of the first batch, when nothing is known of their size.
const FIRST_BATCH: usize = 64;
/// Most rows in a batch.
const MAX_BATCH: usize = 5000;

/// Reads every row, seals its values and stages them. Gives the digest of what was read, and how many values it was.
pub(super) async fn seal_all(
    client: &Client,
    table: &TablePlan,
    sealing: &Sealing<'_>,
) -> Result<(Digest, u64), JobError> {
    let mut walk = Walk::over(client, table).await?;
    let progress = Progress::rows("sealing", table, table.rows);
    let staging = Staging::create(client, table).await?;
    let (mut digest, mut values) = (Digest::default(), 0);
    loop {
        let batch = walk.next().await?;
        if batch.is_empty() {
            break;
        }
        let mut staged = Vec::with_capacity(batch.len());
        let rows: Result<Vec<Parts<'_>>, _> = batch.iter().map(|row| walk.parts(row)).collect();
        let rows = rows?;
        let full = { rows.iter() }.filter(|row| row.values.iter().any(Option::is_some));
        let scopes = full.filter_map(|row| sealing.scope(&row.scope).ok());
        sealing.ready(scopes.collect()).await;
        for row in rows {
            let sealed = match seal_row(sealing, &row).await {
                Ok(sealed) => sealed,
                Err(problem) => return Err(explain(client, table, row.place, problem).await),
            };
            digest.add(
                row.identity,
                sealed
                    .iter()
                    .map(|s| s.as_ref().map(|(_, plain)| plain.as_bytes())),
            );
            values += sealed.iter().flatten().count() as u64;
            staged.push((
                row.place,
                sealed
                    .into_iter()
                    .map(|s| s.map(|(bytes, _)| bytes))
                    .collect(),
            ));
        }
        staging.add(&staged).await?;
        progress.advance(batch.len());
    }
    walk.close().await?;
    staging.finish().await?;
    progress.done();
    Ok((digest, values))
}

type SealedRow = Vec<Option<(Vec<u8>, Value)>>;

async fn seal_row(sealing: &Sealing<'_>, row: &Parts<'_>) -> Result<SealedRow, RowProblem> {
    if row.values.iter().all(Option::is_none) {
        return Ok(row.values.iter().map(|_| None).collect());
    }
    sealing.seal(&sealing.scope(&row.scope)?, &row.values).await
}

/// Names the row; never its values.
async fn explain(
    client: &Client,
    table: &TablePlan,
    place: &[u8],
    problem: RowProblem,
) -> JobError {
    if let RowProblem::Job(error) = problem {
        return error;
    }
    let row = row_name::of(client, table, place).await;
    problem.of(&table.shown(), &row)
}

/// A cursor over a table.
pub(super) struct Walk<'a> {
    client: &'a Client,
    table: &'a TablePlan,
    scope_columns: usize,
    batch: usize,
}

/// One row, taken apart.
pub(super) struct Parts<'r> {
    /// `tableoid` and `ctid`: partitions and heirs are walked with their table.
    pub(super) place: &'r [u8],
    /// Tells the row from the others.
    pub(super) identity: &'r [u8],
    /// Values of the scope's columns.
    pub(super) scope: Vec<Option<(LogicalType, Value)>>,
    /// Values of the columns to seal, or sealed, in their order.
    pub(super) values: Vec<Option<&'r [u8]>>,
}

impl<'a> Walk<'a> {
    /// Opens the cursor. One at a time: its name is fixed.
    pub(super) async fn over(client: &'a Client, table: &'a TablePlan) -> Result<Self, JobError> {
        let scope = table.scope.columns();
        let columns = scope
            .iter()
            .copied()
            .chain(table.columns.iter().map(|c| c.name.as_str()));
        let columns: Vec<String> = columns.map(sql::quoted).collect();
        let statement = format!(
            "DECLARE pgveil_rows NO SCROLL CURSOR FOR SELECT oidsend(tableoid) || tidsend(ctid), {}, {} FROM {}",
            identity(table),
            columns.join(", "),
            table.quoted()
        );
        client
            .batch_execute(&statement)
            .await
            .map_err(reading(table))?;
        Ok(Self {
            client,
            table,
            scope_columns: scope.len(),
            batch: FIRST_BATCH,
        })
    }

    /// The next rows; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<Row>, JobError> {
        let fetch = format!("FETCH {} FROM pgveil_rows", self.batch);
        let rows = self
            .client
            .query(&fetch, &[])
            .await
            .map_err(reading(self.table))?;
        let bytes: usize = rows.iter().map(Row::raw_size_bytes).sum();
        if let Some(each) = bytes.checked_div(rows.len()) {
            self.batch = (BATCH_BYTES / each.max(1)).clamp(1, MAX_BATCH);
        }
        Ok(rows)
    }

    /// A row that `next` gave.
    pub(super) fn parts<'r>(&self, row: &'r Row) -> Result<Parts<'r>, JobError> {
        self.try_parts(row).map_err(reading(self.table))
    }

    fn try_parts<'r>(&self, row: &'r Row) -> Result<Parts<'r>, tokio_postgres::Error> {
        let bytes = |at: usize| Ok(row.try_get::<_, Option<Raw<'r>>>(at)?.map(|raw| raw.0));
        let values_from = 2 + self.scope_columns;
        let scope = (2..values_from).map(|at| {
            let logical = LogicalType::from_oid(row.columns()[at].type_().oid(), -1);
            let value = bytes(at)?.map(|bytes| Value::from_send_form(bytes.to_vec()));
            Ok(logical.zip(value))
        });
        Ok(Parts {
            place: bytes(0)?.unwrap_or_default(),
            identity: bytes(1)?.unwrap_or_default(),
            scope: scope.collect::<Result<_, tokio_postgres::Error>>()?,
            values: (values_from..row.len())
                .map(bytes)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Closes the cursor: a table with an open one cannot be altered.
    pub(super) async fn close(self) -> Result<(), JobError> {
        self.client
            .batch_execute("CLOSE pgveil_rows")
            .await
            .map_err(reading(self.table))
    }
}

fn reading(table: &TablePlan) -> impl FnOnce(tokio_postgres::Error) -> JobError {
    JobError::while_doing(format!("read the rows of {}", table.shown()))
}

/// An expression that tells a row from the others and is the same before and after: a hash of its primary key, or of
/// all columns that stay as they are.
fn identity(table: &TablePlan) -> String {
    let columns = if table.primary_key.is_empty() {
        &table.other_columns
    } else {
        &table.primary_key
    };
    if columns.is_empty() {
        return "''::bytea".to_owned();
    }
    let columns: Vec<String> = columns.iter().map(|c| sql::quoted(c)).collect();
    format!("sha256(textsend(ROW({})::text))", columns.join(", "))
}
