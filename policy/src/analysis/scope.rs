//! Proofs about scopes: which keys a value or a search term is made with, and whether two are the same.
//! The facts come from `facts`; the keys are made elsewhere.

use super::{
    Analyser,
    facts::{Answer, Constant, ask},
    kind::{Cell, Place, Sealed, Source},
    refusals,
    touched::Touched,
};
use crate::{
    Refusal,
    plan::{Operand, ScopePart},
    ruleset::Protected,
    template::TemplatePart,
    types::{LogicalType, Value},
};
use pgveil_config::SearchKey;

/// The scope whose index key all `search_key = "shared"` columns use.
const SHARED: &str = "platform";

/// One part of a scope, as far as the statement says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Session(String),
    /// A literal or parameter.
    Constant(Constant),
    /// The element, in the same place, of this array parameter (from 0) of this element type.
    Element(usize, LogicalType),
    /// The element, in the same place, of this literal array, in this element type.
    Listed(Vec<Option<Value>>, LogicalType),
    /// Whatever this column of the row holds.
    Cell(Cell),
}

impl Part {
    /// Calls `f` with every row variable that is named inside.
    pub(super) fn each_instance(&mut self, f: &mut dyn FnMut(&mut usize)) {
        match self {
            Self::Cell(cell) => f(&mut cell.instance),
            Self::Text(_)
            | Self::Session(_)
            | Self::Constant(_)
            | Self::Element(..)
            | Self::Listed(..) => {}
        }
    }

    /// The plan's form; `None` for a part that is known only row by row.
    fn planned(&self) -> Option<ScopePart> {
        match self {
            Self::Text(text) => Some(ScopePart::Text(text.clone())),
            Self::Session(name) => Some(ScopePart::Session(name.clone())),
            Self::Constant(constant) => Some(constant.part()),
            Self::Element(number, logical) => {
                Some(ScopePart::Element(Operand::Param(*number), *logical))
            }
            Self::Listed(values, logical) => {
                Some(ScopePart::Element(Operand::Array(values.clone()), *logical))
            }
            Self::Cell(_) => None,
        }
    }
}

/// The parts in the plan's form, if all are known before the statement runs.
pub(super) fn planned(parts: &[Part]) -> Option<Vec<ScopePart>> {
    parts.iter().map(Part::planned).collect()
}

impl Analyser<'_> {
    /// What the facts say of a row variable's column.
    pub(super) fn part_of_row(&self, instance: usize, name: &str) -> Option<Part> {
        let relation = self.instances.get(instance)?;
        let found = relation
            .columns
            .iter()
            .find(|column| column.name == *name)?;
        Some(self.part_of(Cell {
            instance,
            attnum: found.attnum,
        }))
    }

    /// What the facts say of a column.
    pub(super) fn part_of(&self, cell: Cell) -> Part {
        match ask(&self.facts, cell) {
            Answer::Constant(constant) => Part::Constant(constant),
            Answer::Cell(cell) => Part::Cell(cell),
        }
    }

    /// What a column is known to hold that is written with another. A row of an outer join without a partner has NULL there,
    /// whatever the facts say of those with one.
    pub(super) fn written_part(&self, cell: Cell) -> Part {
        if self.padded.contains(&cell.instance) {
            Part::Cell(cell)
        } else {
            self.part_of(cell)
        }
    }

    /// The same of a part that is known already.
    pub(super) fn known_part(&self, part: Part) -> Part {
        match part {
            Part::Cell(cell) => self.part_of(cell),
            part => part,
        }
    }

    fn scope_of_row(&self, column: &Protected, instance: usize) -> Option<Vec<Part>> {
        scope_parts(column, &|name| self.part_of_row(instance, name))
    }

    /// The scope of the values of a source.
    pub(super) fn value_scope(&self, source: &Source) -> Option<Vec<Part>> {
        match &source.place {
            Place::Row(instance) => self.scope_of_row(&source.column, *instance),
            Place::Made(parts) => parts.clone(),
            Place::Meant(parts) => {
                let known = parts.iter().cloned().map(|part| self.known_part(part));
                Some(known.collect())
            }
        }
    }

    /// The scope of the terms of a source.
    pub(super) fn term_scope(&self, source: &Source) -> Option<Vec<Part>> {
        match source.column.search_key {
            SearchKey::Shared => Some(vec![Part::Text(SHARED.to_owned())]),
            SearchKey::Scope => self.value_scope(source),
        }
    }

    /// The one scope of all terms of a sealed value.
    pub(super) fn terms_scope(&self, sealed: &Sealed) -> Option<Vec<Part>> {
        let mut scopes = sealed.sources.iter().map(|source| self.term_scope(source));
        let first = scopes.next()??;
        scopes
            .all(|scope| scope.as_ref() == Some(&first))
            .then_some(first)
    }

    /// The one scope of all the values of a sealed value, if it is known before the statement runs.
    pub(super) fn values_scope(&self, sealed: &Sealed) -> Option<Vec<Part>> {
        let mut scopes = sealed.sources.iter().map(|source| self.value_scope(source));
        let first = scopes.next()??;
        let same = scopes.all(|scope| scope.as_ref() == Some(&first));
        (same && planned(&first).is_some()).then_some(first)
    }

    /// The scope of a term to compare with, known before the statement runs.
    pub(super) fn pinned_scope(
        &self,
        sealed: &Sealed,
        place: &str,
    ) -> Result<Vec<ScopePart>, Refusal> {
        let parts = self.terms_scope(sealed);
        parts
            .and_then(|parts| planned(&parts))
            .ok_or_else(|| refusals::scope_not_pinned(sealed.column(), place))
    }

    /// Whether all rows that are grouped together have one scope: its columns are pinned or grouped by.
    pub(super) fn same_scope_within(&self, sealed: &Sealed, keys: &[Cell]) -> bool {
        let keys: Vec<_> = keys.iter().map(|cell| ask(&self.facts, *cell)).collect();
        self.terms_scope(sealed).is_some_and(|parts| {
            parts.iter().all(|part| match part {
                Part::Cell(cell) => keys.contains(&Answer::Cell(*cell)),
                _ => true,
            })
        })
    }

    /// Whether a value may come from elsewhere than the very column of the row that is written.
    fn is_of_another_row(&self, source: &Source, target: &Protected) -> bool {
        let Place::Row(instance) = source.place else {
            return false;
        };
        let own = |touched: &Touched| touched.instance == instance;
        let stays = source.column.id == target.id && self.touched_rows.as_ref().is_some_and(own);
        !stays && !self.is_excluded(instance)
    }

    fn is_excluded(&self, instance: usize) -> bool {
        let conflict = self.conflict.as_ref();
        conflict.is_some_and(|conflict| conflict.excluded == instance)
    }

    /// Whether a value is what stands in the column already, or what INSERT made for it: `SET email = email`,
    /// `SET email = EXCLUDED.email`.
    fn is_its_own(&self, source: &Source, target: &Protected) -> bool {
        let is_of_a_row = matches!(source.place, Place::Row(_));
        is_of_a_row && source.column.id == target.id && !self.is_of_another_row(source, target)
    }

    /// Whether sealed values may be stored in a column as they are: what they are sealed with stays right.
    pub(super) fn check_move(
        &self,
        sealed: &Sealed,
        target: &Protected,
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Result<(), Refusal> {
        let wanted = scope_parts(target, held);
        for source in &sealed.sources {
            let other = format!("column \"{}\"", source.column.name);
            let refuse = |why: &str| Err(moved(target, &other, why));
            if target.session.is_some() && self.is_of_another_row(source, target) {
                return Err(moved(target, &other, "the policy asks for values of the session's scope, and the scope of what is moved inside the server is not seen")
                    .hint("Read the value and write it again, or take session = \"must-match\" out of the policy."));
            }
            let made = match source.place {
                Place::Row(_) => false,
                Place::Made(_) => true,
                Place::Meant(_) => source.column.id != target.id,
            };
            if sealed.converted || !source.column.logical.fits_into(target.logical) {
                return refuse("the logical types differ");
            }
            if made && target.logical != target.logical.without_modifiers() {
                return refuse(
                    "a literal or parameter beside it was not made for the length or precision",
                );
            }
            // While the column is changed: the value is as old as the row, and the walk over the rows sees it, or as new as any.
            let is_its_own = self.is_its_own(source, target);
            if target.written != target.logical && !is_its_own {
                return refuse("its length or precision is being changed");
            }
            if target.terms && !source.column.equality && !is_its_own {
                return refuse("its source has no equality terms");
            }
            if target.terms && !source.column.terms_match(target) {
                return refuse("their equality terms are made differently");
            }
            if target.terms && !source.column.terms_will_match(target) {
                return refuse(
                    "their equality terms are being changed, and will be made differently",
                );
            }
            if source.column.id != target.id && source.column.reveal != target.reveal {
                return refuse("they are revealed to different roles");
            }
            if wanted.is_none() || self.value_scope(source) != wanted {
                let why = "the scopes of both rows are not known to be the same";
                return match source.place {
                    Place::Row(_) | Place::Made(_) => refuse(why),
                    Place::Meant(_) => Err(moved(target, &other, why)
                        .hint("Compare the scope's columns of both rows in ON or WHERE too.")),
                };
            }
        }
        Ok(())
    }
}

fn moved(target: &Protected, source: &str, why: &str) -> Refusal {
    Refusal::unsupported(
        "value-not-movable",
        format!("values of {source} cannot be stored in protected column \"{}\"", target.name),
    )
    .detail(format!("{}: {why}.", refusals::name_of(target)))
    .hint("Move values between columns of one type, equality_group and scope, or read and write them in the application.")
}

/// The scope of a column's value, with what each scope column holds.
pub(super) fn scope_parts(
    column: &Protected,
    held: &dyn Fn(&str) -> Option<Part>,
) -> Option<Vec<Part>> {
    let part = |part: &TemplatePart| match part {
        TemplatePart::Text(text) => Some(Part::Text(text.clone())),
        TemplatePart::Session(name) => Some(Part::Session(name.clone())),
        TemplatePart::Column(name) => held(name),
    };
    column.scope.parts.iter().map(part).collect()
}

/// The scope of a value that is written, with what each scope column of the row will hold.
pub(super) fn written_scope(
    column: &Protected,
    held: &dyn Fn(&str) -> Option<Part>,
) -> Result<Vec<ScopePart>, Refusal> {
    let parts = scope_parts(column, held);
    parts.and_then(|parts| planned(&parts)).ok_or_else(|| {
        refusals::scope_not_resolved(
            column,
            "the statement does not give every scope column as a literal or parameter",
        )
    })
}
