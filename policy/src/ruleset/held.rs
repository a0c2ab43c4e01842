//! What the columns of a relation hold: values sealed for a column of the policy, sealed values that were moved there
//! from anywhere (a copy of a table, a temporary table), or nothing sealed. Knows no statements and no views.

use std::sync::Arc;

use super::{Protected, Ruleset};
use crate::{
    catalog::{Column, Relation},
    types::LogicalType,
};

/// What a column of a table holds.
#[derive(Debug)]
pub(crate) enum Held<'a> {
    /// Nothing sealed.
    Plain,
    /// Values of this column of the policy.
    Protected(&'a Arc<Protected>),
    /// Sealed values that were moved there. They can have been sealed for any of these columns; each says for which.
    /// Here these bear the name of the column that is asked for.
    Moved(Vec<Arc<Protected>>),
    /// Sealed values, if any, that no column of the policy can have sealed.
    Strange,
}

impl Ruleset {
    /// What a column of a table holds, be it one of the catalog or one that only a session knows.
    pub(crate) fn held(&self, relation: &Relation, column: &Column) -> Held<'_> {
        if let Some(protected) = self.by_attribute.get(&(relation.oid, column.attnum)) {
            return Held::Protected(protected);
        }
        let Some(domain) = column.sealed_domain() else {
            return Held::Plain;
        };
        // A pending column is refused with its table; views are judged by their definitions.
        let name = [&relation.schema, &relation.name, &column.name];
        match self.moved_under(domain, name.map(String::as_str)) {
            None => Held::Strange,
            Some(moved) => Held::Moved(moved),
        }
    }

    /// All columns whose values can have been moved under a domain, with the name of where these were moved to (schema,
    /// table, column). `None`: no column of the policy is of that type.
    pub(crate) fn moved_under(
        &self,
        domain: &str,
        [schema, table, name]: [&str; 3],
    ) -> Option<Vec<Arc<Protected>>> {
        let sealed = self.sealed_as(domain)?;
        let named = |protected: &&Arc<Protected>| {
            Arc::new(Protected {
                schema: schema.to_owned(),
                table: table.to_owned(),
                name: name.to_owned(),
                logical: sealed.logical,
                ..(***protected).clone()
            })
        };
        Some(sealed.columns.iter().map(named).collect())
    }

    /// The type in which values that were moved under a domain are shown. `None`: no column of the policy is of that type.
    pub(crate) fn moved_type(&self, domain: &str) -> Option<LogicalType> {
        self.sealed_as(domain).map(|sealed| sealed.logical)
    }

    /// All columns whose values stand under a domain, and the type in which they are shown.
    fn sealed_as(&self, domain: &str) -> Option<SealedAs<'_>> {
        let mut columns: Vec<&Arc<Protected>> = self
            .columns
            .values()
            .filter(|column| column.logical.domain() == domain)
            .collect();
        columns.sort_by_key(|column| column.id);
        let first = columns.first()?.logical;
        let bare = first.without_modifiers();
        if columns
            .iter()
            .any(|column| column.logical.without_modifiers() != bare)
        {
            return None;
        }
        let same = columns.iter().all(|column| column.logical == first);
        Some(SealedAs {
            logical: if same { first } else { bare },
            columns,
        })
    }

    /// Names of columns of the catalog that hold sealed values without being in the policy.
    pub(crate) fn wandering_names(&self) -> impl Iterator<Item = &str> {
        let relations = self
            .moved
            .iter()
            .filter_map(|oid| self.catalog.relation_by_oid(*oid));
        relations
            .flat_map(|relation| &relation.columns)
            .filter(|column| column.sealed_domain().is_some())
            .map(|column| column.name.as_str())
    }
}

struct SealedAs<'a> {
    logical: LogicalType,
    columns: Vec<&'a Arc<Protected>>,
}
