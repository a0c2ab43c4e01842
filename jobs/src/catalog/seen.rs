//! The catalog as one session sees it within its transaction: the questions that the session's own server process is
//! asked, and reading its answers. Sends nothing.

use std::sync::Arc;

use pgveil_policy::catalog::{Catalog, Relation, Type, session};

use super::busy;
use crate::sql;

/// `FirstNormalObjectId`: below it are the system's own relations, which no transaction of a user's changes.
const FIRST_USER_OID: u32 = 16_384;

/// One row, one text: what [`super::fingerprint`] would say, or nothing where the transaction's snapshot is older than
/// what others have committed since. Needs the search path `pg_catalog`.
pub fn fingerprint_sql() -> String {
    let fingerprint = include_str!("fingerprint.sql");
    format!(
        "SELECT CASE WHEN current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') \
         THEN ({fingerprint})::text END"
    )
}

/// The number in the answer to [`fingerprint_sql`].
pub fn fingerprint(answer: &str) -> Option<u64> {
    answer.parse().map(i64::cast_unsigned).ok()
}

/// One row, three texts: all relations of users', temporary ones apart, all functions and all types, as JSON. Needs the
/// search path `pg_catalog`.
pub fn catalog_sql() -> String {
    let relations = busy::without_any(include_str!("relations.sql"));
    let columns = busy::without_any(include_str!("columns.sql"));
    let uniques = busy::without_any(include_str!("uniques.sql"));
    let functions = busy::without_any(include_str!("functions.sql"));
    let types = include_str!("types.sql");
    format!(
        "SELECT coalesce((SELECT json_agg(json_build_object(\
           'oid', r.oid::int8, 'schema', r.nspname, 'name', r.relname, 'kind', r.relkind, \
           'reads', r.reads::int8[], 'calls', r.calls::int8[], 'parents', r.parents::int8[], \
           'triggers', r.trigger_functions::int8[], 'rules', r.has_rules, 'instead', r.has_instead_triggers, \
           'definition', r.definition, 'partition_key', r.partition_key, 'partition', r.relispartition, \
           'columns', c.described, 'uniques', u.described) ORDER BY r.oid) \
         FROM ({relations}) r \
         LEFT JOIN (SELECT attrelid, json_agg(json_build_object(\
             'attnum', attnum, 'name', attname, 'type', atttypid::int8, 'base', base_type::int8, 'type_name', type_name, \
             'typmod', atttypmod, 'not_null', attnotnull, 'default', default_expression, 'generated', generated, \
             'identity', identity) ORDER BY attnum) AS described \
           FROM ({columns}) columns WHERE attrelid >= {FIRST_USER_OID} GROUP BY attrelid) c ON c.attrelid = r.oid \
         LEFT JOIN (SELECT indrelid, json_agg(json_build_object(\
             'name', relname, 'primary', indisprimary, 'attnums', attnums, 'keys', keys, 'partial', partial) \
             ORDER BY relname) AS described \
           FROM ({uniques}) uniques WHERE indrelid >= {FIRST_USER_OID} GROUP BY indrelid) u ON u.indrelid = r.oid \
         WHERE r.oid >= {FIRST_USER_OID})::text, ''), \
         coalesce((SELECT json_agg(json_build_object(\
           'oid', oid::int8, 'schema', nspname, 'name', proname, 'body', body, 'returns', returns_relation::int8, \
           'language', language, 'kind', prokind, 'set', proretset, 'parsed', parsed, 'settings', settings, \
           'shadows', shadows, 'defaults', pronargdefaults, 'parameters', parameters::json) ORDER BY oid) \
         FROM ({functions}) f)::text, ''), \
         coalesce((SELECT json_agg(json_build_object(\
           'oid', oid::int8, 'array', typarray::int8, 'schema', nspname, 'name', typname, \
           'label_oids', label_oids::int8[], 'labels', labels) ORDER BY oid) \
         FROM ({types}) t)::text, '')"
    )
}

/// The catalog out of the answer to [`catalog_sql`]: the system's relations are those of `base`. `None` if it is not
/// what was asked for.
pub fn catalog(base: &Catalog, [relations, functions, types]: [&str; 3]) -> Option<Catalog> {
    let system = base.relations.iter();
    let mut all: Vec<Relation> = system
        .filter(|relation| relation.oid < FIRST_USER_OID)
        .cloned()
        .collect();
    for mut relation in session::read(relations)? {
        for unique in &mut relation.uniques {
            unique.keys = unique.keys.drain(..).map(sql::index_key).collect();
        }
        all.push(relation);
    }
    let functions = session::read_functions(functions)?;
    let types = session::read_types(types)?.into_iter();
    let mut seen = Catalog {
        types: types.map(|found| without_new_labels(found, base)).collect(),
        sealed_labels: base.sealed_labels.clone(),
        system_functions: Arc::clone(&base.system_functions),
        ..Catalog::new(all, functions, base.database.clone())
    };
    // What others are changing is as it was known: waiting for them could be a deadlock that a direct connection would not have.
    busy::fill(&mut seen, base);
    Some(seen)
}

/// A type as the transaction sees it, but for labels that it added: as which numbers they are sealed is put on record
/// when all see them. Until then the server takes none of them either, unless the whole type is new.
fn without_new_labels(mut found: Type, base: &Catalog) -> Type {
    let known = base.types.iter().find(|known| known.oid == found.oid);
    let known = known.and_then(|known| known.labels.as_deref());
    found.labels = found.labels.zip(known).map(|(labels, known)| {
        let is_known = |oid| known.iter().any(|(known, _)| *known == oid);
        labels
            .into_iter()
            .filter(|(oid, _)| is_known(*oid))
            .collect()
    });
    found
}
