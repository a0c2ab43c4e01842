//! The ways of sqlx. Values of types that it decodes only with further crates are compared as the bytes that it got; with their
//! types as it resolved them, which it declares for its parameters too.
//!
//!     pgveil-driver-sqlx COLUMNS THROUGH PLAIN
//!
//! prints for each way whether the answers by both URLs are the same.

mod columns;

use anyhow::{Context, Result, bail};
use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Column as _, Connection, Decode, Encode, Executor, PgConnection, Postgres,
    QueryBuilder, Row, SqlSafeStr, Statement, Transaction, Type, ValueRef,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo},
};

use self::columns::Column;

const WAYS: &[&str] = &[
    "literals",
    "several statements",
    "parameters",
    "parameters, not prepared",
    "described types",
    "typed rows",
    "INSERT RETURNING",
    "QueryBuilder",
    "UNNEST of arrays",
    "stream",
    "COPY out",
    "COPY in",
    "= parameter",
    "= ANY(array)",
    "NULLs",
    "savepoints",
    "SQLSTATE of bad input",
    "SQLSTATE of a duplicate",
];

/// The types that it reads without further crates.
type Native = (
    i32,
    Option<bool>,
    Option<i16>,
    Option<i32>,
    Option<i64>,
    Option<f32>,
    Option<f64>,
    Option<String>,
    Option<Vec<u8>>,
);
const NATIVE: [&str; 8] = [
    "bool", "int2", "int4", "int8", "float4", "float8", "text", "bytea",
];

/// A value as it came, with its type.
#[derive(Clone, Debug, PartialEq)]
struct Raw {
    kind: PgTypeInfo,
    bytes: Option<Vec<u8>>,
}

impl Type<Postgres> for Raw {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("text")
    }

    fn compatible(_: &PgTypeInfo) -> bool {
        true
    }
}

impl Encode<'_, Postgres> for Raw {
    fn encode_by_ref(&self, out: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        match &self.bytes {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.kind.clone())
    }
}

fn raw(row: &PgRow) -> Result<Vec<Raw>> {
    (0..row.len())
        .map(|at| {
            let value = row.try_get_raw(at)?;
            let bytes = if value.is_null() {
                None
            } else {
                Some(
                    value
                        .as_bytes()
                        .map_err(anyhow::Error::from_boxed)?
                        .to_vec(),
                )
            };
            let kind = value.type_info().into_owned();
            Ok(Raw { kind, bytes })
        })
        .collect()
}

/// One way in one transaction, which is rolled back afterwards.
struct Run<'a> {
    on: Transaction<'a, Postgres>,
    columns: &'a [Column],
    select: String,
    insert: String,
}

impl<'a> Run<'a> {
    async fn begin(connection: &'a mut PgConnection, columns: &'a [Column]) -> Result<Self> {
        let list = columns::list(columns);
        let marks: Vec<String> = (1..=columns.len() + 1).map(|at| format!("${at}")).collect();
        Ok(Self {
            on: connection.begin().await?,
            columns,
            select: format!("SELECT id, {list} FROM every ORDER BY id"),
            insert: format!(
                "INSERT INTO every (id, {list}) VALUES ({})",
                marks.join(", ")
            ),
        })
    }

    async fn way(&mut self, name: &str) -> Result<String> {
        match name {
            "literals" => self.literals().await,
            "several statements" => self.several().await,
            "parameters" => self.parameters(true).await,
            "parameters, not prepared" => self.parameters(false).await,
            "described types" => self.described().await,
            "typed rows" => self.typed().await,
            "INSERT RETURNING" => self.returning().await,
            "QueryBuilder" => self.built().await,
            "UNNEST of arrays" => self.unnested().await,
            "stream" => self.stream().await,
            "COPY out" => self.copy_out().await,
            "COPY in" => self.copy_in().await,
            "= parameter" => self.equality().await,
            "= ANY(array)" => self.any_of_arrays().await,
            "NULLs" => self.nulls().await,
            "savepoints" => self.savepoints().await,
            "SQLSTATE of bad input" => self.bad_input().await,
            "SQLSTATE of a duplicate" => self.duplicate().await,
            other => bail!("no way is called {other}"),
        }
    }

    /// By the simple protocol.
    async fn run(&mut self, sql: &str) -> Result<Vec<Vec<Raw>>> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *self.on);
        rows.await?.iter().map(raw).collect()
    }

    /// By the extended one.
    async fn read(&mut self, sql: &str, given: &[Raw], keeps: bool) -> Result<Vec<Vec<Raw>>> {
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(keeps);
        for value in given {
            query = query.bind(value.clone());
        }
        let rows = query.fetch_all(&mut *self.on).await?;
        rows.iter().map(raw).collect()
    }

    async fn all(&mut self) -> Result<Vec<Vec<Raw>>> {
        let select = self.select.clone();
        self.read(&select, &[], true).await
    }

    async fn fill(&mut self) -> Result<()> {
        for row in 0..columns::rows(self.columns) {
            self.run(&columns::insert_literals(self.columns, row, row))
                .await?;
        }
        self.run("INSERT INTO every (id) VALUES (99)").await?;
        Ok(())
    }

    /// The rows in their binary form, and nothing left in the table.
    async fn taken(&mut self) -> Result<Vec<Vec<Raw>>> {
        self.fill().await?;
        let rows = self.all().await?;
        self.run("DELETE FROM every").await?;
        Ok(rows)
    }

    /// The column of a type.
    fn of(&self, kind: &str) -> Result<&'a str> {
        let mut columns = self.columns.iter();
        let found = columns.find(|column| column.kind == kind);
        Ok(&found.with_context(|| kind.to_owned())?.name)
    }

    /// The columns of [`NATIVE`].
    fn native(&self) -> Result<String> {
        let names: Result<Vec<&str>> = NATIVE.iter().map(|kind| self.of(kind)).collect();
        Ok(names?.join(", "))
    }

    async fn natives(&mut self) -> Result<Vec<Native>> {
        let sql = format!("SELECT id, {} FROM every ORDER BY id", self.native()?);
        let rows = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *self.on);
        Ok(rows.await?)
    }

    async fn literals(&mut self) -> Result<String> {
        self.fill().await?;
        let select = self.select.clone();
        Ok(format!("{:?}", self.run(&select).await?))
    }

    async fn several(&mut self) -> Result<String> {
        let insert = columns::insert_literals(self.columns, 0, 0);
        let sql = format!("{insert}; {}; DELETE FROM every; SELECT 1", self.select);
        Ok(format!("{:?}", self.run(&sql).await?))
    }

    async fn parameters(&mut self, keeps: bool) -> Result<String> {
        let insert = self.insert.clone();
        for row in self.taken().await? {
            self.read(&insert, &row, keeps).await?;
        }
        Ok(format!("{:?}", self.all().await?))
    }

    async fn described(&mut self) -> Result<String> {
        let mut said = Vec::new();
        for sql in [&self.insert, &self.select] {
            let prepared = (&mut *self.on)
                .prepare(AssertSqlSafe(sql.as_str()).into_sql_str())
                .await?;
            let columns: Vec<_> = prepared
                .columns()
                .iter()
                .map(|column| (column.name().to_owned(), column.type_info().clone()))
                .collect();
            said.push(format!("{:?} {columns:?}", prepared.parameters()));
        }
        Ok(said.join("\n"))
    }

    async fn typed(&mut self) -> Result<String> {
        self.fill().await?;
        Ok(format!("{:?}", self.natives().await?))
    }

    async fn returning(&mut self) -> Result<String> {
        let text = self.of("text")?;
        let sql = format!("INSERT INTO every (id, {text}) VALUES ($1, $2) RETURNING {text}");
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(5).bind("ada");
        let said: Option<String> = query.fetch_one(&mut *self.on).await?;
        Ok(format!("{said:?}"))
    }

    async fn built(&mut self) -> Result<String> {
        let rows = self.taken().await?;
        let into = format!("INSERT INTO every (id, {}) ", columns::list(self.columns));
        let mut builder = QueryBuilder::<Postgres>::new(into);
        builder.push_values(rows, |mut marks, row| {
            for value in row {
                marks.push_bind(value);
            }
        });
        builder.build().execute(&mut *self.on).await?;
        Ok(format!("{:?}", self.all().await?))
    }

    /// As its own documentation advises for many rows.
    async fn unnested(&mut self) -> Result<String> {
        self.fill().await?;
        let rows = self.natives().await?;
        self.run("DELETE FROM every").await?;
        let arrays: Vec<String> = NATIVE
            .iter()
            .enumerate()
            .map(|(at, kind)| format!("${}::{kind}[]", at + 2))
            .collect();
        let sql = format!(
            "INSERT INTO every (id, {}) SELECT * FROM UNNEST($1::int4[], {})",
            self.native()?,
            arrays.join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        query = query.bind(rows.iter().map(|row| row.0).collect::<Vec<_>>());
        query = query.bind(rows.iter().map(|row| row.1).collect::<Vec<_>>());
        query = query.bind(rows.iter().map(|row| row.2).collect::<Vec<_>>());
        query = query.bind(rows.iter().map(|row| row.3).collect::<Vec<_>>());
        query = query.bind(rows.iter().map(|row| row.4).collect::<Vec<_>>());
        query = query.bind(rows.iter().map(|row| row.5).collect::<Vec<_>>());
        query = query.bind(rows.iter().map(|row| row.6).collect::<Vec<_>>());
        query = query.bind(rows.iter().map(|row| row.7.clone()).collect::<Vec<_>>());
        query = query.bind(rows.iter().map(|row| row.8.clone()).collect::<Vec<_>>());
        query.execute(&mut *self.on).await?;
        Ok(format!("{:?}", self.natives().await?))
    }

    /// What is left of one is thrown away by the next.
    async fn stream(&mut self) -> Result<String> {
        self.fill().await?;
        let first = {
            let mut rows = sqlx::query(AssertSqlSafe(self.select.as_str())).fetch(&mut *self.on);
            rows.try_next().await?.map(|row| raw(&row)).transpose()?
        };
        Ok(format!("{first:?} {:?}", self.all().await?))
    }

    async fn copied(&mut self) -> Result<Vec<u8>> {
        let mut stream = self.on.copy_out_raw("COPY every TO STDOUT").await?;
        let mut all = Vec::new();
        while let Some(piece) = stream.try_next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    async fn copy_out(&mut self) -> Result<String> {
        self.fill().await?;
        Ok(format!("{:?}", String::from_utf8(self.copied().await?)))
    }

    async fn copy_in(&mut self) -> Result<String> {
        self.fill().await?;
        let all = self.copied().await?;
        self.run("DELETE FROM every").await?;
        let mut sink = self.on.copy_in_raw("COPY every FROM STDIN").await?;
        for piece in all.chunks(7) {
            sink.send(piece).await?;
        }
        let count = sink.finish().await?;
        Ok(format!("{count} {:?}", self.all().await?))
    }

    async fn equality(&mut self) -> Result<String> {
        self.fill().await?;
        let rows = self.all().await?;
        let mut said = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            if !column.searched {
                continue;
            }
            let sql = format!(
                "SELECT id FROM every WHERE {} = $1 ORDER BY id",
                column.name
            );
            for row in &rows {
                said.push(self.read(&sql, &row[at + 1..at + 2], true).await?);
            }
        }
        Ok(format!("{said:?}"))
    }

    /// The rows whose column is one of its own values, by an array of them.
    async fn any_of<T>(&mut self, kind: &str) -> Result<Vec<i32>>
    where
        T: for<'r> Decode<'r, Postgres>
            + for<'q> Encode<'q, Postgres>
            + Type<Postgres>
            + PgHasArrayType
            + Send
            + Unpin
            + 'static,
        Vec<T>: for<'q> Encode<'q, Postgres> + Type<Postgres>,
    {
        let name = self.of(kind)?;
        let sql = format!("SELECT {name} FROM every WHERE {name} IS NOT NULL");
        let values: Vec<T> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut *self.on)
            .await?;
        let sql = format!("SELECT id FROM every WHERE {name} = ANY($1) ORDER BY id");
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(values);
        Ok(found.fetch_all(&mut *self.on).await?)
    }

    async fn any_of_arrays(&mut self) -> Result<String> {
        self.fill().await?;
        let said = [
            self.any_of::<bool>("bool").await?,
            self.any_of::<i16>("int2").await?,
            self.any_of::<i32>("int4").await?,
            self.any_of::<i64>("int8").await?,
            self.any_of::<f32>("float4").await?,
            self.any_of::<f64>("float8").await?,
            self.any_of::<String>("text").await?,
            self.any_of::<Vec<u8>>("bytea").await?,
        ];
        Ok(format!("{said:?}"))
    }

    async fn nulls(&mut self) -> Result<String> {
        let mut row = self
            .taken()
            .await?
            .pop()
            .context("the last row is of NULLs")?;
        let insert = self.insert.clone();
        self.read(&insert, &row, true).await?;
        row.truncate(1);
        let mut said = Vec::new();
        for column in self.columns {
            let sql = format!("SELECT id FROM every WHERE {} IS NULL", column.name);
            said.push(self.read(&sql, &[], false).await?);
        }
        Ok(format!("{:?} {said:?}", self.all().await?))
    }

    async fn savepoints(&mut self) -> Result<String> {
        let insert = |row: usize| columns::insert_literals(self.columns, row, row);
        let (first, second) = (insert(0), insert(1));
        let mut inner = self.on.begin().await?;
        sqlx::raw_sql(AssertSqlSafe(first))
            .execute(&mut *inner)
            .await?;
        inner.rollback().await?;
        let mut inner = self.on.begin().await?;
        sqlx::raw_sql(AssertSqlSafe(second))
            .execute(&mut *inner)
            .await?;
        inner.commit().await?;
        Ok(format!("{:?}", self.all().await?))
    }

    async fn bad_input(&mut self) -> Result<String> {
        let mut said = Vec::new();
        for column in self.columns {
            let mut inner = self.on.begin().await?;
            let sql = format!(
                "INSERT INTO every (id, {}) VALUES (1, 'not a {} at all')",
                column.name, column.kind
            );
            let found = sqlx::query(AssertSqlSafe(sql)).execute(&mut *inner).await;
            said.push(found.err().and_then(|error| code(&error)));
            inner.rollback().await?;
        }
        Ok(format!("{said:?}"))
    }

    async fn duplicate(&mut self) -> Result<String> {
        self.fill().await?;
        self.run(&columns::insert_literals(self.columns, 0, 70))
            .await?;
        Ok("took it".to_owned())
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    let said = error.as_database_error()?;
    said.code().map(|code| code.into_owned())
}

async fn outcome(connection: &mut PgConnection, columns: &[Column], way: &str) -> Result<String> {
    let mut run = Run::begin(connection, columns).await?;
    let said = match run.way(way).await {
        Ok(said) => said,
        Err(error) => {
            let told = error.downcast_ref::<sqlx::Error>().and_then(code);
            format!(
                "raised {}",
                told.with_context(|| format!("{way}: {error:#}"))?
            )
        }
    };
    run.on.rollback().await?;
    Ok(said)
}

/// As the harness judges (`pgveil_tests::driver::judge`).
fn judge(through: &str, plain: &str) -> String {
    match through.strip_prefix("raised ") {
        _ if through == plain => "same".to_owned(),
        Some(code @ ("0A000" | "PV001" | "PV003")) => format!("refused with {code}"),
        _ => format!("WRONG: {through} instead of {plain}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, through, plain] = &args[..] else {
        bail!("usage: pgveil-driver-sqlx COLUMNS THROUGH PLAIN");
    };
    let columns = columns::read(file)?;
    let mut through = PgConnection::connect(through).await?;
    let mut plain = PgConnection::connect(plain).await?;
    for way in WAYS {
        let said = outcome(&mut through, &columns, way).await?;
        let verdict = judge(&said, &outcome(&mut plain, &columns, way).await?);
        println!("{way}: {verdict}");
    }
    Ok(())
}
