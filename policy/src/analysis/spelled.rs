//! `token::text = $1`: a column that is compared by its text. Where each value has one text, and each text at most one value,
//! the text is read as the value that it spells; a text that the server would write otherwise equals none.

use sqlparser::ast::Expr;

use super::{
    Analyser,
    compare::strip,
    expr::Cx,
    kind::{Kind, Sealed},
    operand::{Cast, Operand, What},
    refusals,
    term::{COMPARISON, NO_TERM, uncast},
};
use crate::{
    Refusal,
    plan::{self, Make, Replacement},
    types::{LogicalType, spelled},
};

impl Analyser<'_> {
    /// Compares such a column with texts, if all of it is that.
    pub(super) fn compare_spelled(
        &mut self,
        expr: &Expr,
        texts: &[&Expr],
        cx: Cx<'_>,
    ) -> Result<bool, Refusal> {
        let Some(sealed) = self.spelled_column(expr, cx)? else {
            return Ok(false);
        };
        let mut operands = Vec::with_capacity(texts.len());
        for text in texts {
            match self.spelled_operand(text)? {
                Some(operand) => operands.push(operand),
                None => return Ok(false),
            }
        }
        self.expr(uncast(expr), cx)?;
        self.wrap_term(expr, &sealed)?;
        for operand in operands {
            let equals_none = match &operand.what {
                What::Literal(literal) => {
                    let bare = sealed.logical().without_modifiers();
                    spelled(bare, &literal.text, &self.view.format).is_none()
                }
                _ => false,
            };
            if equals_none {
                self.replace_operand(&operand, Replacement::Text(NO_TERM.to_owned()));
            } else {
                self.term(&sealed, operand)?;
            }
        }
        Ok(true)
    }

    /// Compares such a column with the elements of an array of texts, if it is that.
    pub(super) fn compare_spelled_array(
        &mut self,
        expr: &Expr,
        array: &Expr,
        cx: Cx<'_>,
    ) -> Result<bool, Refusal> {
        let Some(sealed) = self.spelled_column(expr, cx)? else {
            return Ok(false);
        };
        let Some(operand) = self.operand(array)? else {
            return Ok(false);
        };
        let is_text = |element| matches!(element, LogicalType::Text | LogicalType::Varchar(None));
        let of_texts = match &operand.what {
            What::Param(param, _) => {
                let element = self.array_parameter_type(*param, &operand.cast);
                element.is_ok_and(|element| element.is_none_or(is_text))
            }
            What::Literal(literal) => match (&operand.cast, literal.logical) {
                (Cast::None, None) => true,
                (Cast::None, Some(LogicalType::Array(element))) => is_text(element.kind()),
                (Cast::Array(element), None) => is_text(*element),
                _ => false,
            },
            What::Null | What::Applied { .. } | What::Asked(_) => false,
        };
        let what = match &operand.what {
            _ if !of_texts => return Ok(false),
            What::Param(param, _) => plan::Operand::Param(*param),
            What::Literal(literal) => {
                let texts = LogicalType::Text
                    .array_input(literal.text.as_bytes(), &self.view.format)
                    .map_err(|error| refusals::input(error, self.start_of(array)))?;
                plan::Operand::Array(texts)
            }
            What::Null | What::Applied { .. } | What::Asked(_) => return Ok(false),
        };
        let at = self.start_of(expr);
        self.expr(uncast(expr), cx)?;
        self.wrap_term(expr, &sealed)?;
        let scope = self
            .pinned_scope(&sealed, COMPARISON)
            .map_err(|refusal| refusal.at(at))?;
        let column = sealed.column().clone();
        let what = plan::Operand::SpelledEach(Box::new(what));
        self.slot(Make::EqualityTerms, what, &column, scope, &operand)?;
        Ok(true)
    }

    fn spelled_column(&self, expr: &Expr, cx: Cx<'_>) -> Result<Option<Sealed>, Refusal> {
        use LogicalType::{Date, Enum, Int2, Int4, Int8, Text, Uuid, Varchar};
        let cast = strip(expr);
        let Expr::Cast { expr: inner, .. } = cast else {
            return Ok(None);
        };
        let idents = match strip(inner) {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => return Ok(None),
        };
        let Kind::Sealed(sealed) = self.find(idents, cx.scope)?.kind else {
            return Ok(None);
        };
        let exact = matches!(sealed.shown, Date | Enum(_) | Int2 | Int4 | Int8 | Uuid);
        if self.stored || sealed.converted || !exact || sealed.shown != sealed.logical() {
            return Ok(None);
        }
        let to = self.cast_target(cast, inner)?;
        Ok(matches!(to, Cast::To(Text | Varchar(None))).then_some(sealed))
    }

    /// A text to compare it with.
    fn spelled_operand(&self, expr: &Expr) -> Result<Option<Operand>, Refusal> {
        let Some((what, extent)) = self.whole_text(expr)? else {
            return Ok(None);
        };
        Ok(Some(Operand {
            cast: match what {
                What::Applied { .. } => Cast::To(LogicalType::Text),
                _ => Cast::None,
            },
            what,
            common: None,
            extent,
        }))
    }
}
