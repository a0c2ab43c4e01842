//! Sources whose columns are made of literals and parameters (VALUES, `unnest`, `SELECT $1`): what scopes can be made of
//! them, row by row. Seals nothing (`meant` does).

use std::collections::HashMap;

use sqlparser::ast::{CastKind, Expr, Ident};

use super::{
    Analyser,
    constant::family,
    elements::Source,
    expr::Cx,
    facts::{Answer, Constant, Fact, Known, ask},
    kind::Cell,
    namespace::{Namespace, Reference},
    operand::{Cast, Operand},
    scope::{Part, scope_parts},
    term::is_text,
};
use crate::{
    Refusal,
    ruleset::Protected,
    template::TemplatePart,
    types::{Conversion, LogicalType, Value},
};

/// A reference to a column, and the cast on it: the cast, what is cast, and to what.
pub(super) type ColumnUsed<'q> = (&'q [Ident], Option<(&'q Expr, &'q Expr, Cast)>);

/// A column of a source that scopes can be made of.
pub(super) struct SourceColumn {
    /// What facts call it.
    pub(super) cell: Cell,
    pub(super) logical: LogicalType,
    rows: RowParts,
}

/// What such a column holds.
enum RowParts {
    /// In each row of VALUES.
    Single(Vec<Option<Constant>>),
    /// The elements of an array.
    Array(Part),
}

impl Analyser<'_> {
    /// Names the columns of a source that are made of literals and parameters, so that facts can speak of them. The
    /// source's rows must be seen as they are: no outer join around it.
    pub(super) fn source_cells(&mut self, names: &Namespace) {
        let [entry] = names.entries.as_slice() else {
            return;
        };
        let mut instance = None;
        for index in 0..entry.columns.len() {
            let identity = (entry.id, index);
            let Some((logical, rows)) = self
                .element_columns
                .get(&identity)
                .and_then(|column| self.row_parts(&column.source))
            else {
                continue;
            };
            let Ok(attnum) = i16::try_from(index + 1) else {
                return;
            };
            let instance = *instance.get_or_insert_with(|| {
                self.instances.push(&self.rules.nowhere);
                self.instances.len() - 1
            });
            let cell = Cell { instance, attnum };
            if let RowParts::Single(rows) = &rows
                && let [Some(only)] = rows.as_slice()
            {
                self.facts.push(Fact::Is(cell, only.clone()));
            }
            let column = SourceColumn {
                cell,
                logical,
                rows,
            };
            self.source_columns.insert(identity, column);
        }
    }

    fn row_parts(&self, source: &Source) -> Option<(LogicalType, RowParts)> {
        match source {
            Source::Array(array) => {
                let logical = self.element_type(array)?;
                let part = self.element_part(array, logical)?;
                Some((logical, RowParts::Array(part)))
            }
            Source::Cells(cells) => {
                let logical = cells.logical?;
                let constant = |operand: &Operand| {
                    // As the column has it: a literal without a type gets the column's.
                    self.constant(operand, logical, Conversion::Comparison)
                };
                let rows: Vec<_> = cells.operands.iter().map(constant).collect();
                let any = rows.iter().any(Option::is_some);
                any.then_some((logical, RowParts::Single(rows)))
            }
        }
    }

    /// The name that facts have for a column of a source.
    pub(super) fn source_cell(&self, found: &Reference) -> Option<Cell> {
        let column = self.source_columns.get(&found.identity?)?;
        Some(column.cell)
    }

    /// A column reference, and the cast on it.
    pub(super) fn column_used<'q>(
        &self,
        value: &'q Expr,
    ) -> Result<Option<ColumnUsed<'q>>, Refusal> {
        let mut at = value;
        let mut cast = None;
        loop {
            at = match at {
                Expr::Nested(inner) => inner,
                Expr::Cast {
                    kind: CastKind::DoubleColon | CastKind::Cast,
                    expr: inner,
                    ..
                } if cast.is_none() => {
                    cast = Some((at, &**inner, self.cast_target(at, inner)?));
                    inner
                }
                Expr::Identifier(ident) => return Ok(Some((std::slice::from_ref(ident), cast))),
                Expr::CompoundIdentifier(idents) => return Ok(Some((idents, cast))),
                _ => return Ok(None),
            };
        }
    }

    /// The plain column that an expression is, also under a cast that changes nothing.
    pub(super) fn cell_under_cast(&self, value: &Expr, cx: Cx<'_>) -> Option<Cell> {
        let (idents, cast) = self.column_used(value).ok()??;
        let found = cx.scope.find(idents).ok()?;
        let cell = found.kind.cell().or_else(|| self.source_cell(&found))?;
        match cast {
            None => Some(cell),
            Some((_, _, Cast::To(to))) => {
                let own = self.column_type(cell)?;
                use LogicalType::{Int2, Int4, Int8};
                let whole = |logical| matches!(logical, Int2 | Int4 | Int8);
                let text = is_text(own) && is_text(to) && to == to.without_modifiers();
                let same = own == to || text || (whole(own) && whole(to));
                same.then_some(cell)
            }
            Some(_) => None,
        }
    }

    /// Whether equal values make the same scope once a column of this type holds what another held: an assignment
    /// cuts blanks off.
    pub(super) fn keeps_scope_text(&self, cell: Cell, to: LogicalType) -> bool {
        let Some(from) = self.column_type(cell) else {
            return false;
        };
        if family(from) != family(to) {
            return false;
        }
        let LogicalType::Varchar(Some(length)) = to else {
            return true;
        };
        let length = length as usize;
        let fits = |value: &Option<Value>| match value {
            Some(value) => {
                let text = from.scope_text(value);
                text.is_some_and(|text| text.chars().count() <= length)
            }
            None => true,
        };
        let mut made = self.source_columns.values();
        let made = made.find(|made| made.cell == cell);
        from == to
            || made.is_some_and(|made| match &made.rows {
                RowParts::Single(rows) => rows.iter().flatten().all(|row| match &row.what {
                    Known::Literal(value) => fits(&Some(value.clone())),
                    Known::Param(_) => true,
                }),
                RowParts::Array(Part::Listed(values, _)) => values.iter().all(fits),
                RowParts::Array(_) => true,
            })
    }

    /// A scope's parts, if every one is known before the statement runs, or for each row of the source.
    pub(super) fn known_scope(
        &self,
        column: &Protected,
        held: &HashMap<String, Part>,
        entry: usize,
    ) -> Option<Vec<Part>> {
        let parts = scope_parts(column, &|name| held.get(name).cloned())?;
        let of_source = |part: Part| match part {
            Part::Cell(cell) => {
                let own = self.source_columns.iter();
                own.filter(|(identity, _)| identity.0 == entry)
                    .find(|(_, column)| column.cell == cell)
                    .map(|(_, column)| Part::Cell(column.cell))
            }
            part => Some(part),
        };
        parts.into_iter().map(of_source).collect()
    }

    /// What a row of the source says of a scope's column. Without a row: of all of them, as an array.
    pub(super) fn row_part(
        &self,
        target: &Protected,
        parts: &[Part],
        name: &str,
        row: Option<usize>,
    ) -> Option<Part> {
        let named =
            |part: &TemplatePart| matches!(part, TemplatePart::Column(column) if column == name);
        let at = target.scope.parts.iter().position(named)?;
        match parts.get(at)? {
            Part::Cell(cell) => {
                let mut own = self.source_columns.values();
                let column = own.find(|column| column.cell == *cell)?;
                match (&column.rows, row) {
                    (RowParts::Single(rows), Some(row)) => {
                        rows.get(row).cloned().flatten().map(Part::Constant)
                    }
                    (RowParts::Array(part), None) => Some(part.clone()),
                    _ => None,
                }
            }
            part => Some(part.clone()),
        }
    }

    /// What is known of a column of the written row, put in terms of a source if that has an equal column.
    pub(super) fn part_of_source(&self, part: Part, source: &Namespace) -> Part {
        let (Part::Cell(cell), [entry]) = (&part, source.entries.as_slice()) else {
            return part;
        };
        let class = ask(&self.facts, *cell);
        let mut own: Vec<_> = self.source_columns.iter().collect();
        own.sort_by_key(|(identity, _)| **identity);
        let equal = own.into_iter().find(|(identity, column)| {
            identity.0 == entry.id && ask(&self.facts, column.cell) == class
        });
        match (equal, class) {
            (Some((_, column)), Answer::Cell(_)) => Part::Cell(column.cell),
            _ => part,
        }
    }
}
