//! Begins a migration, in one transaction under a short lock: registers the columns, adds the shadows, and has triggers clear
//! them. Writes no rows.

use pgveil_keys::schema;
use pgveil_policy::ruleset::ShownAt;
use tokio_postgres::Client;

use super::{MigratedColumn, Run, Way, names, parts, short, state};
use crate::{JobError, apply::convert, plan::TablePlan, sql};

/// What of a table cannot be migrated online.
fn check(table: &TablePlan) -> Result<(), JobError> {
    let mut why = table.only_at_once.clone();
    if !table.scope.sessions().is_empty() {
        why.push("its scope reads a setting of the session".to_owned());
    }
    if why.is_empty() {
        return Ok(());
    }
    let table = table.shown();
    Err(JobError::OnlyAtOnce {
        table,
        why: why.join("; "),
    })
}

/// Begins with `planned`.
pub(super) async fn table(run: &Run<'_>, planned: &TablePlan) -> Result<(), JobError> {
    check(planned)?;
    let client = run.client;
    let shown = planned.shown();
    short::lock_table(client, (&planned.quoted(), &shown), planned.oid).await?;
    let begun = in_transaction(run, planned).await;
    short::end(
        client,
        &format!("the beginning of the migration of {shown}"),
        begun,
    )
    .await
}

async fn in_transaction(run: &Run<'_>, planned: &TablePlan) -> Result<(), JobError> {
    let client = run.client;
    let registry = run.keys.registry().await?;
    let table = convert::plan_again(client, &registry, run.policy, planned).await?;
    let doing = || JobError::while_doing(format!("add columns to {}", table.shown()));
    let order = client
        .query(
            "SELECT attnum, attname::text, attnotnull FROM pg_attribute \
             WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            &[&table.oid],
        )
        .await
        .map_err(doing())?;
    let order: Vec<(i16, String, bool)> = order
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
        .collect::<Result<_, tokio_postgres::Error>>()
        .map_err(doing())?;
    convert::record_labels(client, &registry, &table).await?;
    let ids = convert::register(client, &registry, &table).await?;
    let mut columns = Vec::new();
    for (column, id) in table.columns.iter().zip(ids) {
        let behind = order.iter().filter(|(attnum, name, _)| {
            *attnum > column.attnum && !pgveil_policy::ruleset::is_hidden(name)
        });
        let shown = ShownAt {
            attnum: column.attnum,
            before: behind.map(|(_, name, _)| name.clone()).collect(),
        };
        registry.shown_at(client, id, Some(&shown)).await?;
        let sealed = add(client, &table, &column.name, column.to.domain()).await?;
        let not_null = order
            .iter()
            .any(|(attnum, _, not_null)| *attnum == column.attnum && *not_null);
        let (name, plain) = (column.name.clone(), column.attnum);
        columns.push(MigratedColumn {
            id,
            name,
            plain,
            sealed,
            not_null,
        });
    }
    let place = (table.schema.as_str(), table.name.as_str(), table.oid);
    let id = state::begin(client, &registry, Way::Seal, place, &columns).await?;
    let scope = table.scope.columns();
    let watched = { columns.iter() }
        .map(|column| column.name.as_str())
        .chain(scope);
    let cleared: Vec<String> = columns
        .iter()
        .map(|column| names::shadow(&column.name))
        .collect();
    triggers(
        client,
        (id, &table.quoted()),
        &watched.collect::<Vec<_>>(),
        &cleared,
    )
    .await?;
    parts::fence(client, (id, table.oid)).await?;
    Ok(registry.seal(client, "migration begun").await?)
}

/// Adds a shadow; gives its attribute number.
///
/// A column under a domain with a constraint is added by writing the whole table again, to try the constraint on NULL. So the
/// domain has none for the moment of this transaction: nobody else sees that, and NULL passes it anyway. NOT VALID: the server
/// would look through every table that has the domain; it holds for all that is written.
async fn add(
    client: &Client,
    table: &TablePlan,
    column: &str,
    domain: &str,
) -> Result<i16, JobError> {
    let doing = || JobError::while_doing(format!("add a shadow column to {}", table.shown()));
    let made = schema::domain_sql(domain);
    client.batch_execute(&made).await.map_err(doing())?;
    let domain = sql::qualified("pgveil", domain);
    let (quoted, shadow) = (table.quoted(), names::shadow(column));
    let text = format!(
        "ALTER DOMAIN {domain} DROP CONSTRAINT sealed; \
         ALTER TABLE {quoted} ADD COLUMN {} {domain}; \
         ALTER DOMAIN {domain} ADD CONSTRAINT sealed CHECK (octet_length(VALUE) >= 45 \
         AND substr(VALUE, 1, 4) = '\\x50475601'::bytea) NOT VALID",
        sql::quoted(&shadow)
    );
    client.batch_execute(&text).await.map_err(doing())?;
    let row = client
        .query_one(
            "SELECT attnum FROM pg_attribute WHERE attrelid = $1 AND attname = $2",
            &[&table.oid, &shadow],
        )
        .await;
    row.and_then(|row| row.try_get(0)).map_err(doing())
}

/// Makes the triggers anew: whatever changes a watched column, by its bytes, makes the cleared ones NULL. An insert that
/// names them does not count.
pub(super) async fn triggers(
    client: &Client,
    (id, quoted): (i64, &str),
    watched: &[&str],
    cleared: &[String],
) -> Result<(), JobError> {
    let function = sql::qualified("pgveil", &names::function(id));
    let fields = |row: &str, columns: &mut dyn Iterator<Item = &str>| {
        let fields: Vec<_> = columns
            .map(|name| format!("{row}.{}", sql::quoted(name)))
            .collect();
        fields
    };
    let (old, new) = (
        fields("OLD", &mut watched.iter().copied()).join(", "),
        fields("NEW", &mut watched.iter().copied()).join(", "),
    );
    let targets = fields("NEW", &mut cleared.iter().map(String::as_str));
    let body: Vec<_> = targets
        .iter()
        .map(|target| format!("{target} := NULL;"))
        .collect();
    let given: Vec<_> = targets
        .iter()
        .map(|target| format!("{target} IS NOT NULL"))
        .collect();
    let [insert, update] =
        ["insert", "update"].map(|what| sql::quoted(&format!("{}{what}", names::TRIGGERS)));
    let text = format!(
        "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $clear$ BEGIN {} RETURN NEW; END $clear$; \
         DROP TRIGGER IF EXISTS {insert} ON {quoted}; DROP TRIGGER IF EXISTS {update} ON {quoted}; \
         CREATE TRIGGER {insert} BEFORE INSERT ON {quoted} FOR EACH ROW WHEN ({}) EXECUTE FUNCTION {function}(); \
         CREATE TRIGGER {update} BEFORE UPDATE ON {quoted} FOR EACH ROW \
         WHEN (ROW({old})::record OPERATOR(pg_catalog.*<>) ROW({new})::record) EXECUTE FUNCTION {function}(); \
         ALTER TABLE {quoted} ENABLE ALWAYS TRIGGER {insert}, ENABLE ALWAYS TRIGGER {update}",
        body.join(" "),
        given.join(" OR ")
    );
    let doing = JobError::while_doing("make the triggers that clear what is stale");
    client.batch_execute(&text).await.map_err(doing)
}

/// Drops them and their function.
pub(super) async fn drop_triggers(client: &Client, id: i64, quoted: &str) -> Result<(), JobError> {
    let [insert, update] =
        ["insert", "update"].map(|what| sql::quoted(&format!("{}{what}", names::TRIGGERS)));
    let function = sql::qualified("pgveil", &names::function(id));
    let text = format!(
        "DROP TRIGGER IF EXISTS {insert} ON {quoted}; DROP TRIGGER IF EXISTS {update} ON {quoted}; DROP FUNCTION IF EXISTS {function}()"
    );
    let doing = JobError::while_doing("drop the triggers that clear what is stale");
    client.batch_execute(&text).await.map_err(doing)
}
