//! GROUP BY and DISTINCT over sealed columns: rows are told apart by equality terms, and one value of each group is shown.

use sqlparser::{
    ast::{Expr, GroupByExpr, SelectItem, Value as Constant},
    tokenizer::Token,
};

use super::{
    Analyser,
    compare::strip,
    expr::Cx,
    kind::{Cell, Kind, Sealed},
    namespace::{Reference, name_of},
    refusals,
    term::{EQ_TERM, check_equality},
};
use crate::{Refusal, plan::Replacement, text::quote_identifier};

/// The aggregate that yields one of a group's values.
pub(super) const ANY_VALUE: &str = "pgveil.any_value(";

/// What the rows of a SELECT are grouped by.
#[derive(Default)]
pub(super) struct Grouping {
    /// Plain columns.
    pub(super) cells: Vec<Cell>,
    /// Sealed columns, grouped by their terms.
    sealed: Vec<(usize, usize)>,
    /// Select items that are no columns: the very expressions.
    computed: Vec<*const Expr>,
}

impl Grouping {
    /// Whether this select item, which is no column, is grouped by.
    pub(super) fn holds_item(&self, item: &Expr) -> bool {
        self.computed.iter().any(|held| std::ptr::eq(*held, item))
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
        let mut sealed_keys: Vec<(Sealed, usize)> = Vec::new();
        for key in keys {
            let position = self.start_of(key);
            match self
                .group_key(key, projection, cx, &mut grouping)
                .map_err(|refusal| refusal.at(position))?
            {
                Kind::Sealed(sealed) => {
                    let reference = key_reference(key, projection, cx)?;
                    grouping
                        .sealed
                        .extend(reference.and_then(|reference| reference.identity));
                    sealed_keys.push((sealed, position));
                }
                Kind::Plain(cell) => grouping.cells.extend(cell),
                Kind::Holder(holder) => {
                    return Err(refusals::holder(&holder, "GROUP BY").at(position));
                }
                Kind::Untyped => {}
            }
        }
        for (sealed, position) in sealed_keys {
            check_equality(&sealed, "GROUP BY").map_err(|refusal| refusal.at(position))?;
            if !self.same_scope_within(&sealed, &grouping.cells) {
                return Err(refusals::scope_not_pinned(sealed.column(), "GROUP BY").at(position));
            }
            self.note(format!(
                "GROUP BY groups by the equality terms of {}.",
                refusals::name_of(sealed.column())
            ));
        }
        Ok(Some(grouping))
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
            let kind = self.expr(key, cx)?;
            if let Kind::Sealed(sealed) = &kind {
                if key_reference(key, projection, cx)?.is_none() {
                    return Err(refusals::not_supported(sealed.column(), "this GROUP BY"));
                }
                self.wrap(key, EQ_TERM, ")")?;
            }
            return Ok(kind);
        }
        if let Expr::Identifier(ident) = strip(key) {
            self.account(ident);
        }
        let Some(reference) = key_reference(key, projection, cx)? else {
            // A computed select item: analysed, and refused if need be, where it stands.
            grouping.computed.push(meant);
            return Ok(Kind::Untyped);
        };
        if let Kind::Sealed(_) = &reference.kind {
            let text = written_reference(&reference)
                .ok_or_else(|| refusals::construct("GROUP BY here"))?;
            let extent = self.tokens.extent(key)?;
            let term = format!("{EQ_TERM}{text})");
            self.edits
                .replace(self.tokens.bytes(&extent), Replacement::Text(term));
        }
        Ok(reference.kind)
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
                    keys.push((index + 1).to_string());
                    continue;
                }
            };
            check_equality(sealed, "DISTINCT")?;
            if !self.same_scope_within(sealed, &cells) {
                return Err(refusals::scope_not_pinned(sealed.column(), "DISTINCT"));
            }
            let text = output.written.as_deref();
            let text = text.ok_or_else(|| {
                refusals::not_supported(sealed.column(), "DISTINCT over an expression")
            })?;
            keys.push(format!("{EQ_TERM}{text})"));
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
        self.edits.close(
            self.tokens.range(distinct).end,
            format!(" ON ({})", keys.join(", ")),
        );
        Ok(())
    }
}

/// A column of a SELECT's result.
pub(super) struct Output {
    /// Its name, if pgveil knows it.
    pub(super) name: Option<String>,
    /// What it holds.
    pub(super) kind: Kind,
    /// For a sealed column: the reference, written in full.
    pub(super) written: Option<String>,
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
fn key_reference(
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
