//! Joins a policy, a catalog and the history of its columns. The single checks stand beside this file.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use pgveil_config::{Diagnostic, PolicyFile, Position};

use super::{
    Declared, Pending, PendingColumn, Protected, RegisteredColumn, Wanted, change,
    column::{self, Resolved},
    group,
    guard::{self, PlainColumn},
    history,
    nearest::did_you_mean,
    renames::Renames,
    table::{self, Found},
    unfit::Finding,
    unique,
};
use crate::catalog::Catalog;

/// What a policy without findings amounts to.
pub(super) struct Compiled {
    pub(super) columns: Vec<Arc<Protected>>,
    pub(super) pending: Vec<PendingColumn>,
    pub(super) declared: Vec<Declared>,
    /// Columns of partitions and other heirs: table OID, attribute number, whose values they hold.
    pub(super) inherited: Vec<(u32, i16, Arc<Protected>)>,
    pub(super) wanted: Vec<Wanted>,
    /// Columns that are plaintext, and served as such, while the policy names them.
    pub(super) plain: Vec<PlainColumn>,
}

/// Everything found wrong so far.
pub(super) struct Findings {
    found: Vec<Finding>,
    names: Names,
}

/// How names that the catalog does not have are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// As mistakes, if others look like them.
    Checked,
    /// As what they are.
    Known,
}

impl Findings {
    fn new(names: Names) -> Self {
        Self {
            found: Vec::new(),
            names,
        }
    }

    /// The names that a name that is not there may have been meant for, in words.
    pub(super) fn meant<'n>(
        &self,
        name: &str,
        others: impl IntoIterator<Item = &'n str>,
    ) -> String {
        match self.names {
            Names::Checked => did_you_mean(name, others),
            Names::Known => String::new(),
        }
    }

    /// Adds a finding: what is wrong, in a sentence without a full stop, and the cure.
    pub(super) fn add(
        &mut self,
        at: &Position,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        let diagnostic = Diagnostic {
            at: Some(at.clone()),
            message: message.into(),
            cure: cure.into(),
        };
        self.found.push(Finding {
            diagnostic,
            table: None,
        });
    }

    /// Adds a finding about a table that the policy does not name.
    pub(super) fn add_unplaced(
        &mut self,
        table: u32,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.found.push(Finding {
            diagnostic: Diagnostic::nowhere(message, cure),
            table: Some(table),
        });
    }

    fn sorted(mut self) -> Vec<Finding> {
        let place = |at: &Position| (at.line, at.column);
        // What concerns no line comes last.
        self.found.sort_by_key(|finding| {
            let at = finding.diagnostic.at.as_ref();
            (at.is_none(), at.map_or((0, 0), place))
        });
        self.found
    }
}

/// What of the policy the catalog and the history bear out, and everything that they do not.
pub(super) fn compile(
    policy: &PolicyFile,
    catalog: &Catalog,
    registered: &[RegisteredColumn],
    names: Names,
) -> (Compiled, Vec<Finding>, Renames) {
    let mut findings = Findings::new(names);
    let (renames, registered) = Renames::follow(catalog, registered);
    let registered = &registered;
    let (resolved, declared) = resolve(policy, catalog, &renames, &mut findings);
    group::check(&resolved, &mut findings);
    let current = history::current(registered);
    let mut compiled = Compiled {
        columns: Vec::new(),
        pending: Vec::new(),
        declared,
        inherited: Vec::new(),
        wanted: Vec::new(),
        plain: Vec::new(),
    };
    for column in &resolved {
        let past = history::of_place(registered, column.key(), column.place())
            .or_else(|| current.get(&column.key()).copied());
        let has_terms = column.rule.search.equality || past.is_some_and(change::has_terms);
        unique::check(column, has_terms, &mut findings);
        for heir in column.heirs(catalog) {
            unique::check(&heir, has_terms, &mut findings);
        }
        let newest = current.get(&column.key()).copied();
        let served = newest.is_some_and(|past| guard::is_served_plain(past, column.place()));
        let state = match (column.is_sealed(), past) {
            (false, _) if served => {
                compiled.plain.push(PlainColumn {
                    place: column.place(),
                    name: column.column.name.clone(),
                });
                None
            }
            (false, _) => Some(Pending::NotConverted),
            (true, None) => Some(Pending::NotRegistered),
            (true, Some(past)) if past.place != column.place() => Some(Pending::NotRecognised),
            (true, Some(past)) => {
                let step = history::check(column, past, catalog, &mut findings);
                let wanted = step.map(|step| change::wanted_of(column, past, step));
                compiled.wanted.extend(wanted);
                let protected = Arc::new(protected(column, past, catalog));
                for heir in column.heirs(catalog) {
                    let attnum = heir.column.attnum;
                    let held = (heir.relation.oid, attnum, Arc::clone(&protected));
                    compiled.inherited.push(held);
                }
                compiled.columns.push(protected);
                None
            }
        };
        if let Some(state) = state {
            compiled.pending.push(column.pending(state));
            let heirs = column.heirs(catalog);
            let heirs = heirs.iter().map(|heir| heir.pending(state));
            compiled.pending.extend(heirs);
        }
    }
    let named: HashSet<history::Key<'_>> = resolved.iter().map(Resolved::key).collect();
    history::check_omitted(policy, &named, catalog, &current, &mut findings);
    add_retired(&mut compiled, &resolved, registered, catalog);
    for wanted in &mut compiled.wanted {
        change::relate(wanted, &compiled.columns);
    }
    let strange = unmanaged(&named, policy, catalog, &current, &compiled);
    compiled.pending.extend(strange);
    (compiled, findings.sorted(), renames)
}

/// Looks up every name of the policy.
fn resolve<'a>(
    policy: &'a PolicyFile,
    catalog: &'a Catalog,
    renames: &Renames,
    findings: &mut Findings,
) -> (Vec<Resolved<'a>>, Vec<Declared>) {
    let (mut resolved, mut declared) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for rule in &policy.tables {
        if !seen.insert((&rule.schema, &rule.name)) {
            findings.add(
                &rule.at,
                format!("{}.{} has an entry already", rule.schema, rule.name),
                "put its columns into one [[table]] entry",
            );
            continue;
        }
        let relation = match table::check(rule, catalog, renames, findings) {
            Found::Relation(relation) => Some(relation),
            Found::Absent => None,
            Found::Bad => continue,
        };
        let scope = table::scope(rule, relation, findings);
        for column in &rule.columns {
            let found = column::find(rule, column, relation, renames, findings);
            let Some(logical) = column::logical_type(column, catalog, findings) else {
                continue;
            };
            column::check_rule(rule, column, logical, scope.as_ref(), findings);
            if let Some(scope) = &scope {
                declared.extend(Declared::of(rule, column, logical, scope, found));
            }
            let (Some((relation, found)), Some(scope)) = (found, &scope) else {
                continue;
            };
            let column = column::resolve(
                rule,
                column,
                relation,
                found,
                (logical, catalog),
                scope,
                findings,
            );
            table::check_partition_key(&column, findings);
            for heir in column.heirs(catalog) {
                table::check_partition_key(&heir, findings);
                column::check_default(heir.relation, heir.column, heir.rule, findings);
            }
            resolved.push(column);
        }
    }
    (resolved, declared)
}

fn protected(column: &Resolved<'_>, past: &RegisteredColumn, catalog: &Catalog) -> Protected {
    let now = change::in_force(column, past, catalog);
    Protected {
        id: past.id,
        table_oid: column.relation.oid,
        attnum: column.column.attnum,
        schema: column.relation.schema.clone(),
        table: column.relation.name.clone(),
        name: column.column.name.clone(),
        logical: now.logical,
        written: now.written,
        equality: now.equality,
        terms: now.terms,
        search_key: now.search_key,
        context: now.context,
        generation: now.generation,
        also: now.also,
        scope: now.scope,
        seals_other: now.seals_other,
        session: column.session(),
        reveal: column.rule.reveal.clone(),
        mask: column.rule.mask,
        retired: false,
    }
}

/// Columns under a domain of pgveil that neither the policy nor the registry knows, and of which nobody could say what
/// they hold: no column of the policy ever was of that type.
fn unmanaged(
    resolved: &HashSet<history::Key<'_>>,
    policy: &PolicyFile,
    catalog: &Catalog,
    current: &HashMap<(&str, &str, &str), &RegisteredColumn>,
    compiled: &Compiled,
) -> Vec<PendingColumn> {
    let domains: HashSet<&str> = compiled
        .columns
        .iter()
        .map(|column| column.logical.domain())
        .collect();
    let mut named: HashSet<(&str, &str, &str)> = policy.tables.iter().flat_map(names_of).collect();
    named.extend(resolved);
    let tables = catalog
        .relations
        .iter()
        .filter(|r| matches!(r.kind, 'r' | 'p' | 'f'));
    let columns = tables.flat_map(|relation| relation.columns.iter().map(move |c| (relation, c)));
    columns
        .filter(|(_, column)| {
            let domain = column.sealed_domain();
            domain.is_some_and(|domain| !domains.contains(domain))
        })
        .filter(|(relation, column)| {
            let key = (
                relation.schema.as_str(),
                relation.name.as_str(),
                column.name.as_str(),
            );
            !named.contains(&key) && !current.contains_key(&key)
        })
        .map(|(relation, column)| PendingColumn {
            schema: relation.schema.clone(),
            table: relation.name.clone(),
            column: column.name.clone(),
            table_oid: relation.oid,
            attnum: column.attnum,
            logical: None,
            state: Pending::NotInPolicy,
        })
        .collect()
}

pub(super) fn names_of(
    rule: &pgveil_config::TableRule,
) -> impl Iterator<Item = (&str, &str, &str)> {
    let columns = rule.columns.iter();
    columns.map(|column| {
        (
            rule.schema.as_str(),
            rule.name.as_str(),
            column.name.as_str(),
        )
    })
}

/// Ids whose column is gone, or was made anew under a new id: values that they sealed may live on elsewhere.
fn add_retired(
    compiled: &mut Compiled,
    resolved: &[Resolved<'_>],
    registered: &[RegisteredColumn],
    catalog: &Catalog,
) {
    let known: HashSet<_> = compiled.columns.iter().map(|column| column.id).collect();
    for past in registered.iter().filter(|past| !known.contains(&past.id)) {
        let successor = resolved
            .iter()
            .find(|column| column.key() == history::key(past));
        compiled
            .columns
            .extend(history::retired(past, successor, catalog).map(Arc::new));
    }
}
