//! Views and materialized views: their definitions are analysed like sub-selects, once per ruleset. A definition in the
//! server is run as it stands there, so one that pgveil would have to change is none that can be trusted: it compares
//! sealed values as bytes, for example. What is written through a view is the business of `written`.

use std::ops::Range;

use super::{
    Analyser, Protocol, SessionView,
    expr::Cx,
    kind::{Kind, Sealed},
    namespace::{Entry, Namespace, name_of},
    protection::Protection,
    query::Rows,
    refusals,
    relation::idents_of,
    statement::{Door, parse_query},
    term::{check_number, numbered_value},
    written::{self, Base},
};
use crate::{
    Refusal,
    catalog::Relation,
    ruleset::Ruleset,
    text::{MAX_DEPTH, Tokens, depth, split},
    types::FormatSettings,
};
use sqlparser::ast::{Expr, Function, FunctionArguments, TableAlias};

/// What a view shows.
#[derive(Debug)]
pub(crate) struct Shape {
    rows: Rows,
    /// By row variable of the definition: its table; 0 where no row is known.
    tables: Vec<u32>,
    /// By column: that of the one table whose rows it shows, if it does so and can be written through.
    base: Option<Base>,
}

impl Shape {
    /// Analyses the definition of a view of the catalog.
    pub(crate) fn of(rules: &Ruleset, relation: &Relation) -> Result<Self, Refusal> {
        // As the catalog is read: every name is qualified but those of pg_catalog.
        let view = SessionView {
            schemas: vec!["pg_catalog".to_owned()],
            relations: Vec::new(),
            readable_text: true,
            format: FormatSettings::default(),
        };
        defined(rules, &view, relation, 0)
    }

    /// Whether a column is a sealed value; `None` for one that holds such, and for no column of the view.
    pub(crate) fn is_sealed(&self, relation: &Relation, attnum: i16) -> Option<bool> {
        let mut columns = relation.columns.iter().zip(&self.rows.columns);
        let found = columns.find(|(column, _)| column.attnum == attnum)?;
        match found.1.kind {
            Kind::Plain(_) | Kind::Untyped => Some(false),
            Kind::Sealed(_) => Some(true),
            Kind::Holder(_) => None,
        }
    }
}

/// Views of a session upon each other, beyond which none is looked into.
const MAX_NESTED: usize = 32;

/// What a definition shows.
fn defined(
    rules: &Ruleset,
    view: &SessionView,
    relation: &Relation,
    nested: usize,
) -> Result<Shape, Refusal> {
    let sql = relation
        .definition
        .as_deref()
        .ok_or_else(|| refusals::not_understood("The definition of a view could not be read"))?;
    if nested > MAX_NESTED {
        return Err(refusals::not_understood("Views are nested too deeply"));
    }
    let tokens = Tokens::read(sql)?;
    let statements = split(&tokens);
    let [statement] = statements.as_slice() else {
        return Err(refusals::not_understood(
            "A view's definition is no single query",
        ));
    };
    if depth(&tokens, statement) > MAX_DEPTH {
        return Err(refusals::not_understood(
            "A view's definition is nested too deeply",
        ));
    }
    let protection = Protection::of(rules, view);
    let shape = shape_of(rules, view, &protection, &tokens, statement, nested)?;
    let rows = &shape.rows;
    if rows.open || rows.columns.len() != relation.columns.len() {
        return Err(refusals::not_understood(
            "A view shows columns that only the server knows",
        ));
    }
    check_types(rows, relation)?;
    Ok(shape)
}

/// Whether a definition like this, as it would be kept, can be read, and shows what the client's own query does.
pub(super) fn stands(
    rules: &Ruleset,
    view: &SessionView,
    sql: &str,
    meant: &Rows,
) -> Result<(), Refusal> {
    let tokens = Tokens::read(sql)?;
    let protection = Protection::of(rules, view);
    let kept = shape_of(rules, view, &protection, &tokens, &(0..tokens.len()), 0)?;
    let shapes = |rows: &Rows| -> Vec<_> {
        let columns = rows.columns.iter();
        columns.map(|column| column.kind.shape()).collect()
    };
    if shapes(&kept.rows) == shapes(meant) {
        Ok(())
    } else {
        Err(refusals::not_understood(
            "The server would keep other columns: a cast of a protected column is done when it is shown",
        ))
    }
}

/// Whether a query of a statement can be kept as a definition without a change.
pub(super) fn kept(door: &Door<'_>, query: &Range<usize>) -> Result<(), Refusal> {
    if depth(door.tokens, query) > MAX_DEPTH {
        return Err(refusals::not_understood(
            "A view's definition is nested too deeply",
        ));
    }
    let Door {
        rules,
        protection,
        view,
        tokens,
        ..
    } = door;
    let shape = shape_of(rules, view, protection, tokens, query, 0)?;
    if shape.rows.open {
        return Err(refusals::not_understood(
            "A view shows columns that only the server knows",
        ));
    }
    Ok(())
}

fn shape_of(
    rules: &Ruleset,
    view: &SessionView,
    protection: &Protection<'_>,
    tokens: &Tokens<'_>,
    statement: &Range<usize>,
    nested: usize,
) -> Result<Shape, Refusal> {
    let (query, left_out) = parse_query(tokens, protection, statement)?;
    let mut analyser = Analyser::new(rules, protection, view, Protocol::Simple, &[], tokens);
    analyser.stored = true;
    analyser.nested = nested;
    analyser.account_types(statement);
    let mut rows = analyser.query(&query, None, &Default::default())?;
    analyser.check_ledger(statement, &left_out)?;
    let base = written::base_of(&analyser, &query, &rows);
    let edits = analyser.edits.finish();
    if !analyser.slots.is_empty() || edits.is_none_or(|edits| !edits.is_empty()) {
        return Err(refusals::stored_comparison());
    }
    rows.facts.retain(|fact| !fact.has_parameter());
    let tables = analyser.instances.iter().map(|table| table.oid).collect();
    Ok(Shape { rows, tables, base })
}

/// What the analysis says of each column must be what the server says.
fn check_types(rows: &Rows, relation: &Relation) -> Result<(), Refusal> {
    for (output, column) in rows.columns.iter().zip(&relation.columns) {
        let fits = match (&output.kind, column.sealed_domain()) {
            (Kind::Sealed(sealed), Some(domain)) => sealed.logical().domain() == domain,
            (Kind::Sealed(_), None) => column.base_type_oid == BYTEA,
            (Kind::Plain(_) | Kind::Untyped | Kind::Holder(_), domain) => domain.is_none(),
        };
        if !fits {
            return Err(refusals::not_understood(&format!(
                "Column \"{}\" of the view is of another type than its definition says",
                column.name
            )));
        }
    }
    Ok(())
}

/// `pg_type.oid` of bytea.
const BYTEA: u32 = 17;

impl<'a> Analyser<'a> {
    /// A view as a member of FROM: its rows, under the names that its columns have now.
    pub(super) fn view_entry(
        &mut self,
        relation: &'a Relation,
        alias: Option<&TableAlias>,
    ) -> Result<Namespace, Refusal> {
        let (rows, _) = self
            .view_rows(relation)
            .map_err(|inner| refusals::view_not_readable(&relation.name, &inner))?;
        let mut rows = self.renamed(rows, alias)?;
        self.facts.append(&mut rows.facts);
        self.touch(relation, &rows.columns);
        let entry = Entry {
            id: self.next_entry(),
            schema: alias.is_none().then(|| relation.schema.clone()),
            name: Some(alias.map_or_else(|| relation.name.clone(), |alias| name_of(&alias.name))),
            columns: rows.columns,
            open: false,
            table: false,
            reshaped: false,
        };
        Ok(Namespace::of(entry))
    }

    /// The rows of a view, and by column that of the one table behind it, if there is one: its row variable is the first new
    /// one.
    pub(super) fn view_rows(
        &mut self,
        relation: &'a Relation,
    ) -> Result<(Rows, Option<Base>), Refusal> {
        let own = |oid: u32| self.view.relations.iter().find(|own| own.oid == oid);
        let made;
        let shape = if own(relation.oid).is_some() {
            made = defined(self.rules, self.view, relation, self.nested + 1)?;
            &made
        } else {
            let shape = self.rules.shape(relation);
            let shape =
                shape.ok_or_else(|| refusals::not_understood("A view was not looked at"))?;
            shape.as_ref().map_err(Clone::clone)?
        };
        let table = |oid: u32| own(oid).or_else(|| self.rules.catalog.relation_by_oid(oid));
        let tables: Vec<&'a Relation> = shape
            .tables
            .iter()
            .map(|oid| table(*oid).unwrap_or(&self.rules.nowhere))
            .collect();
        let mut rows = shape.rows.clone();
        let first = self.instances.len();
        self.instances.extend(tables);
        rows.renumber(&mut |instance| first + instance);
        for (output, column) in rows.columns.iter_mut().zip(&relation.columns) {
            output.name = Some(column.name.clone());
            if let Kind::Sealed(sealed) = &mut output.kind {
                sealed.attribute = Some((relation.oid, column.attnum));
                sealed.computed = false;
            }
        }
        Ok((rows, shape.base.clone()))
    }

    /// The column of a table that a column of a view is.
    pub(super) fn behind_view(&self, view: u32, attnum: i16) -> Option<i16> {
        let own = self.view.relations.iter().find(|own| own.oid == view);
        let relation = own.or_else(|| self.rules.catalog.relation_by_oid(view))?;
        let position = relation.columns.iter().position(|c| c.attnum == attnum)?;
        let base = |shape: &Shape| *shape.base.as_ref()?.get(position)?;
        match own {
            Some(_) => base(&defined(self.rules, self.view, relation, self.nested + 1).ok()?),
            None => base(self.rules.shape(relation)?.as_ref().ok()?),
        }
    }

    /// The columns of a table that the statement uses, remembered.
    pub(super) fn touch(&mut self, relation: &Relation, columns: &[super::namespace::Column]) {
        self.touched = true;
        for (column, held) in relation.columns.iter().zip(columns) {
            if let Kind::Sealed(sealed) = &held.kind {
                self.sealed_names.insert(column.name.clone());
                self.logicals.insert(sealed.logical());
            }
        }
    }

    /// What pgveil itself wrote into a definition: terms are plain bytes, one of a group's values is a value.
    pub(super) fn stored_function(
        &mut self,
        function: &Function,
        cx: Cx<'_>,
    ) -> Result<Option<Kind>, Refusal> {
        let idents = idents_of(&function.name)?;
        let names: Vec<String> = idents.iter().map(|ident| name_of(ident)).collect();
        let [schema, name] = names.as_slice() else {
            return Ok(None);
        };
        let FunctionArguments::List(list) = &function.args else {
            return Ok(None);
        };
        let Some((number, of)) = numbered_value(&list.args) else {
            return Ok(None);
        };
        if !self.stored
            || schema != "pgveil"
            || function.over.is_some()
            || function.filter.is_some()
        {
            return Ok(None);
        }
        match name.as_str() {
            // `stored_terms` knows what an argument's may be compared with.
            "eq_term" if self.is_argument(of) => Err(refusals::stored_comparison()),
            "eq_term" => {
                if let Kind::Sealed(sealed) = self.expr(of, cx)? {
                    check_number(&sealed, number)?;
                }
                Ok(Some(Kind::Plain(None)))
            }
            "any_value" if list.args.len() == 1 => self.expr(of, cx).map(|kind| match kind {
                Kind::Sealed(sealed) => Some(Kind::Sealed(Sealed {
                    computed: true,
                    ..sealed
                })),
                _ => None,
            }),
            _ => Ok(None),
        }
    }

    /// `(email)::bytea` or `(any_value(email))::pgveil.sealed_text` in a definition: the same bytes, with or without the domain.
    pub(super) fn is_stored_domain(
        &self,
        cast: &Expr,
        inner: &Expr,
        kind: &Kind,
    ) -> Result<bool, Refusal> {
        let (true, Kind::Sealed(sealed)) = (self.stored, kind) else {
            return Ok(false);
        };
        let inner = self.tokens.extent(inner)?;
        let outer = self.tokens.extent(cast)?;
        let range = inner.end + 1..outer.end;
        let text = &self.tokens.sql[self.tokens.bytes(&range)];
        let domain = sealed.logical().domain();
        let named = text == format!("pgveil.{domain}") || text == format!("pgveil.\"{domain}\"");
        Ok(named || text == "bytea")
    }
}
