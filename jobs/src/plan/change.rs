//! A difference between the policy and values that are sealed already: which steps make it go away while the column is
//! used, and what has to go first.

use pgveil_config::TableRule;
use pgveil_policy::{
    catalog::{Catalog, Relation},
    ruleset::{Step, Wanted},
    template::ScopeTemplate,
};
use tokio_postgres::Client;

use super::{IndexStep, Obstacle, TablePlan, index, table};
use crate::{JobError, sql};

/// What `apply` would do to the values of one sealed column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangePlan {
    /// What the policy wants.
    pub wanted: Wanted,
    /// Its table: size, primary key, scope.
    pub table: TablePlan,
    /// Indexes that are made once every value has a term, or go before the first has none.
    pub indexes: Vec<IndexStep>,
    /// What must go first.
    pub obstacles: Vec<Obstacle>,
}

impl ChangePlan {
    /// Whether something must go first.
    pub fn is_blocked(&self) -> bool {
        let obstacles = self.obstacles.iter().chain(&self.table.obstacles);
        { obstacles }.any(|obstacle| obstacle.blocks)
    }

    /// `public.customers.email` for people.
    pub fn shown(&self) -> String {
        let table = sql::shown_qualified(&self.wanted.schema, &self.wanted.table);
        format!("{table}.{}", sql::shown(&self.wanted.column))
    }
}

/// Plans one change. `None`: its table went meanwhile.
pub(super) async fn plan(
    client: &Client,
    catalog: &Catalog,
    wanted: Wanted,
    rule: &TableRule,
) -> Result<Option<ChangePlan>, JobError> {
    let Some(relation) = catalog.relation(&wanted.schema, &wanted.table) else {
        return Ok(None);
    };
    let Ok(scope) = ScopeTemplate::parse(&rule.scope) else {
        return Ok(None);
    };
    let table = table::bare(client, relation, scope).await?;
    let (mut indexes, mut obstacles) = (Vec::new(), Vec::new());
    match &wanted.step {
        Step::AddTerms {
            shared_key,
            equality_group,
            ..
        } => {
            let searched = Searched {
                column: &wanted.column,
                scope: &table.scope,
                shared_key: *shared_key,
                equality_group: equality_group.as_ref(),
            };
            indexes = indexes_of(client, relation, &searched).await?;
        }
        Step::TurnTerms(_) => {
            for user in all_users(client, catalog, relation, &wanted.column).await? {
                obstacles.extend(user.to_be_made_again());
            }
        }
        Step::DropTerms => {
            (indexes, obstacles) = users_of(client, catalog, relation, &wanted.column).await?;
        }
        // A row that is updated meanwhile stays in its range by its key only, and may be missed otherwise.
        Step::Narrow { .. } if table.primary_key.is_empty() => {
            let shown = table.shown();
            obstacles.push(Obstacle::blocks(
                format!("table {shown} has no primary key, by which every value could be looked at while rows are updated"),
                format!("ALTER TABLE {shown} ADD PRIMARY KEY (...); or keep the longer type"),
            ));
        }
        Step::Widen { .. } | Step::Narrow { .. } => {}
    }
    Ok(Some(ChangePlan {
        wanted,
        table,
        indexes,
        obstacles,
    }))
}

/// A column that gets terms.
pub(crate) struct Searched<'a> {
    pub(crate) column: &'a str,
    /// Of its table's rows.
    pub(crate) scope: &'a ScopeTemplate,
    pub(crate) shared_key: bool,
    pub(crate) equality_group: Option<&'a String>,
}

/// The indexes that it lacks.
pub(crate) async fn indexes_of(
    client: &Client,
    relation: &Relation,
    searched: &Searched<'_>,
) -> Result<Vec<IndexStep>, JobError> {
    let mut table = table::bare(client, relation, searched.scope.clone()).await?;
    let scope_columns = if searched.shared_key {
        Vec::new()
    } else {
        let columns = searched.scope.columns().into_iter();
        columns.map(str::to_owned).collect()
    };
    let want = index::Wanted {
        column: searched.column.to_owned(),
        joins: searched.equality_group.cloned(),
        scope_columns,
    };
    index::plan(client, &mut table, &[want]).await?;
    Ok(table.indexes)
}

/// The indexes on a column's terms that pgveil drops when these go, and what must go first.
pub(crate) async fn users_of(
    client: &Client,
    catalog: &Catalog,
    relation: &Relation,
    column: &str,
) -> Result<(Vec<IndexStep>, Vec<Obstacle>), JobError> {
    let (mut indexes, mut obstacles) = (Vec::new(), Vec::new());
    for user in all_users(client, catalog, relation, column).await? {
        user.sort_into(&mut indexes, &mut obstacles);
    }
    Ok((indexes, obstacles))
}

/// Of the table, its partitions and other heirs.
async fn all_users(
    client: &Client,
    catalog: &Catalog,
    relation: &Relation,
    column: &str,
) -> Result<Vec<TermUser>, JobError> {
    let mut tables = vec![relation];
    tables.extend(catalog.heirs(relation.oid));
    let mut users = Vec::new();
    for relation in tables {
        let attnum = relation.column(column).map_or(0, |column| column.attnum);
        users.extend(term_users(client, relation.oid, attnum).await?);
    }
    Ok(users)
}

/// Something of the database that reads a column's terms.
struct TermUser {
    kind: String,
    schema: String,
    name: String,
}

impl TermUser {
    /// The indexes are made again by the job.
    fn to_be_made_again(&self) -> Option<Obstacle> {
        let shown = sql::shown_qualified(&self.schema, &self.name);
        let cure = match self.kind.as_str() {
            "view" => format!(
                "CREATE OR REPLACE VIEW {shown} through pgveil, once the new terms are compared; until then it is refused"
            ),
            "materialized view" => {
                format!("make {shown} anew through pgveil, once the new terms are compared")
            }
            "function" | "procedure" => format!(
                "if it compares this column: CREATE OR REPLACE {} {shown} through pgveil, once the new terms are compared",
                self.kind.to_uppercase()
            ),
            _ => return None,
        };
        let what = format!("{} {shown} bears the former terms", self.kind);
        Some(Obstacle::warns(what, cure))
    }

    fn sort_into(self, indexes: &mut Vec<IndexStep>, obstacles: &mut Vec<Obstacle>) {
        let shown = sql::shown_qualified(&self.schema, &self.name);
        match self.kind.as_str() {
            "index" => indexes.push(IndexStep {
                name: self.name.clone(),
                drop: Some(format!(
                    "DROP INDEX CONCURRENTLY {}",
                    sql::qualified(&self.schema, &self.name)
                )),
                create: None,
                online: None,
                summary: "on terms that will be gone".to_owned(),
            }),
            "partitioned index" => obstacles.push(Obstacle::blocks(
                format!("index {shown} is on terms that will be gone"),
                format!("DROP INDEX {shown};"),
            )),
            "unique index" => obstacles.push(Obstacle::blocks(
                format!("unique index {shown} holds by terms that will be gone"),
                format!("DROP INDEX {shown}; if its values may repeat from now on"),
            )),
            // By its text only: it may mean another column of the name.
            "function" | "procedure" => obstacles.push(Obstacle::warns(
                format!("{} {shown} compares by terms", self.kind),
                "if it compares this column, it fails from then on: make it anew through pgveil"
                    .to_owned(),
            )),
            kind => obstacles.push(Obstacle::blocks(
                format!("{kind} {shown} compares or groups by terms that will be gone"),
                format!("DROP {} {shown};", kind.to_uppercase()),
            )),
        }
    }
}

async fn term_users(client: &Client, oid: u32, attnum: i16) -> Result<Vec<TermUser>, JobError> {
    let doing = || JobError::while_doing("look for what reads search terms");
    let rows = client
        .query(include_str!("terms.sql"), &[&oid, &attnum])
        .await
        .map_err(doing())?;
    let user = |row: &tokio_postgres::Row| {
        Ok(TermUser {
            kind: row.try_get("kind")?,
            schema: row.try_get("nspname")?,
            name: row.try_get("relname")?,
        })
    };
    rows.iter()
        .map(user)
        .collect::<Result<_, _>>()
        .map_err(doing())
}
