//! Variables of a body in PL/pgSQL: what each holds, by its declaration and by what is selected into it. Reads no statements.

use std::ops::Range;

use sqlparser::tokenizer::Token as Token_;

use super::{Returned, plpgsql::Block, types};
use crate::{
    Refusal,
    analysis::{
        Analyser, SessionView,
        function::runs_text,
        kind::{Kind, Sealed},
        namespace::{Column, Entry},
        protection::Protection,
        query::Rows,
        refusals,
    },
    catalog::{self, Function},
    plan::Shape,
    ruleset::Ruleset,
    text::Tokens,
    types::LogicalType,
};

/// A variable, or an OUT parameter.
#[derive(Clone, Debug)]
struct Local {
    name: String,
    holds: Holds,
    /// It is a parameter: the arguments' entry has it.
    parameter: bool,
}

#[derive(Clone, Debug)]
enum Holds {
    /// A value under no domain of pgveil.
    Plain,
    /// A value under this one.
    Sealed(Kind),
    /// A row; of nothing before it is assigned. It may be declared with columns.
    Row {
        declared: Option<Vec<catalog::Column>>,
        held: Option<Vec<Column>>,
    },
}

/// All of a body.
#[derive(Debug, Default)]
pub(super) struct Locals {
    all: Vec<Local>,
    /// What cursors read, as far as they were opened.
    cursors: Vec<(String, Rows)>,
    /// The variable that could not get a sealed value, and as what that is shown.
    pub(super) unfit: Option<(String, LogicalType)>,
}

impl Locals {
    pub(super) fn of(
        rules: &Ruleset,
        view: &SessionView,
        function: &Function,
        tokens: &Tokens<'_>,
        block: &Block,
    ) -> Result<Self, Refusal> {
        let mut locals = Self::default();
        for parameter in &function.parameters {
            if parameter.mode == 'r' || parameter.column.name.is_empty() {
                continue;
            }
            let holds = holds(
                rules,
                function,
                parameter.column.sealed_domain(),
                &parameter.column.name,
            )?;
            locals.add(&parameter.column.name, holds, true)?;
        }
        if function.language == "plpgsql" {
            locals.add("found", Holds::Plain, false)?;
        }
        for variable in &block.variables {
            let declared = types::declared(rules, view, tokens, &variable.types);
            let holds = match declared {
                types::Declared::Row(declared) => Holds::Row {
                    declared,
                    held: None,
                },
                types::Declared::Reshaped(table) => {
                    return Err(refusals::reshaped("a variable of the rows", &table));
                }
                types::Declared::Value(column) => {
                    let domain = column.sealed_domain();
                    if domain.is_some() && variable.initial {
                        return Err(refusals::not_understood(
                            "A variable for sealed values starts with another value",
                        ));
                    }
                    holds(rules, function, domain, &variable.name)?
                }
            };
            locals.add(&variable.name, holds, false)?;
        }
        for name in &block.cursors {
            locals.add(name, Holds::Plain, false)?;
        }
        for (index, name) in block.rows.iter().enumerate() {
            if !block.rows[..index].contains(name) {
                let row = Holds::Row {
                    declared: None,
                    held: None,
                };
                locals.add(name, row, false)?;
            }
        }
        if let Some(label) = block.labels.iter().find(|label| locals.has(label)) {
            return Err(refusals::not_understood(&format!(
                "\"{label}\" is a label and a variable"
            )));
        }
        for name in block.assigned.iter().chain(&block.opened) {
            let found = locals.all.iter().find(|local| local.name == *name);
            if !matches!(
                found,
                Some(Local {
                    holds: Holds::Plain,
                    ..
                })
            ) {
                return Err(refusals::not_understood(&format!(
                    "Variable \"{name}\" gets a value by an assignment"
                )));
            }
        }
        Ok(locals)
    }

    fn is_row(&self, name: &str) -> bool {
        let mut all = self.all.iter();
        all.any(|local| local.name == name && matches!(local.holds, Holds::Row { .. }))
    }

    /// Whether a word is one of them.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all.iter().any(|local| local.name == name)
    }

    fn add(&mut self, name: &str, holds: Holds, parameter: bool) -> Result<(), Refusal> {
        let known = self.all.iter().find(|local| local.name == name);
        // A loop's variable may be used again.
        match known.map(|known| &known.holds) {
            None => {}
            Some(Holds::Plain) if matches!(holds, Holds::Plain) => return Ok(()),
            Some(_) => return Err(refusals::not_understood("Two variables have one name")),
        }
        self.all.push(Local {
            name: name.to_owned(),
            holds,
            parameter,
        });
        Ok(())
    }

    /// Makes them known to the analysis of a statement.
    pub(super) fn enter(&self, analyser: &mut Analyser<'_>) {
        let nowhere = analyser.instance_of(&analyser.rules.nowhere);
        let mut values = Vec::new();
        for local in self.all.iter().filter(|local| !local.parameter) {
            let column = |name: &str, kind: &Kind| Column {
                name: Some(name.to_owned()),
                kind: elsewhere(kind, nowhere),
            };
            match &local.holds {
                Holds::Plain => values.push(column(&local.name, &Kind::Plain(None))),
                Holds::Sealed(kind) => values.push(column(&local.name, kind)),
                Holds::Row { held, .. } => {
                    let columns = held.iter().flatten();
                    let columns = columns.map(|field| Column {
                        name: field.name.clone(),
                        kind: elsewhere(&field.kind, nowhere),
                    });
                    let entry = Entry {
                        id: analyser.next_entry(),
                        name: Some(local.name.clone()),
                        schema: None,
                        columns: columns.collect(),
                        open: false,
                        table: false,
                        reshaped: false,
                    };
                    // Fields are named with their row only.
                    analyser.variables.entries.push(entry.into());
                }
            }
        }
        let entry = Entry {
            id: analyser.next_entry(),
            name: None,
            schema: None,
            columns: values,
            open: false,
            table: false,
            reshaped: false,
        };
        let all = std::mem::take(&mut analyser.variables);
        analyser.variables = all.and(super::Namespace::of(entry));
    }

    /// What a statement selects into variables.
    pub(super) fn assign(&mut self, names: &[String], rows: Rows) -> Result<(), Refusal> {
        if rows.open {
            return Err(refusals::not_understood(
                "A variable gets columns that only the server knows",
            ));
        }
        if let [name] = names
            && !self.all.iter().any(|local| local.name == *name)
        {
            return Err(undeclared(name));
        }
        if let [name] = names
            && let Some(Holds::Row { declared, held }) = { self.all.iter_mut() }
                .find(|local| local.name == *name)
                .map(|local| &mut local.holds)
        {
            let columns = match declared {
                // Values go where their places are.
                Some(declared) => {
                    let returned = Returned::Row {
                        columns: declared.clone(),
                        of_table: true,
                    };
                    super::returns(&returned, rows)?.columns
                }
                None => rows.columns,
            };
            if held
                .as_ref()
                .is_some_and(|held| shapes(held) != shapes(&columns))
            {
                return Err(refusals::not_understood(&format!(
                    "Variable \"{name}\" holds different rows in different places"
                )));
            }
            held.get_or_insert(columns);
            return Ok(());
        }
        if names.len() != rows.columns.len() {
            return Err(refusals::not_understood(
                "INTO has another number of variables",
            ));
        }
        for (name, column) in names.iter().zip(rows.columns) {
            let found = self.all.iter().find(|local| local.name == *name);
            let fits = match (&found.ok_or_else(|| undeclared(name))?.holds, &column.kind) {
                (Holds::Plain, Kind::Plain(_) | Kind::Untyped) => true,
                (Holds::Sealed(Kind::Sealed(held)), Kind::Sealed(sealed)) => {
                    held.logical().domain() == sealed.logical().domain()
                }
                _ => false,
            };
            if !fits {
                if let Kind::Sealed(sealed) = &column.kind {
                    self.unfit = Some((name.clone(), sealed.shown));
                }
                return Err(refusals::other_type(
                    &column.kind,
                    name,
                    "a variable of another type",
                ));
            }
        }
        Ok(())
    }

    /// What a cursor reads from here on.
    pub(super) fn open(&mut self, cursor: &str, rows: Rows) -> Result<(), Refusal> {
        let known = self.cursors.iter().find(|(name, _)| name == cursor);
        match known {
            None => {
                self.cursors.push((cursor.to_owned(), rows));
                Ok(())
            }
            Some((_, before)) if shapes(&before.columns) == shapes(&rows.columns) => Ok(()),
            Some(_) => Err(refusals::not_understood(&format!(
                "Cursor \"{cursor}\" reads different rows in different places"
            ))),
        }
    }

    /// A row of a cursor is kept in variables.
    pub(super) fn fetch(&mut self, cursor: &str, names: &[String]) -> Result<(), Refusal> {
        let known = self.cursors.iter().find(|(name, _)| name == cursor);
        let rows = known.map(|(_, rows)| rows.clone()).ok_or_else(|| {
            refusals::not_understood(&format!("What cursor \"{cursor}\" reads is not known"))
        })?;
        self.assign(names, rows)
    }

    /// RETURN of a variable, or of the OUT parameters: their values as they are.
    pub(super) fn returned(
        &self,
        name: Option<&str>,
        returned: &Returned,
        tables: &mut Vec<u32>,
    ) -> Result<Rows, Refusal> {
        let nowhere = tables.len();
        tables.push(0);
        let of = |name: &str| self.all.iter().find(|local| local.name == name);
        let mut columns = Vec::new();
        match name {
            None => {
                for wanted in returned.columns() {
                    match of(&wanted.name) {
                        Some(local) if local.parameter => columns.push(value(local, nowhere)?),
                        _ => return Ok(Rows::default()),
                    }
                }
            }
            Some(name) => {
                let Some(local) = of(name) else {
                    return Err(undeclared(name));
                };
                match &local.holds {
                    Holds::Row {
                        held: Some(held), ..
                    } => columns.extend(held.iter().map(|field| Column {
                        name: field.name.clone(),
                        kind: elsewhere(&field.kind, nowhere),
                    })),
                    _ => columns.push(value(local, nowhere)?),
                }
            }
        }
        Ok(Rows {
            columns,
            ..Rows::default()
        })
    }

    /// Refuses words that name something that is, or holds, a sealed value.
    pub(super) fn check_blind(
        &self,
        tokens: &Tokens<'_>,
        protection: &Protection<'_>,
        range: &Range<usize>,
    ) -> Result<(), Refusal> {
        for at in range.clone() {
            let Some(name) = tokens.name(at) else {
                continue;
            };
            let local = self.all.iter().find(|local| local.name == name);
            let field = matches!(tokens.kind(at + 1), Token_::Period);
            let null = tokens.are_words(at + 1, &["is", "null"])
                || tokens.are_words(at + 1, &["is", "not", "null"]);
            // Behind the name of a row it is a field; behind that of a block or of the function, a variable.
            let is_field = at > 1
                && matches!(tokens.kind(at - 1), Token_::Period)
                && tokens.name(at - 2).is_some_and(|row| self.is_row(&row));
            let blind = match local.filter(|_| !is_field).map(|local| &local.holds) {
                Some(Holds::Plain) => true,
                Some(Holds::Sealed(_)) => null,
                Some(Holds::Row { held, .. }) => {
                    let named = tokens.name(at + 2);
                    let columns = held.iter().flatten();
                    field && { columns }.any(|column| {
                        column.name.as_deref() == named.as_deref()
                            && column.kind.protected().is_none()
                    })
                }
                None => {
                    let calls = matches!(tokens.kind(at + 1), Token_::LParen);
                    !(protection.names_column(&name)
                        || protection.names_relation(&name)
                        || protection.names_function(&name)
                        || calls && (runs_text(&name) || protection.runs_text(&name)))
                }
            };
            if !blind {
                return Err(refusals::not_understood(&format!(
                    "\"{name}\" stands in an expression of PL/pgSQL"
                )));
            }
        }
        Ok(())
    }
}

/// What rows must have in common to be kept in one place.
fn shapes(columns: &[Column]) -> Vec<(Option<String>, Shape)> {
    let columns = columns.iter();
    columns
        .map(|column| (column.name.clone(), column.kind.shape()))
        .collect()
}

fn undeclared(name: &str) -> Refusal {
    refusals::not_understood(&format!("\"{name}\" is no variable of it"))
}

fn holds(
    rules: &Ruleset,
    function: &Function,
    domain: Option<&str>,
    name: &str,
) -> Result<Holds, Refusal> {
    let Some(domain) = domain else {
        return Ok(Holds::Plain);
    };
    let moved = rules.moved_under(domain, [&function.schema, &function.name, name]);
    let moved = moved.ok_or_else(|| refusals::strange_column(&function.name, name))?;
    Ok(Holds::Sealed(Kind::Sealed(Sealed {
        computed: true,
        ..Sealed::moved(moved, 0)
    })))
}

/// The same value, of a row that is not known.
fn elsewhere(kind: &Kind, nowhere: usize) -> Kind {
    match kind {
        Kind::Plain(_) | Kind::Untyped => Kind::Plain(None),
        Kind::Sealed(_) | Kind::Holder(_) => {
            let mut kind = kind.clone().computed();
            kind.each_instance(&mut |instance| *instance = nowhere);
            kind
        }
    }
}

fn value(local: &Local, nowhere: usize) -> Result<Column, Refusal> {
    let kind = match &local.holds {
        Holds::Plain => Kind::Plain(None),
        Holds::Sealed(kind) => elsewhere(kind, nowhere),
        Holds::Row { .. } => {
            return Err(refusals::not_understood(
                "It returns a row that it never had",
            ));
        }
    };
    Ok(Column {
        name: Some(local.name.clone()),
        kind,
    })
}
