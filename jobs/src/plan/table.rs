//! One table of the policy: which of its columns will be sealed, and what that takes.

use pgveil_config::{ColumnRule, SearchKey, TableRule};
use pgveil_policy::{
    catalog::{Catalog, Column, Relation},
    ruleset::Wanted,
    template::ScopeTemplate,
    types::LogicalType,
};
use tokio_postgres::Client;

use super::{ColumnPlan, IndexStep, Obstacle, column::convertible, index, obstacle};
use crate::{JobError, sql};

/// What `apply` would do to one table, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePlan {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Table.
    pub name: String,
    /// The server's estimate, if it has one.
    pub rows: Option<u64>,
    /// Size of the table without its indexes.
    pub bytes: u64,
    /// Columns of the primary key.
    pub primary_key: Vec<String>,
    /// The other columns, for telling rows apart where there is no primary key.
    pub other_columns: Vec<String>,
    /// Whose keys its values get.
    pub scope: ScopeTemplate,
    /// Columns to seal.
    pub columns: Vec<ColumnPlan>,
    /// Indexes that change.
    pub indexes: Vec<IndexStep>,
    /// What stops working.
    pub obstacles: Vec<Obstacle>,
    /// Why its columns cannot be migrated online, but only at once.
    pub only_at_once: Vec<String>,
}

impl TablePlan {
    /// Whether there is anything to do.
    pub fn has_work(&self) -> bool {
        !self.columns.is_empty() || !self.indexes.is_empty()
    }

    /// Whether something must go first.
    pub fn is_blocked(&self) -> bool {
        self.obstacles.iter().any(|o| o.blocks)
    }

    /// `schema.name` for people.
    pub fn shown(&self) -> String {
        sql::shown_qualified(&self.schema, &self.name)
    }

    /// `"schema"."name"` for the server.
    pub(crate) fn quoted(&self) -> String {
        sql::qualified(&self.schema, &self.name)
    }
}

/// Plans one table. `None`: there is no such table, or its entry cannot be understood; the policy's findings say so.
pub(crate) async fn of_rule(
    client: &Client,
    catalog: &Catalog,
    rule: &TableRule,
    changing: &[&Wanted],
) -> Result<Option<TablePlan>, JobError> {
    let place = catalog
        .by_name
        .get(&(rule.schema.clone(), rule.name.clone()));
    let (Some(relation), Ok(scope)) = (
        place.map(|p| &catalog.relations[*p]),
        ScopeTemplate::parse(&rule.scope),
    ) else {
        return Ok(None);
    };
    let mut table = empty(relation, scope);
    let mut wanted = Vec::new();
    for column_rule in &rule.columns {
        let column = relation.columns.iter().find(|c| c.name == column_rule.name);
        let (Some(column), Ok(to)) = (column, catalog.parse_type(&column_rule.logical_type)) else {
            continue;
        };
        // Values that are getting terms are indexed when all have one.
        let is_changing = changing.iter().any(|wanted| wanted.at == column_rule.at);
        if column_rule.search.equality && !is_changing {
            wanted.push(wanted_index(&table.scope, column_rule));
        }
        if column.sealed_domain().is_none() {
            add_column(&mut table, catalog, column, column_rule, to);
        }
    }
    table.other_columns = relation.columns.iter().map(|c| c.name.clone()).collect();
    table
        .other_columns
        .retain(|name| !table.columns.iter().any(|c| c.name == *name));

    obstacle::of_table(client, &mut table).await?;
    obstacle::of_columns(client, &mut table).await?;
    obstacle::of_migrating(client, catalog, &mut table).await?;
    obstacle::of_heirs(client, catalog, &mut table).await?;
    obstacle::of_functions(catalog, relation, &mut table);
    if !wanted.is_empty() || !table.columns.is_empty() {
        index::plan(client, &mut table, &wanted).await?;
    }
    Ok(Some(table))
}

/// A table of which nothing is converted, as far as it is told from others: its size and its rows' names.
pub(super) async fn bare(
    client: &Client,
    relation: &Relation,
    scope: ScopeTemplate,
) -> Result<TablePlan, JobError> {
    let mut table = empty(relation, scope);
    table.other_columns = relation.columns.iter().map(|c| c.name.clone()).collect();
    obstacle::of_table(client, &mut table).await?;
    Ok(table)
}

/// Nothing is known of it yet but its names.
pub(crate) fn empty(relation: &Relation, scope: ScopeTemplate) -> TablePlan {
    TablePlan {
        oid: relation.oid,
        schema: relation.schema.clone(),
        name: relation.name.clone(),
        rows: None,
        bytes: 0,
        primary_key: Vec::new(),
        other_columns: Vec::new(),
        scope,
        columns: Vec::new(),
        indexes: Vec::new(),
        obstacles: Vec::new(),
        only_at_once: Vec::new(),
    }
}

fn wanted_index(scope: &ScopeTemplate, rule: &ColumnRule) -> index::Wanted {
    let scope_columns = match rule.search_key {
        SearchKey::Shared => Vec::new(),
        SearchKey::Scope => scope.columns().into_iter().map(str::to_owned).collect(),
    };
    index::Wanted {
        column: rule.name.clone(),
        scope_columns,
        joins: None,
    }
}

/// Adds a column to seal. One that cannot be sealed is a finding of the ruleset.
fn add_column(
    table: &mut TablePlan,
    catalog: &Catalog,
    column: &Column,
    rule: &ColumnRule,
    to: LogicalType,
) {
    let from = catalog
        .type_of(column.type_oid, column.typmod)
        .filter(|from| convertible(*from, to));
    let Some(from) = from else { return };
    table.columns.push(ColumnPlan {
        attnum: column.attnum,
        name: column.name.clone(),
        from_name: column.type_name.clone(),
        from,
        to,
        equality: rule.search.equality,
        search_key: rule.search_key,
        equality_group: rule.equality_group.clone(),
    });
}
