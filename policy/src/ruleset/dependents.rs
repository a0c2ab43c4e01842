//! Who reads protected relations without the statement saying so: views, functions, children, triggers.
//! Functions are judged by the words of their bodies and by the types of their parameters, so this errs towards "reads".

use std::collections::{BTreeSet, HashSet};

use super::words::Words;
use crate::catalog::{Catalog, Function, Relation};

/// What depends on a set of relations, transitively. The relations themselves are not among it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependents {
    /// OIDs of relations that read them: views, materialized views, children and parents.
    pub relations: BTreeSet<u32>,
    /// OIDs of functions that may read them.
    pub functions: BTreeSet<u32>,
    /// Bare names of those functions.
    pub function_names: BTreeSet<String>,
    /// OIDs of relations of which a write runs such a function: a trigger, a default, a rule.
    pub written: BTreeSet<u32>,
    /// Bare names of functions that may run SQL given to them as text: they have an EXECUTE, or call one that has.
    pub text_runners: BTreeSet<String>,
}

impl Dependents {
    /// Finds what depends on these relations and functions. Root functions are among the result. Those of the relations that
    /// are `copies` take sealed values of any column: a trigger that does no more than insert into them does not read them.
    pub(crate) fn find(
        catalog: &Catalog,
        relations: &BTreeSet<u32>,
        functions: &BTreeSet<u32>,
        copies: &BTreeSet<u32>,
    ) -> Self {
        if relations.is_empty() && functions.is_empty() {
            return Self::default();
        }
        let bodies: Vec<Words> = catalog
            .functions
            .iter()
            .map(|f| Words::of(&f.body))
            .collect();
        let copies: HashSet<&str> = names_of(catalog, copies)
            .filter(|name| {
                names_of(catalog, relations)
                    .filter(|other| other == name)
                    .count()
                    == 1
            })
            .collect();
        let mut reached = Reached {
            relations: relations.clone(),
            functions: functions.clone(),
            written: BTreeSet::new(),
        };
        if !relations.is_empty() {
            // What takes or returns sealed values reads them, wherever they come from.
            let functions = catalog.functions.iter().filter(|f| takes_sealed(f));
            reached.functions.extend(functions.map(|f| f.oid));
        }
        let mut known = Names::default();
        loop {
            let fresh = reached.fresh_names(catalog, &mut known);
            let before = reached.len();
            reached.add_functions(catalog, &bodies, &fresh, &copies);
            reached.add_relations(catalog);
            reached.add_written(catalog);
            if before == reached.len() {
                return Self {
                    text_runners: text_runners(catalog, &bodies),
                    ..reached.finish(catalog, relations)
                };
            }
        }
    }

    /// The bare names of `roots` and of everything here.
    pub(crate) fn names(&self, catalog: &Catalog, roots: &BTreeSet<u32>) -> BTreeSet<String> {
        let relations = roots.iter().chain(&self.relations).chain(&self.written);
        relations
            .filter_map(|oid| catalog.relation_by_oid(*oid))
            .map(|relation| relation.name.clone())
            .chain(self.function_names.iter().cloned())
            .collect()
    }
}

fn names_of<'a>(catalog: &'a Catalog, oids: &BTreeSet<u32>) -> impl Iterator<Item = &'a str> {
    let relations = oids.iter().filter_map(|oid| catalog.relation_by_oid(*oid));
    relations.map(|relation| relation.name.as_str())
}

fn text_runners(catalog: &Catalog, bodies: &[Words]) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    loop {
        let functions = catalog.functions.iter().zip(bodies);
        let more: Vec<String> = functions
            .filter(|(function, _)| !found.contains(&function.name))
            .filter(|(_, body)| body.has("execute") || found.iter().any(|name| body.mentions(name)))
            .map(|(function, _)| function.name.clone())
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// OIDs reached so far, roots included.
struct Reached {
    relations: BTreeSet<u32>,
    functions: BTreeSet<u32>,
    written: BTreeSet<u32>,
}

/// Bare names: what reads when it is named, and what reads when it is written to.
#[derive(Default)]
struct Names<'a> {
    read: HashSet<&'a str>,
    written: HashSet<&'a str>,
}

impl Reached {
    fn len(&self) -> usize {
        self.relations.len() + self.functions.len() + self.written.len()
    }

    /// Names of what was reached since the last time.
    fn fresh_names<'a>(&self, catalog: &'a Catalog, known: &mut Names<'a>) -> Names<'a> {
        let mut fresh = Names::default();
        for relation in &catalog.relations {
            let name = relation.name.as_str();
            if self.relations.contains(&relation.oid) && known.read.insert(name) {
                fresh.read.insert(name);
            }
            if self.written.contains(&relation.oid) && known.written.insert(name) {
                fresh.written.insert(name);
            }
        }
        let functions = catalog.functions.iter();
        for function in functions.filter(|function| self.functions.contains(&function.oid)) {
            if known.read.insert(&function.name) {
                fresh.read.insert(&function.name);
            }
        }
        fresh
    }

    fn add_functions(
        &mut self,
        catalog: &Catalog,
        bodies: &[Words],
        fresh: &Names<'_>,
        copies: &HashSet<&str>,
    ) {
        let triggers = catalog.relations.iter();
        let triggers: HashSet<u32> = triggers
            .flat_map(|relation| relation.trigger_functions.iter().copied())
            .collect();
        for (function, body) in catalog.functions.iter().zip(bodies) {
            // Nobody can call it with values of his own.
            let fires = triggers.contains(&function.oid);
            let mentions = |names: &HashSet<&str>| {
                names.iter().any(|name| {
                    body.mentions(name)
                        && !(fires && copies.contains(name) && body.only_inserts_into(name))
                })
            };
            let returns = |oid| self.relations.contains(&oid);
            if function.returns_relation.is_some_and(returns)
                || mentions(&fresh.read)
                || (body.may_write() && mentions(&fresh.written))
            {
                self.functions.insert(function.oid);
            }
        }
    }

    fn add_relations(&mut self, catalog: &Catalog) {
        // A parent shows the rows of its children.
        let reached = catalog
            .relations
            .iter()
            .filter(|r| self.relations.contains(&r.oid));
        let parents: BTreeSet<u32> = reached.flat_map(|r| r.parents.iter().copied()).collect();
        for relation in &catalog.relations {
            let reaches = |oids: &[u32]| oids.iter().any(|oid| self.relations.contains(oid));
            if parents.contains(&relation.oid)
                || reaches(&relation.reads)
                || reaches(&relation.parents)
                || (is_view(relation) && self.calls(&relation.calls))
            {
                self.relations.insert(relation.oid);
            }
        }
    }

    fn add_written(&mut self, catalog: &Catalog) {
        let reached = catalog
            .functions
            .iter()
            .filter(|f| self.functions.contains(&f.oid));
        let names: BTreeSet<&str> = reached.map(|f| f.name.as_str()).collect();
        for relation in &catalog.relations {
            let reads = || relation.reads.iter().any(|oid| self.written.contains(oid));
            if self.calls(&relation.trigger_functions)
                || self.calls(&relation.calls)
                || (is_view(relation) || relation.has_rules) && reads()
                || default_mentions(relation, &names)
            {
                self.written.insert(relation.oid);
            }
        }
    }

    fn calls(&self, oids: &[u32]) -> bool {
        oids.iter().any(|oid| self.functions.contains(oid))
    }

    fn finish(self, catalog: &Catalog, roots: &BTreeSet<u32>) -> Dependents {
        let functions = catalog
            .functions
            .iter()
            .filter(|f| self.functions.contains(&f.oid));
        Dependents {
            function_names: functions.map(|f| f.name.clone()).collect(),
            relations: self.relations.difference(roots).copied().collect(),
            functions: self.functions,
            written: self.written,
            text_runners: BTreeSet::new(),
        }
    }
}

fn takes_sealed(function: &Function) -> bool {
    let mut parameters = function.parameters.iter();
    parameters.any(|parameter| parameter.column.sealed_domain().is_some())
}

fn is_view(relation: &Relation) -> bool {
    matches!(relation.kind, 'v' | 'm')
}

fn default_mentions(relation: &Relation, names: &BTreeSet<&str>) -> bool {
    if names.is_empty() {
        return false;
    }
    let defaults = relation
        .columns
        .iter()
        .filter_map(|column| column.default.as_deref());
    defaults
        .map(Words::of)
        .any(|words| names.iter().any(|name| words.mentions(name)))
}
