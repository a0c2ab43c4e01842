//! Tables by name: resolved as the session would, pinned to their schema, refused where they cannot be used.

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use super::{Analyser, namespace::name_of, protection::Standing, refusals};
use crate::{Refusal, catalog::Relation, text::quote_identifier};

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
        let found = self.resolve(&names).map_err(|refusal| refusal.at(at))?;
        let relation = found.ok_or_else(|| refusals::undefined_table(&names.join(".")).at(at))?;
        if self.protection.standing(relation) == Standing::Dependent {
            let why = "reads a protected table, or is its child or parent";
            return Err(refusals::dependent(&relation.name, why).at(at));
        }
        if let Some(refusal) = self.rules.refuse_pending(relation.oid) {
            return Err(refusal.at(at));
        }
        if names.len() == 1 && self.protection.names_relation(&relation.name) {
            self.edits
                .qualify(at, format!("{}.", quote_identifier(&relation.schema)));
        }
        Ok(relation)
    }

    /// The table that a statement writes to.
    pub(super) fn written_relation(&mut self, name: &ObjectName) -> Result<&'a Relation, Refusal> {
        let relation = self.relation(name)?;
        if self.rules.has_dependent_writes(relation.oid) {
            let why = "runs a function on every write that may read a protected table";
            return Err(refusals::dependent(&relation.name, why));
        }
        Ok(relation)
    }

    /// Looks a relation up as the session would.
    pub(super) fn resolve(&self, names: &[String]) -> Result<Option<&'a Relation>, Refusal> {
        let catalog = &self.rules.catalog;
        let get = |schema: &str, name: &str| catalog.relation(schema, name);
        match names {
            [name] if self.view.temporary.contains(name) => Err(refusals::temporary(name)),
            [name] => Ok(self
                .view
                .schemas
                .iter()
                .find_map(|schema| get(schema, name))),
            [schema, name] => Ok(get(schema, name)),
            [database, schema, name] if *database == catalog.database => Ok(get(schema, name)),
            _ => Ok(None),
        }
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
