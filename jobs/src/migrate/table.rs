//! What a table under way is in the catalog now: its plan under the names that its columns have in this phase.

use pgveil_config::PolicyFile;
use pgveil_keys::Keys;
use pgveil_policy::{
    catalog::{Catalog, Relation},
    plan::ColumnId,
    template::ScopeTemplate,
};
use tokio_postgres::Client;

use super::{Migration, rows::Names};
use crate::{
    JobError,
    apply::sealing::Sealing,
    catalog,
    plan::{ColumnPlan, TablePlan},
    sql,
};

/// The plan of the table's own columns, and what they are called.
pub(super) struct Known {
    pub(super) plan: TablePlan,
    pub(super) names: Vec<Names>,
}

impl Known {
    /// For work on its rows.
    pub(super) fn at_work<'a>(
        &'a self,
        client: &'a Client,
        keys: &'a Keys,
        migration: &'a Migration,
    ) -> super::rows::Table<'a> {
        let ids: Vec<ColumnId> = migration.columns.iter().map(|column| column.id).collect();
        super::rows::Table {
            client,
            migration,
            plan: &self.plan,
            sealing: Sealing::new(keys, &self.plan, &ids),
            columns: self.names.clone(),
        }
    }
}

/// Reads it in a transaction of its own.
pub(super) async fn known(
    client: &Client,
    policy: &PolicyFile,
    migration: &Migration,
) -> Result<Known, JobError> {
    let catalog = catalog::read(client).await?;
    of(&catalog, policy, migration)
}

fn of(catalog: &Catalog, policy: &PolicyFile, migration: &Migration) -> Result<Known, JobError> {
    let changed = || JobError::ChangedMeanwhile {
        table: migration.shown(),
    };
    let relation = catalog.relation_by_oid(migration.oid).ok_or_else(changed)?;
    let same = (&relation.schema, &relation.name) == (&migration.schema, &migration.table);
    let mut rules = policy.tables.iter();
    let rule = rules.find(|rule| migration.is_of(&rule.schema, &rule.name));
    let rule = rule.filter(|_| same).ok_or_else(changed)?;
    let scope = ScopeTemplate::parse(&rule.scope).map_err(|_| changed())?;
    let mut plan = empty(relation, scope);
    let mut names = Vec::new();
    for migrated in &migration.columns {
        let (plain, sealed) = (
            relation.attribute(migrated.plain),
            relation.attribute(migrated.sealed),
        );
        let rule = rule.columns.iter().find(|rule| rule.name == migrated.name);
        let (Some(plain), Some(sealed), Some(rule)) = (plain, sealed, rule) else {
            return Err(changed());
        };
        let from = catalog
            .type_of(plain.type_oid, plain.typmod)
            .ok_or_else(changed)?;
        plan.columns.push(ColumnPlan {
            attnum: plain.attnum,
            name: migrated.name.clone(),
            from_name: plain.type_name.clone(),
            from,
            to: catalog
                .parse_type(&rule.logical_type)
                .map_err(|_| changed())?,
            equality: rule.search.equality,
            search_key: rule.search_key,
            equality_group: rule.equality_group.clone(),
        });
        names.push(Names {
            plain: sql::quoted(&plain.name),
            sealed: sql::quoted(&sealed.name),
            from: from.without_modifiers().sql_name(),
        });
    }
    Ok(Known { plan, names })
}

fn empty(relation: &Relation, scope: ScopeTemplate) -> TablePlan {
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
