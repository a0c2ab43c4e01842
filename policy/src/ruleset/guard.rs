//! Tables whose columns change places while they are used (docs/decisions/0094): a column that is plaintext until the swap is
//! sealed behind it. A statement that names such a table is planned, and sent, under the table's lock. Asks no server.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{Dependents, RegisteredColumn, shape::is_hidden, words::Words};
use crate::catalog::Catalog;

/// A table whose columns may be others by the time a statement arrives, and what these rules take them for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// `pg_class.oid`.
    pub table_oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The columns that the policy names: attribute numbers and names.
    pub columns: Vec<(i16, String)>,
    /// OIDs of its partitions, whose columns change places with its own: under its lock, too.
    pub partitions: BTreeSet<u32>,
    /// Bare names by which a statement can come to it: its own, and those of what reads or writes it.
    pub names: BTreeSet<String>,
}

impl Guard {
    /// Whether it is the guard of this table, as a whole or of one of its partitions.
    pub(crate) fn is_of(&self, oid: u32) -> bool {
        self.table_oid == oid || self.partitions.contains(&oid)
    }

    /// Whether a text may come to the table.
    pub(crate) fn is_meant_by(&self, words: &Words) -> bool {
        self.names.iter().any(|name| words.mentions(name))
    }
}

/// A column that the policy names and that is plaintext, by the operator's word.
#[derive(Clone, Debug)]
pub(super) struct PlainColumn {
    pub(super) place: (u32, i16),
    pub(super) name: String,
}

/// Whether a column at this place may be served as plaintext although the policy names it: its newest registration says that
/// it stands where applications saw it before, which is so while it is being migrated and has not been swapped, and where it
/// was given back to plaintext. Rows of the registry are authenticated; a column that somebody made anew has another place.
pub(super) fn is_served_plain(past: &RegisteredColumn, place: (u32, i16)) -> bool {
    let stands = past
        .shown
        .as_ref()
        .map(|shown| (past.place.0, shown.attnum));
    past.place == place && stands == Some(place)
}

/// Tables with a column of pgveil's own beside one that is migrated.
pub(super) fn under_way(catalog: &Catalog) -> BTreeSet<u32> {
    let relations = catalog.relations.iter().filter(|relation| {
        let mut columns = relation.columns.iter();
        columns.any(|column| is_hidden(&column.name))
    });
    relations.map(|relation| relation.oid).collect()
}

/// The guards of these columns' tables.
pub(super) fn guards(
    catalog: &Catalog,
    plain: &[PlainColumn],
    sealed: impl Iterator<Item = (u32, i16, String)>,
) -> Vec<Arc<Guard>> {
    let mut tables: HashMap<u32, Vec<(i16, String)>> = HashMap::new();
    let plain = plain.iter().map(|p| (p.place.0, p.place.1, p.name.clone()));
    for (oid, attnum, name) in plain.chain(sealed) {
        tables.entry(oid).or_default().push((attnum, name));
    }
    let mut guards: Vec<Arc<Guard>> = tables
        .into_iter()
        .filter_map(|(oid, mut columns)| {
            let relation = catalog.relation_by_oid(oid)?;
            columns.sort();
            let roots = BTreeSet::from([oid]);
            let none = BTreeSet::new();
            let names = Dependents::find(catalog, &roots, &none, &none).names(catalog, &roots);
            let partitions = catalog.heirs(oid).into_iter();
            let partitions = partitions.filter(|heir| heir.is_partition);
            Some(Arc::new(Guard {
                partitions: partitions.map(|heir| heir.oid).collect(),
                table_oid: oid,
                schema: relation.schema.clone(),
                table: relation.name.clone(),
                columns,
                names,
            }))
        })
        .collect();
    // All processes take the locks in one order.
    guards.sort_by_key(|guard| guard.table_oid);
    guards
}
