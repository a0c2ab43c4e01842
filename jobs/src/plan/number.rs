//! Which terms an index is on: the number that a column's terms have, or will have once it is registered. It makes no index.

use pgveil_config::SearchKey;
use pgveil_keys::keystore::registry;
use pgveil_policy::ruleset::RegisteredColumn;
use tokio_postgres::Client;

use super::TablePlan;
use crate::JobError;

/// What the registry says of all columns.
pub(super) struct Numbers(Vec<RegisteredColumn>);

impl Numbers {
    pub(super) async fn read(client: &Client) -> Result<Self, JobError> {
        let doing = || JobError::while_doing("look for the registry of columns");
        let there = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = 'pgveil' AND c.relname = 'columns')";
        let row = client.query_one(there, &[]).await.map_err(doing())?;
        if !row.try_get(0).map_err(doing())? {
            return Ok(Self(Vec::new()));
        }
        let all = registry::history_unjudged(client).await?;
        Ok(Self(all.into_iter().map(|past| past.column).collect()))
    }

    /// Of a column of the table: of one that is sealed already, its own; of one that will be, its group's.
    pub(super) fn of(&self, table: &TablePlan, column: &str, joins: Option<&str>) -> u32 {
        let converted = table.columns.iter().find(|other| other.name == column);
        if let Some(converted) = converted {
            let shared = converted.search_key == SearchKey::Shared;
            let group = converted.equality_group.as_deref();
            return group.map_or(0, |group| self.of_group(group, Some(shared)));
        }
        let own = self.0.iter().filter(|past| {
            past.schema == table.schema && past.table == table.name && past.column == column
        });
        let own = { own }.max_by_key(|past| past.id);
        match joins {
            Some(group) => self.of_group(group, None),
            None => own.map_or(0, |past| past.generation.number),
        }
    }

    fn of_group(&self, group: &str, shared: Option<bool>) -> u32 {
        let of_group = self.0.iter().filter(|past| {
            past.equality_group.as_deref() == Some(group)
                && shared.is_none_or(|shared| past.shared_key == shared)
        });
        of_group
            .map(|past| past.generation.number)
            .max()
            .unwrap_or(0)
    }
}
