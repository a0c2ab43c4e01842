//! GROUP BY and DISTINCT over sealed values: rows are told apart by equality terms, and one value of each group is shown.

use std::ops::Range;

use sqlparser::{
    ast::{Expr, GroupByExpr, SelectItem, Value as Constant},
    tokenizer::Token,
};

use super::{
    Analyser,
    compare::strip,
    decided::grouped_cells,
    expr::Cx,
    kind::{Cell, Kind, Sealed},
    namespace::{Reference, name_of},
    passing::repeatable,
    refusals,
    term::{check_equality, eq_term},
};
use crate::{Refusal, plan::Replacement, text::quote_identifier};

/// The aggregate that yields one of a group's values.
pub(super) const ANY_VALUE: &str = "pgveil.any_value(";

/// What the rows of a SELECT are grouped by.
#[derive(Default)]
pub(super) struct Grouping {
    /// Plain columns that are the same in all rows of a group.
    pub(super) cells: Vec<Cell>,
    /// Sealed columns, grouped by their terms.
    sealed: Vec<(usize, usize)>,
    /// Select items that are no columns, and the bytes of the key that means them by number or alias.
    items: Vec<(*const Expr, Range<usize>)>,
    /// Keys that choose among sealed values, and the items that such keys mean.
    expressions: Vec<Expr>,
    /// ROLLUP, CUBE or GROUPING SETS: a key is NULL in some groups.
    pub(super) sets: bool,
}

impl Grouping {
    /// Whether this select item, which is no column, is grouped by.
    pub(super) fn holds_item(&self, item: &Expr) -> bool {
        self.items.iter().any(|(held, _)| std::ptr::eq(*held, item)) || self.holds_expression(item)
    }

    /// Whether this is a key that chooses among sealed values.
    pub(super) fn holds_expression(&self, expr: &Expr) -> bool {
        self.expressions.iter().any(|held| held == strip(expr))
    }

    /// Whether this column is grouped by its term.
    pub(super) fn holds(&self, reference: &Reference) -> bool {
        reference
            .identity
            .is_some_and(|identity| self.sealed.contains(&identity))
    }
}

impl Analyser<'_> {
    /// Analyses GROUP BY. `None` if there is none.
    pub(super) fn grouping(
        &mut self,
        group_by: &GroupByExpr,
        projection: &[SelectItem],
        cx: Cx<'_>,
    ) -> Result<Option<Grouping>, Refusal> {
        let GroupByExpr::Expressions(keys, modifiers) = group_by else {
            return Err(refusals::construct("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(refusals::construct("this form of GROUP BY"));
        }
        if keys.is_empty() {
            return Ok(None);
        }
        let mut grouping = Grouping::default();
        let cells = grouped_cells(keys, projection, cx);
        let mut sealed_keys: Vec<(Sealed, usize)> = Vec::new();
        for (key, in_set) in members(keys) {
            let position = self.start_of(key);
            grouping.sets |= in_set;
            if let Ok(Some(reference)) = key_reference(key, projection, cx)
                && let Some(instead) = self.instead_of_decided(&reference, &cells, cx)
            {
                let extent = self.tokens.extent(key)?;
                self.account_tokens(extent.clone());
                let bytes = self.tokens.bytes(&extent);
                self.edits.replace(bytes, Replacement::Text(instead));
                if let Kind::Sealed(sealed) = &reference.kind {
                    self.note(format!(
                        "GROUP BY needs no terms of {}: the primary key decides it.",
                        refusals::name_of(sealed.column())
                    ));
                }
                continue;
            }
            match self
                .group_key(key, projection, cx, &mut grouping)
                .map_err(|refusal| refusal.at(position))?
            {
                Kind::Sealed(sealed) => {
                    match key_reference(key, projection, cx)? {
                        Some(reference) => grouping.sealed.extend(reference.identity),
                        None => grouping.expressions.push(strip(key).clone()),
                    }
                    sealed_keys.push((sealed, position));
                }
                Kind::Plain(cell) if !in_set => grouping.cells.extend(cell),
                Kind::Holder(holder) => {
                    return Err(refusals::holder(&holder, "GROUP BY").at(position));
                }
                Kind::Plain(_) | Kind::Untyped => {}
            }
        }
        for (sealed, position) in sealed_keys {
            self.check_group(&sealed, &grouping)
                .map_err(|refusal| refusal.at(position))?;
        }
        Ok(Some(grouping))
    }

    fn check_group(&mut self, sealed: &Sealed, grouping: &Grouping) -> Result<(), Refusal> {
        check_equality(sealed, "GROUP BY")?;
        if !self.same_scope_within(sealed, &grouping.cells) {
            return Err(refusals::scope_not_pinned(sealed.column(), "GROUP BY"));
        }
        self.note(format!(
            "GROUP BY groups by the equality terms of {}.",
            refusals::name_of(sealed.column())
        ));
        Ok(())
    }

    fn group_key(
        &mut self,
        key: &Expr,
        projection: &[SelectItem],
        cx: Cx<'_>,
        grouping: &mut Grouping,
    ) -> Result<Kind, Refusal> {
        let meant = key_expression(key, projection, cx);
        let named_elsewhere = !std::ptr::eq(meant, key);
        if !named_elsewhere && is_ordinal(key) {
            if cx.scope.names.is_sealed() {
                return Err(refusals::construct("GROUP BY a number beside *"));
            }
            return Ok(Kind::Untyped);
        }
        if !named_elsewhere {
            let kind = self.comparand(key, cx)?;
            if let Kind::Sealed(sealed) = &kind {
                let column = key_reference(key, projection, cx)?.is_some();
                if !column && !repeatable(key) {
                    return Err(refusals::not_supported(sealed.column(), "this GROUP BY"));
                }
                self.wrap(key, &eq_term(sealed), ")")?;
            }
            return Ok(kind);
        }
        if let Expr::Identifier(ident) = strip(key) {
            self.account(ident);
        }
        let extent = self.tokens.extent(key)?;
        let bytes = self.tokens.bytes(&extent);
        let Some(reference) = key_reference(key, projection, cx)? else {
            // A computed select item: analysed where it stands.
            grouping.items.push((meant, bytes));
            return Ok(Kind::Untyped);
        };
        if let Kind::Sealed(sealed) = &reference.kind {
            let text = written_reference(&reference)
                .ok_or_else(|| refusals::construct("GROUP BY here"))?;
            let term = format!("{}{text})", eq_term(sealed));
            self.edits.replace(bytes, Replacement::Text(term));
        }
        Ok(reference.kind)
    }

    /// A select item that the rows are grouped by, and that is no column: one of the group's values is shown. A key that
    /// means it by number or alias becomes the item's term.
    pub(super) fn grouped_item(
        &mut self,
        expr: &Expr,
        sealed: &Sealed,
        grouping: &Grouping,
    ) -> Result<(), Refusal> {
        let refuse = |place| Err(refusals::not_supported(sealed.column(), place));
        // Of groups without the key the value is NULL, and which those are is told by the key's text.
        if grouping.sets || !repeatable(expr) {
            return refuse("GROUP BY over an expression");
        }
        self.check_group(sealed, grouping)?;
        let range = self.tokens.bytes(&self.tokens.extent(expr)?);
        let again = self.edits.copy(self.tokens.sql, &range);
        for (_, key) in grouping
            .items
            .iter()
            .filter(|(held, _)| std::ptr::eq(*held, expr))
        {
            self.edits
                .replace(key.clone(), Replacement::Text(eq_term(sealed)));
            self.edits.close_with(key.end, again.clone());
            self.edits.close(key.end, ")");
        }
        self.edits.open(range.start, ANY_VALUE);
        self.edits.close(range.end, ")");
        Ok(())
    }

    /// Puts the aggregate around a column that is grouped by its term: one of the group's values is shown.
    pub(super) fn any_of_group(
        &mut self,
        column: &Expr,
        sealed: &Sealed,
        grouping: &Grouping,
    ) -> Result<(), Refusal> {
        let range = self.tokens.bytes(&self.tokens.extent(column)?);
        let (mut before, mut behind) = (ANY_VALUE.to_owned(), ")");
        if grouping.sets {
            let again = self.edits.copy(self.tokens.sql, &range);
            let again: String = again
                .iter()
                .filter_map(|with| match with {
                    Replacement::Text(text) => Some(text.as_str()),
                    Replacement::Slot(_) | Replacement::Param(_) => None,
                })
                .collect();
            let term = eq_term(sealed);
            before = format!("CASE WHEN GROUPING({term}{again})) = 0 THEN {ANY_VALUE}");
            behind = ") END";
        }
        self.edits.open(range.start, before);
        self.edits.close(range.end, behind);
        Ok(())
    }

    /// `SELECT DISTINCT a, email` becomes `SELECT DISTINCT ON (1, pgveil.eq_term(email)) a, email`.
    pub(super) fn distinct(
        &mut self,
        select_token: usize,
        outputs: &[Output],
    ) -> Result<(), Refusal> {
        let cells: Vec<Cell> = outputs
            .iter()
            .filter_map(|output| output.kind.cell())
            .collect();
        let mut keys = Vec::new();
        for (index, output) in outputs.iter().enumerate() {
            let sealed = match &output.kind {
                Kind::Sealed(sealed) => sealed,
                Kind::Holder(holder) => return Err(refusals::holder(holder, "DISTINCT")),
                Kind::Plain(_) | Kind::Untyped => {
                    keys.push(vec![Replacement::Text((index + 1).to_string())]);
                    continue;
                }
            };
            if self.is_decided(sealed, &cells) {
                self.note(format!(
                    "DISTINCT needs no terms of {}: the primary key decides it.",
                    refusals::name_of(sealed.column())
                ));
                continue;
            }
            check_equality(sealed, "DISTINCT")?;
            if !self.same_scope_within(sealed, &cells) {
                return Err(refusals::scope_not_pinned(sealed.column(), "DISTINCT"));
            }
            keys.push(distinct_key(output, sealed, "DISTINCT over an expression")?);
            self.note(format!(
                "DISTINCT tells rows apart by the equality terms of {}.",
                refusals::name_of(sealed.column())
            ));
        }
        let distinct = select_token + 1;
        if !matches!(self.tokens.kind(distinct), Token::Word(_))
            || !self.tokens.is_word(distinct, "distinct")
        {
            return Err(refusals::not_understood(
                "DISTINCT is not where it should be",
            ));
        }
        let at = self.tokens.range(distinct).end;
        for (index, key) in keys.into_iter().enumerate() {
            self.edits
                .close(at, if index == 0 { " ON (" } else { ", " });
            self.edits.close_with(at, key);
        }
        self.edits.close(at, ")");
        Ok(())
    }

    /// `DISTINCT ON (email, 2)`: keys that are sealed become their terms.
    pub(super) fn distinct_on(
        &mut self,
        keys: &[Expr],
        outputs: &[Output],
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        const PLACE: &str = "DISTINCT ON";
        let (mut cells, mut sealed_keys) = (Vec::new(), Vec::new());
        for key in keys {
            let position = self.start_of(key);
            let named = output_of(key, outputs);
            if let (Some(_), Expr::Identifier(ident)) = (named, strip(key)) {
                self.account(ident);
            }
            match named {
                Some(output) => match &output.kind {
                    Kind::Sealed(sealed) => {
                        let term = distinct_key(output, sealed, PLACE)
                            .map_err(|refusal| refusal.at(position))?;
                        let bytes = self.tokens.bytes(&self.tokens.extent(key)?);
                        self.edits
                            .replace(bytes.clone(), Replacement::Text(String::new()));
                        self.edits.close_with(bytes.end, term);
                        sealed_keys.push((sealed.clone(), position));
                    }
                    Kind::Holder(holder) => {
                        return Err(refusals::holder(holder, PLACE).at(position));
                    }
                    Kind::Plain(cell) => cells.extend(*cell),
                    Kind::Untyped => {}
                },
                None => match self.expr(key, cx)? {
                    Kind::Sealed(sealed) => {
                        self.wrap_term(key, &sealed)?;
                        sealed_keys.push((sealed, position));
                    }
                    Kind::Holder(holder) => {
                        return Err(refusals::holder(&holder, PLACE).at(position));
                    }
                    Kind::Plain(cell) => cells.extend(cell),
                    Kind::Untyped => {}
                },
            }
        }
        for (sealed, position) in sealed_keys {
            check_equality(&sealed, PLACE).map_err(|refusal| refusal.at(position))?;
            if !self.same_scope_within(&sealed, &cells) {
                return Err(refusals::scope_not_pinned(sealed.column(), PLACE).at(position));
            }
        }
        Ok(())
    }
}

/// The term of a select item, as a key of DISTINCT.
fn distinct_key(
    output: &Output,
    sealed: &Sealed,
    place: &str,
) -> Result<Vec<Replacement>, Refusal> {
    let written = output
        .written
        .clone()
        .ok_or_else(|| refusals::not_supported(sealed.column(), place))?;
    let mut key = vec![Replacement::Text(eq_term(sealed))];
    key.extend(written);
    key.push(Replacement::Text(")".to_owned()));
    Ok(key)
}

/// The single keys of GROUP BY, and whether they are of ROLLUP, CUBE or GROUPING SETS.
pub(super) fn members(keys: &[Expr]) -> impl Iterator<Item = (&Expr, bool)> {
    keys.iter().flat_map(|key| match key {
        Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) => {
            sets.iter().flatten().map(|key| (key, true)).collect()
        }
        Expr::Tuple(members) => members.iter().map(|key| (key, false)).collect::<Vec<_>>(),
        key => vec![(key, false)],
    })
}

/// The output column that a DISTINCT ON key names.
fn output_of<'o>(key: &Expr, outputs: &'o [Output]) -> Option<&'o Output> {
    match strip(key) {
        Expr::Identifier(ident) => {
            let name = name_of(ident);
            outputs
                .iter()
                .find(|output| output.name.as_deref() == Some(&name))
        }
        Expr::Value(value) => match &value.value {
            Constant::Number(number, _) => {
                let index = number.parse::<usize>().ok()?.checked_sub(1)?;
                outputs.get(index)
            }
            _ => None,
        },
        _ => None,
    }
}

/// A column of a SELECT's result.
pub(super) struct Output {
    /// Its name, if pgveil knows it.
    pub(super) name: Option<String>,
    /// What it holds.
    pub(super) kind: Kind,
    /// For a sealed value: what it can be written as once more; a column's reference in full.
    pub(super) written: Option<Vec<Replacement>>,
}

/// `customers.email`
pub(super) fn written_reference(reference: &Reference) -> Option<String> {
    let entry = reference.entry.as_deref()?;
    Some(format!(
        "{}.{}",
        quote_identifier(entry),
        quote_identifier(&reference.name)
    ))
}

/// What a key stands for: PostgreSQL prefers FROM's columns to aliases.
fn key_expression<'e>(key: &'e Expr, projection: &'e [SelectItem], cx: Cx<'_>) -> &'e Expr {
    match strip(key) {
        Expr::Identifier(ident) => {
            let name = name_of(ident);
            if matches!(cx.scope.names.shown(&name), Ok(None)) {
                let aliased = projection.iter().find_map(|item| match item {
                    SelectItem::ExprWithAlias { expr, alias } if name_of(alias) == name => {
                        Some(expr)
                    }
                    _ => None,
                });
                return aliased.unwrap_or(key);
            }
            key
        }
        Expr::Value(value) => {
            let Constant::Number(number, _) = &value.value else {
                return key;
            };
            let index = number
                .parse::<usize>()
                .ok()
                .and_then(|number| number.checked_sub(1));
            let listed = projection.iter().all(|item| {
                matches!(
                    item,
                    SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }
                )
            });
            match index
                .and_then(|index| projection.get(index))
                .filter(|_| listed)
            {
                Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => {
                    expr
                }
                _ => key,
            }
        }
        _ => key,
    }
}

fn is_ordinal(key: &Expr) -> bool {
    matches!(strip(key), Expr::Value(value) if matches!(value.value, Constant::Number(..)))
}

/// The column that a key means: by its own name, or by a select item's alias or number.
pub(super) fn key_reference(
    key: &Expr,
    projection: &[SelectItem],
    cx: Cx<'_>,
) -> Result<Option<Reference>, Refusal> {
    let idents = match strip(key_expression(key, projection, cx)) {
        Expr::Identifier(ident) => std::slice::from_ref(ident),
        Expr::CompoundIdentifier(idents) => idents.as_slice(),
        _ => return Ok(None),
    };
    cx.scope.find(idents).map(Some)
}
