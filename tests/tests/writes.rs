//! Writes as applications send them, against a table whose rows belong to tenants: the same on plaintext and through
//! pgveil, or refused, and every value under the keys of its row's tenant.

#[path = "writes/applications.rs"]
mod applications;
#[path = "writes/asked.rs"]
mod asked;
#[path = "writes/conflicts.rs"]
mod conflicts;
#[path = "writes/fetched.rs"]
mod fetched;
#[path = "writes/given.rs"]
mod given;
#[path = "writes/merging.rs"]
mod merging;
#[path = "writes/moments.rs"]
mod moments;

use anyhow::{Result, bail, ensure};
use pgveil_tests::{
    postgres::TempPostgres,
    twin::{Case, Expect, Twin},
};

const TABLES: &str = "
    CREATE TABLE accounts (
        id int PRIMARY KEY,
        tenant_id int,
        email text,
        note text,
        pin int,
        title text,
        version int NOT NULL DEFAULT 0,
        handle text UNIQUE
    );
    CREATE TABLE parts (
        id bigint PRIMARY KEY,
        tenant text NOT NULL,
        project varchar(20) NOT NULL,
        label text,
        size numeric(10,2),
        n int
    );
    CREATE TABLE plain (id int PRIMARY KEY, tenant_id int, name text, n int);
    CREATE UNIQUE INDEX accounts_by_tenant ON accounts (tenant_id, id);
";

const POLICY: &str = r#"
public.accounts  scope = "tenant:{tenant_id}"
    email: text, search = ["equality"]
    note: text
    pin: int4, search = ["equality"], search_key = "shared"
    handle: text, search = ["equality"], search_key = "shared"
public.parts  scope = "tenant:{tenant}/project:{project}"
    label: text, search = ["equality"], search_key = "shared"
    size: numeric(10,2)
"#;

const ROWS: &str = "
    INSERT INTO accounts (id, tenant_id, email, note, pin, title, handle) VALUES
        (1, 10, 'ada', 'first', 1, 'a', 'one'), (2, 10, 'bob', NULL, 2, 'b', NULL), (3, 20, 'ada', 'third', 1, 'c', 'three'),
        (4, 20, NULL, NULL, NULL, NULL, NULL), (5, 30, 'eve', 'fifth', 5, 'a', NULL);
    INSERT INTO parts VALUES
        (1, 'acme', 'crm', 'bolt', 1.5, 1), (2, 'acme', 'web', 'nut', 2, 2), (3, 'Öl/& Söhne', 'crm', NULL, NULL, 3);
    INSERT INTO plain VALUES (1, 10, 'one', 5), (2, 20, 'two', 6), (3, 20, 'three', 7);
";

/// Databases of its own for each test.
fn twin() -> Result<Twin<'static>> {
    Twin::new(TempPostgres::shared()?, TABLES, POLICY, ROWS)
}

fn check(expect: Expect, cases: &[Case<'_>]) -> Result<()> {
    let twin = twin()?;
    let mut sessions = twin.sessions("app")?;
    let mut wrong = Vec::new();
    for case in cases {
        wrong.extend(sessions.compare(case, expect)?);
    }
    if !wrong.is_empty() {
        bail!(
            "{} of {} statements\n\n{}",
            wrong.len(),
            cases.len(),
            wrong.join("\n\n")
        );
    }
    Ok(())
}

fn same(statements: &[&str]) -> Result<()> {
    let cases: Vec<_> = statements.iter().map(|sql| Case::new(sql)).collect();
    check(Expect::Same, &cases)
}

fn refused(statements: &[&str]) -> Result<()> {
    let cases: Vec<_> = statements.iter().map(|sql| Case::new(sql)).collect();
    check(Expect::Refused, &cases)
}

fn same_with(statements: &[(&str, &[Option<&str>])]) -> Result<()> {
    let cases: Vec<_> = statements
        .iter()
        .map(|(sql, params)| Case::with(sql, params))
        .collect();
    check(Expect::Same, &cases)
}

fn refused_with(statements: &[(&str, &[Option<&str>])]) -> Result<()> {
    let cases: Vec<_> = statements
        .iter()
        .map(|(sql, params)| Case::with(sql, params))
        .collect();
    check(Expect::Refused, &cases)
}

/// SQL for the id of the key that a value was sealed with.
fn key(column: &str) -> String {
    format!("('x' || encode(substr({column}::bytea, 9, 8), 'hex'))::bit(64)::bigint")
}

/// Every stored value names a key of its row's own scope, and both databases show the same rows.
fn settled(twin: &Twin<'_>) -> Result<()> {
    let mut strangers = String::new();
    for column in ["email", "note", "pin", "handle"] {
        strangers += &twin.veiled.admin(&format!(
            "SELECT a.id, a.tenant_id, k.scope FROM accounts a JOIN pgveil.keys k ON k.id = {} \
             WHERE k.scope <> 'tenant:' || a.tenant_id",
            key(column)
        ))?;
    }
    for column in ["label", "size"] {
        strangers += &twin.veiled.admin(&format!(
            "SELECT p.id, p.tenant, p.project, k.scope FROM parts p JOIN pgveil.keys k ON k.id = {} \
             WHERE tenant = 'acme' AND k.scope <> 'tenant:' || p.tenant || '/project:' || p.project",
            key(column)
        ))?;
    }
    ensure!(
        strangers.trim().is_empty(),
        "sealed for another scope:\n{strangers}"
    );
    for table in ["accounts", "parts"] {
        let sql = format!("SELECT * FROM {table} ORDER BY id");
        let (direct, through) = (twin.plain.psql("app", &sql)?, twin.proxy.psql("app", &sql)?);
        ensure!(
            direct == through,
            "{table} directly:\n{direct}\nthrough pgveil:\n{through}"
        );
    }
    Ok(())
}
