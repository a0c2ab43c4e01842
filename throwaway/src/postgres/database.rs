//! One database of a throw-away server, for one test. Dropping it leaves the database: the server goes as a whole.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use tokio_postgres::{Client, NoTls};

use super::{PASSWORD, TempPostgres};
use crate::psql::Target;

/// An otherwise empty database owned by `app`; `pgveil` may create its schema there.
#[derive(Debug)]
pub struct Database<'a> {
    server: &'a TempPostgres,
    name: String,
}

impl<'a> Database<'a> {
    pub(super) fn create(server: &'a TempPostgres) -> Result<Self> {
        Self::create_from(server, "template1")
    }

    /// Another database with the same contents: objects have the same OIDs in both. Nobody may be connected to this one.
    pub fn copy(&self) -> Result<Self> {
        Self::create_from(self.server, &self.name)
    }

    fn create_from(server: &'a TempPostgres, template: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
        server.admin(
            "postgres",
            &format!("CREATE DATABASE {name} OWNER app TEMPLATE {template}"),
        )?;
        server.admin(
            "postgres",
            &format!("GRANT CREATE ON DATABASE {name} TO pgveil"),
        )?;
        Ok(Self { server, name })
    }

    /// Its server.
    pub fn server(&self) -> &'a TempPostgres {
        self.server
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL as `app`, who owns what it makes; returns what psql prints.
    pub fn run(&self, sql: &str) -> Result<String> {
        self.server.admin(
            &self.name,
            &format!("SET SESSION AUTHORIZATION app;\n{sql}"),
        )
    }

    /// Runs SQL as the superuser.
    pub fn admin(&self, sql: &str) -> Result<String> {
        self.server.admin(&self.name, sql)
    }

    /// A libpq URL for `role` with the harness's password.
    pub fn url(&self, role: &str) -> String {
        format!(
            "postgres://{role}:{PASSWORD}@127.0.0.1:{}/{}",
            self.server.port(),
            self.name
        )
    }

    /// Where psql and the raw client connect directly.
    pub fn target(&self, role: &str) -> Target {
        Target {
            bin: self.server.bin().to_owned(),
            port: self.server.port(),
            database: self.name.clone(),
            role: role.to_owned(),
            extra: Vec::new(),
        }
    }

    /// Runs a script in psql directly.
    pub fn psql(&self, role: &str, sql: &str) -> Result<String> {
        self.target(role).psql(sql)
    }

    /// A direct connection.
    pub async fn connect(&self, role: &str) -> Result<Client> {
        connect(&self.url(role)).await
    }
}

/// Connects without TLS and drives the connection in the background; notices are dropped.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
