//! What can go wrong in a job. Says what was being done and what the server answered, never a value of a row.

use pgveil_config::settings::SecretError;
use pgveil_keys::{KeyError, database::ConnectError, keystore::KeystoreError, schema::SchemaError};
use pgveil_providers::BuildError;
use tokio_postgres::error::SqlState;

use crate::plan::PlanReport;

/// Why a job stopped. What it was doing is undone.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The server refused, or the connection broke.
    #[error("could not {doing}: {}", server_answer(.source))]
    Database {
        /// What was being done, as a verb phrase.
        doing: String,
        /// What the driver reports. Its own text may quote a row (DETAIL), so it is not shown whole.
        source: tokio_postgres::Error,
    },
    /// The plan has obstacles or findings.
    #[error("{plan}")]
    Blocked {
        /// It says what blocks, and the cures.
        plan: Box<PlanReport>,
    },
    /// Two at once would race for the same tables.
    #[error("another `pgveil apply` is at work in this database")]
    AnotherApply,
    /// The lock on a table was not to be had.
    #[error("table {table} is in use: no exclusive lock within {waited}{}", held_by(.holders))]
    TableBusy {
        /// The table.
        table: String,
        /// How long was waited.
        waited: &'static str,
        /// Who holds locks on it, as far as could be seen.
        holders: Vec<String>,
    },
    /// Dropped meanwhile.
    #[error("a table is gone (OID {oid})")]
    TableGone {
        /// What its OID was.
        oid: u32,
    },
    /// A job of a later pgveil.
    #[error("this pgveil does not know jobs of kind {kind}")]
    UnknownJob {
        /// What it says.
        kind: String,
    },
    /// A row that the server does not let be written: a trigger, a constraint.
    #[error("table {table}, row with {row}: {source}")]
    RowRefused {
        /// The table.
        table: String,
        /// Primary key or ctid.
        row: String,
        /// What was said.
        source: Box<JobError>,
    },
    /// `triggers = "skip"` without the right to.
    #[error(
        "table {table} has triggers or rules on UPDATE, and the keystore's role may not keep them from firing"
    )]
    Triggers {
        /// The table.
        table: String,
    },
    /// Values that no key opens; everything else was done.
    #[error("{values} values do not open; all others were done. {named}")]
    DoNotOpen {
        /// How many.
        values: i64,
        /// Some of them: table, column, key of the row.
        named: String,
    },
    /// A job that `apply` waited for did not do its work.
    #[error("job {job} is {state}: {why}")]
    JobEnded {
        /// Its number.
        job: u64,
        /// Where it stands.
        state: String,
        /// Why.
        why: String,
    },
    /// Values that do not fit the type that the policy wants; all is as before.
    #[error("{values} values do not fit: {named}")]
    DoNotFit {
        /// How many.
        values: i64,
        /// Some of them: table, column, key of the row.
        named: String,
    },
    /// A column that a job is about is not sealed any more.
    #[error("column {column} is no sealed column any more")]
    ColumnGone {
        /// `schema.table.column`.
        column: String,
    },
    /// Copies that only REFRESH can renew.
    #[error("materialized views hold values of before: {views}")]
    InMaterializedViews {
        /// With how many.
        views: String,
    },
    /// A connection that was just made is not there.
    #[error("the connection to the keystore's database was lost")]
    NoConnection,
    /// DDL between the plan and its execution.
    #[error("table {table} was changed since the plan was made")]
    ChangedMeanwhile {
        /// The table.
        table: String,
    },
    /// A stored value that its column's type in the policy cannot hold as it is.
    #[error(
        "table {table}, row with {row}: the value of {column} does not fit {logical} ({sqlstate})"
    )]
    DoesNotFit {
        /// The table.
        table: String,
        /// Primary key or ctid.
        row: String,
        /// The column.
        column: String,
        /// The policy's type.
        logical: String,
        /// What Postgres would say.
        sqlstate: &'static str,
    },
    /// A stored value that does not open.
    #[error("table {table}, row with {row}: the value of {column} does not open")]
    ValueDamaged {
        /// The table.
        table: String,
        /// Primary key or ctid.
        row: String,
        /// The column.
        column: String,
    },
    /// A value that was sealed for a column which other roles may see.
    #[error(
        "table {table}, row with {row}: {column} holds a value of another column, which is revealed to other roles or masked otherwise"
    )]
    ValueOfAnother {
        /// The table.
        table: String,
        /// Primary key or ctid.
        row: String,
        /// The column.
        column: String,
    },
    /// Rows that cannot be written, pass after pass.
    #[error(
        "table {table} has {rows} rows that cannot be changed: others hold them, or a trigger keeps them as they are"
    )]
    RowsHeld {
        /// The table.
        table: String,
        /// How many.
        rows: u64,
    },
    /// A unique index does not take what is in the table: values that were unique when it was planned, or made.
    #[error("table {table} has values that are not unique, and index {index} does not take them")]
    NotUnique {
        /// The table.
        table: String,
        /// The index.
        index: String,
    },
    /// Transactions of before a step do not end.
    #[error(
        "transactions that began before are still open after {waited}: {}",
        open.join("; ")
    )]
    TransactionsRun {
        /// How long was waited, for people.
        waited: String,
        /// Whose they are, as far as may be seen.
        open: Vec<String>,
    },
    /// A row whose scope columns yield no scope.
    #[error("table {table}, row with {row}: no scope, because {column} is NULL, empty or no name")]
    NoScope {
        /// The table.
        table: String,
        /// Primary key or ctid.
        row: String,
        /// The scope's column.
        column: String,
    },
    /// Rows that exist already have no session to take a scope from.
    #[error(
        "table {table} has rows, and its scope reads the session setting pgveil.{setting}: whose keys they should get is not known"
    )]
    NeedsSession {
        /// The table.
        table: String,
        /// The setting.
        setting: String,
    },
    /// What the online migration does not cope with.
    #[error("table {table} cannot be migrated online: {why}")]
    OnlyAtOnce {
        /// The table.
        table: String,
        /// Why, without a full stop.
        why: String,
    },
    /// Nothing is to be decrypted there.
    #[error("{column} is no sealed column that pgveil knows")]
    NotSealed {
        /// As it was named.
        column: String,
    },
    /// What keeps columns from being decrypted.
    #[error("{what}")]
    NotDecrypted {
        /// All of it, with cures, a line each.
        what: String,
    },
    /// The sealed values are gone.
    #[error("table {table} is decrypted already")]
    Decrypted {
        /// The table.
        table: String,
    },
    /// A roll-back was begun and not finished.
    #[error("the migration of table {table} is being undone")]
    BeingUndone {
        /// The table.
        table: String,
    },
    /// `apply` at once, while a migration is under way.
    #[error("table {table} is being migrated online")]
    BeingMigrated {
        /// The table.
        table: String,
    },
    /// What was written is not what was read. Nothing was kept.
    #[error(
        "verification of table {table} failed: a row did not open to what it held before; nothing was changed"
    )]
    VerificationFailed {
        /// The table.
        table: String,
    },
    /// No connection.
    #[error("cannot connect to the keystore's database: {0}")]
    Connect(#[from] ConnectError),
    /// Where the URL should be.
    #[error("[keystore] url: {0}")]
    Secret(#[from] SecretError),
    /// Schema `pgveil` cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The keystore's tables.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// A key cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A provider cannot be opened.
    #[error(transparent)]
    Provider(#[from] BuildError),
}

impl JobError {
    /// Adds what was being done: `client.execute(..).await.map_err(JobError::while_doing("lock the table"))`.
    pub(crate) fn while_doing(
        doing: impl Into<String>,
    ) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Database {
            doing: doing.into(),
            source,
        }
    }

    /// The same for what a unique index may refuse. Its name is told; the server's own words would show the values.
    pub(crate) fn while_writing(
        table: String,
        doing: &'static str,
    ) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| {
            let refused = { source.as_db_error() }
                .filter(|answer| *answer.code() == SqlState::UNIQUE_VIOLATION)
                .and_then(|answer| answer.constraint());
            match refused {
                Some(index) => Self::NotUnique {
                    table,
                    index: index.to_owned(),
                },
                None => Self::while_doing(format!("{doing} of {table}"))(source),
            }
        }
    }

    /// Whether somebody else has a lock, or had it first.
    pub(crate) fn is_locked(&self) -> bool {
        let code = self.sqlstate().map(SqlState::code);
        code.is_some_and(|code| ["55P03", "40P01", "40001"].contains(&code))
    }

    /// Whether it passes by itself: a lock is held, or the server, or the way to it, is away.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            _ if self.is_locked() => true,
            Self::Database { source, .. } => match source.code() {
                Some(code) => {
                    let code = code.code();
                    ["08", "53", "57P"]
                        .iter()
                        .any(|class| code.starts_with(class))
                        || code == "25P03"
                }
                // Not what a driver says of a statement that it cannot send.
                None => {
                    let cause = std::error::Error::source(source);
                    source.is_closed() || cause.is_some_and(|cause| cause.is::<std::io::Error>())
                }
            },
            Self::Connect(_) | Self::NoConnection => true,
            Self::Keystore(error) | Self::Key(KeyError::Keystore(error)) => {
                matches!(
                    error,
                    KeystoreError::Unavailable { .. }
                        | KeystoreError::LogKeyAway { .. }
                        | KeystoreError::Unaudited { .. }
                )
            }
            Self::RowRefused { source, .. } => source.is_passing(),
            _ => false,
        }
    }

    /// The server's SQLSTATE, if it was the server that refused.
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Database { source, .. } => source.code(),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        let text = match self {
            Self::Database { source, .. }
                if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) =>
            {
                "give the role of [keystore] url that right: it must own the tables, and may need CREATE and TEMPORARY on the database"
            }
            Self::Database { .. } => "nothing was changed; see the server's log, then run it again",
            Self::Blocked { .. } => "follow the cures above, then run it again",
            Self::AnotherApply => "wait for it, or end it",
            Self::TableBusy { .. } => "end those transactions, or run it again at a quieter time",
            Self::UnknownJob { .. } => "bring all replicas to the same version",
            Self::RowRefused { .. } => "mend what refuses the row, then `pgveil jobs resume`",
            Self::Triggers { .. } => {
                "GRANT SET ON PARAMETER session_replication_role (PostgreSQL 15 and later), or let them fire with `triggers = \"fire\"` in [reencrypt]; then `pgveil jobs resume`"
            }
            Self::DoNotOpen { .. } => {
                "restore these values from a backup, overwrite them, or delete their rows; then `pgveil jobs resume`"
            }
            Self::JobEnded { .. } => {
                "what it did stays: see `pgveil jobs show`, mend what it names, then `pgveil jobs resume`"
            }
            Self::DoNotFit { .. } => {
                "correct the rows, or write a wider type in the policy, and run `pgveil apply` again"
            }
            Self::ColumnGone { .. } => {
                "`pgveil jobs cancel` it; `pgveil plan` says what the policy wants now"
            }
            Self::InMaterializedViews { .. } => {
                "REFRESH MATERIALIZED VIEW each of them, then `pgveil jobs resume`"
            }
            Self::NoConnection => "see that the server runs; it is tried again",
            Self::TableGone { .. } => "run it again; what it held is gone with it",
            Self::ChangedMeanwhile { .. } => "run it again and look at the new plan",
            Self::DoesNotFit { .. } => "correct the row, or write a wider type in the policy",
            Self::ValueDamaged { .. } => {
                "compare the row with a backup, or delete it; then run it again"
            }
            Self::ValueOfAnother { .. } => {
                "write the value through pgveil, as one of this column; then run it again"
            }
            Self::RowsHeld { .. } => {
                "end the transactions that hold them, or give the role of [keystore] url the right to set \
                 session_replication_role; then run it again: it goes on from there"
            }
            Self::NotUnique { .. } => {
                "make the values unique, or drop that index and the constraint or unique index of the column that it stands for; \
                 then run it again: it goes on from there"
            }
            Self::TransactionsRun { .. } => {
                "end them, by their application or with SELECT pg_terminate_backend(pid) (prepared ones: COMMIT PREPARED or \
                 ROLLBACK PREPARED); then run it again: it goes on from there. --wait says how many seconds it waits"
            }
            Self::NoScope { .. } => "fill the column, or change the scope in the policy",
            Self::OnlyAtOnce { .. } => {
                "remove what is in the way, or convert the table at once, under a lock (`pgveil apply` without --online)"
            }
            Self::NotSealed { .. } => {
                "name it as schema.table.column; `\\d` shows which are sealed"
            }
            Self::NotDecrypted { .. } => "follow the cures above, then run it again",
            Self::Decrypted { .. } => {
                "to finish, run the same `pgveil apply --decrypt` again; to go back, seal the column again: pgveil apply --online"
            }
            Self::BeingUndone { .. } => "finish that: pgveil apply --rollback",
            Self::BeingMigrated { .. } => {
                "go on with it (pgveil apply --online, or --decrypt with the same columns), or undo it with pgveil apply --rollback"
            }
            Self::NeedsSession { .. } => {
                "read the scope from a column of the row, or convert the table while it is empty"
            }
            Self::VerificationFailed { .. } => {
                "report it: this is a defect of pgveil or damage on the way"
            }
            Self::Secret(_) => "name a variable or file that exists and that pgveil may read",
            Self::Connect(error) => error.cure(),
            Self::Schema(error) => error.cure(),
            Self::Keystore(error) => error.cure(),
            Self::Key(error) => error.cure(),
            Self::Provider(error) => return error.cure(),
        };
        text.to_owned()
    }
}

fn held_by(holders: &[String]) -> String {
    if holders.is_empty() {
        String::new()
    } else {
        format!("; it is held by {}", holders.join(", "))
    }
}

/// The server's message and SQLSTATE without DETAIL and context, which may quote a row.
fn server_answer(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(answer), _) => format!("{} ({})", answer.message(), answer.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
