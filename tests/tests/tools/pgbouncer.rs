//! pgbouncer before pgveil, in session and in transaction mode, and behind it in session mode. (In transaction mode behind pgveil it
//! would give one session's statements to several of the server's: docs/limits.md.)

use anyhow::{Context, Result, ensure};
use pgveil_tests::{pgbouncer::Pgbouncer, postgres::TempPostgres, psql::Target};

use crate::{run, twin};

const SESSION: &str = r"SELECT email FROM people WHERE email = 'bob';
BEGIN;
UPDATE people SET email = 'in a transaction' WHERE id = 1;
SAVEPOINT a;
DELETE FROM people;
ROLLBACK TO a;
SELECT * FROM people ORDER BY id;
ROLLBACK;
INSERT INTO people (id, age) VALUES (4, 'many');
\copy people (id, email) to stdout
\copy people (id, email) from program 'echo 9,nine' csv
SELECT email FROM people WHERE email = 'nine';
DECLARE c CURSOR WITH HOLD FOR SELECT email FROM people ORDER BY id;
CLOSE ALL;
SET LOCAL search_path = pg_catalog;
DISCARD ALL;
SELECT age FROM people ORDER BY id;";
/// Two server connections for six clients: each goes from hand to hand.
const SIZE: u32 = 2;

fn at(port: u16, target: &Target) -> Target {
    Target {
        port,
        ..target.clone()
    }
}

/// `None`, with a word, where pgbouncer is not installed.
fn pgbouncer(
    server: &TempPostgres,
    upstream: u16,
    mode: &str,
    size: u32,
) -> Result<Option<Pgbouncer>> {
    let found = Pgbouncer::start(server.user(), upstream, mode, size)?;
    if found.is_none() {
        eprintln!("skipped: pgbouncer is not installed");
    }
    Ok(found)
}

#[test]
fn sessions_and_transactions_may_be_pooled_before_pgveil() -> Result<()> {
    let server = TempPostgres::shared()?;
    for mode in ["session", "transaction"] {
        let twin = twin()?;
        let Some(pool) = pgbouncer(server, twin.proxy.target("app").port, mode, SIZE)? else {
            return Ok(());
        };
        let pooled = at(pool.port, &twin.proxy.target("app"));
        let (direct, through) = (twin.plain.psql("app", SESSION)?, pooled.psql(SESSION)?);
        ensure!(direct == through, "{mode}\n{direct}\n{through}");
        if mode == "transaction" {
            many_clients(&pooled)?;
        }
    }
    Ok(())
}

/// Six clients at once, whose transactions take turns on the same sessions of pgveil.
fn many_clients(pooled: &Target) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("script.sql");
    std::fs::write(
        &file,
        "\\set id 100 + :client_id\nBEGIN;\nINSERT INTO people (id, email, age) VALUES (:id, 'client ' || 'x', :id) ON CONFLICT DO NOTHING;\n\
         UPDATE people SET age = :id WHERE id = :id;\nSELECT age = :id AS right FROM people WHERE id = :id \\gset\nCOMMIT;\n\
         \\if :right\n\\else\nSELECT 1/0;\n\\endif\n"
            .replace("'client ' || 'x'", "NULL"),
    )?;
    let file = file.to_str().context("a path")?;
    for protocol in ["simple", "extended"] {
        let args = [
            "-n", "-c", "6", "-j", "2", "-t", "10", "-M", protocol, "-f", file,
        ];
        let Some((well, said)) = run(pooled, "pgbench", &args)? else {
            return Ok(());
        };
        ensure!(well && !said.contains("aborted"), "{protocol}\n{said}");
    }
    let rows =
        pooled.psql("SELECT count(*) FROM people WHERE age IN (100, 101, 102, 103, 104, 105)")?;
    ensure!(rows == "6", "{rows}");
    Ok(())
}

#[test]
fn sessions_may_be_pooled_behind_pgveil() -> Result<()> {
    let server = TempPostgres::shared()?;
    let mut twin = twin()?;
    let Some(pool) = pgbouncer(server, server.port(), "session", 20)? else {
        return Ok(());
    };
    let address = format!("\"127.0.0.1:{}\"", pool.port);
    twin.site.set("upstream", "address", &address)?;
    let proxy = twin.site.serve()?;
    let (direct, through) = (
        twin.plain.psql("app", SESSION)?,
        proxy.psql("app", SESSION)?,
    );
    ensure!(direct == through, "{direct}\n{through}");
    many_clients(&proxy.target("app"))
}
