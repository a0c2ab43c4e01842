//! Runs the real psql and returns what a person would see, without what differs from one server build to the next.

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::postgres::PASSWORD;

/// How long one script may take, in seconds.
const LIMIT: &str = "120";

/// Where to connect, as whom, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// The folder of `psql`.
    pub bin: PathBuf,
    /// TCP port on 127.0.0.1.
    pub port: u16,
    /// Database name.
    pub database: String,
    /// Role name; its password is the harness's.
    pub role: String,
    /// Further libpq keywords, for example `("sslmode", "verify-full")`.
    pub extra: Vec<(String, String)>,
}

impl Target {
    /// Adds a libpq keyword.
    pub fn with(mut self, keyword: &str, value: &str) -> Self {
        self.extra.push((keyword.to_owned(), value.to_owned()));
        self
    }

    /// The libpq connection string.
    pub fn conninfo(&self) -> String {
        let mut info = format!(
            "host=127.0.0.1 port={} dbname={} user={} password={PASSWORD} connect_timeout=20",
            self.port, self.database, self.role
        );
        for (keyword, value) in &self.extra {
            info.push_str(&format!(
                " {keyword}='{}'",
                value.replace('\\', "\\\\").replace('\'', "\\'")
            ));
        }
        info
    }

    /// Runs `sql` as a script in one session: rows unaligned without headers, NULL as `(null)`, command tags,
    /// errors with SQLSTATE, DETAIL, HINT and position. An SQL error is output, not `Err`.
    pub fn psql(&self, sql: &str) -> Result<String> {
        let (mut reader, writer) = std::io::pipe()?;
        let mut command = Command::new("timeout");
        command.args(["-k", "1", LIMIT]).arg(self.bin.join("psql"));
        command.args([
            "-X",
            "-A",
            "-t",
            "-P",
            "null=(null)",
            "-v",
            "VERBOSITY=verbose",
        ]);
        command.args([
            "-v",
            "SHOW_CONTEXT=never",
            "-d",
            &self.conninfo(),
            "-f",
            "-",
        ]);
        command
            .env("LC_ALL", "C.UTF-8")
            .env("PGCLIENTENCODING", "UTF8")
            .env_remove("PGOPTIONS");
        command
            .stdin(Stdio::piped())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let mut child = command.spawn().context("run psql")?;
        // Our copies of the pipe's write end live in `command`.
        drop(command);
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        let sql = sql.to_owned();
        let feeder = std::thread::spawn(move || stdin.write_all(sql.as_bytes()));
        let mut output = Vec::new();
        reader.read_to_end(&mut output)?;
        child.wait()?;
        let _ = feeder.join();
        Ok(tidy(&String::from_utf8_lossy(&output)))
    }
}

/// Takes away script positions and the server's source locations.
fn tidy(output: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in output.lines() {
        let line = match line.strip_prefix("psql:<stdin>:") {
            Some(rest) => rest.split_once(": ").map_or(rest, |(_, rest)| rest),
            None => line,
        };
        if !line.starts_with("LOCATION:  ") {
            lines.push(line);
        }
    }
    lines.join("\n").trim_end().to_owned()
}
