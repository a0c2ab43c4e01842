//! Function calls: `count` knows what to do with a sealed value, every other function must not get one.
//! Functions that run SQL text are refused.

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentClause, FunctionArguments, Ident, ObjectName, ObjectNamePart, OrderByExpr,
    WindowSpec, WindowType,
};

use super::{
    Analyser,
    branch::{coalesced, is_grouped},
    compare::row_of,
    expr::{Cx, Place},
    group::Grouping,
    hold::{array_of_query, holding},
    kind::{Cell, Kind, Sealed},
    namespace::name_of,
    passing::passes,
    refusals,
    term::{check_equality, eq_term},
};
use crate::Refusal;

/// Functions of PostgreSQL and its own extensions that run SQL given as text.
const RUNS_TEXT: [&str; 17] = [
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "table_to_xml",
    "table_to_xmlschema",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xmlschema",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xmlschema",
    "database_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
    "xpath_table",
];

/// Whether a function of this name runs SQL that it gets as text, or reads whole tables by name.
pub(super) fn runs_text(name: &str) -> bool {
    RUNS_TEXT.contains(&name)
        || name.starts_with("dblink")
        || name.starts_with("crosstab")
        || name == "connectby"
}

/// Aggregates of PostgreSQL's own that take any expression.
fn is_aggregate(name: &str, function: &Function) -> bool {
    const NAMES: [&str; 17] = [
        "array_agg",
        "avg",
        "bit_and",
        "bit_or",
        "bool_and",
        "bool_or",
        "count",
        "every",
        "json_agg",
        "json_object_agg",
        "jsonb_agg",
        "jsonb_object_agg",
        "max",
        "min",
        "string_agg",
        "sum",
        "any_value",
    ];
    function.over.is_none() && NAMES.contains(&name)
}

/// Whether it is `nullif(...)`.
pub(super) fn is_nullif(function: &Function) -> bool {
    function.name.0.len() == 1
        && function.over.is_none()
        && last_name(&function.name).is_some_and(|name| name == "nullif")
}

/// The last part of a name.
pub(super) fn last_name(name: &ObjectName) -> Option<String> {
    match name.0.last()? {
        ObjectNamePart::Identifier(ident) => Some(name_of(ident)),
        ObjectNamePart::Function(_) => None,
    }
}

impl Analyser<'_> {
    /// Refuses functions by name, and accounts for their names.
    pub(super) fn check_function(&mut self, name: &ObjectName) -> Result<String, Refusal> {
        for part in &name.0 {
            if let ObjectNamePart::Identifier(ident) = part {
                self.account(ident);
            }
        }
        let last =
            last_name(name).ok_or_else(|| refusals::not_understood("An unusual function name"))?;
        if runs_text(&last) {
            return Err(refusals::construct(&format!(
                "function {last}, which runs SQL given as text,"
            )));
        }
        if self.protection.names_function(&last) {
            return Err(refusals::dependent(
                &last,
                "is a function that names a protected table",
            ));
        }
        Ok(last)
    }

    /// A function call.
    pub(super) fn function(
        &mut self,
        expr: &Expr,
        function: &Function,
        cx: Cx<'_>,
    ) -> Result<Kind, Refusal> {
        if let Some(kind) = self.stored_function(function, cx)? {
            return Ok(kind);
        }
        if coalesced(function).is_some() {
            return self.chosen(expr, cx);
        }
        if is_nullif(function) {
            return self.nullif(expr, function, cx);
        }
        let args = match &function.args {
            FunctionArguments::List(list) => list.args.as_slice(),
            FunctionArguments::None | FunctionArguments::Subquery(_) => &[],
        };
        if let Some(callee) = self.callee(&function.name, args, 'f', cx)? {
            return self.call(callee, function, cx);
        }
        let name = self.check_function(&function.name)?;
        let place = format!("function {name}");
        let mut kind = Kind::Plain(None);
        if !matches!(function.parameters, FunctionArguments::None) {
            return Err(refusals::not_understood(
                "A function with two lists of arguments",
            ));
        }
        let holding = holding(&name);
        let mut held = Vec::new();
        match &function.args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => {
                let rows = self.query(query, Some(cx.scope), cx.ctes)?;
                if name == "array" && function.name.0.len() == 1 && !rows.open {
                    return array_of_query(&rows.columns);
                }
                if rows.is_sealed() {
                    return Err(refusals::construct(&format!(
                        "{place} over protected columns"
                    )));
                }
            }
            FunctionArguments::List(_) if passes(&name, function) => {
                // Inside an aggregate the group's columns are those of each row.
                let grouping = cx.grouping.filter(|_| function.over.is_some());
                kind = self.passed_argument(&name, function, Cx { grouping, ..cx })?;
            }
            FunctionArguments::List(list) => {
                let grouping = cx.grouping.filter(|_| !is_aggregate(&name, function));
                let inner = Cx { grouping, ..cx };
                let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
                if let Some(holding) = holding {
                    held = self.held_arguments(holding, &list.args, cx)?;
                }
                for arg in &list.args {
                    match (name.as_str(), arg_of(arg)) {
                        _ if holding.is_some() => {}
                        // It looks only at whether there is a row.
                        (
                            "count",
                            FunctionArgExpr::QualifiedWildcard(_)
                            | FunctionArgExpr::Expr(Expr::QualifiedWildcard(..)),
                        ) if !distinct => {}
                        ("count", FunctionArgExpr::Expr(expr)) => {
                            self.counted(expr, distinct, inner, cx.grouping)?;
                        }
                        // The document that is sealed inside is of the same type.
                        ("json_typeof" | "jsonb_typeof", FunctionArgExpr::Expr(expr))
                            if !self.decided.is_empty() =>
                        {
                            self.type_of_given(expr, inner, &place)?;
                        }
                        // They look only at NULL, too.
                        ("num_nulls" | "num_nonnulls", FunctionArgExpr::Expr(expr))
                            if cx.grouping.is_none() =>
                        {
                            self.counted(expr, false, inner, None)?;
                        }
                        ("bool_and" | "bool_or" | "every", FunctionArgExpr::Expr(expr)) => {
                            self.truth(expr, inner, &place)?;
                        }
                        ("grouping", FunctionArgExpr::Expr(expr)) => self.grouping_key(expr, cx)?,
                        ("greatest" | "least" | "min" | "max", FunctionArgExpr::Expr(expr)) => {
                            self.ordered(expr, inner, Place::Order(place.clone()))?;
                        }
                        (_, arg) => self.argument(arg, inner, &place)?,
                    }
                    self.argument_name(arg, inner, &place)?;
                }
                for clause in &list.clauses {
                    self.clause(clause, inner, &place)?;
                }
            }
        }
        self.order_keys(&function.within_group, cx, &format!("ORDER BY of {place}"))?;
        if let Some(filter) = &function.filter {
            self.condition(filter, cx)?;
        }
        if let Some(WindowType::WindowSpec(spec)) = &function.over {
            self.window(spec, cx)?;
        }
        match holding {
            Some(holding) => self.hold(holding, function, &name, held),
            None => Ok(kind),
        }
    }

    fn type_of_given(&mut self, expr: &Expr, cx: Cx<'_>, place: &str) -> Result<(), Refusal> {
        let kind = self.value(expr, cx)?;
        let given = matches!(&kind, Kind::Holder(holder) if holder.given().is_some());
        match refusals::not_plain(&kind, place) {
            Some(refusal) if !given => Err(refusal.at(self.start_of(expr))),
            _ => Ok(()),
        }
    }

    fn argument(&mut self, arg: &FunctionArgExpr, cx: Cx<'_>, place: &str) -> Result<(), Refusal> {
        match arg {
            FunctionArgExpr::Expr(expr) => self.plain(expr, cx, place).map(|_| ()),
            FunctionArgExpr::Wildcard => Ok(()),
            FunctionArgExpr::QualifiedWildcard(name) => whole_row(name, cx),
            FunctionArgExpr::WildcardWithOptions(_) => Err(refusals::construct("this form of *")),
        }
    }

    /// `f(name => value)` names a parameter of the function; `json_object(key: value)` computes the key.
    fn argument_name(&mut self, arg: &FunctionArg, cx: Cx<'_>, place: &str) -> Result<(), Refusal> {
        use FunctionArgOperator::{Assignment, RightArrow};
        match arg {
            FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                operator: Assignment | RightArrow,
                ..
            }
            | FunctionArg::Named { name, .. } => {
                self.account(name);
                Ok(())
            }
            FunctionArg::ExprNamed { name, .. } => self.plain(name, cx, place).map(|_| ()),
            FunctionArg::Unnamed(_) => Ok(()),
        }
    }

    /// `count(x)` looks only at NULL; `count(DISTINCT x)` counts terms.
    fn counted(
        &mut self,
        expr: &Expr,
        distinct: bool,
        cx: Cx<'_>,
        grouping: Option<&Grouping>,
    ) -> Result<(), Refusal> {
        if !distinct {
            return match self.comparand_under_any_cast(expr, cx)? {
                Kind::Sealed(_) => self.wrap(expr, "", ""),
                Kind::Plain(_) | Kind::Untyped | Kind::Holder(_) => Ok(()),
            };
        }
        if let Some(members) = row_of(expr) {
            // Rows are told apart by their members.
            let mut members = members.into_iter();
            return members.try_for_each(|member| self.counted(member, true, cx, grouping));
        }
        let sealed = match self.passed(expr, cx)? {
            Kind::Sealed(sealed) => sealed,
            Kind::Holder(holder) => {
                return Err(refusals::holder(&holder, "count(DISTINCT)").at(self.start_of(expr)));
            }
            Kind::Plain(_) | Kind::Untyped => return Ok(()),
        };
        let position = self.start_of(expr);
        let keys = grouping
            .map(|grouping| grouping.cells.as_slice())
            .unwrap_or_default();
        check_equality(&sealed, "count(DISTINCT)").map_err(|refusal| refusal.at(position))?;
        if !self.same_scope_within(&sealed, keys) {
            return Err(
                refusals::scope_not_pinned(sealed.column(), "count(DISTINCT)").at(position),
            );
        }
        self.note(format!(
            "count(DISTINCT) counts the equality terms of {}.",
            refusals::name_of(sealed.column())
        ));
        self.wrap(expr, &eq_term(&sealed), ")")
    }

    /// `GROUPING(email)`: its arguments are keys of GROUP BY, to the letter.
    fn grouping_key(&mut self, key: &Expr, cx: Cx<'_>) -> Result<(), Refusal> {
        let kind = self.expr(key, cx)?;
        match refusals::not_plain(&kind, "GROUPING") {
            Some(refusal) if is_grouped(key, cx)? => match &kind {
                Kind::Sealed(sealed) => self.wrap(key, &eq_term(sealed), ")"),
                _ => Err(refusal.at(self.start_of(key))),
            },
            Some(refusal) => Err(refusal.at(self.start_of(key))),
            None => Ok(()),
        }
    }

    fn clause(
        &mut self,
        clause: &FunctionArgumentClause,
        cx: Cx<'_>,
        place: &str,
    ) -> Result<(), Refusal> {
        match clause {
            FunctionArgumentClause::OrderBy(keys) => {
                self.order_keys(keys, cx, &format!("ORDER BY of {place}"))
            }
            FunctionArgumentClause::Separator(_)
            | FunctionArgumentClause::JsonNullClause(_)
            | FunctionArgumentClause::JsonReturningClause(_)
            | FunctionArgumentClause::IgnoreOrRespectNulls(_) => Ok(()),
            _ => Err(refusals::construct(&format!(
                "an unusual clause of {place}"
            ))),
        }
    }

    /// Expressions that are sorted by, but cannot name output columns.
    pub(super) fn order_keys(
        &mut self,
        keys: &[OrderByExpr],
        cx: Cx<'_>,
        place: &str,
    ) -> Result<(), Refusal> {
        for key in keys {
            match self.expr(&key.expr, cx)? {
                Kind::Sealed(sealed) => {
                    let refusal = refusals::no_order(sealed.column(), place);
                    return Err(refusal.at(self.start_of(&key.expr)));
                }
                Kind::Holder(holder) => {
                    return Err(refusals::holder(&holder, place).at(self.start_of(&key.expr)));
                }
                Kind::Plain(_) | Kind::Untyped => {}
            }
            if key.with_fill.is_some() {
                return Err(refusals::construct("WITH FILL"));
            }
        }
        Ok(())
    }

    /// PARTITION BY tells rows apart by terms.
    fn partitions(&mut self, keys: &[Expr], cx: Cx<'_>) -> Result<(), Refusal> {
        let mut cells = Vec::new();
        let mut sealed_keys = Vec::new();
        for key in keys {
            match self.comparand(key, cx)? {
                Kind::Sealed(sealed) => sealed_keys.push((key, sealed)),
                kind @ (Kind::Plain(_) | Kind::Untyped | Kind::Holder(_)) => {
                    cells.extend(kind.cell());
                }
            }
        }
        // A window sees all rows of the SELECT.
        let here = self.facts.split_off(self.row_facts.min(self.facts.len()));
        let parted = sealed_keys
            .into_iter()
            .try_for_each(|(key, sealed)| self.part(key, &sealed, &cells));
        self.facts.extend(here);
        parted
    }

    fn part(&mut self, key: &Expr, sealed: &Sealed, cells: &[Cell]) -> Result<(), Refusal> {
        let position = self.start_of(key);
        check_equality(sealed, "PARTITION BY").map_err(|refusal| refusal.at(position))?;
        if !self.same_scope_within(sealed, cells) {
            let refusal = refusals::scope_not_pinned(sealed.column(), "PARTITION BY");
            return Err(refusal.at(position));
        }
        self.wrap_term(key, sealed)
    }

    /// `OVER (...)` and `WINDOW w AS (...)`.
    pub(super) fn window(&mut self, spec: &WindowSpec, cx: Cx<'_>) -> Result<(), Refusal> {
        self.partitions(&spec.partition_by, cx)?;
        self.order_keys(&spec.order_by, cx, "ORDER BY of a window")?;
        if let Some(frame) = &spec.window_frame {
            use sqlparser::ast::WindowFrameBound::{Following, Preceding};
            let bounds = std::iter::once(&frame.start_bound).chain(&frame.end_bound);
            for bound in bounds {
                if let Following(Some(bound)) | Preceding(Some(bound)) = bound {
                    self.plain(bound, cx, "a window frame")?;
                }
            }
        }
        Ok(())
    }
}

/// Reserved words that are values: no column can have such a name unquoted.
pub(super) fn is_value_word(ident: &Ident) -> bool {
    const WORDS: [&str; 11] = [
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "localtime",
        "localtimestamp",
        "session_user",
        "user",
    ];
    ident.quote_style.is_none()
        && WORDS
            .iter()
            .any(|word| ident.value.eq_ignore_ascii_case(word))
}

pub(super) fn arg_of(arg: &FunctionArg) -> &FunctionArgExpr {
    match arg {
        FunctionArg::Named { arg, .. }
        | FunctionArg::ExprNamed { arg, .. }
        | FunctionArg::Unnamed(arg) => arg,
    }
}

/// `f(t.*)`.
pub(super) fn whole_row(name: &ObjectName, cx: Cx<'_>) -> Result<(), Refusal> {
    let last =
        last_name(name).ok_or_else(|| refusals::not_understood("An unusual name before .*"))?;
    if cx.scope.find_entry(None, &last)?.is_sealed() {
        return Err(refusals::whole_row(&last));
    }
    Ok(())
}
