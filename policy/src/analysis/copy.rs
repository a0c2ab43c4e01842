//! COPY, read by its words (the parser knows three quarters of it): which relation or query, which columns, which
//! options, and by them what becomes of every field. What the rows hold is not known here.

mod options;

use std::ops::Range;

use sqlparser::{
    ast::{Expr, Ident, ObjectName, ObjectNamePart},
    dialect::PostgreSqlDialect,
    parser::Parser,
    tokenizer::{Token as Kind, TokenWithSpan},
};

use super::{
    Analyser, Protocol,
    expr::Cx,
    literal,
    namespace::{Ctes, Namespace, Scope},
    refusals,
    statement::{Changes, Door, Verdict, not_parsed, unparsed},
};
use crate::{
    Refusal,
    catalog::{self, Relation},
    copy::{CopyColumn, CopyFormat, CopyIn, CopyOut, CopyPlan, CopyRole, CopyRows, ForceQuote},
    plan::{Field, Output},
    ruleset::Held,
    text::{MAX_DEPTH, Tokens, depth, quote_identifier},
    types::LogicalType,
};
use options::{Options, Read};

/// Judges a COPY that names something protected.
pub(super) fn judge(door: &Door<'_>, statement: &Range<usize>) -> Result<Verdict, Refusal> {
    // Its texts take no parameters: what is sealed in them stands there as a literal.
    let door = &Door {
        protocol: Protocol::Simple,
        oids: &[],
        ..*door
    };
    let mut cursor = Cursor {
        tokens: door.tokens,
        at: statement.start + 1,
        end: statement.end,
    };
    if matches!(cursor.kind(), Kind::LParen) {
        query(door, cursor)
    } else {
        let binary = cursor.word("binary");
        table(door, cursor, binary)
    }
}

/// A place among the tokens of a COPY.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    tokens: &'a Tokens<'a>,
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    fn kind(&self) -> &'a Kind {
        if self.at < self.end {
            self.tokens.kind(self.at)
        } else {
            &Kind::EOF
        }
    }

    fn is_done(&self) -> bool {
        self.at >= self.end
    }

    /// Takes this unquoted word, if it stands here.
    fn word(&mut self, word: &str) -> bool {
        let found = self.at < self.end && self.tokens.is_word(self.at, word);
        self.at += usize::from(found);
        found
    }

    /// Takes these words.
    fn words(&mut self, words: &[&str]) -> bool {
        let found = self.at + words.len() <= self.end && self.tokens.are_words(self.at, words);
        self.at += if found { words.len() } else { 0 };
        found
    }

    /// Takes a token of this kind.
    fn token(&mut self, kind: &Kind) -> bool {
        let found = self.kind() == kind;
        self.at += usize::from(found);
        found
    }

    /// Takes a name as PostgreSQL means it.
    fn name(&mut self) -> Option<String> {
        if self.is_done() {
            return None;
        }
        let name = self.tokens.name(self.at)?.into_owned();
        self.at += 1;
        Some(name)
    }

    /// Takes a string.
    fn string(&mut self) -> Result<Option<String>, Refusal> {
        let is_string = matches!(
            self.kind(),
            Kind::SingleQuotedString(_)
                | Kind::EscapedStringLiteral(_)
                | Kind::DollarQuotedString(_)
        );
        if !is_string {
            return Ok(None);
        }
        let literal = literal::read(self.tokens, self.at, false)?;
        self.at += 1;
        Ok(literal.map(|literal| literal.text))
    }

    fn start(&self) -> usize {
        self.tokens.range(self.at).start
    }

    fn misread(&self) -> Refusal {
        not_parsed().at(self.start())
    }

    /// What the words after it say of the file.
    fn file(&mut self) -> Result<File, Refusal> {
        if self.word("stdin") || self.word("stdout") {
            return Ok(File::Client);
        }
        let at = self.start();
        self.word("program");
        match self.string()? {
            Some(_) => Ok(File::Server(at)),
            None => Err(self.misread()),
        }
    }
}

/// Where the rows go or come from.
enum File {
    /// `STDIN`, `STDOUT`.
    Client,
    /// A file or a program on the server; and where it is named.
    Server(usize),
}

impl File {
    fn check(&self, from: bool) -> Result<(), Refusal> {
        match self {
            Self::Client => Ok(()),
            Self::Server(at) => Err(server_file(from).at(*at)),
        }
    }
}

/// `COPY (query) TO ...`
fn query(door: &Door<'_>, mut cursor: Cursor<'_>) -> Result<Verdict, Refusal> {
    let open = cursor.at;
    let close = door.tokens.behind_pair(open)? - 1;
    cursor.at = close + 1;
    if close >= cursor.end || !cursor.word("to") {
        return Err(cursor.misread());
    }
    let file = cursor.file()?;
    cursor.word("with");
    let options = options::read(&mut cursor)?;
    if !cursor.is_done() {
        return Err(cursor.misread());
    }
    let (mut changes, output) = match door.query_of_copy(&(open + 1..close))? {
        Verdict::Relay => return Ok(Verdict::Relay),
        Verdict::Copied(..) => return Err(refusals::construct("COPY of this")),
        Verdict::Changed(mut changes) => {
            let output = std::mem::replace(&mut changes.output, Output::None);
            (changes, output)
        }
    };
    file.check(false)?;
    let fields = match output {
        Output::Fields(fields) => fields,
        // The server says that it returns no rows.
        Output::None => Vec::new(),
        Output::Unknown | Output::Cursor(_) | Output::Explained => {
            return Err(refusals::construct(
                "COPY of a query whose columns only the server knows",
            ));
        }
    };
    changes.notes.push(note(&fields));
    let rows = match options {
        Read::Options(options) => {
            options.check_encoding()?;
            let force_quote = match &options.force_quote {
                None => ForceQuote::Fields(Vec::new()),
                Some(options::Columns::All) => ForceQuote::Fields(vec![true; fields.len()]),
                Some(options::Columns::Named(_)) => {
                    check_quotes(door, &options.format, &fields)?;
                    ForceQuote::AsServer
                }
            };
            let rows = CopyRows::Out(CopyOut {
                fields,
                force_quote,
            });
            (options.format, rows)
        }
        Read::Server => (CopyFormat::Binary, CopyRows::Unread),
    };
    Ok(copied(changes, None, rows))
}

/// Whether what the server puts in quotes tells what it was told to put in quotes: ciphertext in hexadecimal needs none.
fn check_quotes(door: &Door<'_>, format: &CopyFormat, fields: &[Field]) -> Result<(), Refusal> {
    let CopyFormat::Csv { text, quote, .. } = format else {
        return Ok(());
    };
    let is_plain = |byte: u8| !(byte.is_ascii_hexdigit() || byte == b'x' || byte == b'\\');
    let holds = fields.iter().any(|field| matches!(field, Field::Holder(_)));
    let is_told = is_plain(text.delimiter) && is_plain(*quote) && !door.view.format.bytea_escape;
    if is_told && !holds {
        return Ok(());
    }
    Err(refusals::construct(
        "FORCE_QUOTE of named columns of a query with this DELIMITER, QUOTE or bytea_output",
    ))
}

fn note(fields: &[Field]) -> String {
    let sealed = fields
        .iter()
        .filter(|field| !matches!(field, Field::Plain))
        .count();
    format!(
        "COPY sends ciphertext; {sealed} of {} fields are opened in every row.",
        fields.len()
    )
}

fn copied(
    changes: Box<Changes>,
    relation: Option<String>,
    (format, rows): (CopyFormat, CopyRows),
) -> Verdict {
    let plan = CopyPlan {
        relation,
        format,
        rows,
    };
    Verdict::Copied(changes, plan)
}

impl Door<'_> {
    /// The query or the data-changing statement inside `COPY (...)`.
    fn query_of_copy(&self, inner: &Range<usize>) -> Result<Verdict, Refusal> {
        let first = inner
            .clone()
            .find(|at| !matches!(self.tokens.kind(*at), Kind::LParen))
            .unwrap_or(inner.start);
        let known = [
            "select", "with", "table", "values", "insert", "update", "delete", "merge",
        ];
        if known.iter().any(|word| self.tokens.is_word(first, word)) {
            return self.analyse(inner);
        }
        Err(refusals::construct("COPY of this").at(self.tokens.range(first).start))
    }
}

/// `COPY t (...) FROM ...` or `TO ...`
fn table(door: &Door<'_>, mut cursor: Cursor<'_>, binary: bool) -> Result<Verdict, Refusal> {
    let name = relation_name(&mut cursor)?;
    let name_end = door.tokens.range(cursor.at - 1).end;
    let list = column_list(&mut cursor)?;
    let from = cursor.word("from");
    if !from && !cursor.word("to") {
        return Err(cursor.misread());
    }
    let mut analyser = Analyser::new(
        door.rules,
        door.protection,
        door.view,
        door.protocol,
        door.oids,
        door.tokens,
    );
    let relation = analyser.relation(&name)?;
    if from {
        analyser.check_writes(relation)?;
    }
    if relation.is_view() {
        return Err(refusals::construct("COPY of a view"));
    }
    let (entry, _) = analyser.table_entry(relation, None);
    if !analyser.touches() {
        return Ok(Verdict::Relay);
    }
    cursor.file()?.check(from)?;
    let delimiters = options::delimiters(&mut cursor)?;
    cursor.word("with");
    let mut options = options::read(&mut cursor)?;
    if let Read::Options(options) = &mut options {
        options.add_legacy(binary, delimiters);
    }
    let Some(columns) = copied_columns(relation, list.as_ref()) else {
        // The server says which column it does not know.
        let rows = (CopyFormat::Binary, CopyRows::Unread);
        let changes = Box::new(Changes {
            edits: Vec::new(),
            slots: Vec::new(),
            parameters: Default::default(),
            output: Output::None,
            scope_queries: Vec::new(),
            tag: None,
            notes: Vec::new(),
        });
        return if cursor.is_done() {
            Ok(copied(changes, None, rows))
        } else {
            Err(cursor.misread())
        };
    };
    if list.is_none() {
        // So that nothing shifts should the table change meanwhile.
        let names: Vec<_> = columns
            .iter()
            .map(|column| quote_identifier(&column.name))
            .collect();
        analyser
            .edits
            .close(name_end, format!(" ({})", names.join(", ")));
    }
    if cursor.word("where") && from {
        let condition = cursor.at..cursor.end;
        door.condition_of_copy(&mut analyser, &condition, &Namespace::of(entry))?;
        cursor.at = cursor.end;
    }
    if !cursor.is_done() {
        return Err(cursor.misread());
    }
    analyser.check_settings()?;
    let rows = match options {
        Read::Server => (CopyFormat::Binary, CopyRows::Unread),
        Read::Options(options) => {
            options.check_encoding()?;
            if from {
                let rows = rows_in(&analyser, relation, &columns, &options)?;
                (options.format, CopyRows::In(rows))
            } else {
                let rows = rows_out(&analyser, relation, &columns, &options);
                (options.format, CopyRows::Out(rows))
            }
        }
    };
    let what = if from {
        "Values of protected columns are sealed row by row."
    } else {
        "Values of protected columns are opened row by row."
    };
    analyser.note(what.to_owned());
    let edits = analyser
        .edits
        .finish()
        .ok_or_else(|| refusals::not_understood("Two changes of the text overlap"))?;
    let changes = Box::new(Changes {
        edits,
        slots: analyser.slots,
        parameters: Default::default(),
        output: Output::None,
        scope_queries: Vec::new(),
        tag: None,
        notes: analyser.notes,
    });
    Ok(copied(changes, Some(relation.name.clone()), rows))
}

impl Door<'_> {
    /// `WHERE ...`: the rows' values are sealed by then, so that only what may stand in any condition may stand here.
    fn condition_of_copy(
        &self,
        analyser: &mut Analyser<'_>,
        condition: &Range<usize>,
        names: &Namespace,
    ) -> Result<(), Refusal> {
        if depth(self.tokens, condition) > MAX_DEPTH || condition.is_empty() {
            return Err(not_parsed().at(self.tokens.range(condition.start).start));
        }
        let taught = self.protection.taught(self.tokens, condition);
        let expr = self.parsed(taught.tokens, condition)?;
        let scope = Scope {
            names,
            parent: None,
        };
        let cx = Cx {
            scope: &scope,
            ctes: &Ctes::default(),
            grouping: None,
        };
        analyser.condition(&expr, cx)?;
        analyser.check_ledger(condition, &taught.left_out)
    }

    fn parsed(
        &self,
        tokens: Vec<TokenWithSpan>,
        condition: &Range<usize>,
    ) -> Result<Expr, Refusal> {
        let mut parser = Parser::new(&PostgreSqlDialect {})
            .with_recursion_limit(MAX_DEPTH)
            .with_tokens_with_locations(tokens);
        let expr = parser
            .parse_expr()
            .map_err(|error| unparsed(self.tokens, &error, condition))?;
        let rest = parser.peek_token();
        if rest.token != Kind::EOF {
            let at = self.tokens.starting(rest.span.start);
            let at = at.unwrap_or(condition.start);
            return Err(not_parsed().at(self.tokens.range(at).start));
        }
        Ok(expr)
    }
}

/// `t`, `s.t`, `d.s.t`
fn relation_name(cursor: &mut Cursor<'_>) -> Result<ObjectName, Refusal> {
    let mut parts = Vec::new();
    loop {
        let Kind::Word(word) = cursor.kind() else {
            return Err(cursor.misread());
        };
        let span = cursor.tokens.token(cursor.at).span;
        parts.push(ObjectNamePart::Identifier(Ident {
            value: word.value.clone(),
            quote_style: word.quote_style,
            span,
        }));
        cursor.at += 1;
        if !cursor.token(&Kind::Period) {
            return Ok(ObjectName(parts));
        }
    }
}

/// `(a, b)`, if it stands here.
fn column_list(cursor: &mut Cursor<'_>) -> Result<Option<Vec<String>>, Refusal> {
    if !cursor.token(&Kind::LParen) {
        return Ok(None);
    }
    let mut list = Vec::new();
    loop {
        list.push(cursor.name().ok_or_else(|| cursor.misread())?);
        if cursor.token(&Kind::RParen) {
            return Ok(Some(list));
        }
        if !cursor.token(&Kind::Comma) {
            return Err(cursor.misread());
        }
    }
}

/// The columns that are copied, in the order of the fields; `None` if one is not known.
fn copied_columns<'a>(
    relation: &'a Relation,
    list: Option<&Vec<String>>,
) -> Option<Vec<&'a catalog::Column>> {
    let Some(list) = list else {
        let stored = relation.columns.iter().filter(|column| !column.generated);
        return Some(stored.collect());
    };
    list.iter().map(|name| relation.column(name)).collect()
}

fn rows_out(
    analyser: &Analyser<'_>,
    relation: &Relation,
    columns: &[&catalog::Column],
    options: &Options,
) -> CopyOut {
    let field = |column: &&catalog::Column| match analyser.rules.held(relation, column) {
        Held::Protected(protected) => Field::Sealed {
            shown: protected.logical,
            origin: Some((relation.oid, column.attnum)),
            columns: vec![protected.id],
        },
        Held::Moved(from) => Field::Sealed {
            shown: from[0].logical,
            origin: Some((relation.oid, column.attnum)),
            columns: from.iter().map(|column| column.id).collect(),
        },
        Held::Plain | Held::Strange => Field::Plain,
    };
    CopyOut {
        fields: columns.iter().map(field).collect(),
        force_quote: ForceQuote::Fields(options::named(&options.force_quote, columns)),
    }
}

fn rows_in(
    analyser: &Analyser<'_>,
    relation: &Relation,
    columns: &[&catalog::Column],
    options: &Options,
) -> Result<CopyIn, Refusal> {
    let mut scopes: Vec<&str> = Vec::new();
    for column in columns {
        if analyser.is_moved(relation, column) {
            return Err(refusals::no_policy_column(&relation.name, &column.name));
        }
        let Some(protected) = analyser.protected(relation, column.attnum) else {
            continue;
        };
        for name in protected.scope.columns() {
            if !columns.iter().any(|column| column.name == name) {
                let why = format!("the COPY does not name column \"{name}\"");
                return Err(refusals::scope_not_resolved(protected, &why));
            }
            scopes.push(name);
        }
    }
    let role = |column: &catalog::Column| {
        if let Some(protected) = analyser.protected(relation, column.attnum) {
            return Ok(CopyRole::Sealed(protected.id));
        }
        if !scopes.contains(&column.name.as_str()) {
            return Ok(CopyRole::Plain);
        }
        LogicalType::from_oid(column.base_type_oid, column.typmod)
            .map(CopyRole::Scope)
            .ok_or_else(|| refusals::construct("a scope column of this type in COPY"))
    };
    let not_null = options::named(&options.force_not_null, columns);
    let null = options::named(&options.force_null, columns);
    let is = |flags: &[bool], at: usize| flags.get(at).copied().unwrap_or(false);
    let column = |(at, column): (usize, &&catalog::Column)| {
        Ok(CopyColumn {
            name: column.name.clone(),
            role: role(column)?,
            force_not_null: is(&not_null, at),
            force_null: is(&null, at),
        })
    };
    Ok(CopyIn {
        columns: columns
            .iter()
            .enumerate()
            .map(column)
            .collect::<Result<_, Refusal>>()?,
        ignores_errors: options.ignores_errors,
        verbose: options.verbose,
    })
}

/// The server would read or write the data itself, where pgveil cannot reach it.
fn server_file(from: bool) -> Refusal {
    let (what, hint) = if from {
        (
            "the server cannot read rows for a table with protected columns from a file or program",
            "Use COPY ... FROM STDIN (in psql, \\copy): the rows come through pgveil then.",
        )
    } else {
        (
            "the server cannot write rows with protected columns to a file or program",
            "Use COPY ... TO STDOUT (in psql, \\copy): the rows come through pgveil then.",
        )
    };
    Refusal::unsupported("copy-server-file", what)
        .detail("What the server reads and writes by itself would be plaintext in, ciphertext out.")
        .hint(hint)
}
