//! What an expression is to pgveil: plain, not yet typed, sealed, or a holder of sealed values. Holds no rules.

use std::sync::Arc;

use super::holder::Holder;
use crate::{
    plan::{ColumnId, Field, Shape},
    ruleset::Protected,
    types::LogicalType,
};

/// A column of one row variable (a table in FROM, once per appearance).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    /// Which row variable.
    pub(super) instance: usize,
    /// Which column of its table.
    pub(super) attnum: i16,
}

/// Where a sealed value can come from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The column it was sealed for.
    pub(super) column: Arc<Protected>,
    /// The row variable it is read from, which says its scope.
    pub(super) instance: usize,
}

/// A sealed value.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    /// At least one; several after UNION ALL.
    pub(super) sources: Vec<Source>,
    /// The value of a scalar sub-query: PostgreSQL reports no column for it.
    pub(super) computed: bool,
}

impl Sealed {
    pub(super) fn new(column: Arc<Protected>, instance: usize) -> Self {
        Self {
            sources: vec![Source { column, instance }],
            computed: false,
        }
    }

    /// The column to name in messages.
    pub(super) fn column(&self) -> &Arc<Protected> {
        &self.sources[0].column
    }

    /// What applications see; the same for all sources.
    pub(super) fn logical(&self) -> LogicalType {
        self.column().logical
    }

    /// The column it is, if it is a column and no union of several.
    pub(super) fn origin(&self) -> Option<ColumnId> {
        match self.sources.as_slice() {
            [only] if !self.computed => Some(only.column.id),
            _ => None,
        }
    }

    /// All columns it can come from.
    pub(super) fn columns(&self) -> Vec<ColumnId> {
        let mut columns: Vec<_> = self.sources.iter().map(|source| source.column.id).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// The same value from either side of a UNION ALL.
    pub(super) fn or(mut self, other: Self) -> Self {
        self.sources.extend(other.sources);
        self
    }
}

/// The kind of an expression.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Nothing protected; for a plain column of a table, which one.
    Plain(Option<Cell>),
    /// A literal, parameter or NULL, whose type its surroundings decide.
    Untyped,
    /// A sealed value.
    Sealed(Sealed),
    /// An array, a row or a document with sealed values inside. Never plain: what has no rule for it refuses it.
    Holder(Holder),
}

impl Kind {
    /// The sealed value itself; `None` for a holder too, so ask [`Kind::protected`] for "not plain".
    pub(super) fn sealed(&self) -> Option<&Sealed> {
        match self {
            Self::Sealed(sealed) => Some(sealed),
            Self::Plain(_) | Self::Untyped | Self::Holder(_) => None,
        }
    }

    /// A protected column that it is or holds, to name in messages. `None`: nothing protected is in it.
    pub(super) fn protected(&self) -> Option<&Arc<Protected>> {
        match self {
            Self::Plain(_) | Self::Untyped => None,
            Self::Sealed(sealed) => Some(sealed.column()),
            Self::Holder(holder) => Some(holder.column()),
        }
    }

    pub(super) fn cell(&self) -> Option<Cell> {
        match self {
            Self::Plain(cell) => *cell,
            Self::Untyped | Self::Sealed(_) | Self::Holder(_) => None,
        }
    }

    /// Calls `f` with every row variable that is named inside.
    pub(super) fn each_instance(&mut self, f: &mut dyn FnMut(&mut usize)) {
        match self {
            Self::Plain(Some(cell)) => f(&mut cell.instance),
            Self::Plain(None) | Self::Untyped => {}
            Self::Sealed(sealed) => sealed
                .sources
                .iter_mut()
                .for_each(|source| f(&mut source.instance)),
            Self::Holder(holder) => holder.each_instance(f),
        }
    }

    /// The plan's form, as a result column.
    pub(super) fn field(&self) -> Field {
        match self {
            Self::Plain(_) | Self::Untyped => Field::Plain,
            Self::Sealed(sealed) => Field::Sealed {
                shown: sealed.logical(),
                origin: sealed.origin(),
                columns: sealed.columns(),
            },
            Self::Holder(holder) => Field::Holder(holder.shape()),
        }
    }

    /// The plan's form, inside a holder.
    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Plain(_) | Self::Untyped => Shape::Plain,
            Self::Sealed(sealed) => Shape::Sealed {
                shown: sealed.logical(),
                columns: sealed.columns(),
            },
            Self::Holder(holder) => holder.shape(),
        }
    }
}
