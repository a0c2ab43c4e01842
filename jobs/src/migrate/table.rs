//! What a table under way is in the catalog now: its plan under the names that its columns have in this phase.

use pgveil_config::{PolicyFile, SearchKey};
use pgveil_policy::{
    catalog::{Catalog, Column},
    plan::ColumnId,
    ruleset::RegisteredColumn,
    template::ScopeTemplate,
    types::LogicalType,
};

use super::{Migration, Run, Way, parts::Part, rows::Names};
use crate::{
    JobError,
    apply::{convert::registered, sealing::Sealing},
    catalog,
    plan::{ColumnPlan, TablePlan, empty},
    sql,
};

/// The plan of the table's own columns, and what they are called.
pub(super) struct Known {
    pub(super) plan: TablePlan,
    pub(super) names: Vec<Names>,
    registered: Vec<RegisteredColumn>,
}

impl Known {
    /// For work on its rows, or those of a partition.
    pub(super) fn at_work<'a>(
        &'a self,
        run: &'a Run<'_>,
        migration: &'a Migration,
        part: &'a Part,
    ) -> super::rows::Table<'a> {
        super::rows::Table {
            client: run.client,
            migration,
            part,
            plan: &self.plan,
            sealing: Sealing::new(run.keys, &self.plan, self.registered.clone()),
            columns: self.names.clone(),
        }
    }
}

/// Reads it in a transaction of its own.
pub(super) async fn known(run: &Run<'_>, migration: &Migration) -> Result<Known, JobError> {
    let registry = run.keys.registry().await?;
    let catalog = catalog::read(run.client, &registry).await?;
    migration.judge(&registry)?;
    let mut known = match migration.way {
        Way::Seal => of(&catalog, run.policy, migration)?,
        Way::Open => opening(&catalog, &registry.list(run.client).await?, migration)?,
    };
    let ids: Vec<ColumnId> = migration.columns.iter().map(|column| column.id).collect();
    known.registered = registered(run.client, &registry, &known.plan, &ids).await?;
    Ok(known)
}

/// Of a decryption: what the values are, the registry says. The policy may have changed its mind already.
fn opening(
    catalog: &Catalog,
    registered: &[RegisteredColumn],
    migration: &Migration,
) -> Result<Known, JobError> {
    let changed = || JobError::ChangedMeanwhile {
        table: migration.shown(),
    };
    let relation = catalog.relation_by_oid(migration.oid).ok_or_else(changed)?;
    if (&relation.schema, &relation.name) != (&migration.schema, &migration.table) {
        return Err(changed());
    }
    let scope = ScopeTemplate::parse("platform").map_err(|_| changed())?;
    let mut known = Known {
        plan: empty(relation, scope),
        names: Vec::new(),
        registered: Vec::new(),
    };
    for migrated in &migration.columns {
        let (plain, sealed) = (
            relation.attribute(migrated.plain),
            relation.attribute(migrated.sealed),
        );
        let past = registered.iter().find(|past| past.id == migrated.id);
        let (Some(plain), Some(sealed), Some(past)) = (plain, sealed, past) else {
            return Err(changed());
        };
        let from = catalog
            .type_of(plain.type_oid, plain.typmod)
            .ok_or_else(changed)?;
        known.plan.columns.push(ColumnPlan {
            attnum: sealed.attnum,
            name: migrated.name.clone(),
            from_name: plain.type_name.clone(),
            from,
            to: catalog
                .parse_type(&past.logical_type)
                .map_err(|_| changed())?,
            equality: past.equality,
            search_key: if past.shared_key {
                SearchKey::Shared
            } else {
                SearchKey::Scope
            },
            equality_group: past.equality_group.clone(),
        });
        known.names.push(names(plain, &sealed.name, from));
    }
    Ok(known)
}

fn names(plain: &Column, sealed: &str, from: LogicalType) -> Names {
    // The name that the policy gives an enum type may need a search path.
    let from_name = if from.is_stored_otherwise() {
        plain.type_name.clone()
    } else {
        from.without_modifiers().sql_name()
    };
    Names {
        plain: sql::quoted(&plain.name),
        sealed: sql::quoted(sealed),
        from: from_name,
        is_array: matches!(from, LogicalType::Array(_)),
    }
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
    let mut all = Vec::new();
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
        all.push(names(plain, &sealed.name, from));
    }
    Ok(Known {
        plan,
        names: all,
        registered: Vec::new(),
    })
}
