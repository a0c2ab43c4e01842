//! Which of several functions of one name a call means, as far as the types of its arguments tell it without doubt
//! (PostgreSQL, "Function Type Resolution"): exact matches, and a text for a literal without type. Everything else is left undecided.

use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr};

use crate::{
    analysis::{
        Analyser,
        compare::strip,
        expr::Cx,
        kind::Kind,
        operand::What,
        term::{is_text, uncast},
    },
    catalog::{Column, Function},
    types::{LogicalType, type_of_domain},
};

/// What is known of the type of an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    /// It is of this type.
    Type(LogicalType),
    /// It is a literal, parameter or NULL of no type by itself.
    Untyped,
}

impl Analyser<'_> {
    /// The only one of these that a call can mean. `None`: that is not clear.
    pub(super) fn meant_by<'f>(
        &self,
        functions: &[&'f Function],
        args: &[FunctionArg],
        cx: Cx<'_>,
    ) -> Option<&'f Function> {
        let given: Option<Vec<Given>> = args.iter().map(|arg| self.given(arg, cx)).collect();
        let given = given?;
        // Defaults and VARIADIC have rules of their own.
        let takes_all = |function: &&Function| {
            let mut arguments = function.arguments();
            function.arguments().count() == given.len() && arguments.all(|one| one.mode != 'v')
        };
        if !functions.iter().all(takes_all) {
            return None;
        }
        let types = |function: &Function| -> Vec<Option<LogicalType>> {
            let arguments = function.arguments();
            arguments.map(|one| logical_of(&one.column)).collect()
        };
        let exact = |function: &&&Function| {
            let types = types(function);
            given.iter().zip(types).all(|(given, wanted)| match given {
                Given::Type(logical) => wanted == Some(*logical),
                Given::Untyped => true,
            })
        };
        let mut left: Vec<&'f Function> = functions.iter().filter(exact).copied().collect();
        for (index, given) in given.iter().enumerate() {
            let takes_text = |function: &&&Function| types(function)[index].is_some_and(is_text);
            if *given == Given::Untyped && left.iter().any(|function| takes_text(&function)) {
                left = left.iter().filter(takes_text).copied().collect();
            }
        }
        match left.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    fn given(&self, arg: &FunctionArg, cx: Cx<'_>) -> Option<Given> {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg else {
            return None;
        };
        if let Some(operand) = self.operand(expr).ok()? {
            return match (self.operand_type(&operand).ok()?, &operand.what) {
                // A parameter of a declared type has that one.
                (Some(logical), _) => Some(Given::Type(logical.without_modifiers())),
                (
                    None,
                    What::Null
                    | What::Literal(_)
                    | What::Param(..)
                    | What::Applied { .. }
                    | What::Asked(_),
                ) => Some(Given::Untyped),
            };
        }
        // A cast that is none of an operand may change the type.
        if !std::ptr::eq(uncast(expr), strip(expr)) {
            return None;
        }
        let idents = match strip(expr) {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => return None,
        };
        let found = cx.scope.find(idents).ok()?;
        let logical = match &found.kind {
            Kind::Sealed(sealed) => sealed.shown,
            Kind::Plain(Some(cell)) => self.column_type(*cell)?,
            Kind::Plain(None) | Kind::Untyped | Kind::Holder(_) => return None,
        };
        Some(Given::Type(logical.without_modifiers()))
    }
}

/// The type of a parameter as the application knows it.
fn logical_of(column: &Column) -> Option<LogicalType> {
    let logical = match column.sealed_domain() {
        Some(domain) => LogicalType::parse(type_of_domain(domain)).ok()?,
        // Of a domain the server compares the name.
        None if column.type_oid != column.base_type_oid => return None,
        None => LogicalType::from_oid(column.type_oid, -1)?,
    };
    Some(logical.without_modifiers())
}
