//! The name that PostgreSQL gives to a select item without an alias (`FigureColname`). `None` where it is not sure.

use sqlparser::ast::{Expr, SelectItem, SetExpr, TrimWhereField, TypedString, Value};

use super::{function::last_name, namespace::name_of};
use crate::types::LogicalType;

/// The name of an item's column.
pub(super) fn column_name(expr: &Expr) -> Option<String> {
    match figure(expr)? {
        Figure::None => Some("?column?".to_owned()),
        Figure::Weak(name) | Figure::Strong(name) => Some(name),
    }
}

/// How sure PostgreSQL is of a name: a cast or CASE takes over a strong one.
enum Figure {
    None,
    Weak(String),
    Strong(String),
}

fn strong(name: &str) -> Option<Figure> {
    Some(Figure::Strong(name.to_owned()))
}

fn figure(expr: &Expr) -> Option<Figure> {
    match expr {
        Expr::Identifier(ident) => Some(Figure::Strong(name_of(ident))),
        Expr::CompoundIdentifier(idents) => idents.last().map(name_of).map(Figure::Strong),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => figure(inner),
        Expr::Function(function) => last_name(&function.name).map(Figure::Strong),
        Expr::Cast {
            expr, data_type, ..
        } => match figure(expr)? {
            Figure::Strong(name) => Some(Figure::Strong(name)),
            Figure::None | Figure::Weak(_) => type_name(&data_type.to_string()),
        },
        Expr::TypedString(TypedString { data_type, .. }) => type_name(&data_type.to_string()),
        Expr::Case { else_result, .. } => match else_result.as_deref().map(figure) {
            Some(None) => None,
            Some(Some(Figure::Strong(name))) => Some(Figure::Strong(name)),
            _ => Some(Figure::Weak("case".to_owned())),
        },
        Expr::Exists { negated: false, .. } => strong("exists"),
        Expr::Exists { negated: true, .. } => Some(Figure::None),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.as_slice() {
                [SelectItem::UnnamedExpr(expr)] => figure(expr),
                [SelectItem::ExprWithAlias { alias, .. }] => Some(Figure::Strong(name_of(alias))),
                _ => None,
            },
            _ => None,
        },
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
            Some(TrimWhereField::Both) | None => "btrim",
        }),
        Expr::Array(_) => strong("array"),
        Expr::Tuple(_) => strong("row"),
        Expr::Extract { .. } => strong("extract"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Substring {
            shorthand: true, ..
        } => strong("substr"),
        Expr::Substring { .. } => strong("substring"),
        Expr::Position { .. } => strong("position"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => {
            Some(Figure::Weak("bool".to_owned()))
        }
        Expr::Value(_)
        | Expr::BinaryOp { .. }
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::UnaryOp { .. } => Some(Figure::None),
        _ => None,
    }
}

/// The catalog's name of a type.
fn type_name(written: &str) -> Option<Figure> {
    let logical = LogicalType::parse(&written.to_ascii_lowercase()).ok()?;
    Some(Figure::Weak(logical.type_name().to_owned()))
}
