//! Which columns a rotation of index keys is about. It changes none.

use std::collections::{BTreeMap, HashSet};

use pgveil_config::ScopePath;
use pgveil_policy::{
    plan::ColumnId,
    ruleset::{OtherTerms, RegisteredColumn},
    template::ScopeTemplate,
};
use tokio_postgres::Client;

use super::super::places::WantedTerms;
use crate::{JobError, sql, terms};

/// Tables whose columns are still filled, or filled back.
const IN_MIGRATION: &str = "SELECT min(m.schema_name || '.' || m.table_name) FROM pgveil.migrations m \
    JOIN pgveil.migrated_columns c ON c.migration = m.id \
    WHERE m.ended_at IS NULL AND m.phase <> 'swapped' AND c.column_id = ANY ($1)";

/// `schema.table.column` for people.
pub(super) fn shown(column: &RegisteredColumn) -> String {
    let table = sql::shown_qualified(&column.schema, &column.table);
    format!("{table}.{}", sql::shown(&column.column))
}

/// All of [`affected`], with their terms: only the key becomes another.
pub(super) fn rotated(
    all: &[RegisteredColumn],
    scope: &ScopePath,
    below: bool,
) -> BTreeMap<ColumnId, OtherTerms> {
    let affected = affected(all, scope, below).into_iter();
    affected
        .map(|column| (column.id, terms::compared(column)))
        .collect()
}

/// All columns whose terms a key of these scopes makes, and all that must stay comparable with one of them.
fn affected<'a>(
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

/// The columns that get these terms, with the terms; and those of the groups that they join, which get others with them: only
/// terms of one number are compared. What has them already is none of these.
pub(super) fn changed(
    all: &[RegisteredColumn],
    live: &HashSet<ColumnId>,
    wanted: &[WantedTerms],
) -> BTreeMap<ColumnId, OtherTerms> {
    let mut changed = BTreeMap::new();
    for wanted in wanted {
        let own = { all.iter() }.find(|column| column.id == wanted.id);
        let own = own.filter(|column| column.equality && live.contains(&column.id));
        let Some(own) = own else { continue };
        let terms = wanted.terms(own);
        let compared = terms::compared(own);
        if made_alike(&terms, &compared) && !by_row(&compared, &terms) {
            continue;
        }
        changed.insert(own.id, terms);
    }
    let joined: HashSet<(String, bool)> = { changed.values() }
        .filter_map(|terms: &OtherTerms| Some((terms.equality_group.clone()?, terms.shared_key)))
        .collect();
    for column in all.iter().filter(|c| c.equality || c.searched) {
        let group = column.equality_group.clone();
        let joins = group.is_some_and(|group| joined.contains(&(group, column.shared_key)));
        if joins {
            let entry = changed.entry(column.id);
            entry.or_insert_with(|| terms::compared(column));
        }
    }
    changed
}

/// Whether terms of two columns, or of one before and after, are made with one kind of key and in one group.
pub(super) fn made_alike(one: &OtherTerms, other: &OtherTerms) -> bool {
    one.shared_key == other.shared_key && one.equality_group == other.equality_group
}

/// Whether the row must say with whose keys a value gets its new terms: those that it was sealed with may be of another scope.
pub(super) fn by_row(compared: &OtherTerms, new: &OtherTerms) -> bool {
    let template = |text: &Option<String>| {
        let text = text.as_deref();
        text.and_then(|text| ScopeTemplate::parse(text).ok())
    };
    match (compared.shared_key, new.shared_key) {
        (true, true) => false,
        (true, false) => true,
        (false, _) => match (template(&compared.scope), template(&new.scope)) {
            (Some(compared), Some(new)) => compared != new,
            // Where it was not recorded, it is what the policy says.
            _ => false,
        },
    }
}

/// A table that is being migrated with one of these columns.
pub(in crate::remake) async fn in_migration(
    client: &Client,
    columns: impl Iterator<Item = &ColumnId>,
) -> Result<Option<String>, JobError> {
    let doing = || JobError::while_doing("look for tables that are being migrated");
    let ids: Vec<i32> = columns.filter_map(|id| i32::try_from(id.0).ok()).collect();
    let row = client.query_one(IN_MIGRATION, &[&ids]).await;
    row.map_err(doing())?.try_get(0).map_err(doing())
}
