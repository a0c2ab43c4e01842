//! `= ANY (array)`, `<> ALL (array)`: the array becomes an array of equality terms.

use std::ops::Range;

use sqlparser::ast::{CastKind, Expr};

use super::{
    Analyser,
    compare::strip,
    expr::Cx,
    kind::{Kind, Sealed},
    list::common_type,
    operand::{Cast, Operand, What},
    refusals,
    term::{COMPARISON, check_equality, is_text},
};
use crate::{
    Refusal,
    plan::{self, Make, Replacement},
    types::LogicalType,
};

impl Analyser<'_> {
    /// `expr = ANY (array)`, `expr <> ALL (array)`.
    pub(super) fn compare_array(
        &mut self,
        expr: &Expr,
        array: &Expr,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        if let Expr::Subquery(query) = array {
            return self.compare_query(expr, query, cx);
        }
        if self.compare_spelled_array(expr, array, cx)?
            || self.compare_with_elements(expr, array, cx)?
        {
            return Ok(());
        }
        let kind = match self.operand(expr)? {
            Some(_) => Kind::Untyped,
            None => self.comparand(expr, cx)?,
        };
        let Kind::Sealed(sealed) = kind else {
            return match self.expr(array, cx)? {
                Kind::Sealed(other) => Err(self.mixed(&other, array, expr)),
                Kind::Holder(holder) => {
                    Err(refusals::holder(&holder, COMPARISON).at(self.start_of(array)))
                }
                Kind::Plain(_) | Kind::Untyped => Ok(()),
            };
        };
        if let LogicalType::Array(_) = sealed.logical() {
            let place = "a comparison with the elements of an array";
            return Err(refusals::not_supported(sealed.column(), place).at(self.start_of(expr)));
        }
        let alternatives = self.alternatives(&sealed);
        match &alternatives {
            Some(alternatives) => self.wrap_any_term(expr, alternatives)?,
            None => self.wrap_term(expr, &sealed)?,
        }
        let constructor = match strip(array) {
            Expr::Cast { expr: inner, .. } => strip(inner),
            inner => inner,
        };
        if let Expr::Array(constructor) = constructor
            && !constructor.elem.is_empty()
        {
            return self.compare_elements(&sealed, array, &constructor.elem);
        }
        if let (Some((operand, pieces)), None) = (self.split_text(array)?, &alternatives)
            && is_text(sealed.logical())
        {
            let at = self.start_of(array);
            let scope = self
                .pinned_scope(&sealed, COMPARISON)
                .map_err(|refusal| refusal.at(at))?;
            let column = sealed.column().clone();
            return self.slot(Make::EqualityTerms, pieces, &column, scope, &operand);
        }
        match (self.operand(array)?, alternatives) {
            (Some(_), Some(alternatives)) => {
                self.terms_of_each(&alternatives, array, None, " || ", Self::terms)
            }
            (Some(operand), None) => self.terms(&sealed, operand),
            (None, _) => Err(self.mixed(&sealed, expr, array)),
        }
    }

    /// `$1 = ANY (ARRAY[email, other_email])`: one term, if it is the same for all of these columns. `false` if something else
    /// stands there.
    fn compare_with_elements(
        &mut self,
        expr: &Expr,
        array: &Expr,
        cx: Cx<'_>,
    ) -> Result<bool, Refusal> {
        let Expr::Array(constructor) = strip(array) else {
            return Ok(false);
        };
        let columns = constructor.elem.iter().map(|item| sealed_column(item, cx));
        let columns: Option<Vec<LogicalType>> = columns.collect();
        let Some([first, others @ ..]) = columns.as_deref() else {
            return Ok(false);
        };
        // Of several types the array has a type of its own; of arrays it has more dimensions.
        if matches!(first, LogicalType::Array(_)) || others.iter().any(|other| other != first) {
            return Ok(false);
        }
        let Some(operand) = self
            .operand(expr)?
            .filter(|_| !self.stored && !self.in_body)
        else {
            return Ok(false);
        };
        let mut compared: Option<Sealed> = None;
        for item in &constructor.elem {
            let Kind::Sealed(sealed) = self.comparand(item, cx)? else {
                return Err(refusals::not_understood("An element that is no column"));
            };
            if let Some(first) = &compared {
                self.check_comparable(first, &sealed)
                    .map_err(|refusal| refusal.at(self.start_of(item)))?;
            }
            self.wrap_term(item, &sealed)?;
            compared.get_or_insert(sealed);
        }
        if let Some(first) = compared {
            self.term(&first, operand)?;
        }
        Ok(true)
    }

    /// `ARRAY[a, b]::text[]`: element by element.
    fn compare_elements(
        &mut self,
        sealed: &Sealed,
        array: &Expr,
        elements: &[Expr],
    ) -> Result<(), Refusal> {
        let cast = self.array_cast(array)?;
        let alternatives = self.alternatives(sealed);
        let (mut operands, mut types) = (Vec::new(), Vec::new());
        for element in elements {
            let operand = self.operand(element)?;
            let operand = operand.ok_or_else(|| self.mixed(sealed, array, element))?;
            types.push(self.type_among(&operand).ok().flatten());
            operands.push((operand, element));
        }
        let common = match cast.clone().map(|range| self.named_type(range)) {
            // The cast is each element's own.
            Some(Cast::Array(element)) => types
                .iter()
                .all(Option::is_none)
                .then(|| element.without_modifiers()),
            Some(_) => None,
            None => common_type(types),
        };
        for (operand, element) in operands {
            let operand = Operand { common, ..operand };
            self.check_common(sealed, &operand)?;
            match &alternatives {
                Some(alternatives) => {
                    self.terms_of_each(alternatives, element, common, ", ", Self::term)?;
                }
                None => self.term(sealed, operand)?,
            }
        }
        let outer = self.tokens.extent(array)?;
        let inner = self.elements_extent(elements)?;
        let ends = |at: usize| self.tokens.range(at - 1).end;
        if let Some(range) = cast {
            let bare = sealed.logical().without_modifiers();
            match self.named_type(range.clone()) {
                Cast::Array(element) if element.comparable_with(bare) => {}
                _ => {
                    return Err(refusals::not_comparable(
                        sealed.column(),
                        "an array of another type",
                        "the types differ",
                    )
                    .at(self.start_of(array)));
                }
            }
            let lead = self.tokens.range(outer.start).start..self.tokens.range(inner.start).start;
            let trail = ends(inner.end)..ends(outer.end);
            self.edits.lead(lead, "");
            self.edits.trail(trail, "::bytea[]");
        } else {
            self.edits.close(ends(inner.end), "::bytea[]");
        }
        Ok(())
    }

    /// The tokens of the type that an array is cast to.
    fn array_cast(&self, array: &Expr) -> Result<Option<Range<usize>>, Refusal> {
        let Expr::Cast { kind, expr, .. } = strip(array) else {
            return Ok(None);
        };
        let inner = self.tokens.extent(expr)?;
        Ok(Some(match kind {
            CastKind::DoubleColon => self.tokens.cast_type(&inner)?,
            _ => inner.end + 1..self.tokens.extent(strip(array))?.end - 1,
        }))
    }

    /// `ARRAY[...]` itself, given its elements.
    fn elements_extent(&self, elements: &[Expr]) -> Result<Range<usize>, Refusal> {
        let open = self.tokens.extent(&elements[0])?.start.saturating_sub(1);
        Ok(open.saturating_sub(1)..self.tokens.behind_pair(open)?)
    }

    /// Turns an array operand into an array of equality terms.
    pub(super) fn terms(&mut self, sealed: &Sealed, operand: Operand) -> Result<(), Refusal> {
        let at = self.tokens.range(operand.extent.start).start;
        check_equality(sealed, COMPARISON).map_err(|refusal| refusal.at(at))?;
        let column = sealed.column().clone();
        let bare = column.logical.operand();
        let what = match &operand.what {
            What::Null => {
                self.replace_operand(&operand, Replacement::Text("NULL::bytea[]".to_owned()));
                return Ok(());
            }
            What::Param(number, _) => plan::Operand::Param(*number),
            What::Applied { .. } | What::Asked(_) => {
                return Err(refusals::construct("an expression as an array").at(at));
            }
            What::Literal(literal)
                if matches!(literal.logical, None | Some(LogicalType::Array(_))) =>
            {
                let own = self.element_type(&operand);
                let element = match &operand.cast {
                    Cast::None if own.is_none_or(|own| own.comparable_with(bare)) => bare,
                    Cast::Array(element)
                        if element.without_modifiers() == *element
                            && element.comparable_with(bare) =>
                    {
                        bare
                    }
                    _ => {
                        return Err(refusals::not_comparable(
                            &column,
                            "an array of another type",
                            "the types differ",
                        )
                        .at(at));
                    }
                };
                let values = element.array_input(literal.text.as_bytes(), &self.view.format);
                plan::Operand::Array(values.map_err(|error| refusals::input(error, at))?)
            }
            What::Literal(_) => {
                return Err(refusals::not_comparable(
                    &column,
                    "a value that is no array",
                    "ANY needs an array",
                )
                .at(at));
            }
        };
        let scope = self
            .pinned_scope(sealed, COMPARISON)
            .map_err(|refusal| refusal.at(at))?;
        self.slot(Make::EqualityTerms, what, &column, scope, &operand)
    }
}

/// The type of a protected column that an element of an array is, without modifiers.
fn sealed_column(item: &Expr, cx: Cx<'_>) -> Option<LogicalType> {
    let idents = match strip(item) {
        Expr::Identifier(ident) => std::slice::from_ref(ident),
        Expr::CompoundIdentifier(idents) => idents.as_slice(),
        _ => return None,
    };
    match cx.scope.find(idents).ok()?.kind {
        Kind::Sealed(sealed) => Some(sealed.shown.without_modifiers()),
        _ => None,
    }
}
