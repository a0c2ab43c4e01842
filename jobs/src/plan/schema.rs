//! What becomes of schema `pgveil`. Its DDL is in `pgveil-keys`.

use pgveil_keys::schema::{self, VERSION};
use tokio_postgres::Client;

use crate::JobError;

/// What `apply` does to schema `pgveil` first, in a transaction of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchemaStep {
    /// It is there and of this version.
    #[default]
    UpToDate,
    /// It is not there.
    Install {
        /// Version that will be.
        version: u32,
    },
    /// It is there, as an earlier pgveil installed it.
    Upgrade {
        /// Version that is.
        from: u32,
        /// Version that will be.
        to: u32,
    },
}

/// Looks which step it is. A schema of a later version, or of somebody else, is an error.
pub(super) async fn step(client: &Client) -> Result<SchemaStep, JobError> {
    match schema::installed_version(client).await? {
        None => Ok(SchemaStep::Install { version: VERSION }),
        Some(VERSION) => Ok(SchemaStep::UpToDate),
        Some(from) if from < VERSION => Ok(SchemaStep::Upgrade { from, to: VERSION }),
        Some(_) => schema::check(client)
            .await
            .map(|()| SchemaStep::UpToDate)
            .map_err(JobError::from),
    }
}
