//! JOIN ... USING and NATURAL JOIN. A protected column in USING turns the clause into ON, and names that the clause
//! had merged are written in full. Plain columns are left to the server.

use sqlparser::{ast::ObjectName, tokenizer::Token as Kind_};

use super::{
    Analyser,
    from::{Condition, Side, merged},
    kind::Kind,
    namespace::{Namespace, Shown, name_of},
    refusals,
    relation::idents_of,
    term::eq_term,
};
use crate::{Refusal, text::quote_identifier};

/// One column of USING on both sides.
pub(super) struct Pair {
    left: Shown,
    right: Shown,
}

impl Analyser<'_> {
    pub(super) fn join_using(
        &mut self,
        columns: &[ObjectName],
        side: Side,
        left: Namespace,
        right: Namespace,
        conditions: &mut Vec<Condition<'_>>,
    ) -> Result<Namespace, Refusal> {
        let mut pairs = Vec::new();
        let mut place = None;
        for column in columns {
            let idents = idents_of(column)?;
            let [ident] = idents.as_slice() else {
                return Err(refusals::not_understood("A qualified name in USING"));
            };
            self.account(ident);
            let at = self.tokens.starting(ident.span.start);
            let position = at.map_or(0, |at| self.tokens.range(at).start);
            place = place.or(at);
            let name = name_of(ident);
            let find = |names: &Namespace, which: &str| match names.shown(&name) {
                Ok(Some(shown)) => Ok(shown.clone()),
                Ok(None) if names.is_guessed() => {
                    Err(refusals::construct("USING with a function's column").at(position))
                }
                Ok(None) => {
                    let message = format!(
                        "column \"{name}\" specified in USING clause does not exist in {which} table"
                    );
                    Err(Refusal::new("42703", "undefined-column", message).at(position))
                }
                Err(refusal) => Err(refusal.at(position)),
            };
            pairs.push(Pair {
                left: find(&left, "left")?,
                right: find(&right, "right")?,
            });
        }
        // A column that a rewritten USING had merged is no single column any more.
        let is_rewritten = |shown: &Shown| shown.qualify || shown.kind.protected().is_some();
        if !pairs
            .iter()
            .any(|pair| is_rewritten(&pair.left) || is_rewritten(&pair.right))
        {
            return Ok(self.merge_columns(&pairs, side, left, right, false));
        }
        if side == Side::Full {
            return Err(refusals::construct("FULL JOIN USING a protected column"));
        }
        let first = place.ok_or_else(|| refusals::not_understood("An empty USING"))?;
        let names = self.merge_columns(&pairs, side, left, right, true);
        conditions.push(Condition::Using { pairs, first });
        Ok(names)
    }

    /// `USING (a, email)` becomes `ON l.a = r.a AND pgveil.eq_term(l.email) = pgveil.eq_term(r.email)`.
    pub(super) fn rewrite_using(&mut self, pairs: &[Pair], first: usize) -> Result<(), Refusal> {
        let open = first - 1;
        let position = self.tokens.range(first).start;
        let well_formed = first >= 2
            && matches!(self.tokens.kind(open), Kind_::LParen)
            && self.tokens.is_word(open - 1, "using");
        if !well_formed || self.tokens.is_word(self.tokens.behind_pair(open)?, "as") {
            return Err(
                refusals::construct("this form of USING with a protected column").at(position),
            );
        }
        let mark = self.facts.len();
        self.add_merge_facts(pairs);
        let mut conditions = Vec::new();
        for pair in pairs {
            let (l, r) = (written(&pair.left), written(&pair.right));
            let (l, r) = l
                .zip(r)
                .ok_or_else(|| refusals::construct("JOIN USING here").at(position))?;
            match (&pair.left.kind, &pair.right.kind) {
                (Kind::Holder(holder), _) | (_, Kind::Holder(holder)) => {
                    return Err(refusals::holder(holder, "JOIN USING").at(position));
                }
                (Kind::Sealed(ours), Kind::Sealed(theirs)) => {
                    self.check_comparable(ours, theirs)
                        .map_err(|refusal| refusal.at(position))?;
                    self.note(format!(
                        "JOIN USING compares the equality terms of {}.",
                        refusals::name_of(ours.column())
                    ));
                    let (ours, theirs) = (eq_term(ours), eq_term(theirs));
                    conditions.push(format!("{ours}{l}) = {theirs}{r})"));
                }
                (Kind::Sealed(sealed), Kind::Plain(_) | Kind::Untyped)
                | (Kind::Plain(_) | Kind::Untyped, Kind::Sealed(sealed)) => {
                    let why = "the other side is not protected";
                    return Err(refusals::not_comparable(
                        sealed.column(),
                        "the other table's column",
                        why,
                    )
                    .at(position));
                }
                (Kind::Plain(_) | Kind::Untyped, Kind::Plain(_) | Kind::Untyped) => {
                    conditions.push(format!("{l} = {r}"));
                }
            }
        }
        self.facts.truncate(mark);
        let tokens = open - 1..self.tokens.behind_pair(open)?;
        let range = self.tokens.bytes(&tokens);
        self.edits.replace(
            range,
            crate::plan::Replacement::Text(format!("ON {}", conditions.join(" AND "))),
        );
        Ok(())
    }

    fn add_merge_facts(&mut self, pairs: &[Pair]) {
        for pair in pairs {
            if let (Some(a), Some(b)) = (pair.left.kind.cell(), pair.right.kind.cell()) {
                self.add_same(a, b);
            }
        }
    }

    /// What is visible after the join: merged columns first.
    fn merge_columns(
        &mut self,
        pairs: &[Pair],
        side: Side,
        left: Namespace,
        right: Namespace,
        rewritten: bool,
    ) -> Namespace {
        if side == Side::Inner {
            self.add_merge_facts(pairs);
        }
        let shown = pairs.iter().map(|pair| {
            let chosen = if side == Side::Right {
                &pair.right
            } else {
                &pair.left
            };
            Shown {
                kind: merged(side, &pair.left.kind, &pair.right.kind),
                qualify: rewritten || chosen.qualify,
                coalesced: side == Side::Full || chosen.coalesced,
                ..chosen.clone()
            }
        });
        let mut names = Namespace {
            shown: shown.collect(),
            ..Namespace::default()
        };
        let merged_name = |shown: &Shown| pairs.iter().any(|pair| pair.left.name == shown.name);
        names
            .shown
            .extend(left.shown.into_iter().filter(|shown| !merged_name(shown)));
        names
            .shown
            .extend(right.shown.into_iter().filter(|shown| !merged_name(shown)));
        names.reshaped = rewritten || left.reshaped || right.reshaped;
        names.entries = left.entries;
        names.entries.extend(right.entries);
        names
    }

    pub(super) fn join_natural(
        &mut self,
        side: Side,
        left: Namespace,
        right: Namespace,
    ) -> Result<Namespace, Refusal> {
        if (left.is_guessed() || right.is_guessed()) && (left.is_sealed() || right.is_sealed()) {
            return Err(refusals::construct("NATURAL JOIN with a function"));
        }
        let entries = left.entries.iter().chain(&right.entries);
        if let Some(entry) = { entries }.find(|entry| entry.reshaped) {
            let name = entry.name.as_deref().unwrap_or_default();
            return Err(refusals::reshaped("NATURAL JOIN", name));
        }
        if left.reshaped || right.reshaped {
            return Err(refusals::construct(
                "NATURAL JOIN beside JOIN USING a protected column",
            ));
        }
        let mut pairs = Vec::new();
        for ours in &left.shown {
            let Some(name) = ours.name.as_deref() else {
                continue;
            };
            let Some(theirs) = right.shown(name)? else {
                continue;
            };
            let place = "NATURAL JOIN";
            let kinds = [&ours.kind, &theirs.kind];
            let refused = kinds.map(|kind| refusals::not_plain(kind, place));
            if let Some(refusal) = refused.into_iter().flatten().next() {
                return Err(refusal.hint("Write JOIN ... USING or JOIN ... ON."));
            }
            pairs.push(Pair {
                left: ours.clone(),
                right: theirs.clone(),
            });
        }
        Ok(self.merge_columns(&pairs, side, left, right, false))
    }
}

/// A shown column as SQL text.
pub(super) fn written(shown: &Shown) -> Option<String> {
    let entry = shown.entry.name.as_deref().filter(|_| !shown.coalesced)?;
    let column = shown.entry.columns.get(shown.column)?.name.as_deref()?;
    Some(format!(
        "{}.{}",
        quote_identifier(entry),
        quote_identifier(column)
    ))
}
