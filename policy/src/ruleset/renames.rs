//! Registered columns that bear another name now. The policy and the registry know the former one; the values tell only
//! the column's id, so that they stay readable.

use std::collections::HashMap;

use super::RegisteredColumn;
use crate::catalog::{Catalog, Column, Relation};

/// Former names, and where their columns are.
#[derive(Debug, Default)]
pub(super) struct Renames {
    columns: HashMap<(String, String, String), (u32, i16)>,
    tables: HashMap<(String, String), u32>,
}

impl Renames {
    /// Finds them, and gives the registrations the names that their columns have now.
    ///
    /// OIDs and attribute numbers are those of one database: after a restore into another they mean nothing. So only
    /// a sealed column is believed in, one of whose names, the table's or its own, has stayed.
    pub(super) fn follow(
        catalog: &Catalog,
        registered: &[RegisteredColumn],
    ) -> (Self, Vec<RegisteredColumn>) {
        let mut renames = Self::default();
        let mut followed = registered.to_vec();
        for past in &mut followed {
            let named = catalog
                .relation(&past.schema, &past.table)
                .and_then(|relation| relation.column(&past.column));
            if named.is_some() {
                continue;
            }
            let Some((relation, column)) = place(catalog, past.place) else {
                continue;
            };
            let same_table = (&relation.schema, &relation.name) == (&past.schema, &past.table);
            if !same_table && column.name != past.column {
                continue;
            }
            let was = (past.schema.clone(), past.table.clone(), past.column.clone());
            renames
                .tables
                .insert((was.0.clone(), was.1.clone()), relation.oid);
            renames.columns.insert(was, past.place);
            past.schema.clone_from(&relation.schema);
            past.table.clone_from(&relation.name);
            past.column.clone_from(&column.name);
        }
        (renames, followed)
    }

    /// The relation that bore this name.
    pub(super) fn relation<'a>(
        &self,
        catalog: &'a Catalog,
        schema: &str,
        table: &str,
    ) -> Option<&'a Relation> {
        let oid = self.tables.get(&(schema.to_owned(), table.to_owned()))?;
        catalog.relation_by_oid(*oid)
    }

    /// The column of `relation` that bore this name in the table that was called `schema.table`.
    pub(super) fn column<'a>(
        &self,
        relation: &'a Relation,
        schema: &str,
        table: &str,
        column: &str,
    ) -> Option<&'a Column> {
        let was = (schema.to_owned(), table.to_owned(), column.to_owned());
        let (oid, attnum) = self.columns.get(&was)?;
        relation.attribute(*attnum).filter(|_| relation.oid == *oid)
    }
}

fn place(catalog: &Catalog, (oid, attnum): (u32, i16)) -> Option<(&Relation, &Column)> {
    let relation = catalog.relation_by_oid(oid)?;
    let column = relation.attribute(attnum)?;
    column.sealed_domain().map(|_| (relation, column))
}
