//! Programs of real drivers (`tests/drivers/`): each says of every way in which applications use it whether the answers
//! through pgveil and from plain PostgreSQL are the same. Here stand their two databases, and `docs/drivers.md`,
//! which their words are compared with.

use std::{fs, path::PathBuf, process::Command, sync::Mutex};

use anyhow::{Context, Result, bail, ensure};

use crate::{postgres::TempPostgres, proxy::Proxy};

/// Set, it makes a run write the page instead of comparing with it.
const UPDATE: &str = "UPDATE_DRIVERS";
/// Above the rows that are written.
const HEAD: &str = "| driver | way | through pgveil |\n| --- | --- | --- |\n";

/// A column of every logical type, as `tests/drivers/columns.json` lists them: `(type, can be searched)`.
fn columns() -> Result<Vec<(String, bool)>> {
    let text = fs::read_to_string(folder().join("columns.json"))?;
    let parsed: serde_json::Value = serde_json::from_str(&text)?;
    let list = parsed.as_array().context("a list")?;
    list.iter()
        .map(|column| {
            let kind = column["type"].as_str().context("a type")?;
            Ok((kind.to_owned(), column["search"].as_bool().unwrap_or(false)))
        })
        .collect()
}

/// Where the programs stand.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// Runs a program with the URL of a protected and of a plain database, and compares what it says with the page.
pub fn run(driver: &str, mut program: Command) -> Result<()> {
    let columns = columns()?;
    let mut table = "CREATE TABLE every (id int PRIMARY KEY".to_owned();
    let mut policy = "public.every  scope = \"platform\"\n".to_owned();
    for (number, (kind, searched)) in columns.iter().enumerate() {
        let unique = if kind == "text" { " UNIQUE" } else { "" };
        table.push_str(&format!(", c{number} {kind}{unique}"));
        let search = if *searched {
            ", search = [\"equality\"]"
        } else {
            ""
        };
        policy.push_str(&format!("    c{number}: {kind}{search}\n"));
    }
    table.push(')');
    let (sealed, plain) = (
        TempPostgres::fresh_database()?,
        TempPostgres::fresh_database()?,
    );
    sealed.run(&table)?;
    plain.run(&table)?;
    let (_site, proxy) = Proxy::start(&sealed, &policy)?;
    let output = program
        .args([proxy.url("app"), plain.url("app")])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .with_context(|| format!("run {program:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}{errors}\n{}", proxy.log());
    let rows: Vec<String> = said
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(way, verdict)| format!("| {driver} | {way} | {verdict} |"))
        .collect();
    ensure!(!rows.is_empty(), "it said nothing: {said}{errors}");
    ensure!(!said.contains("WRONG"), "answers differ:\n{said}{errors}");
    settle(driver, &rows)
}

fn settle(driver: &str, rows: &[String]) -> Result<()> {
    // Tests of one process write the page in turn.
    static PAGE: Mutex<()> = Mutex::new(());
    let _alone = PAGE.lock();
    let path = folder().join("../../docs/drivers.md");
    let page = fs::read_to_string(&path).context("docs/drivers.md")?;
    let (before, table) = page
        .split_once(HEAD)
        .context("docs/drivers.md has its table")?;
    let (table, after) = table.split_once("\n\n").unwrap_or((table.trim_end(), ""));
    let own = format!("| {driver} | ");
    let listed: Vec<&str> = table.lines().filter(|row| row.starts_with(&own)).collect();
    if listed == rows {
        return Ok(());
    }
    if std::env::var_os(UPDATE).is_none() {
        bail!(
            "docs/drivers.md says\n{}\nand the program says\n{}\n{UPDATE}=1 rewrites the page.",
            listed.join("\n"),
            rows.join("\n")
        );
    }
    let mut all: Vec<String> = table
        .lines()
        .filter(|row| !row.starts_with(&own))
        .map(str::to_owned)
        .collect();
    let at = all
        .iter()
        .position(|row| row.as_str() > own.as_str())
        .unwrap_or(all.len());
    all.splice(at..at, rows.iter().cloned());
    let gap = if after.is_empty() {
        "\n".to_owned()
    } else {
        format!("\n\n{after}")
    };
    fs::write(path, format!("{before}{HEAD}{}{gap}", all.join("\n")))?;
    Ok(())
}
