//! One statement: what it names, what kind it is, and which rules analyse it. Joins no statements (`analysis` does).

use std::{
    collections::HashSet,
    ops::{ControlFlow, Range},
};

use sqlparser::{
    ast::{Ident, Query, SelectItem, SetExpr, Statement, Visit, Visitor},
    dialect::PostgreSqlDialect,
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Span, Token as Kind},
};

use super::{
    Analyser, Protocol, SessionView, copy, derive,
    function::runs_text,
    kept::Kept,
    literal, moment,
    namespace::Ctes,
    params::Parameters,
    protection::{Protection, Standing},
    query::Rows,
    refusals,
    relation::lookup,
    routine, utility,
};
use crate::{
    Refusal,
    copy::CopyPlan,
    plan::{Edit, Output, ScopeQuery, Slot},
    ruleset::{Ruleset, is_hidden},
    text::{MAX_DEPTH, Tokens, depth},
};

/// What the analysis of every statement of a text is given.
pub(super) struct Door<'a> {
    pub(super) rules: &'a Ruleset,
    pub(super) protection: &'a Protection<'a>,
    pub(super) view: &'a SessionView,
    pub(super) protocol: Protocol,
    pub(super) oids: &'a [u32],
    pub(super) tokens: &'a Tokens<'a>,
    pub(super) kept: &'a dyn Kept,
}

/// What is to be done with a statement.
pub(super) enum Verdict {
    /// Nothing protected is in it.
    Relay,
    /// These changes.
    Changed(Box<Changes>),
    /// COPY from or to the client: these changes, and what becomes of its rows.
    Copied(Box<Changes>, CopyPlan),
}

/// The changes of a statement.
pub(super) struct Changes {
    pub(super) edits: Vec<Edit>,
    pub(super) slots: Vec<Slot>,
    pub(super) parameters: Parameters,
    pub(super) output: Output,
    pub(super) notes: Vec<String>,
    /// What the server is asked first.
    pub(super) scope_queries: Vec<ScopeQuery>,
    /// The command tag to show instead of the server's.
    pub(super) tag: Option<&'static str>,
}

impl Door<'_> {
    /// Judges one statement.
    pub(super) fn judge(&self, statement: &Range<usize>) -> Result<Verdict, Refusal> {
        if let Some(head) = routine::head::Head::read(self.tokens, statement)
            && let Some(verdict) = head.judge(self, statement)?
        {
            return Ok(verdict);
        }
        self.check_dynamic(statement)?;
        if !self.names_protected(statement) {
            return Ok(Verdict::Relay);
        }
        self.judge_named(statement, false)
    }

    /// Whether some word can name something protected. Names are resolved as the session would; a word that is in
    /// truth a column or an alias counts.
    pub(super) fn names_protected(&self, statement: &Range<usize>) -> bool {
        statement.clone().any(|at| {
            let Some(name) = self.tokens.name(at) else {
                return false;
            };
            if self.protection.names_function(&name)
                && matches!(self.tokens.kind(at + 1), Kind::LParen)
            {
                return true;
            }
            self.protection.names_relation(&name) && self.may_be_protected(at, &name)
        })
    }

    /// Whether some word is the name of something protected, whatever it means to the session now.
    pub(super) fn spells_protected(&self, statement: &Range<usize>) -> bool {
        statement.clone().any(|at| {
            self.tokens.name(at).is_some_and(|name| {
                self.protection.names_relation(&name) || self.protection.names_function(&name)
            })
        })
    }

    fn may_be_protected(&self, at: usize, name: &str) -> bool {
        let qualified = at >= 2 && matches!(self.tokens.kind(at - 1), Kind::Period);
        let schema = self.tokens.name(at.saturating_sub(2)).filter(|_| qualified);
        let to_come = |schema: &str| self.rules.is_to_come(schema, name);
        let own = self.view.relations.iter().any(|own| own.name == name);
        let comes = match &schema {
            Some(schema) => to_come(schema),
            None => !own && self.view.schemas.iter().any(|schema| to_come(schema)),
        };
        let names: Vec<String> = schema
            .map(|schema| schema.into_owned())
            .into_iter()
            .chain([name.to_owned()])
            .collect();
        let relation = lookup(self.rules, self.view, &names);
        if comes {
            return true;
        }
        relation.is_some_and(|relation| self.protection.standing(relation) != Standing::Plain)
    }

    /// Whether the statement names a relation of which a write runs a function that may read something protected.
    pub(super) fn writes_run_functions(&self, statement: &Range<usize>) -> bool {
        let names: Vec<_> = statement
            .clone()
            .filter_map(|at| self.tokens.name(at))
            .collect();
        let relations = self.rules.catalog.relations.iter();
        relations
            .filter(|relation| self.rules.has_dependent_writes(relation.oid))
            .any(|relation| names.iter().any(|name| *name == relation.name))
    }

    /// SQL inside strings: nobody looks at it on its way to the server.
    pub(super) fn check_dynamic(&self, statement: &Range<usize>) -> Result<(), Refusal> {
        let tokens = self.tokens;
        let first = statement.start;
        let makes = tokens.is_word(first, "create")
            && (first + 1..(first + 4).min(statement.end))
                .any(|at| tokens.is_word(at, "function") || tokens.is_word(at, "procedure"));
        let calls = |at: usize| {
            matches!(tokens.kind(at + 1), Kind::LParen)
                && tokens
                    .name(at)
                    .is_some_and(|name| runs_text(&name) || self.protection.runs_text(&name))
        };
        if !(tokens.is_word(first, "do") || makes || statement.clone().any(calls)) {
            return Ok(());
        }
        let hidden = statement.clone().find(|at| {
            literal::is_text(tokens.kind(*at)) && self.protection.named_in(tokens.raw(*at))
        });
        match hidden {
            None => Ok(()),
            Some(at) => Err(Refusal::unsupported(
                "dynamic-sql",
                "SQL inside a string names something protected",
            )
            .detail("pgveil cannot change what the server will read out of the string.")
            .hint("Send the statement itself.")
            .at(tokens.range(at).start)),
        }
    }

    pub(super) fn judge_named(
        &self,
        statement: &Range<usize>,
        explained: bool,
    ) -> Result<Verdict, Refusal> {
        let tokens = self.tokens;
        // What pgveil keeps beside a column is not there for applications, whatever the statement would do with it.
        let hidden = |at: usize| tokens.name(at).filter(|name| is_hidden(name));
        if let Some((at, name)) = { statement.clone() }.find_map(|at| Some((at, hidden(at)?))) {
            return Err(refusals::undefined_column(None, &name).at(tokens.range(at).start));
        }
        let first = statement
            .clone()
            .find(|at| !matches!(tokens.kind(*at), Kind::LParen))
            .unwrap_or(statement.start);
        if let Some(head) = derive::Head::read(tokens, statement) {
            return head.judge(self, statement);
        }
        if let Some(verdict) = routine::signature::judge(self, statement) {
            return Ok(verdict);
        }
        match tokens.keyword(first) {
            Keyword::SELECT
            | Keyword::WITH
            | Keyword::TABLE
            | Keyword::VALUES
            | Keyword::INSERT
            | Keyword::UPDATE
            | Keyword::DELETE
            | Keyword::MERGE
            | Keyword::CALL => match derive::select_into(self, statement) {
                Some(into) => into.judge(self, statement),
                None => self.analyse(statement),
            },
            Keyword::COPY if !explained => copy::judge(self, statement),
            _ if explained => {
                Err(refusals::construct("EXPLAIN of this").at(tokens.range(first).start))
            }
            _ => utility::judge(self, statement),
        }
    }

    /// Parses and analyses a query or a data-changing statement.
    pub(super) fn analyse(&self, statement: &Range<usize>) -> Result<Verdict, Refusal> {
        let Some(understood) = self.understand(statement, &(0..0), self.protocol, true)? else {
            return Ok(Verdict::Relay);
        };
        let Understood {
            mut analyser,
            rows,
            silent,
        } = understood;
        let parameters = analyser.parameters()?;
        let output = if silent { Output::None } else { fields(&rows) };
        Changes::of(analyser, parameters, output)
    }

    /// The same without the end: `None` if it uses nothing protected. The tokens `apart` are no part of it; `shows`: its
    /// rows go to the client.
    pub(super) fn understand(
        &self,
        statement: &Range<usize>,
        apart: &Range<usize>,
        protocol: Protocol,
        shows: bool,
    ) -> Result<Option<Understood<'_>>, Refusal> {
        if depth(self.tokens, statement) > MAX_DEPTH {
            return Err(Refusal::unsupported("statement-too-complex", "the statement is nested too deeply")
                .detail("It names something protected, and pgveil analyses only so many operators inside each other.")
                .hint("Use IN or = ANY instead of long chains of OR."));
        }
        let (parsed, mut left_out) = parse(self.tokens, self.protection, statement, apart)?;
        left_out.extend(apart.clone());
        let mut analyser = Analyser::new(
            self.rules,
            self.protection,
            self.view,
            protocol,
            self.oids,
            self.tokens,
        );
        analyser.shows = shows;
        analyser.account_types(statement);
        let mut read = analyser.statement(&parsed);
        let decided = analyser.take_decided();
        if !decided.is_empty() {
            // Once more, now that it is known what documents are to hold.
            analyser = Analyser::new(
                self.rules,
                self.protection,
                self.view,
                protocol,
                self.oids,
                self.tokens,
            );
            analyser.decided = decided;
            analyser.shows = shows;
            analyser.account_types(statement);
            read = analyser.statement(&parsed);
        }
        let (rows, silent) = read?;
        check_given(&rows)?;
        if shows && !silent {
            check_known(&rows)?;
        }
        if !analyser.touches() {
            return Ok(None);
        }
        analyser.check_settings()?;
        analyser.check_ledger(statement, &left_out)?;
        Ok(Some(Understood {
            analyser,
            rows,
            silent,
        }))
    }
}

/// A statement that was analysed.
pub(super) struct Understood<'a> {
    pub(super) analyser: Analyser<'a>,
    pub(super) rows: Rows,
    /// It returns none of them.
    silent: bool,
}

impl Changes {
    /// What the analyser wants changed.
    pub(super) fn of(
        analyser: Analyser<'_>,
        parameters: Parameters,
        output: Output,
    ) -> Result<Verdict, Refusal> {
        let edits = analyser
            .edits
            .finish()
            .ok_or_else(|| refusals::not_understood("Two changes of the text overlap"))?;
        let mut scope_queries = analyser.scope_queries;
        scope_queries.extend(moment::question(&analyser.slots));
        Ok(Verdict::Changed(Box::new(Self {
            edits,
            slots: analyser.slots,
            parameters,
            output,
            notes: analyser.notes,
            scope_queries,
            tag: None,
        })))
    }
}

/// Parses a statement that names something protected, without the tokens `apart`; also says which tokens were left out
/// for the parser.
pub(super) fn parse(
    tokens: &Tokens<'_>,
    protection: &Protection<'_>,
    statement: &Range<usize>,
    apart: &Range<usize>,
) -> Result<(Statement, HashSet<usize>), Refusal> {
    let mut taught = protection.taught(tokens, statement);
    taught.tokens.retain(|token| {
        tokens
            .starting(token.span.start)
            .is_none_or(|at| !apart.contains(&at))
    });
    if tokens.is_word(statement.start, "perform")
        && let Some(first) = taught.tokens.first_mut()
    {
        // What PL/pgSQL calls a query without a place for its rows. To the server it is no statement.
        first.token = Kind::make_keyword("SELECT");
    }
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(MAX_DEPTH)
        .with_tokens_with_locations(taught.tokens);
    let parsed = parser
        .parse_statement()
        .map_err(|error| unparsed(tokens, &error, statement))?;
    let rest = parser.peek_token();
    if rest.token != Kind::EOF {
        let at = tokens.starting(rest.span.start).unwrap_or(statement.start);
        return Err(not_parsed().at(tokens.range(at).start));
    }
    if let ControlFlow::Break(span) = parsed.visit(&mut QuotedIdents) {
        let at = tokens.starting(span.start).unwrap_or(statement.start);
        return Err(not_parsed().at(tokens.range(at).start));
    }
    Ok((parsed, taught.left_out))
}

/// Where a list stands in memory: which of the statement's it is.
pub(super) fn place(items: &[SelectItem]) -> usize {
    items.as_ptr().addr()
}

/// The list of what a statement yields, where rows are neither compared nor combined.
fn shown_list(parsed: &Statement) -> Option<&[SelectItem]> {
    match parsed {
        Statement::Query(query) => match query.body.as_ref() {
            SetExpr::Select(select) if select.distinct.is_none() => Some(&select.projection),
            SetExpr::Insert(inner) | SetExpr::Update(inner) | SetExpr::Delete(inner) => {
                shown_list(inner)
            }
            _ => None,
        },
        Statement::Insert(insert) => insert.returning.as_deref(),
        Statement::Update(update) => update.returning.as_deref(),
        Statement::Delete(delete) => delete.returning.as_deref(),
        _ => None,
    }
}

/// Parses a query, of a view for example.
pub(super) fn parse_query(
    tokens: &Tokens<'_>,
    protection: &Protection<'_>,
    range: &Range<usize>,
) -> Result<(Box<Query>, HashSet<usize>), Refusal> {
    match parse(tokens, protection, range, &(0..0))? {
        (Statement::Query(query), left_out) => Ok((query, left_out)),
        _ => Err(refusals::construct("this statement")),
    }
}

/// The parser's message may quote literals; only its place is kept.
pub(super) fn unparsed(
    tokens: &Tokens<'_>,
    error: &ParserError,
    statement: &Range<usize>,
) -> Refusal {
    let place = match error {
        ParserError::ParserError(message) => place_in(message),
        _ => None,
    };
    let at = place
        .and_then(|place| tokens.starting(place))
        .unwrap_or(statement.start);
    not_parsed().at(tokens.range(at).start)
}

impl Analyser<'_> {
    /// A parsed statement: its rows, and whether it returns none by nature.
    pub(super) fn statement(&mut self, parsed: &Statement) -> Result<(Rows, bool), Refusal> {
        let ctes = Ctes::default();
        self.outermost = shown_list(parsed).filter(|_| self.shows).map(place);
        match parsed {
            Statement::Query(query) => {
                let writes = matches!(
                    query.body.as_ref(),
                    SetExpr::Insert(_)
                        | SetExpr::Update(_)
                        | SetExpr::Delete(_)
                        | SetExpr::Merge(_)
                );
                let rows = self.query(query, None, &ctes)?;
                let silent = writes && rows.columns.is_empty();
                Ok((rows, silent))
            }
            Statement::Insert(insert) => self
                .insert(insert, &ctes)
                .map(|rows| (rows, insert.returning.is_none())),
            Statement::Update(update) => self
                .update(update, &ctes)
                .map(|rows| (rows, update.returning.is_none())),
            Statement::Delete(delete) => self
                .delete(delete, &ctes)
                .map(|rows| (rows, delete.returning.is_none())),
            Statement::Merge(merge) => self
                .merge(merge, &ctes)
                .map(|rows| (rows, merge.output.is_none())),
            Statement::Call(call) => self.call_procedure(call).map(|rows| (rows, true)),
            _ => Err(refusals::construct("this statement")),
        }
    }

    /// Words that can only be types are no names of columns: behind `::`, in CAST, before a literal.
    pub(super) fn account_types(&mut self, statement: &Range<usize>) {
        for at in statement.clone() {
            let types = match self.tokens.kind(at) {
                Kind::DoubleColon => self.tokens.type_end(at + 1).map(|end| at + 1..end),
                Kind::Word(_)
                    if self.tokens.is_word(at, "cast")
                        && matches!(self.tokens.kind(at + 1), Kind::LParen) =>
                {
                    self.tokens.pair(at + 1).and_then(|close| {
                        let word = (at..close)
                            .rev()
                            .find(|at| self.tokens.is_word(*at, "as"))?;
                        (self.tokens.type_end(word + 1) == Some(close)).then_some(word + 1..close)
                    })
                }
                Kind::Word(_)
                    if matches!(self.tokens.kind(at + 1), Kind::SingleQuotedString(_)) =>
                {
                    Some(at..at + 1)
                }
                _ => None,
            };
            if let Some(types) = types {
                self.account_tokens(types);
            }
        }
    }
}

/// Finds identifiers in other quotes than PostgreSQL's: literals that the parser took for aliases.
struct QuotedIdents;

impl Visitor for QuotedIdents {
    type Break = Span;

    fn pre_visit_ident(&mut self, ident: &Ident) -> ControlFlow<Span> {
        match ident.quote_style {
            None | Some('"') => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(ident.span),
        }
    }
}

/// A document that the statement gave is not shown: what the statement does not name is not in it any more.
fn check_given(rows: &Rows) -> Result<(), Refusal> {
    for column in &rows.columns {
        if let super::kind::Kind::Holder(holder) = &column.kind
            && holder.given().is_some()
        {
            return Err(refusals::holder(holder, "the result"));
        }
    }
    Ok(())
}

/// Where it is not known which column of a result is which, none could be opened when it comes.
fn check_known(rows: &Rows) -> Result<(), Refusal> {
    if !rows.open
        || rows
            .columns
            .iter()
            .all(|column| column.kind.protected().is_none())
    {
        return Ok(());
    }
    Err(
        refusals::construct("* beside a function whose columns only the server knows")
            .hint("Name the columns that are wanted."),
    )
}

fn fields(rows: &Rows) -> Output {
    if rows.open {
        return Output::Unknown;
    }
    let fields = rows.columns.iter().map(|column| column.kind.field());
    Output::Fields(fields.collect())
}

pub(super) fn not_parsed() -> Refusal {
    Refusal::unsupported(
        "statement-not-parsed",
        "a statement that names something protected could not be parsed",
    )
    .detail("pgveil sends such a statement only if it understands all of it.")
    .hint("If PostgreSQL accepts it, write it in a simpler form, or report it.")
}

/// `... at Line: 1, Column: 20`
fn place_in(message: &str) -> Option<Location> {
    let (_, place) = message.rsplit_once("Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location {
        line: line.parse().ok()?,
        column: column.trim().parse().ok()?,
    })
}
