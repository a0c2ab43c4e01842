//! Golden stories: a file that reads as a session, with what each step prints. `UPDATE_STORIES=1` rewrites what is expected.
//!
//! ```text
//! # What happens, in a sentence.
//! -- policy --                          the policy, short form or TOML
//! -- settings --                        lines of `section.key = toml`
//! -- setup directly: SQL --             as role app, before `pgveil apply`; prints nothing
//! -- as ROLE: SQL --                    psql through pgveil
//! -- in one session as ROLE: SQL --     the same; says that the statements belong together
//! -- directly: SQL --                   psql to Postgres itself as role app (`directly as ROLE:`)
//! -- prepared as ROLE: SQL -- params: 'text', 5, null --     extended protocol, text parameters
//! -- explain: SQL --                    `pgveil explain`
//! -- pgveil COMMAND ARGS --             the command line; prints its output and a failure's exit code
//! -- restart --                         kills pgveil and starts it again
//! ```
//!
//! A header begins with `-- ` and ends at the first line that ends with ` --`; SQL in it may span lines.

mod file;
mod prepared;

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use self::file::{Kind, Story};
use crate::{
    postgres::{Database, TempPostgres},
    proxy::Proxy,
    site::Site,
};

/// Runs one story and compares, or rewrites, what it expects.
pub fn run(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut story = Story::parse(&text).with_context(|| format!("in {}", path.display()))?;
    let told = tell(&story)?;
    if std::env::var_os("UPDATE_STORIES").is_some() {
        for (part, output) in story.parts.iter_mut().zip(told) {
            if part.kind.prints() {
                part.body = output;
            }
        }
        return Ok(fs::write(path, story.render())?);
    }
    let mut differences = String::new();
    for (part, output) in story.parts.iter().zip(&told) {
        if part.kind.prints() && part.body != *output {
            differences.push_str(&difference(&part.header, &part.body, output));
        }
    }
    if !differences.is_empty() {
        bail!(
            "{}\n{differences}\nUPDATE_STORIES=1 makes this the expectation",
            path.display()
        );
    }
    Ok(())
}

fn difference(header: &str, expected: &str, output: &str) -> String {
    let mark = |text: &str, mark: &str| {
        text.lines()
            .flat_map(|line| [mark, " ", line, "\n"])
            .collect::<String>()
    };
    format!("\n{header}\n{}{}", mark(expected, "-"), mark(output, "+"))
}

/// What every part prints, in order.
fn tell(story: &Story) -> Result<Vec<String>> {
    let database = TempPostgres::fresh_database()?;
    let mut stage = Stage {
        database: &database,
        policy: String::new(),
        settings: Vec::new(),
        running: None,
    };
    story
        .parts
        .iter()
        .map(|part| {
            stage
                .play(&part.kind, &part.body)
                .with_context(|| part.header.clone())
        })
        .collect()
}

/// What a story runs on. pgveil starts when the first part needs it.
struct Stage<'a> {
    database: &'a Database<'static>,
    policy: String,
    settings: Vec<(String, String, String)>,
    running: Option<(Site<'static>, Proxy)>,
}

impl Stage<'_> {
    fn play(&mut self, kind: &Kind, body: &str) -> Result<String> {
        match kind {
            Kind::Policy => self.policy = body.to_owned(),
            Kind::Settings => self.settings = file::settings(body)?,
            Kind::Setup(sql) => drop(self.database.run(sql)?),
            Kind::As { role, sql } => return self.running()?.1.psql(role, sql),
            Kind::Directly { role, sql } => {
                self.running()?;
                return self.database.psql(role, sql);
            }
            Kind::Prepared { role, sql, params } => {
                return prepared::run(&self.running()?.1.target(role), sql, params);
            }
            Kind::Explain(sql) => return Ok(self.running()?.0.explain(sql)?.trim_end().to_owned()),
            Kind::Pgveil(words) => return self.pgveil(words),
            Kind::Restart => {
                let (site, proxy) = self.running.take().context("nothing runs yet")?;
                proxy.kill9()?;
                let again = site.serve()?;
                self.running = Some((site, again));
            }
        }
        Ok(String::new())
    }

    fn pgveil(&mut self, words: &[String]) -> Result<String> {
        let site = &self.running()?.0;
        let (command, args) = words.split_first().context("a command")?;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ran = site.command(command, &args)?;
        let mut output = format!("{}{}", ran.stdout, ran.stderr);
        output = output.replace(&format!("{}/", site.etc().display()), "");
        // Which number its database has is chance.
        output = output.replace(&format!("database {} ", site.database()), "database app ");
        if ran.code != Some(0) {
            output.push_str(&format!("exit code {}\n", ran.code.unwrap_or(-1)));
        }
        Ok(output.trim_end().to_owned())
    }

    fn running(&mut self) -> Result<&(Site<'static>, Proxy)> {
        if self.running.is_none() {
            let mut site = Site::new(self.database, &self.policy)?;
            for (section, key, value) in &self.settings {
                site.set(section, key, value)?;
            }
            site.apply()?;
            let proxy = site.serve()?;
            self.running = Some((site, proxy));
        }
        self.running.as_ref().context("it has just been started")
    }
}
