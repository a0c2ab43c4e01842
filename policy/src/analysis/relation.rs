//! Tables by name: resolved as the session would, pinned to their schema, refused where they cannot be used.

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use super::{Analyser, SessionView, namespace::name_of, refusals};
use crate::{
    Refusal,
    catalog::Relation,
    ruleset::{Held, Ruleset},
    text::quote_identifier,
};

impl<'a> Analyser<'a> {
    /// The table that a name means, pinned to its schema where the name alone could be taken for a protected one.
    pub(super) fn relation(&mut self, name: &ObjectName) -> Result<&'a Relation, Refusal> {
        let idents = idents_of(name)?;
        let first = idents
            .first()
            .and_then(|ident| self.tokens.starting(ident.span.start));
        let at = first.map_or(0, |at| self.tokens.range(at).start);
        for ident in &idents {
            self.account(ident);
        }
        let names: Vec<String> = idents.iter().map(|ident| name_of(ident)).collect();
        let found = self.resolve(&names);
        let relation = found.ok_or_else(|| refusals::undefined_table(&names.join(".")).at(at))?;
        if let Some(refusal) = self.rules.refuse_pending(relation.oid) {
            return Err(refusal.at(at));
        }
        self.check_domains(relation)
            .map_err(|refusal| refusal.at(at))?;
        if names.len() == 1 && !self.stored && self.protection.names_relation(&relation.name) {
            self.edits
                .qualify(at, format!("{}.", quote_identifier(&relation.schema)));
        }
        Ok(relation)
    }

    /// Looks a relation up as the session would.
    pub(super) fn resolve(&self, names: &[String]) -> Option<&'a Relation> {
        lookup(self.rules, self.view, names)
    }

    /// Refuses a relation that holds sealed values of no column that pgveil knows.
    fn check_domains(&self, relation: &Relation) -> Result<(), Refusal> {
        let strange = relation
            .columns
            .iter()
            .find(|column| matches!(self.rules.held(relation, column), Held::Strange));
        match strange {
            Some(column) => Err(refusals::strange_column(&relation.name, &column.name)),
            None => Ok(()),
        }
    }
}

/// The relation that a name means in a session: its own relations come before those of the catalog.
pub(super) fn lookup<'a>(
    rules: &'a Ruleset,
    view: &'a SessionView,
    names: &[String],
) -> Option<&'a Relation> {
    let get = |schema: &str, name: &str| {
        let is_own = |relation: &&Relation| {
            relation.name == name
                && (relation.schema == schema
                    || schema == "pg_temp" && relation.schema.starts_with("pg_temp_"))
        };
        let own = view.relations.iter().find(is_own);
        own.or_else(|| rules.relation(schema, name))
    };
    match names {
        [name] => view.schemas.iter().find_map(|schema| get(schema, name)),
        [schema, name] => get(schema, name),
        [database, schema, name] if *database == rules.catalog.database => get(schema, name),
        _ => None,
    }
}

/// The identifiers of a name.
pub(super) fn idents_of(name: &ObjectName) -> Result<Vec<&Ident>, Refusal> {
    let mut idents = Vec::with_capacity(name.0.len());
    for part in &name.0 {
        match part {
            ObjectNamePart::Identifier(ident) => idents.push(ident),
            ObjectNamePart::Function(_) => return Err(refusals::not_understood("An unusual name")),
        }
    }
    Ok(idents)
}
