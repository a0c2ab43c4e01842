//! Drivers as applications use them: programs on psycopg 2 and 3, asyncpg, SQLAlchemy, Django, node-postgres, postgres.js
//! pgjdbc, sqlx, and tokio-postgres here, with a column of every logical type, judged against plain PostgreSQL and listed
//! in `docs/drivers.md`; psycopg 3 in depth; tokio-postgres with typed parameters. Raw protocol is in `protocol.rs`, psql in the stories.

#[path = "drivers/tokio_postgres_ways.rs"]
mod tokio_postgres_ways;

use std::{error::Error, path::Path};

use anyhow::{Result, ensure};
use pgveil_tests::{driver, java, node, postgres::TempPostgres, proxy::Proxy, python, rust};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

const TABLE: &str = "CREATE TABLE people (
    id int PRIMARY KEY, name text NOT NULL, email text UNIQUE, age int4, balance numeric(12,2), born date,
    seen timestamptz, active bool, token uuid, doc jsonb, photo bytea, score float8
)";
const POLICY: &str = r#"
public.people  scope = "platform"
    email: text, search = ["equality"]
    age: int4, search = ["equality"]
    balance: numeric(12,2), search = ["equality"]
    born: date, search = ["equality"]
    seen: timestamptz
    active: bool
    token: uuid, search = ["equality"]
    doc: jsonb
    photo: bytea
    score: float8
"#;

/// jsonb in binary: a version byte and the text.
#[derive(Debug, PartialEq)]
struct Jsonb(&'static str);

impl ToSql for Jsonb {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(b"\x01");
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::JSONB
    }

    to_sql_checked!();
}

struct JsonbText(String);

impl<'a> FromSql<'a> for JsonbText {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(String::from_utf8(
            raw.get(1..).unwrap_or_default().to_vec(),
        )?))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::JSONB
    }
}

#[test]
fn psycopg_3_reads_writes_and_searches() -> Result<()> {
    let Some(mut python) = python::with("psycopg")? else {
        return Ok(());
    };
    let database = TempPostgres::fresh_database()?;
    database.run(TABLE)?;
    let (_site, proxy) = Proxy::start(&database, POLICY)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers/psycopg3.py");
    let output = python
        .arg(script)
        .arg(proxy.url("app"))
        .arg(database.url("app"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}\n{}", proxy.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokio_postgres_reads_writes_and_searches() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLE)?;
    let (_site, proxy) = Proxy::start(&database, POLICY)?;
    let mut client = proxy.connect("app").await?;
    let insert = client
        .prepare("INSERT INTO people (id, name, email, age, active, doc, photo, score) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
        .await?;
    let types = [
        Type::INT4,
        Type::TEXT,
        Type::TEXT,
        Type::INT4,
        Type::BOOL,
        Type::JSONB,
        Type::BYTEA,
        Type::FLOAT8,
    ];
    ensure!(insert.params() == types, "{:?}", insert.params());
    let doc = Jsonb("{\"vip\":true}");
    for id in 1..=3 {
        let email = (id != 3).then(|| format!("p{id}@example.com"));
        let count = client
            .execute(
                &insert,
                &[
                    &id,
                    &"n",
                    &email,
                    &(30 + id),
                    &true,
                    &doc,
                    &vec![0_u8, 255],
                    &0.1_f64,
                ],
            )
            .await?;
        ensure!(count == 1);
    }
    let row = client
        .query_one(
            "SELECT * FROM people WHERE email = $1",
            &[&"p1@example.com"],
        )
        .await?;
    ensure!(row.get::<_, i32>("age") == 31 && row.get::<_, bool>("active"));
    ensure!(row.get::<_, JsonbText>("doc").0 == "{\"vip\": true}");
    ensure!(
        row.get::<_, Vec<u8>>("photo") == [0, 255]
            && row.get::<_, f64>("score").to_bits() == 0.1_f64.to_bits()
    );
    let any = client
        .query(
            "SELECT id FROM people WHERE age = ANY ($1) ORDER BY id",
            &[&vec![31, 33, 99]],
        )
        .await?;
    ensure!(
        any.iter()
            .map(|row| row.get::<_, i32>(0))
            .collect::<Vec<_>>()
            == [1, 3]
    );

    let transaction = client.transaction().await?;
    transaction
        .execute(
            "UPDATE people SET email = $1 WHERE email = $2",
            &[&"new@example.com", &"p2@example.com"],
        )
        .await?;
    let portal = transaction
        .bind("SELECT id, email FROM people ORDER BY id", &[])
        .await?;
    let mut emails = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 2).await?;
        emails.extend(rows.iter().map(|row| row.get::<_, Option<String>>(1)));
        if rows.len() < 2 {
            break;
        }
    }
    ensure!(
        emails
            == [
                Some("p1@example.com".to_owned()),
                Some("new@example.com".to_owned()),
                None
            ],
        "{emails:?}"
    );
    transaction.rollback().await?;

    let refused = client
        .query("SELECT id FROM people WHERE email LIKE $1", &[&"p%"])
        .await;
    let code = refused
        .err()
        .and_then(|error| error.code().map(|code| code.code().to_owned()));
    ensure!(code.as_deref() == Some("0A000"), "{code:?}");
    let simple = client
        .simple_query("SELECT email FROM people WHERE id = 1; SELECT 2")
        .await?;
    ensure!(!simple.is_empty());
    Ok(())
}

/// Runs `tests/drivers/SCRIPT ARGS`.
fn python_ways(driver: &str, module: &str, script: &str, args: &[&str]) -> Result<()> {
    let Some(mut program) = python::with(module)? else {
        return Ok(());
    };
    program.arg(driver::folder().join(script)).args(args);
    driver::run(driver, program)
}

fn node_ways(driver: &str, script: &str) -> Result<()> {
    match node::with(script)? {
        Some(program) => driver::run(driver, program),
        None => Ok(()),
    }
}

#[test]
fn psycopg_3_is_answered_as_its_page_says() -> Result<()> {
    python_ways("psycopg 3", "psycopg", "psycopg_ways.py", &["psycopg"])
}

#[test]
fn psycopg_2_is_answered_as_its_page_says() -> Result<()> {
    python_ways("psycopg 2", "psycopg2", "psycopg_ways.py", &["psycopg2"])
}

#[test]
fn asyncpg_is_answered_as_its_page_says() -> Result<()> {
    python_ways("asyncpg", "asyncpg", "asyncpg_ways.py", &[])
}

#[test]
fn sqlalchemy_on_psycopg_3_is_answered_as_its_page_says() -> Result<()> {
    let name = "SQLAlchemy (psycopg 3)";
    python_ways(name, "sqlalchemy", "sqlalchemy_ways.py", &["psycopg"])
}

#[test]
fn sqlalchemy_on_psycopg_2_is_answered_as_its_page_says() -> Result<()> {
    let name = "SQLAlchemy (psycopg 2)";
    python_ways(name, "sqlalchemy", "sqlalchemy_ways.py", &["psycopg2"])
}

#[test]
fn django_is_answered_as_its_page_says() -> Result<()> {
    python_ways("Django", "django", "django_ways.py", &[])
}

#[test]
fn node_postgres_is_answered_as_its_page_says() -> Result<()> {
    node_ways("node-postgres", "pg.mjs")
}

#[test]
fn postgres_js_is_answered_as_its_page_says() -> Result<()> {
    node_ways("postgres.js", "postgres.mjs")
}

#[test]
fn pgjdbc_is_answered_as_its_page_says() -> Result<()> {
    match java::with("Pgjdbc.java") {
        Some(program) => driver::run("pgjdbc", program),
        None => Ok(()),
    }
}

#[test]
fn sqlx_is_answered_as_its_page_says() -> Result<()> {
    match rust::sqlx()? {
        Some(program) => driver::run("sqlx", program),
        None => Ok(()),
    }
}
