//! The columns of a table as applications know them: a column that was migrated online stands behind all others in the
//! server's order, and beside it may stand the one that it replaces. Here it gets its place back, and what pgveil keeps
//! beside it is left out. Makes no edits: the analysis writes the columns out where the server's order would show.

use std::{collections::HashMap, sync::Arc};

use super::RegisteredColumn;
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

/// The catalog with every registered table as applications know it.
pub(super) fn shown(catalog: Arc<Catalog>, registered: &[RegisteredColumn]) -> Arc<Catalog> {
    let mut changed: HashMap<usize, Vec<Column>> = HashMap::new();
    for past in registered {
        let by_name = catalog
            .by_name
            .get(&(past.schema.clone(), past.table.clone()));
        let by_oid = catalog.by_oid.get(&past.place.0);
        for place in by_name.into_iter().chain(by_oid) {
            let columns = columns(&catalog.relations[*place], registered);
            if columns != catalog.relations[*place].columns {
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

fn columns(relation: &Relation, registered: &[RegisteredColumn]) -> Vec<Column> {
    let shown = relation.columns.iter();
    let mut shown: Vec<&Column> = shown.filter(|column| !is_hidden(&column.name)).collect();
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
}
