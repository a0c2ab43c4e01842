//! Schemas of applications with columns that they would protect, and the statements that they send: the same on plaintext
//! and through pgveil, or refused where the file says so. `UPDATE_CORPORA=1` writes what is refused now;
//! `PGVEIL_CORPUS=<file>` plays another file and tells its refusals.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use pgveil_tests::{
    generate::{Form, Script},
    postgres::TempPostgres,
    twin::{Twin, Verdict},
};

/// How a line begins that gives a statement's parameters, separated by ` | `.
const WITH: &str = "-- with: ";
/// How a line begins that says that a statement is refused.
const REFUSED: &str = "-- refused: ";

/// The sections of a file.
struct Corpus {
    /// What stands before the statements, as it is.
    head: String,
    schema: String,
    policy: String,
    rows: String,
    /// Tables to look at after a write.
    tables: Vec<String>,
    statements: Vec<Statement>,
}

/// One statement of the file.
struct Statement {
    /// Lines before it that are comments.
    comment: String,
    sql: String,
    params: Vec<Option<&'static str>>,
    refused: Option<String>,
}

impl Corpus {
    fn read(text: &str) -> Result<Self> {
        let marker = "-- statements --\n";
        let (head, rest) = text.split_once(marker).context("no statements")?;
        let section = |name: &str| -> Result<String> {
            let (_, from) = head
                .split_once(&format!("-- {name} --\n"))
                .with_context(|| format!("no section {name}"))?;
            let end = ["schema", "policy", "rows"]
                .iter()
                .filter_map(|next| from.find(&format!("-- {next} --\n")))
                .min();
            Ok(from[..end.unwrap_or(from.len())].to_owned())
        };
        let schema = section("schema")?;
        let tables = schema
            .lines()
            .filter_map(|line| line.strip_prefix("CREATE TABLE "))
            .filter_map(|rest| rest.split([' ', '(']).next())
            .map(str::to_owned)
            .collect();
        let statements = rest
            .split("\n\n")
            .filter(|block| !block.trim().is_empty())
            .map(Statement::read)
            .collect();
        Ok(Self {
            policy: section("policy")?,
            rows: section("rows")?,
            schema,
            tables,
            head: format!("{head}{marker}"),
            statements,
        })
    }

    fn written(&self, found: &[Option<String>]) -> String {
        let mut text = self.head.clone();
        for (statement, refused) in self.statements.iter().zip(found) {
            text += &statement.comment;
            text += &statement.sql;
            text.push('\n');
            if !statement.params.is_empty() {
                let params = statement.params.iter();
                let params: Vec<_> = params.map(|param| param.unwrap_or("NULL")).collect();
                text += &format!("{WITH}{}\n", params.join(" | "));
            }
            if let Some(refused) = refused {
                text += &format!("{REFUSED}{refused}\n");
            }
            text.push('\n');
        }
        text.trim_end().to_owned() + "\n"
    }
}

impl Statement {
    fn read(block: &str) -> Self {
        let mut statement = Self {
            comment: String::new(),
            sql: String::new(),
            params: Vec::new(),
            refused: None,
        };
        for line in block.lines() {
            if let Some(params) = line.strip_prefix(WITH) {
                // They live as long as the test.
                let param = |text: &str| (text != "NULL").then(|| &*text.to_owned().leak());
                statement.params = params.split(" | ").map(param).collect();
            } else if let Some(refused) = line.strip_prefix(REFUSED) {
                statement.refused = Some(refused.to_owned());
            } else if line.starts_with("--") && statement.sql.is_empty() {
                statement.comment += line;
                statement.comment.push('\n');
            } else {
                statement.sql += line;
                statement.sql.push('\n');
            }
        }
        statement.sql = statement.sql.trim().to_owned();
        statement
    }

    /// The same with its parameters as literals.
    fn with_literals(&self) -> String {
        let (mut text, mut quoted) = (String::new(), false);
        let mut rest = self.sql.as_str();
        while let Some(c) = rest.chars().next() {
            quoted ^= c == '\'';
            let behind = &rest[c.len_utf8()..];
            let digits = behind.len()
                - behind
                    .trim_start_matches(|c: char| c.is_ascii_digit())
                    .len();
            let number = behind[..digits].parse::<usize>().ok();
            let param = number.and_then(|number| self.params.get(number.checked_sub(1)?));
            match param.filter(|_| c == '$' && !quoted) {
                Some(Some(param)) => text += &format!("'{}'", param.replace('\'', "''")),
                Some(None) => text += "NULL",
                None => {
                    text.push(c);
                    rest = behind;
                    continue;
                }
            }
            rest = &behind[digits..];
        }
        text
    }

    fn script(&self, tables: &[String]) -> Script {
        let text = self.sql.to_ascii_lowercase();
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        let writes = words.any(|word| ["insert", "update", "delete", "merge"].contains(&word));
        let looks = tables.iter().map(|table| format!("TABLE {table}"));
        Script {
            // Several, one after the other in one transaction, end their lines with a semicolon.
            statements: { self.sql.trim_end_matches(';').split(";\n") }
                .map(str::to_owned)
                .collect(),
            params: self.params.clone(),
            after: looks.filter(|_| writes).collect(),
            oids: Vec::new(),
            several: false,
            ordered: !writes && orders_its_rows(&text),
            features: Vec::new(),
        }
    }
}

/// Whether the statement itself says in which order its rows come, and not only a window, an aggregate or a sub-select.
fn orders_its_rows(text: &str) -> bool {
    let (mut depth, mut quoted, mut outside) = (0_usize, false, String::new());
    for c in text.chars() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            _ if !quoted && depth == 0 => outside.push(c),
            _ => {}
        }
    }
    outside.contains("order by")
}

fn run(path: &Path, told: bool) -> Result<()> {
    let corpus = Corpus::read(&fs::read_to_string(path)?)?;
    let server = TempPostgres::shared()?;
    let twin = Twin::new(server, &corpus.schema, &corpus.policy, &corpus.rows)?;
    let mut sessions = twin.sessions("app")?;
    let (mut found, mut wrong, mut differ) = (Vec::new(), Vec::new(), Vec::new());
    for statement in &corpus.statements {
        let form = match statement.params.as_slice() {
            [] => Form::Literals,
            _ => Form::Params,
        };
        let script = statement.script(&corpus.tables);
        let verdict = sessions
            .play(&script, form)
            .with_context(|| statement.sql.clone())?;
        if form == Form::Params {
            let literals = Script {
                statements: vec![statement.with_literals()],
                params: Vec::new(),
                ..script
            };
            let other = sessions
                .play(&literals, Form::Literals)
                .with_context(|| literals.statements[0].clone())?;
            match (other, &verdict) {
                (Verdict::Wrong(what), _) => {
                    wrong.push(format!("{}\n{what}", literals.statements[0]));
                }
                (Verdict::Refused(why), Verdict::Same) if told => {
                    println!("only with literals: {}\n  {why}", literals.statements[0]);
                }
                _ => {}
            }
        }
        let refused = match verdict {
            Verdict::Same => None,
            Verdict::Refused(why) => Some(why.trim_end_matches(" | ").to_owned()),
            Verdict::Wrong(what) => {
                wrong.push(format!("{}\n{what}", statement.sql));
                None
            }
        };
        if refused != statement.refused {
            differ.push(format!(
                "{}\n  expected {:?}\n  found    {refused:?}",
                statement.sql, statement.refused
            ));
        }
        found.push(refused);
    }
    let answered = found.iter().filter(|refused| refused.is_none()).count();
    println!("{}: {answered} of {} answered", path.display(), found.len());
    if told {
        println!("{}", differ.join("\n"));
    }
    ensure!(wrong.is_empty(), "WRONG\n\n{}", wrong.join("\n\n"));
    if told {
        return Ok(());
    }
    if env::var_os("UPDATE_CORPORA").is_some() {
        return Ok(fs::write(path, corpus.written(&found))?);
    }
    if !differ.is_empty() {
        bail!("{} differ\n\n{}", differ.len(), differ.join("\n\n"));
    }
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora")
}

macro_rules! corpora {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                run(&folder().join(concat!(stringify!($name), ".sql")), false)
            }
        )*

        const NAMES: &[&str] = &[$(concat!(stringify!($name), ".sql")),*];
    };
}

corpora! {
    bank
    campus
    clinic
    fleet
    given
    helpdesk
    hotel
    keys
    music_store
    payloads
    saas
    shop
    tools
    trading
}

#[test]
fn every_file_is_played() -> Result<()> {
    let files = fs::read_dir(folder())?;
    let mut names = files
        .map(|file| Ok(file?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    assert_eq!(names, NAMES);
    match env::var_os("PGVEIL_CORPUS") {
        Some(path) => run(Path::new(&path), true),
        None => Ok(()),
    }
}
