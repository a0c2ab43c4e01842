//! EXECUTE: its arguments become what the prepared statement's plan makes of its parameters. A parameter that is sealed,
//! compared or part of a scope must be a literal; whatever else is an argument goes as it is.

use std::{ops::Range, sync::Arc};

use sqlparser::{ast::Expr, dialect::PostgreSqlDialect, parser::Parser, tokenizer::Token as Kind};
use zeroize::Zeroizing;

use super::{
    Analyser,
    kept::{Judged, Names, Remembered},
    moment,
    operand::{Cast, Operand, What},
    params::Parameters,
    refusals,
    statement::{Changes, Door, Verdict},
};
use crate::{
    Refusal,
    catalog::Catalog,
    plan::{
        self, ClientParam, Edit, Effect, Member, Members, Replacement, ScopePart, ServerParam, Slot,
    },
    text::MAX_DEPTH,
    types::{
        Conversion, Converted, FormatSettings, InputError, LogicalType, TextExpression, Value,
        convert,
    },
};

impl Door<'_> {
    /// `EXECUTE name (arguments)`.
    pub(super) fn execute(
        &self,
        name: String,
        list: &Range<usize>,
        arguments: &[Range<usize>],
        names: &Names<'_>,
    ) -> Result<Judged, Refusal> {
        let Some(kept) = names.prepared(&name)? else {
            return Ok(Judged {
                effect: Effect::Execute { name, plan: None },
                ..Verdict::Relay.into()
            });
        };
        let plan = &kept.plan;
        if arguments.len() != plan.client_params.len() {
            return Err(wrong_number(
                &name,
                plan.client_params.len(),
                arguments.len(),
            ));
        }
        let values = arguments.iter().enumerate();
        let values = values
            .map(|(param, range)| self.argument(&kept, param, range))
            .collect::<Result<Vec<_>, _>>()?;
        let slots: Vec<Slot> = { plan.slots.iter() }
            .map(|slot| given(slot, &values))
            .collect();
        let changes = Changes {
            scope_queries: Vec::from_iter(moment::question(&slots)),
            edits: self.new_arguments(list, arguments, plan),
            slots,
            parameters: self.no_parameters(),
            output: plan
                .statements
                .first()
                .map_or(plan::Output::Unknown, |statement| statement.output.clone()),
            tag: plan.statements.first().and_then(|statement| statement.tag),
            notes: vec![format!("EXECUTE runs the prepared statement \"{name}\".")],
        };
        Ok(Judged {
            effect: Effect::Execute {
                name,
                plan: Some(Arc::clone(&kept.plan)),
            },
            ..Verdict::Changed(Box::new(changes)).into()
        })
    }

    /// The parameters of a statement that can have none but what the client declares.
    pub(super) fn no_parameters(&self) -> Parameters {
        Parameters {
            server: (0..self.oids.len()).map(ServerParam::Client).collect(),
            client: (0..self.oids.len()).map(ClientParam::Server).collect(),
            untold: Vec::new(),
        }
    }

    /// The list with what the server's parameters get.
    fn new_arguments(
        &self,
        list: &Range<usize>,
        arguments: &[Range<usize>],
        plan: &plan::Plan,
    ) -> Vec<Edit> {
        let tokens = self.tokens;
        let mut edits = Vec::new();
        for (range, param) in arguments.iter().zip(&plan.server_params) {
            if let ServerParam::Slot(slot) = param {
                edits.push(Edit {
                    range: tokens.bytes(range),
                    with: Replacement::Slot(*slot),
                });
            }
        }
        let further = plan.server_params.iter().skip(arguments.len());
        let end = if list.is_empty() {
            tokens.range(list.start - 1).end
        } else {
            tokens.range(list.end - 1).start
        };
        let mut separator = if list.is_empty() { "(" } else { ", " };
        let mut put = |with| {
            edits.push(Edit {
                range: end..end,
                with,
            });
        };
        for param in further {
            put(Replacement::Text(separator.to_owned()));
            match param {
                ServerParam::Slot(slot) => put(Replacement::Slot(*slot)),
                // Every parameter of the client has a place of its own, so none can follow.
                ServerParam::Client(_) => put(Replacement::Text("NULL".to_owned())),
            }
            separator = ", ";
        }
        if list.is_empty() && plan.server_params.len() > arguments.len() {
            put(Replacement::Text(")".to_owned()));
        }
        edits
    }

    /// The value of an argument, if some slot is made from it.
    fn argument(
        &self,
        kept: &Remembered,
        param: usize,
        range: &Range<usize>,
    ) -> Result<Option<plan::Operand>, Refusal> {
        let Some(wanted) = wanted(kept, param, &self.rules.catalog) else {
            return Ok(None);
        };
        let at = self.tokens.range(range.start).start;
        let expr = self.expression(range)?;
        let analyser = Analyser::new(
            self.rules,
            self.protection,
            self.view,
            super::Protocol::Simple,
            &[],
            self.tokens,
        );
        let operand = match wanted {
            Wanted::Value(logical) => {
                let operand = analyser.operand(&expr)?;
                let operand = operand.ok_or_else(|| not_literal(param).at(at))?;
                let value = analyser.argument_value(&operand, logical, param)?;
                plan::Operand::Argument(value, logical)
            }
            Wanted::Cast(from, to) => {
                let operand = analyser.operand(&expr)?;
                let operand = operand.ok_or_else(|| not_literal(param).at(at))?;
                let value = analyser.argument_value(&operand, from, param)?;
                let value = value.map(|value| cast_as_given(&value, from, to, &self.view.format));
                let value = value
                    .transpose()
                    .map_err(|error| refusals::input(error, at))?;
                plan::Operand::Argument(value, to)
            }
            Wanted::Array(element) => analyser.argument_array(&expr, element, param, at)?,
            Wanted::Unusable => return Err(not_literal(param).at(at)),
        };
        Ok(Some(operand))
    }

    fn expression(&self, range: &Range<usize>) -> Result<Expr, Refusal> {
        let tokens = range.clone().map(|at| self.tokens.token(at).clone());
        let mut parser = Parser::new(&PostgreSqlDialect {})
            .with_recursion_limit(MAX_DEPTH)
            .with_tokens_with_locations(tokens.collect());
        let expr = parser.parse_expr().ok();
        let whole = parser.peek_token().token == Kind::EOF;
        expr.filter(|_| whole).ok_or_else(|| {
            refusals::not_understood("An argument of EXECUTE is not understood")
                .at(self.tokens.range(range.start).start)
        })
    }
}

/// What an argument must be a value of.
enum Wanted {
    Value(LogicalType),
    /// A value of the first type, which the statement casts to the second.
    Cast(LogicalType, LogicalType),
    Array(LogicalType),
    /// A type that cannot be sealed.
    Unusable,
}

/// The type of a parameter of which some slot or scope is made, as the client sees it.
fn wanted(kept: &Remembered, param: usize, catalog: &Catalog) -> Option<Wanted> {
    let wanted = wanted_as(kept, param, catalog)?;
    let computes = |slot: &Slot| matches!(&slot.operand, plan::Operand::Computed(text) | plan::Operand::Spelled(text) | plan::Operand::Split(text, _) if text.uses(param));
    let is_text = matches!(
        wanted,
        Wanted::Value(LogicalType::Text | LogicalType::Varchar(None))
    );
    let computed = kept.plan.slots.iter().any(computes);
    Some(if computed && !is_text {
        Wanted::Unusable
    } else {
        wanted
    })
}

fn wanted_as(kept: &Remembered, param: usize, catalog: &Catalog) -> Option<Wanted> {
    let uses = |operand: &plan::Operand| match operand {
        plan::Operand::Param(n) => *n == param,
        plan::Operand::SpelledEach(array) => **array == plan::Operand::Param(param),
        plan::Operand::Computed(text)
        | plan::Operand::Spelled(text)
        | plan::Operand::Split(text, _) => text.uses(param),
        _ => false,
    };
    let scope = |slot: &Slot| {
        slot.parts().find_map(|part| match part {
            ScopePart::Row(operand, logical) if uses(operand) => Some(Wanted::Value(*logical)),
            ScopePart::Element(operand, logical) if uses(operand) => Some(Wanted::Array(*logical)),
            ScopePart::Text(_)
            | ScopePart::Session(_)
            | ScopePart::Asked { .. }
            | ScopePart::Member(..)
            | ScopePart::Row(..)
            | ScopePart::Element(..) => None,
        })
    };
    let slots = &kept.plan.slots;
    let in_scope = slots.iter().find_map(scope);
    if in_scope.is_none() && !slots.iter().any(|slot| uses(&slot.operand)) {
        return None;
    }
    if let Some(ClientParam::Cast { from, to }) = kept.plan.client_params.get(param) {
        return Some(Wanted::Cast(*from, *to));
    }
    let oid = kept.declared.get(param).copied().unwrap_or(0);
    let told = match kept.plan.client_params.get(param) {
        Some(ClientParam::Logical(logical)) => Some(logical.without_modifiers()),
        Some(ClientParam::Converted { from }) => Some(*from),
        _ => None,
    };
    if let (Some(declared), Some(told)) = (catalog.type_of(oid, -1), told)
        && declared.is_string()
        && !told.is_string()
    {
        // A string that the statement casts is read as the text of that type.
        return Some(Wanted::Value(told));
    }
    if let Some(ClientParam::Array(element)) = kept.plan.client_params.get(param) {
        let declared = catalog.element_of(oid);
        return Some(Wanted::Array(
            declared.unwrap_or(element.without_modifiers()),
        ));
    }
    if oid != 0 {
        let value = catalog.type_of(oid, -1).map(Wanted::Value);
        return Some(value.unwrap_or(Wanted::Unusable));
    }
    Some(match kept.plan.client_params.get(param) {
        Some(ClientParam::Logical(logical)) => Wanted::Value(logical.without_modifiers()),
        Some(ClientParam::Converted { from }) => Wanted::Value(*from),
        Some(ClientParam::Cast { from, to }) => Wanted::Cast(*from, *to),
        Some(ClientParam::Array(element)) => Wanted::Array(element.without_modifiers()),
        Some(ClientParam::Server(_)) | None => match in_scope {
            Some(Wanted::Value(logical)) => Wanted::Value(logical.without_modifiers()),
            Some(Wanted::Array(element)) => Wanted::Array(element.without_modifiers()),
            Some(Wanted::Cast(..) | Wanted::Unusable) | None => Wanted::Unusable,
        },
    })
}

/// A slot with the arguments in the place of the parameters.
fn given(slot: &Slot, values: &[Option<plan::Operand>]) -> Slot {
    let filled = |text: &TextExpression| {
        text.filled(&|param| match values.get(param) {
            Some(Some(plan::Operand::Argument(value, _))) => {
                let value = value.as_ref()?;
                let text = std::str::from_utf8(value.as_bytes()).ok()?;
                Some(Zeroizing::new(text.to_owned()))
            }
            _ => None,
        })
    };
    let argument = |param: usize| match values.get(param) {
        Some(Some(value)) => copy(value),
        // An argument of which a slot is made always has a value; NULL would be none that is wrong.
        _ => plan::Operand::Literal(None),
    };
    let fill = |operand: &plan::Operand| match operand {
        plan::Operand::Param(param) => argument(*param),
        plan::Operand::SpelledEach(array) => match **array {
            plan::Operand::Param(param) => plan::Operand::SpelledEach(Box::new(argument(param))),
            _ => copy(operand),
        },
        plan::Operand::Computed(text) => plan::Operand::Computed(filled(text)),
        plan::Operand::Spelled(text) => plan::Operand::Spelled(filled(text)),
        plan::Operand::Split(text, between) => plan::Operand::Split(filled(text), between.clone()),
        other => copy(other),
    };
    let part = |part: &ScopePart| match part {
        ScopePart::Text(text) => ScopePart::Text(text.clone()),
        ScopePart::Session(name) => ScopePart::Session(name.clone()),
        ScopePart::Row(operand, logical) => ScopePart::Row(fill(operand), *logical),
        ScopePart::Element(operand, logical) => ScopePart::Element(fill(operand), *logical),
        ScopePart::Member(name, logical) => ScopePart::Member(name.clone(), *logical),
        // PREPARE keeps no such plan.
        &ScopePart::Asked {
            query,
            column,
            logical,
        } => ScopePart::Asked {
            query,
            column,
            logical,
        },
    };
    Slot {
        make: slot.make,
        operand: fill(&slot.operand),
        column: slot.column,
        scope: slot.scope.iter().map(part).collect(),
        exact: slot.exact,
        members: slot.members.as_ref().map(|members| {
            let sealed = members.sealed.iter().map(|member| Member {
                name: member.name.clone(),
                from: member.from,
                column: member.column,
                scope: member.scope.iter().map(part).collect(),
                exact: member.exact,
            });
            Box::new(Members {
                jsonb: members.jsonb,
                sealed: sealed.collect(),
                plain: members.plain.clone(),
            })
        }),
    }
}

/// The cast of a parameter, done as it is in Bind.
fn cast_as_given(
    value: &Value,
    from: LogicalType,
    to: LogicalType,
    format: &FormatSettings,
) -> Result<Value, InputError> {
    if from.is_string() && !to.is_string() {
        // Its send form is its text.
        return to.input(value.as_bytes(), format);
    }
    match convert(value, from, to, Conversion::Assignment, format)? {
        Converted::Value(value) => Ok(value),
        Converted::NeverEqual => Err(InputError::new("22003", "value out of range")),
    }
}

fn copy(operand: &plan::Operand) -> plan::Operand {
    use plan::Operand::*;
    match operand {
        Literal(value) => Literal(value.clone()),
        Array(values) => Array(values.clone()),
        Argument(value, logical) => Argument(value.clone(), *logical),
        ArgumentArray(values, logical) => ArgumentArray(values.clone(), *logical),
        Computed(text) => Computed(text.clone()),
        Spelled(text) => Spelled(text.clone()),
        Split(text, between) => Split(text.clone(), between.clone()),
        SpelledEach(array) => SpelledEach(Box::new(copy(array))),
        Param(param) => Param(*param),
        Moment(timed) => Moment(timed.clone()),
        Fetched(fetched) => Fetched(fetched.clone()),
    }
}

impl Analyser<'_> {
    /// An argument as a value of its parameter's type: assigned to it, as EXECUTE does. `None` is NULL.
    fn argument_value(
        &self,
        operand: &Operand,
        wanted: LogicalType,
        param: usize,
    ) -> Result<Option<Value>, Refusal> {
        let at = self.tokens.range(operand.extent.start).start;
        let format = &self.view.format;
        let literal = match &operand.what {
            What::Null => return Ok(None),
            What::Literal(literal) => literal,
            What::Applied { .. } | What::Asked(_) => return Err(not_literal(param).at(at)),
            What::Param(number, _) => {
                let message = format!("there is no parameter ${}", number + 1);
                return Err(Refusal::new("42P02", "parameter-not-usable", message).at(at));
            }
        };
        let input = |logical: LogicalType| {
            let value = logical.input(literal.text.as_bytes(), format);
            value.map_err(|error| refusals::input(error, at))
        };
        let assign = |value: Value, from: LogicalType, to: LogicalType| match convert(
            &value,
            from,
            to,
            Conversion::Assignment,
            format,
        ) {
            Ok(Converted::Value(value)) => Ok(value),
            Ok(Converted::NeverEqual) => Err(not_literal(param).at(at)),
            Err(error) if error.sqlstate == "42804" => Err(not_coerced(param, from, to).at(at)),
            Err(error) => Err(refusals::input(error, at)),
        };
        let cast = match &operand.cast {
            Cast::None => None,
            // A cast to a type with modifiers cuts or rounds.
            Cast::To(cast) if *cast == cast.without_modifiers() => Some(*cast),
            Cast::To(_) | Cast::Read(_) | Cast::Array(_) | Cast::Other(_) => {
                return Err(not_literal(param).at(at));
            }
        };
        let (value, from) = match (literal.logical, cast) {
            (None, None) => return input(wanted).map(Some),
            (None, Some(cast)) => (input(cast)?, cast),
            (Some(own), None) => (input(own)?, own),
            (Some(own), Some(cast)) => (assign(input(own)?, own, cast)?, cast),
        };
        assign(value, from, wanted).map(Some)
    }

    /// An argument as an array: `'{a,b}'` or `ARRAY['a', 'b']`, with or without a cast.
    fn argument_array(
        &self,
        expr: &Expr,
        element: LogicalType,
        param: usize,
        at: usize,
    ) -> Result<plan::Operand, Refusal> {
        let bare = match expr {
            Expr::Cast { expr, .. } => expr.as_ref(),
            other => other,
        };
        if let Expr::Array(array) = bare {
            let cast_fits = match expr {
                Expr::Cast { .. } => {
                    let extent = self.tokens.extent(bare)?;
                    self.tokens.cast_type(&extent).is_ok_and(
                        |range| matches!(self.named_type(range), Cast::Array(t) if t == element),
                    )
                }
                _ => true,
            };
            let values = array.elem.iter().map(|expr| {
                let operand = self.operand(expr)?;
                let operand = operand.ok_or_else(|| not_literal(param).at(at))?;
                // Elements decide the array's type among themselves; only what leaves no doubt passes.
                let open = matches!(&operand.what, What::Null)
                    || matches!(&operand.what, What::Literal(literal)
                        if literal.logical.is_none_or(|own| own == element));
                if !open || operand.cast != Cast::None {
                    return Err(not_literal(param).at(at));
                }
                self.argument_value(&operand, element, param)
            });
            let typed = array.elem.iter().any(|expr| {
                matches!(self.operand(expr), Ok(Some(operand))
                    if matches!(&operand.what, What::Literal(literal) if literal.logical.is_some()))
            });
            // ARRAY['a'] is an array of text, whatever the parameter is.
            let text = element == LogicalType::Text;
            if !cast_fits || !(typed || text || matches!(expr, Expr::Cast { .. })) {
                return Err(not_literal(param).at(at));
            }
            let values = values.collect::<Result<Vec<_>, _>>()?;
            return Ok(plan::Operand::ArgumentArray(values, element));
        }
        let operand = self.operand(expr)?;
        let operand = operand.ok_or_else(|| not_literal(param).at(at))?;
        let fits = match &operand.cast {
            Cast::None => true,
            Cast::Array(cast) => *cast == element,
            Cast::To(_) | Cast::Read(_) | Cast::Other(_) => false,
        };
        match &operand.what {
            What::Null => Ok(plan::Operand::Literal(None)),
            What::Literal(literal) if literal.logical.is_none() && fits => {
                let values = element.array_input(literal.text.as_bytes(), &self.view.format);
                let values = values.map_err(|error| refusals::input(error, at))?;
                Ok(plan::Operand::ArgumentArray(values, element))
            }
            What::Literal(_) | What::Param(..) | What::Applied { .. } | What::Asked(_) => {
                Err(not_literal(param).at(at))
            }
        }
    }
}

fn not_literal(param: usize) -> Refusal {
    Refusal::unsupported(
        "value-not-constant",
        format!(
            "argument {} of EXECUTE is used for a protected column and must be a literal",
            param + 1
        ),
    )
    .detail("Its value is sealed or made a search term before the server sees it.")
    .hint("Give a literal of the parameter's type; compute the value in the application.")
}

/// In PostgreSQL's words.
fn not_coerced(param: usize, from: LogicalType, to: LogicalType) -> Refusal {
    Refusal::new(
        "42804",
        "type-mismatch",
        format!(
            "parameter ${} of type {} cannot be coerced to the expected type {}",
            param + 1,
            from.sql_name(),
            to.sql_name()
        ),
    )
    .hint("You will need to rewrite or cast the expression.")
}

/// In PostgreSQL's words.
fn wrong_number(name: &str, wanted: usize, given: usize) -> Refusal {
    Refusal::new(
        "42601",
        "invalid-input",
        format!("wrong number of parameters for prepared statement \"{name}\""),
    )
    .detail(format!("Expected {wanted} parameters but got {given}."))
}
