//! Calls of functions that read protected tables: what a function's body shows is what a call of it yields, as with views.
//! The body runs in the server as it stands there, so one that pgveil would have to change is none that can be called.
//! Reads no bodies itself (`body` does).

mod argument;
mod body;
pub(super) mod head;
mod locals;
mod make;
mod overload;
mod plpgsql;
mod run;
pub(super) mod signature;
mod types;

use std::{ops::Range, sync::Arc};

use sqlparser::ast::{
    Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, TableAlias,
};

use self::argument::Known;
use super::{
    Analyser, SessionView,
    expr::Cx,
    function::{arg_of, last_name},
    holder::{Holder, Inside},
    kind::{Kind, Sealed},
    namespace::{self, Ctes, Entry, Namespace, Scope, name_of},
    query::Rows,
    refusals,
    relation::idents_of,
    statement::Door,
};
use crate::{
    Refusal,
    catalog::{Column, Function},
    ruleset::{Protected, Ruleset},
    text::quote_identifier,
};

/// What the body of a function yields.
#[derive(Debug)]
pub(super) struct Yield {
    /// One column by column of what the function returns.
    pub(super) rows: Rows,
    /// By row variable of the body: its table; 0 where no row is known.
    pub(super) tables: Vec<u32>,
    /// What each argument must be sealed for.
    pub(super) known: Known,
}

/// What a function returns, by its declaration.
pub(super) enum Returned {
    /// One value, of this type.
    Value(Column),
    /// A row of these columns.
    Row {
        columns: Vec<Column>,
        /// They are those of a table, and keep its modifiers.
        of_table: bool,
    },
    /// Nothing.
    Nothing,
}

impl Returned {
    /// The columns of its rows.
    pub(super) fn columns(&self) -> &[Column] {
        match self {
            Self::Value(column) => std::slice::from_ref(column),
            Self::Row { columns, .. } => columns,
            Self::Nothing => &[],
        }
    }

    /// What the catalog says of a function. `None`: only the call says what it returns.
    pub(super) fn of(rules: &Ruleset, view: &SessionView, function: &Function) -> Option<Self> {
        const RECORD: u32 = 2249;
        const VOID: u32 = 2278;
        let outputs: Vec<Column> = function.outputs().map(|out| out.column.clone()).collect();
        if !outputs.is_empty() {
            return Some(match <[Column; 1]>::try_from(outputs) {
                Ok([only]) => Self::Value(only),
                Err(columns) => Self::Row {
                    columns,
                    of_table: false,
                },
            });
        }
        if let Some(oid) = function.returns_relation {
            let own = view.relations.iter().find(|own| own.oid == oid);
            let relation = own.or_else(|| rules.catalog.relation_by_oid(oid));
            // The server's rows have its columns in another order.
            let relation = relation.filter(|relation| !relation.reshaped)?;
            return Some(Self::Row {
                columns: relation.columns.clone(),
                of_table: true,
            });
        }
        let returned = function.returned()?;
        match returned.type_oid {
            RECORD => None,
            VOID => Some(Self::Nothing),
            _ => Some(Self::Value(returned.clone())),
        }
    }
}

impl<'a> Analyser<'a> {
    /// The function that a call means, if it may read something protected. `None`: no function that does has this name.
    pub(super) fn callee(
        &self,
        name: &ObjectName,
        args: &[FunctionArg],
        kind: char,
        cx: Cx<'_>,
    ) -> Result<Option<&'a Function>, Refusal> {
        let Some(last) = last_name(name).filter(|last| self.protection.names_function(last)) else {
            return Ok(None);
        };
        let idents = idents_of(name)?;
        let parts: Vec<String> = idents.iter().map(|ident| name_of(ident)).collect();
        let schema = match parts.as_slice() {
            [_] => None,
            [schema, _] => Some(schema),
            [database, schema, _] if *database == self.rules.catalog.database => Some(schema),
            _ => return Err(refusals::not_understood("A function's name has many parts")),
        };
        let functions = self.rules.catalog.functions.iter();
        let meant = functions.filter(|function| {
            function.name == last
                && match schema {
                    Some(schema) => function.schema == *schema,
                    None => self.view.schemas.contains(&function.schema),
                }
                && (function.kind != kind || function.takes(args.len()))
        });
        let refuse = |why: &str| Err(refusals::dependent(&last, why));
        let meant: Vec<&'a Function> = meant.collect();
        let picked = match meant.as_slice() {
            [] => None,
            [only] => Some(*only),
            several => match self.meant_by(several, args, cx) {
                None => {
                    return refuse(
                        "is one of several functions of that name, and names a protected table",
                    );
                }
                picked => picked,
            },
        };
        match picked {
            Some(only) if only.kind != kind => refuse(
                "is a procedure, an aggregate or a window function, or called as one, and names a protected table",
            ),
            Some(only) if schema.is_none() && only.shadows => refuse(
                "names a protected table, and the system has a function of that name too: write its schema before it",
            ),
            Some(only) => Ok(Some(only)),
            None => refuse("is a function that names a protected table"),
        }
    }

    /// A call as a value.
    pub(super) fn call(
        &mut self,
        function: &'a Function,
        call: &Call,
        cx: Cx<'_>,
    ) -> Result<Kind, Refusal> {
        let plainly = call.over.is_none()
            && call.filter.is_none()
            && call.within_group.is_empty()
            && call.null_treatment.is_none()
            && matches!(call.parameters, FunctionArguments::None);
        let args = match &call.args {
            FunctionArguments::List(list)
                if plainly && list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
            {
                list.args.as_slice()
            }
            _ => {
                return Err(refusals::construct(&format!(
                    "this form of a call of {}",
                    function.name
                )));
            }
        };
        self.account_name(&call.name);
        let (returned, mut rows, known) = self.yielded(function)?;
        self.give(function, &known, args, cx)?;
        Ok(match returned {
            Returned::Nothing => Kind::Plain(None),
            Returned::Value(_) => match rows.columns.pop() {
                Some(namespace::Column {
                    kind: kind @ (Kind::Sealed(_) | Kind::Holder(_)),
                    ..
                }) => kind,
                // As a value it is no column of a table any more.
                _ => Kind::Plain(None),
            },
            Returned::Row { .. } if !rows.is_sealed() => Kind::Plain(None),
            Returned::Row { .. } => Kind::Holder(Holder::row(rows.columns)?),
        })
    }

    /// CALL: the row of what the procedure gives back, if it does so.
    pub(super) fn call_procedure(&mut self, call: &Call) -> Result<Rows, Refusal> {
        let args = match &call.args {
            FunctionArguments::List(list) => list.args.as_slice(),
            FunctionArguments::None | FunctionArguments::Subquery(_) => &[],
        };
        let empty = Namespace::default();
        let scope = Scope {
            names: &empty,
            parent: None,
        };
        let cx = Cx {
            scope: &scope,
            ctes: &Ctes::default(),
            grouping: None,
        };
        let Some(procedure) = self.callee(&call.name, args, 'p', cx)? else {
            return Err(refusals::construct("CALL"));
        };
        if procedure.outputs().next().is_some() {
            return Err(refusals::construct(
                "CALL of a procedure that gives values back",
            ));
        }
        self.call(procedure, call, cx)?;
        Ok(Rows::default())
    }

    /// A call as a member of FROM.
    pub(super) fn call_entry(
        &mut self,
        function: &'a Function,
        (name, args): (&ObjectName, &[FunctionArg]),
        alias: Option<&TableAlias>,
        ordinality: bool,
        cx: Cx<'_>,
    ) -> Result<Namespace, Refusal> {
        self.account_name(name);
        let (returned, mut rows, known) = self.yielded(function)?;
        self.give(function, &known, args, cx)?;
        match (&returned, rows.columns.first_mut()) {
            // A single OUT parameter gives its own name, other values take that of the alias.
            (Returned::Value(value), Some(column)) if value.name.is_empty() => {
                let alias = alias.map(|alias| name_of(&alias.name));
                column.name = Some(alias.unwrap_or_else(|| function.name.clone()));
            }
            (Returned::Nothing, _) => rows.columns.push(namespace::Column {
                name: None,
                kind: Kind::Plain(None),
            }),
            _ => {}
        }
        if ordinality {
            rows.columns.push(namespace::Column {
                name: Some("ordinality".to_owned()),
                kind: Kind::Plain(None),
            });
        }
        let mut rows = self.renamed(rows, alias)?;
        self.facts.append(&mut rows.facts);
        let name = alias.map(|alias| name_of(&alias.name));
        Ok(Namespace::of(Entry {
            id: self.next_entry(),
            schema: None,
            name: Some(name.unwrap_or_else(|| function.name.clone())),
            columns: rows.columns,
            open: false,
            table: false,
            reshaped: false,
        }))
    }

    fn account_name(&mut self, name: &ObjectName) {
        for ident in idents_of(name).unwrap_or_default() {
            self.account(ident);
        }
    }

    /// The arguments of a call: plain where the body takes them for plain, sealed where it compares them.
    fn give(
        &mut self,
        function: &Function,
        known: &Known,
        args: &[FunctionArg],
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let place = format!("function {}", function.name);
        for (index, arg) in args.iter().enumerate() {
            let FunctionArgExpr::Expr(expr) = arg_of(arg) else {
                return Err(refusals::construct(&format!(
                    "this form of argument of {place}"
                )));
            };
            let named = match arg {
                FunctionArg::Unnamed(_) => None,
                FunctionArg::Named { name, .. }
                | FunctionArg::ExprNamed {
                    name: Expr::Identifier(name),
                    ..
                } => Some(name),
                FunctionArg::ExprNamed { .. } => {
                    return Err(refusals::construct(&format!(
                        "this form of argument of {place}"
                    )));
                }
            };
            if let Some(name) = named {
                self.account(name);
            }
            let named = named.map(name_of);
            let mut inputs = function.arguments().enumerate();
            let given = inputs.find(|(number, parameter)| match &named {
                Some(name) => parameter.column.name == *name,
                // Behind the last one the elements of VARIADIC follow.
                None => *number == index || (parameter.mode == 'v' && *number < index),
            });
            let Some((number, parameter)) = given else {
                return Err(refusals::not_understood(
                    "A call gives an argument that is none",
                ));
            };
            let Some(domain) = parameter.column.sealed_domain() else {
                self.plain(expr, cx, &place)?;
                continue;
            };
            let refuse = || {
                let name = match parameter.column.name.as_str() {
                    "" => format!("${}", number + 1),
                    name => format!("\"{name}\""),
                };
                refusals::argument(&function.name, &name).at(self.start_of(expr))
            };
            let column = known.get(number).cloned().flatten();
            let column = column.ok_or_else(refuse)?;
            let Some(operand) = self.operand(expr)? else {
                self.give_sealed(expr, &column, cx, refuse())?;
                continue;
            };
            let domain = format!(")::pgveil.{}", quote_identifier(domain));
            let bytes = self.tokens.bytes(&operand.extent);
            self.expr(expr, cx)?;
            self.seal(&column, operand, &|_| None)?;
            self.edits.open(bytes.start, "(");
            self.edits.close(bytes.end, domain);
        }
        Ok(())
    }

    /// A sealed value as the argument of a call: one whose term is that of the column that the body compares it with.
    fn give_sealed(
        &mut self,
        expr: &Expr,
        column: &Arc<Protected>,
        cx: Cx<'_>,
        refused: Refusal,
    ) -> Result<(), Refusal> {
        let Kind::Sealed(given) = self.expr(expr, cx)? else {
            return Err(refused);
        };
        let nowhere = self.instance_of(&self.rules.nowhere);
        let wanted = Sealed::new(Arc::clone(column), nowhere);
        self.check_comparable(&given, &wanted)
            .map_err(|refusal| refusal.at(self.start_of(expr)))?;
        if given.may_be_kept(column.logical.domain()) {
            Ok(())
        } else {
            Err(refused)
        }
    }

    /// What a call yields, with row variables of its own.
    fn yielded(&mut self, function: &'a Function) -> Result<(Returned, Rows, Known), Refusal> {
        let (returned, made) = body::read(self.rules, self.view, function, self.nested + 1)
            .map_err(|inner| refusals::function_not_readable(&function.name, &inner))?;
        let own = |oid: u32| self.view.relations.iter().find(|own| own.oid == oid);
        let table = |oid: u32| own(oid).or_else(|| self.rules.catalog.relation_by_oid(oid));
        let tables: Vec<_> = { made.tables.iter() }
            .map(|oid| table(*oid).unwrap_or(&self.rules.nowhere))
            .collect();
        let first = self.instances.len();
        self.instances.extend(tables);
        let mut rows = made.rows;
        rows.renumber(&mut |instance| first + instance);
        if !function.returns_set {
            // Where the body has no row, there is one of NULLs.
            rows.facts.clear();
            self.padded.extend(first..self.instances.len());
        }
        self.touched = true;
        for column in &rows.columns {
            if let (Kind::Sealed(sealed), Some(name)) = (&column.kind, &column.name) {
                self.sealed_names.insert(name.clone());
                self.logicals.insert(sealed.logical());
            }
        }
        Ok((returned, rows, made.known))
    }
}

/// Whether a statement makes a function or procedure whose body may name something protected.
pub(super) fn makes_routine(door: &Door<'_>, statement: &Range<usize>) -> bool {
    let head = head::Head::read(door.tokens, statement);
    head.is_some_and(|head| {
        let text = head.text(door.tokens);
        text.is_none_or(|text| door.protection.named_in(&text))
    })
}

/// The columns that a function returns, given what the last statement of its body selects.
pub(super) fn returns(returned: &Returned, mut rows: Rows) -> Result<Rows, Refusal> {
    let wanted = returned.columns();
    if let Returned::Nothing = returned {
        return Ok(Rows::default());
    }
    if rows.open {
        return Err(refusals::not_understood(
            "It returns columns that only the server knows",
        ));
    }
    if let ([only], Returned::Row { .. }) = (rows.columns.as_slice(), returned)
        && let Kind::Holder(holder) = &only.kind
        && let Inside::Row(fields) = holder.inside()
    {
        rows.columns = fields.clone();
    }
    if rows.columns.len() != wanted.len() {
        return Err(refusals::not_understood(
            "It returns another number of columns than it selects",
        ));
    }
    let of_table = matches!(returned, Returned::Row { of_table: true, .. });
    for (column, wanted) in rows.columns.iter_mut().zip(wanted) {
        column.name = Some(wanted.name.clone());
        column.kind = returned_as(&column.kind, wanted, of_table)?;
    }
    Ok(rows)
}

/// `pg_type.oid` of bytea.
const BYTEA: u32 = 17;

/// A value as the function's declaration types it.
fn returned_as(kind: &Kind, wanted: &Column, of_table: bool) -> Result<Kind, Refusal> {
    let fits = match (kind, wanted.sealed_domain()) {
        (Kind::Sealed(sealed), Some(domain)) => sealed.logical().domain() == domain,
        (Kind::Sealed(_), None) => wanted.base_type_oid == BYTEA,
        // NULL has any type; anything else the domain refuses.
        (Kind::Untyped, _) => true,
        (Kind::Plain(_) | Kind::Holder(_), domain) => domain.is_none(),
    };
    match kind {
        _ if !fits => Err(refusals::other_type(kind, &wanted.name, &wanted.type_name)),
        Kind::Sealed(sealed) if of_table => Ok(Kind::Sealed(Sealed {
            computed: true,
            attribute: None,
            ..sealed.clone()
        })),
        Kind::Sealed(sealed) => {
            let bare = sealed.clone().of_expression();
            let bare = bare.ok_or_else(|| refusals::not_supported(sealed.column(), "a cast"))?;
            Ok(Kind::Sealed(Sealed {
                attribute: None,
                ..bare
            }))
        }
        Kind::Untyped => Ok(Kind::Plain(None)),
        Kind::Plain(_) | Kind::Holder(_) => Ok(kind.clone()),
    }
}
