//! `unnest` in FROM: elements of arrays become the columns of rows.

use sqlparser::ast::{ArrayElemTypeDef, DataType, Expr, TableAlias, Value};

use super::{
    Analyser,
    compare::strip,
    elements::Source,
    expr::Cx,
    function::last_name,
    holder::Inside,
    kind::Kind,
    namespace::{Column, Namespace, name_of},
    query::Rows,
    refusals,
};
use crate::{Refusal, types::LogicalType};

const UNNEST: &str = "unnest";
/// PostgreSQL's own functions that return arrays of texts.
const TEXTS: [&str; 2] = ["string_to_array", "regexp_split_to_array"];

impl Analyser<'_> {
    /// `unnest(a, b) WITH ORDINALITY AS t(x, y, n)`
    pub(super) fn unnested<'e>(
        &mut self,
        arrays: impl IntoIterator<Item = &'e Expr>,
        alias: Option<&TableAlias>,
        ordinality: bool,
        cx: Cx<'_>,
    ) -> Result<Namespace, Refusal> {
        let mut kinds = Vec::new();
        for array in arrays {
            kinds.push((self.held(array, cx)?, array));
        }
        let plain = kinds.iter().all(|(kind, _)| kind.protected().is_none());
        let mut known = true;
        for (kind, array) in &kinds {
            known &= self.is_of_values(kind, array)?;
        }
        if plain && !known {
            return self.function_rows(alias, Some(UNNEST.to_owned()));
        }
        let several = kinds.len() > 1;
        let operands: Vec<&Expr> = kinds.iter().map(|(_, array)| *array).collect();
        let mut columns = Vec::new();
        for (kind, array) in kinds {
            let named = match alias {
                Some(alias) if !several => name_of(&alias.name),
                _ => UNNEST.to_owned(),
            };
            let column = |kind| Column {
                name: Some(named.clone()),
                kind,
            };
            match &kind {
                Kind::Holder(holder) => match holder.inside() {
                    Inside::Array { element, .. } => match element.as_ref() {
                        Kind::Holder(row) if matches!(row.inside(), Inside::Row(_)) => {
                            let Inside::Row(fields) = row.inside() else {
                                continue;
                            };
                            let field = |field: &Column| Column {
                                name: field.name.clone(),
                                kind: plain_value(field.kind.clone()),
                            };
                            columns.extend(fields.iter().map(field));
                        }
                        element => columns.push(column(element.element_of(false))),
                    },
                    Inside::Row(_) | Inside::Json(_) => {
                        return Err(refusals::holder(holder, UNNEST).at(self.start_of(array)));
                    }
                },
                Kind::Sealed(sealed) => {
                    return Err(
                        refusals::not_supported(sealed.column(), UNNEST).at(self.start_of(array))
                    );
                }
                // How many columns another array makes is known only if its elements are no rows.
                Kind::Plain(_) | Kind::Untyped if self.is_of_values(&kind, array)? => {
                    columns.push(column(Kind::Plain(None)));
                }
                Kind::Plain(_) | Kind::Untyped => {
                    let what = "unnest of arrays with and without protected values";
                    return Err(refusals::construct(what).at(self.start_of(array)));
                }
            }
        }
        if ordinality {
            columns.push(Column {
                name: Some("ordinality".to_owned()),
                kind: Kind::Plain(None),
            });
        }
        let mut arrays_of_columns = Vec::new();
        for array in operands {
            let array = self.array_operand(array)?;
            arrays_of_columns.push(array.map(Source::Array));
        }
        let rows = Rows {
            columns,
            ..Rows::default()
        };
        let names = self.derived(rows, alias, Some(UNNEST.to_owned()))?;
        if plain {
            self.remember_elements(&names, None, arrays_of_columns);
        }
        Ok(names)
    }

    /// Whether the elements of an array that is not sealed are no rows: one column is made of them.
    fn is_of_values(&self, kind: &Kind, array: &Expr) -> Result<bool, Refusal> {
        if self.array_operand(array)?.is_some() || is_of_constants(array) || is_cast(array) {
            return Ok(true);
        }
        if let Kind::Plain(Some(cell)) = kind {
            let logical = self.column_type(*cell);
            return Ok(matches!(logical, Some(LogicalType::Array(_))));
        }
        let Expr::Function(function) = strip(array) else {
            return Ok(false);
        };
        let own = |name: &String| {
            let mut functions = self.rules.catalog.functions.iter();
            TEXTS.contains(&name.as_str()) && !functions.any(|function| function.name == *name)
        };
        Ok(function.over.is_none() && last_name(&function.name).as_ref().is_some_and(own))
    }
}

/// `a::int[]`: a type that the parser knows is no row's.
fn is_cast(array: &Expr) -> bool {
    let Expr::Cast { data_type, .. } = strip(array) else {
        return false;
    };
    match data_type {
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(element, _) | ArrayElemTypeDef::Qualified(element, _),
        ) => !matches!(**element, DataType::Custom(..) | DataType::Array(_)),
        _ => false,
    }
}

/// `ARRAY[1, 2]`: its elements are no rows.
fn is_of_constants(array: &Expr) -> bool {
    let Expr::Array(array) = strip(array) else {
        return false;
    };
    let constant = |element: &Expr| match strip(element) {
        Expr::Value(value) => !matches!(value.value, Value::Placeholder(_)),
        Expr::UnaryOp { expr, .. } => matches!(strip(expr), Expr::Value(_)),
        _ => false,
    };
    !array.elem.is_empty() && array.elem.iter().all(constant)
}

/// A field of a value: it may hold what a column held, but it is none.
fn plain_value(kind: Kind) -> Kind {
    match kind {
        Kind::Plain(_) => Kind::Plain(None),
        other @ (Kind::Untyped | Kind::Sealed(_) | Kind::Holder(_)) => other.computed(),
    }
}
