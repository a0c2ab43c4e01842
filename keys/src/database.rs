//! Connections to Postgres for pgveil's own use: keystore, catalog, jobs. Client sessions never pass here.

mod tls;

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use pgveil_config::TlsMode;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Row, Statement,
    config::{Host, SslMode},
    error::SqlState,
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long one address may take to accept, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection, with the task that drives it. Derefs to [`Client`]; `is_closed` tells when the server has gone.
pub struct Database {
    client: Client,
    driver: JoinHandle<()>,
    /// As many as there are texts in the program.
    statements: Mutex<HashMap<&'static str, Statement>>,
    /// One whose text was put together.
    last: Mutex<Option<(String, Statement)>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("closed", &self.client.is_closed())
            .finish_non_exhaustive()
    }
}

impl Deref for Database {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Database {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Database {
    /// Runs a statement that is prepared once per connection.
    ///
    /// # Errors
    /// As the server or the connection has it.
    pub async fn ask(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement = self.prepared(sql).await?;
        self.client.query(&statement, params).await
    }

    /// Prepares statements for [`Self::ask`]. Those that are then asked at once, without waiting for the answers in between,
    /// reach the server in the order in which they are asked.
    ///
    /// # Errors
    /// As the server or the connection has it.
    pub async fn know(&self, statements: &[&'static str]) -> Result<(), tokio_postgres::Error> {
        for sql in statements {
            self.prepared(sql).await?;
        }
        Ok(())
    }

    /// Runs a statement that stays prepared until another one is run this way.
    ///
    /// # Errors
    /// As the server or the connection has it.
    pub async fn ask_again(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let held = || { self.last.lock() }.unwrap_or_else(PoisonError::into_inner);
        let of_text = |(text, statement): &(String, Statement)| {
            (text.as_str() == sql).then(|| statement.clone())
        };
        let known = held().as_ref().and_then(of_text);
        let statement = match known {
            Some(statement) => statement,
            None => {
                let statement = self.client.prepare(sql).await?;
                *held() = Some((sql.to_owned(), statement.clone()));
                statement
            }
        };
        self.client.query(&statement, params).await
    }

    async fn prepared(&self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        let held = || { self.statements.lock() }.unwrap_or_else(PoisonError::into_inner);
        let known = held().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        // Not held while preparing: two may prepare the same once, which harms nobody.
        let statement = self.client.prepare(sql).await?;
        held().insert(sql, statement.clone());
        Ok(statement)
    }

    /// Says good-bye to the server and waits until the connection is gone. (Dropping says good-bye too, without waiting.)
    pub async fn close(self) {
        drop(self.client);
        // The driver only fails by a panic in tokio-postgres; there is nothing left to do about it here.
        let _ = self.driver.await;
    }
}

/// Connects as libpq does with this `sslmode`. `url` is a libpq URL or keyword string; its own `sslmode` is not used.
///
/// `ca_file` is a PEM bundle of trusted roots, absent: the system's. As in libpq, `require` with a CA file verifies the chain.
pub async fn connect(
    url: &str,
    tls: TlsMode,
    ca_file: Option<&Path>,
) -> Result<Database, ConnectError> {
    connect_telling(url, tls, ca_file, None).await
}

/// [`connect`], for LISTEN: payloads go to `told`, which ends with the connection. What it has no room for is dropped.
pub async fn connect_listening(
    url: &str,
    tls: TlsMode,
    ca_file: Option<&Path>,
    told: Told,
) -> Result<Database, ConnectError> {
    connect_telling(url, tls, ca_file, Some(told)).await
}

/// Takes payloads of notifications.
pub type Told = mpsc::Sender<String>;

async fn connect_telling(
    url: &str,
    tls: TlsMode,
    ca_file: Option<&Path>,
    told: Option<Told>,
) -> Result<Database, ConnectError> {
    let mut config: Config = url.parse().map_err(|_| ConnectError::Url)?;
    if config.get_application_name().is_none() {
        config.application_name("pgveil");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    let tls = if only_sockets(&config) {
        TlsMode::Disable
    } else {
        tls
    };
    match tls {
        TlsMode::Disable => plain(config, told).await,
        TlsMode::Prefer => match encrypted(config.clone(), tls, ca_file, told.clone()).await {
            Err(ConnectError::Connect { error }) if plain_may_help(&error) => {
                plain(config, told).await
            }
            other => other,
        },
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => {
            encrypted(config, tls, ca_file, told).await
        }
    }
}

/// libpq ignores sslmode on Unix sockets.
fn only_sockets(config: &Config) -> bool {
    !config.get_hosts().is_empty()
        && config
            .get_hosts()
            .iter()
            .all(|host| matches!(host, Host::Unix(_)))
}

async fn plain(mut config: Config, told: Option<Told>) -> Result<Database, ConnectError> {
    config.ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect(NoTls).await?;
    Ok(Database {
        client,
        driver: tokio::spawn(drive(connection, told)),
        statements: Mutex::default(),
        last: Mutex::default(),
    })
}

async fn encrypted(
    mut config: Config,
    tls: TlsMode,
    ca_file: Option<&Path>,
    told: Option<Told>,
) -> Result<Database, ConnectError> {
    config.ssl_mode(if tls == TlsMode::Prefer {
        SslMode::Prefer
    } else {
        SslMode::Require
    });
    let connector = MakeRustlsConnect::new(tls::client_config(tls, ca_file)?);
    let (client, connection) = config.connect(connector).await?;
    Ok(Database {
        client,
        driver: tokio::spawn(drive(connection, told)),
        statements: Mutex::default(),
        last: Mutex::default(),
    })
}

/// With `prefer`, libpq tries again without TLS when the handshake or the login failed, but not when nobody answered.
fn plain_may_help(error: &tokio_postgres::Error) -> bool {
    if let Some(code) = error.code() {
        return *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            || *code == SqlState::INVALID_PASSWORD;
    }
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|io| {
        matches!(
            io.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        )
    })
}

/// Runs a connection to its end; notices go to the log, payloads of notifications to who wants them.
async fn drive<S, T>(mut connection: Connection<S, T>, told: Option<Told>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) => {
                tracing::debug!(message = notice.message(), "notice from the server");
            }
            Ok(AsyncMessage::Notification(heard)) => {
                if let Some(told) = &told {
                    // Whoever has no room looks by itself before long.
                    let _ = told.try_send(heard.payload().to_owned());
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "pgveil's own connection to the database ended");
                return;
            }
        }
    }
}

/// Why there is no connection. Never shows the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL does not parse.
    #[error("the database URL is not a libpq URL or keyword string that pgveil understands")]
    Url,
    /// The CA file.
    #[error("CA file {}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no trusted roots.
    #[error("this system has no trusted root certificates")]
    NoRoots,
    /// TLS could not be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The server, or the way to it.
    #[error("{}", describe(error))]
    Connect {
        /// tokio-postgres's own error.
        error: tokio_postgres::Error,
    },
}

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Connect { error }
    }
}

impl ConnectError {
    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Url => {
                "write it as postgres://user@host:port/database; give sslmode as `tls`, not in the URL"
            }
            Self::CaFile { .. } => {
                "name a PEM file with the certificates of the authorities that you trust"
            }
            Self::NoRoots => "install ca-certificates, or name a ca_file",
            Self::Tls(_) => "see the TLS settings in pgveil.toml",
            Self::Connect { .. } => {
                "see that the server runs, that pg_hba.conf admits the user, and that `tls` suits it"
            }
        }
    }
}

/// An error of tokio-postgres with its cause: the server's message, or the operating system's.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        // DETAIL may show a row's content.
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bad_url_is_not_shown() {
        let error = connect("postgres://u:hunter2@h:x/db", TlsMode::Disable, None)
            .await
            .expect_err("no port");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_at_once() {
        // Port 1 of the loopback: refused, not filtered.
        let error = connect("postgres://u@127.0.0.1:1/db", TlsMode::Prefer, None)
            .await
            .expect_err("nobody listens");
        assert!(matches!(error, ConnectError::Connect { .. }), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn verification_needs_roots_that_can_be_read() {
        let missing = Path::new("/nonexistent/ca.pem");
        for mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
            let error = connect("postgres://u@127.0.0.1:1/db", mode, Some(missing))
                .await
                .expect_err("no file");
            assert!(matches!(error, ConnectError::CaFile { .. }), "{error}");
        }
    }
}
