//! Relations that another transaction is changing: what the server could print of them only once that has ended is not asked for. The
//! one who changes them may be the client whose statement waits for the catalog. Decides nothing about what is protected.

use pgveil_policy::catalog::{Catalog, Relation};

/// In the queries of this folder, the OIDs of such relations: none, as they stand there.
const PLACE: &str = "/*BUSY*/'{}'::oid[]";
/// Stands in the answers for what was not printed. No default, definition or body reads so; it is no statement, and no NULL.
const CHANGING: &str = "/*CHANGING*/";
/// The question for these relations' OIDs, in order. Printing takes the weakest of locks, with which only one conflicts; who waits
/// for that one keeps others out already.
pub(super) const BUSY: &str = "SELECT DISTINCT l.relation FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' \
    AND l.mode = 'AccessExclusiveLock' AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() \
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
    ORDER BY l.relation";

/// A query of this folder that asks nothing of these relations for which it would have to wait.
pub(super) fn without(sql: &str, busy: &[u32]) -> String {
    let busy: Vec<String> = busy.iter().map(u32::to_string).collect();
    sql.replace(PLACE, &format!("'{{{}}}'::oid[]", busy.join(",")))
}

/// The same where it is not known which relation is in the way, such as one whose row type a function in a view returns.
pub(super) fn without_all(sql: &str) -> String {
    sql.replace(PLACE, "ARRAY(SELECT oid FROM pg_catalog.pg_class)")
}

/// The same for a query that a session runs within its transaction, and that finds out by itself.
pub(super) fn without_any(sql: &str) -> String {
    sql.replace(PLACE, &format!("ARRAY({BUSY})"))
}

/// Puts what was known before in the place of what was not printed; whether there was any such thing. What was not known before
/// stays as it is, which is read as nothing that could be allowed.
pub(super) fn fill(catalog: &mut Catalog, before: &Catalog) -> bool {
    let mut any = false;
    for relation in &mut catalog.relations {
        any |= fill_relation(relation, before.relation_by_oid(relation.oid));
    }
    for function in &mut catalog.functions {
        if function.body.starts_with(CHANGING) {
            any = true;
            let known = before
                .functions
                .iter()
                .find(|known| known.oid == function.oid);
            if let Some(known) = known.filter(|known| known.parsed) {
                function.body.clone_from(&known.body);
            }
        }
    }
    any
}

fn fill_relation(relation: &mut Relation, before: Option<&Relation>) -> bool {
    let mut any = false;
    let mut put = |printed: &mut String, known: Option<&String>| {
        if printed == CHANGING {
            any = true;
            if let Some(known) = known {
                printed.clone_from(known);
            }
        }
    };
    if let Some(definition) = &mut relation.definition {
        put(
            definition,
            before.and_then(|before| before.definition.as_ref()),
        );
    }
    if let Some(key) = &mut relation.partition_key {
        put(key, before.and_then(|before| before.partition_key.as_ref()));
    }
    for column in &mut relation.columns {
        let known = before.and_then(|before| before.attribute(column.attnum));
        if let Some(default) = &mut column.default {
            put(default, known.and_then(|known| known.default.as_ref()));
        }
    }
    for unique in &mut relation.uniques {
        let mut known = before.map_or(&[][..], |before| &before.uniques).iter();
        // Another index may have got the name, as at the swap of a migration: on expressions where that one was on columns.
        let known =
            known.find(|known| known.name == unique.name && known.attnums == unique.attnums);
        for (place, key) in unique.keys.iter_mut().enumerate() {
            put(key, known.and_then(|known| known.keys.get(place)));
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use pgveil_policy::catalog::Unique;

    use super::*;

    #[test]
    fn an_index_that_got_the_name_of_another_is_not_taken_for_it() {
        let catalog = |attnums: [i16; 2], keys: [&str; 2]| {
            let unique = Unique {
                name: "people_email_key".into(),
                primary: false,
                attnums: attnums.to_vec(),
                keys: keys.map(String::from).to_vec(),
                partial: false,
            };
            let relation = Relation {
                oid: 7,
                schema: "public".into(),
                name: "people".into(),
                kind: 'r',
                columns: Vec::new(),
                reshaped: false,
                uniques: vec![unique],
                reads: Vec::new(),
                calls: Vec::new(),
                parents: Vec::new(),
                trigger_functions: Vec::new(),
                has_rules: false,
                has_instead_triggers: false,
                definition: None,
                partition_key: None,
                is_partition: false,
            };
            let mut catalog = Catalog::default();
            catalog.by_oid.insert(7, 0);
            catalog.relations.push(relation);
            catalog
        };
        let term = "pgveil.eq_term((email)::bytea)";
        for (before, expected) in [
            (catalog([1, 0], ["tenant", term]), term),
            (catalog([1, 2], ["tenant", "email"]), CHANGING),
        ] {
            let mut now = catalog([1, 0], ["tenant", CHANGING]);
            assert!(fill(&mut now, &before));
            assert_eq!(now.relations[0].uniques[0].keys, ["tenant", expected]);
        }
    }

    #[test]
    fn every_query_that_prints_has_a_place_for_busy_relations() {
        for sql in [
            include_str!("relations.sql"),
            include_str!("columns.sql"),
            include_str!("uniques.sql"),
            include_str!("functions.sql"),
        ] {
            assert!(sql.contains(PLACE) && sql.contains(CHANGING), "{sql}");
            assert!(without(sql, &[7, 9]).contains("'{7,9}'::oid[]"));
            assert!(!without_any(sql).contains(PLACE));
        }
    }
}
