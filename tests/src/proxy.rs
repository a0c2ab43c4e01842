//! A running `pgveil serve`. It makes no configuration: `site.rs` does.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio_postgres::Client;

use crate::{
    leash::Leashed,
    postgres::{self, Database, PASSWORD},
    psql::Target,
    site::Site,
};

/// How long the proxy may take until it listens.
const START_LIMIT: Duration = Duration::from_mins(1);

/// The proxy. Dropping it kills it; so does the death of this process.
#[derive(Debug)]
pub struct Proxy {
    leashed: Leashed,
    log: PathBuf,
    port: u16,
    database: String,
    bin: PathBuf,
}

impl Proxy {
    /// Configures, applies and serves in one go, for tests that want nothing special.
    pub fn start<'a>(database: &Database<'a>, policy: &str) -> Result<(Site<'a>, Self)> {
        let site = Site::new(database, policy)?;
        site.apply()?;
        let proxy = site.serve()?;
        Ok((site, proxy))
    }

    pub(crate) fn wait(leashed: Leashed, log: PathBuf, site: &Site<'_>) -> Result<Self> {
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let line = leashed.line(START_LIMIT).with_context(said)?;
        let Some(line) = line else {
            bail!("pgveil serve ended while starting:\n{}", said())
        };
        let port = line
            .strip_prefix("pgveil: listening on ")
            .and_then(|address| address.rsplit_once(':'));
        let (_, port) =
            port.with_context(|| format!("not the line that says where it listens: {line}"))?;
        Ok(Self {
            port: port.trim().parse().context("a port")?,
            leashed,
            log,
            database: site.database().to_owned(),
            bin: site.server().bin().to_owned(),
        })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    pub fn process(&self) -> &Leashed {
        &self.leashed
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Asks its `[admin] listen`: status line and body.
    pub fn http(&self, path: &str) -> Result<(String, String)> {
        let log = self.log();
        let address = { log.lines() }
            .filter(|line| line.contains("health and metrics over HTTP"))
            .find_map(|line| line.split("address=").nth(1))
            .with_context(|| log.clone())?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: pgveil\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        let status = head.lines().next().unwrap_or_default();
        Ok((status.to_owned(), body.to_owned()))
    }

    /// Kills it as a crash would, and waits until it is gone.
    pub fn kill9(self) -> Result<()> {
        self.leashed.signal("KILL")?;
        if !self.leashed.wait_for_end(START_LIMIT) {
            bail!("the proxy is still there after SIGKILL");
        }
        Ok(())
    }

    /// Where psql and the raw client connect.
    pub fn target(&self, role: &str) -> Target {
        Target {
            bin: self.bin.clone(),
            port: self.port,
            database: self.database.clone(),
            role: role.to_owned(),
            extra: Vec::new(),
        }
    }

    /// A libpq URL for `role`.
    pub fn url(&self, role: &str) -> String {
        format!(
            "postgres://{role}:{PASSWORD}@127.0.0.1:{}/{}",
            self.port, self.database
        )
    }

    /// Runs a script in psql through the proxy.
    pub fn psql(&self, role: &str, sql: &str) -> Result<String> {
        self.target(role).psql(sql)
    }

    /// Connects with tokio-postgres through the proxy.
    pub async fn connect(&self, role: &str) -> Result<Client> {
        postgres::connect(&self.url(role)).await
    }
}
