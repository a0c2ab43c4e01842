//! Columns that a primary key decides: where rows are told apart by the key already (GROUP BY, DISTINCT), its table's other columns need no
//! terms. Which columns have terms is not judged here.

use sqlparser::ast::{Expr, SelectItem};

use super::{
    Analyser,
    expr::Cx,
    group::{key_reference, members},
    kind::{Cell, Kind, Place, Sealed},
    namespace::Reference,
    term::check_equality,
};
use crate::text::quote_identifier;

impl Analyser<'_> {
    /// Whether a value has no terms that would tell rows apart, and needs none: these cells decide it.
    pub(super) fn is_decided(&self, sealed: &Sealed, cells: &[Cell]) -> bool {
        let lacks_terms =
            check_equality(sealed, "GROUP BY").is_err() || !self.same_scope_within(sealed, cells);
        let key = match sealed.sources.as_slice() {
            [source] if !sealed.computed && !sealed.converted => match source.place {
                Place::Row(instance) => self.key_of(instance),
                Place::Made(_) | Place::Meant(_) => None,
            },
            _ => None,
        };
        // Where the type has none, the statement is an error of the server's.
        lacks_terms
            && sealed.logical().supports_equality()
            && key.is_some_and(|key| key.iter().all(|cell| cells.contains(cell)))
    }

    /// What stands in GROUP BY for a column that the other keys decide: the primary key once more.
    pub(super) fn instead_of_decided(
        &self,
        reference: &Reference,
        cells: &[Cell],
        cx: Cx<'_>,
    ) -> Option<String> {
        let Kind::Sealed(sealed) = &reference.kind else {
            return None;
        };
        let (entry, _) = reference.identity?;
        let mut entries = cx.scope.names.entries.iter();
        // Of a sub-select the server does not know the key.
        let entry = entries.find(|member| member.id == entry && member.table)?;
        if !self.is_decided(sealed, cells) {
            return None;
        }
        let instance = match sealed.sources.first()?.place {
            Place::Row(instance) => instance,
            Place::Made(_) | Place::Meant(_) => return None,
        };
        let first = self.key_of(instance)?.into_iter().next();
        let mut columns = entry.columns.iter();
        let column = columns.find(|column| column.kind.cell() == first)?;
        Some(format!(
            "{}.{}",
            quote_identifier(entry.name.as_deref()?),
            quote_identifier(column.name.as_deref()?)
        ))
    }

    /// The primary key of the table that a row variable stands for. Rows of heirs that are no partitions have keys of
    /// their own.
    fn key_of(&self, instance: usize) -> Option<Vec<Cell>> {
        let relation = self.instances.get(instance)?;
        let alone = match relation.kind {
            'p' => true,
            'r' => self.rules.catalog.heirs(relation.oid).is_empty(),
            _ => false,
        };
        let mut uniques = relation.uniques.iter();
        let key = uniques.find(|unique| unique.primary && !unique.partial && alone)?;
        let cell = |attnum: &i16| {
            let attnum = *attnum;
            (attnum != 0).then_some(Cell { instance, attnum })
        };
        key.attnums.iter().map(cell).collect()
    }
}

/// The plain columns that GROUP BY names; none where it makes several groupings.
pub(super) fn grouped_cells(keys: &[Expr], projection: &[SelectItem], cx: Cx<'_>) -> Vec<Cell> {
    if members(keys).any(|(_, in_set)| in_set) {
        return Vec::new();
    }
    let cell = |(key, _)| key_reference(key, projection, cx).ok()??.kind.cell();
    members(keys).filter_map(cell).collect()
}
