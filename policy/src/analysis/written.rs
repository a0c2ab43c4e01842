//! What a statement writes to: a table, or a view through which PostgreSQL writes to one. Says which column of the table each
//! column of the view is. Whether a view can be written through is the server's to say: it refuses every other.

use std::collections::HashMap;

use sqlparser::ast::{ObjectName, Query, SetExpr, TableFactor};

use super::{
    Analyser,
    facts::Fact,
    kind::Kind,
    namespace::{Column, Entry, Namespace},
    protection::Standing,
    query::Rows,
    refusals,
};
use crate::{
    Refusal,
    catalog::{self, Relation},
};

/// The table or view that a statement writes to.
#[derive(Clone)]
pub(super) struct Written<'a> {
    /// What the statement names.
    pub(super) named: &'a Relation,
    /// The table whose rows are written.
    pub(super) table: &'a Relation,
    /// The row variable of that table.
    pub(super) instance: usize,
    /// The columns that the statement can name, in order.
    pub(super) columns: Vec<WrittenColumn<'a>>,
    /// What its view says of every row that is there. Rows to come need not be like them.
    pub(super) facts: Vec<Fact>,
}

/// A column under the name that the statement knows it by.
#[derive(Clone, Copy)]
pub(super) struct WrittenColumn<'a> {
    pub(super) name: &'a str,
    /// That of the table; `None` for an expression of the view, to which nothing can be written.
    pub(super) column: Option<&'a catalog::Column>,
}

/// By column of a view: that of the table behind it.
pub(super) type Base = Vec<Option<i16>>;

/// How deep views may stand upon each other.
const MAX_VIEWS: usize = 32;

/// Names of a table's columns, as the statement can write them. Those that its view hides are missing.
pub(super) type Spelling = HashMap<String, String>;

impl<'a> Written<'a> {
    /// Whether it is a view.
    pub(super) fn is_view(&self) -> bool {
        self.named.oid != self.table.oid
    }

    /// How the table's columns are spelt; `None` if by their own names.
    pub(super) fn spelling(&self) -> Option<Spelling> {
        if !self.is_view() {
            return None;
        }
        let pairs = self.columns.iter();
        let pairs = pairs
            .filter_map(|written| Some((written.column?.name.clone(), written.name.to_owned())));
        Some(pairs.collect())
    }

    /// A column that is written without being named.
    pub(super) fn positional(&self) -> Result<Vec<&'a catalog::Column>, Refusal> {
        let columns = self.columns.iter();
        columns.map(|written| self.writable(*written)).collect()
    }

    /// The column of the table.
    pub(super) fn writable(
        &self,
        written: WrittenColumn<'a>,
    ) -> Result<&'a catalog::Column, Refusal> {
        written.column.ok_or_else(|| {
            Refusal::unsupported(
                "relation-not-supported",
                format!(
                    "column \"{}\" of view \"{}\" cannot be written",
                    written.name, self.named.name
                ),
            )
            .detail("It is no column of the table that the view shows.")
            .hint("Name the columns that are to be written.")
        })
    }
}

/// `column` as the statement can write it. `None`: it cannot.
pub(super) fn spelt<'s>(spelling: Option<&'s Spelling>, column: &'s str) -> Option<&'s str> {
    match spelling {
        None => Some(column),
        Some(names) => names.get(column).map(String::as_str),
    }
}

impl<'a> Analyser<'a> {
    /// What INSERT, UPDATE and DELETE write to, as an entry of their names.
    pub(super) fn written_to(
        &mut self,
        name: &ObjectName,
        alias: Option<String>,
    ) -> Result<(Written<'a>, Namespace), Refusal> {
        let relation = self.relation(name)?;
        self.check_writes(relation)?;
        if relation.is_view() && self.protection.standing(relation) == Standing::Dependent {
            return self.written_view(relation, alias);
        }
        let (entry, instance) = self.table_entry(relation, alias);
        let columns = relation.columns.iter();
        let columns = columns.map(|column| WrittenColumn {
            name: &column.name,
            column: Some(column),
        });
        let written = Written {
            named: relation,
            table: relation,
            instance,
            columns: columns.collect(),
            facts: Vec::new(),
        };
        Ok((written, Namespace::of(entry)))
    }

    /// The server rewrites the statement so that it writes to the table which the view shows.
    fn written_view(
        &mut self,
        relation: &'a Relation,
        alias: Option<String>,
    ) -> Result<(Written<'a>, Namespace), Refusal> {
        let refuse = |inner: Refusal| refusals::view_not_readable(&relation.name, &inner);
        let instance = self.instances.len();
        let (rows, base) = self.view_rows(relation).map_err(refuse)?;
        let (Some(base), Some(&table)) = (base, self.instances.get(instance)) else {
            let why =
                "shows more than the rows of one table, so that nothing can be written through it";
            return Err(refusals::dependent(&relation.name, why));
        };
        if !matches!(table.kind, 'r' | 'p') {
            let why = "shows no table of this database";
            return Err(refusals::dependent(&relation.name, why));
        }
        self.check_views(relation, 0)?;
        self.check_writes(table)?;
        let columns = relation.columns.iter().zip(base);
        let columns = columns.map(|(column, attnum)| WrittenColumn {
            name: column.name.as_str(),
            column: attnum.and_then(|attnum| table.attribute(attnum)),
        });
        let written = Written {
            named: relation,
            table,
            instance,
            columns: columns.collect(),
            facts: rows.facts,
        };
        self.touch(relation, &rows.columns);
        self.note(format!(
            "\"{}\" is a view of \"{}\": values are sealed for the table's columns.",
            relation.name, table.name
        ));
        let entry = Entry {
            id: self.next_entry(),
            schema: alias.is_none().then(|| relation.schema.clone()),
            name: Some(alias.unwrap_or_else(|| relation.name.clone())),
            columns: rows.columns,
            open: false,
            table: false,
            reshaped: false,
        };
        Ok((written, Namespace::of(entry)))
    }

    /// The row that was to be inserted, as ON CONFLICT sees it.
    pub(super) fn excluded_columns(
        &mut self,
        written: &Written<'a>,
        instance: usize,
    ) -> Vec<Column> {
        let held = self.columns_of(instance);
        let mut shown = Vec::with_capacity(written.columns.len());
        for column in &written.columns {
            let attnum = column.column.map(|column| column.attnum);
            let place = attnum.and_then(|attnum| {
                written
                    .table
                    .columns
                    .iter()
                    .position(|c| c.attnum == attnum)
            });
            let kind = place.map_or(Kind::Plain(None), |place| held[place].kind.clone());
            shown.push(Column {
                name: Some(column.name.to_owned()),
                kind,
            });
        }
        shown
    }

    /// The server goes through every view between the one that is named and the table.
    fn check_views(&self, view: &Relation, depth: usize) -> Result<(), Refusal> {
        self.check_writes(view)?;
        if depth > MAX_VIEWS {
            return Err(refusals::not_understood("Views are nested too deeply"));
        }
        let own = &self.view.relations;
        let read = view.reads.iter().filter(|oid| **oid != view.oid);
        let read = read.filter_map(|oid| {
            let own = own.iter().find(|own| own.oid == *oid);
            own.or_else(|| self.rules.catalog.relation_by_oid(*oid))
        });
        { read }
            .filter(|relation| relation.is_view())
            .try_for_each(|relation| self.check_views(relation, depth + 1))
    }

    /// Functions that run on a write may read something protected; what a rule or an INSTEAD OF trigger makes of a
    /// written row is not known.
    pub(super) fn check_writes(&self, relation: &Relation) -> Result<(), Refusal> {
        let runs = |oid: &u32| self.rules.dependents.functions.contains(oid);
        if self.rules.has_dependent_writes(relation.oid)
            || relation.trigger_functions.iter().any(runs)
        {
            let why = "runs a function on every write that may read a protected table";
            return Err(refusals::dependent(&relation.name, why));
        }
        if let Some(column) = self.rules.rescoped(relation.oid) {
            let why = format!(
                "has a trigger that may change column \"{column}\", from which the scope of its values is taken"
            );
            return Err(refusals::dependent(&relation.name, &why)
                .hint("Let the application set the column, or DROP TRIGGER."));
        }
        let replaced = relation.has_rules || relation.has_instead_triggers;
        if replaced && self.protection.standing(relation) != Standing::Plain {
            let why = "has a rule or an INSTEAD OF trigger, and what that does with protected values is not known";
            return Err(refusals::dependent(&relation.name, why));
        }
        Ok(())
    }
}

/// By column of a query over the rows of one relation: that of the table behind it. `None`: it is no such query.
pub(super) fn base_of(analyser: &Analyser<'_>, query: &Query, rows: &Rows) -> Option<Base> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let ([from], None) = (select.from.as_slice(), &query.with) else {
        return None;
    };
    let TableFactor::Table { args: None, .. } = &from.relation else {
        return None;
    };
    if !from.joins.is_empty() {
        return None;
    }
    // The first row variable is that of the table in FROM, be it behind further views.
    let table = analyser.instances.first()?;
    let column = |column: &Column| match &column.kind {
        Kind::Plain(Some(cell)) => (cell.instance == 0).then_some(cell.attnum),
        Kind::Sealed(sealed) => {
            let (oid, attnum) = sealed.origin()?;
            if oid == table.oid {
                Some(attnum)
            } else {
                analyser.behind_view(oid, attnum)
            }
        }
        Kind::Plain(None) | Kind::Untyped | Kind::Holder(_) => None,
    };
    Some(rows.columns.iter().map(column).collect())
}
