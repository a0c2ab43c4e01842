//! INTERSECT and EXCEPT over sealed columns: rows of both sides are counted by their equality terms, and as many of the
//! first side's rows are kept as the operation asks for. UNION is `setop`'s business.

use sqlparser::ast::{SetExpr, SetOperator};

use super::{
    Analyser,
    kind::{Kind, Sealed},
    query::{Rows, combine_all},
    refusals,
    setop::listed_item,
    term::{check_equality, eq_term},
};
use crate::{Refusal, plan::Replacement, text::quote_identifier};

/// One side's rows.
const SIDE: &str = "pgveil_s";
/// The rows of both sides; `r` tells those of the second.
const BOTH: &str = "pgveil_u";
/// The same, numbered (`i`) among the equal rows of their side, with the number (`n`) of equal rows of the second side.
const COUNTED: &str = "pgveil_n";

/// INTERSECT or EXCEPT, with or without ALL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matching {
    op: SetOperator,
    all: bool,
}

impl Matching {
    /// `None` for UNION and for what PostgreSQL does not know.
    pub(super) fn of(op: SetOperator, all: bool) -> Option<Self> {
        matches!(op, SetOperator::Intersect | SetOperator::Except).then_some(Self { op, all })
    }

    fn name(self) -> &'static str {
        match self.op {
            SetOperator::Intersect => "INTERSECT",
            _ => "EXCEPT",
        }
    }

    /// Which of the first side's rows it keeps.
    fn keeps(self) -> &'static str {
        match (self.op, self.all) {
            (SetOperator::Intersect, false) => "i = 1 AND n > 0",
            (SetOperator::Intersect, true) => "i <= n",
            (_, false) => "i = 1 AND n = 0",
            (_, true) => "i > n",
        }
    }
}

impl Analyser<'_> {
    /// `A EXCEPT B` becomes a selection of A's rows out of `(SELECT s.*, false FROM (A) s UNION ALL SELECT s.*, true FROM
    /// (B) s)`, where window functions count equal rows.
    pub(super) fn matched(
        &mut self,
        matching: Matching,
        left: (&SetExpr, Rows),
        right: (&SetExpr, Rows),
    ) -> Result<Rows, Refusal> {
        let ((first, ours), (second, theirs)) = (left, right);
        let start = self.tokens.body_start(first)?;
        let position = self.tokens.range(start).start;
        self.check_matched(matching, (first, &ours), (second, &theirs))
            .map_err(|refusal| refusal.at(position))?;
        let names: Option<Vec<String>> = ours
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let names = names.ok_or_else(|| {
            let what = format!("The name of a column of {} is not known", matching.name());
            refusals::not_understood(&what).at(position)
        })?;
        let mut rows = combine_all(ours.clone(), theirs)?;
        for (column, own) in rows.columns.iter_mut().zip(ours.columns) {
            // Only rows of the first side come out.
            if let (Kind::Sealed(sealed), Kind::Sealed(own)) = (&mut column.kind, own.kind) {
                sealed.sources = own.sources;
            }
        }
        let (mut keys, mut outputs, mut inner) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (column, name)) in rows.columns.iter().zip(names).enumerate() {
            let own = format!("c{}", index + 1);
            keys.push(match &column.kind {
                Kind::Sealed(sealed) => format!("{}{BOTH}.{own})", eq_term(sealed)),
                Kind::Holder(holder) => {
                    return Err(refusals::holder(holder, matching.name()).at(position));
                }
                Kind::Plain(_) | Kind::Untyped => format!("{BOTH}.{own}"),
            });
            outputs.push(format!("{COUNTED}.{own} AS {}", quote_identifier(&name)));
            inner.push(own);
        }
        let (left_end, right_start) = (
            self.tokens.body_end(first)?,
            self.tokens.body_start(second)?,
        );
        let right_end = self.tokens.body_end(second)?;
        let word = matching.name().to_ascii_lowercase();
        let quantified = if matching.all {
            self.tokens.are_words(left_end, &[&word, "all"])
        } else {
            self.tokens.is_word(left_end, &word)
                && (right_start == left_end + 1 || self.tokens.is_word(left_end + 1, "distinct"))
        };
        if !quantified || right_start > left_end + 2 {
            let what = format!("{} is not where it should be", matching.name());
            return Err(refusals::not_understood(&what).at(position));
        }
        let (keys, outputs, inner) = (keys.join(", "), outputs.join(", "), inner.join(", "));
        self.edits.open(
            position,
            format!(
                "SELECT {outputs} FROM (SELECT {BOTH}.*, \
                 pg_catalog.row_number() OVER (PARTITION BY {keys}, {BOTH}.r) AS i, \
                 pg_catalog.count(*) FILTER (WHERE {BOTH}.r) OVER (PARTITION BY {keys}) AS n \
                 FROM (SELECT {SIDE}.*, false FROM ("
            ),
        );
        self.edits.replace(
            self.tokens.bytes(&(left_end..right_start)),
            Replacement::Text(format!(
                ") AS {SIDE} UNION ALL SELECT {SIDE}.*, true FROM ("
            )),
        );
        self.edits.close(
            self.tokens.range(right_end - 1).end,
            format!(
                ") AS {SIDE}) AS {BOTH}({inner}, r)) AS {COUNTED} WHERE NOT r AND {}",
                matching.keeps()
            ),
        );
        self.note(format!(
            "{} tells rows apart by equality terms.",
            matching.name()
        ));
        Ok(rows)
    }

    fn check_matched(
        &mut self,
        matching: Matching,
        left: (&SetExpr, &Rows),
        right: (&SetExpr, &Rows),
    ) -> Result<(), Refusal> {
        let ((first, ours), (second, theirs)) = (left, right);
        let mark = self.facts.len();
        self.facts.extend(ours.facts.iter().cloned());
        self.facts.extend(theirs.facts.iter().cloned());
        // Rows that differ in one column are told apart by it, whatever the others' terms are.
        for (a, b) in ours.columns.iter().zip(&theirs.columns) {
            if let (Some(a), Some(b)) = (a.kind.cell(), b.kind.cell()) {
                self.add_same(a, b);
            }
        }
        let mut checked = Ok(());
        for (a, b) in ours.columns.iter().zip(&theirs.columns) {
            if let (Kind::Sealed(a), Kind::Sealed(b)) = (&a.kind, &b.kind) {
                checked = checked.and_then(|()| self.check_sides(matching, a, b));
            }
        }
        self.facts.truncate(mark);
        checked?;
        for index in 0..ours.columns.len() {
            let known =
                self.is_typed(first, ours, index)? == self.is_typed(second, theirs, index)?;
            let sealed = ours.columns[index].kind.protected().is_some();
            if !known && !sealed {
                let what = format!(
                    "{} of a literal whose type the other side tells",
                    matching.name()
                );
                return Err(refusals::construct(&what).hint("Cast the literal."));
            }
        }
        Ok(())
    }

    fn check_sides(&self, matching: Matching, a: &Sealed, b: &Sealed) -> Result<(), Refusal> {
        check_equality(a, matching.name())?;
        check_equality(b, matching.name())?;
        self.check_comparable(a, b)
    }

    /// Whether the type of a side's column is known without the other side.
    fn is_typed(&self, body: &SetExpr, rows: &Rows, index: usize) -> Result<bool, Refusal> {
        // A literal of VALUES is text by itself.
        let values = matches!(body, SetExpr::Values(_));
        if values || !matches!(rows.columns[index].kind, Kind::Untyped) {
            return Ok(true);
        }
        let Some(operand) = listed_item(body, index)
            .map(|item| self.operand(item))
            .transpose()?
            .flatten()
        else {
            return Ok(false);
        };
        // A type that is none of pgveil's is a type too.
        Ok(!matches!(self.operand_type(&operand), Ok(None)))
    }
}
