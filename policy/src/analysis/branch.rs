//! Values that are passed on: a column as it is, under casts, or chosen among several by CASE and COALESCE. Literals
//! and parameters beside a sealed value are sealed on the way. Compares nothing (`compare` does).

use sqlparser::ast::{
    CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
};

use super::{
    Analyser,
    compare::strip,
    expr::Cx,
    function::{is_nullif, is_value_word, last_name},
    kind::{Kind, Place, Sealed, Source, common_type},
    list::List,
    operand::{Cast, Made, Operand, What, given_type},
    refusals,
    scope::{Part, planned},
    term::is_text,
};
use crate::{
    Refusal,
    plan::{self, Make, Replacement, ScopePart},
    ruleset::Protected,
    types::{Conversion, LogicalType, can_cast},
};

/// The scope whose keys seal what may be shown only.
const PASSING: &str = "platform";

/// What an expression chooses among.
#[derive(Default)]
pub(super) struct Branches<'e> {
    /// The values, in the order in which they decide the type: ELSE comes first.
    pub(super) leaves: Vec<&'e Expr>,
    /// A CASE without ELSE: NULL is among them.
    pub(super) or_null: bool,
}

impl Analyser<'_> {
    /// An expression whose value is passed on. Casts of a sealed one are left out of the text, and done when it is shown.
    pub(super) fn value(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Kind, Refusal> {
        match expr {
            Expr::Nested(inner) => self.value(inner, cx),
            Expr::Cast {
                kind: CastKind::DoubleColon | CastKind::Cast,
                expr: inner,
                ..
            } if self.operand(expr)?.is_none() => match self.value(inner, cx)? {
                Kind::Sealed(sealed) => self.cast_value(expr, inner, sealed).map(Kind::Sealed),
                Kind::Holder(holder) => self.cast_holder(expr, inner, holder),
                Kind::Plain(_) | Kind::Untyped => Ok(Kind::Plain(None)),
            },
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let kind = self.expr(expr, cx)?;
                if let (Some(grouping), Some(sealed)) = (cx.grouping, kind.sealed())
                    && is_grouped(expr, cx)?
                {
                    self.any_of_group(expr, sealed, grouping)?;
                }
                Ok(kind)
            }
            _ => self.expr(expr, cx),
        }
    }

    /// `value::type`: leaves the cast out of the text.
    fn cast_value(&mut self, cast: &Expr, inner: &Expr, sealed: Sealed) -> Result<Sealed, Refusal> {
        let refuse = |this: &Self| {
            Err(
                refusals::not_supported(sealed.column(), "a cast to another type")
                    .at(this.start_of(cast)),
            )
        };
        let to = self.cast_target(cast, inner)?;
        let Cast::To(to) = to else {
            return refuse(self);
        };
        let Some(casted) = cast_of(&sealed, to) else {
            return refuse(self);
        };
        self.drop_cast(cast, inner)?;
        Ok(casted)
    }

    /// CASE, COALESCE: sealed if some of what they choose among is.
    pub(super) fn chosen(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Kind, Refusal> {
        let mut branches = Branches::default();
        self.branches(expr, cx, &mut branches)?;
        let kind = self.choice(&branches, cx)?;
        if let Some(sealed) = kind.sealed()
            && cx
                .grouping
                .is_some_and(|grouping| grouping.holds_expression(expr))
        {
            // The server would have to see the key itself, to the letter.
            let place = "an expression over one of GROUP BY";
            return Err(refusals::not_supported(sealed.column(), place).at(self.start_of(expr)));
        }
        Ok(kind)
    }

    /// The values that an expression chooses among; its conditions are analysed.
    pub(super) fn branches<'e>(
        &mut self,
        expr: &'e Expr,
        cx: Cx<'_>,
        branches: &mut Branches<'e>,
    ) -> Result<(), Refusal> {
        match expr {
            Expr::Nested(inner) => self.branches(inner, cx, branches),
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => {
                match operand {
                    Some(operand) => {
                        let whens: Vec<_> = conditions.iter().map(|when| &when.condition).collect();
                        self.compare_list(operand, &whens, List::Case, cx)?;
                    }
                    None => {
                        for when in conditions {
                            self.condition(&when.condition, cx)?;
                        }
                    }
                }
                match else_result {
                    Some(result) => self.branches(result, cx, branches)?,
                    None => branches.or_null = true,
                }
                conditions
                    .iter()
                    .try_for_each(|when| self.branches(&when.result, cx, branches))
            }
            Expr::Function(function) => match coalesced(function) {
                Some(args) => {
                    self.check_function(&function.name)?;
                    args.into_iter()
                        .try_for_each(|arg| self.branches(arg, cx, branches))
                }
                None => {
                    branches.leaves.push(expr);
                    Ok(())
                }
            },
            _ => {
                branches.leaves.push(expr);
                Ok(())
            }
        }
    }

    /// The literals and parameters that an expression chooses among, if it chooses among nothing else:
    /// `COALESCE($1, 'x')`. Analyses nothing.
    pub(super) fn only_operands<'e>(
        &self,
        expr: &'e Expr,
    ) -> Result<Option<Vec<&'e Expr>>, Refusal> {
        let mut leaves = Vec::new();
        if !chooses(strip(expr)) || !gather(expr, &mut leaves) {
            return Ok(None);
        }
        for leaf in &leaves {
            if self.operand(leaf)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(leaves))
    }

    /// A value that is stored in a protected column: literals and parameters among which it is chosen are sealed for the
    /// column, sealed values are moved.
    pub(super) fn written(
        &mut self,
        value: &Expr,
        column: &Protected,
        held: &dyn Fn(&str) -> Option<Part>,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        if let Some(operand) = self.operand(value)? {
            return self.seal(column, operand, held);
        }
        let position = self.start_of(value);
        let mut typed = false;
        let mut inner = value;
        loop {
            inner = match inner {
                Expr::Nested(next) => next,
                Expr::Cast {
                    kind: CastKind::DoubleColon | CastKind::Cast,
                    expr: next,
                    ..
                } if chooses(strip(next)) => {
                    self.drop_written_cast(inner, next, column)?;
                    typed = true;
                    next
                }
                _ => break,
            };
        }
        if let Expr::Function(function) = inner
            && is_nullif(function)
            && self.written_nullif(inner, function, column, held, cx)?
        {
            return Ok(());
        }
        if !chooses(inner) {
            if self.fetch(value, column, held, cx, false)? {
                return Ok(());
            }
            return self.moved(value, column, held, cx);
        }
        let mut branches = Branches::default();
        self.branches(inner, cx, &mut branches)?;
        let mut operands = Vec::new();
        for leaf in branches.leaves {
            let operand = match self.operand(leaf)? {
                None if is_text(column.logical) => self.text_nullif(leaf)?,
                operand => operand,
            };
            match operand {
                Some(operand) => operands.push(operand),
                None => {
                    if !self.fetch(leaf, column, held, cx, true)? {
                        self.moved(leaf, column, held, cx)?;
                    }
                    typed = true;
                }
            }
        }
        for operand in &operands {
            typed |= self
                .operand_type(operand)
                .map_err(|r| r.at(position))?
                .is_some();
        }
        if !typed && !is_text(column.logical) && !matches!(column.logical, LogicalType::Bpchar(_)) {
            return Err(refusals::wrong_type(column, "text").at(position));
        }
        if operands
            .iter()
            .any(|other| gives_type(other, column.logical))
        {
            return Err(refusals::not_constant(column).at(position));
        }
        for mut operand in operands {
            if matches!(operand.what, What::Null) {
                self.replace_operand(&operand, Replacement::Text("NULL::bytea".to_owned()));
                continue;
            }
            if !typed {
                operand.cast = Cast::To(LogicalType::Text);
            }
            // PostgreSQL says that a literal does not fit only where it is chosen.
            let sealed = self.seal(column, operand, held);
            sealed.map_err(|refusal| match refusal.sqlstate {
                "22001" => {
                    refusals::not_sealable(column, "a literal that does not fit").at(position)
                }
                _ => refusal,
            })?;
        }
        Ok(())
    }

    /// A sealed value that is stored as it is.
    fn moved(
        &mut self,
        value: &Expr,
        column: &Protected,
        held: &dyn Fn(&str) -> Option<Part>,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let position = self.start_of(value);
        match self.value(value, cx)? {
            Kind::Sealed(sealed) => match self.check_move(&sealed, column, held) {
                Err(refusal) if !self.move_conflicting(value, &sealed, column)? => {
                    Err(refusal.at(position))
                }
                Ok(()) | Err(_) => Ok(()),
            },
            Kind::Plain(_) | Kind::Untyped | Kind::Holder(_) => {
                let refusal = refusals::not_constant(column).at(position);
                Err(match of_the_server(value) {
                    Some(name) => refusal.hint(format!(
                        "{name} has a value only when the server runs the statement. Send the application's own value as a parameter, or keep the column unprotected."
                    )),
                    None => refusal,
                })
            }
        }
    }

    /// `(CASE ... END)::varchar(254)` for a column of that type.
    fn drop_written_cast(
        &mut self,
        cast: &Expr,
        inner: &Expr,
        column: &Protected,
    ) -> Result<(), Refusal> {
        let fits = match self.cast_target(cast, inner)? {
            Cast::To(to) => {
                to == column.logical
                    || to == column.logical.without_modifiers()
                    || (is_text(column.logical) && to == LogicalType::Text)
            }
            Cast::None | Cast::Read(_) | Cast::Array(_) | Cast::Other(_) => false,
        };
        if !fits {
            return Err(refusals::not_constant(column).at(self.start_of(cast)));
        }
        self.drop_cast(cast, inner)
    }

    /// One of several values.
    pub(super) fn choice(&mut self, branches: &Branches<'_>, cx: Cx<'_>) -> Result<Kind, Refusal> {
        let mut operands = Vec::new();
        let mut found: Option<Sealed> = None;
        let mut plain: Option<&Expr> = None;
        let mut first_text = None;
        for leaf in &branches.leaves {
            let operand = match self.operand(leaf)? {
                None => self.text_nullif(leaf)?,
                operand => operand,
            };
            if let Some(operand) = operand {
                let given = self.type_among(&operand).ok().flatten();
                first_text = first_text.or(given.filter(|given| is_text(*given)));
                operands.push(operand);
                continue;
            }
            // In a kept definition casts between a domain and bytea are the server's own.
            let kind = if self.stored {
                self.expr(leaf, cx)?
            } else {
                self.value(leaf, cx)?
            };
            match kind {
                Kind::Sealed(sealed) => {
                    first_text = first_text.or(Some(sealed.shown));
                    let column = sealed.column().clone();
                    found = Some(match found {
                        None => sealed,
                        Some(before) => before.or(sealed).ok_or_else(|| {
                            let place = "an expression beside a value of another type";
                            refusals::not_supported(&column, place).at(self.start_of(leaf))
                        })?,
                    });
                }
                kind @ Kind::Holder(_) => return self.choice_of_holders(branches, leaf, kind, cx),
                Kind::Plain(_) | Kind::Untyped => plain = Some(leaf),
            }
        }
        let Some(mut sealed) = found else {
            return Ok(Kind::Plain(None));
        };
        if let Some(leaf) = plain {
            let place = "an expression beside a value that is not protected";
            return Err(refusals::not_supported(sealed.column(), place).at(self.start_of(leaf)));
        }
        sealed.computed = true;
        // A length that all of them have stays.
        let alike = !branches.or_null
            && operands.iter().all(|operand| {
                matches!(operand.what, What::Literal(_)) && operand.cast == Cast::To(sealed.shown)
            });
        if !alike && (branches.or_null || !operands.is_empty()) {
            let column = sealed.column().clone();
            sealed = sealed.of_expression().ok_or_else(|| {
                refusals::not_supported(
                    &column,
                    "an expression that casts it to a type with a length",
                )
            })?;
        }
        for operand in operands {
            sealed = self.pass(sealed, operand)?;
        }
        if let Some(first) = first_text.filter(|first| is_text(*first) && is_text(sealed.shown))
            && first.without_modifiers() != sealed.shown.without_modifiers()
        {
            sealed.shown = first.without_modifiers();
        }
        Ok(Kind::Sealed(sealed))
    }

    /// One of several values, of which this one holds sealed values. Those before it are literals, if it is to be answered.
    fn choice_of_holders(
        &mut self,
        branches: &Branches<'_>,
        known: &Expr,
        kind: Kind,
        cx: Cx<'_>,
    ) -> Result<Kind, Refusal> {
        let mut choices = vec![(known, kind)];
        let mut behind = false;
        for leaf in &branches.leaves {
            if std::ptr::eq(*leaf, known) {
                behind = true;
            } else if self.operand(leaf)?.is_some() {
                choices.push((leaf, Kind::Untyped));
            } else if behind {
                choices.push((leaf, self.value(leaf, cx)?));
            } else {
                let place = "CASE or COALESCE together with other values";
                let refused = refusals::not_plain(&choices[0].1, place);
                return Err(refused.unwrap_or_else(|| refusals::construct(place)));
            }
        }
        self.either(choices, "CASE or COALESCE")
    }

    /// Seals a literal or parameter that stands beside a sealed value. With the keys of that value's scope, if they are
    /// known, so that it can still be compared; else the result may be shown only.
    pub(super) fn pass(&mut self, mut sealed: Sealed, operand: Operand) -> Result<Sealed, Refusal> {
        let at = self.tokens.range(operand.extent.start).start;
        if matches!(operand.what, What::Null) {
            if !self.stored {
                self.replace_operand(&operand, Replacement::Text("NULL::bytea".to_owned()));
            }
            // A NULL has no modifiers, and so both have none.
            if self.stored || operand.cast == Cast::To(sealed.shown) {
                return Ok(sealed);
            }
            let column = sealed.column().clone();
            return sealed.of_expression().ok_or_else(|| {
                let place = "an expression that casts it to a type with a length";
                refusals::not_supported(&column, place).at(at)
            });
        }
        if sealed.converted {
            let place = "an expression that casts it beside a literal or parameter";
            return Err(refusals::not_supported(sealed.column(), place).at(at));
        }
        let given = self.operand_type(&operand).map_err(|r| r.at(at))?;
        let given = given.or(operand.common);
        let bare = sealed.shown.without_modifiers();
        let shown = match given {
            None => Some(bare),
            // Modifiers that are the same on both sides stay.
            Some(given) if given == sealed.shown => Some(given),
            Some(given) => common_type(bare, given.without_modifiers()),
        };
        let target = sealed.sources.iter().find(|source| {
            let logical = source.column.logical.without_modifiers();
            shown.is_some_and(|shown| logical == shown || (is_text(logical) && is_text(shown)))
        });
        let (Some(shown), Some(target)) = (shown, target) else {
            let given = given.unwrap_or(bare).sql_name();
            let place = format!("an expression beside a value of type {given}");
            return Err(refusals::not_supported(sealed.column(), &place).at(at));
        };
        let column = std::sync::Arc::clone(&target.column);
        let what = match operand.what.planned_param() {
            Some(param) => param,
            None => match self.made_bare(&operand, &column)? {
                Made::Value(value) => plan::Operand::Literal(Some(value)),
                Made::Null | Made::NeverEqual => {
                    return Err(refusals::not_understood("A literal without a value").at(at));
                }
            },
        };
        let scope = self.values_scope(&sealed);
        let parts = scope.as_deref().and_then(planned);
        let parts = parts.unwrap_or_else(|| vec![ScopePart::Text(PASSING.to_owned())]);
        self.note(format!(
            "A value beside {} is sealed with it.",
            refusals::name_of(&column)
        ));
        self.slot(Make::SealBare, what, &column, parts, &operand)?;
        sealed.shown = shown;
        sealed.sources.push(Source {
            column,
            place: Place::Made(scope),
        });
        Ok(sealed)
    }

    /// The literal as a value of the column's type without modifiers.
    pub(super) fn made_bare(&self, operand: &Operand, column: &Protected) -> Result<Made, Refusal> {
        let bare = Protected {
            logical: column.logical.without_modifiers(),
            ..column.clone()
        };
        self.made(operand, &bare, Conversion::Assignment)
    }

    /// The type that an operand has by itself, by declaration or by its cast.
    pub(super) fn operand_type(&self, operand: &Operand) -> Result<Option<LogicalType>, Refusal> {
        match &operand.what {
            What::Param(number, _) => match operand.cast {
                Cast::Read(to) => Ok(Some(to)),
                _ => self.parameter_type(*number, &operand.cast),
            },
            What::Literal(literal) => given_type(operand, literal.logical)
                .map_err(|other| refusals::construct(&format!("a value of type {other}"))),
            What::Applied { .. } => Ok(Some(LogicalType::Text)),
            What::Asked(asked) => Ok(Some(asked.timed.logical())),
            What::Null => Ok(None),
        }
    }

    /// The same among the values of a list, where a NULL has the type that it is cast to.
    pub(super) fn type_among(&self, operand: &Operand) -> Result<Option<LogicalType>, Refusal> {
        match operand.what {
            What::Null => given_type(operand, None)
                .map_err(|other| refusals::construct(&format!("a value of type {other}"))),
            What::Literal(_) | What::Param(..) | What::Applied { .. } | What::Asked(_) => {
                self.operand_type(operand)
            }
        }
    }
}

/// Whether it is a value of the server's that gives what it is chosen among another type than the column's.
pub(super) fn gives_type(operand: &Operand, column: LogicalType) -> bool {
    match &operand.what {
        What::Asked(asked) => {
            let (given, column) = (asked.timed.logical(), column.without_modifiers());
            given != column && !(is_text(given) && is_text(column))
        }
        What::Null | What::Literal(_) | What::Param(..) | What::Applied { .. } => false,
    }
}

/// Collects what CASE and COALESCE choose among; `false` if a call is among it.
fn gather<'e>(expr: &'e Expr, leaves: &mut Vec<&'e Expr>) -> bool {
    match expr {
        Expr::Nested(inner) => gather(inner, leaves),
        Expr::Case {
            conditions,
            else_result,
            ..
        } => {
            let results = conditions.iter().map(|when| &when.result);
            results
                .chain(else_result.as_deref())
                .all(|result| gather(result, leaves))
        }
        Expr::Function(function) => match coalesced(function) {
            Some(args) => args.into_iter().all(|arg| gather(arg, leaves)),
            None => false,
        },
        _ => {
            leaves.push(expr);
            true
        }
    }
}

/// The name of a value that is the server's to make: its clock, its sequences, its random numbers.
fn of_the_server(value: &Expr) -> Option<String> {
    const MADE: [&str; 9] = [
        "now",
        "statement_timestamp",
        "transaction_timestamp",
        "clock_timestamp",
        "gen_random_uuid",
        "uuid_generate_v4",
        "random",
        "nextval",
        "current_setting",
    ];
    match value {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => of_the_server(inner),
        Expr::Identifier(ident) if is_value_word(ident) => Some(ident.value.to_ascii_uppercase()),
        Expr::Function(function) => {
            let name = last_name(&function.name)?;
            if MADE.contains(&name.as_str()) {
                return Some(format!("{name}()"));
            }
            let word = Ident::new(name);
            is_value_word(&word).then(|| word.value.to_ascii_uppercase())
        }
        _ => None,
    }
}

/// Whether an expression chooses among others.
fn chooses(expr: &Expr) -> bool {
    match expr {
        Expr::Case { .. } => true,
        Expr::Function(function) => coalesced(function).is_some(),
        _ => false,
    }
}

/// A sealed value under one more cast, if pgveil does it as the server would.
fn cast_of(sealed: &Sealed, to: LogicalType) -> Option<Sealed> {
    let (shown, bare) = (sealed.shown, to == to.without_modifiers());
    let mut casted = sealed.clone();
    if to == shown {
        return Some(casted);
    }
    casted.computed = true;
    casted.shown = to;
    let keeps = bare
        && (!sealed.converted || shown == shown.without_modifiers())
        && (to == shown.without_modifiers() || (is_text(to) && is_text(shown)));
    if keeps {
        return Some(casted);
    }
    // A second cast must mean the same from the stored value as from the first one's result.
    let through = !sealed.converted
        || (matches!(shown, LogicalType::Text | LogicalType::Varchar(None)) && to_text(to));
    let all = sealed
        .sources
        .iter()
        .all(|source| can_cast(source.column.logical, to));
    casted.converted = true;
    (through && all).then_some(casted)
}

/// Whether a column is grouped by its term, so that only one of a group's values can be had.
pub(super) fn is_grouped(column: &Expr, cx: Cx<'_>) -> Result<bool, Refusal> {
    let idents = match column {
        Expr::Identifier(ident) => std::slice::from_ref(ident),
        Expr::CompoundIdentifier(idents) => idents.as_slice(),
        _ => return Ok(false),
    };
    let Some(grouping) = cx.grouping else {
        return Ok(false);
    };
    Ok(grouping.holds(&cx.scope.find(idents)?))
}

/// The arguments of COALESCE.
pub(super) fn coalesced(function: &Function) -> Option<Vec<&Expr>> {
    let called = last_name(&function.name)? == "coalesce"
        && function.name.0.len() == 1
        && function.over.is_none()
        && function.filter.is_none();
    arguments(function).filter(|args| called && !args.is_empty())
}

/// The arguments of a call, if all are plain expressions.
pub(super) fn arguments(function: &Function) -> Option<Vec<&Expr>> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return None;
    }
    let argument = |arg| match arg {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Some(expr),
        _ => None,
    };
    list.args.iter().map(argument).collect()
}

fn to_text(logical: LogicalType) -> bool {
    matches!(
        logical,
        LogicalType::Text | LogicalType::Varchar(_) | LogicalType::Bpchar(_)
    )
}
