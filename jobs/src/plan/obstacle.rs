//! What stops working when columns are sealed, and what to do about it first.

use pgveil_policy::catalog::{Catalog, Relation};
use tokio_postgres::{Client, Row};

use super::{TablePlan, partition};
use crate::{JobError, migrate::names, sql};

/// Something that reads a column as plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Whether `apply` refuses while it is there; otherwise it is a warning.
    pub blocks: bool,
    /// What it is, without a full stop.
    pub what: String,
    /// What to do.
    pub cure: String,
}

impl Obstacle {
    pub(super) fn blocks(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            blocks: true,
            what: what.into(),
            cure: cure.into(),
        }
    }

    pub(super) fn warns(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            blocks: false,
            what: what.into(),
            cure: cure.into(),
        }
    }
}

/// What keeps a table from being rewritten, apart from what the ruleset finds (views, partitions, inheritance). Also
/// sets its size and primary key.
pub(super) async fn of_table(client: &Client, table: &mut TablePlan) -> Result<(), JobError> {
    let doing = || JobError::while_doing("read what kind of table it is");
    let row = client
        .query_one(include_str!("table.sql"), &[&table.oid])
        .await
        .map_err(doing())?;
    let rows: i64 = row.try_get("rows").map_err(doing())?;
    table.rows = u64::try_from(rows).ok();
    table.bytes = row
        .try_get::<_, i64>("bytes")
        .map_err(doing())?
        .unsigned_abs();
    table.primary_key = row.try_get("primary_key").map_err(doing())?;
    if table.columns.is_empty() {
        return Ok(());
    }
    let mut found = shape(&row, table).map_err(doing())?;
    let publications: Vec<String> = row.try_get("publications").map_err(doing())?;
    let named: Vec<Option<String>> = row.try_get("published_as").map_err(doing())?;
    for (publication, named) in publications.into_iter().zip(named) {
        let why = sent_by(&publication, named.as_deref(), "it");
        table.only_at_once.push(why);
        found.push(Obstacle::warns(
            format!("publication {} sends this table to its subscribers", sql::shown(&publication)),
            "subscribers keep the plaintext that they have and get sealed values from now on: change their columns to bytea and copy the table again",
        ));
    }
    table.obstacles.extend(found);
    Ok(())
}

/// Why a publication keeps `what` from being migrated online; `named`: the table by whose name it sends that.
pub(super) fn sent_by(publication: &str, named: Option<&str>, what: &str) -> String {
    let name = sql::shown(publication);
    let cure = match named {
        Some(table) => format!("ALTER PUBLICATION {name} DROP TABLE {table};"),
        None => format!(
            "it names no tables; have it name those that are to be sent meanwhile, without this one: \
             BEGIN; DROP PUBLICATION {name}; CREATE PUBLICATION {name} FOR TABLE ...; COMMIT;"
        ),
    };
    format!(
        "publication {name} sends {what}, and its subscribers have no columns like pgveil's: {cure} and copy it to them anew afterwards"
    )
}

fn shape(row: &Row, table: &TablePlan) -> Result<Vec<Obstacle>, tokio_postgres::Error> {
    let mut found = Vec::new();
    if row.try_get("typed")? {
        let cure = format!("ALTER TABLE {} NOT OF;", table.shown());
        found.push(Obstacle::blocks(
            "it is a typed table (CREATE TABLE ... OF)",
            cure,
        ));
    }
    if !row.try_get::<_, bool>("owned")? {
        let owner: String = row.try_get("owner")?;
        found.push(Obstacle::blocks(
            format!("it belongs to {}", sql::shown(&owner)),
            format!(
                "GRANT {} TO the role of [keystore] url, at least until apply is done",
                sql::shown(&owner)
            ),
        ));
    }
    Ok(found)
}

/// What depends on the columns themselves, by the server's own record. (Defaults and generated columns are findings of
/// the ruleset.)
pub(super) async fn of_columns(client: &Client, table: &mut TablePlan) -> Result<(), JobError> {
    let attnums: Vec<i16> = table.columns.iter().map(|c| c.attnum).collect();
    if attnums.is_empty() {
        return Ok(());
    }
    let shown = table.shown();
    let doing = || JobError::while_doing(format!("read what depends on {shown}"));
    let rows = client
        .query(include_str!("dependents.sql"), &[&table.oid, &attnums])
        .await
        .map_err(doing())?;
    let mut found: Vec<Obstacle> = Vec::new();
    for row in &rows {
        let stays = stays_behind(row, table).map_err(doing())?;
        table.only_at_once.extend(stays);
        let obstacle = dependent(row, table).map_err(doing())?;
        found.extend(obstacle.filter(|o| !found.contains(o)));
    }
    table.obstacles.extend(found);
    Ok(())
}

/// What only a conversion at once can cope with. (Indexes say it themselves.)
pub(super) async fn of_migrating(
    client: &Client,
    catalog: &Catalog,
    table: &mut TablePlan,
) -> Result<(), JobError> {
    if table.columns.is_empty() {
        return Ok(());
    }
    partition::of_partitions(client, catalog, table).await?;
    let shown = table.shown();
    let doing = || JobError::while_doing(format!("read the triggers of {shown}"));
    // TRIGGER_TYPE_ROW and TRIGGER_TYPE_BEFORE; they fire in the order of their names' bytes.
    let sql = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal \
               AND tgtype & 3 = 3 AND tgname COLLATE \"C\" > $2 ORDER BY 1";
    let rows = client.query(sql, &[&table.oid, &names::TRIGGERS]).await;
    for row in &rows.map_err(doing())? {
        let name: String = row.try_get(0).map_err(doing())?;
        if !names::is_own(&name) {
            let name = sql::shown(&name);
            table
                .only_at_once
                .push(format!("trigger {name} fires behind pgveil's own"));
        }
    }
    Ok(())
}

/// The same for the table's partitions and heirs, whose columns may have other numbers; and their own indexes, which
/// go on holding plaintext order where no index of the table would replace them.
pub(super) async fn of_heirs(
    client: &Client,
    catalog: &Catalog,
    table: &mut TablePlan,
) -> Result<(), JobError> {
    if table.columns.is_empty() {
        return Ok(());
    }
    let heirs = catalog.heirs(table.oid);
    let heirs = with_dependents(client, table, heirs).await?;
    for heir in heirs {
        let mut part = of_heir(table, heir);
        of_columns(client, &mut part).await?;
        of_own_indexes(client, &mut part).await?;
        let known = &mut table.obstacles;
        for obstacle in part.obstacles {
            if !known.contains(&obstacle) {
                known.push(obstacle);
            }
        }
        let known = &mut table.only_at_once;
        for why in part.only_at_once {
            if !known.contains(&why) {
                known.push(why);
            }
        }
    }
    Ok(())
}

async fn of_own_indexes(client: &Client, part: &mut TablePlan) -> Result<(), JobError> {
    let shown = part.shown();
    for name in own_indexes(client, part).await? {
        part.obstacles.push(Obstacle::blocks(
            format!(
                "index {} of {} is on a column to seal",
                sql::shown(&name),
                shown
            ),
            format!(
                "DROP INDEX {}; and make it on the table itself, where it becomes one on terms",
                sql::shown_qualified(&part.schema, &name)
            ),
        ));
    }
    Ok(())
}

/// Indexes of a partition or heir that read a column of the plan, and belong to none of the table's.
pub(super) async fn own_indexes(
    client: &Client,
    part: &TablePlan,
) -> Result<Vec<String>, JobError> {
    let attnums: Vec<i16> = part.columns.iter().map(|column| column.attnum).collect();
    let shown = part.shown();
    let doing = || JobError::while_doing(format!("read the indexes of {shown}"));
    let sql = "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
               WHERE i.indrelid = $1 AND (i.indkey::int2[] && $2::int2[] OR EXISTS (SELECT FROM pg_depend d \
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid \
                   AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = ANY ($2::int2[]))) \
               AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid) ORDER BY 1";
    let rows = client
        .query(sql, &[&part.oid, &attnums])
        .await
        .map_err(doing())?;
    let names = rows.iter().map(|row| row.try_get(0));
    let names: Result<Vec<String>, _> = names.collect();
    let mut names = names.map_err(doing())?;
    names.retain(|name| !names::is_own(name));
    Ok(names)
}

/// Those of its partitions and heirs on whose columns, or rows, anything hangs: all are asked about at once, since they may be
/// many, and locked.
pub(super) async fn with_dependents<'c>(
    client: &Client,
    table: &TablePlan,
    mut heirs: Vec<&'c Relation>,
) -> Result<Vec<&'c Relation>, JobError> {
    let oids: Vec<u32> = heirs.iter().map(|heir| heir.oid).collect();
    let columns: Vec<&str> = { table.columns.iter() }
        .map(|column| column.name.as_str())
        .collect();
    let doing = || JobError::while_doing(format!("read what depends on {}", table.shown()));
    let rows = client
        .query(
            include_str!("heirs.sql"),
            &[&oids, &columns, &names::TRIGGERS],
        )
        .await
        .map_err(doing())?;
    let found = rows.iter().map(|row| row.try_get(0));
    let found: Result<Vec<u32>, _> = found.collect();
    let found = found.map_err(doing())?;
    heirs.retain(|heir| found.contains(&heir.oid));
    Ok(heirs)
}

/// The plan of one of its partitions or heirs, whose columns may have other numbers; without what stands in the way.
pub(super) fn of_heir(table: &TablePlan, heir: &Relation) -> TablePlan {
    let mut part = table.clone();
    part.oid = heir.oid;
    part.schema.clone_from(&heir.schema);
    part.name.clone_from(&heir.name);
    part.obstacles.clear();
    part.only_at_once.clear();
    for column in &mut part.columns {
        let own = heir.column(&column.name);
        column.attnum = own.map_or(0, |own| own.attnum);
    }
    part
}

/// A CHECK that means the same on sealed values stays with the plaintext column, which is cleared after the swap.
fn stays_behind(row: &Row, table: &TablePlan) -> Result<Option<String>, tokio_postgres::Error> {
    let attnum: i16 = row.try_get("attnum")?;
    let (kind, name): (String, String) = (row.try_get("kind")?, row.try_get("name")?);
    let column = table.columns.iter().find(|column| column.attnum == attnum);
    if kind != "constraint c" || names::is_own(&name) {
        return Ok(None);
    }
    Ok(column.map(|column| {
        let (name, column) = (sql::shown(&name), sql::shown(&column.name));
        format!("CHECK constraint {name} looks at {column}")
    }))
}

fn dependent(row: &Row, table: &TablePlan) -> Result<Option<Obstacle>, tokio_postgres::Error> {
    let attnum: i16 = row.try_get("attnum")?;
    let kind: String = row.try_get("kind")?;
    let raw_name: String = row.try_get("name")?;
    let place: Option<String> = row.try_get("place")?;
    let definition: Option<String> = row.try_get("definition")?;
    if names::is_own(&raw_name) {
        return Ok(None);
    }
    let column = table
        .columns
        .iter()
        .find(|c| c.attnum == attnum)
        .map_or("", |c| c.name.as_str());
    let (name, place) = (sql::shown(&raw_name), place.unwrap_or_default());
    let column_shown = sql::shown(column);
    Ok(Some(match kind.as_str() {
        "constraint c" => {
            let text = definition.unwrap_or_default();
            let condition = text
                .strip_prefix("CHECK (")
                .and_then(|t| t.strip_suffix(')'));
            if condition.is_some_and(|c| super::is_null_test(c, column)) {
                return Ok(None);
            }
            Obstacle::blocks(
                format!(
                    "CHECK constraint {name} reads {column_shown}, and the server will see only ciphertext"
                ),
                format!("ALTER TABLE {place} DROP CONSTRAINT {name}; and check in the application"),
            )
        }
        "constraint f" => Obstacle::blocks(
            format!("foreign key {name} of {place} uses {column_shown}"),
            format!("ALTER TABLE {place} DROP CONSTRAINT {name};"),
        ),
        "constraint t" | "trigger" => Obstacle::blocks(
            format!("trigger {name} names {column_shown} in its UPDATE OF or WHEN"),
            format!(
                "DROP TRIGGER {name} ON {place}; and create it again afterwards if it works on sealed values"
            ),
        ),
        "rule" => Obstacle::blocks(
            format!("rule {name} on {place} uses {column_shown}"),
            format!("DROP RULE {name} ON {place};"),
        ),
        "view" => Obstacle::blocks(
            format!("view {raw_name} shows {column_shown}"),
            format!(
                "save its definition (pg_dump -t {raw_name}), DROP VIEW {raw_name}; and create it again after apply"
            ),
        ),
        "materialized view" => Obstacle::blocks(
            format!("materialized view {raw_name} holds a plaintext copy of {column_shown}"),
            format!(
                "DROP MATERIALIZED VIEW {raw_name}; it can be created again after apply and will hold sealed values"
            ),
        ),
        "policy" => Obstacle::blocks(
            format!("row security policy {name} on {place} reads {column_shown}"),
            format!("DROP POLICY {name} ON {place};"),
        ),
        "statistics" => Obstacle::blocks(
            format!("extended statistics {raw_name} keep samples of {column_shown}"),
            format!("DROP STATISTICS {raw_name};"),
        ),
        "function" => Obstacle::blocks(
            format!("function {raw_name} reads {column_shown}"),
            format!("DROP FUNCTION {raw_name}; and create it again after apply"),
        ),
        "publication" => Obstacle::blocks(
            format!("publication {name} names {column_shown} in its column list or row filter"),
            format!("ALTER PUBLICATION {name} DROP TABLE {place}; and add it again without"),
        ),
        "whole row" => Obstacle::warns(
            format!(
                "materialized view {raw_name} reads this table as a whole, and may hold plaintext of it"
            ),
            format!(
                "if it shows rows and not only counts them: DROP MATERIALIZED VIEW {raw_name}; and create it again after apply"
            ),
        ),
        "row type" => Obstacle::blocks(
            format!(
                "column {name} of {place} has this table's row type, and may hold copies of it"
            ),
            format!("ALTER TABLE {place} DROP COLUMN {name};"),
        ),
        _ => return Ok(None),
    }))
}

/// What the server keeps no record of: bodies of functions are text. By words, so these only warn.
pub(super) fn of_functions(catalog: &Catalog, relation: &Relation, table: &mut TablePlan) {
    let mut found = Vec::new();
    for function in &catalog.functions {
        let name = sql::shown_qualified(&function.schema, &function.name);
        let fires = relation.trigger_functions.contains(&function.oid);
        let read = table
            .columns
            .iter()
            .find(|c| sql::mentions(&function.body, &c.name));
        match read {
            Some(column) if fires => found.push(Obstacle::warns(
                format!("trigger function {name} mentions {}", sql::shown(&column.name)),
                "it will see and must keep sealed values: the server refuses anything else in the column",
            )),
            Some(column) if sql::mentions(&function.body, &relation.name) => found.push(Obstacle::warns(
                format!("function {name} mentions {}", sql::shown(&column.name)),
                "it will see sealed values, and statements that call it may be refused",
            )),
            _ => {}
        }
    }
    table.obstacles.extend(found);
}
