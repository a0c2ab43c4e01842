//! Which words of a statement can name something protected: the ruleset's own answers, ready for many questions.
//! Knows no statement.

use std::collections::HashSet;

use crate::{
    catalog::Relation,
    ruleset::{Ruleset, words::Words},
};

/// The ruleset's names, by use.
pub(super) struct Protection<'a> {
    rules: &'a Ruleset,
    names: HashSet<&'a str>,
    columns: HashSet<&'a str>,
}

/// What a relation is to the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has protected columns.
    Protected,
    /// It depends on one that has.
    Dependent,
    /// It may be read; a write runs a function that may read something protected.
    Written,
    /// None of these.
    Plain,
}

impl<'a> Protection<'a> {
    pub(super) fn of(rules: &'a Ruleset) -> Self {
        let pending = rules.pending.iter().map(|column| column.column.as_str());
        let columns = rules
            .by_attribute
            .values()
            .map(|column| column.name.as_str());
        Self {
            rules,
            names: rules.names().collect(),
            columns: columns.chain(pending).collect(),
        }
    }

    /// What a relation is.
    pub(super) fn standing(&self, relation: &Relation) -> Standing {
        if self.rules.is_protected_relation(relation.oid) {
            Standing::Protected
        } else if self.rules.is_dependent_relation(relation.oid) {
            Standing::Dependent
        } else if self.rules.has_dependent_writes(relation.oid) {
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
