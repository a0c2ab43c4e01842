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

    fn script(&self, tables: &[String]) -> Script {
        let text = self.sql.to_ascii_lowercase();
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        let writes = words.any(|word| ["insert", "update", "delete", "merge"].contains(&word));
        let looks = tables.iter().map(|table| format!("TABLE {table}"));
        Script {
            statements: vec![self.sql.trim_end_matches(';').to_owned()],
            params: self.params.clone(),
            after: looks.filter(|_| writes).collect(),
            ordered: !writes && text.contains("order by"),
            features: Vec::new(),
        }
    }
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
        let verdict = sessions
            .play(&statement.script(&corpus.tables), form)
            .with_context(|| statement.sql.clone())?;
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
    clinic
    given
    helpdesk
    hotel
    keys
    music_store
    payloads
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
