//! Which columns a rotation of index keys is about. It changes none.

use std::collections::HashSet;

use pgveil_config::ScopePath;
use pgveil_policy::{plan::ColumnId, ruleset::RegisteredColumn, template::ScopeTemplate};
use tokio_postgres::Client;

use crate::{JobError, sql};

/// Tables whose columns are still filled, or filled back.
const IN_MIGRATION: &str = "SELECT min(m.schema_name || '.' || m.table_name) FROM pgveil.migrations m \
    JOIN pgveil.migrated_columns c ON c.migration = m.id \
    WHERE m.ended_at IS NULL AND m.phase <> 'swapped' AND c.column_id = ANY ($1)";

/// `schema.table.column` for people.
pub(super) fn shown(column: &RegisteredColumn) -> String {
    let table = sql::shown_qualified(&column.schema, &column.table);
    format!("{table}.{}", sql::shown(&column.column))
}

/// All columns whose terms a key of these scopes makes, and all that must stay comparable with one of them.
pub(super) fn affected<'a>(
    all: &'a [RegisteredColumn],
    scope: &ScopePath,
    below: bool,
) -> Vec<&'a RegisteredColumn> {
    let searched = || all.iter().filter(|c| c.equality || c.searched);
    let made_by = |column: &&RegisteredColumn| {
        if column.shared_key {
            return *scope == ScopePath::platform();
        }
        let template = column.scope.as_deref();
        // Where it was not recorded, any scope may be meant.
        let template = template.and_then(|text| ScopeTemplate::parse(text).ok());
        template.is_none_or(|template| template.may_yield(scope, below))
    };
    let own: Vec<&RegisteredColumn> = searched().filter(made_by).collect();
    let groups: HashSet<(&String, bool)> = { own.iter() }
        .filter_map(|column| Some((column.equality_group.as_ref()?, column.shared_key)))
        .collect();
    let of_group = |column: &&RegisteredColumn| {
        let group = column.equality_group.as_ref();
        group.is_some_and(|group| groups.contains(&(group, column.shared_key)))
    };
    let ids: HashSet<ColumnId> = own.iter().map(|column| column.id).collect();
    searched()
        .filter(|column| ids.contains(&column.id) || of_group(column))
        .collect()
}

/// A table that is being migrated with one of these columns.
pub(super) async fn in_migration(
    client: &Client,
    columns: impl Iterator<Item = &ColumnId>,
) -> Result<Option<String>, JobError> {
    let doing = || JobError::while_doing("look for tables that are being migrated");
    let ids: Vec<i32> = columns.filter_map(|id| i32::try_from(id.0).ok()).collect();
    let row = client.query_one(IN_MIGRATION, &[&ids]).await;
    row.map_err(doing())?.try_get(0).map_err(doing())
}
