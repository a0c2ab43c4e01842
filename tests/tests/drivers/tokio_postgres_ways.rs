//! The ways of tokio-postgres. Values are compared as the bytes of their binary form, so that no types of other crates are
//! needed; typed values are in `drivers.rs`.

use std::error::Error;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt, future::try_join_all, pin_mut};
use pgveil_tests::driver::{self, Column, Databases};
use tokio_postgres::{
    Client, NoTls, SimpleQueryMessage, Transaction,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

const WAYS: &[&str] = &[
    "literals",
    "simple query",
    "parameters",
    "prepared",
    "described types",
    "query_typed",
    "queries at once",
    "portal",
    "stream",
    "COPY out",
    "COPY out, binary",
    "COPY in",
    "COPY in, binary",
    "= parameter",
    "= ANY(array)",
    "NULLs",
    "savepoints",
    "SQLSTATE of bad input",
    "SQLSTATE of a duplicate",
];

/// The binary form of a value of any type.
#[derive(Debug, Clone, PartialEq)]
struct Raw(Option<Vec<u8>>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Some(raw.to_vec())))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match &self.0 {
            Some(value) => {
                out.extend_from_slice(value);
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn given(row: &[Raw]) -> Vec<&(dyn ToSql + Sync)> {
    row.iter()
        .map(|value| value as &(dyn ToSql + Sync))
        .collect()
}

/// One way in one transaction, which is rolled back afterwards.
struct Run<'a> {
    on: Transaction<'a>,
    columns: &'a [Column],
    select: String,
    insert: String,
}

impl<'a> Run<'a> {
    async fn begin(client: &'a mut Client, columns: &'a [Column]) -> Result<Self> {
        let list = driver::list(columns);
        let marks: Vec<String> = (1..=columns.len() + 1).map(|at| format!("${at}")).collect();
        Ok(Self {
            on: client.transaction().await?,
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
            "simple query" => self.simple().await,
            "parameters" => self.parameters().await,
            "prepared" => self.prepared().await,
            "described types" => self.described().await,
            "query_typed" => self.typed().await,
            "queries at once" => self.at_once().await,
            "portal" => self.portal().await,
            "stream" => self.stream().await,
            "COPY out" => self.copy_out("COPY every TO STDOUT").await,
            "COPY out, binary" => self.copy_out("COPY every TO STDOUT (FORMAT binary)").await,
            "COPY in" => self.copy_in("").await,
            "COPY in, binary" => self.copy_in("(FORMAT binary)").await,
            "= parameter" => self.equality().await,
            "= ANY(array)" => self.any_of_an_array().await,
            "NULLs" => self.nulls().await,
            "savepoints" => self.savepoints().await,
            "SQLSTATE of bad input" => self.bad_input().await,
            "SQLSTATE of a duplicate" => self.duplicate().await,
            other => bail!("no way is called {other}"),
        }
    }

    async fn read(&self, sql: &str, values: &[Raw]) -> Result<Vec<Vec<Raw>>> {
        let rows = self.on.query(sql, &given(values)).await?;
        Ok(rows
            .iter()
            .map(|row| (0..row.len()).map(|at| row.get(at)).collect())
            .collect())
    }

    async fn fill(&self) -> Result<()> {
        for row in 0..driver::rows(self.columns) {
            let sql = driver::insert_literals(self.columns, row, row);
            self.on.execute(&sql, &[]).await?;
        }
        self.on
            .execute("INSERT INTO every (id) VALUES (99)", &[])
            .await?;
        Ok(())
    }

    /// The rows in their binary form, and nothing left in the table.
    async fn taken(&self) -> Result<Vec<Vec<Raw>>> {
        self.fill().await?;
        let rows = self.read(&self.select, &[]).await?;
        self.on.execute("DELETE FROM every", &[]).await?;
        Ok(rows)
    }

    async fn literals(&self) -> Result<String> {
        self.fill().await?;
        Ok(format!("{:?}", self.read(&self.select, &[]).await?))
    }

    async fn simple(&self) -> Result<String> {
        self.fill().await?;
        let text = format!("{}; SELECT c7 FROM every WHERE id = 1", self.select);
        let mut said = Vec::new();
        for message in self.on.simple_query(&text).await? {
            match message {
                SimpleQueryMessage::Row(row) => {
                    let fields = (0..row.len()).map(|at| row.get(at).map(str::to_owned));
                    said.push(format!("{:?}", fields.collect::<Vec<_>>()));
                }
                SimpleQueryMessage::CommandComplete(count) => said.push(count.to_string()),
                _ => {}
            }
        }
        Ok(said.join("\n"))
    }

    async fn parameters(&self) -> Result<String> {
        for row in self.taken().await? {
            self.on.execute(&self.insert, &given(&row)).await?;
        }
        Ok(format!("{:?}", self.read(&self.select, &[]).await?))
    }

    async fn prepared(&self) -> Result<String> {
        let insert = self.on.prepare(&self.insert).await?;
        for row in self.taken().await? {
            self.on.execute(&insert, &given(&row)).await?;
        }
        let text = format!(
            "SELECT {} FROM every WHERE id = $1",
            driver::list(self.columns)
        );
        let one = self.on.prepare(&text).await?;
        let mut said = Vec::new();
        for id in [0_i32, 1, 0, 99, 1, 7] {
            for row in self.on.query(&one, &[&id]).await? {
                said.push((0..row.len()).map(|at| row.get(at)).collect::<Vec<Raw>>());
            }
        }
        Ok(format!("{said:?}"))
    }

    async fn described(&self) -> Result<String> {
        let insert = self.on.prepare(&self.insert).await?;
        let select = self.on.prepare(&self.select).await?;
        let columns: Vec<_> = select
            .columns()
            .iter()
            .map(|column| {
                (
                    column.name().to_owned(),
                    column.type_().clone(),
                    column.column_id(),
                )
            })
            .collect();
        Ok(format!("{:?} {columns:?}", insert.params()))
    }

    async fn typed(&self) -> Result<String> {
        let types = self.on.prepare(&self.insert).await?.params().to_vec();
        for row in self.taken().await? {
            let values: Vec<_> = given(&row).into_iter().zip(types.iter().cloned()).collect();
            self.on.query_typed(&self.insert, &values).await?;
        }
        Ok(format!("{:?}", self.read(&self.select, &[]).await?))
    }

    async fn at_once(&self) -> Result<String> {
        let rows = self.taken().await?;
        let sql = format!("{} RETURNING *", self.insert);
        let said = try_join_all(rows.iter().map(|row| self.read(&sql, row))).await?;
        Ok(format!("{said:?}"))
    }

    async fn portal(&self) -> Result<String> {
        self.fill().await?;
        let portal = self.on.bind(&self.select, &[]).await?;
        let mut said: Vec<Vec<Vec<Raw>>> = Vec::new();
        for _ in 0..4 {
            let rows = self.on.query_portal(&portal, 2).await?;
            let rows = rows
                .iter()
                .map(|row| (0..row.len()).map(|at| row.get(at)).collect());
            said.push(rows.collect());
        }
        Ok(format!("{said:?}"))
    }

    async fn stream(&self) -> Result<String> {
        self.fill().await?;
        let none: [&(dyn ToSql + Sync); 0] = [];
        let rows = self.on.query_raw(&self.select, none).await?;
        let rows: Vec<Vec<Raw>> = rows
            .map_ok(|row| (0..row.len()).map(|at| row.get(at)).collect())
            .try_collect()
            .await?;
        Ok(format!("{rows:?}"))
    }

    async fn copied(&self, sql: &str) -> Result<Vec<Bytes>> {
        Ok(self.on.copy_out(sql).await?.try_collect().await?)
    }

    async fn copy_out(&self, sql: &str) -> Result<String> {
        self.fill().await?;
        Ok(format!("{:?}", self.copied(sql).await?.concat()))
    }

    async fn copy_in(&self, options: &str) -> Result<String> {
        self.fill().await?;
        let parts = self
            .copied(&format!("COPY every TO STDOUT {options}"))
            .await?;
        self.on.execute("DELETE FROM every", &[]).await?;
        let sink = self
            .on
            .copy_in::<_, Bytes>(&format!("COPY every FROM STDIN {options}"))
            .await?;
        pin_mut!(sink);
        for part in parts {
            sink.send(part).await?;
        }
        let count = sink.finish().await?;
        Ok(format!("{count} {:?}", self.read(&self.select, &[]).await?))
    }

    async fn equality(&self) -> Result<String> {
        self.fill().await?;
        let rows = self.read(&self.select, &[]).await?;
        let mut said = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            for row in rows.iter().filter(|_| column.searched) {
                let sql = format!(
                    "SELECT id FROM every WHERE {} = $1 ORDER BY id",
                    column.name
                );
                said.push(self.read(&sql, &row[at + 1..=at + 1]).await?);
            }
        }
        Ok(format!("{said:?}"))
    }

    async fn any_of_an_array(&self) -> Result<String> {
        self.fill().await?;
        let rows = self.read(&self.select, &[]).await?;
        let mut said = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            if column.searched {
                let values: Vec<Raw> = rows[1..].iter().map(|row| row[at + 1].clone()).collect();
                let sql = format!(
                    "SELECT id FROM every WHERE {} = ANY ($1) ORDER BY id",
                    column.name
                );
                let found = self.on.query(&sql, &[&values]).await?;
                said.push(found.iter().map(|row| row.get::<_, i32>(0)).collect());
            }
        }
        Ok(format!("{:?}", said as Vec<Vec<i32>>))
    }

    async fn nulls(&self) -> Result<String> {
        self.fill().await?;
        let mut said = Vec::new();
        for column in self.columns {
            let name = &column.name;
            let update = format!("UPDATE every SET {name} = $1 WHERE id = 0");
            self.on.execute(&update, &[&Raw(None)]).await?;
            let sql = format!("SELECT id FROM every WHERE {name} IS NULL ORDER BY id");
            said.push(self.read(&sql, &[]).await?);
        }
        Ok(format!("{said:?}"))
    }

    async fn savepoints(&mut self) -> Result<String> {
        self.fill().await?;
        let mut inner = self.on.transaction().await?;
        inner.execute("DELETE FROM every WHERE id = 0", &[]).await?;
        let innermost = inner.savepoint("named").await?;
        innermost.execute("DELETE FROM every", &[]).await?;
        innermost.rollback().await?;
        inner.commit().await?;
        Ok(format!("{:?}", self.read(&self.select, &[]).await?))
    }

    async fn bad_input(&mut self) -> Result<String> {
        let mut said = Vec::new();
        for column in self.columns {
            let inner = self.on.transaction().await?;
            let sql = format!(
                "INSERT INTO every (id, {}) VALUES (1, 'not a {} at all')",
                column.name, column.kind
            );
            let found = inner.execute(&sql, &[]).await;
            said.push(
                found
                    .err()
                    .and_then(|error| error.code().map(|code| code.code().to_owned())),
            );
            inner.rollback().await?;
        }
        Ok(format!("{said:?}"))
    }

    async fn duplicate(&self) -> Result<String> {
        self.fill().await?;
        let sql = driver::insert_literals(self.columns, 0, 70);
        self.on.execute(&sql, &[]).await?;
        Ok("took it".to_owned())
    }
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn outcome(client: &mut Client, columns: &[Column], way: &str) -> Result<String> {
    let mut run = Run::begin(client, columns).await?;
    let said = match run.way(way).await {
        Ok(said) => said,
        Err(error) => {
            let cause = error.downcast_ref::<tokio_postgres::Error>();
            let code = cause.and_then(tokio_postgres::Error::code);
            format!(
                "raised {}",
                code.with_context(|| format!("{way}: {error:#}"))?.code()
            )
        }
    };
    run.on.rollback().await?;
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokio_postgres_is_answered_as_its_page_says() -> Result<()> {
    let columns = driver::columns()?;
    let databases = Databases::of(&columns)?;
    let [through, plain] = databases.urls();
    let (mut through, mut plain) = (connect(&through).await?, connect(&plain).await?);
    let mut said = String::new();
    for way in WAYS {
        let verdict = driver::judge(
            &outcome(&mut through, &columns, way).await?,
            &outcome(&mut plain, &columns, way).await?,
        );
        said.push_str(&format!("{way}: {verdict}\n"));
    }
    driver::settle("tokio-postgres", &said)
}
