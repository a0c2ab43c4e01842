//! Schema `pgveil` in the database: installing it, and refusing to work with one that this pgveil does not know.
//! Converting protected tables is `pgveil-jobs`' work.

use tokio_postgres::{Client, GenericClient, error::SqlState};

use crate::database::describe;

/// The schema's version that this pgveil installs and works with.
pub const VERSION: u32 = 8;

/// Two `apply` at once must not both install: key of a transaction-level advisory lock ("pgveil" in ASCII).
const INSTALL_LOCK: i64 = 0x7067_7665_696C;

/// The DDL that [`install`] runs, without transaction control. Over an older version's schema it adds what is missing.
pub fn install_sql() -> &'static str {
    include_str!("schema.sql")
}

/// The DDL that makes the domain of a logical type, if it is not there: a schema installed by an earlier pgveil has not
/// all of them. `domain` is the bare name. For the role that owns the schema.
pub fn domain_sql(domain: &str) -> String {
    let literal = domain.replace('\'', "''");
    format!(
        "DO $domain$ DECLARE logical pg_catalog.text := '{literal}'; BEGIN \
         IF pg_catalog.to_regtype(pg_catalog.format('pgveil.%I', logical)) IS NULL THEN \
         EXECUTE pg_catalog.format('CREATE DOMAIN pgveil.%I AS pg_catalog.bytea CONSTRAINT sealed CHECK (\
         pg_catalog.octet_length(VALUE) OPERATOR(pg_catalog.>=) 45 \
         AND pg_catalog.substr(VALUE, 1, 4) OPERATOR(pg_catalog.=) ''\\x50475601''::pg_catalog.bytea)', logical); \
         EXECUTE pg_catalog.format('GRANT USAGE ON DOMAIN pgveil.%I TO PUBLIC', logical); \
         EXECUTE pg_catalog.format('COMMENT ON DOMAIN pgveil.%I IS %L', logical, \
         'A value of type ' OPERATOR(pg_catalog.||) pg_catalog.regexp_replace(logical, '^sealed_', '') OPERATOR(pg_catalog.||) \
         ', sealed by pgveil: readable and writable through pgveil only'); \
         END IF; END $domain$"
    )
}

/// What [`install`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The schema was made, or completed.
    Now,
    /// An older version's schema was brought up to this one.
    Upgraded {
        /// The version it had.
        from: u32,
    },
    /// It was there in this version.
    Before,
}

/// Installs the schema in one transaction, or brings it up to this version, unless it is there.
pub async fn install(client: &mut Client) -> Result<Installed, SchemaError> {
    let transaction = client.transaction().await?;
    transaction
        .execute(
            "SELECT pg_catalog.pg_advisory_xact_lock($1)",
            &[&INSTALL_LOCK],
        )
        .await?;
    let done = match state(&transaction).await? {
        State::Version(from) if from < VERSION => Installed::Upgraded { from },
        State::Version(_) => {
            return version_is_ours(&transaction)
                .await
                .map(|()| Installed::Before);
        }
        State::Foreign => return Err(SchemaError::Foreign),
        State::Absent => Installed::Now,
    };
    // The temporary schema last and named, so that no temporary object can take a catalog name's place.
    transaction
        .batch_execute("SET LOCAL search_path = pg_catalog, pg_temp")
        .await?;
    transaction.batch_execute(install_sql()).await?;
    transaction.commit().await?;
    Ok(done)
}

/// The installed version; `None` when there is none.
pub async fn installed_version(client: &impl GenericClient) -> Result<Option<u32>, SchemaError> {
    match state(client).await? {
        State::Absent => Ok(None),
        State::Foreign => Err(SchemaError::Foreign),
        State::Version(version) => Ok(Some(version)),
    }
}

/// Refuses any version but [`VERSION`].
pub async fn check(client: &impl GenericClient) -> Result<(), SchemaError> {
    version_is_ours(client).await
}

async fn version_is_ours(client: &impl GenericClient) -> Result<(), SchemaError> {
    match installed_version(client).await? {
        None => Err(SchemaError::NotInstalled),
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION => Err(SchemaError::Newer { found }),
        Some(found) => Err(SchemaError::Older { found }),
    }
}

enum State {
    /// No schema, or an empty one that an administrator made for us.
    Absent,
    /// A schema of that name which is not ours.
    Foreign,
    Version(u32),
}

async fn state(client: &impl GenericClient) -> Result<State, SchemaError> {
    let row = client
        .query_one(
            // Not to_regclass('pgveil.meta'), which asks for a right on the schema.
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class \
                 WHERE relnamespace = pg_catalog.to_regnamespace('pgveil') AND relname = 'meta'), \
             EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.to_regnamespace('pgveil')) \
             OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.to_regnamespace('pgveil')) \
             OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace = pg_catalog.to_regnamespace('pgveil'))",
            &[],
        )
        .await?;
    match (row.get(0), row.get(1)) {
        (true, _) => version_of_meta(client).await,
        (false, true) => Ok(State::Foreign),
        (false, false) => Ok(State::Absent),
    }
}

async fn version_of_meta(client: &impl GenericClient) -> Result<State, SchemaError> {
    let row = client
        .query_opt(
            "SELECT value FROM pgveil.meta WHERE name = 'schema_version'",
            &[],
        )
        .await
        .map_err(|error| match error.code() {
            Some(code) if *code == SqlState::UNDEFINED_COLUMN => SchemaError::Foreign,
            _ => error.into(),
        })?;
    let version = row.and_then(|row| row.try_get::<_, String>(0).ok()?.parse().ok());
    Ok(version.map_or(State::Foreign, State::Version))
}

/// Why the schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// `apply` was never run on this database.
    #[error("schema pgveil is not installed in the keystore's database")]
    NotInstalled,
    /// Made by a later pgveil.
    #[error(
        "schema pgveil has version {found}, this pgveil knows version {VERSION}: it is older than its database"
    )]
    Newer {
        /// The version found.
        found: u32,
    },
    /// Made by an earlier pgveil.
    #[error("schema pgveil has version {found}, this pgveil needs version {VERSION}")]
    Older {
        /// The version found.
        found: u32,
    },
    /// Somebody else's.
    #[error("there is a schema pgveil that pgveil did not make")]
    Foreign,
    /// The connection's role has no right on the keystore.
    #[error("the keystore's role may not do that: {message}")]
    Forbidden {
        /// The server's words.
        message: String,
    },
    /// The server refused, or was lost.
    #[error("{message}")]
    Database {
        /// The server's words, or the connection's.
        message: String,
    },
}

impl SchemaError {
    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::NotInstalled => "run `pgveil apply`",
            Self::Newer { .. } => "run the pgveil that installed it, or a later one",
            Self::Older { .. } => "run `pgveil apply` with this pgveil",
            Self::Foreign => "rename that schema, or use another database for the keystore",
            Self::Forbidden { .. } => {
                "connect the keystore as the role that ran `pgveil apply`; to install, the role needs CREATE on the database"
            }
            Self::Database { .. } => "see the server's log",
        }
    }
}

impl From<tokio_postgres::Error> for SchemaError {
    fn from(error: tokio_postgres::Error) -> Self {
        let message = describe(&error);
        match error.code() {
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => Self::Forbidden { message },
            _ => Self::Database { message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ddl_installs_the_version_that_is_checked() {
        assert!(install_sql().contains(&format!("VALUES ('schema_version', '{VERSION}')")));
    }

    #[test]
    fn the_ddl_controls_no_transaction() {
        for line in install_sql().lines() {
            let line = line.trim().to_ascii_uppercase();
            assert!(
                !matches!(line.as_str(), "BEGIN;" | "COMMIT;" | "ROLLBACK;"),
                "{line}"
            );
        }
    }
}
