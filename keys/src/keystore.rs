//! The keystore: schema `pgveil` in a Postgres database, seen as a store of wrapped keys. It never holds an unwrapped one.
//!
//! One connection serves all: every operation is a single autocommitted statement, so that it can be repeated as a
//! whole when the connection was lost, and is committed when it returns. One file per table.

mod connection;
mod keks;
pub mod labels;
mod memory;
mod records;
pub mod registry;
mod scopes;

use std::{path::PathBuf, sync::Arc, time::Duration};

use pgveil_config::Settings;
use tokio_postgres::{Row, error::SqlState, types::ToSql};

pub use memory::MemoryKeyTable;
pub use records::{KeyRecord, KeyState, KeyTable, NewKey};
pub use scopes::ScopeRecord;

use crate::{
    clock::{Clock, SystemClock},
    database::{ConnectError, describe},
    schema::SchemaError,
};
use connection::Connection;

/// How long a statement may take before its connection counts as lost.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// The keystore's tables, over a connection that is made again when it is lost.
#[derive(Debug)]
pub struct Keystore {
    connection: Connection,
}

impl Keystore {
    /// Connects to `[keystore]` and refuses a schema of another version.
    pub async fn connect(settings: &Settings) -> Result<Self, KeystoreError> {
        Self::connect_with_clock(settings, Arc::new(SystemClock)).await
    }

    /// [`Keystore::connect`], with the clock that paces reconnecting.
    pub async fn connect_with_clock(
        settings: &Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeystoreError> {
        let connection = Connection::new(Target::of(settings), clock);
        connection.session().await?;
        Ok(Self { connection })
    }

    /// Runs one statement, once more if the connection was lost. It must bear being run twice.
    async fn query(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, KeystoreError> {
        match self.query_once(sql, params).await {
            Err(KeystoreError::Unavailable { .. }) => self.query_once(sql, params).await,
            answer => answer,
        }
    }

    async fn query_once(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, KeystoreError> {
        let session = self.connection.session().await?;
        let answer = match tokio::time::timeout(OPERATION_TIMEOUT, session.query(sql, params)).await
        {
            Ok(answer) => answer.map_err(|error| KeystoreError::from_statement(&error)),
            Err(_) => Err(KeystoreError::Unavailable {
                reason: "no answer in time".to_owned(),
            }),
        };
        if matches!(answer, Err(KeystoreError::Unavailable { .. })) {
            self.connection.lost(&session).await;
        }
        answer
    }
}

/// Where the keystore is.
#[derive(Clone, Debug)]
struct Target {
    url: pgveil_config::settings::Secret,
    tls: pgveil_config::TlsMode,
    ca_file: Option<PathBuf>,
}

impl Target {
    fn of(settings: &Settings) -> Self {
        Self {
            url: settings.keystore.url.clone(),
            tls: settings.keystore.tls,
            ca_file: settings.keystore.ca_file.clone(),
        }
    }
}

/// The keystore did not do it. Never shows the URL, parameters or rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// The URL, its file or variable, or TLS: nothing that waiting mends.
    #[error("the keystore: {reason}")]
    Misconfigured {
        /// What is wrong.
        reason: String,
        /// What to do.
        cure: &'static str,
    },
    /// No connection.
    #[error("the keystore is unavailable: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// Schema `pgveil` is missing, or of another version.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The server answers with an error.
    #[error("the keystore refuses: {message}")]
    Refused {
        /// The server's words.
        message: String,
    },
    /// A row that pgveil could not have written.
    #[error("the keystore's table {table} is damaged: {reason}")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl KeystoreError {
    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Misconfigured { cure, .. } => cure,
            Self::Unavailable { .. } => "retry; see that the keystore's database can be reached",
            Self::Schema(error) => error.cure(),
            Self::Refused { .. } => {
                "see the server's log, and that the keystore's role owns schema pgveil"
            }
            Self::Damaged { .. } => "restore the table from a backup",
        }
    }

    fn from_statement(error: &tokio_postgres::Error) -> Self {
        let message = describe(error);
        match error.code() {
            // The connection, or the whole server, is going or gone.
            None if error.is_closed() || is_io(error) => Self::Unavailable { reason: message },
            Some(code) if ends_the_connection(code) => Self::Unavailable { reason: message },
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                SchemaError::Forbidden { message }.into()
            }
            Some(code) if *code == SqlState::UNDEFINED_TABLE => SchemaError::NotInstalled.into(),
            _ => Self::Refused { message },
        }
    }

    fn from_connect(error: &ConnectError) -> Self {
        let reason = error.to_string();
        match error {
            ConnectError::Connect { error }
                if error.code().is_some_and(|code| !ends_the_connection(code)) =>
            {
                Self::Misconfigured {
                    reason,
                    cure: "see that the database exists and admits the keystore's role",
                }
            }
            ConnectError::Connect { .. } => Self::Unavailable { reason },
            _ => Self::Misconfigured {
                reason,
                cure: error.cure(),
            },
        }
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// Class 08, 57P (shutdown, crash, start-up) and 53 (no connections left): another try may do.
fn ends_the_connection(code: &SqlState) -> bool {
    let code = code.code();
    code.starts_with("08") || code.starts_with("57P") || code.starts_with("53")
}

impl From<tokio_postgres::Error> for KeystoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::from_statement(&error)
    }
}
