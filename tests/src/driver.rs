//! Programs of real drivers (`tests/drivers/`): each says of every way in which applications use it whether the answers
//! through pgveil and from plain PostgreSQL are the same. Here stand their two databases, and `docs/drivers.md`,
//! which their words are compared with.

use std::{fs, path::PathBuf, process::Command, sync::Mutex};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    postgres::{Database, TempPostgres},
    proxy::Proxy,
    site::Site,
};

/// Set, it makes a run write the page instead of comparing with it.
const UPDATE: &str = "UPDATE_DRIVERS";
/// Above the rows that are written.
const HEAD: &str = "| driver | way | through pgveil |\n| --- | --- | --- |\n";

/// A column of every logical type, as `tests/drivers/columns.json` lists them.
pub struct Column {
    /// `c0`, `c1`, and so on.
    pub name: String,
    /// Its type, as SQL writes it.
    pub kind: String,
    /// Whether the policy gives it equality terms.
    pub searched: bool,
    /// Text forms of a few values.
    pub values: Vec<String>,
}

/// All of them.
pub fn columns() -> Result<Vec<Column>> {
    let text = fs::read_to_string(folder().join("columns.json"))?;
    let parsed: serde_json::Value = serde_json::from_str(&text)?;
    let list = parsed.as_array().context("a list")?.iter().enumerate();
    list.map(|(number, column)| {
        let values = column["values"].as_array().context("values")?.iter();
        Ok(Column {
            name: format!("c{number}"),
            kind: column["type"].as_str().context("a type")?.to_owned(),
            searched: column["search"].as_bool().unwrap_or(false),
            values: values
                .map(|value| Ok(value.as_str().context("a text")?.to_owned()))
                .collect::<Result<_>>()?,
        })
    })
    .collect()
}

/// `c0, c1, ...`
pub fn list(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.join(", ")
}

/// An INSERT of literals: the first value of each column for row 0, the second for row 1, and so on around.
pub fn insert_literals(columns: &[Column], row: usize, id: usize) -> String {
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            let value = &column.values[row % column.values.len()];
            format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
        })
        .collect();
    format!(
        "INSERT INTO every (id, {}) VALUES ({id}, {})",
        list(columns),
        values.join(", ")
    )
}

/// So many rows hold every value of every column.
pub fn rows(columns: &[Column]) -> usize {
    let counts = columns.iter().map(|column| column.values.len());
    counts.max().unwrap_or_default()
}

/// Where the programs stand.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// The table `every` twice: protected, behind pgveil, and plain.
pub struct Databases {
    proxy: Proxy,
    plain: Database<'static>,
    _behind: (Site<'static>, Database<'static>),
}

impl Databases {
    /// Makes both, and starts pgveil before the first.
    pub fn of(columns: &[Column]) -> Result<Self> {
        let mut table = "CREATE TABLE every (id int PRIMARY KEY".to_owned();
        let mut policy = "public.every  scope = \"platform\"\n".to_owned();
        for Column {
            name,
            kind,
            searched,
            ..
        } in columns
        {
            let unique = if kind == "text" { " UNIQUE" } else { "" };
            table.push_str(&format!(", {name} {kind}{unique}"));
            let search = if *searched {
                ", search = [\"equality\"]"
            } else {
                ""
            };
            policy.push_str(&format!("    {name}: {kind}{search}\n"));
        }
        table.push(')');
        let (sealed, plain) = (
            TempPostgres::fresh_database()?,
            TempPostgres::fresh_database()?,
        );
        sealed.run(&table)?;
        plain.run(&table)?;
        let (site, proxy) = Proxy::start(&sealed, &policy)?;
        Ok(Self {
            proxy,
            plain,
            _behind: (site, sealed),
        })
    }

    /// Through pgveil, and of the plain database.
    pub fn urls(&self) -> [String; 2] {
        [self.proxy.url("app"), self.plain.url("app")]
    }
}

/// What a way gave through pgveil, judged by what it gave on the plain database: an error is told as `raised SQLSTATE`.
pub fn judge(through: &str, plain: &str) -> String {
    match through.strip_prefix("raised ") {
        _ if through == plain => "same".to_owned(),
        Some(code @ ("0A000" | "PV001" | "PV003")) => format!("refused with {code}"),
        _ => format!("WRONG: {through} instead of {plain}"),
    }
}

/// Runs a program with the URL of a protected and of a plain database, and compares what it says with the page.
pub fn run(driver: &str, mut program: Command) -> Result<()> {
    let databases = Databases::of(&columns()?)?;
    let output = program
        .args(databases.urls())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .with_context(|| format!("run {program:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{said}{errors}\n{}",
        databases.proxy.log()
    );
    settle(driver, &said).with_context(|| errors.into_owned())
}

/// Compares the page with what was said: lines of `way: verdict`.
pub fn settle(driver: &str, said: &str) -> Result<()> {
    let rows: Vec<String> = said
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(way, verdict)| format!("| {driver} | {way} | {verdict} |"))
        .collect();
    ensure!(!rows.is_empty(), "it said nothing: {said}");
    ensure!(!said.contains("WRONG"), "answers differ:\n{said}");
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
