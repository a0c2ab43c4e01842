//! Gives ids to columns that were made through the proxy: they stand under their domain and in the policy, and hold
//! nothing yet that was sealed for them.

use std::collections::HashSet;

use pgveil_keys::keystore::registry::{self, NewColumn};
use pgveil_policy::{
    Ruleset,
    ruleset::{Declared, Pending, PendingColumn, RegisteredColumn},
};
use tokio_postgres::Client;

use crate::{JobError, sql};

/// Two proxies may see the new column at once; the first registers it.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('pgveil.columns'))";

/// Registers every column of the policy that is ready but for its id. Answers whether there was one.
pub async fn made_through_the_proxy(client: &Client, rules: &Ruleset) -> Result<bool, JobError> {
    let candidates: Vec<(&PendingColumn, &Declared)> = rules
        .pending
        .iter()
        .filter(|column| column.state == Pending::NotRegistered)
        .filter_map(|column| {
            let declared = rules.declared_in(&column.schema, &column.table);
            let declared = declared
                .into_iter()
                .find(|declared| declared.column == column.column)?;
            Some((column, declared))
        })
        .collect();
    let mut fresh = Vec::new();
    for candidate in candidates {
        if is_empty(client, candidate.0).await {
            fresh.push(candidate);
        }
    }
    if fresh.is_empty() {
        return Ok(false);
    }
    let failed = |doing| JobError::while_doing(doing);
    client
        .batch_execute("BEGIN")
        .await
        .map_err(failed("begin registering columns"))?;
    let done = register_all(client, &fresh).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    client
        .batch_execute(end)
        .await
        .map_err(failed("end registering columns"))?;
    done.map(|()| true)
}

/// Notes where columns are now that were renamed or made anew, once the policy names them as the catalog does: by the
/// place, the next rename is followed.
pub async fn follow(
    client: &Client,
    rules: &Ruleset,
    registered: &[RegisteredColumn],
) -> Result<(), JobError> {
    for past in registered {
        let Some(now) = rules.column(past.id).filter(|column| !column.retired) else {
            continue;
        };
        let named = rules
            .declared_in(&now.schema, &now.table)
            .iter()
            .any(|declared| declared.column == now.name && declared.written);
        let place = (now.table_oid, now.attnum);
        let same =
            (&past.schema, &past.table, &past.column) == (&now.schema, &now.table, &now.name);
        if named && !(same && past.place == place) {
            let names = (now.schema.as_str(), now.table.as_str(), now.name.as_str());
            registry::moved(client, past.id, names, place).await?;
        }
    }
    Ok(())
}

/// Values that are there already were sealed for a column that nobody knows any more: their terms would match no new
/// ones. Who may not look cannot know; then `pgveil apply` has to say what is wrong.
async fn is_empty(client: &Client, column: &PendingColumn) -> bool {
    let table = sql::qualified(&column.schema, &column.table);
    let name = sql::quoted(&column.column);
    let query = format!("SELECT NOT EXISTS (SELECT FROM {table} WHERE {name} IS NOT NULL)");
    let row = client.query_one(&query, &[]).await;
    row.and_then(|row| row.try_get(0)).unwrap_or(false)
}

async fn register_all(
    client: &Client,
    fresh: &[(&PendingColumn, &Declared)],
) -> Result<(), JobError> {
    client
        .batch_execute(LOCK)
        .await
        .map_err(JobError::while_doing("lock the registry of columns"))?;
    let live: HashSet<(String, String, String)> = registry::list(client)
        .await?
        .into_iter()
        .map(|past| (past.schema, past.table, past.column))
        .collect();
    for (column, declared) in fresh {
        let key = (
            column.schema.clone(),
            column.table.clone(),
            column.column.clone(),
        );
        if live.contains(&key) {
            continue;
        }
        let new = NewColumn {
            schema: key.0,
            table: key.1,
            column: key.2,
            table_oid: column.table_oid,
            attnum: column.attnum,
            logical_type: declared.logical.sql_name(),
            equality: declared.equality,
            shared_key: declared.shared_key,
            equality_group: declared.equality_group.clone(),
            scope: declared.scope.to_string(),
        };
        registry::register(client, &new).await?;
    }
    Ok(())
}
