//! The name that PostgreSQL gives to a select item without an alias (`FigureColname`). `None` where it is not sure.

use sqlparser::ast::{Expr, SelectItem, SetExpr, Value};

use super::{function::last_name, namespace::name_of};

/// The name of an item's column.
pub(super) fn column_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(name_of(ident)),
        Expr::CompoundIdentifier(idents) => idents.last().map(name_of),
        Expr::Nested(inner) => column_name(inner),
        Expr::Function(function) => last_name(&function.name),
        Expr::Cast { expr, .. } => match expr.as_ref() {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Function(_) => {
                column_name(expr)
            }
            _ => None,
        },
        Expr::Exists { .. } => Some("exists".to_owned()),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.as_slice() {
                [SelectItem::UnnamedExpr(expr)] => column_name(expr),
                [SelectItem::ExprWithAlias { alias, .. }] => Some(name_of(alias)),
                _ => None,
            },
            _ => None,
        },
        Expr::Array(_) => Some("array".to_owned()),
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => Some("bool".to_owned()),
        Expr::Value(_)
        | Expr::BinaryOp { .. }
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::UnaryOp { .. } => Some("?column?".to_owned()),
        _ => None,
    }
}
