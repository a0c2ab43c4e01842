//! The sealed values between reading and rewriting: a temporary table by the rows' places, and the ALTER TABLE that
//! takes them from there. Holds only sealed values, and is gone when the transaction ends.

use futures_util::pin_mut;
use postgres_types::{ToSql, Type};
use tokio_postgres::{Client, binary_copy::BinaryCopyInWriter};

use super::{progress::Progress, raw::Raw};
use crate::{JobError, plan::TablePlan, sql};

/// A row's place and its sealed values.
pub(super) type StagedRow<'r> = (&'r [u8], Vec<Option<Vec<u8>>>);

/// The staging table.
pub(super) struct Staging<'a> {
    client: &'a Client,
    table: &'a TablePlan,
}

impl<'a> Staging<'a> {
    /// Makes it.
    pub(super) async fn create(client: &'a Client, table: &'a TablePlan) -> Result<Self, JobError> {
        let columns: Vec<String> = (1..=table.columns.len())
            .map(|n| format!(", c{n} bytea"))
            .collect();
        let columns = columns.concat();
        let statement = format!(
            "CREATE TEMPORARY TABLE pgveil_staging (place bytea NOT NULL{columns}) ON COMMIT DROP"
        );
        client
            .batch_execute(&statement)
            .await
            .map_err(staging(table))?;
        Ok(Self { client, table })
    }

    /// Adds a batch.
    pub(super) async fn add(&self, rows: &[StagedRow<'_>]) -> Result<(), JobError> {
        let copy = "COPY pg_temp.pgveil_staging FROM STDIN (FORMAT binary)";
        let sink = self
            .client
            .copy_in(copy)
            .await
            .map_err(staging(self.table))?;
        let types: Vec<Type> = std::iter::once(Type::BYTEA)
            .chain(self.table.columns.iter().map(|_| Type::BYTEA))
            .collect();
        let writer = BinaryCopyInWriter::new(sink, &types);
        pin_mut!(writer);
        for (place, values) in rows {
            let place = Raw(place);
            let mut fields: Vec<&(dyn ToSql + Sync)> = vec![&place];
            fields.extend(values.iter().map(|value| value as &(dyn ToSql + Sync)));
            writer
                .as_mut()
                .write(&fields)
                .await
                .map_err(staging(self.table))?;
        }
        writer.finish().await.map_err(staging(self.table))?;
        Ok(())
    }

    /// Makes it fast to look up, once it is full.
    pub(super) async fn finish(&self) -> Result<(), JobError> {
        let index = "ALTER TABLE pg_temp.pgveil_staging ADD PRIMARY KEY (place); ANALYZE pg_temp.pgveil_staging";
        self.client
            .batch_execute(index)
            .await
            .map_err(staging(self.table))
    }
}

/// Gives the columns their domains and the staged values. The server writes a new heap, in which each row has only its
/// sealed values; a row that was not staged is an error.
pub(super) async fn rewrite(client: &Client, table: &TablePlan, rows: u64) -> Result<(), JobError> {
    let progress = Progress::step("rewriting", table);
    let doing = || JobError::while_doing(format!("rewrite {}", table.shown()));
    let numbers = 1..=table.columns.len();
    let functions: String = numbers.clone().map(lookup).collect();
    client.batch_execute(&functions).await.map_err(doing())?;
    for column in &table.columns {
        let domain = pgveil_keys::schema::domain_sql(column.to.domain());
        client.batch_execute(&domain).await.map_err(doing())?;
    }
    let changes: Vec<String> = table
        .columns
        .iter()
        .zip(numbers.clone())
        .map(|(column, number)| {
            let domain = sql::qualified("pgveil", column.to.domain());
            let value = if rows == 0 {
                "NULL::bytea".to_owned()
            } else {
                format!("pg_temp.pgveil_sealed_{number}(oidsend(tableoid) || tidsend(ctid))")
            };
            format!(
                "ALTER COLUMN {} TYPE {domain} USING {value}::{domain}",
                sql::quoted(&column.name)
            )
        })
        .collect();
    let alter = format!("ALTER TABLE {} {}", table.quoted(), changes.join(", "));
    client.batch_execute(&alter).await.map_err(doing())?;
    let drops: Vec<String> = numbers
        .map(|number| format!("DROP FUNCTION pg_temp.pgveil_sealed_{number}(bytea);"))
        .collect();
    client
        .batch_execute(&drops.concat())
        .await
        .map_err(doing())?;
    progress.done();
    Ok(())
}

/// A function that finds a row's sealed value. STRICT in `INTO STRICT` raises an error when the row is not there.
fn lookup(number: usize) -> String {
    format!(
        "CREATE FUNCTION pg_temp.pgveil_sealed_{number}(bytea) RETURNS bytea LANGUAGE plpgsql STABLE AS $lookup$ \
         DECLARE found_value bytea; \
         BEGIN SELECT c{number} INTO STRICT found_value FROM pg_temp.pgveil_staging WHERE place = $1; \
         RETURN found_value; END $lookup$;"
    )
}

fn staging(table: &TablePlan) -> impl FnOnce(tokio_postgres::Error) -> JobError {
    JobError::while_doing(format!("stage the sealed values of {}", table.shown()))
}
