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

    /// Ascending, insertions at one place joined. `None` if two overlap.
    pub(super) fn finish(mut self) -> Option<Vec<Edit>> {
        self.0.sort_by_key(|(rank, edit)| (edit.range.start, *rank));
        let mut done: Vec<Edit> = Vec::with_capacity(self.0.len());
        for (_, edit) in self.0 {
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
        let done = edits.finish().unwrap();
        assert_eq!(done.len(), 3);
        assert!(matches!(&done[0].with, Replacement::Text(text) if text == "]f(a."));
        assert!(matches!(&done[1].with, Replacement::Text(text) if text == ")"));
        assert!(matches!(&done[2].with, Replacement::Slot(0)));
    }

    #[test]
    fn never_lets_edits_overlap() {
        let mut edits = Edits::default();
        edits.replace(0..4, Replacement::Slot(0));
        edits.replace(3..5, Replacement::Slot(1));
        assert!(edits.finish().is_none());
    }
}
