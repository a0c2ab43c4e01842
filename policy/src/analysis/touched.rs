//! The rows that an UPDATE touches, where the statement does not tell their scopes: the server is asked for them first,
//! every value is sealed for each scope, and each row picks its own. Asks nothing itself.

use std::{fmt::Write, ops::Range, sync::Arc};

use sqlparser::{
    ast::{Expr, ObjectName, ObjectNamePart},
    tokenizer::Token as Kind,
};
use zeroize::Zeroizing;

use super::{
    Analyser, Protocol,
    expr::Cx,
    kind,
    operand::{Made, Operand, What},
    refusals,
    scope::{Part, planned},
};
use crate::{
    Refusal,
    plan::{
        self, ANOTHER_SCOPE, Field, MAX_ASKED_SCOPES, Make, Output, Replacement, ScopePart,
        ScopeQuery,
    },
    ruleset::Protected,
    template::TemplatePart,
    text::quote_identifier,
    types::{Conversion, LogicalType},
};

/// The rows of the statement under analysis.
#[derive(Clone)]
pub(super) struct Touched {
    /// The row variable of the table that is written to.
    instance: usize,
    /// What expressions call it, quoted.
    name: String,
    /// A token of its name.
    token: usize,
    /// Whether the statement's own words read the table, so that the server applies the policies for reading anyway.
    reads: bool,
    /// WITH stands before the statement, or around it.
    with: bool,
    /// The scope columns that are asked for.
    columns: Vec<(String, LogicalType)>,
    /// The first column that something is sealed for, and where.
    first: Option<(Arc<Protected>, usize)>,
    /// The parts of a MERGE; those of an UPDATE are looked for when they are needed.
    merge: Option<MergeSections>,
}

/// Where the parts of a MERGE stand that say which rows it touches, in tokens.
#[derive(Clone)]
pub(super) struct MergeSections {
    /// Its first token.
    pub(super) merge: usize,
    pub(super) table: Range<usize>,
    /// The source and the condition; `None` if rows without a partner are touched too.
    pub(super) matched: Option<(Range<usize>, Range<usize>)>,
}

/// Where the parts of a statement stand, in tokens.
struct Sections {
    with: Option<Range<usize>>,
    table: Range<usize>,
    from: Option<Range<usize>>,
    condition: Option<Range<usize>>,
}

impl Analyser<'_> {
    /// The rows that an UPDATE of this table touches.
    pub(super) fn touched(
        &self,
        table: &ObjectName,
        alias: Option<String>,
        instance: usize,
        selection: Option<&Expr>,
        cx: Cx<'_>,
    ) -> Option<Touched> {
        let Some(ObjectNamePart::Identifier(ident)) = table.0.first() else {
            return None;
        };
        let name = alias.unwrap_or_else(|| self.instances[instance].name.clone());
        Some(Touched {
            instance,
            name: quote_identifier(&name),
            token: self.tokens.starting(ident.span.start)?,
            reads: selection.is_some_and(|condition| reads(condition, instance, cx)),
            with: !cx.ctes.is_empty(),
            columns: Vec::new(),
            first: None,
            merge: None,
        })
    }

    /// The rows that a MERGE touches.
    pub(super) fn merge_touches(touched: Touched, merge: MergeSections) -> Touched {
        Touched {
            merge: Some(merge),
            ..touched
        }
    }

    /// Seals a value for the scope of each row that the statement touches. `None` if that does not help.
    pub(super) fn seal_touched(
        &mut self,
        column: &Protected,
        what: plan::Operand,
        operand: &Operand,
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Option<Result<(), Refusal>> {
        let mut touched = self.touched_rows.take()?;
        let key = self.asked_parts(&mut touched, column, held);
        let at = self.tokens.range(operand.extent.start).start;
        if key.is_some() && touched.first.is_none() {
            let column = self.rules.columns.get(&column.id);
            touched.first = column.map(|column| (Arc::clone(column), at));
        }
        let name = touched.name.clone();
        self.touched_rows = Some(touched);
        let (parts, key) = key?;
        self.note(format!(
            "The server is asked for the scopes of the rows; values for {} are sealed for each of them.",
            refusals::name_of(column)
        ));
        self.pick(self.tokens.bytes(&operand.extent), &row_key(&name, &key));
        Some(self.slot(Make::SealPerScope, what, column, parts, operand))
    }

    /// Makes a row pick the value that is sealed for its own scope.
    fn pick(&mut self, range: Range<usize>, key: &str) {
        self.edits.open(
            range.start,
            format!(
                "(SELECT COALESCE(v[pg_catalog.array_position(v, {key}) OPERATOR(pg_catalog.+) 1], \
                 CASE WHEN v IS NOT NULL THEN {} END) FROM (SELECT ",
                failing(ANOTHER_SCOPE)
            ),
        );
        self.edits.close(range.end, " AS v) AS \"pgveil scopes\")");
    }

    /// Seals single values of a source for the scope of each row that the statement touches; `uses` are where the rows
    /// get them. False if that does not help.
    pub(super) fn seal_touched_cells(
        &mut self,
        column: &Arc<Protected>,
        operands: Vec<Operand>,
        uses: &[Range<usize>],
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Result<bool, Refusal> {
        let Some(mut touched) = self.touched_rows.take() else {
            return Ok(false);
        };
        let asked = self.asked_parts(&mut touched, column, held);
        if let (Some(_), None, Some(first)) = (&asked, &touched.first, operands.first()) {
            let at = self.tokens.range(first.extent.start).start;
            touched.first = Some((Arc::clone(column), at));
        }
        let name = touched.name.clone();
        self.touched_rows = Some(touched);
        let Some((_, key)) = asked else {
            return Ok(false);
        };
        self.note(format!(
            "The server is asked for the scopes of the rows; values for {} are sealed for each of them.",
            refusals::name_of(column)
        ));
        for range in uses {
            self.pick(range.clone(), &row_key(&name, &key));
        }
        for operand in operands {
            self.hidden.push(operand.extent.clone());
            let what = match &operand.what {
                What::Param(number, _) => Some(plan::Operand::Param(*number)),
                What::Null => None,
                What::Literal(_) => match self.made(&operand, column, Conversion::Assignment)? {
                    Made::Value(value) => Some(plan::Operand::Literal(Some(value))),
                    Made::Null | Made::NeverEqual => None,
                },
            };
            let Some(what) = what else {
                self.replace_operand(&operand, Replacement::Text("NULL::bytea[]".to_owned()));
                continue;
            };
            // The same for every value: the query returns each scope once.
            let Some(mut touched) = self.touched_rows.take() else {
                return Ok(false);
            };
            let parts = self.asked_parts(&mut touched, column, held);
            self.touched_rows = Some(touched);
            let Some((parts, _)) = parts else {
                return Ok(false);
            };
            self.slot(Make::SealPerScope, what, column, parts, &operand)?;
        }
        Ok(true)
    }

    /// A scope's parts, and the columns of the row that it is asked by.
    fn asked_parts(
        &self,
        touched: &mut Touched,
        column: &Protected,
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Option<(Vec<ScopePart>, Vec<String>)> {
        let mut key = Vec::new();
        let mut parts = Vec::new();
        let query = self.scope_queries.len();
        for part in &column.scope.parts {
            parts.push(match part {
                TemplatePart::Text(text) => ScopePart::Text(text.clone()),
                TemplatePart::Session(name) => ScopePart::Session(name.clone()),
                TemplatePart::Column(name) => {
                    let known = held(name).and_then(|part| planned(&[part]));
                    if let Some(part) = known.and_then(|mut parts| parts.pop()) {
                        parts.push(part);
                        continue;
                    }
                    let relation = self.instances.get(touched.instance)?;
                    let found = relation.columns.iter().find(|c| c.name == *name)?;
                    let logical = LogicalType::from_oid(found.base_type_oid, found.typmod)?;
                    let known = touched.columns.iter().position(|(known, _)| known == name);
                    let index = known.unwrap_or_else(|| {
                        touched.columns.push((name.clone(), logical));
                        touched.columns.len() - 1
                    });
                    if !key.contains(name) {
                        key.push(name.clone());
                    }
                    ScopePart::Asked {
                        query,
                        column: index,
                        logical,
                    }
                }
            });
        }
        (!key.is_empty()).then_some((parts, key))
    }

    /// Plans the query for the scopes, if some value needs it.
    pub(super) fn ask_touched(&mut self) -> Result<(), Refusal> {
        let Some(touched) = self.touched_rows.take() else {
            return Ok(());
        };
        let Some((column, at)) = &touched.first else {
            return Ok(());
        };
        let refuse = |why: &str| refusals::scope_not_resolved(column, why).at(*at);
        let sections = self.sections(&touched).ok_or_else(|| {
            refuse("the statement does not tell it, and its rows cannot be asked for in this form")
        })?;
        if self.cannot_ask {
            return Err(refuse(
                "the statement does not tell it, and its rows cannot be asked for without values that are sealed",
            ));
        }
        let ranges = [&sections.with, &sections.from, &sections.condition];
        let ranges = || ranges.into_iter().flatten().cloned();
        if ranges().flatten().any(|at| self.may_change_something(at)) {
            return Err(refuse(
                "the statement does not tell it, and a condition with functions or writes cannot be asked twice",
            ));
        }
        let mut query = Query {
            analyser: self,
            sql: Zeroizing::new(String::new()),
            params: Vec::new(),
        };
        query.build(&touched, &sections);
        let Query { sql, params, .. } = query;
        let declared: Vec<u32> = params.iter().map(|n| self.arriving_oid(*n)).collect();
        let plan = self
            .rules
            .analyse(&sql, self.view, Protocol::Extended, &declared)
            .map_err(|_| {
                refuse("the statement does not tell it, and the query for it was refused")
            })?;
        let asks_security = !touched.reads;
        let wanted = touched.columns.len() + usize::from(asks_security);
        let plain = match plan.statements.as_slice() {
            [only] => match &only.output {
                Output::Fields(fields) => {
                    fields.len() == wanted && fields.iter().all(|f| *f == Field::Plain)
                }
                _ => false,
            },
            _ => false,
        };
        if !plain || !plan.scope_queries.is_empty() {
            return Err(refuse(
                "the statement does not tell it, and the query for it was not understood",
            ));
        }
        self.scope_queries.push(ScopeQuery {
            sql,
            params,
            declared,
            plan: Arc::new(plan),
            columns: touched
                .columns
                .iter()
                .map(|(_, logical)| *logical)
                .collect(),
            asks_security,
            statement: 0,
        });
        Ok(())
    }

    /// Finds the parts of the UPDATE around its table's name.
    fn sections(&self, touched: &Touched) -> Option<Sections> {
        let tokens = self.tokens;
        if let Some(merge) = &touched.merge {
            let (from, condition) = merge.matched.clone().unzip();
            return Some(Sections {
                with: if touched.with {
                    Some(self.with_before(merge.merge)?)
                } else {
                    None
                },
                table: merge.table.clone(),
                from,
                condition,
            });
        }
        let update = (0..touched.token)
            .rev()
            .take_while(|at| touched.token - at <= 3)
            .find(|at| tokens.is_word(*at, "update"))?;
        let with = if touched.with {
            Some(self.with_before(update)?)
        } else {
            None
        };
        let mut marks = Vec::new();
        let mut at = update + 1;
        while at < tokens.len() {
            match tokens.kind(at) {
                Kind::LParen => {
                    at = tokens.pair(at)? + 1;
                    continue;
                }
                Kind::RParen | Kind::SemiColon | Kind::EOF => break,
                _ => {}
            }
            for word in ["set", "from", "where", "returning"] {
                let names = at > 0 && matches!(tokens.kind(at - 1), Kind::Period);
                let distinct = word == "from" && tokens.is_word(at - 1, "distinct");
                if tokens.is_word(at, word) && !names && !distinct {
                    marks.push((word, at));
                }
            }
            at += 1;
        }
        let found = |word: &str| {
            marks
                .iter()
                .find(|(mark, _)| *mark == word)
                .map(|(_, at)| *at)
        };
        let (set, from, condition) = (found("set")?, found("from"), found("where"));
        let returning = found("returning").unwrap_or(at);
        if marks.len()
            != [Some(set), from, condition, found("returning")]
                .iter()
                .flatten()
                .count()
            || from.is_some_and(|from| from < set)
            || condition.is_some_and(|at| at < from.unwrap_or(set))
            || returning < condition.or(from).unwrap_or(set)
        {
            return None;
        }
        let current = condition.is_some_and(|at| tokens.are_words(at + 1, &["current", "of"]));
        (!current).then_some(Sections {
            with,
            table: update + 1..set,
            from: from.map(|from| from + 1..condition.unwrap_or(returning)),
            condition: condition.map(|condition| condition + 1..returning),
        })
    }

    /// WITH, if it stands before a statement that begins here. `None` also if the statement stands in brackets.
    fn with_before(&self, statement: usize) -> Option<Range<usize>> {
        let tokens = self.tokens;
        let mut at = statement;
        while at > 0 {
            at -= 1;
            match tokens.kind(at) {
                Kind::RParen => at = tokens.pair(at)?,
                Kind::LParen | Kind::SemiColon => return None,
                _ if tokens.is_word(at, "with") => return Some(at..statement),
                _ => {}
            }
        }
        None
    }

    /// Whether a token calls a function that may do something, or writes: what is asked runs twice. Operators and
    /// casts are taken to do nothing.
    fn may_change_something(&self, at: usize) -> bool {
        const WRITES: [&str; 4] = ["insert", "update", "delete", "merge"];
        const SYNTAX: [&str; 28] = [
            "all",
            "and",
            "any",
            "array",
            "as",
            "by",
            "case",
            "cast",
            "coalesce",
            "else",
            "except",
            "exists",
            "from",
            "in",
            "intersect",
            "lateral",
            "materialized",
            "not",
            "on",
            "or",
            "row",
            "some",
            "then",
            "union",
            "using",
            "values",
            "when",
            "where",
        ];
        // Functions and types of PostgreSQL's own that only compute.
        const HARMLESS: [&str; 46] = [
            "abs",
            "array_agg",
            "array_length",
            "avg",
            "bit",
            "bool_and",
            "bool_or",
            "btrim",
            "ceil",
            "char",
            "char_length",
            "character",
            "concat",
            "count",
            "date_part",
            "date_trunc",
            "decimal",
            "extract",
            "float",
            "floor",
            "greatest",
            "interval",
            "least",
            "left",
            "length",
            "lower",
            "ltrim",
            "max",
            "min",
            "mod",
            "now",
            "nullif",
            "numeric",
            "overlay",
            "position",
            "replace",
            "right",
            "round",
            "rtrim",
            "substring",
            "sum",
            "time",
            "timestamp",
            "trim",
            "upper",
            "varchar",
        ];
        let tokens = self.tokens;
        if WRITES.iter().any(|word| tokens.is_word(at, word)) {
            // FOR UPDATE locks what the statement will lock.
            let locks = at > 0 && (tokens.is_word(at - 1, "for") || tokens.is_word(at - 1, "key"));
            let named = at > 0 && matches!(tokens.kind(at - 1), Kind::Period);
            return !(locks || named);
        }
        if !matches!(tokens.kind(at), Kind::Word(_)) || !matches!(tokens.kind(at + 1), Kind::LParen)
        {
            return false;
        }
        let known = |words: &[&str]| words.iter().any(|word| tokens.is_word(at, word));
        if known(&SYNTAX) || tokens.is_word(at, "select") {
            return false;
        }
        let dotted = at > 0 && matches!(tokens.kind(at - 1), Kind::Period);
        let ours = !dotted || (at > 1 && tokens.is_word(at - 2, "pg_catalog"));
        if known(&HARMLESS) && ours {
            return false;
        }
        // An alias with names for its columns.
        let alias = at > 0
            && !dotted
            && (matches!(tokens.kind(at - 1), Kind::RParen) || tokens.is_word(at - 1, "as"));
        let table = tokens.is_word(tokens.pair(at + 1).unwrap_or(at) + 1, "as") && !dotted;
        let behind_with = at > 0
            && (tokens.is_word(at - 1, "with")
                || tokens.is_word(at - 1, "recursive")
                || matches!(tokens.kind(at - 1), Kind::Comma));
        !(alias || (table && behind_with && self.defines(at)))
    }

    /// Whether `name (columns) AS (` stands here, as in WITH.
    fn defines(&self, at: usize) -> bool {
        let Some(close) = self.tokens.pair(at + 1) else {
            return false;
        };
        let mut next = close + 2;
        for word in ["not", "materialized"] {
            if self.tokens.is_word(next, word) {
                next += 1;
            }
        }
        matches!(self.tokens.kind(next), Kind::LParen)
    }
}

/// The text of a scope query while it is put together from the client's words.
struct Query<'a, 'b> {
    analyser: &'a Analyser<'b>,
    sql: Zeroizing<String>,
    params: Vec<usize>,
}

impl Query<'_, '_> {
    fn build(&mut self, touched: &Touched, sections: &Sections) {
        if let Some(with) = &sections.with {
            self.words(with);
            self.sql.push(' ');
        }
        self.sql.push_str("SELECT DISTINCT ");
        for (index, (column, _)) in touched.columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let name = &touched.name;
            let column = quote_identifier(column);
            // Writing to a String does not fail.
            let _ = write!(
                *self.sql,
                "{comma}({name}.{column}::pg_catalog.text) COLLATE \"C\""
            );
        }
        if !touched.reads {
            let oid = self.analyser.instances[touched.instance].oid;
            let _ = write!(
                *self.sql,
                ", pg_catalog.row_security_active({oid}::pg_catalog.oid)::pg_catalog.text"
            );
        }
        self.sql.push_str(" FROM ");
        if let Some(from) = &sections.from {
            self.words(from);
            self.sql.push_str(", ");
        }
        self.words(&sections.table);
        if let Some(condition) = &sections.condition {
            self.sql.push_str(" WHERE ");
            self.words(condition);
        }
        let _ = write!(*self.sql, " LIMIT {}", MAX_ASKED_SCOPES + 1);
    }

    /// The client's words, with parameters numbered anew.
    fn words(&mut self, range: &Range<usize>) {
        let tokens = self.analyser.tokens;
        let mut behind = tokens.range(range.start).start;
        let hidden = |at: usize| {
            let mut all = self.analyser.hidden.iter();
            all.find(|hidden| hidden.contains(&at))
        };
        for at in range.clone() {
            let bytes = tokens.range(at);
            if hidden(at).is_none_or(|hidden| hidden.start == at) {
                self.sql.push_str(&tokens.sql[behind..bytes.start]);
            }
            behind = bytes.end;
            if let Some(hidden) = hidden(at) {
                if hidden.start == at {
                    self.sql.push_str("NULL");
                }
                continue;
            }
            match self.analyser.parameter(at) {
                Ok(param) if matches!(tokens.kind(at), Kind::Placeholder(_)) => {
                    let known = self.params.iter().position(|known| *known == param);
                    let number = known.unwrap_or_else(|| {
                        self.params.push(param);
                        self.params.len() - 1
                    });
                    let _ = write!(*self.sql, "${}", number + 1);
                }
                _ => self.sql.push_str(tokens.raw(at)),
            }
        }
    }
}

/// What a row's scope columns are found by, as [`plan::scope_key`] writes it.
pub(super) fn row_key(name: &str, columns: &[String]) -> String {
    let hex = |column: &String| {
        let column = quote_identifier(column);
        format!(
            "pg_catalog.encode(pg_catalog.convert_to({name}.{column}::pg_catalog.text, 'UTF8'), 'hex')"
        )
    };
    let parts: Vec<String> = columns.iter().map(hex).collect();
    format!(
        "pg_catalog.convert_to(pg_catalog.concat_ws('/', {}), 'UTF8')",
        parts.join(", ")
    )
}

/// An expression of type `bytea` that fails when a row comes to it: there is no such setting.
pub(super) fn failing(setting: &str) -> String {
    format!("pg_catalog.decode(pg_catalog.current_setting('{setting}'), 'hex')")
}

/// Whether a condition reads a column of the table beyond doubt.
fn reads(condition: &Expr, instance: usize, cx: Cx<'_>) -> bool {
    let reads = |expr: &Expr| reads(expr, instance, cx);
    match condition {
        Expr::Nested(inner)
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::Cast { expr: inner, .. }
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::InSubquery { expr: inner, .. }
        | Expr::Between { expr: inner, .. }
        | Expr::Like { expr: inner, .. }
        | Expr::ILike { expr: inner, .. }
        | Expr::InList { expr: inner, .. } => reads(inner),
        Expr::IsDistinctFrom(left, right)
        | Expr::IsNotDistinctFrom(left, right)
        | Expr::BinaryOp { left, right, .. }
        | Expr::AnyOp { left, right, .. }
        | Expr::AllOp { left, right, .. } => reads(left) || reads(right),
        Expr::Identifier(ident) => of_instance(std::slice::from_ref(ident), instance, cx),
        Expr::CompoundIdentifier(idents) => of_instance(idents, instance, cx),
        _ => false,
    }
}

fn of_instance(idents: &[sqlparser::ast::Ident], instance: usize, cx: Cx<'_>) -> bool {
    cx.scope.find(idents).is_ok_and(|found| match &found.kind {
        kind::Kind::Plain(Some(cell)) => cell.instance == instance,
        kind::Kind::Sealed(sealed) => sealed
            .sources
            .iter()
            .all(|source| matches!(source.place, kind::Place::Row(row) if row == instance)),
        _ => false,
    })
}
