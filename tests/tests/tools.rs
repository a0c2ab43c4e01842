//! What comes with PostgreSQL, and what stands before pgveil: psql's own commands, pgbench, pgbouncer. Each on a protected table through pgveil, and on the same table in plaintext. pg_dump and `\copy` are in `copy.rs`.

#[path = "tools/pgbouncer.rs"]
mod pgbouncer;
#[path = "tools/programs.rs"]
mod programs;
#[path = "tools/psql.rs"]
mod psql;

use std::process::Command;

use anyhow::Result;
use pgveil_tests::{postgres::TempPostgres, psql::Target, twin::Twin};

const TABLES: &str =
    "CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, age int4, born date, plain text);
    CREATE TABLE open (id int PRIMARY KEY, v text);";
const POLICY: &str = r#"
public.people  scope = "platform"
    email: text, search = ["equality"]
    age: int4, search = ["equality"]
    born: date
"#;
const ROWS: &str = "INSERT INTO people VALUES (1, 'ada@example.com', 36, '1815-12-10', 'x'), (2, 'bob', 36, '2001-02-03', 'y'),
    (3, 'cy', 7, NULL, 'x'); INSERT INTO open VALUES (1, 'v')";

fn twin() -> Result<Twin<'static>> {
    Twin::new(TempPostgres::shared()?, TABLES, POLICY, ROWS)
}

/// Runs a program of PostgreSQL's: whether it went well, and what it said. `None`: this server came without it.
fn run(target: &Target, program: &str, args: &[&str]) -> Result<Option<(bool, String)>> {
    let path = target.bin.join(program);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return Ok(None);
    }
    let output = Command::new("timeout")
        .args(["-k", "1", "120"])
        .arg(path)
        .args(args)
        .args(["-d", &target.conninfo()])
        .env("LC_ALL", "C.UTF-8")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok(Some((output.status.success(), said.into_owned())))
}
