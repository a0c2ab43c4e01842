//! Puts on record as which numbers the labels of enum types are sealed, before a value is sealed with them.

use pgveil_keys::keystore::labels;
use pgveil_policy::{
    Ruleset,
    catalog::{Catalog, enums_of},
    types::EnumType,
};
use tokio_postgres::Client;

use crate::{JobError, catalog};

/// Two who see a new label at once must agree: the second looks again.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('pgveil.enum_labels'))";

/// Records what is new of the enum types that the policy names. Answers whether something was: then the catalog is to be
/// read again, and only then may values be sealed.
pub async fn record_new(client: &Client, rules: &Ruleset) -> Result<bool, JobError> {
    let pending = rules.pending.iter().filter_map(|column| column.logical);
    let sealed = rules.columns.values().map(|column| column.logical);
    let enums = enums_of(sealed.chain(pending));
    if rules.columns.is_empty() || rules.catalog.labels_to_record(&enums).is_empty() {
        return Ok(false);
    }
    let failed = |doing| JobError::while_doing(doing);
    client
        .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        .await
        .map_err(failed("begin recording the labels of enum types"))?;
    let done = in_transaction(client, &enums).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    client
        .batch_execute(end)
        .await
        .map_err(failed("end recording the labels of enum types"))?;
    done.map(|_| true)
}

/// The same in the caller's transaction; answers the catalog with what is on record now.
pub(crate) async fn in_transaction(
    client: &Client,
    enums: &[EnumType],
) -> Result<Catalog, JobError> {
    let failed = || JobError::while_doing("record the labels of enum types");
    client.batch_execute(LOCK).await.map_err(failed())?;
    labels::make(client).await?;
    let catalog = catalog::read_in_transaction(client).await?;
    labels::record(client, &catalog.labels_to_record(enums)).await?;
    catalog::read_in_transaction(client).await
}
