//! Sealed values that can come from columns whose terms differ, as `COALESCE(email, phone)`, or of rows of several scopes,
//! as with `tenant_id IN (1, 2)`: what they are compared with becomes one term for each, and equals one of them. Two such
//! values have no terms in common.

use sqlparser::{ast::Expr, tokenizer::Token};

use super::{
    Analyser,
    facts::ask_among,
    kind::{Place, Sealed, Source},
    operand::Operand,
    refusals,
    scope::Part,
    term::{COMPARISON, check_equality, eq_term, is_text},
};
use crate::{Refusal, plan::Replacement, types::LogicalType};
use pgveil_config::SearchKey;

/// Terms that one operand becomes at most: of several columns, and of several scopes.
const MOST_ALTERNATIVES: usize = 64;

/// Whether equal values of both columns have equal terms, if they are of one scope.
fn are_alike(one: &Source, other: &Source) -> bool {
    let (one, other) = (&one.column, &other.column);
    one.terms_match(other)
}

/// The first two sources whose terms differ for equal values.
pub(super) fn unlike(sealed: &Sealed) -> Option<(&Source, &Source)> {
    let first = sealed.sources.first()?;
    let other = sealed.sources.iter().find(|other| !are_alike(first, other));
    other.map(|other| (first, other))
}

/// What stands between a sealed value and the operand behind it.
enum Operator {
    Equal,
    Differs,
}

impl Analyser<'_> {
    /// The same value by the columns that it can come from: values of each have terms of one kind. `None` if all have, or
    /// if they are not of one type.
    pub(super) fn alternatives(&self, sealed: &Sealed) -> Option<Vec<Sealed>> {
        let shown = sealed.shown.without_modifiers();
        let typed = |source: &Source| {
            let own = source.column.logical.without_modifiers();
            own == shown || (is_text(own) && is_text(shown))
        };
        if sealed.converted || !sealed.sources.iter().all(typed) {
            return None;
        }
        let mut found: Vec<(Option<Vec<Part>>, Sealed)> = Vec::new();
        let mut spread = false;
        let mut sources = Vec::new();
        for source in &sealed.sources {
            match self.by_scopes(source) {
                Some(several) => {
                    spread = true;
                    sources.extend(several);
                }
                None => sources.push(source.clone()),
            }
        }
        for source in &sources {
            let scope = self.term_scope(source);
            let same = found
                .iter_mut()
                .find(|(known, one)| *known == scope && are_alike(&one.sources[0], source));
            match same {
                Some((_, one)) => one.sources.push(source.clone()),
                None => found.push((
                    scope,
                    Sealed {
                        sources: vec![source.clone()],
                        ..sealed.clone()
                    },
                )),
            }
        }
        let least = if spread { 1 } else { 2 };
        let several = (least..=MOST_ALTERNATIVES).contains(&found.len());
        several.then(|| found.into_iter().map(|(_, one)| one).collect())
    }

    /// A source whose scope is one of several that the statement gives (`tenant_id IN (1, 2)`), once for each of them: terms
    /// of another scope equal none of its values.
    fn by_scopes(&self, source: &Source) -> Option<Vec<Source>> {
        if source.column.search_key != SearchKey::Scope || !matches!(source.place, Place::Row(_)) {
            return None;
        }
        let mut scopes = vec![Vec::new()];
        for part in self.term_scope(source)? {
            let parts: Vec<Part> = match &part {
                Part::Cell(cell) => ask_among(&self.facts, *cell)?
                    .iter()
                    .cloned()
                    .map(Part::Constant)
                    .collect(),
                _ => vec![part],
            };
            if scopes.len() * parts.len() > MOST_ALTERNATIVES {
                return None;
            }
            scopes = { scopes.iter() }
                .flat_map(|scope: &Vec<Part>| {
                    let with =
                        |part: &Part| [scope.as_slice(), std::slice::from_ref(part)].concat();
                    parts.iter().map(with).collect::<Vec<_>>()
                })
                .collect();
        }
        let place = |scope| Source {
            place: Place::Made(Some(scope)),
            ..source.clone()
        };
        // One scope is pinned without this.
        (scopes.len() > 1).then(|| scopes.into_iter().map(place).collect())
    }

    /// `value = operand`, `value <> operand` become `value [NOT] IN (term, term)`. `false` if something else stands
    /// between them, or terms of one kind will do.
    pub(super) fn compare_alternatives(
        &mut self,
        expr: &Expr,
        sealed: &Sealed,
        other: &Expr,
    ) -> Result<bool, Refusal> {
        let Some(alternatives) = self.alternatives(sealed) else {
            return Ok(false);
        };
        let extent = self.tokens.extent(other)?;
        let at = extent.start.saturating_sub(1);
        let operator = match self.tokens.kind(at) {
            Token::Eq => Operator::Equal,
            Token::Neq => Operator::Differs,
            _ => return Ok(false),
        };
        if self.tokens.extent(expr)?.end != at {
            return Ok(false);
        }
        let list = match operator {
            Operator::Equal => " IN (",
            Operator::Differs => " NOT IN (",
        };
        self.wrap_any_term(expr, &alternatives)?;
        let between = self.tokens.range(at);
        self.edits
            .replace(between, Replacement::Text(list.to_owned()));
        self.terms_of_each(&alternatives, other, None, ", ", Self::term)?;
        self.edits.close(self.tokens.bytes(&extent).end, ")");
        Ok(true)
    }

    /// A term for each alternative stands in the place of an operand. `make` makes one of them.
    pub(super) fn terms_of_each(
        &mut self,
        alternatives: &[Sealed],
        operand: &Expr,
        common: Option<LogicalType>,
        between: &str,
        make: fn(&mut Self, &Sealed, Operand) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let end = self.tokens.bytes(&self.tokens.extent(operand)?).end;
        let misplaced = || refusals::not_understood("A term without a place");
        for (index, alternative) in alternatives.iter().enumerate() {
            let again = self.operand(operand)?.ok_or_else(misplaced)?;
            make(self, alternative, Operand { common, ..again })?;
            if index > 0 {
                let made = self.edits.take_back().ok_or_else(misplaced)?;
                self.edits.close(end, between);
                self.edits.close_with(end, vec![made]);
            }
        }
        Ok(())
    }

    /// Puts the term function around a value that has terms of several kinds.
    pub(super) fn wrap_any_term(
        &mut self,
        expr: &Expr,
        alternatives: &[Sealed],
    ) -> Result<(), Refusal> {
        for alternative in alternatives {
            check_equality(alternative, COMPARISON)
                .map_err(|refusal| refusal.at(self.start_of(expr)))?;
        }
        let [first, others @ ..] = alternatives else {
            return Err(refusals::not_understood("A value of no column").at(self.start_of(expr)));
        };
        let number = |sealed: &Sealed| sealed.column().generation.number;
        if let Some(other) = { others.iter() }.find(|other| number(other) != number(first)) {
            let refusal = refusals::unlike(first.column(), other.column(), COMPARISON);
            return Err(refusal.at(self.start_of(expr)));
        }
        self.wrap(expr, &eq_term(first), ")")
    }
}
