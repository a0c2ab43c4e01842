//! UNION over sealed columns: rows are told apart by equality terms. Literals that stand in one branch beside a sealed
//! column of another are sealed on the way. INTERSECT and EXCEPT are `difference`'s business.

use sqlparser::{
    ast::{Expr, SelectItem, SetExpr},
    tokenizer::Token as Kind_,
};

use super::{
    Analyser,
    figure::column_name,
    kind::{Kind, Sealed},
    operand::{Cast, Operand},
    query::{Rows, combine_all},
    refusals,
    term::{check_equality, eq_term},
};
use crate::{
    Refusal,
    plan::Replacement,
    text::{Tokens, quote_identifier},
    types::LogicalType,
};

/// The rows of both sides of a UNION.
const UNITED: &str = "pgveil_u";

impl Analyser<'_> {
    /// Seals literals and parameters of one side of a set operation whose column is sealed on the other side.
    pub(super) fn seal_branches(
        &mut self,
        left: (&SetExpr, &mut Rows),
        right: (&SetExpr, &mut Rows),
    ) -> Result<(), Refusal> {
        let ((left, ours), (right, theirs)) = (left, right);
        if ours.open || theirs.open || ours.columns.len() != theirs.columns.len() {
            return Ok(());
        }
        for index in 0..ours.columns.len() {
            let (a, b) = (&ours.columns[index].kind, &theirs.columns[index].kind);
            let (body, sealed, facts) = match (a, b) {
                (Kind::Sealed(sealed), Kind::Untyped) => (right, sealed.clone(), &ours.facts),
                (Kind::Untyped, Kind::Sealed(sealed)) => (left, sealed.clone(), &theirs.facts),
                _ => continue,
            };
            let operands = match self.branch_operands(body, index, &sealed)? {
                Some(operands) if std::ptr::eq(body, right) || !is_values(body) => operands,
                // The first side's literals would be text.
                Some(operands) if sealed.shown == LogicalType::Text => operands,
                _ => continue,
            };
            if let [operand] = operands.as_slice()
                && std::ptr::eq(body, left)
                && is_unnamed(body, index)
            {
                let name = listed_item(body, index).and_then(column_name);
                self.name_as_written(operand, name);
            }
            let mark = self.facts.len();
            self.facts.extend(facts.iter().cloned());
            let mut operands = operands.into_iter();
            let passed = operands.try_fold(sealed, |sealed, operand| self.pass(sealed, operand));
            self.facts.truncate(mark);
            let mut passed = passed?;
            passed.computed = true;
            let (kept, made) = match a {
                Kind::Sealed(_) => (&mut ours.columns[index], &mut theirs.columns[index]),
                _ => (&mut theirs.columns[index], &mut ours.columns[index]),
            };
            kept.kind = Kind::Sealed(passed.clone());
            made.kind = Kind::Sealed(passed);
        }
        Ok(())
    }

    /// The literals and parameters of which a branch makes a column: one of a select list, or some of VALUES.
    fn branch_operands(
        &self,
        body: &SetExpr,
        index: usize,
        sealed: &Sealed,
    ) -> Result<Option<Vec<Operand>>, Refusal> {
        if let Some(item) = listed_item(body, index) {
            return Ok(self.operand(item)?.map(|operand| vec![operand]));
        }
        if !is_values(body) {
            return Ok(None);
        }
        let cells = self.cells_of_body(body, index)?;
        Ok(cells.and_then(|cells| cells.of_type(sealed.shown)))
    }

    /// The first side names the columns, and what stands there now would give another name (`FigureColname`).
    fn name_as_written(&mut self, operand: &Operand, name: Option<String>) {
        let name = name.unwrap_or_else(|| {
            let name = match operand.cast {
                Cast::To(logical) | Cast::Read(logical) => logical.type_name(),
                Cast::None | Cast::Array(_) | Cast::Other(_) => "?column?",
            };
            name.to_owned()
        });
        let behind = self.tokens.bytes(&operand.extent).end;
        self.edits
            .close(behind, format!(" AS {}", quote_identifier(&name)));
    }

    /// `A UNION B` becomes `SELECT DISTINCT ON (u.c1, pgveil.eq_term(u.c2)) u.c1 AS a, u.c2 AS email FROM (A UNION ALL B) AS
    /// u(c1, c2)`.
    pub(super) fn unite(
        &mut self,
        left: (&SetExpr, Rows),
        right: (&SetExpr, Rows),
    ) -> Result<Rows, Refusal> {
        let ((first, ours), (second, theirs)) = (left, right);
        let start = self.tokens.body_start(first)?;
        let position = self.tokens.range(start).start;
        let refuse = |sealed: &Sealed, why: &str| {
            refusals::not_comparable(sealed.column(), "the other rows of UNION", why).at(position)
        };
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
                checked = checked
                    .and_then(|()| check_equality(a, "UNION"))
                    .and_then(|()| self.check_comparable(a, b));
            }
        }
        self.facts.truncate(mark);
        checked.map_err(|refusal: Refusal| refusal.at(position))?;
        let names: Option<Vec<String>> = ours
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let rows = combine_all(ours, theirs)?;
        let (mut keys, mut outputs, mut inner) = (Vec::new(), Vec::new(), Vec::new());
        let names = names.ok_or_else(|| {
            refusals::not_understood("The name of a column of UNION is not known").at(position)
        })?;
        for (index, (column, name)) in rows.columns.iter().zip(names).enumerate() {
            let full = format!("{UNITED}.c{}", index + 1);
            match &column.kind {
                Kind::Sealed(sealed) if sealed.converted => {
                    return Err(refuse(sealed, "it is cast to another type"));
                }
                Kind::Sealed(sealed) => keys.push(format!("{}{full})", eq_term(sealed))),
                Kind::Holder(holder) => return Err(refusals::holder(holder, "UNION").at(position)),
                Kind::Plain(_) | Kind::Untyped => keys.push(full.clone()),
            }
            outputs.push(format!("{full} AS {}", quote_identifier(&name)));
            inner.push(format!("c{}", index + 1));
        }
        let (left_end, right_start) = (
            self.tokens.body_end(first)?,
            self.tokens.body_start(second)?,
        );
        let right_end = self.tokens.body_end(second)?;
        let union = left_end..right_start;
        let well_formed = self.tokens.is_word(union.start, "union")
            && (union.len() == 1
                || (union.len() == 2 && self.tokens.is_word(union.start + 1, "distinct")));
        if !well_formed {
            return Err(refusals::not_understood("UNION is not where it should be").at(position));
        }
        self.edits.open(
            position,
            format!(
                "SELECT DISTINCT ON ({}) {} FROM (",
                keys.join(", "),
                outputs.join(", ")
            ),
        );
        let union = self.tokens.bytes(&union);
        self.edits
            .replace(union, Replacement::Text("UNION ALL".to_owned()));
        self.edits.close(
            self.tokens.range(right_end - 1).end,
            format!(") AS {UNITED}({})", inner.join(", ")),
        );
        self.note("UNION tells rows apart by equality terms.".to_owned());
        Ok(rows)
    }
}

fn is_values(body: &SetExpr) -> bool {
    matches!(body, SetExpr::Values(_))
}

/// Whether a select item has no name of its own.
fn is_unnamed(body: &SetExpr, index: usize) -> bool {
    matches!(body, SetExpr::Select(select)
        if matches!(select.projection.get(index), Some(SelectItem::UnnamedExpr(_))))
}

/// The item of a plain select list.
pub(super) fn listed_item(body: &SetExpr, index: usize) -> Option<&Expr> {
    match body {
        SetExpr::Select(select) => {
            let item = |item| match item {
                &SelectItem::UnnamedExpr(ref expr)
                | &SelectItem::ExprWithAlias { ref expr, .. } => Some(expr),
                _ => None,
            };
            let items: Option<Vec<&Expr>> = select.projection.iter().map(item).collect();
            items?.get(index).copied()
        }
        _ => None,
    }
}

impl Tokens<'_> {
    /// The first token of a branch.
    pub(super) fn body_start(&self, body: &SetExpr) -> Result<usize, Refusal> {
        match body {
            SetExpr::Select(select) => self
                .starting(select.select_token.0.span.start)
                .ok_or_else(|| refusals::not_understood("SELECT has no place in the text")),
            SetExpr::SetOperation { left, .. } => self.body_start(left),
            SetExpr::Query(query) => self.subquery_bracket(query),
            SetExpr::Values(values) => match values.rows.first() {
                Some(row) => {
                    let open = self.starting(row.opening_token.0.span.start);
                    open.and_then(|open| open.checked_sub(1))
                        .ok_or_else(|| refusals::not_understood("VALUES has no place in the text"))
                }
                None => Err(refusals::not_understood("VALUES without rows")),
            },
            _ => Err(refusals::not_understood(
                "An unusual branch of a set operation",
            )),
        }
    }

    /// The index behind a branch: what belongs to the whole follows it.
    pub(super) fn body_end(&self, body: &SetExpr) -> Result<usize, Refusal> {
        const BEHIND: [&str; 9] = [
            "union",
            "intersect",
            "except",
            "order",
            "limit",
            "offset",
            "fetch",
            "for",
            "returning",
        ];
        match body {
            SetExpr::Select(_) => {
                let mut at = self.body_start(body)? + 1;
                loop {
                    let name =
                        matches!(self.kind(at - 1), Kind_::Period) || self.is_word(at - 1, "as");
                    let ends = match self.kind(at) {
                        Kind_::RParen | Kind_::SemiColon | Kind_::EOF => true,
                        Kind_::Word(_) if !name => {
                            BEHIND.iter().any(|word| self.is_word(at, word))
                                || self.are_words(at, &["on", "conflict"])
                        }
                        _ => false,
                    };
                    if ends {
                        return Ok(at);
                    }
                    at = match self.kind(at) {
                        Kind_::LParen | Kind_::LBracket => self.behind_pair(at)?,
                        _ => at + 1,
                    };
                }
            }
            SetExpr::SetOperation { right, .. } => self.body_end(right),
            SetExpr::Query(query) => self.behind_pair(self.subquery_bracket(query)?),
            SetExpr::Values(_) => {
                let mut at = self.body_start(body)? + 1;
                while matches!(self.kind(at), Kind_::LParen) {
                    at = self.behind_pair(at)?;
                    if !matches!(self.kind(at), Kind_::Comma) {
                        break;
                    }
                    at += 1;
                }
                Ok(at)
            }
            _ => Err(refusals::not_understood(
                "An unusual branch of a set operation",
            )),
        }
    }
}
