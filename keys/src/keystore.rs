//! The keystore: schema `pgveil` in a Postgres database, seen as a store of wrapped keys. It never holds an unwrapped one.
//!
//! One connection serves what needs no record: every operation is a single autocommitted statement, so that it can be
//! repeated as a whole when the connection was lost, and is committed when it returns. What changes keys is a
//! transaction with its record, on the audit log's connection ([`Log`]). One file per table.

mod adopting;
mod connection;
mod followed;
mod following;
mod inventory;
mod jobs;
mod keks;
mod memory;
mod offers;
mod overrides;
mod presence;
mod records;
pub mod registry;
mod rows;
mod scopes;
mod sealing;
mod standing;
mod turn;
mod watch;
mod words;
mod written;

use std::{path::PathBuf, sync::Arc};

use pgveil_config::Settings;
use tokio_postgres::{Row, error::SqlState, types::ToSql};
use zeroize::Zeroizing;

pub use adopting::Adopted;
pub use followed::{Claim, Followed, KekRow, KekUse};
pub use inventory::{Due, KeyEntry};
pub use jobs::{
    COLUMN_CHANGE, INDEX_ROTATION, JobOrder, JobRecord, JobState, NewJob, PartRecord, REWRAP,
    TERM_CHANGE,
};
pub use keks::{Loss, PermittedKeks};
pub use memory::MemoryKeyTable;
pub use overrides::{Judged, OverrideRecord, override_operation};
pub use records::{KeyRecord, KeyState, KeyTable, NewKey, Rewrapped};
pub use scopes::ScopeRecord;
pub use sealing::Erased;
pub use standing::Standing;
pub use turn::{Turn, Turner};

pub(crate) use connection::{Connection, Session};

use crate::{
    audit::{Change, Log},
    clock::{Clock, SystemClock},
    database::{ConnectError, Database, describe},
    schema::SchemaError,
    step_up::StepUpError,
};

/// The keystore's tables, over a connection that is made again when it is lost.
#[derive(Debug)]
pub struct Keystore {
    connection: Connection,
    log: Arc<Log>,
    target: Target,
    rows: rows::Known,
    offers: offers::Offers,
    /// The connection that says that this process may have values under way, for one that never says more.
    stays: tokio::sync::OnceCell<Database>,
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
        let target = Target::of(settings);
        let connection = Connection::new(target.clone(), Arc::clone(&clock));
        connection.session().await?;
        // Connects when there is something to record.
        let log = Arc::new(Log::new(
            Connection::new(target.clone(), Arc::clone(&clock)),
            clock,
            settings.audit.public_key,
        ));
        Ok(Self {
            connection,
            log,
            target,
            rows: rows::Known::default(),
            offers: offers::Offers::default(),
            stays: tokio::sync::OnceCell::new(),
        })
    }

    /// Whether it is there and answers.
    pub async fn ping(&self) -> Result<(), KeystoreError> {
        self.query("SELECT 1", &[]).await.map(drop)
    }

    /// Runs one statement, once more if the connection was lost. It must bear being run twice.
    async fn query(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, KeystoreError> {
        self.connection.query(sql, params).await
    }

    /// The audit log, with which every change of keys begins ([`Log::change`]).
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// [`Log::change`].
    pub async fn change(&self) -> Result<Change, KeystoreError> {
        self.log.change().await
    }
}

/// Where the keystore is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    url: pgveil_config::settings::Secret,
    tls: pgveil_config::TlsMode,
    ca_file: Option<PathBuf>,
}

impl Target {
    fn read_url(&self) -> Result<Zeroizing<String>, KeystoreError> {
        self.url
            .read()
            .map_err(|error| KeystoreError::Misconfigured {
                reason: error.to_string(),
                cure: "give url, its file or its environment variable in [keystore]",
            })
    }

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
    /// What was asked for is not done.
    #[error("{reason}")]
    NotDone {
        /// Why.
        reason: String,
        /// What to do instead.
        cure: &'static str,
    },
    /// The audit log cannot be written, so what would have to be in it is not done.
    #[error("the audit log cannot be written: {reason}")]
    Unaudited {
        /// Why not.
        reason: String,
    },
    /// The platform's provider does not answer, and without it the audit log's key is not to be had.
    #[error("the audit log's key cannot be unwrapped now: {reason}")]
    LogKeyAway {
        /// The provider's error.
        reason: String,
    },
    /// No key is made for a scope that is sealed by hand.
    #[error("scope {scope} is sealed")]
    ScopeSealed {
        /// The scope.
        scope: String,
    },
    /// Nothing was ever sealed for that scope, or one below it.
    #[error("there is no scope {scope}: neither it nor one below it ever had a key")]
    NoScope {
        /// The scope.
        scope: String,
    },
    /// Step-up is missing, or was refused.
    #[error(transparent)]
    StepUp(#[from] StepUpError),
    /// A row of `pgveil.keys` that pgveil did not write, or not last.
    #[error("key {id} in the keystore is refused: {reason}")]
    KeyRow {
        /// The key.
        id: u64,
        /// What shows it.
        reason: String,
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
            Self::Misconfigured { cure, .. } | Self::NotDone { cure, .. } => cure,
            Self::Unavailable { .. } => "retry; see that the keystore's database can be reached",
            Self::Schema(error) => error.cure(),
            Self::Refused { .. } => {
                "see the server's log, and that the keystore's role owns schema pgveil"
            }
            Self::Unaudited { .. } => {
                "see that the platform's key provider can unwrap the audit log's key (pgveil.audit_keys)"
            }
            Self::LogKeyAway { .. } => {
                "retry; see that the platform's key provider can be reached: the keystore's database is there"
            }
            Self::ScopeSealed { .. } => "unseal the scope once the reason is gone",
            Self::NoScope { .. } => "`pgveil scopes list` shows those that there are",
            Self::StepUp(error) => error.cure(),
            Self::Damaged {
                table: "pgveil.audit_keys",
                ..
            } => {
                "restore pgveil.audit_keys, with the log, from a backup; only if you began a new log yourself, take its key into [audit] public_key"
            }
            Self::Damaged {
                table: "pgveil.audit_head",
                ..
            } => {
                "run `pgveil audit verify`; if the keystore was set back on purpose, or a failover lost the last transactions, start pgveil anew, with another [audit] sink_file"
            }
            Self::Damaged { table, .. } if table.starts_with("pgveil.audit") => {
                "run `pgveil audit verify`: somebody changed the audit log behind pgveil's back"
            }
            Self::KeyRow { .. } => {
                "restore the key's row from a backup of schema pgveil; `pgveil check` names all such rows, and the audit log says who changed keys through pgveil"
            }
            Self::Damaged {
                table: "pgveil.columns",
                ..
            } => {
                "restore the row from a backup of schema pgveil; `pgveil check` names all such rows, and the audit log (policy.apply) says what pgveil wrote"
            }
            Self::Damaged {
                table: "pgveil.scopes",
                ..
            } => {
                "seal or unseal the scope with pgveil: that writes its row anew; the audit log says what was done last"
            }
            Self::Damaged {
                table: "pgveil.overrides",
                ..
            } => {
                "take it back with `pgveil scopes clear SCOPE`, or set it again; the audit log says what was set"
            }
            Self::Damaged {
                table: "pgveil.keks",
                ..
            } => {
                "`pgveil keks rotate SCOPE`, of a scope under that key, writes the row anew and brings all keys to the key's present version"
            }
            Self::Damaged {
                table: "pgveil.jobs",
                ..
            } => {
                "end it with `pgveil jobs cancel`, and order what it was for anew (`pgveil rotate`, `pgveil rewrap`, `pgveil apply`): what it has done stays, and the audit log (job.change) says what it was"
            }
            Self::Damaged {
                table: "pgveil.key_ids",
                ..
            } => {
                "as the owner of schema pgveil: SELECT setval('pgveil.key_ids', (SELECT max(key_id) FROM pgveil.key_changes))"
            }
            Self::Damaged { .. } => "restore the table from a backup",
        }
    }

    fn from_statement(error: &tokio_postgres::Error) -> Self {
        let message = describe(error);
        // NULL, or another type than the column is made with: no word of the server's.
        if message.starts_with("error deserializing column") {
            return Self::Damaged {
                table: "pgveil",
                reason: format!("a row does not read: {message}"),
            };
        }
        match error.code() {
            // The connection, or the whole server, is going or gone.
            None if error.is_closed() || is_io(error) => Self::Unavailable { reason: message },
            Some(code) if ends_the_connection(code) => Self::Unavailable { reason: message },
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                SchemaError::Forbidden { message }.into()
            }
            // Somebody holds the audit log's end for long.
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
                Self::Unavailable { reason: message }
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

/// Class 08, 57P (shutdown, crash, start-up), 53 (no connections left) and 25P03 and on (a transaction that took too long):
/// another try may do.
fn ends_the_connection(code: &SqlState) -> bool {
    let code = code.code();
    code == "25P03"
        || code == "25P04"
        || code.starts_with("08")
        || code.starts_with("57P")
        || code.starts_with("53")
}

impl From<tokio_postgres::Error> for KeystoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::from_statement(&error)
    }
}

/// A number for a column of type bigint.
pub(crate) fn bigint_of(n: u64) -> Result<i64, KeystoreError> {
    i64::try_from(n).map_err(|_| KeystoreError::Damaged {
        table: "pgveil",
        reason: "a number beyond bigint".to_owned(),
    })
}
