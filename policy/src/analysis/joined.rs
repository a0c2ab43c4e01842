//! `first_name || ' ' || last_name` and its like in the select list of the whole statement: the server sends a row of the
//! columns, and what they make is made where they are opened (`types::computed`). Only what is shown: what the
//! statement does anything else with is refused elsewhere.

use std::ops::Range;

use sqlparser::ast::{BinaryOperator, Expr, FunctionArguments, TrimWhereField};
use zeroize::Zeroizing;

use super::{
    Analyser,
    branch::coalesced,
    compare::strip,
    expr::Cx,
    fetched::Made,
    from::unnamed,
    group::Grouping,
    holder::Holder,
    kind::Kind,
    namespace::Column,
    operand::{Cast, What},
    term::{is_text, uncast},
};
use crate::{
    Refusal,
    plan::Replacement,
    types::{LogicalType, TextExpression, TextFunction},
};

/// Columns that one such expression is made of at most.
const MOST: usize = 32;

/// A column in the expression.
pub(super) struct Leaf<'e> {
    pub(super) column: &'e Expr,
    pub(super) sealed: bool,
}

/// A part of the expression, and whether PostgreSQL takes it for a text without looking at what stands beside it.
struct Part {
    expression: TextExpression,
    is_text: bool,
}

impl Part {
    fn text(expression: TextExpression) -> Self {
        Self {
            expression,
            is_text: true,
        }
    }

    fn is_literal(&self) -> bool {
        matches!(self.expression, TextExpression::Given(Some(_)))
    }
}

impl Analyser<'_> {
    /// Such an item: what it is. `None`: it is something else.
    pub(super) fn joined_item(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Option<Kind>, Refusal> {
        // A key of GROUP BY must stay to the letter.
        let is_key = |grouping: &Grouping| grouping.holds_item(expr);
        if !self.shown || self.stored || cx.grouping.is_some_and(is_key) {
            return Ok(None);
        }
        let expr = strip(expr);
        let mut leaves = Vec::new();
        let Some(Part { expression, .. }) = self.text_of_columns(expr, &mut leaves, cx)? else {
            return Ok(None);
        };
        let shown = match &expression {
            TextExpression::Given(_) | TextExpression::Param(_) => None,
            // Of sealed values alone the server can choose.
            TextExpression::First(_) if leaves.iter().all(|leaf| leaf.sealed) => None,
            TextExpression::First(_) => self.type_of_first(expr, cx)?,
            _ => Some(LogicalType::Text),
        };
        let Some(shown) = shown else {
            return Ok(None);
        };
        if leaves.len() > MOST || !leaves.iter().any(|leaf| leaf.sealed) {
            return Ok(None);
        }
        let mut fields = Vec::new();
        let mut extents = Vec::new();
        for leaf in &leaves {
            extents.push((self.tokens.extent(leaf.column)?, leaf.sealed));
            fields.push(Column {
                name: None,
                kind: self.value(leaf.column, cx)?,
            });
        }
        let outer = self.tokens.extent(expr)?;
        self.write_row(&outer, &extents);
        self.note("Texts are joined where they are opened.".to_owned());
        Holder::row(fields).map(|row| Some(Kind::Holder(row.shown_as(expression, shown))))
    }

    /// The type of COALESCE: that of the first argument that has one. `None` where it has a length.
    fn type_of_first(&self, expr: &Expr, cx: Cx<'_>) -> Result<Option<LogicalType>, Refusal> {
        let Expr::Function(function) = expr else {
            return Ok(None);
        };
        let mut types = Vec::new();
        for arg in coalesced(function).unwrap_or_default() {
            types.push(match self.operand(arg)? {
                Some(operand) => match operand.cast {
                    Cast::To(logical) => Some(logical),
                    _ => None,
                },
                None => Some(self.type_of_part(strip(arg), cx)?),
            });
        }
        let first = types.iter().flatten().next().copied();
        let same = types.iter().all(|one| *one == first);
        Ok(first
            .map(|first| (first, first.without_modifiers()))
            .filter(|(first, bare)| !same || first == bare)
            .map(|(_, bare)| bare))
    }

    fn type_of_part(&self, expr: &Expr, cx: Cx<'_>) -> Result<LogicalType, Refusal> {
        if let Expr::Cast { expr: inner, .. } = expr
            && let Cast::To(to) = self.cast_target(expr, inner)?
        {
            return Ok(to);
        }
        let idents = match expr {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => return Ok(LogicalType::Text),
        };
        let found = cx.scope.find(idents)?.kind;
        Ok(match &found {
            Kind::Sealed(sealed) => sealed.shown,
            Kind::Plain(Some(cell)) => self.column_type(*cell).unwrap_or(LogicalType::Text),
            Kind::Plain(None) | Kind::Untyped | Kind::Holder(_) => LogicalType::Text,
        })
    }

    /// Leaves the columns in the text, as the fields of a row.
    fn write_row(&mut self, outer: &Range<usize>, leaves: &[(Range<usize>, bool)]) {
        let start = self.tokens.range(outer.start).start;
        let (mut at, mut behind, mut text) = (outer.start, start, "ROW(");
        for (extent, sealed) in leaves {
            self.write_before(at..extent.start, behind, text);
            at = extent.end;
            behind = self.tokens.range(at - 1).end;
            text = if *sealed { ", " } else { "::text, " };
        }
        let last = text.trim_end_matches(", ").to_owned() + ")";
        self.write_before(at..outer.end, behind, &last);
    }

    /// In the place of these tokens, which begin at a byte; there may be none.
    fn write_before(&mut self, tokens: Range<usize>, start: usize, text: &str) {
        if let Some(last) = tokens.clone().last() {
            let end = self.tokens.range(last).end;
            self.edits
                .replace(start..end, Replacement::Text(text.to_owned()));
        } else if text == "ROW(" {
            self.edits.open(start, text);
        } else {
            self.edits.close(start, text);
        }
        self.account_tokens(tokens);
    }

    /// A text that is more than one column.
    pub(super) fn text_of_leaves<'e>(
        &self,
        expr: &'e Expr,
        leaves: &mut Vec<Leaf<'e>>,
        cx: Cx<'_>,
    ) -> Result<Option<TextExpression>, Refusal> {
        let part = self.text_of_columns(expr, leaves, cx)?;
        let expression = part.map(|part| part.expression);
        Ok(expression.filter(|expression| {
            !matches!(
                expression,
                TextExpression::Given(_) | TextExpression::Param(_)
            )
        }))
    }

    fn text_of_columns<'e>(
        &self,
        expr: &'e Expr,
        leaves: &mut Vec<Leaf<'e>>,
        cx: Cx<'_>,
    ) -> Result<Option<Part>, Refusal> {
        if let Some(operand) = self.operand(expr)? {
            let is_text = matches!(operand.cast, Cast::None | Cast::To(LogicalType::Text));
            return Ok(match operand.what {
                What::Literal(literal) if is_text && literal.logical.is_none() => Some(Part {
                    expression: TextExpression::Given(Some(Zeroizing::new(literal.text))),
                    is_text: operand.cast != Cast::None,
                }),
                What::Null
                | What::Literal(_)
                | What::Param(..)
                | What::Applied { .. }
                | What::Asked(_) => None,
            });
        }
        if let Some((part, text)) = self.part_of_text(expr)? {
            return self.made_of(part, text, leaves, cx);
        }
        match expr {
            Expr::Nested(inner) => self.text_of_columns(inner, leaves, cx),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::StringConcat,
                right,
            } => {
                let Some(left) = self.text_of_columns(left, leaves, cx)? else {
                    return Ok(None);
                };
                let Some(right) = self.text_of_columns(right, leaves, cx)? else {
                    return Ok(None);
                };
                // `1 || 2` is no text.
                let is_text = [&left, &right]
                    .iter()
                    .any(|part| part.is_text || part.is_literal());
                let parts = vec![left.expression, right.expression];
                Ok(is_text.then(|| Part::text(TextExpression::Joined(parts))))
            }
            Expr::Trim {
                expr,
                trim_where,
                trim_what: None,
                trim_characters: None,
            } => {
                let function = TextFunction::Trim {
                    leading: !matches!(trim_where, Some(TrimWhereField::Trailing)),
                    trailing: !matches!(trim_where, Some(TrimWhereField::Leading)),
                    characters: Zeroizing::new(" ".to_owned()),
                };
                self.made_of(function, expr, leaves, cx)
            }
            Expr::Function(function) => {
                if let Some(args) = coalesced(function) {
                    let parts = self.all_joined(&args, leaves, cx)?;
                    let parts = parts.filter(|parts| {
                        let text = |part: &Part| part.is_text || part.is_literal();
                        parts.iter().all(text) && parts.iter().any(|part| part.is_text)
                    });
                    return Ok(parts.map(|parts| Part::text(TextExpression::First(bare(parts)))));
                }
                let (Some(name), FunctionArguments::List(list)) =
                    (self.plain_call(function), &function.args)
                else {
                    return Ok(None);
                };
                let Some(args) = unnamed(&list.args) else {
                    return Ok(None);
                };
                match (name.as_str(), args.as_slice()) {
                    ("concat", [_, ..]) => {
                        let parts = self.all_joined(&args, leaves, cx)?;
                        let none = TextExpression::Given(Some(Zeroizing::default()));
                        Ok(parts.map(|parts| listed(none, parts)))
                    }
                    ("concat_ws", [separator, args @ ..]) if !args.is_empty() => {
                        let Some(separator) = self.text_of(separator)? else {
                            return Ok(None);
                        };
                        let parts = self.all_joined(args, leaves, cx)?;
                        let separator = TextExpression::Given(Some(separator));
                        Ok(parts.map(|parts| listed(separator, parts)))
                    }
                    ("replace", [text, from, to]) => {
                        match (self.text_of(from)?, self.text_of(to)?) {
                            (Some(from), Some(to)) => {
                                let function = TextFunction::Replace { from, to };
                                self.made_of(function, text, leaves, cx)
                            }
                            _ => Ok(None),
                        }
                    }
                    _ => self.server_leaf(expr, leaves, cx),
                }
            }
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Cast { .. } => {
                self.leaf(expr, leaves, cx)
            }
            _ => Ok(None),
        }
    }

    fn all_joined<'e>(
        &self,
        exprs: &[&'e Expr],
        leaves: &mut Vec<Leaf<'e>>,
        cx: Cx<'_>,
    ) -> Result<Option<Vec<Part>>, Refusal> {
        let parts = exprs
            .iter()
            .map(|expr| self.text_of_columns(expr, leaves, cx));
        parts.collect()
    }

    fn made_of<'e>(
        &self,
        function: TextFunction,
        expr: &'e Expr,
        leaves: &mut Vec<Leaf<'e>>,
        cx: Cx<'_>,
    ) -> Result<Option<Part>, Refusal> {
        let part = self.text_of_columns(expr, leaves, cx)?;
        let part = part.filter(|part| part.is_text);
        Ok(part.map(|part| Part::text(TextExpression::Made(function, Box::new(part.expression)))))
    }

    /// A text that the server makes of a plain column.
    fn server_leaf<'e>(
        &self,
        expr: &'e Expr,
        leaves: &mut Vec<Leaf<'e>>,
        cx: Cx<'_>,
    ) -> Result<Option<Part>, Refusal> {
        if !matches!(
            self.server_value(expr, cx)?,
            Some(Made::Of(LogicalType::Text))
        ) {
            return Ok(None);
        }
        leaves.push(Leaf {
            column: expr,
            sealed: false,
        });
        let leaf = TextExpression::Param(leaves.len() - 1);
        Ok(Some(Part::text(leaf)))
    }

    /// A column: a protected text, or one of which the server makes a text.
    fn leaf<'e>(
        &self,
        expr: &'e Expr,
        leaves: &mut Vec<Leaf<'e>>,
        cx: Cx<'_>,
    ) -> Result<Option<Part>, Refusal> {
        use LogicalType::{Int2, Int4, Int8, Numeric, Text, Uuid, Varchar};
        let column = uncast(expr);
        let idents = match column {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => return Ok(None),
        };
        let cast = match expr {
            Expr::Cast { expr: inner, .. } if std::ptr::eq(strip(inner), column) => {
                match self.cast_target(expr, inner)? {
                    Cast::To(Text | Varchar(None)) => true,
                    _ => return Ok(None),
                }
            }
            Expr::Cast { .. } => return Ok(None),
            _ => false,
        };
        let Ok(found) = cx.scope.find(idents) else {
            return Ok(None);
        };
        let (sealed, is_text) = match &found.kind {
            Kind::Sealed(sealed) if is_text(sealed.logical()) && sealed.is_as_stored() => {
                (true, true)
            }
            Kind::Plain(_) if cast => (false, true),
            Kind::Plain(Some(cell)) => match self.column_type(*cell) {
                Some(Text | Varchar(_)) => (false, true),
                // As text they are what `concat` and `||` make of them.
                Some(Int2 | Int4 | Int8 | Numeric(_) | Uuid) => (false, false),
                _ => return Ok(None),
            },
            Kind::Plain(None) | Kind::Untyped | Kind::Sealed(_) | Kind::Holder(_) => {
                return Ok(None);
            }
        };
        leaves.push(Leaf { column, sealed });
        Ok(Some(Part {
            expression: TextExpression::Param(leaves.len() - 1),
            is_text,
        }))
    }
}

fn bare(parts: Vec<Part>) -> Vec<TextExpression> {
    parts.into_iter().map(|part| part.expression).collect()
}

fn listed(separator: TextExpression, parts: Vec<Part>) -> Part {
    Part::text(TextExpression::Listed(Box::new(separator), bare(parts)))
}
