//! The edits of a statement while they are collected, in any order. Does not apply them (`splice` does).

use std::ops::Range;

use crate::plan::{Edit, Replacement};

/// Which of several edits at one place comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// After what ends here.
    Close,
    /// Around what starts here.
    Open,
    /// Right before the word that starts here.
    Qualify,
    /// Instead of what starts here.
    Replace,
}

/// Edits in the order they were asked for.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Rank, Edit)>);

impl Edits {
    fn push(&mut self, rank: Rank, range: Range<usize>, with: Replacement) {
        self.0.push((rank, Edit { range, with }));
    }

    /// Puts `text` around what starts at `at`.
    pub(super) fn open(&mut self, at: usize, text: impl Into<String>) {
        self.push(Rank::Open, at..at, Replacement::Text(text.into()));
    }

    /// Puts `text` behind what ends at `at`.
    pub(super) fn close(&mut self, at: usize, text: impl Into<String>) {
        self.push(Rank::Close, at..at, Replacement::Text(text.into()));
    }

    /// Puts a qualifier before the name that starts at `at`.
    pub(super) fn qualify(&mut self, at: usize, text: impl Into<String>) {
        self.push(Rank::Qualify, at..at, Replacement::Text(text.into()));
    }

    /// Replaces what starts before an operand and wraps it: `(` becomes `pgveil.eq_term(`.
    pub(super) fn lead(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.push(Rank::Open, range, Replacement::Text(text.into()));
    }

    /// Replaces what stands behind an operand: `::text` becomes `)`.
    pub(super) fn trail(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.push(Rank::Close, range, Replacement::Text(text.into()));
    }

    /// Replaces a whole range.
    pub(super) fn replace(&mut self, range: Range<usize>, with: Replacement) {
        self.push(Rank::Replace, range, with);
    }

    /// What was asked for last, which is not put there after all.
    pub(super) fn take_back(&mut self) -> Option<Replacement> {
        self.0.pop().map(|(_, edit)| edit.with)
    }

    /// Puts a slot behind what ends at `at`.
    pub(super) fn close_slot(&mut self, at: usize, slot: usize) {
        self.push(Rank::Close, at..at, Replacement::Slot(slot));
    }

    /// What some part of the text has become so far: its own text and the edits within.
    pub(super) fn copy(&self, sql: &str, range: &Range<usize>) -> Vec<Replacement> {
        let mut copied = Vec::new();
        let mut at = range.start;
        for (rank, edit) in self.ordered() {
            let within = edit.range.start >= range.start && edit.range.end <= range.end;
            // What closes at the start or opens at the end belongs to the neighbours.
            let before = edit.range == (range.start..range.start) && rank == Rank::Close;
            let behind = edit.range == (range.end..range.end) && rank != Rank::Close;
            if !within || before || behind {
                continue;
            }
            copied.push(Replacement::Text(sql[at..edit.range.start].to_owned()));
            copied.push(match &edit.with {
                Replacement::Text(text) => Replacement::Text(text.clone()),
                Replacement::Slot(slot) => Replacement::Slot(*slot),
                Replacement::Param(param) => Replacement::Param(*param),
            });
            at = edit.range.end;
        }
        copied.push(Replacement::Text(sql[at..range.end].to_owned()));
        copied
    }

    /// Puts a copy of some text behind what ends at `at`.
    pub(super) fn close_with(&mut self, at: usize, copy: Vec<Replacement>) {
        for with in copy {
            self.push(Rank::Close, at..at, with);
        }
    }

    /// In the order of the text. Of what opens at one place the last one asked for is the outermost: an expression is
    /// analysed before what is around it.
    fn ordered(&self) -> Vec<(Rank, &Edit)> {
        let mut ordered: Vec<_> = self.0.iter().enumerate().collect();
        ordered.sort_by_key(|(number, (rank, edit))| {
            let asked = isize::try_from(*number).unwrap_or(isize::MAX);
            let order = if *rank == Rank::Open { -asked } else { asked };
            (edit.range.start, *rank, order)
        });
        ordered
            .into_iter()
            .map(|(_, (rank, edit))| (*rank, edit))
            .collect()
    }

    /// Ascending, insertions at one place joined. `None` if two overlap.
    pub(super) fn finish(self) -> Option<Vec<Edit>> {
        let mut done: Vec<Edit> = Vec::with_capacity(self.0.len());
        let ordered: Vec<Edit> = self
            .ordered()
            .into_iter()
            .map(|(_, edit)| edit.clone())
            .collect();
        for edit in ordered {
            if let (Replacement::Text(text), true) = (&edit.with, edit.range.is_empty()) {
                if text.is_empty() {
                    continue;
                }
                if let Some(Edit {
                    range,
                    with: Replacement::Text(before),
                }) = done.last_mut()
                    && range.end == edit.range.start
                {
                    before.push_str(text);
                    continue;
                }
            }
            if done
                .last()
                .is_some_and(|last| last.range.end > edit.range.start)
            {
                return None;
            }
            done.push(edit);
        }
        Some(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_edits_at_one_place() {
        let mut edits = Edits::default();
        edits.qualify(3, "a.");
        edits.open(3, "f(");
        edits.close(5, ")");
        edits.replace(5..6, Replacement::Slot(0));
        edits.close(3, "]");
        edits.open(3, "g(");
        let done = edits.finish().unwrap();
        assert_eq!(done.len(), 3);
        assert!(matches!(&done[0].with, Replacement::Text(text) if text == "]g(f(a."));
        assert!(matches!(&done[1].with, Replacement::Text(text) if text == ")"));
        assert!(matches!(&done[2].with, Replacement::Slot(0)));
    }

    #[test]
    fn copies_a_part_with_its_edits() {
        let mut edits = Edits::default();
        edits.open(2, "f(");
        edits.replace(4..5, Replacement::Slot(7));
        edits.close(5, ")");
        edits.close(2, "!");
        edits.open(5, "!");
        let copy = edits.copy("0 234 6", &(2..5));
        let text: Vec<_> = copy
            .iter()
            .map(|with| match with {
                Replacement::Text(text) => text.clone(),
                Replacement::Slot(slot) => format!("<{slot}>"),
                Replacement::Param(param) => format!("${param}"),
            })
            .collect();
        assert_eq!(text.concat(), "f(23<7>)");
    }

    #[test]
    fn never_lets_edits_overlap() {
        let mut edits = Edits::default();
        edits.replace(0..4, Replacement::Slot(0));
        edits.replace(3..5, Replacement::Slot(1));
        assert!(edits.finish().is_none());
    }
}
