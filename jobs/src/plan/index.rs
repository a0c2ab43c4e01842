//! What becomes of a table's indexes when columns are sealed: an index on a value becomes an index on its search
//! term, under the same name. Other indexes are rebuilt by the server itself.

mod existing;

use std::collections::BTreeMap;

use tokio_postgres::Client;

use self::existing::Index;
use super::{TablePlan, column::ColumnPlan, number::Numbers};
use crate::{JobError, migrate::names, sql};

/// PostgreSQL's NAMEDATALEN - 1: longer names are cut by the server.
const MAX_NAME_BYTES: usize = 63;

/// One change to an index. `drop` runs before the table is rewritten, `create` after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexStep {
    /// Name before and after.
    pub name: String,
    /// SQL that removes what is there.
    pub drop: Option<String>,
    /// SQL that makes the index on terms.
    pub create: Option<String>,
    /// The same over the shadow of a column that is migrated online.
    pub online: Option<OnlineIndex>,
    /// What it becomes, for people: `UNIQUE (tenant_id, pgveil.eq_term(email))`.
    pub summary: String,
}

/// An index on the terms of columns that are still under the names of their shadows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineIndex {
    /// Whether it is unique.
    pub unique: bool,
    /// What stands behind the name of the table.
    pub rest: String,
}

impl OnlineIndex {
    /// SQL that makes it beside writers, under this name, on the table or one of its partitions.
    pub(crate) fn sql(&self, name: &str, table: &str) -> String {
        self.create(name, "CONCURRENTLY", &format!("ON {table}"))
    }

    /// The same on a partitioned table, without its partitions.
    pub(crate) fn above(&self, name: &str, table: &str) -> String {
        self.create(name, "", &format!("ON ONLY {table}"))
    }

    fn create(&self, name: &str, how: &str, on: &str) -> String {
        let unique = if self.unique { "UNIQUE " } else { "" };
        let (name, rest) = (sql::quoted(name), &self.rest);
        format!("CREATE {unique}INDEX {how} {name} {on} {rest}")
    }
}

/// A column that needs an index on its terms, and what stands beside the term in one that is made anew.
pub(super) struct Wanted {
    pub(super) column: String,
    pub(super) scope_columns: Vec<String>,
    /// The equality group that it is getting terms of.
    pub(super) joins: Option<String>,
}

/// Fills in `table.indexes` and adds to `table.obstacles`.
pub(super) async fn plan(
    client: &Client,
    table: &mut TablePlan,
    wanted: &[Wanted],
) -> Result<(), JobError> {
    let indexes = read(client, table).await?;
    let sealing: BTreeMap<i16, ColumnPlan> = table
        .columns
        .iter()
        .map(|c| (c.attnum, c.clone()))
        .collect();

    let numbers = Numbers::read(client).await?;
    let mut covered: Vec<String> = Vec::new();
    for index in &indexes {
        if index.is_refused_by_the_policy(&sealing) || index.is_of_a_migration() {
            continue;
        }
        table.only_at_once.extend(index.only_at_once(&sealing));
        let obstacles = index.obstacles(table, &sealing);
        if !obstacles.is_empty() {
            table.obstacles.extend(obstacles);
        } else if index.has_key_of(&sealing) {
            let step = index.replacement(table, &sealing, &numbers);
            table.indexes.push(step);
        }
        covered.extend(
            wanted
                .iter()
                .filter(|w| {
                    let number = numbers.of(table, &w.column, w.joins.as_deref());
                    index.covers(w, number, &sealing)
                })
                .map(|w| w.column.clone()),
        );
    }
    for want in wanted.iter().filter(|w| !covered.contains(&w.column)) {
        let name = free_name(client, table, &want.column).await?;
        let number = numbers.of(table, &want.column, want.joins.as_deref());
        table.indexes.push(fresh(table, name, want, number));
    }
    Ok(())
}

/// Fills in `table.indexes` with what comes back on the values of columns that are decrypted, and adds to `table.obstacles`.
pub(super) async fn plan_opened(client: &Client, table: &mut TablePlan) -> Result<(), JobError> {
    let indexes = read(client, table).await?;
    let names: Vec<(i16, String)> = { table.columns.iter() }
        .map(|column| (column.attnum, column.name.clone()))
        .collect();
    for index in indexes.iter().filter(|index| !index.is_of_a_migration()) {
        match index.opened(table, &names) {
            Ok(step) => table.indexes.extend(step),
            Err(obstacle) => table.obstacles.push(obstacle),
        }
    }
    Ok(())
}

async fn read(client: &Client, table: &TablePlan) -> Result<Vec<Index>, JobError> {
    let rows = client
        .query(include_str!("indexes.sql"), &[&table.oid])
        .await
        .map_err(JobError::while_doing(format!(
            "read the indexes of {}",
            table.shown()
        )))?;
    let indexes = rows.iter().map(Index::read).collect::<Result<Vec<_>, _>>();
    indexes.map_err(JobError::while_doing("understand an index"))
}

/// An index where there was none. The scope's columns stand behind the term: they are pinned in every search.
fn fresh(table: &TablePlan, name: String, want: &Wanted, number: u32) -> IndexStep {
    let keys = |column: &str| {
        let keys: Vec<String> = std::iter::once(sql::eq_term(number, &sql::quoted(column)))
            .chain(want.scope_columns.iter().map(|c| sql::quoted(c)))
            .collect();
        keys.join(", ")
    };
    let shown: Vec<String> = std::iter::once(sql::eq_term(number, &sql::shown(&want.column)))
        .chain(want.scope_columns.iter().map(|c| sql::shown(c)))
        .collect();
    let create = format!(
        "CREATE INDEX {} ON {} ({})",
        sql::quoted(&name),
        table.quoted(),
        keys(&want.column)
    );
    let rest = format!("({})", keys(&names::shadow(&want.column)));
    let migrated = table
        .columns
        .iter()
        .any(|column| column.name == want.column);
    let unique = false;
    IndexStep {
        name,
        drop: None,
        create: Some(create),
        online: migrated.then_some(OnlineIndex { unique, rest }),
        summary: format!("({})", shown.join(", ")),
    }
}

/// `<table>_<column>_eq_idx`, cut as the server cuts names, and numbered if it is taken.
async fn free_name(client: &Client, table: &TablePlan, column: &str) -> Result<String, JobError> {
    let mut number = 0;
    loop {
        let suffix = if number == 0 {
            "_eq_idx".to_owned()
        } else {
            format!("_eq_idx{number}")
        };
        let mut stem = format!("{}_{column}", table.name);
        while stem.len() + suffix.len() > MAX_NAME_BYTES {
            stem.pop();
        }
        let name = stem + &suffix;
        let path = sql::qualified(&table.schema, &name);
        let row = client
            .query_one("SELECT to_regclass($1) IS NULL", &[&path])
            .await;
        let row = row.map_err(JobError::while_doing("look for a free index name"))?;
        if row
            .try_get(0)
            .map_err(JobError::while_doing("look for a free index name"))?
        {
            return Ok(name);
        }
        number += 1;
    }
}
