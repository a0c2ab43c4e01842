//! Which names a query can use, and what they mean: PostgreSQL's rules of look-up. Makes no edits.

use std::{collections::HashMap, rc::Rc};

use sqlparser::ast::Ident;

use super::{holder::Holder, kind::Kind, query::Cte, refusals};
use crate::{Refusal, text::fold};

/// Columns that every table has besides its own.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "ctid", "xmin", "cmin", "xmax", "cmax"];

/// A column of a table, a sub-select or a join.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Its name; `None` if only the server knows it (a computed column: always plain).
    pub(super) name: Option<String>,
    /// What it holds.
    pub(super) kind: Kind,
}

/// A member of FROM.
#[derive(Debug)]
pub(super) struct Entry {
    /// Different for every entry of a statement.
    pub(super) id: usize,
    /// Alias or table name.
    pub(super) name: Option<String>,
    /// The schema, for a table without an alias.
    pub(super) schema: Option<String>,
    /// Its columns, in order.
    pub(super) columns: Vec<Column>,
    /// Has columns that only the server knows (a function in FROM); all of them plain.
    pub(super) open: bool,
    /// A table, which has system columns.
    pub(super) table: bool,
    /// The server has its columns in another order, or others besides: what shows all of them has to name them.
    pub(super) reshaped: bool,
}

impl Entry {
    /// Whether any of its columns is sealed or holds sealed values.
    pub(super) fn is_sealed(&self) -> bool {
        self.columns
            .iter()
            .any(|column| column.kind.protected().is_some())
    }

    fn position(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let mut found = None;
        for (index, column) in self.columns.iter().enumerate() {
            if column.name.as_deref() == Some(name) && found.replace(index).is_some() {
                return Err(refusals::ambiguous(name));
            }
        }
        Ok(found)
    }

    fn is_guessed(&self) -> bool {
        self.open || self.columns.iter().any(|column| column.name.is_none())
    }
}

/// A column as `*` and unqualified names see it.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// Its name.
    pub(super) name: Option<String>,
    /// Where it comes from.
    pub(super) entry: Rc<Entry>,
    /// Which column of the entry.
    pub(super) column: usize,
    /// Differs from the entry's column for FULL JOIN ... USING.
    pub(super) kind: Kind,
    /// The rewritten join does not merge it any more: references must name the entry.
    pub(super) qualify: bool,
    /// Merged of both sides of a FULL JOIN: no one entry's column.
    pub(super) coalesced: bool,
}

/// What FROM makes visible.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespace {
    /// For qualified names.
    pub(super) entries: Vec<Rc<Entry>>,
    /// For unqualified names and `*`.
    pub(super) shown: Vec<Shown>,
    /// `*` must be written out: a rewritten join changed what it means.
    pub(super) reshaped: bool,
}

impl Namespace {
    /// One entry, all its columns shown.
    pub(super) fn of(entry: Entry) -> Self {
        let entry = Rc::new(entry);
        let shown = entry
            .columns
            .iter()
            .enumerate()
            .map(|(column, found)| Shown {
                name: found.name.clone(),
                entry: Rc::clone(&entry),
                column,
                kind: found.kind.clone(),
                qualify: false,
                coalesced: false,
            });
        Self {
            shown: shown.collect(),
            reshaped: entry.reshaped,
            entries: vec![entry],
        }
    }

    /// The same, with other kinds for some columns of its entries, none of which a join has merged.
    pub(super) fn with_kinds(self, kinds: &HashMap<(usize, usize), Kind>) -> Self {
        let changed = |entry: &Rc<Entry>| {
            let columns = entry.columns.iter().enumerate().map(|(index, column)| {
                let kind = kinds.get(&(entry.id, index));
                Column {
                    name: column.name.clone(),
                    kind: kind.unwrap_or(&column.kind).clone(),
                }
            });
            Rc::new(Entry {
                id: entry.id,
                name: entry.name.clone(),
                schema: entry.schema.clone(),
                columns: columns.collect(),
                open: entry.open,
                table: entry.table,
                reshaped: entry.reshaped,
            })
        };
        let entries: Vec<Rc<Entry>> = self.entries.iter().map(changed).collect();
        let shown = self.shown.into_iter().map(|shown| {
            let same = |entry: &&Rc<Entry>| entry.id == shown.entry.id;
            let kind = kinds.get(&(shown.entry.id, shown.column));
            Shown {
                kind: kind.cloned().unwrap_or(shown.kind),
                entry: entries.iter().find(same).unwrap_or(&shown.entry).clone(),
                ..shown
            }
        });
        Self {
            shown: shown.collect(),
            reshaped: self.reshaped,
            entries,
        }
    }

    /// Whether no join has merged columns of its entries.
    pub(super) fn is_unmerged(&self) -> bool {
        let columns: usize = self.entries.iter().map(|entry| entry.columns.len()).sum();
        let merged = |shown: &Shown| shown.coalesced || shown.qualify;
        columns == self.shown.len() && !self.reshaped && !self.shown.iter().any(merged)
    }

    /// Both, as after a comma or CROSS JOIN.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self.shown.extend(other.shown);
        self.reshaped |= other.reshaped;
        self
    }

    /// Whether anything in it is sealed.
    pub(super) fn is_sealed(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_sealed())
    }

    /// Whether some names are known to the server only.
    pub(super) fn is_guessed(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_guessed())
    }

    /// The column that an unqualified name shows.
    pub(super) fn shown(&self, name: &str) -> Result<Option<&Shown>, Refusal> {
        let mut matching = self
            .shown
            .iter()
            .filter(|shown| shown.name.as_deref() == Some(name));
        let found = matching.next();
        if matching.next().is_some() {
            return Err(refusals::ambiguous(name));
        }
        Ok(found)
    }

    /// The entry that a qualifier names.
    pub(super) fn entry(&self, schema: Option<&str>, name: &str) -> Option<&Rc<Entry>> {
        self.entries.iter().find(|entry| {
            entry.name.as_deref() == Some(name)
                && (schema.is_none() || entry.schema.as_deref() == schema)
        })
    }
}

/// The names of a query and of the queries around it.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s> {
    /// This query's FROM.
    pub(super) names: &'s Namespace,
    /// The query around it.
    pub(super) parent: Option<&'s Scope<'s>>,
}

/// The common table expressions in force, the nearest first.
#[derive(Clone, Default)]
pub(super) struct Ctes(Option<Rc<(String, Rc<Cte>, Ctes)>>);

/// A long WITH makes a long list: it is dropped one by one, not by recursion.
impl Drop for Ctes {
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(node) = next {
            next = Rc::into_inner(node).and_then(|mut node| node.2.0.take());
        }
    }
}

impl Ctes {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// One more, which hides others of its name.
    pub(super) fn with(&self, name: String, cte: Rc<Cte>) -> Self {
        Self(Some(Rc::new((name, cte, self.clone()))))
    }

    /// The nearest of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Rc<Cte>> {
        let mut at = self;
        while let Some(node) = &at.0 {
            if node.0 == name {
                return Some(&node.1);
            }
            at = &node.2;
        }
        None
    }
}

/// What a name was found to be.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    /// What it holds.
    pub(super) kind: Kind,
    /// The column's name.
    pub(super) name: String,
    /// Entry and column: the same for every spelling of one column.
    pub(super) identity: Option<(usize, usize)>,
    /// The entry's name, to write the reference in full.
    pub(super) entry: Option<String>,
    /// The reference must be written in full.
    pub(super) qualify: bool,
}

impl Reference {
    fn plain(name: &str) -> Self {
        Self {
            kind: Kind::Plain(None),
            name: name.to_owned(),
            identity: None,
            entry: None,
            qualify: false,
        }
    }

    fn of(entry: &Entry, column: usize, kind: Kind, qualify: bool) -> Self {
        Self {
            kind,
            name: entry.columns[column].name.clone().unwrap_or_default(),
            identity: Some((entry.id, column)),
            entry: entry.name.clone(),
            qualify,
        }
    }
}

/// An identifier as PostgreSQL stores it.
pub(super) fn name_of(ident: &Ident) -> String {
    fold(&ident.value, ident.quote_style.is_some()).into_owned()
}

impl<'s> Scope<'s> {
    fn levels(&self) -> impl Iterator<Item = &Scope<'s>> {
        std::iter::successors(Some(self), |scope| scope.parent)
    }

    /// Looks a column reference up: `a`, `t.a`, `s.t.a`.
    pub(super) fn find(&self, idents: &[Ident]) -> Result<Reference, Refusal> {
        let names: Vec<String> = idents.iter().map(name_of).collect();
        match names.as_slice() {
            [column] => self.unqualified(column),
            [table, column] => self.qualified(None, table, column),
            [schema, table, column] => self.qualified(Some(schema), table, column),
            _ => Err(refusals::not_understood(
                "A column reference has more than three parts",
            )),
        }
    }

    fn unqualified(&self, name: &str) -> Result<Reference, Refusal> {
        let mut guessed = false;
        for scope in self.levels() {
            if let Some(shown) = scope.names.shown(name)? {
                if guessed && shown.kind.protected().is_some() {
                    let what = format!(
                        "\"{name}\" may be a column of a function or an expression, or a protected column"
                    );
                    return Err(refusals::not_understood(&what));
                }
                return Ok(Reference::of(
                    &shown.entry,
                    shown.column,
                    shown.kind.clone(),
                    shown.qualify,
                ));
            }
            if SYSTEM_COLUMNS.contains(&name) && scope.names.entries.iter().any(|entry| entry.table)
            {
                return Ok(Reference::plain(name));
            }
            guessed |= scope.names.is_guessed();
        }
        for scope in self.levels() {
            if let Some(entry) = scope.names.entry(None, name) {
                return whole_row(entry, name);
            }
        }
        if guessed {
            return Ok(Reference::plain(name));
        }
        Err(refusals::undefined_column(None, name))
    }

    fn qualified(
        &self,
        schema: Option<&str>,
        table: &str,
        column: &str,
    ) -> Result<Reference, Refusal> {
        let Some(entry) = self
            .levels()
            .find_map(|scope| scope.names.entry(schema, table))
        else {
            return Err(Refusal::new(
                "42P01",
                "undefined-table",
                format!("missing FROM-clause entry for table \"{table}\""),
            ));
        };
        if let Some(position) = entry.position(column)? {
            return Ok(Reference::of(
                entry,
                position,
                entry.columns[position].kind.clone(),
                false,
            ));
        }
        if entry.is_guessed() || (entry.table && SYSTEM_COLUMNS.contains(&column)) {
            return Ok(Reference::plain(column));
        }
        Err(refusals::undefined_column(Some(table), column))
    }

    /// The entry of `t.*`.
    pub(super) fn find_entry(
        &self,
        schema: Option<&str>,
        table: &str,
    ) -> Result<&Rc<Entry>, Refusal> {
        self.levels()
            .find_map(|scope| scope.names.entry(schema, table))
            .ok_or_else(|| {
                Refusal::new(
                    "42P01",
                    "undefined-table",
                    format!("missing FROM-clause entry for table \"{table}\""),
                )
            })
    }
}

/// `SELECT c FROM customers c`: a row of all its columns.
pub(super) fn whole_row(entry: &Entry, name: &str) -> Result<Reference, Refusal> {
    if entry.reshaped {
        return Err(refusals::reshaped("a whole row", name));
    }
    if !entry.is_sealed() {
        return Ok(Reference::plain(name));
    }
    if entry.open {
        return Err(refusals::whole_row(name));
    }
    Ok(Reference {
        kind: Kind::Holder(Holder::row(entry.columns.clone())?),
        ..Reference::plain(name)
    })
}
