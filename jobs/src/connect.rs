//! The jobs' own connection: to the keystore's database, as the keystore's role.

use pgveil_config::Settings;
use pgveil_keys::database::{self, Database};

use crate::JobError;

/// Connects as `[keystore]` says.
pub(crate) async fn connect(settings: &Settings) -> Result<Database, JobError> {
    let url = settings.keystore.url.read()?;
    let ca_file = settings.keystore.ca_file.as_deref();
    Ok(database::connect(&url, settings.keystore.tls, ca_file).await?)
}
