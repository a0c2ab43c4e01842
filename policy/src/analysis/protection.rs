//! Which words of a statement can name something protected: the ruleset's own answers, ready for many questions.
//! Knows no statement.

use std::{collections::HashSet, ops::Range};

use super::{SessionView, type_name};
use crate::{
    catalog::Relation,
    ruleset::{Ruleset, words::Words},
    text::{Taught, Tokens, Vocabulary, teach},
};

/// The ruleset's names, by use.
pub(super) struct Protection<'a> {
    rules: &'a Ruleset,
    view: &'a SessionView,
    names: HashSet<&'a str>,
    columns: HashSet<&'a str>,
}

/// What a relation is to the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has protected columns.
    Protected,
    /// It is a view that depends on one that has.
    Dependent,
    /// It may be read; a write runs a function that may read something protected.
    Written,
    /// None of these.
    Plain,
}

impl<'a> Protection<'a> {
    pub(super) fn of(rules: &'a Ruleset, view: &'a SessionView) -> Self {
        let pending = rules.pending.iter().map(|column| column.column.as_str());
        let columns = rules
            .by_attribute
            .values()
            .map(|column| column.name.as_str());
        let mut this = Self {
            rules,
            view,
            names: rules.names().collect(),
            columns: columns.chain(pending).collect(),
        };
        this.columns.extend(rules.wandering_names());
        let own = view
            .relations
            .iter()
            .filter(|relation| this.standing(relation) != Standing::Plain);
        let own: Vec<&Relation> = own.collect();
        for relation in own {
            this.names.insert(&relation.name);
            let sealed = relation
                .columns
                .iter()
                .filter(|c| c.sealed_domain().is_some());
            this.columns
                .extend(sealed.map(|column| column.name.as_str()));
        }
        this
    }

    /// What a relation is.
    pub(super) fn standing(&self, relation: &Relation) -> Standing {
        if relation.is_view() && !self.rules.is_pending_table(relation.oid) {
            if rules_or_session_depend(self.rules, self.view, relation, 0) {
                return Standing::Dependent;
            }
        } else if self.rules.is_protected_relation(relation.oid)
            || relation.reshaped
            || relation
                .columns
                .iter()
                .any(|column| column.sealed_domain().is_some())
        {
            return Standing::Protected;
        }
        let runs = |oid: &u32| self.rules.dependents.functions.contains(oid);
        if self.rules.has_dependent_writes(relation.oid)
            || relation.trigger_functions.iter().any(runs)
        {
            Standing::Written
        } else {
            Standing::Plain
        }
    }

    /// Whether something protected, or dependent on it, has this name.
    pub(super) fn names_relation(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether a function that depends on something protected has this name.
    pub(super) fn names_function(&self, name: &str) -> bool {
        self.rules.is_dependent_function(name)
    }

    /// Whether a function of this name, which is not the system's, may run SQL given as text.
    pub(super) fn runs_text(&self, name: &str) -> bool {
        self.rules.runs_text(name)
    }

    /// The tokens of a statement as the parser gets them.
    pub(super) fn taught(&self, tokens: &Tokens<'_>, statement: &Range<usize>) -> Taught {
        let vocabulary = Vocabulary {
            sensitive: &|name| self.names_column(name),
            is_type: &|name| type_name::named(name, &self.rules.catalog, self.view).is_some(),
        };
        teach(tokens, statement, &vocabulary)
    }

    /// Whether some protected column has this name.
    pub(super) fn names_column(&self, name: &str) -> bool {
        self.columns.contains(name)
    }

    /// Whether SQL inside a string could name something protected.
    pub(super) fn named_in(&self, text: &str) -> bool {
        let words = Words::of(text);
        self.names.iter().any(|name| words.mentions(name))
    }
}

/// How deep views of a session may stand upon each other; a deeper one counts as dependent.
const MAX_VIEWS: usize = 32;

/// Whether a view reads something protected: by the ruleset, or, for one that only the session knows, by what it reads.
fn rules_or_session_depend(
    rules: &Ruleset,
    view: &SessionView,
    relation: &Relation,
    depth: usize,
) -> bool {
    let own = |oid: u32| view.relations.iter().find(|own| own.oid == oid);
    if own(relation.oid).is_none() {
        return rules.is_dependent_relation(relation.oid);
    }
    let mentions_function = || {
        let words = Words::of(relation.definition.as_deref().unwrap_or_default());
        let mut functions = rules.dependents.function_names.iter();
        functions.any(|name| words.mentions(name))
    };
    depth > MAX_VIEWS
        || relation
            .columns
            .iter()
            .any(|column| column.sealed_domain().is_some())
        || relation.reads.iter().any(|oid| match own(*oid) {
            Some(read) if read.is_view() => rules_or_session_depend(rules, view, read, depth + 1),
            Some(read) => read
                .columns
                .iter()
                .any(|column| column.sealed_domain().is_some()),
            None => rules.is_protected_relation(*oid) || rules.is_dependent_relation(*oid),
        })
        || mentions_function()
}
