//! What the policy says of a column, whether the column exists or not: what CREATE TABLE and ALTER TABLE are held to.

use pgveil_config::{ColumnRule, SearchKey, TableRule};

use crate::{
    catalog::{Column, Relation},
    template::ScopeTemplate,
    types::LogicalType,
};

/// A column that the policy names.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Column.
    pub column: String,
    /// What applications see.
    pub logical: LogicalType,
    /// Values get equality terms.
    pub equality: bool,
    /// Terms are made with the platform's index key.
    pub shared_key: bool,
    /// The equality group.
    pub equality_group: Option<String>,
    /// Whose keys seal it.
    pub scope: ScopeTemplate,
    /// The template as written.
    pub scope_text: String,
    /// The column is in the catalog.
    pub exists: bool,
    /// It is named as the policy names it.
    pub written: bool,
}

impl Declared {
    /// Under the policy's name, and under the one that it bears now, if that is another: whoever makes a table under the
    /// policy's name makes it anew.
    pub(super) fn of(
        table: &TableRule,
        rule: &ColumnRule,
        logical: LogicalType,
        scope: &ScopeTemplate,
        found: Option<(&Relation, &Column)>,
    ) -> Vec<Self> {
        let written = Self {
            schema: table.schema.clone(),
            table: table.name.clone(),
            column: rule.name.clone(),
            logical,
            equality: rule.search.equality,
            shared_key: rule.search_key == SearchKey::Shared,
            equality_group: rule.equality_group.clone(),
            scope: scope.clone(),
            scope_text: table.scope.clone(),
            exists: false,
            written: true,
        };
        let Some((relation, column)) = found else {
            return vec![written];
        };
        let now = Self {
            schema: relation.schema.clone(),
            table: relation.name.clone(),
            column: column.name.clone(),
            exists: true,
            ..written.clone()
        };
        if now.key() == written.key() {
            return vec![now];
        }
        let now = Self {
            written: false,
            ..now
        };
        vec![written, now]
    }

    fn key(&self) -> (&str, &str, &str) {
        (&self.schema, &self.table, &self.column)
    }

    /// `public.customers.email`
    pub fn display_name(&self) -> String {
        format!("{}.{}.{}", self.schema, self.table, self.column)
    }

    /// The columns that a unique index must contain besides this one: terms of different scopes never match.
    pub fn needed_in_unique(&self) -> Vec<&str> {
        if self.shared_key {
            return Vec::new();
        }
        self.scope.columns()
    }
}
