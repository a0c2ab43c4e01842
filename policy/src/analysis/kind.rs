//! What an expression is to pgveil: plain, not yet typed, sealed, or a holder of sealed values. Holds no rules.

use std::sync::Arc;

use super::{holder::Holder, scope::Part};
use crate::{
    plan::{Attribute, ColumnId, Field, Shape},
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
    /// What says its scope.
    pub(super) place: Place,
}

impl Source {
    /// Calls `f` with every row variable that is named inside.
    pub(super) fn each_instance(&mut self, f: &mut dyn FnMut(&mut usize)) {
        match &mut self.place {
            Place::Row(instance) => f(instance),
            Place::Made(parts) => parts
                .iter_mut()
                .flatten()
                .for_each(|part| part.each_instance(f)),
            Place::Meant(parts) => parts.iter_mut().for_each(|part| part.each_instance(f)),
        }
    }
}

/// What says the scope of a sealed value.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// The row variable it is read from.
    Row(usize),
    /// A literal or parameter that is sealed on the way, with the keys of this scope. `None`: with keys that need not
    /// be the column's, so that it may be shown, but not compared or stored.
    Made(Option<Vec<Part>>),
    /// A literal or parameter of a source that is sealed for this very column, with the keys of this scope.
    Meant(Vec<Part>),
}

/// A sealed value.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    /// At least one; several after UNION ALL or CASE.
    pub(super) sources: Vec<Source>,
    /// The value of an expression: PostgreSQL reports no column for it.
    pub(super) computed: bool,
    /// What PostgreSQL would say its type is.
    pub(super) shown: LogicalType,
    /// Where it is shown, a cast changes it: nothing else can be done with it.
    pub(super) converted: bool,
    /// The column that PostgreSQL reports for it, unless it is computed.
    pub(super) attribute: Option<Attribute>,
}

impl Sealed {
    pub(super) fn new(column: Arc<Protected>, instance: usize) -> Self {
        Self {
            shown: column.logical,
            sources: vec![Source {
                column,
                place: Place::Row(instance),
            }],
            computed: false,
            converted: false,
            attribute: None,
        }
    }

    /// A value that was moved from one of these columns (at least one), of which no row is known.
    pub(super) fn moved(from: Vec<Arc<Protected>>, nowhere: usize) -> Self {
        let shown = from[0].logical;
        let source = |column| Source {
            column,
            place: Place::Row(nowhere),
        };
        Self {
            sources: from.into_iter().map(source).collect(),
            computed: false,
            shown,
            converted: false,
            attribute: None,
        }
    }

    /// The same value, read from this column.
    pub(super) fn from(self, relation: u32, attnum: i16) -> Self {
        Self {
            computed: false,
            attribute: Some((relation, attnum)),
            ..self
        }
    }

    /// The same value as what an expression yields: of the bare type, and no column any more. `None` if a cast lies on
    /// it that needs the modifiers.
    pub(super) fn of_expression(self) -> Option<Self> {
        let bare = self.shown.without_modifiers();
        (!self.converted || self.shown == bare).then_some(Self {
            computed: true,
            shown: bare,
            ..self
        })
    }

    /// The column to name in messages.
    pub(super) fn column(&self) -> &Arc<Protected> {
        &self.sources[0].column
    }

    /// Whether it is shown in the type in which every value of it was sealed.
    pub(super) fn is_as_stored(&self) -> bool {
        let shown = self.shown.without_modifiers();
        let mut sources = self.sources.iter();
        !self.converted && sources.all(|source| source.column.logical.without_modifiers() == shown)
    }

    /// Whether the value may be stored under a domain as it is: no cast lies on it, and whatever was sealed on the way
    /// was sealed with the keys of its scope.
    pub(super) fn may_be_kept(&self, domain: &str) -> bool {
        !self.converted
            && self.sources.iter().all(|source| {
                !matches!(source.place, Place::Made(None))
                    && source.column.logical.domain() == domain
            })
    }

    /// The type of the first column.
    pub(super) fn logical(&self) -> LogicalType {
        self.column().logical
    }

    /// The column it is, if it is a column and no union of several.
    pub(super) fn origin(&self) -> Option<Attribute> {
        self.attribute.filter(|_| !self.computed)
    }

    /// All columns it can come from.
    pub(super) fn columns(&self) -> Vec<ColumnId> {
        let mut columns: Vec<_> = self.sources.iter().map(|source| source.column.id).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// One of two values: of either side of a UNION ALL, or of two branches of CASE. `None` if their types have
    /// nothing in common that could be shown.
    pub(super) fn or(mut self, other: Self) -> Option<Self> {
        let both_cast = self.converted && other.converted && self.shown == other.shown;
        if !both_cast {
            self.shown = common_type(self.shown, other.shown)?;
            if self.converted || other.converted {
                return None;
            }
        }
        self.computed = true;
        self.sources.extend(other.sources);
        Some(self)
    }
}

/// The type that PostgreSQL chooses for two of one expression (UNION, CASE), as far as every value of both can be
/// shown in it exactly. Of two that are cast to each other it is the first.
pub(super) fn common_type(a: LogicalType, b: LogicalType) -> Option<LogicalType> {
    use LogicalType::*;
    if a == b {
        return Some(a);
    }
    let (a, b) = (a.without_modifiers(), b.without_modifiers());
    let rank = |logical| match logical {
        Int2 => Some(1),
        Int4 => Some(2),
        Int8 => Some(3),
        Numeric(_) => Some(4),
        _ => None,
    };
    match (a, b) {
        _ if a == b => Some(a),
        (Text, Varchar(_)) | (Varchar(_), Text) => Some(a),
        _ => {
            let (x, y) = (rank(a)?, rank(b)?);
            Some(if x > y { a } else { b })
        }
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
                .for_each(|source| source.each_instance(f)),
            Self::Holder(holder) => holder.each_instance(f),
        }
    }

    /// The plan's form, as a result column.
    pub(super) fn field(&self) -> Field {
        match self {
            Self::Plain(_) | Self::Untyped => Field::Plain,
            Self::Sealed(sealed) => Field::Sealed {
                shown: sealed.shown,
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
                shown: sealed.shown,
                columns: sealed.columns(),
            },
            Self::Holder(holder) => holder.shape(),
        }
    }
}
