//! What an expression is to pgveil: plain, not yet typed, or sealed. Holds no rules.

use std::sync::Arc;

use crate::{plan::ColumnId, ruleset::Protected, types::LogicalType};

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
}

impl Kind {
    pub(super) fn sealed(&self) -> Option<&Sealed> {
        match self {
            Self::Sealed(sealed) => Some(sealed),
            _ => None,
        }
    }

    pub(super) fn cell(&self) -> Option<Cell> {
        match self {
            Self::Plain(cell) => *cell,
            _ => None,
        }
    }
}
