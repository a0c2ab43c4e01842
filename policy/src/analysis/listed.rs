//! `string_agg(name, ', ' ORDER BY id)` in the select list of the whole statement: the server sends an array of the values, and
//! the text is made of it where they are opened. Only what is shown, as in `joined`.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident,
    ObjectNamePart,
};

use super::{
    Analyser, compare::strip, expr::Cx, function::last_name, holder::Inside, kind::Kind,
    term::is_text,
};
use crate::{Refusal, plan::Replacement, types::TextExpression};

impl Analyser<'_> {
    /// Such an item: what it is. `None`: it is something else.
    pub(super) fn listed_item(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Option<Kind>, Refusal> {
        let Expr::Function(function) = strip(expr) else {
            return Ok(None);
        };
        if !self.shown || self.stored {
            return Ok(None);
        }
        let Some((text, separator)) = self.aggregated(function)? else {
            return Ok(None);
        };
        let idents = match text {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => return Ok(None),
        };
        let is_sealed_text = matches!(cx.scope.find(idents), Ok(found)
            if matches!(&found.kind, Kind::Sealed(sealed) if is_text(sealed.logical()) && sealed.is_as_stored()));
        let name = match function.name.0.last() {
            Some(ObjectNamePart::Identifier(ident)) => self.tokens.starting(ident.span.start),
            _ => None,
        };
        let Some(name) = name.filter(|_| is_sealed_text) else {
            return Ok(None);
        };
        let literal = self.tokens.extent(separator)?;
        let behind = self.tokens.extent(text)?.end;
        let kind = self.value(&Expr::Function(as_array(function)), cx)?;
        let Kind::Holder(holder) = kind else {
            return Ok(None);
        };
        let listed = match holder.inside() {
            Inside::Array { element, .. } => element.sealed().is_some(),
            Inside::Row(_) | Inside::Json(_) => false,
        };
        let Some(by) = self.text_of(separator)?.filter(|_| listed) else {
            return Ok(None);
        };
        let array = Replacement::Text("array_agg".to_owned());
        self.edits.replace(self.tokens.range(name), array);
        let gone = self.tokens.range(behind).start..self.tokens.range(literal.end - 1).end;
        self.edits.replace(gone, Replacement::Text(String::new()));
        self.account_tokens(behind..literal.end);
        self.note("Texts are joined where they are opened.".to_owned());
        let separator = TextExpression::Given(Some(by));
        Ok(Some(Kind::Holder(holder.listed_by(separator))))
    }

    /// What PostgreSQL's own `string_agg` joins, and what it puts between: a literal.
    fn aggregated<'e>(
        &self,
        function: &'e Function,
    ) -> Result<Option<(&'e Expr, &'e Expr)>, Refusal> {
        let own = last_name(&function.name).as_deref() == Some("string_agg")
            && match function.name.0.as_slice() {
                [_] => self.is_own("string_agg") && self.is_own("array_agg"),
                [schema, _] => schema.to_string().eq_ignore_ascii_case("pg_catalog"),
                _ => false,
            };
        let plain = function.over.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none()
            && matches!(function.parameters, FunctionArguments::None);
        let FunctionArguments::List(list) = &function.args else {
            return Ok(None);
        };
        let ordered =
            |clause: &FunctionArgumentClause| matches!(clause, FunctionArgumentClause::OrderBy(_));
        if !own || !plain || list.duplicate_treatment.is_some() || !list.clauses.iter().all(ordered)
        {
            return Ok(None);
        }
        let [
            FunctionArg::Unnamed(FunctionArgExpr::Expr(text)),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(separator)),
        ] = list.args.as_slice()
        else {
            return Ok(None);
        };
        let literal = self.text_of(separator)?.is_some();
        Ok(literal.then_some((text, separator)))
    }
}

/// The same as `array_agg` of the text alone.
fn as_array(function: &Function) -> Function {
    let mut function = function.clone();
    if let Some(ObjectNamePart::Identifier(name)) = function.name.0.last_mut() {
        *name = Ident {
            value: "array_agg".to_owned(),
            ..name.clone()
        };
    }
    if let FunctionArguments::List(list) = &mut function.args {
        list.args.truncate(1);
    }
    function
}
