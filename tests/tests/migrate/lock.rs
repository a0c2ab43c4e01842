//! What is done under the lock of a swap, as many statements for many partitions as for few, and what is left to do behind it. It
//! measures no time.

use std::{collections::HashMap, fs};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{postgres::TempPostgres, site::Site, wire::Wire};

use super::{online, same};

/// The statements of the transaction in the server's log that has this in it, each by itself.
fn transaction_with(log: &str, mark: &str) -> Result<Vec<String>> {
    // A record is a line, and those that begin with a tab. Each tells its process.
    let mut records: Vec<String> = Vec::new();
    for line in log.lines() {
        match (line.strip_prefix('\t'), records.last_mut()) {
            (Some(more), Some(record)) => record.push_str(more),
            _ => records.push(line.to_owned()),
        }
    }
    let mut open: HashMap<String, Vec<String>> = HashMap::new();
    let mut found = None;
    for record in &records {
        let Some((before, rest)) = record.split_once("LOG:  ") else {
            continue;
        };
        let pid = before.split(['[', ']']).nth(1).unwrap_or_default();
        let statement = match rest.split_once(": ") {
            Some(("statement", text)) => text,
            Some((what, text)) if what.starts_with("execute ") => text,
            _ => continue,
        };
        if statement.starts_with("BEGIN") {
            open.insert(pid.to_owned(), Vec::new());
        }
        let Some(within) = open.get_mut(pid) else {
            continue;
        };
        let each = statement.split(';').map(str::trim);
        within.extend(each.filter(|text| !text.is_empty()).map(str::to_owned));
        if statement == "COMMIT" || statement == "ROLLBACK" {
            let ended = open.remove(pid).unwrap_or_default();
            if ended.iter().any(|text| text.contains(mark)) {
                found = Some(ended);
            }
        }
    }
    found.with_context(|| format!("no transaction with {mark}"))
}

#[test]
fn the_swap_has_as_many_statements_for_many_partitions_as_for_few() -> Result<()> {
    let server = TempPostgres::shared()?;
    let mut counted = Vec::new();
    for (table, parts) in [("few_parts", 3), ("many_parts", 12)] {
        let database = server.database()?;
        database.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, email text NOT NULL, note text) PARTITION BY HASH (id)"
        ))?;
        for at in 0..parts {
            database.run(&format!(
                "CREATE TABLE {table}_{at} PARTITION OF {table} FOR VALUES WITH (MODULUS {parts}, REMAINDER {at})"
            ))?;
        }
        database.run(&format!(
            "CREATE INDEX ON {table} (email); \
             INSERT INTO {table} SELECT n, 'canary' || n, 'note ' || n FROM generate_series(1, 100) n"
        ))?;
        let policy = format!(
            "public.{table}  scope = \"platform\"  email: text, search = [\"equality\"]  note: text"
        );
        let site = Site::new(&database, &policy)?;
        let all = format!("SELECT id, email, note FROM {table} ORDER BY id");
        let before = database.run(&all)?;
        database.admin(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET log_statement = ''all''', current_database()); END $$",
        )?;
        online(&site)?;
        same(&site.serve()?.psql("app", &all)?, &before)?;
        let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'pgveil\\_stale%'";
        ensure!(database.run(left)? == "0");
        site.command("apply", &["--rollback", "--yes"])?.ok()?;
        same(&database.run(&all)?, &before)?;
        ensure!(database.run(left)? == "0");
        let log = fs::read(server.log_file())?;
        let log = String::from_utf8_lossy(&log);
        let there = format!("\"{table}\" RENAME COLUMN \"email\" TO \"pgveil_plain_email\"");
        let back = format!("\"{table}\" RENAME COLUMN \"pgveil_plain_email\" TO \"email\"");
        counted.push((
            transaction_with(&log, &there)?,
            transaction_with(&log, &back)?,
        ));
    }
    let (few, many) = (&counted[0], &counted[1]);
    for (few, many) in [(&few.0, &many.0), (&few.1, &many.1)] {
        ensure!(
            few.iter()
                .any(|text| text.contains("IN ACCESS EXCLUSIVE MODE")),
            "no lock in {few:#?}"
        );
        ensure!(few.len() == many.len(), "{few:#?}\n{many:#?}");
    }
    Ok(())
}

#[test]
fn what_found_stale_rows_and_cannot_go_yet_holds_nothing_up() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); \
         CREATE TABLE t1 PARTITION OF t DEFAULT; INSERT INTO t VALUES (1, 'one')",
    )?;
    let site = Site::new(&database, r#"public.t  scope = "platform"  v: text"#)?;
    online(&site)?;
    // As if it had been stopped behind the swap.
    let name = "SELECT 'pgveil_stale_' || (SELECT id FROM pgveil.migrations) || '_' || 't1'::regclass::oid";
    let name = database.admin(name)?;
    database.run(&format!("CREATE INDEX {name} ON t1 ((1))"))?;
    let mut reader = Wire::connect(&database.target("app"))?;
    reader.query("BEGIN")?;
    reader.query("SELECT count(*) FROM t1")?;
    let contract = ["--contract", "--yes", "--wait", "1"];
    let ran = site.command("apply", &contract)?;
    ensure!(
        ran.code == Some(1) && ran.stderr.contains("pid "),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    reader.query("COMMIT")?;
    site.command("apply", &contract)?.ok()?;
    let left = format!("SELECT count(*) FROM pg_class WHERE relname = '{name}'");
    ensure!(database.run(&left)? == "0");
    ensure!(site.serve()?.psql("app", "SELECT * FROM t")? == "1|one");
    Ok(())
}
