//! Columns of VALUES, of `unnest` and of `SELECT $1` that a statement writes to protected columns. They are sealed where
//! they stand, and are sealed values wherever else the statement uses them. What may be done with these is not judged here.

use std::{collections::HashMap, sync::Arc};

use sqlparser::ast::{Expr, Ident, Select, SelectItem, TableFactor, TableWithJoins};

use super::{
    Analyser,
    compare::strip,
    elements::{Source, is_expression, is_simple},
    expr::Cx,
    from::Condition,
    kind::{self, Kind, Place, Sealed},
    namespace::{Ctes, Namespace, Scope},
    operand::{Cast, Operand, What},
    refusals,
    scope::Part,
    term::is_text,
    touched::Given,
};
use crate::{Refusal, catalog, plan::Replacement, ruleset::Protected, types::LogicalType};

pub(super) const UNKNOWN: &str = "the statement does not give every scope column as a literal, a parameter or a column beside the value";

/// An entry of FROM and a column of it.
type Identity = (usize, usize);

/// A value that a statement writes to a protected column.
pub(super) struct Use<'q> {
    pub(super) column: Arc<Protected>,
    pub(super) value: &'q Expr,
    /// What the scope's columns of the written row hold, as far as that is known.
    pub(super) parts: HashMap<String, Part>,
    /// The row is one whose scope the server can be asked for.
    pub(super) asks: bool,
}

/// The columns that an INSERT wants values for.
pub(super) struct Wanted<'a> {
    pub(super) columns: Vec<(&'a catalog::Column, Option<Arc<Protected>>)>,
}

/// All uses of one column of a source.
struct Meant<'q> {
    identity: Identity,
    uses: Vec<Used<'q>>,
}

/// One of them.
struct Used<'q> {
    of: &'q Use<'q>,
    idents: &'q [Ident],
    /// The type that the column is cast to.
    cast: Option<(&'q Expr, &'q Expr, Cast)>,
}

impl<'a> Analyser<'a> {
    /// Seals the columns of a source that are written to protected columns. Returns the source's names with what its
    /// columns are now.
    pub(super) fn seal_sources(
        &mut self,
        uses: &[Use<'_>],
        source: Namespace,
        cx: Cx<'_>,
    ) -> Result<Namespace, Refusal> {
        self.want_members(uses, cx)?;
        let [entry] = source.entries.as_slice() else {
            return Ok(source);
        };
        let kinds = self.seal_columns(uses, &[entry.id], cx)?;
        Ok(source.with_kinds(&kinds))
    }

    /// The same of these entries of FROM: what some of their columns are now.
    fn seal_columns(
        &mut self,
        uses: &[Use<'_>],
        entries: &[usize],
        cx: Cx<'_>,
    ) -> Result<HashMap<Identity, Kind>, Refusal> {
        let mut kinds = HashMap::new();
        let mut all = self.meant(uses, entries, cx)?;
        if entries.len() > 1 {
            // An array that is only written is sealed where the INSERT stores it.
            all.retain(|meant| !self.is_written_array(meant));
        }
        self.assigned.extend(all.iter().map(|meant| meant.identity));
        for meant in all {
            if let Some(kind) = self.seal_meant(&meant)? {
                kinds.insert(meant.identity, kind);
            }
        }
        Ok(kinds)
    }

    /// The same where the source stands among joins.
    fn seal_joined(
        &mut self,
        uses: &[Use<'_>],
        select: &Select,
        names: Namespace,
        conditions: &mut [Condition<'_>],
        cx: Cx<'_>,
    ) -> Result<Namespace, Refusal> {
        self.want_members(uses, cx)?;
        let using = |condition: &Condition<'_>| matches!(condition, Condition::Using { .. });
        if !names.is_unmerged()
            || conditions.iter().any(using)
            || !select.from.iter().all(sees_none)
        {
            return Ok(names);
        }
        let entries: Vec<usize> = names.entries.iter().map(|entry| entry.id).collect();
        let kinds = self.seal_columns(uses, &entries, cx)?;
        for condition in conditions {
            if let Condition::On { names, .. } = condition {
                *names = std::mem::take(names).with_kinds(&kinds);
            }
        }
        Ok(names.with_kinds(&kinds))
    }

    /// The columns of a source that are written to protected columns.
    fn meant<'q>(
        &self,
        uses: &'q [Use<'q>],
        entries: &[usize],
        cx: Cx<'_>,
    ) -> Result<Vec<Meant<'q>>, Refusal> {
        let mut all: Vec<Meant<'q>> = Vec::new();
        for of in uses {
            let Some((idents, cast)) = self.column_used(of.value)? else {
                continue;
            };
            let Ok(found) = cx.scope.find(idents) else {
                continue;
            };
            let identity = found.identity.filter(|identity| {
                let known = self.element_columns.get(identity);
                let once = known.is_some_and(|column| self.used_in_one_from(column));
                entries.contains(&identity.0) && !found.qualify && once
            });
            let Some(identity) = identity else {
                continue;
            };
            let used = Used { of, idents, cast };
            match all.iter_mut().find(|meant| meant.identity == identity) {
                Some(meant) => meant.uses.push(used),
                None => all.push(Meant {
                    identity,
                    uses: vec![used],
                }),
            }
        }
        Ok(all)
    }

    fn is_written_array(&self, meant: &Meant<'_>) -> bool {
        let places = meant.uses.iter().filter_map(|used| self.place(used));
        let places: Vec<usize> = places.collect();
        self.element_columns
            .get(&meant.identity)
            .is_some_and(|column| {
                matches!(column.source, Source::Array(_)) && self.used_only_at(column, &places)
            })
    }

    /// Seals one column of a source; what it is then. `None` if it must stay as it is.
    fn seal_meant(&mut self, meant: &Meant<'_>) -> Result<Option<Kind>, Refusal> {
        let Some(column) = self.element_columns.get(&meant.identity) else {
            return Ok(None);
        };
        let Some((own, retyped)) = self.source_type(&column.source, &meant.uses) else {
            return Ok(None);
        };
        let places: Vec<usize> = meant
            .uses
            .iter()
            .filter_map(|used| self.place(used))
            .collect();
        let only_written = places.len() == meant.uses.len() && self.used_only_at(column, &places);
        let Some(first) = meant.uses.first() else {
            return Ok(None);
        };
        let target = Arc::clone(&first.of.column);
        // What the column's type cuts or rounds would be compared and shown otherwise than the server does.
        let exact = target.logical == target.logical.without_modifiers()
            && (own == target.logical || (is_text(own) && is_text(target.logical)));
        // A text that the column's length does not cut is what it is.
        let cut = is_text(own) && is_text(target.logical) && retyped.is_none();
        if (!exact || retyped.is_some()) && !only_written && !cut {
            return Ok(None);
        }
        let known = meant.uses.iter().find_map(|used| {
            self.known_scope(&used.of.column, &used.of.parts, meant.identity.0)
                .map(|parts| (Arc::clone(&used.of.column), parts))
        });
        let Some((target, parts)) = known else {
            return if only_written {
                self.seal_asked(meant, retyped)
            } else {
                let at = self.start_of(first.of.value);
                Err(refusals::scope_not_resolved(&target, UNKNOWN).at(at))
            };
        };
        let Some(column) = self.element_columns.remove(&meant.identity) else {
            return Ok(None);
        };
        self.hide(&column.source, only_written);
        // They stand where the rows that the statement changes cannot be named.
        let (touched, conflict) = (self.touched_rows.take(), self.conflict.take());
        let around = std::mem::replace(&mut self.exact, !exact && !only_written);
        let sealed = match column.source {
            Source::Array(array) => {
                let held = |name: &str| self.row_part(&target, &parts, name, None);
                let held: HashMap<_, _> = scope_names(&target)
                    .into_iter()
                    .filter_map(|name| held(&name).map(|part| (name, part)))
                    .collect();
                self.seal_elements(&target, array, &|name| held.get(name).cloned())
            }
            Source::Cells(cells) => {
                let common = cells.logical;
                let mut operands = cells.operands.into_iter().enumerate();
                operands.try_for_each(|(row, operand)| {
                    let held: HashMap<_, _> = scope_names(&target)
                        .into_iter()
                        .filter_map(|name| {
                            let part = self.row_part(&target, &parts, &name, Some(row));
                            part.map(|part| (name, part))
                        })
                        .collect();
                    let operand = typed(operand, common, retyped);
                    self.seal_cell(&target, operand, &|name| held.get(name).cloned())
                })
            }
        };
        (self.touched_rows, self.conflict) = (touched, conflict);
        self.exact = around;
        sealed?;
        Ok(Some(Kind::Sealed(Sealed {
            sources: vec![kind::Source {
                column: target,
                place: Place::Meant(parts),
            }],
            computed: true,
            shown: own,
            converted: false,
            attribute: None,
        })))
    }

    /// The type that a column of a source has where it is used; and the type that its literals are read in, if that is
    /// the cast's on it.
    fn source_type(
        &self,
        source: &Source,
        uses: &[Used<'_>],
    ) -> Option<(LogicalType, Option<LogicalType>)> {
        let (own, literals) = match source {
            Source::Array(array) => (self.element_type(array)?, false),
            Source::Cells(cells) => {
                let literal = |operand: &Operand| match operand.what {
                    What::Null => true,
                    What::Literal(_) => operand.cast == Cast::None,
                    What::Applied { .. } | What::Asked(_) => false,
                    What::Param(param, _) => {
                        operand.cast == Cast::None && self.arrives_as_text(param)
                    }
                };
                let literals = cells.operands.iter().all(literal);
                (cells.logical.unwrap_or(LogicalType::Text), literals)
            }
        };
        let changes = |used: &Used<'_>| match &used.cast {
            Some((_, _, Cast::To(to))) if *to != own && !(is_text(*to) && is_text(own)) => {
                Some(*to)
            }
            _ => None,
        };
        let mut casts = uses.iter().map(changes);
        let first = casts.next().flatten();
        let Some(to) = first.filter(|to| casts.all(|cast| cast == Some(*to))) else {
            return Some((own, None));
        };
        // `p1::numeric(12, 2)` into such a column: the assignment rounds alike.
        let target = uses.first()?.of.column.logical;
        let rounds = to == target && own == to.without_modifiers() && !is_text(to);
        if rounds && uses.iter().all(|used| used.of.column.logical == to) {
            return Some((to, None));
        }
        Some(if literals {
            (to, Some(to))
        } else {
            (own, None)
        })
    }

    /// Whether PostgreSQL takes a parameter for a text where nothing says more.
    pub(super) fn arrives_as_text(&self, param: usize) -> bool {
        const TEXTS: [u32; 4] = [0, 705, 25, 1043];
        TEXTS.contains(&self.oids.get(param).copied().unwrap_or(0))
    }

    fn place(&self, used: &Used<'_>) -> Option<usize> {
        let last = used.idents.last()?;
        self.tokens.starting(last.span.start)
    }

    fn seal_cell(
        &mut self,
        target: &Protected,
        operand: Operand,
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Result<(), Refusal> {
        if matches!(operand.what, What::Null) {
            self.replace_operand(&operand, Replacement::Text("NULL::bytea".to_owned()));
            return Ok(());
        }
        let at = self.tokens.range(operand.extent.start).start;
        // PostgreSQL says that a literal does not fit only where it is stored.
        self.seal(target, operand, held)
            .map_err(|refusal| match refusal.sqlstate {
                "22001" | "22003" => {
                    refusals::not_sealable(target, "a literal that does not fit").at(at)
                }
                _ => refusal,
            })
    }

    /// Seals a column of a source for every scope that the server is asked for; each use picks the row's own.
    fn seal_asked(
        &mut self,
        meant: &Meant<'_>,
        retyped: Option<LogicalType>,
    ) -> Result<Option<Kind>, Refusal> {
        let Some(first) = meant.uses.first() else {
            return Ok(None);
        };
        let target = &first.of.column;
        let same = |used: &Used<'_>| {
            used.of.asks && used.of.column.id == target.id && used.of.parts == first.of.parts
        };
        let at = self.start_of(first.of.value);
        let refusal = || refusals::scope_not_resolved(target, UNKNOWN).at(at);
        if !meant.uses.iter().all(same) {
            return Err(refusal());
        }
        let column = self.element_columns.remove(&meant.identity);
        let given = match column.map(|column| column.source) {
            Some(Source::Cells(cells)) => {
                let common = cells.logical;
                let operands = cells.operands.into_iter();
                let operands = operands.map(|operand| typed(operand, common, retyped));
                Given::Cells(operands.collect())
            }
            // Another array must say how many rows there are.
            Some(Source::Array(array)) if self.has_plain_array(meant.identity.0) => {
                Given::Array(array)
            }
            _ => return Err(refusal()),
        };
        let mut values = Vec::new();
        for used in &meant.uses {
            if let Some((cast, inner, _)) = &used.cast {
                self.drop_cast(cast, inner)?;
            }
            let extent = self.tokens.extent(used.of.value)?;
            values.push(self.tokens.bytes(&extent));
            self.picked.extend(self.place(used));
            used.idents.iter().for_each(|ident| self.account(ident));
        }
        let held = |name: &str| first.of.parts.get(name).cloned();
        if self.seal_touched_source(target, given, &values, &held)? {
            Ok(None)
        } else {
            Err(refusal())
        }
    }

    /// Whether an array stays as it is of which an entry takes the elements.
    fn has_plain_array(&self, entry: usize) -> bool {
        let mut arrays = self.element_columns.iter();
        arrays.any(|(identity, column)| {
            identity.0 == entry
                && matches!(column.source, Source::Array(_))
                && !self.assigned.contains(identity)
        })
    }

    /// Whether an assigned value is a column of a source that was sealed for every scope that the server is asked for.
    pub(super) fn is_picked(&self, value: &Expr) -> Result<bool, Refusal> {
        let Some((idents, _)) = self.column_used(value)? else {
            return Ok(false);
        };
        let last = idents.last();
        let place = last.and_then(|ident| self.tokens.starting(ident.span.start));
        Ok(place.is_some_and(|place| self.picked.contains(&place)))
    }

    /// Keeps what is sealed out of the query for scopes.
    fn hide(&mut self, source: &Source, only_written: bool) {
        match source {
            Source::Cells(cells) if only_written => {
                let extents = cells
                    .operands
                    .iter()
                    .map(|operand| (operand.extent.clone(), "NULL"));
                self.hidden.extend(extents);
            }
            // Rows would be missing, or a condition would read it.
            Source::Cells(_) | Source::Array(_) => self.cannot_ask = true,
        }
    }

    /// What an INSERT wants of a SELECT: seals the columns of its source that go into protected columns.
    pub(super) fn give_wanted(
        &mut self,
        wanted: Wanted<'a>,
        select: &Select,
        names: Namespace,
        conditions: &mut [Condition<'_>],
        (parent, ctes): (Option<&Scope<'_>>, &Ctes),
    ) -> Result<Namespace, Refusal> {
        if let [SelectItem::Wildcard(_)] = select.projection.as_slice() {
            self.want_shown(&wanted, &names)?;
        }
        let plain = is_simple(select) && select.projection.iter().all(is_expression);
        let items: Vec<&Expr> = select.projection.iter().filter_map(expression).collect();
        if !plain || items.len() > wanted.columns.len() {
            return Ok(names);
        }
        self.source_cells(&names);
        let mark = self.facts.len();
        let scope = Scope {
            names: &names,
            parent,
        };
        let cx = Cx {
            scope: &scope,
            ctes,
            grouping: None,
        };
        if let Some(condition) = &select.selection {
            self.collect_facts(condition, cx);
        }
        let mut parts = HashMap::new();
        for (item, (column, protected)) in items.iter().zip(&wanted.columns) {
            if protected.is_none()
                && let Some(part) = self.assigned_part(column, item, cx)?
            {
                let part = self.part_of_source(part, &names);
                parts.insert(column.name.clone(), part);
            }
        }
        let mut uses = Vec::new();
        for (item, (_, protected)) in items.iter().zip(&wanted.columns) {
            if let Some(column) = protected
                && self.operand(item)?.is_none()
            {
                uses.push(Use {
                    column: Arc::clone(column),
                    value: item,
                    parts: parts.clone(),
                    asks: false,
                });
            }
        }
        let sealed = match names.entries.as_slice() {
            [_] => self.seal_sources(&uses, names.clone(), cx)?,
            _ => self.seal_joined(&uses, select, names.clone(), conditions, cx)?,
        };
        let values: Vec<_> = { items.iter().copied() }.zip(wanted.columns).collect();
        let scope = Scope {
            names: &sealed,
            parent,
        };
        let cx = Cx {
            scope: &scope,
            ..cx
        };
        self.fetch_items(select, &values, &parts, cx)?;
        self.facts.truncate(mark);
        self.given = parts;
        Ok(sealed)
    }
}

/// Whether nothing in a member of FROM can read the columns of another: what is known of them may change.
fn sees_none(tree: &TableWithJoins) -> bool {
    let alone = |factor: &TableFactor| match factor {
        TableFactor::Table { args, .. } => args.is_none(),
        TableFactor::Derived { lateral, .. } => !lateral,
        TableFactor::UNNEST { array_exprs, .. } => array_exprs.iter().all(|array| {
            let array = strip(array);
            matches!(array, Expr::Value(_) | Expr::Array(_))
                || matches!(array, Expr::Cast { expr, .. } if matches!(strip(expr), Expr::Value(_)))
        }),
        _ => false,
    };
    alone(&tree.relation) && tree.joins.iter().all(|join| alone(&join.relation))
}

/// The literal as it stands in a column of this type, or under a cast.
fn typed(operand: Operand, common: Option<LogicalType>, retyped: Option<LogicalType>) -> Operand {
    match retyped {
        Some(to) => Operand {
            cast: match operand.what {
                What::Param(..) => Cast::Read(to),
                What::Literal(_) | What::Null | What::Applied { .. } => Cast::To(to),
                What::Asked(_) => operand.cast,
            },
            common: None,
            ..operand
        },
        None => Operand { common, ..operand },
    }
}

fn scope_names(column: &Protected) -> Vec<String> {
    let names = column.scope.columns().into_iter();
    names.map(str::to_owned).collect()
}

fn expression(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}
