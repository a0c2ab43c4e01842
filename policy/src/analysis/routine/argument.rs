//! Arguments inside a function's body: names behind those of tables. One that is compared with a protected column must come
//! as a value that was sealed for that column, so that terms can be compared; which column that is, the body itself tells.

use std::sync::Arc;

use sqlparser::ast::{Expr, Function as Call, FunctionArguments};

use crate::{
    Refusal,
    analysis::{
        Analyser,
        compare::strip,
        expr::Cx,
        kind::{Kind, Sealed},
        namespace::{Column, Entry, Namespace, Scope, name_of},
        refusals,
        relation::idents_of,
        term::{check_number, numbered_value, uncast},
    },
    catalog::Function,
    ruleset::Protected,
};

/// What each argument that a caller gives must be sealed for, as far as it is known.
pub(in crate::analysis) type Known = Vec<Option<Arc<Protected>>>;

impl Analyser<'_> {
    /// Makes the arguments of a function known by name, in the order of its parameters.
    pub(super) fn enter_body(&mut self, function: &Function, known: &Known) -> Result<(), Refusal> {
        self.in_body = true;
        let nowhere = self.instance_of(&self.rules.nowhere);
        let mut columns = Vec::new();
        // `$1` counts what a caller gives.
        let others = function
            .parameters
            .iter()
            .filter(|p| matches!(p.mode, 'o' | 't'));
        for (index, parameter) in function.arguments().chain(others).enumerate() {
            let column = &parameter.column;
            let kind = match (known.get(index), column.sealed_domain()) {
                (Some(Some(protected)), _) => Kind::Sealed(Sealed {
                    computed: true,
                    shown: protected.logical.without_modifiers(),
                    ..Sealed::new(Arc::clone(protected), nowhere)
                }),
                (_, Some(domain)) => {
                    let name = [&function.schema, &function.name, &column.name];
                    let moved = self.rules.moved_under(domain, name.map(String::as_str));
                    let moved = moved
                        .ok_or_else(|| refusals::strange_column(&function.name, &column.name))?;
                    Kind::Sealed(Sealed {
                        computed: true,
                        ..Sealed::moved(moved, nowhere)
                    })
                }
                (_, None) => Kind::Plain(None),
            };
            if let Kind::Sealed(sealed) = &kind {
                self.sealed_names.insert(column.name.clone());
                self.logicals.insert(sealed.logical());
            }
            columns.push(Column {
                name: Some(column.name.clone()),
                kind,
            });
        }
        self.variables = Namespace::of(Entry {
            id: self.next_entry(),
            name: Some(function.name.clone()),
            schema: None,
            columns,
            open: false,
            table: false,
            reshaped: false,
        });
        Ok(())
    }

    /// `$1` in a body.
    pub(in crate::analysis) fn numbered_argument(&self, expr: &Expr) -> Result<Kind, Refusal> {
        let at = self.tokens.extent(expr)?.start;
        let number = self.parameter(at)?;
        let entry = self.variables.entries.first();
        let found = entry.and_then(|entry| entry.columns.get(number));
        found.map(|column| column.kind.clone()).ok_or_else(|| {
            let message = format!("there is no parameter ${}", number + 1);
            Refusal::new("42P02", "parameter-not-usable", message)
        })
    }

    /// Which argument an expression is, under casts, if it is one.
    fn argument_of(&self, expr: &Expr) -> Option<usize> {
        let entry = self.variables.entries.first()?;
        let idents = match uncast(strip(expr)) {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            other => {
                let extent = self.tokens.extent(other).ok()?;
                let numbered = self.in_body
                    && matches!(other, Expr::Value(_))
                    && self.tokens.raw(extent.start).starts_with('$');
                let number = numbered.then(|| self.parameter(extent.start))?.ok()?;
                return (number < entry.columns.len()).then_some(number);
            }
        };
        let scope = Scope {
            names: &self.variables,
            parent: None,
        };
        let found = scope.find(idents).ok()?.identity?;
        (found.0 == entry.id).then_some(found.1)
    }

    /// Remembers that an expression, if it is an argument, should be a value of the column that it is compared with.
    pub(in crate::analysis) fn want_argument(&self, expr: &Expr, sealed: &Sealed) {
        if let Some(argument) = self.argument_of(expr) {
            let wanted = (argument, Arc::clone(sealed.column()));
            self.wanted_argument.borrow_mut().get_or_insert(wanted);
        }
    }

    /// Whether two sealed values have comparable terms, one of which may be an argument.
    pub(in crate::analysis) fn check_with_argument(
        &self,
        (left, a): (&Expr, &Sealed),
        (right, b): (&Expr, &Sealed),
    ) -> Result<(), Refusal> {
        let compared = self.check_comparable(a, b).inspect_err(|_| {
            if self.argument_of(left).is_none() {
                self.want_argument(right, a);
            } else if self.argument_of(right).is_none() {
                self.want_argument(left, b);
            }
        });
        let is_argument = self.is_argument(left) || self.is_argument(right);
        compared.map_err(|refusal| match refusal.anchor {
            // No condition pins the scope of a value that a caller gives.
            "scope-not-pinned" if is_argument => refusal.hint(
                "An argument is sealed before its row is known: set search_key = \"shared\" for the column, or send the statement itself.",
            ),
            _ => refusal,
        })
    }

    /// `pgveil.eq_term(email) = pgveil.eq_term(argument)`, as pgveil writes it into a body. False: it is no such comparison.
    pub(in crate::analysis) fn stored_terms(
        &mut self,
        left: &Expr,
        right: &Expr,
        cx: Cx<'_>,
    ) -> Result<bool, Refusal> {
        let (true, Some((one, a)), Some((other, b))) =
            (self.stored && self.in_body, term_of(left), term_of(right))
        else {
            return Ok(false);
        };
        if self.argument_of(a).is_none() && self.argument_of(b).is_none() {
            return Ok(false);
        }
        for expr in [left, right] {
            let extent = self.tokens.extent(expr)?;
            let name = extent.start..(extent.start + 3).min(extent.end);
            self.account_tokens(name);
        }
        match (self.expr(a, cx)?, self.expr(b, cx)?) {
            (Kind::Sealed(ours), Kind::Sealed(theirs)) => {
                self.check_with_argument((a, &ours), (b, &theirs))?;
                check_number(&ours, one)?;
                check_number(&theirs, other)?;
                Ok(true)
            }
            _ => Err(refusals::stored_comparison()),
        }
    }

    /// `pgveil.eq_term(email) IN (pgveil.eq_term(argument), ...)`. False: no argument is in it.
    pub(in crate::analysis) fn stored_list(
        &mut self,
        expr: &Expr,
        list: &[&Expr],
        cx: Cx<'_>,
    ) -> Result<bool, Refusal> {
        let is_argument = |item: &&Expr| term_of(item).is_some_and(|(_, of)| self.is_argument(of));
        if !self.stored || !list.iter().any(is_argument) {
            return Ok(false);
        }
        for item in list {
            if !self.stored_terms(expr, item, cx)? {
                self.plain(item, cx, "a list")?;
            }
        }
        Ok(true)
    }

    /// Whether the term of an argument would be taken where it is compared with something else.
    pub(in crate::analysis) fn is_argument(&self, expr: &Expr) -> bool {
        self.in_body && self.argument_of(expr).is_some()
    }
}

/// The value of which an expression is the search term, and the term's number.
fn term_of(expr: &Expr) -> Option<(u32, &Expr)> {
    let Expr::Function(Call { name, args, .. }) = strip(expr) else {
        return None;
    };
    let idents = idents_of(name).ok()?;
    let names: Vec<String> = idents.iter().map(|ident| name_of(ident)).collect();
    let FunctionArguments::List(list) = args else {
        return None;
    };
    match names.as_slice() {
        [schema, name] if schema == "pgveil" && name == "eq_term" => numbered_value(&list.args),
        _ => None,
    }
}
