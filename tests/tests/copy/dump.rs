//! pg_dump and pg_restore through pgveil: plaintext goes out and comes in again, while the tables hold ciphertext. Also
//! psql's `\copy` and what drivers do with COPY.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use pgveil_tests::{
    postgres::{PASSWORD, TempPostgres},
    psql::Target,
    python,
    twin::Twin,
};

use crate::{POLICY, ROWS, TABLES};

const TABLE_NAMES: [&str; 5] = ["people", "secrets", "tenants", "\"Odd Name\"", "open"];

/// Runs a program of PostgreSQL's and returns what it wrote. `None`: this server came without it.
fn run(target: &Target, program: &str, args: &[&str], input: &[u8]) -> Result<Option<Vec<u8>>> {
    let path = target.bin.join(program);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return Ok(None);
    }
    let mut child = Command::new("timeout")
        .args(["-k", "1", "120"])
        .arg(path)
        .args(["-d", &target.conninfo()])
        .args(args)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    // A program that failed may not have read everything.
    let _ = feeder.join();
    if !output.status.success() {
        bail!(
            "{program} {args:?}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(Some(output.stdout))
}

fn dump(target: &Target, args: &[&str]) -> Result<Option<Vec<u8>>> {
    let mut all = vec!["--data-only"];
    for table in TABLE_NAMES {
        all.extend(["-t", table]);
    }
    all.extend_from_slice(args);
    run(target, "pg_dump", &all, b"")
}

/// Without the key that pg_dump draws for each script.
fn text(dump: &[u8]) -> String {
    let text = String::from_utf8_lossy(dump);
    let kept = text.lines().filter(|line| !line.contains("restrict "));
    kept.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_dump_is_that_of_plaintext_and_can_be_restored() -> Result<()> {
    let server = TempPostgres::shared()?;
    let full = Twin::new(server, TABLES, POLICY, ROWS)?;
    let empty = Twin::new(server, TABLES, POLICY, "SELECT 1")?;
    let (plain, veiled) = (full.plain.target("app"), full.proxy.target("app"));
    let into = empty.proxy.target("app");
    for args in [
        &[][..],
        &["--column-inserts"],
        &["--inserts", "--rows-per-insert=3"],
    ] {
        let (Some(direct), Some(through)) = (dump(&plain, args)?, dump(&veiled, args)?) else {
            return Ok(());
        };
        let (direct, through) = (text(&direct), text(&through));
        ensure!(
            direct == through,
            "{args:?}\ndirectly:\n{direct}\nthrough pgveil:\n{through}"
        );
        ensure!(through.contains("ada@example.com"), "{through}");
    }
    let Some(script) = dump(&veiled, &[])? else {
        return Ok(());
    };
    let psql = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"];
    run(&into, "psql", &psql, &script)?;
    same_data(&veiled, &into)?;
    run(&into, "psql", &psql, b"DELETE FROM people; DELETE FROM secrets; DELETE FROM tenants; DELETE FROM \"Odd Name\"; DELETE FROM open;")?;
    let Some(archive) = dump(&veiled, &["-Fc"])? else {
        return Ok(());
    };
    run(
        &into,
        "pg_restore",
        &["--data-only", "--exit-on-error"],
        &archive,
    )?;
    same_data(&veiled, &into)?;
    // What the tables hold is ciphertext.
    let stored = empty
        .veiled
        .target("app")
        .psql("SELECT substr(email, 1, 4) FROM people WHERE id = 1")?;
    ensure!(stored == "\\x50475601", "{stored}");
    Ok(())
}

fn same_data(one: &Target, other: &Target) -> Result<()> {
    let (Some(one), Some(other)) = (dump(one, &[])?, dump(other, &[])?) else {
        return Ok(());
    };
    let (one, other) = (text(&one), text(&other));
    ensure!(one == other, "before:\n{one}\nafter:\n{other}");
    Ok(())
}

#[test]
fn psql_copies_files() -> Result<()> {
    let twin = Twin::new(TempPostgres::shared()?, TABLES, POLICY, ROWS)?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    let versions = { twin.plain.target("app") }.psql("\\echo :VERSION_NUM :SERVER_VERSION_NUM")?;
    let is_new: Vec<bool> = { versions.split_whitespace() }
        .map(|version| version.parse::<u32>().is_ok_and(|number| number >= 180_000))
        .collect();
    // An older psql sends the end mark of CSV too, which a server of 18 takes for a row.
    let csv = match is_new.as_slice() {
        [false, true] => "",
        _ => "\\copy people (id, email) from stdin csv\n101,\"in, csv\"\n\\.\n",
    };
    let script = |file: &Path| {
        let file = file.display();
        format!(
            "\\copy people to '{file}' csv header\n\\copy people (id, email, ssn) to stdout\n\
             BEGIN;\nDELETE FROM people;\n\\copy people from '{file}' csv header\n\
             \\copy people (id, email) from stdin\n100\tin psql\n\\.\n\
             {csv}COPY people (id, age) FROM STDIN;\n102\tx\n\\.\nROLLBACK;\n\
             COPY secrets FROM STDIN;\nlast\n\\.\n\
             COPY (SELECT secret FROM secrets ORDER BY secret = 'last', 1 = 1) TO STDOUT;\n"
        )
    };
    let (direct, through) = (file("direct"), file("through"));
    let one = twin.plain.target("app").psql(&script(&direct))?;
    let other = twin.proxy.target("app").psql(&script(&through))?;
    ensure!(
        one.replace("direct", "through") == other,
        "directly:\n{one}\nthrough pgveil:\n{other}"
    );
    ensure!(std::fs::read(direct)? == std::fs::read(through)?);
    Ok(())
}

const PSYCOPG: &str = r#"
import sys, psycopg
with psycopg.connect(sys.argv[1]) as conn:
    cur = conn.cursor()
    with cur.copy("COPY people (id, email, age) FROM STDIN") as copy:
        copy.write_row((50, "row, of\tpsycopg", 5))
        copy.write_row((51, None, None))
        copy.write("52\tblock\t6\n53\tsecond")
        copy.write(b"\t7\n")
    with cur.copy("COPY people (id, email, age) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text", "int4"])
        copy.write_row((54, "binary \\ row", 8))
    with cur.copy("COPY (SELECT id, email, age FROM people WHERE id >= 50 ORDER BY id) TO STDOUT") as copy:
        for row in copy.rows():
            print(row)
    with cur.copy("COPY (SELECT id, email, age FROM people WHERE id >= 50 ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["int4", "text", "int4"])
        for row in copy.rows():
            print(row)
    conn.rollback()
    try:
        with cur.copy("COPY people (id, age) FROM STDIN") as copy:
            copy.write("50\tx\n")
    except psycopg.Error as e:
        print(e.sqlstate, e.diag.message_primary, e.diag.context)
    conn.rollback()
    try:
        with cur.copy("COPY people (id, age) FROM STDIN") as copy:
            copy.write("50\t1\n")
            raise ValueError("changed my mind")
    except Exception as e:
        print(type(e).__name__)
    conn.rollback()
    print(cur.execute("SELECT count(*) FROM people").fetchone())
"#;

#[test]
fn psycopg_copies_as_on_plaintext() -> Result<()> {
    let Some(mut one) = python::with("psycopg")? else {
        return Ok(());
    };
    let Some(mut other) = python::with("psycopg")? else {
        return Ok(());
    };
    let twin = Twin::new(TempPostgres::shared()?, TABLES, POLICY, ROWS)?;
    let run = |python: &mut Command, target: &Target| -> Result<String> {
        let output = python.args(["-c", PSYCOPG, &target.conninfo()]).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let one = run(&mut one, &twin.plain.target("app"))?;
    let other = run(&mut other, &twin.proxy.target("app"))?;
    ensure!(one == other, "directly:\n{one}\nthrough pgveil:\n{other}");
    ensure!(one.contains("row, of\\tpsycopg"), "{one}");
    // The connection string holds it; nothing else may.
    ensure!(!other.contains(PASSWORD));
    Ok(())
}
