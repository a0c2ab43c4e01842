//! `x IN (a, b)` and `CASE x WHEN a WHEN b`: which type PostgreSQL gives to the values of a list, and the terms that they
//! become. Rows in lists are `compare`'s business.

use std::ops::ControlFlow;

use sqlparser::{
    ast::{Expr, Visit, Visitor},
    tokenizer::Token,
};

use super::{
    Analyser,
    compare::row_of,
    expr::Cx,
    kind::{Kind, Sealed},
    operand::{Cast, Operand, unusable},
    refusals,
};
use crate::{
    Refusal,
    plan::Replacement,
    types::{LogicalType, has_operator, is_implicit},
};

/// How the values of a list are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// IN: as one array, where there are several values.
    In,
    /// `CASE x WHEN a`: one by one.
    Case,
}

impl Analyser<'_> {
    /// `expr [NOT] IN (list)`, `CASE expr WHEN ...`.
    pub(super) fn compare_list(
        &mut self,
        expr: &Expr,
        list: &[&Expr],
        how: List,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        if let Some(members) = row_of(expr) {
            return self.compare_row_list(&members, list, cx);
        }
        if let Some(operand) = self.operand(expr)? {
            return self.compare_with_each(expr, operand, list, how, cx);
        }
        if how == List::In && self.compare_spelled(expr, list, cx)? {
            return Ok(());
        }
        let Kind::Sealed(sealed) = self.comparand(expr, cx)? else {
            for item in list {
                if let Kind::Sealed(other) = self.comparand(item, cx)? {
                    return Err(self.mixed(&other, item, expr));
                }
            }
            return Ok(());
        };
        let ours = self.type_of(expr, &sealed)?;
        let (mut operands, mut values) = (Vec::new(), Vec::new());
        for item in list {
            match self.operand(item)? {
                Some(operand) => {
                    values.push(self.type_among(&operand).ok().flatten());
                    operands.push((operand, *item));
                }
                None => match self.comparand(item, cx)? {
                    Kind::Sealed(other) => {
                        self.check_comparable(&sealed, &other)
                            .map_err(|r| r.at(self.start_of(item)))?;
                        if !names_columns(item) {
                            values.push(Some(self.type_of(item, &other)?));
                        }
                        self.wrap_term(item, &other)?;
                    }
                    _ => return Err(self.mixed(&sealed, expr, item)),
                },
            }
        }
        let several = how == List::In && values.len() > 1;
        let types = std::iter::once(Some(ours)).chain(values);
        let common = several.then(|| common_type(types)).flatten();
        let common = common.filter(|common| !matches!(common, LogicalType::Array(_)));
        if let (List::In, Some(alternatives)) = (how, self.alternatives(&sealed)) {
            self.wrap_any_term(expr, &alternatives)?;
            return operands.into_iter().try_for_each(|(_, item)| {
                self.terms_of_each(&alternatives, item, common, ", ", Self::term)
            });
        }
        self.wrap_term(expr, &sealed)?;
        for (operand, _) in operands {
            self.term(&sealed, Operand { common, ..operand })?;
        }
        Ok(())
    }

    /// `'x' IN (email, phone)`, `CASE 'x' WHEN email THEN ...`: one term, if it is the same for all.
    fn compare_with_each(
        &mut self,
        expr: &Expr,
        operand: Operand,
        list: &[&Expr],
        how: List,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let mut columns: Vec<(Sealed, &Expr)> = Vec::new();
        let mut others = Vec::new();
        let mut plain = None;
        for item in list {
            if let Some(operand) = self.operand(item)? {
                others.push((operand, item));
                continue;
            }
            match self.comparand(item, cx)? {
                Kind::Sealed(sealed) => {
                    self.wrap_term(item, &sealed)?;
                    columns.push((sealed, item));
                }
                Kind::Plain(_) | Kind::Untyped | Kind::Holder(_) => plain = Some(item),
            }
        }
        let Some(((sealed, item), further)) = columns.split_first() else {
            return Ok(());
        };
        let mut alike = Ok(());
        for (other, item) in further {
            alike = alike.and_then(|()| {
                self.check_comparable(sealed, other)
                    .map_err(|refusal| refusal.at(self.start_of(item)))
            });
        }
        if alike.is_err() && how == List::In && plain.is_none() && others.is_empty() {
            return self.term_for_each(expr, &columns);
        }
        alike?;
        if let Some(other) = plain {
            return Err(self.mixed(sealed, item, other));
        }
        // Among several literals a list has a type of its own.
        if how == List::In
            && let Some((_, other)) = others.first()
        {
            return Err(self.mixed(sealed, item, other));
        }
        let as_text = |operand: Operand| Operand {
            common: operand
                .common
                .or((how == List::Case).then_some(LogicalType::Text)),
            ..operand
        };
        // CASE knows no type of a literal but its own.
        let typed = self
            .operand_type(&operand)
            .map_err(|refusal| refusal.at(self.start_of(expr)))?;
        let operand = match typed {
            None => as_text(operand),
            Some(_) => operand,
        };
        if typed.is_some() && !others.is_empty() {
            let place = "CASE of a literal with a type of its own";
            return Err(refusals::not_supported(sealed.column(), place).at(self.start_of(expr)));
        }
        self.check_common(sealed, &operand)?;
        self.term(sealed, operand)?;
        for (operand, _) in others {
            if self.operand_type(&operand)?.is_some() {
                let place = "CASE of a literal with a type of its own";
                return Err(refusals::not_supported(sealed.column(), place));
            }
            self.term(sealed, as_text(operand))?;
        }
        Ok(())
    }

    /// `'x' IN (email, phone)`, where each column has terms of its own, becomes `(term = pgveil.eq_term(email) OR term =
    /// pgveil.eq_term(phone))`.
    fn term_for_each(&mut self, expr: &Expr, columns: &[(Sealed, &Expr)]) -> Result<(), Refusal> {
        let misplaced = || refusals::not_understood("IN is not where it should be");
        let tokens = self.tokens;
        let operand = tokens.extent(expr)?;
        let negated = tokens.is_word(operand.end, "not");
        let open = operand.end + 1 + usize::from(negated);
        let mut extents = Vec::new();
        for (_, item) in columns {
            extents.push(tokens.extent(item)?);
        }
        let follows = |pair: &[std::ops::Range<usize>]| {
            matches!(tokens.kind(pair[0].end), Token::Comma) && pair[0].end + 1 == pair[1].start
        };
        let (Some(first), Some(last)) = (extents.first(), extents.last()) else {
            return Err(misplaced());
        };
        let well_formed = tokens.is_word(open - 1, "in")
            && matches!(tokens.kind(open), Token::LParen)
            && first.start == open + 1
            && matches!(tokens.kind(last.end), Token::RParen)
            && extents.windows(2).all(follows);
        if !well_formed {
            return Err(misplaced().at(self.start_of(expr)));
        }
        let start = tokens.range(operand.start).start;
        let end = tokens.range(last.end).end;
        let mut place = operand.clone();
        for ((sealed, _), extent) in columns.iter().zip(&extents) {
            let again = self.operand(expr)?.ok_or_else(misplaced)?;
            if place.start != operand.start {
                self.edits.open(tokens.range(place.start).start, " OR ");
                self.edits.close(tokens.range(place.start).end, " = ");
            }
            let at_place = Operand {
                extent: place,
                ..again
            };
            self.term(sealed, at_place)?;
            place = extent.end..extent.end + 1;
        }
        let lead = tokens.bytes(&(operand.end..first.start));
        self.edits.replace(lead, Replacement::Text("= ".to_owned()));
        self.edits.open(start, if negated { "(NOT (" } else { "(" });
        if negated {
            self.edits.close(end, ")");
        }
        Ok(())
    }

    /// What PostgreSQL says that the type of a sealed expression is, its casts included.
    pub(super) fn type_of(&self, expr: &Expr, sealed: &Sealed) -> Result<LogicalType, Refusal> {
        match expr {
            Expr::Nested(inner) => self.type_of(inner, sealed),
            Expr::Cast { expr: inner, .. } => Ok(match self.cast_target(expr, inner)? {
                Cast::To(logical) => logical.without_modifiers(),
                Cast::None | Cast::Read(_) | Cast::Array(_) | Cast::Other(_) => {
                    sealed.shown.without_modifiers()
                }
            }),
            _ => Ok(sealed.shown.without_modifiers()),
        }
    }

    /// Refuses values whose common type has no `=` with the column, as the server does.
    pub(super) fn check_common(&self, sealed: &Sealed, operand: &Operand) -> Result<(), Refusal> {
        let column = sealed.shown.without_modifiers();
        match operand.common {
            Some(common) if !has_operator(common, column) => {
                let at = self.tokens.range(operand.extent.start).start;
                Err(refusals::no_operator(&column.sql_name(), &common.sql_name()).at(at))
            }
            _ => Ok(()),
        }
    }

    /// The type of a parameter's value where a list or an array gives all its values a common type: what it is compared
    /// as must mean the same.
    pub(super) fn given_among(
        param: usize,
        operand: &Operand,
        given: Option<LogicalType>,
        column: LogicalType,
    ) -> Result<Option<LogicalType>, Refusal> {
        use LogicalType::{Bpchar, Float4, Float8, Varchar};
        let (Some(common), Some(own)) = (operand.common, given.map(LogicalType::without_modifiers))
        else {
            return Ok(given.or(operand.common));
        };
        let is_float = |logical| matches!(logical, Float4 | Float8);
        if own == common || keeps_meaning(own, common) {
            return Ok(given);
        }
        match (own, common) {
            // It becomes `char(n)`, whose blanks do not count. What the client declared is still what it sees.
            (own, Bpchar(_)) if own.is_string() && operand.cast == Cast::None => Ok(Some(common)),
            // `char(n) = varchar` is a comparison as `char(n)` with or without a list.
            (Varchar(_), Bpchar(_)) => Ok(given),
            (_, Float8) if is_float(column) => Ok(given),
            // Strings without blanks that count; the conversion refuses what could mean several.
            (Bpchar(_), _) => Ok(given),
            _ => {
                let why = "the other values of its list or array give it another type";
                Err(unusable(param, why))
            }
        }
    }
}

/// Whether a value of one type is equal to the same values after an implicit cast to the other.
fn keeps_meaning(own: LogicalType, common: LogicalType) -> bool {
    use LogicalType::*;
    matches!(
        (own, common),
        (Int2, Int4 | Int8 | Numeric(_))
            | (Int4, Int8 | Numeric(_))
            | (Int8, Numeric(_))
            | (Float4, Float8)
            | (Text | Varchar(_), Text | Varchar(_))
            | (Cidr, Inet)
            | (Date, Timestamp(_))
    )
}

/// The type that PostgreSQL finds for several values (`select_common_type`), without modifiers; `None` in the list is a
/// literal or parameter without a type. `None` if it finds none.
pub(super) fn common_type(
    types: impl IntoIterator<Item = Option<LogicalType>>,
) -> Option<LogicalType> {
    let types: Vec<LogicalType> = types
        .into_iter()
        .flatten()
        .map(LogicalType::without_modifiers)
        .collect();
    let mut types_left = types.iter().copied();
    let Some(mut common) = types_left.next() else {
        return Some(LogicalType::Text);
    };
    for other in types_left {
        if other != common
            && !is_preferred(common)
            && is_implicit(common, other)
            && !is_implicit(other, common)
        {
            common = other;
        }
    }
    let fits = |own: &LogicalType| *own == common || is_implicit(*own, common);
    types.iter().all(fits).then_some(common)
}

/// `pg_type.typispreferred`
fn is_preferred(logical: LogicalType) -> bool {
    use LogicalType::*;
    matches!(
        logical,
        Text | Float8 | Timestamptz(_) | Inet | Bool | Interval(..)
    )
}

/// Whether columns are named in an expression, outside of its sub-selects.
fn names_columns(expr: &Expr) -> bool {
    #[derive(Default)]
    struct Names {
        queries: usize,
    }
    impl Visitor for Names {
        type Break = ();

        fn pre_visit_query(&mut self, _: &sqlparser::ast::Query) -> ControlFlow<()> {
            self.queries += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &sqlparser::ast::Query) -> ControlFlow<()> {
            self.queries -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) if self.queries == 0 => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Names::default()).is_break()
}

#[cfg(test)]
mod tests {
    use super::{LogicalType::*, common_type};

    #[test]
    fn finds_the_type_that_select_common_type_finds() {
        let of = |types: &[_]| common_type(types.iter().copied());
        assert_eq!(of(&[None, None]), Some(Text));
        assert_eq!(of(&[Some(Varchar(Some(9))), None]), Some(Varchar(None)));
        assert_eq!(of(&[Some(Varchar(None)), Some(Text)]), Some(Varchar(None)));
        assert_eq!(of(&[Some(Text), Some(Varchar(None))]), Some(Text));
        assert_eq!(of(&[Some(Bpchar(None)), Some(Text)]), Some(Bpchar(None)));
        assert_eq!(of(&[Some(Int4), None, Some(Int8), Some(Int2)]), Some(Int8));
        assert_eq!(of(&[Some(Int4), Some(Numeric(None))]), Some(Numeric(None)));
        assert_eq!(of(&[Some(Float4), Some(Int8)]), Some(Float4));
        assert_eq!(
            of(&[Some(Date), Some(Timestamp(None))]),
            Some(Timestamp(None))
        );
        assert_eq!(of(&[Some(Cidr), Some(Inet), None]), Some(Inet));
        assert_eq!(of(&[Some(Int4), Some(Text)]), None);
        assert_eq!(of(&[Some(Date), Some(Time(None))]), None);
    }
}
