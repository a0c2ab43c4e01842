//! What is true of a column's values and what the policy wants of them, where the two differ: the registry is in force, for
//! every replica alike, until `pgveil apply` has changed the values. It changes none.

use std::sync::Arc;

use pgveil_config::{Position, SearchKey};

use super::{Generation, OtherTerms, Protected, RegisteredColumn, TermContext, column::Resolved};
use crate::{catalog::Catalog, plan::ColumnId, template::ScopeTemplate, types::LogicalType};

/// What becomes of a column's values while not all of them are so yet. Which step follows which is the business of who
/// changes them (docs/decisions/0068).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// New values bear equality terms, those from before may not: nothing is compared yet.
    AddingTerms,
    /// Nothing is compared any more; new values still bear terms, for those who have not heard of it yet.
    EndingTerms,
    /// New values bear no terms; those from before may.
    DroppingTerms,
    /// Values are shown as this wider type; new ones still fit the registered one, for those who have not heard of it yet.
    Widening(String),
    /// New values fit this narrower type; those from before may not.
    Narrowing(String),
    /// These terms will be made, from another scope of the row: who changes what either scope is taken from brings the values
    /// along. No value bears them yet.
    Announced(OtherTerms),
    /// New values bear these terms too, those from before may not; they are not compared yet.
    Turning(OtherTerms),
    /// These were compared before; new values bear them still, for those who have not heard of it yet.
    Turned(OtherTerms),
    /// New values do not bear these any more; those from before may.
    Clearing(OtherTerms),
}

impl Change {
    /// The terms beside those that are compared, where values are on their way from one to the other.
    pub fn other_terms(&self) -> Option<&OtherTerms> {
        match self {
            Self::Announced(other)
            | Self::Turning(other)
            | Self::Turned(other)
            | Self::Clearing(other) => Some(other),
            Self::AddingTerms
            | Self::EndingTerms
            | Self::DroppingTerms
            | Self::Widening(_)
            | Self::Narrowing(_) => None,
        }
    }
}

/// A difference between the policy and the values of a column that `pgveil apply` can make go away while the column is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The column.
    pub id: ColumnId,
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Column.
    pub column: String,
    /// What the policy wants.
    pub step: Step,
    /// Columns whose values, where they stand in this one, have terms that match the wanted ones: this one among them.
    pub matching: Vec<ColumnId>,
    /// Columns whose values, where they stand in this one, are shown to the same roles in the same way as its own.
    pub alike: Vec<ColumnId>,
    /// Where the policy says so.
    pub at: Position,
}

/// What has to be done to a column's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// They get equality terms, made with this key and context.
    AddTerms {
        /// With the platform's index key.
        shared_key: bool,
        /// In this group.
        equality_group: Option<String>,
        /// With the keys of this scope otherwise.
        scope: String,
    },
    /// They get other equality terms, which are compared in the place of those that they have.
    TurnTerms(NewTerms),
    /// Their equality terms are taken out.
    DropTerms,
    /// Another length or precision that holds every value as it is.
    Widen {
        /// The type until now.
        from: LogicalType,
        /// The policy's type.
        to: LogicalType,
    },
    /// Another length or precision, which may be too small for some.
    Narrow {
        /// The type until now.
        from: LogicalType,
        /// The policy's type.
        to: LogicalType,
    },
}

/// With what other terms are made than those that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTerms {
    /// With the platform's index key.
    pub shared_key: bool,
    /// In this group.
    pub equality_group: Option<String>,
    /// With the keys of this scope otherwise.
    pub scope: String,
}

/// The types differ in more than a length or precision that is larger or smaller.
#[derive(Debug)]
pub(super) struct OtherType;

/// What holds for a column at this moment.
pub(super) struct InForce {
    /// Values are read and shown as this.
    pub(super) logical: LogicalType,
    /// New values fit this too.
    pub(super) written: LogicalType,
    /// Every value bears a term.
    pub(super) equality: bool,
    /// New values bear a term.
    pub(super) terms: bool,
    pub(super) search_key: SearchKey,
    pub(super) context: TermContext,
    pub(super) generation: Generation,
    /// New values bear these too.
    pub(super) also: Option<OtherTerms>,
    /// What must be known of a row: two scopes, while terms go from one to the other.
    pub(super) scope: ScopeTemplate,
    /// New values are sealed for the second of these.
    pub(super) seals_other: bool,
}

/// What a registered column is, whatever the policy says of it. Terms that no value has are described by the policy.
pub(super) fn in_force(
    column: &Resolved<'_>,
    past: &RegisteredColumn,
    catalog: &Catalog,
) -> InForce {
    let parse = |text: &str| catalog.parse_type(text).ok();
    let registered = parse(&past.logical_type).unwrap_or(column.logical);
    let (logical, written) = match &past.change {
        Some(Change::Widening(to)) => (parse(to).unwrap_or(registered), registered),
        Some(Change::Narrowing(to)) => (registered, parse(to).unwrap_or(registered)),
        _ => (registered, registered),
    };
    let terms = has_terms(past);
    let (shared, group) = if terms {
        (past.shared_key, past.equality_group.clone())
    } else {
        let shared = column.rule.search_key == SearchKey::Shared;
        (shared, column.rule.equality_group.clone())
    };
    InForce {
        logical,
        written,
        equality: terms && is_compared(past),
        terms,
        search_key: if shared {
            SearchKey::Shared
        } else {
            SearchKey::Scope
        },
        context: group.map_or(TermContext::Column(past.id), TermContext::Group),
        generation: past.generation,
        also: also(past),
        scope: scope(column, past),
        seals_other: matches!(past.change, Some(Change::Turning(_))),
    }
}

/// Where terms are made with the keys of a scope, the registry says which; elsewhere the policy does.
fn scope(column: &Resolved<'_>, past: &RegisteredColumn) -> ScopeTemplate {
    let parse = |text: Option<&String>| {
        let parsed = text.and_then(|text| ScopeTemplate::parse(text).ok());
        parsed.unwrap_or_else(|| column.scope.clone())
    };
    if !has_terms(past) {
        return column.scope.clone();
    }
    let other = match &past.change {
        Some(Change::Announced(other) | Change::Turning(other) | Change::Turned(other)) => {
            Some(other)
        }
        _ => None,
    };
    if past.shared_key && other.is_none_or(|other| other.shared_key) {
        return column.scope.clone();
    }
    let compared = parse(past.scope.as_ref());
    match other.map(|other| parse(other.scope.as_ref())) {
        // Nothing that is compared yet depends on the scope.
        Some(other) if past.shared_key && !matches!(past.change, Some(Change::Turned(_))) => other,
        Some(other) if other != compared => compared.and(&other),
        _ => compared,
    }
}

/// Whether its terms are made with the keys of another scope than the policy says.
pub(super) fn is_of_another_scope(column: &Resolved<'_>, past: &RegisteredColumn) -> bool {
    let recorded = past.scope.as_ref().filter(|_| !past.shared_key);
    recorded.is_some_and(|text| ScopeTemplate::parse(text).as_ref() != Ok(&column.scope))
}

/// Whether the policy wants other terms than those that are compared.
fn wants_others(column: &Resolved<'_>, past: &RegisteredColumn) -> bool {
    let shared = column.rule.search_key == SearchKey::Shared;
    past.shared_key != shared
        || past.equality_group != column.rule.equality_group
        || is_of_another_scope(column, past)
}

/// What new values bear beside the terms that are compared.
pub(super) fn also(past: &RegisteredColumn) -> Option<OtherTerms> {
    match &past.change {
        Some(Change::Turning(other) | Change::Turned(other)) => Some(other.clone()),
        _ => None,
    }
}

/// Whether new values bear terms.
pub(super) fn has_terms(past: &RegisteredColumn) -> bool {
    match past.change {
        Some(Change::AddingTerms | Change::EndingTerms) => true,
        Some(Change::DroppingTerms) => false,
        Some(
            Change::Widening(_)
            | Change::Narrowing(_)
            | Change::Announced(_)
            | Change::Turning(_)
            | Change::Turned(_)
            | Change::Clearing(_),
        )
        | None => past.equality,
    }
}

/// Whether values of the column, or copies of them, may bear terms as its registration describes them.
pub(super) fn had_terms(past: &RegisteredColumn) -> bool {
    past.searched || past.equality || past.change == Some(Change::AddingTerms)
}

fn is_compared(past: &RegisteredColumn) -> bool {
    past.equality && !matches!(past.change, Some(Change::EndingTerms))
}

/// What the policy wants of the values, one step after the other: the type first.
pub(super) fn wanted(
    column: &Resolved<'_>,
    past: &RegisteredColumn,
    catalog: &Catalog,
) -> Result<Option<Step>, OtherType> {
    // One thing after the other: a job is at it, and ends by itself.
    if { past.change.as_ref() }.is_some_and(|change| change.other_terms().is_some()) {
        return Ok(None);
    }
    if let Some(step) = type_step(column, past, catalog)? {
        return Ok(Some(step));
    }
    let rule = column.rule;
    let asked = rule.search.equality;
    let settled = past.change.is_none();
    Ok(match (past.equality && settled, asked) {
        (true, false) => Some(Step::DropTerms),
        (true, true) if wants_others(column, past) => Some(Step::TurnTerms(NewTerms {
            shared_key: rule.search_key == SearchKey::Shared,
            equality_group: rule.equality_group.clone(),
            scope: column.scope_text.to_owned(),
        })),
        (false, true) => Some(Step::AddTerms {
            shared_key: rule.search_key == SearchKey::Shared,
            equality_group: rule.equality_group.clone(),
            scope: column.scope_text.to_owned(),
        }),
        (false, false) if !settled => Some(Step::DropTerms),
        _ => None,
    })
}

/// The step with the column's names.
pub(super) fn wanted_of(column: &Resolved<'_>, past: &RegisteredColumn, step: Step) -> Wanted {
    let (schema, table, name) = column.key();
    Wanted {
        id: past.id,
        schema: schema.to_owned(),
        table: table.to_owned(),
        column: name.to_owned(),
        step,
        matching: vec![past.id],
        alike: vec![past.id],
        at: column.rule.at.clone(),
    }
}

/// Looks among all columns for those whose values may have been moved into the one whose terms are being changed.
pub(super) fn relate(wanted: &mut Wanted, columns: &[Arc<Protected>]) {
    let Some(own) = columns.iter().find(|column| column.id == wanted.id) else {
        return;
    };
    let others = || columns.iter().filter(|column| column.id != own.id);
    let is_alike = |other: &&Arc<Protected>| {
        other.reveal == own.reveal && other.mask == own.mask && other.logical == own.logical
    };
    wanted.alike.extend(others().filter(is_alike).map(|c| c.id));
    let Step::AddTerms {
        shared_key,
        equality_group: Some(group),
        ..
    } = &wanted.step
    else {
        return;
    };
    let matches = |other: &&Arc<Protected>| {
        let is_shared = other.search_key == SearchKey::Shared;
        other.equality
            && other.context == TermContext::Group(group.clone())
            && other.generation == own.generation
            && is_shared == *shared_key
            && other.logical.comparable_with(own.logical)
            && (is_shared || other.scope == own.scope)
    };
    wanted
        .matching
        .extend(others().filter(matches).map(|c| c.id));
}

/// The step from one length or precision to another.
fn type_step(
    column: &Resolved<'_>,
    past: &RegisteredColumn,
    catalog: &Catalog,
) -> Result<Option<Step>, OtherType> {
    let Ok(from) = catalog.parse_type(&past.logical_type) else {
        return Err(OtherType);
    };
    let to = column.logical;
    let under_way = match &past.change {
        Some(Change::Widening(text) | Change::Narrowing(text)) => Some(catalog.parse_type(text)),
        _ => None,
    };
    if from == to {
        // Begun, and then thought better of: back to where it was.
        return Ok(under_way.map(|_| Step::Widen { from, to }));
    }
    if to.holds_all_of(from) {
        Ok(Some(Step::Widen { from, to }))
    } else if from.holds_all_of(to) {
        Ok(Some(Step::Narrow { from, to }))
    } else {
        Err(OtherType)
    }
}
