//! The query that asks the server for the scopes of the rows that a statement touches, made of the statement's own words.
//! What is sealed stands in it as NULL.

use std::{fmt::Write, ops::Range, sync::Arc};

use sqlparser::tokenizer::Token as Kind;
use zeroize::Zeroizing;

use super::{
    Analyser, Protocol, refusals,
    touched::{Selected, Touched, TouchedBy},
};
use crate::{
    Refusal,
    plan::{Field, MAX_ASKED_SCOPES, MAX_FETCHED, Output, ScopeQuery},
};

/// Where the clauses of a SELECT stand, in tokens.
struct Clauses {
    from: Option<usize>,
    condition: Option<usize>,
    /// What stands behind FROM and WHERE.
    end: usize,
    /// That leaves rows out.
    leaves_out: bool,
}

/// Where the parts of a statement stand, in tokens.
struct Sections {
    with: Option<Range<usize>>,
    /// The table that is written to, where its rows are there already.
    table: Option<Range<usize>>,
    from: Option<Range<usize>>,
    condition: Option<Range<usize>>,
}
impl Analyser<'_> {
    /// Plans the query for the scopes, if some value needs it.
    pub(super) fn ask_touched(&mut self) -> Result<(), Refusal> {
        let Some(touched) = self.touched_rows.take() else {
            return Ok(());
        };
        let Some((column, at)) = &touched.first else {
            return Ok(());
        };
        let fetches = touched.fetches;
        let refuse = |why: &str| {
            let refusal = if fetches {
                refusals::not_fetched(column, why)
            } else {
                let why = format!("the statement does not tell it, and {why}");
                refusals::scope_not_resolved(column, &why)
            };
            refusal.at(*at)
        };
        let sections = self.sections(&touched);
        let sections =
            sections.ok_or_else(|| refuse("its rows cannot be asked for in this form"))?;
        if self.cannot_ask {
            return Err(refuse(
                "its rows cannot be asked for without values that are sealed",
            ));
        }
        let ranges = [&sections.with, &sections.from, &sections.condition];
        let ranges = || ranges.into_iter().flatten().cloned();
        if ranges().flatten().any(|at| self.may_change_something(at)) {
            return Err(refuse(
                "a condition with functions or writes cannot be asked twice",
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
            .map_err(|_| refuse("the query for it was refused"))?;
        let asks_security = !touched.reads;
        let wanted = touched.columns.len() + usize::from(asks_security);
        let plain = match plan.statements.as_slice() {
            [only] => match &only.output {
                Output::Fields(fields) => {
                    fields.len() == wanted && fields.iter().all(|f| *f == Field::Plain)
                }
                // Nothing protected is in it.
                Output::Unknown => plan.is_identity(),
                _ => false,
            },
            _ => false,
        };
        if !plain || !plan.scope_queries.is_empty() {
            return Err(refuse("the query for it was not understood"));
        }
        self.scope_queries.push(ScopeQuery {
            sql,
            params,
            declared,
            plan: Arc::new(plan),
            columns: touched.columns.iter().map(|asked| asked.logical).collect(),
            most: most(&touched),
            asks_security,
            moments: Vec::new(),
            statement: 0,
        });
        Ok(())
    }

    /// Finds the parts of the UPDATE around its table's name.
    fn sections(&self, touched: &Touched) -> Option<Sections> {
        let tokens = self.tokens;
        if let TouchedBy::Select(selected) = &touched.by {
            return self.sections_of_select(touched, selected);
        }
        if let TouchedBy::Merge(merge) = &touched.by {
            let (from, condition) = merge.matched.clone().unzip();
            return Some(Sections {
                with: if touched.with {
                    Some(self.with_before(merge.merge)?)
                } else {
                    None
                },
                table: Some(merge.table.clone()),
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
            table: Some(update + 1..set),
            from: from.map(|from| from + 1..condition.unwrap_or(returning)),
            condition: condition.map(|condition| condition + 1..returning),
        })
    }

    /// Finds FROM and WHERE of a SELECT whose rows are inserted.
    fn sections_of_select(&self, touched: &Touched, selected: &Selected) -> Option<Sections> {
        let with = if touched.with {
            let mut before = (0..selected.select).rev();
            let insert = before.find(|at| self.tokens.is_word(*at, "insert"))?;
            Some(self.with_before(insert)?)
        } else {
            None
        };
        let clauses = self.clauses(selected.select)?;
        let from = clauses.from?;
        let condition = clauses.condition;
        Some(Sections {
            with,
            table: None,
            from: Some(from + 1..condition.unwrap_or(clauses.end)),
            condition: condition.map(|condition| condition + 1..clauses.end),
        })
    }

    /// Whether a SELECT that begins here has a clause that leaves rows out behind WHERE.
    pub(super) fn leaves_rows_out(&self, select: usize) -> bool {
        self.clauses(select)
            .is_none_or(|clauses| clauses.leaves_out)
    }

    fn clauses(&self, select: usize) -> Option<Clauses> {
        const LEAVE_OUT: [&str; 4] = ["limit", "offset", "fetch", "for"];
        const BEHIND_WHERE: [&str; 5] = ["group", "having", "window", "order", "returning"];
        let tokens = self.tokens;
        let (mut from, mut condition, mut end, mut leaves_out) = (None, None, None, false);
        let mut at = select + 1;
        while at < tokens.len() {
            match tokens.kind(at) {
                Kind::LParen => {
                    at = tokens.pair(at)? + 1;
                    continue;
                }
                Kind::RParen | Kind::SemiColon | Kind::EOF => break,
                _ => {}
            }
            let names = matches!(tokens.kind(at - 1), Kind::Period);
            let is = |word: &str| !names && tokens.is_word(at, word);
            let out = LEAVE_OUT.into_iter().any(is);
            if is("from") && !tokens.is_word(at - 1, "distinct") {
                from = from.or(Some(at));
            } else if is("where") {
                condition = condition.or(Some(at));
            } else if out
                || BEHIND_WHERE.into_iter().any(is)
                || tokens.are_words(at, &["on", "conflict"])
            {
                leaves_out |= out;
                end = end.or(Some(at));
            }
            at += 1;
        }
        Some(Clauses {
            from,
            condition,
            end: end.unwrap_or(at),
            leaves_out,
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
        const SYNTAX: [&str; 29] = [
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
            "join",
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
        const HARMLESS: [&str; 47] = [
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
            "unnest",
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
        for (index, asked) in touched.columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            // Writing to a String does not fail.
            let _ = write!(*self.sql, "{comma}({}) COLLATE \"C\"", asked.sql);
        }
        if !touched.reads {
            let oid = self.analyser.instances[touched.instance].oid;
            let _ = write!(
                *self.sql,
                ", pg_catalog.row_security_active({oid}::pg_catalog.oid)::pg_catalog.text"
            );
        }
        self.sql.push_str(" FROM ");
        for (index, list) in [&sections.from, &sections.table]
            .into_iter()
            .flatten()
            .enumerate()
        {
            if index > 0 {
                self.sql.push_str(", ");
            }
            self.words(list);
        }
        if let Some(condition) = &sections.condition {
            self.sql.push_str(" WHERE ");
            self.words(condition);
        }
        let _ = write!(*self.sql, " LIMIT {}", most(touched) + 1);
    }

    /// The client's words, with parameters numbered anew.
    fn words(&mut self, range: &Range<usize>) {
        let tokens = self.analyser.tokens;
        let mut behind = tokens.range(range.start).start;
        let hidden = |at: usize| {
            let mut all = self.analyser.hidden.iter();
            all.find(|(hidden, _)| hidden.contains(&at))
        };
        for at in range.clone() {
            let bytes = tokens.range(at);
            if hidden(at).is_none_or(|(hidden, _)| hidden.start == at) {
                self.sql.push_str(&tokens.sql[behind..bytes.start]);
            }
            behind = bytes.end;
            if let Some((hidden, null)) = hidden(at) {
                if hidden.start == at {
                    self.sql.push_str(null);
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

/// Rows that are followed at most.
fn most(touched: &Touched) -> usize {
    if touched.fetches {
        MAX_FETCHED
    } else {
        MAX_ASKED_SCOPES
    }
}
