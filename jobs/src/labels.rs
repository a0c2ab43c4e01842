//! Puts on record as which numbers the labels of enum types are sealed, before a value is sealed with them.

use pgveil_keys::{Keys, keystore::registry::Registry};
use pgveil_policy::{
    Ruleset,
    catalog::{Catalog, enums_of},
    types::EnumType,
};
use tokio_postgres::Client;

use crate::{JobError, catalog, register};

/// Two who see a new label at once must agree: the second looks again.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('pgveil.enum_labels'))";

/// Records what is new of the enum types that the policy names. Answers whether something was: then the catalog is to be
/// read again, and only then may values be sealed.
pub async fn record_new(client: &Client, keys: &Keys, rules: &Ruleset) -> Result<bool, JobError> {
    let pending = rules.pending.iter().filter_map(|column| column.logical);
    let sealed = rules.columns.values().map(|column| column.logical);
    let enums = enums_of(sealed.chain(pending));
    if rules.columns.is_empty() || rules.catalog.labels_to_record(&enums).is_empty() {
        return Ok(false);
    }
    let registry = keys.registry().await?;
    register::in_transaction(client, "record the labels of enum types", async || {
        in_transaction(client, &registry, &enums).await?;
        Ok(registry.seal(client, "seen").await?)
    })
    .await?;
    Ok(true)
}

/// The same in the caller's transaction, which ends with [`Registry::seal`]; answers the catalog with what is on record now.
pub(crate) async fn in_transaction(
    client: &Client,
    registry: &Registry,
    enums: &[EnumType],
) -> Result<Catalog, JobError> {
    let failed = || JobError::while_doing("record the labels of enum types");
    client.batch_execute(LOCK).await.map_err(failed())?;
    let catalog = catalog::read_in_transaction(client, registry).await?;
    let labels = catalog.labels_to_record(enums);
    if labels.is_empty() {
        return Ok(catalog);
    }
    registry.record_labels(client, &labels).await?;
    catalog::read_in_transaction(client, registry).await
}
