//! A difference between the policy and values that are sealed already: which steps make it go away while the column is
//! used, and what has to go first.

use pgveil_config::TableRule;
use pgveil_policy::{
    catalog::Catalog,
    ruleset::{Step, Wanted},
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
    let Some(mut table) = table::bare(client, relation, rule).await? else {
        return Ok(None);
    };
    let (mut indexes, mut obstacles) = (Vec::new(), Vec::new());
    match &wanted.step {
        Step::AddTerms {
            shared_key,
            equality_group,
            ..
        } => {
            let want = index::Wanted {
                joins: equality_group.clone(),
                column: wanted.column.clone(),
                scope_columns: if *shared_key {
                    Vec::new()
                } else {
                    let columns = table.scope.columns().into_iter();
                    columns.map(str::to_owned).collect()
                },
            };
            index::plan(client, &mut table, &[want]).await?;
            indexes.append(&mut table.indexes);
        }
        Step::TurnTerms(_) => {
            let mut tables = vec![relation];
            tables.extend(catalog.heirs(relation.oid));
            for relation in tables {
                let column = relation.column(&wanted.column);
                let attnum = column.map_or(0, |column| column.attnum);
                let found = term_users(client, relation.oid, attnum).await?;
                obstacles.extend(found.iter().filter_map(TermUser::to_be_made_again));
            }
        }
        Step::DropTerms => {
            let mut tables = vec![relation];
            tables.extend(catalog.heirs(relation.oid));
            for relation in tables {
                let column = relation.column(&wanted.column);
                let attnum = column.map_or(0, |column| column.attnum);
                let found = term_users(client, relation.oid, attnum).await?;
                for user in found {
                    user.sort_into(&mut indexes, &mut obstacles);
                }
            }
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
