//! The columns of a table as applications know them: a column that was migrated online stands behind all others in the
//! server's order, and beside it may stand the one that it replaces. Here it gets its place back, and what pgveil keeps
//! beside it is left out. Makes no edits: the analysis writes the columns out where the server's order would show.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{RegisteredColumn, Ruleset};
use crate::catalog::{Catalog, Column, Relation};

/// What the plaintext column is called from the swap until the contract.
pub const KEPT: &str = "pgveil_plain_";
/// What the sealed column is called until the swap.
pub const SHADOW: &str = "pgveil_shadow_";

/// Where applications see a column that stands elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownAt {
    /// The attribute number that it had before.
    pub attnum: i16,
    /// The names of the columns behind it, in order: attribute numbers change when a database is restored.
    pub before: Vec<String>,
}

/// Whether a column is pgveil's own, beside one that is migrated.
pub fn is_hidden(column: &str) -> bool {
    column.starts_with(KEPT) || column.starts_with(SHADOW)
}

/// The catalog with every registered table, and its partitions, as applications know them.
pub(super) fn shown(catalog: Arc<Catalog>, registered: &[RegisteredColumn]) -> Arc<Catalog> {
    let mut changed: HashMap<usize, Vec<Column>> = HashMap::new();
    let mut looked_at = HashSet::new();
    for past in registered {
        let by_name = catalog
            .by_name
            .get(&(past.schema.clone(), past.table.clone()));
        let by_oid = catalog.by_oid.get(&past.place.0);
        for place in by_name.into_iter().chain(by_oid) {
            if !looked_at.insert(*place) {
                continue;
            }
            let relation = &catalog.relations[*place];
            let columns = columns(relation, registered);
            if relation.kind == 'p' {
                changed.extend(partitions(&catalog, relation, &columns));
            }
            if columns != relation.columns {
                changed.insert(*place, columns);
            }
        }
    }
    if changed.is_empty() {
        return catalog;
    }
    let mut catalog = Arc::unwrap_or_clone(catalog);
    for (place, columns) in changed {
        let relation = &mut catalog.relations[place];
        relation.columns = columns;
        relation.reshaped = true;
    }
    Arc::new(catalog)
}

/// The partitions whose columns are not shown as the server has them, by their places in the catalog.
fn partitions(
    catalog: &Catalog,
    table: &Relation,
    shown: &[Column],
) -> HashMap<usize, Vec<Column>> {
    let is_partition = |heir: &&Relation| heir.is_partition;
    let heirs = catalog.heirs(table.oid).into_iter().filter(is_partition);
    let changed = heirs.filter_map(|heir| {
        let columns = of_partition(heir, table, shown);
        let place = catalog.by_oid.get(&heir.oid)?;
        (columns != heir.columns).then_some((*place, columns))
    });
    changed.collect()
}

/// A partition that has its columns in the order in which its table has them is shown as that one: it had them in its order
/// before, or was made of it since. One that was attached with an order of its own keeps that: no table whose partitions have
/// another order is migrated online.
fn of_partition(partition: &Relation, table: &Relation, shown: &[Column]) -> Vec<Column> {
    let mut own = visible(partition);
    let names = |columns: &[&Column]| -> Vec<String> {
        columns.iter().map(|column| column.name.clone()).collect()
    };
    if names(&own) == names(&visible(table)) {
        let place = |column: &Column| shown.iter().position(|other| other.name == column.name);
        own.sort_by_key(|column| place(column));
    }
    own.into_iter().cloned().collect()
}

impl Ruleset {
    /// Relations that only a session knows yet, with their columns as applications know them: partitions that were made since
    /// the catalog was read.
    pub fn as_shown(&self, mut own: Vec<Relation>) -> Vec<Relation> {
        // Each pass reaches the partitions of those before.
        for _ in 0..own.len() {
            let before: Vec<Relation> = own.clone();
            let parent = |oid: &u32| {
                let own = before.iter().find(|relation| relation.oid == *oid);
                let parent = own.or_else(|| self.catalog.relation_by_oid(*oid));
                parent.filter(|parent| parent.reshaped)
            };
            let mut any = false;
            for relation in own
                .iter_mut()
                .filter(|own| own.is_partition && !own.reshaped)
            {
                let Some(parent) = relation.parents.iter().find_map(parent) else {
                    continue;
                };
                let mut table = parent.clone();
                table.columns.sort_by_key(|column| column.attnum);
                relation.columns = of_partition(relation, &table, &parent.columns);
                relation.reshaped = true;
                any = true;
            }
            if !any {
                break;
            }
        }
        own
    }
}

/// Without those that pgveil keeps beside others, in the server's order.
fn visible(relation: &Relation) -> Vec<&Column> {
    let columns = relation.columns.iter();
    columns.filter(|column| !is_hidden(&column.name)).collect()
}

fn columns(relation: &Relation, registered: &[RegisteredColumn]) -> Vec<Column> {
    let mut shown = visible(relation);
    shown.sort_by_key(|column| {
        let own = (i32::from(column.attnum) * 2, 0);
        moved(relation, column, registered).map_or(own, |at| position(relation, at))
    });
    shown.into_iter().cloned().collect()
}

/// The newest registration of the column says where it is shown.
fn moved<'a>(
    relation: &Relation,
    column: &Column,
    registered: &'a [RegisteredColumn],
) -> Option<(&'a ShownAt, bool)> {
    column.sealed_domain()?;
    let is_here = |past: &&RegisteredColumn| past.place == (relation.oid, column.attnum);
    let is_named = |past: &&RegisteredColumn| {
        (&past.schema, &past.table, &past.column)
            == (&relation.schema, &relation.name, &column.name)
    };
    let here = { registered.iter() }
        .filter(is_here)
        .max_by_key(|past| past.id);
    let named = || {
        registered
            .iter()
            .filter(is_named)
            .max_by_key(|past| past.id)
    };
    let past = here.or_else(named)?;
    Some((past.shown.as_ref()?, here.is_some()))
}

/// Twice the attribute number, so that there is room between two columns.
fn position(relation: &Relation, (shown, is_here): (&ShownAt, bool)) -> (i32, i16) {
    if is_here {
        return (i32::from(shown.attnum) * 2, 0);
    }
    let next = shown.before.iter().find_map(|name| relation.column(name));
    let next = next.map_or(i32::MAX, |next| i32::from(next.attnum) * 2 - 1);
    (next, shown.attnum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::fixture::catalog,
        plan::ColumnId,
        ruleset::fixture::{policy, registered},
    };

    fn order(text: &str, shown: &[(&str, ShownAt, (u32, i16))]) -> Vec<String> {
        let rules = "table public.t scope platform\n a text\n b text";
        let mut past = registered(&policy(rules));
        for (name, at, place) in shown {
            let found = { past.iter_mut() }
                .find(|past| past.column == *name)
                .unwrap();
            (found.shown, found.place) = (Some(at.clone()), *place);
        }
        assert_eq!(past[0].id, ColumnId(1));
        let shown = super::shown(Arc::new(catalog(text)), &past);
        let columns = shown.relation("public", "t").unwrap().columns.iter();
        columns.map(|column| column.name.clone()).collect()
    }

    fn at(attnum: i16, before: &[&str]) -> ShownAt {
        let before = before.iter().map(|name| (*name).to_owned()).collect();
        ShownAt { attnum, before }
    }

    #[test]
    fn columns_get_their_places_back_by_number_or_after_a_restore_by_name() {
        let text = "public.t(id int4, x int4, y int4, b pgveil.sealed_text, a pgveil.sealed_text)";
        let oid = catalog(text).relation("public", "t").unwrap().oid;
        assert_eq!(order(text, &[]), ["id", "x", "y", "b", "a"]);
        let by_number = [("a", at(2, &[]), (oid, 5)), ("b", at(1, &[]), (oid, 4))];
        assert_eq!(order(text, &by_number), ["id", "b", "x", "a", "y"]);
        let elsewhere = (oid + 1, 9);
        let by_name = [
            ("a", at(3, &["gone", "y"]), elsewhere),
            ("b", at(2, &["y"]), elsewhere),
        ];
        assert_eq!(order(text, &by_name), ["id", "x", "b", "a", "y"]);
        let last = [
            ("b", at(7, &["gone"]), elsewhere),
            ("a", at(8, &[]), elsewhere),
        ];
        assert_eq!(order(text, &last), ["id", "x", "y", "b", "a"]);
    }

    #[test]
    fn what_stands_beside_a_column_is_hidden_in_registered_tables_only() {
        let text =
            "public.t(id int4, a text, pgveil_shadow_a pgveil.sealed_text, pgveil_plain_b text)
                    public.other(pgveil_plain_b text)";
        assert_eq!(order(text, &[]), ["id", "a"]);
        let past = registered(&policy("table public.t scope platform\n a text"));
        let shown = shown(Arc::new(catalog(text)), &past);
        assert_eq!(shown.relation("public", "other").unwrap().columns.len(), 1);
        assert!(shown.relation("public", "t").unwrap().reshaped);
    }
    #[test]
    fn partitions_are_shown_as_their_table_or_in_an_order_of_their_own() {
        let text = "partitioned public.t(id int4, y int4, b pgveil.sealed_text, a pgveil.sealed_text) by (id)
             public.same(id int4, y int4, pgveil_plain_a text, b pgveil.sealed_text, a pgveil.sealed_text) inherits public.t partition
             public.other(a pgveil.sealed_text, id int4, b pgveil.sealed_text, y int4) inherits public.t partition
             partitioned public.inner(id int4, y int4, b pgveil.sealed_text, a pgveil.sealed_text) inherits public.t partition by (y)
             public.below(id int4, y int4, b pgveil.sealed_text, a pgveil.sealed_text) inherits public.inner partition
             public.child(id int4, y int4, b pgveil.sealed_text, a pgveil.sealed_text) inherits public.t";
        let mut past = registered(&policy("table public.t scope platform\n a text\n b text"));
        let oid = catalog(text).relation("public", "t").unwrap().oid;
        for (past, place) in past.iter_mut().zip([(1, 4), (3, 3)]) {
            past.shown = Some(at(place.0, &[]));
            past.place = (oid, place.1);
        }
        let shown = shown(Arc::new(catalog(text)), &past);
        let order = |name: &str| {
            let relation = shown.relation("public", name).unwrap();
            let names = relation.columns.iter().map(|column| column.name.as_str());
            (names.collect::<Vec<_>>().join(" "), relation.reshaped)
        };
        let moved = |text: &str| (text.to_owned(), true);
        for name in ["t", "same", "inner", "below"] {
            assert_eq!(order(name), moved("id a y b"), "{name}");
        }
        assert_eq!(order("other"), ("a id b y".to_owned(), false));
        assert_eq!(order("child"), ("id y b a".to_owned(), false));
    }
}
