//! Checks of one `[[table]]` entry: the relation that it names, and its scope template.

use pgveil_config::TableRule;

use super::{
    column::Resolved, compile::Findings, nearest::did_you_mean, renames::Renames, words::Words,
};
use crate::{
    catalog::{Catalog, Column, Relation},
    template::ScopeTemplate,
};

/// Schemas that hold no application's tables.
const SYSTEM_SCHEMAS: [&str; 3] = ["pg_catalog", "information_schema", "pgveil"];

/// Types whose text form depends on no setting: bool, int8, int2, int4, text, varchar, uuid.
const SCOPE_TYPES: [u32; 7] = [16, 20, 21, 23, 25, 1043, 2950];

/// What an entry's name means.
pub(super) enum Found<'a> {
    /// A table whose columns can be protected.
    Relation(&'a Relation),
    /// A table that does not exist yet: it gets its types when it is created through pgveil.
    Absent,
    /// Nothing usable, and there is a finding.
    Bad,
}

/// The ordinary table that an entry names, if its columns can be protected.
pub(super) fn check<'a>(
    rule: &TableRule,
    catalog: &'a Catalog,
    renames: &Renames,
    findings: &mut Findings,
) -> Found<'a> {
    let name = format!("{}.{}", rule.schema, rule.name);
    if let Some(other) = rule
        .database
        .as_ref()
        .filter(|other| **other != catalog.database)
    {
        findings.add(
            &rule.at,
            format!(
                "{name} is in database {other}, and pgveil protects {} only: other databases are not supported yet",
                catalog.database
            ),
            "remove the entry, or its `database`",
        );
        return Found::Bad;
    }
    let found = catalog
        .relation(&rule.schema, &rule.name)
        .or_else(|| renames.relation(catalog, &rule.schema, &rule.name));
    let Some(relation) = found else {
        return absent(rule, catalog, &name, findings);
    };
    if let Some((what, cure)) = unsupported(relation, catalog) {
        findings.add(&rule.at, format!("{name} {what}"), cure);
        return Found::Bad;
    }
    Found::Relation(relation)
}

/// A name that is not in the catalog: a mistake if a table of a similar name has the entry's columns.
fn absent<'a>(
    rule: &TableRule,
    catalog: &Catalog,
    name: &str,
    findings: &mut Findings,
) -> Found<'a> {
    let likely = catalog.relations.iter().filter(|relation| {
        let has = |column: &str| relation.column(column).is_some();
        !SYSTEM_SCHEMAS.contains(&relation.schema.as_str())
            && rule.columns.iter().all(|column| has(&column.name))
    });
    let likely: Vec<String> = likely
        .map(|relation| format!("{}.{}", relation.schema, relation.name))
        .collect();
    let near = findings.meant(name, likely.iter().map(String::as_str));
    if near.is_empty() {
        return Found::Absent;
    }
    findings.add(
        &rule.at,
        format!("database {} has no table {name}{near}", catalog.database),
        "correct the name (it is spelt as the catalog spells it, case included), or create the table first",
    );
    Found::Bad
}

/// What about a relation rules out protected columns, and the cure.
fn unsupported(relation: &Relation, catalog: &Catalog) -> Option<(&'static str, &'static str)> {
    if SYSTEM_SCHEMAS.contains(&relation.schema.as_str()) {
        return Some(("belongs to the system", "name a table of the application"));
    }
    match relation.kind {
        'r' | 'p' => {}
        'v' | 'm' => return Some(("is a view", "name the table that it reads")),
        'f' => {
            return Some((
                "is a foreign table",
                "protect the column where its rows are stored",
            ));
        }
        _ => return Some(("is not a table", "name a table")),
    }
    if relation.is_partition {
        return Some((
            "is a partition",
            "name the partitioned table: its partitions are protected with it",
        ));
    }
    if !relation.parents.is_empty() {
        return Some((
            "inherits from another table",
            "name the table that it inherits from: its heirs are protected with it",
        ));
    }
    let heirs = catalog.heirs(relation.oid);
    if heirs.iter().any(|heir| heir.kind == 'f') {
        return Some((
            "has a foreign table among its partitions or heirs",
            "detach it, and protect the column where its rows are stored",
        ));
    }
    if relation.has_rules || heirs.iter().any(|heir| heir.has_rules) {
        return Some((
            "has rewrite rules (or a partition or heir of it has), which pgveil cannot follow: not supported yet",
            "replace the rules by triggers (DROP RULE)",
        ));
    }
    None
}

/// Rows are sorted into partitions by what the server can read.
pub(super) fn check_partition_key(column: &Resolved<'_>, findings: &mut Findings) {
    let Some(key) = &column.relation.partition_key else {
        return;
    };
    // `RANGE (expression, column)`
    let key = key.split_once('(').map_or(key.as_str(), |(_, key)| key);
    if Words::of(key).mentions(&column.column.name) {
        findings.add(
            &column.rule.at,
            format!(
                "{} is in the partition key of {}.{}: the server cannot sort sealed values into partitions",
                column.display_name(),
                column.relation.schema,
                column.relation.name
            ),
            "leave it unprotected, or partition the table by other columns",
        );
    }
}

/// The entry's scope template, if all that it names can be read from a row.
pub(super) fn scope(
    rule: &TableRule,
    relation: Option<&Relation>,
    findings: &mut Findings,
) -> Option<ScopeTemplate> {
    let template = match ScopeTemplate::parse(&rule.scope) {
        Ok(template) => template,
        Err(error) => {
            findings.add(
                &rule.scope_at,
                format!("scope {:?}, at character {}: {error}", rule.scope, error.at + 1),
                "write `platform`, or `tenant:T` with an optional `/project:P` and an optional `/env:E`",
            );
            return None;
        }
    };
    let mut is_good = true;
    for name in template.columns() {
        let bad = relation.and_then(|relation| bad_scope_column(rule, relation, name));
        if let Some((what, cure)) = bad {
            findings.add(&rule.scope_at, what, cure);
            is_good = false;
        }
    }
    if rule.session_must_match {
        is_good &= check_session(rule, &template, findings);
    }
    is_good.then_some(template)
}

/// Whether a session can have a scope of this template.
fn check_session(rule: &TableRule, template: &ScopeTemplate, findings: &mut Findings) -> bool {
    if template.is_fixed() {
        findings.add(
            &rule.session_at,
            format!(
                "session = \"must-match\" on {}.{}, whose scope is the same for all rows",
                rule.schema, rule.name
            ),
            "remove it, or take the scope from a column: `tenant:{tenant_id}`",
        );
        return false;
    }
    if let Some(column) = template.column_without_setting() {
        findings.add(
            &rule.session_at,
            format!("session = \"must-match\" compares column {column} with a setting of its name, which PostgreSQL does not allow"),
            "take the scope from a column whose name consists of letters, digits and underscores",
        );
        return false;
    }
    true
}

/// Why the scope cannot be read from this column, and the cure.
fn bad_scope_column(rule: &TableRule, relation: &Relation, name: &str) -> Option<(String, String)> {
    let table = format!("{}.{}", relation.schema, relation.name);
    let Some(column) = relation.column(name) else {
        let near = did_you_mean(name, relation.columns.iter().map(|c| c.name.as_str()));
        let what = format!("the scope reads column {name}, which {table} does not have{near}");
        return Some((
            what,
            "name a column of the table, or write a fixed scope".into(),
        ));
    };
    if column.sealed_domain().is_some() || rule.columns.iter().any(|c| c.name == name) {
        let what = format!("the scope reads column {name}, which is protected itself");
        let cure = "name a plain column: the scope must be known before a value can be opened";
        return Some((what, cure.into()));
    }
    if column.generated {
        let what = format!("the scope reads column {name}, which the server generates");
        let cure = "name a column that the application writes: the scope must be known before the row is written";
        return Some((what, cure.into()));
    }
    if !is_scope_type(column) {
        let what = format!(
            "the scope reads column {name} of type {}, whose text depends on settings or casts",
            column.type_name
        );
        let cure =
            "name a column of type text, varchar, smallint, integer, bigint, uuid or boolean";
        return Some((what, cure.into()));
    }
    None
}

/// Not a domain either: its modifiers and checks are not in the column.
fn is_scope_type(column: &Column) -> bool {
    SCOPE_TYPES.contains(&column.type_oid)
}
