//! Replication connections: what the disks hold goes by as it is, and SQL that may hold plaintext does not.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::{Database, Options, PASSWORD, TempPostgres},
    proxy::Proxy,
    site::Site,
    wire::{Message, Wire, transcript},
};

use crate::{POLICY, TABLES};

const CANARY: &str = "canary-of-replication@example.com";

fn replicating() -> Result<TempPostgres> {
    TempPostgres::start(&Options::default().setting("wal_level", "logical"))
}

fn filled(server: &TempPostgres) -> Result<(Database<'_>, Site<'_>, Proxy)> {
    let database = server.database()?;
    database.run(TABLES)?;
    database.admin("ALTER ROLE app REPLICATION")?;
    let (site, proxy) = Proxy::start(&database, POLICY)?;
    let said = proxy.psql(
        "app",
        &format!("INSERT INTO people VALUES (1, '{CANARY}', 1)"),
    )?;
    ensure!(said == "INSERT 0 1", "{said}");
    Ok((database, site, proxy))
}

/// Runs one of the server's programs against the proxy, for a while at most.
fn run(server: &TempPostgres, proxy: &Proxy, program: &str, args: &[&str]) -> Result<Output> {
    let output = Command::new("timeout")
        .args(["-s", "INT", "-k", "20", "60"])
        .arg(server.bin().join(program))
        .args(["-h", "127.0.0.1", "-U", "app", "-w", "-p"])
        .arg(proxy.port().to_string())
        .args(args)
        .env("PGPASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {program}"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

fn holds(dir: &Path, bytes: &[u8]) -> Result<bool> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            holds(&path, bytes)?
        } else {
            memchr::memmem::find(&fs::read(&path)?, bytes).is_some()
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_base_backup_holds_ciphertext() -> Result<()> {
    let server = replicating()?;
    if !server.bin().join("pg_basebackup").is_file() {
        println!(
            "not asked: this server comes without its pg_basebackup, and an older one refuses it"
        );
        return Ok(());
    }
    let (_database, _site, proxy) = filled(&server)?;
    let dir = tempfile::tempdir()?;
    let copy = dir.path().join("copy");
    let target = copy.to_string_lossy().into_owned();
    run(
        &server,
        &proxy,
        "pg_basebackup",
        &["-D", &target, "-X", "stream", "-c", "fast", "--no-sync"],
    )?;
    ensure!(
        holds(&copy, b"PGV\x01")?,
        "no sealed value is in the backup"
    );
    ensure!(
        !holds(&copy, CANARY.as_bytes())?,
        "plaintext is in the backup"
    );
    Ok(())
}

#[test]
fn logical_decoding_yields_ciphertext() -> Result<()> {
    let server = replicating()?;
    let (database, _site, proxy) = filled(&server)?;
    let slot = ["--slot", "people", "-d", database.name()];
    // The first two are answered by the walsender; the third is a stream both ways.
    let create = [&slot[..], &["--create-slot", "-P", "test_decoding"]].concat();
    run(&server, &proxy, "pg_recvlogical", &create)?;
    proxy.psql(
        "app",
        &format!("INSERT INTO people VALUES (2, '{CANARY}', 2)"),
    )?;
    let end = database.admin("SELECT pg_current_wal_insert_lsn()")?;
    let start = [
        &slot[..],
        &["--start", "-f", "-", "--endpos", &end, "--no-loop"],
    ]
    .concat();
    let decoded = run(&server, &proxy, "pg_recvlogical", &start)?;
    let text = String::from_utf8_lossy(&decoded.stdout).into_owned();
    ensure!(
        text.contains("table public.people: INSERT") && text.contains("\\x50475601"),
        "{text}"
    );
    ensure!(!text.contains(CANARY), "{text}");
    Ok(())
}

#[test]
fn sql_on_a_replication_connection_keeps_away_from_protected_tables() -> Result<()> {
    let server = replicating()?;
    let (database, _site, proxy) = filled(&server)?;
    let mut wire = Wire::connect_with(&proxy.target("app"), &[("replication", "database")])?;
    let said = wire.query("IDENTIFY_SYSTEM")?;
    ensure!(said.contains(database.name()), "{said}");
    let said = wire.query("SELECT v FROM open WHERE id = 1; SELECT 'x'")?;
    ensure!(said.contains("DataRow [\"x\"]"), "{said}");
    for sql in [
        format!("INSERT INTO people VALUES (9, '{CANARY}', 1)"),
        "COPY public.people TO STDOUT".to_owned(),
        "SELECT email FROM people".to_owned(),
        format!("SHOW x; INSERT INTO people VALUES (9, '{CANARY}', 1)"),
    ] {
        let said = wire.query(&sql)?;
        ensure!(
            said.contains("0A000") && said.ends_with("ReadyForQuery I"),
            "{sql}: {said}"
        );
    }
    wire.send(&[
        Message::parse(
            "",
            &format!("INSERT INTO people VALUES (9, '{CANARY}', 1)"),
            &[],
        ),
        Message::sync(),
    ])?;
    let said = transcript(&wire.until_ready(1)?);
    ensure!(said.contains("08P01"), "{said}");
    let mut wire = Wire::connect_with(&proxy.target("app"), &[("replication", "true")])?;
    let said = wire.query(&format!("INSERT INTO people VALUES (9, '{CANARY}', 1)"))?;
    ensure!(said.contains("ErrorResponse"), "{said}");
    let log = fs::read_to_string(server.log_file())?;
    ensure!(!log.contains(CANARY), "plaintext is in the server's log");
    Ok(())
}

#[test]
fn replication_is_refused_where_the_operator_says_so() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let mut site = Site::new(&database, "")?;
    site.set("", "replication", "\"refuse\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    for value in ["true", "database", "1"] {
        let refused = Wire::connect_with(&proxy.target("app"), &[("replication", value)]);
        let said = format!("{:#}", refused.err().context("it was let in")?);
        ensure!(said.contains("0A000"), "{said}");
    }
    Wire::connect_with(&proxy.target("app"), &[("replication", "false")]).map(drop)
}
