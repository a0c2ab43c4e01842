//! What everything is measured on: one Postgres, pgbouncer and pgveil before it, and the tables.

use std::process::Command;

use anyhow::{Result, ensure};
use pgveil_tests::{proxy::Proxy, site::Site};
use pgveil_throwaway::{
    Options, TempPostgres,
    pgbouncer::Pgbouncer,
    postgres::{Database, PASSWORD},
};

use crate::pgbench::{Mode, Script, Trial};

/// How much data there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// pgbench's scale: 100,000 rows each.
    pub(crate) scale: u32,
    /// Rows of each table of ours.
    pub(crate) rows: u32,
}

impl Size {
    pub(crate) const FULL: Size = Size {
        scale: 5,
        rows: 50_000,
    };
    pub(crate) const SMALL: Size = Size {
        scale: 1,
        rows: 500,
    };
}

const POLICY: &str = r#"
public.people_sealed  scope = "platform"  account: int8, search = ["equality"]  secret: text
public.log_sealed  scope = "platform"  account: int8, search = ["equality"]  secret: text
"#;

/// Everything that runs. Fields are dropped in this order.
pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    _site: Site<'static>,
    pub(crate) pgbouncer: Option<Pgbouncer>,
    database: Database<'static>,
    pub(crate) size: Size,
}

impl Stage {
    pub(crate) fn set_up(size: Size) -> Result<Self> {
        let options = Options::default()
            .setting("shared_buffers", "256MB")
            .setting("log_statement", "none");
        // The server lives as long as the program; its leash ends it with us.
        let server: &'static TempPostgres = Box::leak(Box::new(TempPostgres::start(&options)?));
        let database = server.database()?;
        database.admin("CREATE EXTENSION pgcrypto")?;
        let initialised = Command::new(server.bin().join("pgbench"))
            .args([
                "-i",
                "-q",
                "-h",
                "127.0.0.1",
                "-U",
                "app",
                &format!("--port={}", server.port()),
            ])
            .args([&format!("--scale={}", size.scale), database.name()])
            .env("PGPASSWORD", PASSWORD)
            .output()?;
        ensure!(
            initialised.status.success(),
            "{}",
            String::from_utf8_lossy(&initialised.stderr)
        );
        database.run(&tables(size.rows))?;
        let mut site = Site::new(&database, POLICY)?;
        site.set("log", "level", "\"warn\"")?;
        site.apply()?;
        database.admin("VACUUM ANALYZE")?;
        let proxy = site.serve()?;
        let pgbouncer = Pgbouncer::start(server.user(), server.port(), "session", 50)?;
        Ok(Self {
            proxy,
            _site: site,
            pgbouncer,
            database,
            size,
        })
    }

    /// The server's version, for the report.
    pub(crate) fn version(&self) -> String {
        self.database.run("SHOW server_version").unwrap_or_default()
    }

    /// A trial on `port`.
    pub(crate) fn trial(
        &self,
        name: &str,
        port: u16,
        mode: Mode,
        clients: u32,
        script: Script,
    ) -> Trial {
        Trial {
            name: format!("{name}, {}", mode.name()),
            pgbench: self.database.server().bin().join("pgbench"),
            port,
            database: self.database.name().to_owned(),
            mode,
            clients,
            rate: None,
            script,
        }
    }

    /// Postgres itself.
    pub(crate) fn direct(&self) -> u16 {
        self.database.server().port()
    }
}

/// The same rows four times: plain, to be sealed by `pgveil apply`, and encrypted in SQL in two ways.
fn tables(rows: u32) -> String {
    let secret = "'secret of person ' || g || ', forty to fifty characters'";
    format!(
        "CREATE TABLE people_plain AS SELECT g AS id, g::int8 AS account, {secret} AS secret FROM generate_series(1, {rows}) g;
         CREATE TABLE people_sealed AS TABLE people_plain;
         CREATE TABLE people_pgp AS SELECT id, account, pgp_sym_encrypt(secret, '{PHRASE}') AS secret FROM people_plain;
         CREATE TABLE people_iv AS SELECT id, account, iv, encrypt_iv(secret::bytea, '{KEY}', iv, 'aes') AS secret
             FROM (SELECT *, gen_random_bytes(16) AS iv FROM people_plain) s;
         ALTER TABLE people_plain ADD PRIMARY KEY (id);
         ALTER TABLE people_sealed ADD PRIMARY KEY (id);
         ALTER TABLE people_pgp ADD PRIMARY KEY (id);
         ALTER TABLE people_iv ADD PRIMARY KEY (id);
         CREATE UNIQUE INDEX ON people_plain (account);
         CREATE UNIQUE INDEX ON people_sealed (account);
         CREATE TABLE log_plain (id int, account int8, secret text);
         CREATE TABLE log_sealed (id int, account int8, secret text);
         CREATE TABLE log_pgp (id int, account int8, secret bytea);
         CREATE TABLE log_iv (id int, account int8, iv bytea, secret bytea);"
    )
}

/// For pgp_sym_encrypt. Not a secret: it stands in every statement, which is what is wrong with that road.
pub(crate) const PHRASE: &str = "correct horse battery staple";
/// 32 bytes for AES-256.
pub(crate) const KEY: &str = "\\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
