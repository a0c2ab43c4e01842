//! What of a table's partitions keeps its columns from being migrated online, or at all. Changes nothing.

use std::collections::HashMap;

use pgveil_policy::{
    catalog::{Catalog, Relation},
    ruleset::is_hidden,
};
use tokio_postgres::{Client, Row};

use super::{Obstacle, TablePlan, obstacle::sent_by};
use crate::{JobError, migrate::names, sql};

/// Whose it is, what sends it, and by which names, which of these columns have a NOT NULL, and which triggers fire behind pgveil's own.
const PARTITIONS: &str = "SELECT c.oid, pg_has_role(c.relowner, 'USAGE'), pg_get_userbyid(c.relowner)::text, \
    array(SELECT DISTINCT p.pubname::text FROM pg_publication_tables p \
        WHERE p.schemaname = n.nspname AND p.tablename = c.relname ORDER BY 1), \
    array(SELECT (SELECT min(format('%I.%I', m.nspname, t.relname)) FROM pg_publication_rel r \
            JOIN pg_class t ON t.oid = r.prrelid JOIN pg_namespace m ON m.oid = t.relnamespace \
            WHERE r.prpubid = p.oid AND (r.prrelid = c.oid OR r.prrelid IN (SELECT relid FROM pg_partition_ancestors(c.oid)))) \
        FROM pg_publication p WHERE p.pubname IN (SELECT f.pubname FROM pg_publication_tables f \
            WHERE f.schemaname = n.nspname AND f.tablename = c.relname) ORDER BY p.pubname::text), \
    array(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = ANY ($3) AND a.attnotnull ORDER BY 1), \
    array(SELECT g.tgname::text FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgparentid = 0 \
        AND g.tgtype & 3 = 3 AND g.tgname COLLATE \"C\" > $2 ORDER BY 1) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1)";

/// What is known of one.
struct Facts {
    is_ours: bool,
    owner: String,
    publications: Vec<String>,
    /// The tables by whose names these send it.
    published_as: Vec<Option<String>>,
    not_null: Vec<String>,
    late: Vec<String>,
}

/// Adds to `table.obstacles` and `table.only_at_once`.
pub(super) async fn of_partitions(
    client: &Client,
    catalog: &Catalog,
    table: &mut TablePlan,
) -> Result<(), JobError> {
    let relation = catalog.relation_by_oid(table.oid);
    let Some(relation) = relation.filter(|_| !table.columns.is_empty()) else {
        return Ok(());
    };
    let heirs = catalog.heirs(table.oid);
    if heirs.iter().any(|heir| !heir.is_partition) {
        let why = "other tables inherit from it";
        table.only_at_once.push(why.to_owned());
        return Ok(());
    }
    if heirs.is_empty() {
        return Ok(());
    }
    let columns: Vec<String> = { table.columns.iter() }
        .map(|column| column.name.clone())
        .collect();
    let mut oids: Vec<u32> = heirs.iter().map(|heir| heir.oid).collect();
    oids.push(table.oid);
    let mut facts = facts(client, &oids, &columns).await?;
    let Some(own) = facts.remove(&table.oid) else {
        return Ok(());
    };
    for heir in heirs {
        let shown = sql::shown_qualified(&heir.schema, &heir.name);
        let Some(facts) = facts.remove(&heir.oid) else {
            continue;
        };
        if !facts.is_ours {
            let owner = sql::shown(&facts.owner);
            let obstacle = Obstacle::blocks(
                format!("its partition {shown} belongs to {owner}"),
                format!(
                    "GRANT {owner} TO the role of [keystore] url, at least until apply is done"
                ),
            );
            table.obstacles.push(obstacle);
        }
        let mut why = |what: String| table.only_at_once.push(what);
        if order(heir) != order(relation) {
            why(format!(
                "its partition {shown} has the columns in another order"
            ));
        }
        let not_null = |names: &[String]| -> Vec<String> {
            names
                .iter()
                .filter(|name| columns.contains(name))
                .cloned()
                .collect()
        };
        if not_null(&facts.not_null) != not_null(&own.not_null) {
            why(format!(
                "its partition {shown} has a NOT NULL of its own on a column to seal"
            ));
        }
        for (publication, named) in facts.publications.iter().zip(&facts.published_as) {
            let what = format!("its partition {shown}");
            why(sent_by(publication, named.as_deref(), &what));
        }
        for name in facts.late.iter().filter(|name| !names::is_own(name)) {
            let name = sql::shown(name);
            why(format!(
                "trigger {name} of its partition {shown} fires behind pgveil's own"
            ));
        }
    }
    Ok(())
}

/// The names of its columns, in the server's order, without pgveil's own.
fn order(relation: &Relation) -> Vec<&str> {
    let names = relation.columns.iter().map(|column| column.name.as_str());
    names.filter(|name| !is_hidden(name)).collect()
}

async fn facts(
    client: &Client,
    oids: &[u32],
    columns: &[String],
) -> Result<HashMap<u32, Facts>, JobError> {
    let rows = client
        .query(PARTITIONS, &[&oids, &names::TRIGGERS, &columns])
        .await;
    let fact = |row: &Row| {
        let facts = Facts {
            is_ours: row.try_get(1)?,
            owner: row.try_get(2)?,
            publications: row.try_get(3)?,
            published_as: row.try_get(4)?,
            not_null: row.try_get(5)?,
            late: row.try_get(6)?,
        };
        Ok((row.try_get(0)?, facts))
    };
    let facts = rows.and_then(|rows| rows.iter().map(fact).collect());
    facts.map_err(JobError::while_doing(
        "read what the partitions of a table are",
    ))
}
