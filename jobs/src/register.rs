//! Gives ids to columns that were made through the proxy: they stand under their domain and in the policy, and hold
//! nothing yet that was sealed for them.

use std::collections::HashSet;

use pgveil_keys::{
    Keys,
    keystore::registry::{NewColumn, Registry},
};
use pgveil_policy::{
    Ruleset,
    catalog::Catalog,
    ruleset::{Declared, Pending, PendingColumn, RegisteredColumn},
};
use tokio_postgres::Client;

use crate::{JobError, recognise::may_look, sql};

/// Two proxies may see the new column at once; the first registers it.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('pgveil.columns'))";

/// Registers every column of the policy that is ready but for its id. Answers whether there was one.
pub async fn made_through_the_proxy(
    client: &Client,
    keys: &Keys,
    rules: &Ruleset,
) -> Result<bool, JobError> {
    let mut fresh = Vec::new();
    for candidate in candidates(rules) {
        if is_empty(client, rules, candidate.0).await {
            fresh.push(candidate);
        }
    }
    register_in_transaction(client, keys, &fresh).await
}

/// The same for what a transaction sees that has not committed: `rules` were compiled against what it sees, and `known`
/// is what everybody sees. A column that is not in it was made in that transaction, whose every statement went through
/// pgveil; it can only hold what is sealed for it from now on. The id is committed here, whatever becomes of the column.
pub async fn made_in_a_transaction(
    client: &Client,
    keys: &Keys,
    rules: &Ruleset,
    known: &Catalog,
) -> Result<bool, JobError> {
    let is_known = |column: &PendingColumn| {
        let relation = known.relation_by_oid(column.table_oid);
        relation.is_some_and(|relation| relation.attribute(column.attnum).is_some())
    };
    let fresh: Vec<_> = candidates(rules)
        .into_iter()
        .filter(|(column, _)| !is_known(column))
        .collect();
    register_in_transaction(client, keys, &fresh).await
}

/// An id whose column was never committed, or is gone, gets the place of the one that a transaction has made under its
/// name, so that its next rename is followed. The place of a column that everybody sees is left alone until COMMIT.
pub async fn follow_in_a_transaction(
    client: &Client,
    keys: &Keys,
    rules: &Ruleset,
    known: &Catalog,
    registered: &[RegisteredColumn],
) -> Result<(), JobError> {
    let is_known = |(oid, attnum): (u32, i16)| {
        let relation = known.relation_by_oid(oid);
        relation.is_some_and(|relation| relation.attribute(attnum).is_some())
    };
    let unused: Vec<RegisteredColumn> = registered
        .iter()
        .filter(|past| {
            let named = known.relation(&past.schema, &past.table);
            let named = named.is_some_and(|table| table.column(&past.column).is_some());
            !named && !is_known(past.place)
        })
        .cloned()
        .collect();
    follow(client, keys, rules, &unused).await
}

/// Columns that the policy names and that lack nothing but an id.
fn candidates(rules: &Ruleset) -> Vec<(&PendingColumn, &Declared)> {
    let unregistered = rules.pending.iter();
    let unregistered = unregistered.filter(|column| column.state == Pending::NotRegistered);
    let declared = |column: &PendingColumn| {
        let of_table = rules.declared_in(&column.schema, &column.table);
        let mut of_table = of_table.into_iter();
        of_table.find(|declared| declared.column == column.column)
    };
    unregistered
        .filter_map(|column| Some((column, declared(column)?)))
        .collect()
}

async fn register_in_transaction(
    client: &Client,
    keys: &Keys,
    fresh: &[(&PendingColumn, &Declared)],
) -> Result<bool, JobError> {
    if fresh.is_empty() {
        return Ok(false);
    }
    let registry = keys.registry().await?;
    in_transaction(client, "register columns", async || {
        register_all(client, &registry, fresh).await?;
        registry.seal(client, "made through pgveil").await?;
        Ok(true)
    })
    .await
}

/// Does work in a transaction of its own.
pub(crate) async fn in_transaction<T>(
    client: &Client,
    doing: &str,
    work: impl AsyncFnOnce() -> Result<T, JobError>,
) -> Result<T, JobError> {
    let failed = || JobError::while_doing(doing.to_owned());
    client
        .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
        .await
        .map_err(failed())?;
    let done = work().await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await;
    let done = done?;
    ended.map_err(failed())?;
    Ok(done)
}

/// Notes where columns are now that were renamed or made anew, once the policy names them as the catalog does: by the
/// place, the next rename is followed.
pub async fn follow(
    client: &Client,
    keys: &Keys,
    rules: &Ruleset,
    registered: &[RegisteredColumn],
) -> Result<(), JobError> {
    let mut moves = Vec::new();
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
            moves.push((past.id, names, place));
        }
    }
    if moves.is_empty() {
        return Ok(());
    }
    let registry = keys.registry().await?;
    in_transaction(client, "note where columns are", async || {
        for (id, names, place) in moves {
            registry.moved(client, id, names, place).await?;
        }
        Ok(registry.seal(client, "moved").await?)
    })
    .await
}

/// Gives new ids to columns that are not there and that the policy describes otherwise than when they got theirs: nothing
/// holds values of the former description but what was moved elsewhere, and that keeps its id. Answers whether there was one.
pub async fn described_anew(
    client: &Client,
    keys: &Keys,
    rules: &Ruleset,
) -> Result<bool, JobError> {
    let registry = keys.registry().await?;
    let mut anew = Vec::new();
    for past in registry.list(client).await? {
        let absent = rules.absent().find(|declared| {
            (&declared.schema, &declared.table, &declared.column)
                == (&past.schema, &past.table, &past.column)
        });
        let Some(declared) = absent.filter(|declared| !is_described_by(declared, &past)) else {
            continue;
        };
        anew.push((past.id, described(declared, (0, 0))));
    }
    if anew.is_empty() {
        return Ok(false);
    }
    in_transaction(client, "describe columns anew", async || {
        let mut done = false;
        for (id, column) in anew {
            if registry.retire(client, id).await? {
                registry.register(client, &column).await?;
                done = true;
            }
        }
        registry.seal(client, "described anew").await?;
        Ok(done)
    })
    .await
}

/// Whether a column would be registered in these words again.
fn is_described_by(declared: &Declared, past: &RegisteredColumn) -> bool {
    let now = described(declared, past.place);
    let scope = past.scope.as_deref().unwrap_or(&now.scope);
    (now.logical_type.as_str(), now.equality, now.shared_key)
        == (past.logical_type.as_str(), past.equality, past.shared_key)
        && now.equality_group == past.equality_group
        && now.scope == scope
}

fn described(declared: &Declared, (table_oid, attnum): (u32, i16)) -> NewColumn {
    NewColumn {
        schema: declared.schema.clone(),
        table: declared.table.clone(),
        column: declared.column.clone(),
        table_oid,
        attnum,
        logical_type: declared.logical.sql_name(),
        equality: declared.equality,
        shared_key: declared.shared_key,
        equality_group: declared.equality_group.clone(),
        scope: declared.scope.to_string(),
    }
}

/// Values that are there already were sealed for a column that nobody knows any more: their terms would match no new
/// ones. Who may not look cannot know; then `pgveil apply` has to say what is wrong.
async fn is_empty(client: &Client, rules: &Ruleset, column: &PendingColumn) -> bool {
    let Some(relation) = rules.catalog.relation_by_oid(column.table_oid) else {
        return false;
    };
    if !may_look(client, relation).await.unwrap_or(false) {
        return false;
    }
    let table = sql::qualified(&column.schema, &column.table);
    let name = sql::quoted(&column.column);
    let query = format!("SELECT NOT EXISTS (SELECT FROM {table} WHERE {name} IS NOT NULL)");
    let row = client.query_one(&query, &[]).await;
    row.and_then(|row| row.try_get(0)).unwrap_or(false)
}

async fn register_all(
    client: &Client,
    registry: &Registry,
    fresh: &[(&PendingColumn, &Declared)],
) -> Result<(), JobError> {
    client
        .batch_execute(LOCK)
        .await
        .map_err(JobError::while_doing("lock the registry of columns"))?;
    let live: HashSet<(String, String, String)> = registry
        .list(client)
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
        let new = described(declared, (column.table_oid, column.attnum));
        registry.register(client, &new).await?;
    }
    Ok(())
}
