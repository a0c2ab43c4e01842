//! Relations that are made of a query: CREATE TABLE AS, SELECT INTO, CREATE VIEW, CREATE MATERIALIZED VIEW. The query is
//! analysed like any other. A table keeps its sealed values under their domains; a definition that the server keeps must
//! be one that can be read again, and must hold nothing that only this execution knows.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind_;

use super::{
    Analyser, Protocol, ddl,
    kept::{Judged, Names},
    kind::{Kind, Sealed},
    namespace::Column,
    query::Rows,
    refusals,
    statement::{Changes, Door, Understood, Verdict},
    view,
};
use crate::{
    Refusal,
    plan::{Field, Make, Operand, Output, Replacement, ScopePart, Slot},
    text::{Tokens, quote_identifier},
};

/// The rows of the client's query.
const KEPT: &str = "pgveil_k";

/// What a query becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Table,
    View,
    MaterializedView,
}

/// `CREATE ... AS query`.
pub(super) struct Head {
    made: Made,
    name: Vec<String>,
    at: usize,
    temporary: bool,
    recursive: bool,
    /// It has a list of column names.
    lists: bool,
    query: Range<usize>,
}

/// `SELECT ... INTO name ...`.
pub(super) struct Into {
    name: Vec<String>,
    at: usize,
    temporary: bool,
    /// What stands between INTO and the word TABLE or the name.
    modifiers: Range<usize>,
    /// From INTO to the name's end.
    clause: Range<usize>,
    written: Range<usize>,
}

const TEMPORARY: [&str; 2] = ["temp", "temporary"];
const MODIFIERS: [&str; 5] = ["global", "local", "temp", "temporary", "unlogged"];

fn is_one_of(tokens: &Tokens<'_>, at: usize, words: &[&str]) -> bool {
    words.iter().any(|word| tokens.is_word(at, word))
}

/// Behind the words of `MODIFIERS`.
fn behind_modifiers(tokens: &Tokens<'_>, mut at: usize) -> usize {
    while is_one_of(tokens, at, &MODIFIERS) {
        at += 1;
    }
    at
}

/// The first token outside of brackets for which `is` holds.
fn outside(tokens: &Tokens<'_>, range: Range<usize>, is: impl Fn(usize) -> bool) -> Option<usize> {
    let mut at = range.start;
    while at < range.end {
        if is(at) {
            return Some(at);
        }
        at = match tokens.kind(at) {
            Kind_::LParen | Kind_::LBracket => tokens.pair(at)? + 1,
            _ => at + 1,
        };
    }
    None
}

impl Head {
    /// Reads what stands before the query. `None`: no relation is made of one.
    pub(super) fn read(tokens: &Tokens<'_>, statement: &Range<usize>) -> Option<Self> {
        let mut at = statement.start;
        if !tokens.is_word(at, "create") {
            return None;
        }
        at += 1;
        if tokens.are_words(at, &["or", "replace"]) {
            at += 2;
        }
        let first = at;
        at = behind_modifiers(tokens, at);
        let temporary = (first..at).any(|at| is_one_of(tokens, at, &TEMPORARY));
        let recursive = tokens.is_word(at, "recursive");
        at += usize::from(recursive);
        let made = if tokens.is_word(at, "table") {
            Made::Table
        } else if tokens.is_word(at, "view") {
            Made::View
        } else if tokens.are_words(at, &["materialized", "view"]) {
            at += 1;
            Made::MaterializedView
        } else {
            return None;
        };
        at += 1;
        if tokens.are_words(at, &["if", "not", "exists"]) {
            at += 3;
        }
        let (name, behind) = ddl::name(tokens, at)?;
        let word = outside(tokens, behind..statement.end, |at| tokens.is_word(at, "as"))?;
        Some(Self {
            made,
            temporary: temporary || in_temporary_schema(&name),
            name,
            at,
            recursive,
            lists: matches!(tokens.kind(behind), Kind_::LParen),
            query: word + 1..query_end(tokens, word + 1..statement.end),
        })
    }

    /// Judges the statement.
    pub(super) fn judge(
        &self,
        door: &Door<'_>,
        statement: &Range<usize>,
    ) -> Result<Verdict, Refusal> {
        check_target(door, &self.name, self.at, self.temporary)?;
        if !door.names_protected(&self.query) {
            return Ok(Verdict::Relay);
        }
        if self.recursive {
            return Err(refusals::construct("CREATE RECURSIVE VIEW")
                .hint("Write CREATE VIEW ... AS WITH RECURSIVE ...")
                .at(door.tokens.range(statement.start).start));
        }
        match self.made {
            Made::Table => self.table(door),
            Made::View | Made::MaterializedView => self.view(door),
        }
    }

    fn table(&self, door: &Door<'_>) -> Result<Verdict, Refusal> {
        let understood = door.understand(&self.query, &(0..0), door.protocol, false)?;
        let Some(Understood {
            mut analyser, rows, ..
        }) = understood
        else {
            return Ok(Verdict::Relay);
        };
        let parameters = analyser.parameters()?;
        analyser.keep(&rows, &self.query, self.lists, "")?;
        Changes::of(analyser, parameters, Output::None)
    }

    fn view(&self, door: &Door<'_>) -> Result<Verdict, Refusal> {
        let start = door.tokens.range(self.query.start).start;
        if self.is_deparsed(door.tokens) {
            return self.restored(door).map_err(|refusal| refusal.at(start));
        }
        let understood = door.understand(&self.query, &(0..0), Protocol::Simple, false)?;
        let Some(Understood {
            mut analyser, rows, ..
        }) = understood
        else {
            return Ok(Verdict::Relay);
        };
        if rows.open && rows.is_sealed() {
            return Err(columns_unknown().at(start));
        }
        for slot in &analyser.slots {
            check_stored_slot(slot).map_err(|refusal| refusal.at(start))?;
        }
        let text = analyser.definition(&self.query);
        view::stands(door.rules, door.view, &text, &rows)
            .map_err(|inner| refusals::definition_not_readable(&inner).at(start))?;
        analyser.note(
            "The definition is kept with search terms in the place of literals for protected columns."
                .to_owned(),
        );
        Changes::of(analyser, door.no_parameters(), Output::None)
    }

    /// Whether the query names something of schema pgveil, as a definition does that pgveil wrote and the server printed
    /// (a dump).
    fn is_deparsed(&self, tokens: &Tokens<'_>) -> bool {
        self.query
            .clone()
            .any(|at| tokens.is_word(at, "pgveil") && matches!(tokens.kind(at + 1), Kind_::Period))
    }

    /// It is kept as it stands, if it can be read as it stands.
    fn restored(&self, door: &Door<'_>) -> Result<Verdict, Refusal> {
        view::kept(door, &self.query).map_err(|inner| refusals::definition_not_readable(&inner))?;
        let note = "The definition is one that pgveil wrote before; it is kept as it stands.";
        Ok(Verdict::Changed(Box::new(Changes {
            edits: Vec::new(),
            slots: Vec::new(),
            parameters: Default::default(),
            output: Output::None,
            notes: vec![note.to_owned()],
            scope_queries: Vec::new(),
            tag: None,
        })))
    }

    /// `CREATE TABLE ... AS EXECUTE name (...)`: what executes it is judged already.
    fn of_execute(&self, door: &Door<'_>, executed: Judged) -> Result<Judged, Refusal> {
        let Verdict::Changed(changes) = &executed.verdict else {
            return Ok(executed);
        };
        let at = door.tokens.range(self.query.start).start;
        let fields = match &changes.output {
            Output::Fields(fields) => fields.as_slice(),
            Output::None => &[],
            Output::Unknown | Output::Cursor(_) | Output::Explained => {
                return Err(columns_unknown().at(at));
            }
        };
        for field in fields {
            let kept = match field {
                Field::Plain => true,
                Field::Holder(_) => false,
                Field::Sealed { origin, .. } => origin.is_some_and(|(relation, attnum)| {
                    let own = door.view.relations.iter();
                    let found = { own }.find(|own| own.oid == relation);
                    let found = found.or_else(|| door.rules.catalog.relation_by_oid(relation));
                    let column = found.and_then(|found| found.attribute(attnum));
                    // What a group hides behind an aggregate has lost its domain.
                    column.is_some_and(|column| column.sealed_domain().is_some())
                }),
            };
            if !kept {
                return Err(
                    refusals::construct("CREATE TABLE AS EXECUTE of such values")
                        .hint("Write the query itself: CREATE TABLE ... AS SELECT ...")
                        .at(at),
                );
            }
        }
        Ok(executed)
    }
}

impl Door<'_> {
    /// `CREATE TABLE ... AS EXECUTE name (...)`, if that is what it is and the prepared statement holds something
    /// protected.
    pub(super) fn made_by_execute(
        &self,
        statement: &Range<usize>,
        names: &Names<'_>,
    ) -> Result<Option<Judged>, Refusal> {
        let Some(head) = Head::read(self.tokens, statement) else {
            return Ok(None);
        };
        let Some(crate::text::Verb::Execute {
            name,
            list,
            arguments,
        }) = crate::text::verb(self.tokens, &head.query)
        else {
            return Ok(None);
        };
        if names.prepared(&name)?.is_none() {
            return Ok(None);
        }
        check_target(self, &head.name, head.at, head.temporary)?;
        let executed = self.execute(name, &list, &arguments, names)?;
        let mut judged = head.of_execute(self, executed)?;
        if let Verdict::Changed(changes) = &mut judged.verdict {
            changes.output = Output::None;
        }
        Ok(Some(judged))
    }
}

/// The INTO of a query that makes a table, if it has one.
pub(super) fn select_into(door: &Door<'_>, statement: &Range<usize>) -> Option<Into> {
    let tokens = door.tokens;
    if !is_one_of(tokens, statement.start, &["select", "with"]) {
        return None;
    }
    let is_name = |at: usize| {
        at > 0 && (matches!(tokens.kind(at - 1), Kind_::Period) || tokens.is_word(at - 1, "as"))
    };
    let ends = |at: usize| is_one_of(tokens, at, &["from", "union", "intersect", "except"]);
    let into = outside(tokens, statement.clone(), |at| {
        !is_name(at) && (tokens.is_word(at, "into") || ends(at))
    })?;
    let other = into > 0 && is_one_of(tokens, into - 1, &["insert", "merge"]);
    if !tokens.is_word(into, "into") || other {
        return None;
    }
    let behind = behind_modifiers(tokens, into + 1);
    let at = behind + usize::from(tokens.is_word(behind, "table"));
    let (name, end) = ddl::name(tokens, at)?;
    let temporary = (into + 1..behind).any(|at| is_one_of(tokens, at, &TEMPORARY));
    Some(Into {
        temporary: temporary || in_temporary_schema(&name),
        name,
        at,
        modifiers: into + 1..behind,
        clause: into..end,
        written: at..end,
    })
}

impl Into {
    /// Judges the statement: where it keeps sealed values it becomes CREATE TABLE AS.
    pub(super) fn judge(
        &self,
        door: &Door<'_>,
        statement: &Range<usize>,
    ) -> Result<Verdict, Refusal> {
        check_target(door, &self.name, self.at, self.temporary)?;
        let understood = door.understand(statement, &self.clause, door.protocol, false)?;
        let Some(Understood {
            mut analyser, rows, ..
        }) = understood
        else {
            return Ok(Verdict::Relay);
        };
        let parameters = analyser.parameters()?;
        let tokens = door.tokens;
        let text = |range: &Range<usize>| &tokens.sql[tokens.bytes(range)];
        let modifiers = text(&self.modifiers);
        let space = if modifiers.is_empty() { "" } else { " " };
        let name = text(&self.written);
        let head = format!("CREATE {modifiers}{space}TABLE {name} AS ");
        if analyser.keep(&rows, statement, false, &head)? {
            let clause = tokens.bytes(&self.clause);
            let nothing = Replacement::Text(String::new());
            analyser.edits.replace(clause, nothing);
        }
        Changes::of(analyser, parameters, Output::None)
    }
}

impl Analyser<'_> {
    /// Gives the sealed columns of a table that is made of these rows their domains. False if it has none.
    ///
    /// `SELECT a, COALESCE(email, $1) ...` becomes `SELECT k.c1 AS a, k.c2::pgveil.sealed_text AS "coalesce" FROM (SELECT a,
    /// COALESCE(email, $1) ...) AS k(c1, c2)`: what the server computes of such values is of the type bytea.
    fn keep(
        &mut self,
        rows: &Rows,
        query: &Range<usize>,
        lists: bool,
        head: &str,
    ) -> Result<bool, Refusal> {
        let bytes = self.tokens.bytes(query);
        for column in &rows.columns {
            self.check_kept(column)
                .map_err(|refusal| refusal.at(bytes.start))?;
        }
        if !rows.is_sealed() {
            return Ok(false);
        }
        if rows.open {
            return Err(columns_unknown().at(bytes.start));
        }
        let writes =
            |at: usize| is_one_of(self.tokens, at, &["insert", "update", "delete", "merge"]);
        let in_brackets = |at: usize| at > 0 && matches!(self.tokens.kind(at - 1), Kind_::LParen);
        if let Some(at) = query.clone().find(|at| in_brackets(*at) && writes(*at)) {
            return Err(
                refusals::construct("a table made of a WITH that changes data")
                    .hint("Use INSERT, UPDATE or DELETE ... RETURNING, or two statements.")
                    .at(self.tokens.range(at).start),
            );
        }
        let mut outputs = Vec::new();
        for (index, column) in rows.columns.iter().enumerate() {
            let number = index + 1;
            let name = match &column.name {
                Some(name) => quote_identifier(name),
                None if lists => format!("c{number}"),
                None => {
                    let what = "The name of a column of the new table is not known";
                    return Err(refusals::not_understood(what).at(bytes.start));
                }
            };
            let cast = column.kind.sealed().map_or_else(String::new, |sealed| {
                let domain = sealed.logical().domain();
                format!("::pgveil.{}", quote_identifier(domain))
            });
            outputs.push(format!("{KEPT}.c{number}{cast} AS {name}"));
        }
        let columns: Vec<_> = (1..=rows.columns.len()).map(|n| format!("c{n}")).collect();
        self.note("Sealed values keep their domains in the new table.".to_owned());
        self.edits.open(
            bytes.start,
            format!("{head}SELECT {} FROM (", outputs.join(", ")),
        );
        let columns = columns.join(", ");
        self.edits
            .close(bytes.end, format!(") AS {KEPT}({columns})"));
        Ok(true)
    }

    /// Whether the values of a column may be stored: each says for itself which column it was sealed for, and with whose
    /// keys, so that these must be right, and they are shown as the copies of that domain are.
    fn check_kept(&self, column: &Column) -> Result<(), Refusal> {
        match &column.kind {
            Kind::Plain(_) | Kind::Untyped => Ok(()),
            Kind::Holder(holder) => Err(refusals::holder(holder, "a table made of a query")),
            Kind::Sealed(sealed) if self.keeps(sealed) => Ok(()),
            Kind::Sealed(sealed) => Err(refusals::not_supported(
                sealed.column(),
                "a table made of a query, after a cast or beside values of other scopes,",
            )
            .hint("Select the column itself.")),
        }
    }

    fn keeps(&self, sealed: &Sealed) -> bool {
        let domain = sealed.logical().domain();
        let shown = self.rules.moved_type(domain);
        let bare = sealed.shown.without_modifiers();
        sealed.may_be_kept(domain)
            && sealed.is_as_stored()
            && shown.is_some_and(|shown| shown == sealed.shown || shown == bare)
    }

    /// The query as the server will keep it, with some term in the place of each.
    fn definition(&self, query: &Range<usize>) -> String {
        let pieces = self.edits.copy(self.tokens.sql, &self.tokens.bytes(query));
        let text = pieces.into_iter().map(|piece| match piece {
            Replacement::Text(text) => text,
            Replacement::Param(param) => format!("${}", param + 1),
            Replacement::Slot(slot) => {
                let is_array = { self.slots.get(slot) }.is_some_and(|slot| slot.make.is_array());
                let term = "'\\x00'::bytea";
                if is_array {
                    format!("ARRAY[{term}]")
                } else {
                    term.to_owned()
                }
            }
        });
        text.collect()
    }
}

/// What a kept definition may hold: search terms of scopes that the text itself tells.
pub(super) fn check_stored_slot(slot: &Slot) -> Result<(), Refusal> {
    let term = matches!(slot.make, Make::EqualityTerm | Make::EqualityTerms);
    let fixed = slot.scope.iter().all(|part| match part {
        ScopePart::Text(_) => true,
        ScopePart::Row(operand, _) | ScopePart::Element(operand, _) => {
            matches!(operand, Operand::Literal(_) | Operand::Array(_))
        }
        ScopePart::Session(_) | ScopePart::Member(..) | ScopePart::Asked { .. } => false,
    });
    let known = !matches!(slot.operand, Operand::Moment(_) | Operand::Fetched(_));
    if term && fixed && known {
        return Ok(());
    }
    Err(Refusal::unsupported(
        "definition-needs-plaintext",
        "a definition cannot hold a value for a protected column",
    )
    .detail("It would be sealed once, for the session that makes the view, and be part of the definition.")
    .hint("Compare the column with a literal under a fixed scope, or leave the value to the statement that reads the view."))
}

/// What the policy names is made with CREATE TABLE, so that its columns get their domains.
fn check_target(
    door: &Door<'_>,
    name: &[String],
    at: usize,
    temporary: bool,
) -> Result<(), Refusal> {
    let Some((schema, table)) = ddl::target(door, name).filter(|_| !temporary) else {
        return Ok(());
    };
    if !door.rules.is_to_come(&schema, &table) {
        return Ok(());
    }
    Err(Refusal::unsupported(
        "definition-differs",
        format!("table \"{table}\" cannot be made of a query"),
    )
    .detail("The policy names columns of it, and each of its values is to be sealed for its own column.")
    .hint("CREATE TABLE with its columns first, then INSERT INTO ... SELECT.")
    .at(door.tokens.range(at).start))
}

fn in_temporary_schema(name: &[String]) -> bool {
    name.len() > 1 && name[name.len() - 2].starts_with("pg_temp")
}

/// Where a query ends before WITH [NO] DATA or WITH CHECK OPTION.
fn query_end(tokens: &Tokens<'_>, query: Range<usize>) -> usize {
    const ENDS: [&[&str]; 5] = [
        &["with", "data"],
        &["with", "no", "data"],
        &["with", "check", "option"],
        &["with", "local", "check", "option"],
        &["with", "cascaded", "check", "option"],
    ];
    let end = ENDS.iter().find_map(|words| {
        let at = query.end.checked_sub(words.len())?;
        (at > query.start && tokens.are_words(at, words)).then_some(at)
    });
    end.unwrap_or(query.end)
}

fn columns_unknown() -> Refusal {
    refusals::construct("a relation made of a query of which only the server knows the columns")
        .hint("Name the columns one by one.")
}
