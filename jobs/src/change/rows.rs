//! Walks over a column's values page by page, and writes those anew that a change has not reached. Rows that somebody holds
//! are left for the next pass: an application never waits for a batch longer than it takes to write it.

use pgveil_config::ScopePath;
use pgveil_policy::{
    catalog::Catalog,
    types::{LogicalType, Value},
};
use tokio_postgres::{Client, Row};

use super::value::{Fit, Problem, Terms};
use crate::{
    JobError,
    apply::{raw::Raw, row_name, sealing},
    plan::ChangePlan,
    sql,
};

/// How much a batch may take in memory, by the size of the one before.
const BATCH_BYTES: usize = 4 << 20;
/// Rows that a batch may hold, by the number of the one before.
const BATCH_ROWS: usize = 500;
/// Pages of the first batch.
const FIRST_PAGES: u64 = 4;
const MAX_PAGES: u64 = 1024;

/// One pass over the table.
pub(super) struct Pass {
    /// Values written anew.
    pub(super) rewritten: u64,
    /// Values that are still to be written; counted only if none was written.
    pub(super) left: u64,
}

/// The rows of a table, its partitions and other heirs.
pub(super) struct Rows<'a> {
    client: &'a Client,
    plan: &'a ChangePlan,
    /// What holds rows itself: `"schema"."name"`.
    parts: Vec<String>,
    column: String,
}

impl<'a> Rows<'a> {
    pub(super) fn of(client: &'a Client, catalog: &Catalog, plan: &'a ChangePlan) -> Self {
        let root = catalog.relation_by_oid(plan.table.oid);
        let relations = root.into_iter().chain(catalog.heirs(plan.table.oid));
        let parts = relations.filter(|relation| relation.kind == 'r');
        let quoted = |relation: &pgveil_policy::catalog::Relation| {
            sql::qualified(&relation.schema, &relation.name)
        };
        Self {
            client,
            plan,
            parts: parts.map(quoted).collect(),
            column: sql::quoted(&plan.wanted.column),
        }
    }

    /// Writes every value anew that is not as it should be.
    pub(super) async fn rewrite(&self, terms: &Terms<'_>) -> Result<Pass, JobError> {
        self.settle().await?;
        let quietly = self.may_keep_triggers_quiet().await;
        let condition = terms.is_missing(&format!("{}::pg_catalog.bytea", self.column));
        let mut pass = Pass {
            rewritten: 0,
            left: 0,
        };
        for part in &self.parts {
            let mut pages = Pages::of(self.client, part).await?;
            while let Some(range) = pages.next() {
                self.run("BEGIN").await?;
                let batch = self.batch(part, range, &condition, quietly, terms).await;
                let end = if batch.is_ok() { "COMMIT" } else { "ROLLBACK" };
                let ended = self.run(end).await;
                let read = match batch {
                    Ok(read) => read,
                    Err(Stop::Job(error)) => return Err(error),
                    Err(Stop::Row(place, problem)) => {
                        return Err(self.explain(&place, problem).await);
                    }
                };
                ended?;
                pass.rewritten += read.rows as u64;
                pages.learn(&read);
            }
        }
        if pass.rewritten == 0 {
            pass.left = self.count(&condition).await?;
        }
        Ok(pass)
    }

    /// Opens every value and sees whether it fits.
    pub(super) async fn verify(&self, fit: &Fit<'_>) -> Result<u64, JobError> {
        self.settle().await?;
        let mut verified = 0;
        for part in &self.parts {
            let mut pages = Pages::of(self.client, part).await?;
            while let Some(range) = pages.next() {
                let rows = self.read(part, range, "true", "").await?;
                let mut read = Read::default();
                for row in &rows {
                    let row = self.parse(row)?;
                    read.add(row.value);
                    if let Err(problem) = fit.check(row.value).await {
                        return Err(self.explain(row.place, problem).await);
                    }
                }
                verified += read.rows as u64;
                pages.learn(&read);
            }
        }
        Ok(verified)
    }

    /// Reads, locks, seals and writes the rows of some pages.
    async fn batch(
        &self,
        part: &str,
        range: (u64, u64),
        condition: &str,
        quietly: bool,
        terms: &Terms<'_>,
    ) -> Result<Read, Stop> {
        if quietly {
            // The plaintext does not change: nothing that watches for changes is told.
            self.run("SET LOCAL session_replication_role = replica")
                .await?;
        }
        let lock = "FOR NO KEY UPDATE SKIP LOCKED";
        let rows = self.read(part, range, condition, lock).await?;
        let mut read = Read::default();
        let (mut places, mut values) = (Vec::new(), Vec::new());
        for row in &rows {
            let row = self.parse(row)?;
            read.add(row.value);
            let scope = self.scope(&row).map_err(|stop| stop.at(row.place))?;
            let rewritten = terms.rewritten(row.value, scope.as_ref()).await;
            values.push(rewritten.map_err(|problem| Stop::Row(row.place.to_vec(), problem))?);
            places.push(row.ctid);
        }
        if values.is_empty() {
            return Ok(read);
        }
        let update = format!(
            "UPDATE ONLY {part} AS held SET {column} = made.value \
             FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::pg_catalog.bytea[])) AS made (place, value) \
             WHERE held.ctid = made.place::pg_catalog.tid",
            column = self.column
        );
        let written = self
            .client
            .execute(&update, &[&places, &values])
            .await
            .map_err(self.doing("write values of"))?;
        read.rows = usize::try_from(written).unwrap_or(usize::MAX);
        Ok(read)
    }

    async fn read(
        &self,
        part: &str,
        (from, to): (u64, u64),
        condition: &str,
        lock: &str,
    ) -> Result<Vec<Row>, JobError> {
        let mut columns = String::new();
        for name in self.plan.table.scope.columns() {
            columns.push_str(", ");
            columns.push_str(&sql::quoted(name));
        }
        let select = format!(
            "SELECT pg_catalog.oidsend(tableoid) || pg_catalog.tidsend(ctid), ctid::text, {column}::pg_catalog.bytea{columns} \
             FROM ONLY {part} WHERE ctid >= '({from},0)' AND ctid < '({to},0)' AND {column} IS NOT NULL AND {condition} {lock}",
            column = self.column
        );
        let rows = self.client.query(&select, &[]).await;
        rows.map_err(self.doing("read values of"))
    }

    fn parse<'r>(&self, row: &'r Row) -> Result<Found<'r>, JobError> {
        let parse = || {
            let scope = (3..row.len()).map(|at| {
                let logical = LogicalType::from_oid(row.columns()[at].type_().oid(), -1);
                let value = row.try_get::<_, Option<Raw<'r>>>(at)?;
                let value = value.map(|raw| Value::from_send_form(raw.0.to_vec()));
                Ok(logical.zip(value))
            });
            Ok(Found {
                place: row.try_get(0)?,
                ctid: row.try_get(1)?,
                value: row.try_get(2)?,
                scope: scope.collect::<Result<_, tokio_postgres::Error>>()?,
            })
        };
        parse().map_err(self.doing("understand rows of"))
    }

    /// `None`: only sessions know it.
    fn scope(&self, row: &Found<'_>) -> Result<Option<ScopePath>, Unscoped> {
        match sealing::row_scope(&self.plan.table.scope, &row.scope) {
            Ok(scope) => Ok(Some(scope)),
            Err(sealing::RowProblem::NeedsSession { .. }) => Ok(None),
            Err(sealing::RowProblem::NoScope { column }) => Err(Unscoped { column }),
            Err(_) => Err(Unscoped {
                column: self.plan.table.scope.to_string(),
            }),
        }
    }

    async fn count(&self, condition: &str) -> Result<u64, JobError> {
        let mut left = 0;
        for part in &self.parts {
            let select = format!(
                "SELECT count(*) FROM ONLY {part} WHERE {} IS NOT NULL AND {condition}",
                self.column
            );
            let row = self.client.query_one(&select, &[]).await;
            let row = row.map_err(self.doing("count values of"))?;
            let count: i64 = row.try_get(0).map_err(self.doing("count values of"))?;
            left += count.unsigned_abs();
        }
        Ok(left)
    }

    /// No name is looked up along a path, nothing times out, and row security raises an error instead of hiding rows.
    async fn settle(&self) -> Result<(), JobError> {
        self.run(
            "SET search_path = pg_catalog; SET row_security = off; \
             SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN \
             ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')",
        )
        .await
    }

    async fn may_keep_triggers_quiet(&self) -> bool {
        let tried = "BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK";
        if self.client.batch_execute(tried).await.is_ok() {
            return true;
        }
        let _ = self.client.batch_execute("ROLLBACK").await;
        false
    }

    async fn run(&self, text: &str) -> Result<(), JobError> {
        let done = self.client.batch_execute(text).await;
        done.map_err(self.doing("change the values of"))
    }

    fn doing(&self, what: &str) -> impl Fn(tokio_postgres::Error) -> JobError + use<'a> {
        let doing = format!("{what} {}", self.plan.shown());
        move |error| JobError::while_doing(doing.clone())(error)
    }

    async fn explain(&self, place: &[u8], problem: Problem) -> JobError {
        let row = row_name::of(self.client, &self.plan.table, place).await;
        let (table, column) = (self.plan.table.shown(), self.plan.wanted.column.clone());
        match problem {
            Problem::Job(error) => error,
            Problem::OfAnother => JobError::ValueOfAnother { table, row, column },
            Problem::Damaged => JobError::ValueDamaged { table, row, column },
            Problem::DoesNotFit { sqlstate } => JobError::DoesNotFit {
                table,
                row,
                column,
                logical: match &self.plan.wanted.step {
                    pgveil_policy::ruleset::Step::Narrow { to, .. } => to.sql_name(),
                    _ => String::new(),
                },
                sqlstate,
            },
            Problem::NoScope { column } => JobError::NoScope { table, row, column },
        }
    }
}

/// A row that was read.
struct Found<'r> {
    place: &'r [u8],
    ctid: String,
    value: &'r [u8],
    scope: Vec<Option<(LogicalType, Value)>>,
}

/// What a batch held.
#[derive(Default)]
struct Read {
    rows: usize,
    bytes: usize,
}

impl Read {
    fn add(&mut self, value: &[u8]) {
        self.rows += 1;
        self.bytes += value.len();
    }
}

/// Why a batch is rolled back.
enum Stop {
    Job(JobError),
    Row(Vec<u8>, Problem),
}

impl From<JobError> for Stop {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

struct Unscoped {
    column: String,
}

impl Unscoped {
    fn at(self, place: &[u8]) -> Stop {
        let column = self.column;
        Stop::Row(place.to_vec(), Problem::NoScope { column })
    }
}

/// The pages of a table, a few at a time.
struct Pages {
    at: u64,
    end: u64,
    step: u64,
}

impl Pages {
    async fn of(client: &Client, part: &str) -> Result<Self, JobError> {
        let doing = || JobError::while_doing(format!("see how large {part} is"));
        let row = client
            .query_one(
                "SELECT pg_catalog.pg_relation_size($1::text::pg_catalog.regclass) \
                 / pg_catalog.current_setting('block_size')::int8",
                &[&part],
            )
            .await
            .map_err(doing())?;
        let pages: i64 = row.try_get(0).map_err(doing())?;
        Ok(Self {
            at: 0,
            end: pages.unsigned_abs(),
            step: FIRST_PAGES,
        })
    }

    fn next(&mut self) -> Option<(u64, u64)> {
        let from = self.at;
        self.at = (from + self.step).min(self.end);
        (from < self.end).then_some((from, self.at))
    }

    /// More pages where there was little to do in these, fewer where there was much.
    fn learn(&mut self, read: &Read) {
        let full = read.rows * 2 > BATCH_ROWS || read.bytes * 2 > BATCH_BYTES;
        self.step = if full { self.step / 2 } else { self.step * 2 };
        self.step = self.step.clamp(1, MAX_PAGES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_in_ranges_that_follow_what_they_hold() {
        let mut pages = Pages {
            at: 0,
            end: 20,
            step: FIRST_PAGES,
        };
        assert_eq!(pages.next(), Some((0, 4)));
        pages.learn(&Read::default());
        assert_eq!(pages.next(), Some((4, 12)));
        pages.learn(&Read {
            rows: BATCH_ROWS,
            bytes: 0,
        });
        assert_eq!(pages.next(), Some((12, 16)));
        pages.learn(&Read {
            rows: 1,
            bytes: BATCH_BYTES,
        });
        assert_eq!(pages.next(), Some((16, 18)));
        pages.step = 100;
        assert_eq!(pages.next(), Some((18, 20)));
        assert_eq!(pages.next(), None);
    }
}
