//! Equality in all its spellings: the sealed side becomes its equality term, the other side a term of the same kind.
//! What is not equality is refused elsewhere (`expr`); lists are `list`'s business.

use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query};

use super::{
    Analyser,
    branch::{Branches, gives_type},
    elements::Source,
    expr::Cx,
    facts::Fact,
    kind::{Kind, Sealed},
    operand::Operand,
    query::Rows,
    refusals,
    term::{COMPARISON, check_equality, eq_term, is_text},
};
use crate::{Refusal, types::Conversion};

/// The right side of a comparison of several columns at once.
const SUBQUERY_ALIAS: &str = "pgveil_s";

impl Analyser<'_> {
    /// `left = right` and the other operators that test equality only.
    pub(super) fn compare(&mut self, left: &Expr, right: &Expr, cx: Cx<'_>) -> Result<(), Refusal> {
        if let (Some(lefts), Some(rights)) = (row_of(left), row_of(right)) {
            return self.compare_rows(&lefts, &rights, cx);
        }
        if let (Some(members), Expr::Subquery(query)) = (row_of(left), strip(right))
            && members.len() > 1
        {
            return self.compare_query(left, query, cx);
        }
        if self.stored_terms(left, right, cx)? {
            return Ok(());
        }
        let (a, b) = (self.operand(left)?, self.operand(right)?);
        match (a, b) {
            (Some(_), Some(_)) => Ok(()),
            (Some(_), None) if self.compare_spelled(right, &[left], cx)? => Ok(()),
            (None, Some(_)) if self.compare_spelled(left, &[right], cx)? => Ok(()),
            (Some(operand), None) => self.compare_with_operand(right, (left, operand), cx),
            (None, Some(operand)) => self.compare_with_operand(left, (right, operand), cx),
            (None, None) => {
                for (one, other) in [(left, right), (right, left)] {
                    if let Some(leaves) = self.only_operands(one)? {
                        return self.compare_choice(one, &leaves, other, cx);
                    }
                }
                let a = self.comparand(left, cx)?;
                let b = self.comparand(right, cx)?;
                match (&a, &b) {
                    (Kind::Sealed(a), Kind::Sealed(b)) => {
                        self.check_with_argument((left, a), (right, b))
                            .map_err(|r| r.at(self.start_of(left)))?;
                        self.wrap_term(left, a)?;
                        self.wrap_term(right, b)
                    }
                    (Kind::Sealed(sealed), _) => self.compare_elements_of(sealed, left, right, cx),
                    (_, Kind::Sealed(sealed)) => self.compare_elements_of(sealed, right, left, cx),
                    _ => Ok(()),
                }
            }
        }
    }

    /// `email = COALESCE($1, 'x')`: every literal and parameter becomes a term.
    fn compare_choice(
        &mut self,
        choice: &Expr,
        leaves: &[&Expr],
        expr: &Expr,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let kind = self.comparand(expr, cx)?;
        self.branches(choice, cx, &mut Branches::default())?;
        let Kind::Sealed(sealed) = kind else {
            return Ok(());
        };
        self.wrap_term(expr, &sealed)?;
        let mut typed = is_text(sealed.logical());
        let mut operands = Vec::new();
        for leaf in leaves {
            if let Some(operand) = self.operand(leaf)? {
                typed |= self.operand_type(&operand)?.is_some();
                operands.push(operand);
            }
        }
        if !typed {
            // By themselves they are text.
            return Err(self.mixed(&sealed, expr, choice));
        }
        if operands.iter().any(|one| gives_type(one, sealed.logical())) {
            return Err(self.mixed(&sealed, expr, choice));
        }
        operands
            .into_iter()
            .try_for_each(|operand| self.term(&sealed, operand))
    }

    /// `email = u.x`, where `u.x` is what `unnest` takes out of an array, or a column of VALUES; `email = (SELECT 'x')`.
    fn compare_elements_of(
        &mut self,
        sealed: &Sealed,
        expr: &Expr,
        other: &Expr,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let source = match strip(other) {
            Expr::Subquery(query) => self.cells_of(query, 0)?.map(Source::Cells),
            _ => self.element_column(other, cx)?,
        };
        let Some(source) = source else {
            return Err(self.mixed(sealed, expr, other));
        };
        self.wrap_term(expr, sealed)?;
        match source {
            Source::Array(array) => self.terms(sealed, array),
            Source::Cells(cells) => self.term_cells(sealed, cells),
        }
    }

    fn compare_rows(
        &mut self,
        lefts: &[&Expr],
        rights: &[&Expr],
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        if lefts.len() != rights.len() {
            return Err(Refusal::new(
                "42601",
                "statement-not-understood",
                "unequal number of entries in row expressions",
            ));
        }
        // Where one pair differs, the others decide nothing.
        let mark = self.facts.len();
        lefts
            .iter()
            .zip(rights)
            .for_each(|(left, right)| self.collect_equality(left, right, cx));
        let compared = lefts
            .iter()
            .zip(rights)
            .try_for_each(|(left, right)| self.compare(left, right, cx));
        self.facts.truncate(mark);
        compared
    }

    fn compare_with_operand(
        &mut self,
        expr: &Expr,
        (other, operand): (&Expr, Operand),
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let Kind::Sealed(sealed) = self.comparand(expr, cx)? else {
            return Ok(());
        };
        if self.compare_alternatives(expr, &sealed, other)? {
            return Ok(());
        }
        self.wrap_term(expr, &sealed)?;
        self.term(&sealed, operand)
    }

    /// `(a, b) IN ((..), (..))`: each row of the list may pin the scope by itself.
    pub(super) fn compare_row_list(
        &mut self,
        members: &[&Expr],
        list: &[&Expr],
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let mut kinds = Vec::new();
        for member in members {
            let kind = match self.operand(member)? {
                Some(_) => Kind::Untyped,
                None => self.comparand(member, cx)?,
            };
            if let Kind::Sealed(sealed) = &kind {
                self.wrap_term(member, sealed)?;
            }
            kinds.push(kind);
        }
        for item in list {
            let row = row_of(item).filter(|row| row.len() == kinds.len());
            let row = row.ok_or_else(|| {
                refusals::not_understood("A row of another length").at(self.start_of(item))
            })?;
            let mark = self.facts.len();
            for (kind, other) in kinds.iter().zip(&row) {
                if let (Some(cell), Some(operand)) = (kind.cell(), self.operand(other)?)
                    && let Some(constant) = self
                        .column_type(cell)
                        .and_then(|t| self.constant(&operand, t, Conversion::Comparison))
                {
                    self.facts.push(Fact::Is(cell, constant));
                }
            }
            let compared =
                kinds
                    .iter()
                    .zip(members)
                    .zip(&row)
                    .try_for_each(|((kind, member), other)| {
                        self.compare_member(kind, member, other, cx)
                    });
            self.facts.truncate(mark);
            compared?;
        }
        Ok(())
    }

    fn compare_member(
        &mut self,
        kind: &Kind,
        member: &Expr,
        other: &Expr,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let operand = self.operand(other)?;
        match (kind, operand) {
            (Kind::Sealed(sealed), Some(operand)) => self.term(sealed, operand),
            (Kind::Sealed(sealed), None) => match self.comparand(other, cx)? {
                Kind::Sealed(theirs) => {
                    self.check_comparable(sealed, &theirs)
                        .map_err(|r| r.at(self.start_of(other)))?;
                    self.wrap_term(other, &theirs)
                }
                _ => Err(self.mixed(sealed, member, other)),
            },
            (_, Some(_)) => Ok(()),
            (_, None) => match self.comparand(other, cx)? {
                Kind::Sealed(theirs) => Err(self.mixed(&theirs, other, member)),
                _ => Ok(()),
            },
        }
    }

    /// `expr [NOT] IN (SELECT ...)`, `expr = ANY (SELECT ...)`.
    pub(super) fn compare_query(
        &mut self,
        expr: &Expr,
        query: &Query,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let members = row_of(expr).unwrap_or_else(|| vec![expr]);
        let mut kinds = Vec::new();
        for member in &members {
            let kind = match self.operand(member)? {
                Some(_) => Kind::Untyped,
                None => self.comparand(member, cx)?,
            };
            kinds.push(kind);
        }
        let rows = self.query(query, Some(cx.scope), cx.ctes)?;
        if let ([member], [Kind::Sealed(sealed)]) = (members.as_slice(), kinds.as_slice())
            && let Some(array) = self.elements_of(query, 0)?
        {
            self.wrap_term(member, sealed)?;
            return self.terms(sealed, array);
        }
        if rows.open || rows.columns.len() != kinds.len() {
            let sealed = kinds.iter().any(|kind| kind.protected().is_some());
            if rows.is_sealed() || sealed {
                return Err(refusals::construct(
                    "a sub-select with another number of columns",
                ));
            }
            return Ok(());
        }
        // The comparison matters only where the sub-select has rows, for which its facts hold.
        let mark = self.facts.len();
        self.facts.extend(rows.facts.iter().cloned());
        for (kind, column) in kinds.iter().zip(&rows.columns) {
            if let (Some(ours), Some(theirs)) = (kind.cell(), column.kind.cell()) {
                self.add_same(ours, theirs);
            }
        }
        let terms = self.compare_outputs(&members, &kinds, query, &rows);
        self.facts.truncate(mark);
        let terms = terms?;
        if terms.iter().any(Option::is_some) {
            let open = self.tokens.subquery_bracket(query)?;
            self.wrap_query(open, &terms)?;
        }
        Ok(())
    }

    /// Which columns of a sub-select are compared by their terms: what stands before them.
    fn compare_outputs(
        &mut self,
        members: &[&Expr],
        kinds: &[Kind],
        query: &Query,
        rows: &Rows,
    ) -> Result<Vec<Option<String>>, Refusal> {
        let mut terms = Vec::new();
        for (index, (kind, column)) in kinds.iter().zip(&rows.columns).enumerate() {
            let member = members[index];
            let position = self.start_of(member);
            match (kind, &column.kind) {
                (Kind::Holder(holder), _) | (_, Kind::Holder(holder)) => {
                    return Err(refusals::holder(holder, COMPARISON).at(position));
                }
                (Kind::Sealed(ours), Kind::Sealed(theirs)) => {
                    self.check_comparable(ours, theirs)
                        .map_err(|refusal| refusal.at(position))?;
                    self.wrap_term(member, ours)?;
                    terms.push(Some(eq_term(theirs)));
                }
                (Kind::Sealed(ours), _) => {
                    let cells = match self.cells_of(query, index)? {
                        None => self.listed_cells(query, index)?,
                        cells => cells,
                    };
                    let Some(cells) = cells else {
                        return Err(refusals::not_comparable(
                            ours.column(),
                            "a sub-select's column",
                            "that column is not protected",
                        )
                        .at(position));
                    };
                    self.wrap_term(member, ours)?;
                    self.term_cells(ours, cells)?;
                    terms.push(None);
                }
                (_, Kind::Sealed(theirs)) => {
                    let why = "the other side is not the same kind of column";
                    return Err(refusals::not_comparable(
                        theirs.column(),
                        "another expression",
                        why,
                    )
                    .at(position));
                }
                _ => terms.push(None),
            }
        }
        Ok(terms)
    }

    /// `(SELECT a, b)` becomes `(SELECT s.c1, pgveil.eq_term(s.c2) FROM (SELECT a, b) AS s(c1, c2))`.
    fn wrap_query(&mut self, open: usize, terms: &[Option<String>]) -> Result<(), Refusal> {
        let close = self.tokens.behind_pair(open)? - 1;
        let name = |index: usize| format!("c{}", index + 1);
        let column = |(index, term): (usize, &Option<String>)| {
            let column = format!("{SUBQUERY_ALIAS}.{}", name(index));
            match term {
                Some(term) => format!("{term}{column})"),
                None => column,
            }
        };
        let columns: Vec<_> = terms.iter().enumerate().map(column).collect();
        let names: Vec<_> = (0..terms.len()).map(name).collect();
        self.edits.open(
            self.tokens.range(open + 1).start,
            format!("SELECT {} FROM (", columns.join(", ")),
        );
        self.edits.close(
            self.tokens.range(close - 1).end,
            format!(") AS {SUBQUERY_ALIAS}({})", names.join(", ")),
        );
        Ok(())
    }

    pub(super) fn mixed(&self, sealed: &Sealed, expr: &Expr, other: &Expr) -> Refusal {
        if let Err(refusal) = check_equality(sealed, COMPARISON) {
            return refusal.at(self.start_of(expr));
        }
        self.want_argument(other, sealed);
        let name = match strip(other) {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let extent = self.tokens.extent(strip(other)).unwrap_or(0..0);
                format!("column {}", &self.tokens.sql[self.tokens.bytes(&extent)])
            }
            _ => "an expression".to_owned(),
        };
        refusals::not_comparable(sealed.column(), &name, "the other side is not protected")
            .at(self.start_of(expr))
    }
}

/// What is under brackets.
pub(super) fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => strip(inner),
        _ => expr,
    }
}

/// The members of `(a, b)` or `ROW(a, b)`.
pub(super) fn row_of(expr: &Expr) -> Option<Vec<&Expr>> {
    match strip(expr) {
        Expr::Tuple(members) => Some(members.iter().collect()),
        Expr::Function(function)
            if function.over.is_none()
                && function.filter.is_none()
                && function.name.to_string().eq_ignore_ascii_case("row") =>
        {
            let FunctionArguments::List(list) = &function.args else {
                return None;
            };
            let member = |arg| match arg {
                &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref member)) => Some(member),
                _ => None,
            };
            list.args.iter().map(member).collect()
        }
        _ => None,
    }
}
