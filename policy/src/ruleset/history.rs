//! What stored values were sealed as, against what the policy says now. Nothing can be un-protected by omission.

use std::collections::{HashMap, HashSet};

use pgveil_config::{Mask, PolicyFile, SearchKey};

use super::{
    Protected, RegisteredColumn, Step, TermContext, change,
    column::Resolved,
    compile::{Findings, names_of},
};
use crate::{catalog::Catalog, template::ScopeTemplate};

/// Schema, table, column.
pub(super) type Key<'a> = (&'a str, &'a str, &'a str);

pub(super) fn key(past: &RegisteredColumn) -> Key<'_> {
    (&past.schema, &past.table, &past.column)
}

/// The newest registration of each name: ids only grow.
pub(super) fn current(registered: &[RegisteredColumn]) -> HashMap<Key<'_>, &RegisteredColumn> {
    let mut current: HashMap<Key<'_>, &RegisteredColumn> = HashMap::new();
    for past in registered {
        let newest = current.entry(key(past)).or_insert(past);
        if past.id > newest.id {
            *newest = past;
        }
    }
    current
}

/// The newest registration of a name whose column is this one.
pub(super) fn of_place<'a>(
    registered: &'a [RegisteredColumn],
    name: Key<'_>,
    place: (u32, i16),
) -> Option<&'a RegisteredColumn> {
    registered
        .iter()
        .filter(|past| past.place == place && key(past) == name)
        .max_by_key(|past| past.id)
}

/// What has to be done to the values that the column holds, so that they are as the policy describes them. What cannot be
/// done is a finding.
pub(super) fn check(
    column: &Resolved<'_>,
    past: &RegisteredColumn,
    catalog: &Catalog,
    findings: &mut Findings,
) -> Option<Step> {
    let later = "; changing it comes with rewrap (not supported yet)";
    let name = column.display_name();
    let rule = column.rule;
    let step = change::wanted(column, past, catalog).unwrap_or_else(|change::OtherType| {
        // Where the domain in the catalog differs too, that has been said.
        if column.column.sealed_domain() == Some(column.logical.domain()) {
            findings.add(
                &rule.type_at,
                format!(
                    "{name} holds values sealed as {}, but the policy says {}",
                    past.logical_type, column.logical
                ),
                format!("write type = {:?}, or another length that holds more or fewer values as they are", past.logical_type),
            );
        }
        None
    });
    let mut add = |what: String, cure: &str| {
        findings.add(&rule.at, format!("{name} {what}"), format!("{cure}{later}"));
    };
    if let Some(Step::TurnTerms(_)) = &step {
        let another = change::is_of_another_scope(column, past).then_some(past.scope.as_ref());
        if let Some(scope) = another.flatten() {
            check_other_scope(column, scope, findings);
        }
        return step;
    }
    // A job is at it: what it brings terms to may be said by a file that others have not got yet.
    let turns = { past.change.as_ref() }.is_some_and(|change| change.other_terms().is_some());
    if !change::had_terms(past) || turns {
        return step;
    }
    // Where the policy asks for no terms, they stay as they are until they are gone. Terms that were dropped come back as they
    // were: a copy may still have them.
    let as_they_are = !rule.search.equality;
    let shared = rule.search_key == SearchKey::Shared;
    if !as_they_are && past.shared_key != shared {
        let was = if past.shared_key { "shared" } else { "scope" };
        add(
            format!(
                "holds equality terms made with search_key = {was:?}, but the policy says otherwise"
            ),
            &format!("write search_key = {was:?}"),
        );
    }
    if !as_they_are && past.equality_group != rule.equality_group {
        let (was, cure) = match &past.equality_group {
            Some(group) => (
                format!("of group {group:?}"),
                format!("write equality_group = {group:?}"),
            ),
            None => (
                "of no group".to_owned(),
                "remove `equality_group`".to_owned(),
            ),
        };
        add(
            format!("holds equality terms {was}, but the policy says otherwise"),
            &cure,
        );
    }
    let is_bound = change::has_terms(past) || !as_they_are;
    if let Some(scope) = past.scope.as_ref().filter(|_| is_bound && !past.shared_key)
        && ScopeTemplate::parse(scope).as_ref() != Ok(&column.scope)
    {
        findings.add(
            &rule.at,
            format!(
                "{name} holds equality terms of scope {scope:?}, but the policy says {:?}",
                column.scope_text
            ),
            format!("write scope = {scope:?}{later}"),
        );
    }
    step
}

/// What keeps terms from going over to the keys of another scope while the table is used.
fn check_other_scope(column: &Resolved<'_>, scope: &str, findings: &mut Findings) {
    let name = column.display_name();
    let mut add = |why: String, cure: String| {
        findings.add(
            &column.rule.at,
            format!(
                "{name} holds equality terms of scope {scope:?}, but the policy says {:?}, and {why}",
                column.scope_text
            ),
            cure,
        );
    };
    if column.session_must_match {
        add(
            "session = \"must-match\" lets a session see values of one scope only".to_owned(),
            format!(
                "write scope = {scope:?}, or take `session` out of the entry while the scope is changed"
            ),
        );
    }
    let Ok(template) = ScopeTemplate::parse(scope) else {
        return;
    };
    let gone = template.columns().into_iter();
    let mut gone = gone.filter(|name| column.relation.column(name).is_none());
    if let Some(gone) = gone.next() {
        add(
            format!("column {gone}, which the former scope is taken from, is gone"),
            format!(
                "give the column its name back (ALTER TABLE ... RENAME COLUMN), and write scope = {scope:?}"
            ),
        );
    }
}

/// Registered columns that still stand under a domain of pgveil although the policy does not name them.
pub(super) fn check_omitted(
    policy: &PolicyFile,
    resolved: &HashSet<Key<'_>>,
    catalog: &Catalog,
    current: &HashMap<Key<'_>, &RegisteredColumn>,
    findings: &mut Findings,
) {
    let named: Vec<Key<'_>> = policy.tables.iter().flat_map(names_of).collect();
    let mut omitted: Vec<(&RegisteredColumn, u32)> = current
        .values()
        .copied()
        .filter(|past| !named.contains(&key(past)) && !resolved.contains(&key(past)))
        .filter_map(|past| {
            let relation = catalog.relation(&past.schema, &past.table)?;
            let column = relation.column(&past.column)?;
            column.sealed_domain().map(|_| (past, relation.oid))
        })
        .collect();
    omitted.sort_by_key(|(past, _)| past.id);
    for (past, table) in omitted {
        let name = format!("{}.{}.{}", past.schema, past.table, past.column);
        let message = format!("{name} holds sealed values, but the policy no longer names it");
        let cure = format!(
            "put [table.column.{:?}] with type = {:?} back under table {}.{}, \
             and decrypt it (pgveil apply --decrypt) or drop the column",
            past.column, past.logical_type, past.schema, past.table
        );
        let entry = policy
            .tables
            .iter()
            .find(|rule| (rule.schema.as_str(), rule.name.as_str()) == (&past.schema, &past.table));
        match entry {
            Some(rule) => findings.add(&rule.at, message, cure),
            None => findings.add_unplaced(table, message, cure),
        }
    }
}

/// What is known of an id whose column is gone. If the policy names a column of the same name, that column's
/// rights hold for it; otherwise nobody has any.
pub(super) fn retired(
    past: &RegisteredColumn,
    successor: Option<&Resolved<'_>>,
    catalog: &Catalog,
) -> Option<Protected> {
    let logical = catalog.parse_type(&past.logical_type).ok()?;
    let scope = past.scope.as_deref().unwrap_or("platform");
    let group = past.equality_group.clone();
    Some(Protected {
        id: past.id,
        table_oid: 0,
        attnum: 0,
        schema: past.schema.clone(),
        table: past.table.clone(),
        name: past.column.clone(),
        logical,
        written: logical,
        equality: past.equality,
        terms: change::has_terms(past),
        search_key: if past.shared_key {
            SearchKey::Shared
        } else {
            SearchKey::Scope
        },
        context: group.map_or(TermContext::Column(past.id), TermContext::Group),
        generation: past.generation,
        also: change::also(past),
        scope: ScopeTemplate::parse(scope).ok()?,
        seals_other: false,
        session: successor.and_then(Resolved::session),
        reveal: match successor {
            Some(successor) => successor.rule.reveal.clone(),
            None => Some(Vec::new()),
        },
        mask: successor
            .filter(|successor| successor.logical.domain() == logical.domain())
            .map_or(Mask::Null, |successor| successor.rule.mask),
        retired: true,
    })
}
