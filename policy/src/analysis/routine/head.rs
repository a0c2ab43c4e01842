//! CREATE FUNCTION and CREATE PROCEDURE by their words: name, parameters, what they return, language, settings and body. Reads no body.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use crate::{analysis::ddl, text::Tokens};

/// A parameter, or a column of RETURNS TABLE.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    /// As `pg_proc.proargmodes`.
    pub(super) mode: char,
    pub(super) name: String,
    /// Tokens of its type.
    pub(super) types: Range<usize>,
    /// It has a default.
    pub(super) default: bool,
}

/// Where the body stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// In this string.
    Text(usize),
    /// Between BEGIN ATOMIC and END.
    Block(Range<usize>),
    /// Behind RETURN.
    Value(Range<usize>),
}

/// A statement that makes a routine.
#[derive(Debug)]
pub(in crate::analysis) struct Head {
    pub(super) procedure: bool,
    pub(super) name: Vec<String>,
    pub(super) parameters: Vec<Declared>,
    /// Tokens of the type behind RETURNS [SETOF]; of none for RETURNS TABLE.
    pub(super) returns: Option<Range<usize>>,
    pub(super) set: bool,
    pub(super) language: String,
    /// `search_path=...` and the like, as `pg_proc.proconfig` keeps them.
    pub(super) settings: Vec<String>,
    pub(super) body: Body,
}

/// Words that begin a clause of CREATE FUNCTION (PostgreSQL, gram.y: `createfunc_opt_item`).
const CLAUSES: [&str; 21] = [
    "language",
    "transform",
    "window",
    "immutable",
    "stable",
    "volatile",
    "not",
    "leakproof",
    "called",
    "returns",
    "strict",
    "external",
    "security",
    "parallel",
    "cost",
    "rows",
    "support",
    "set",
    "as",
    "begin",
    "return",
];

impl Head {
    /// Reads a statement. `None`: it makes no routine, or in a way that is not known here.
    pub(in crate::analysis) fn read(tokens: &Tokens<'_>, statement: &Range<usize>) -> Option<Self> {
        let mut at = statement.start;
        if !tokens.is_word(at, "create") {
            return None;
        }
        at += 1 + 2 * usize::from(tokens.are_words(at + 1, &["or", "replace"]));
        let procedure = tokens.is_word(at, "procedure");
        if !procedure && !tokens.is_word(at, "function") {
            return None;
        }
        let (name, open) = ddl::name(tokens, at + 1)?;
        let close = tokens
            .pair(open)
            .filter(|_| is(tokens, open, &Kind::LParen))?;
        let mut head = Self {
            procedure,
            name,
            parameters: parameters(tokens, open + 1..close, 'i')?,
            returns: None,
            set: false,
            language: "sql".to_owned(),
            settings: Vec::new(),
            body: Body::Block(0..0),
        };
        head.clauses(tokens, close + 1..statement.end)?;
        (head.body != Body::Block(0..0)).then_some(head)
    }

    fn clauses(&mut self, tokens: &Tokens<'_>, range: Range<usize>) -> Option<()> {
        let mut at = range.start;
        while at < range.end {
            if tokens.are_words(at, &["returns", "null"]) {
                at += 5;
            } else if tokens.are_words(at, &["returns", "table"]) {
                let close = tokens.pair(at + 2)?;
                let columns = parameters(tokens, at + 3..close, 't')?;
                self.parameters.extend(columns);
                self.set = true;
                at = close + 1;
            } else if tokens.is_word(at, "returns") {
                self.set = tokens.is_word(at + 1, "setof");
                let start = at + 1 + usize::from(self.set);
                at = clause_end(tokens, start, range.end)?;
                self.returns = Some(start..at);
            } else if tokens.is_word(at, "language") {
                let name = match tokens.kind(at + 1) {
                    Kind::SingleQuotedString(name) => name.clone(),
                    _ => tokens.name(at + 1)?.into_owned(),
                };
                self.language = name.to_ascii_lowercase();
                at += 2;
            } else if tokens.is_word(at, "as") {
                self.body = Body::Text(at + 1);
                at += 2;
                // AS 'file', 'symbol' is no SQL.
                (!is(tokens, at, &Kind::Comma)).then_some(())?;
            } else if tokens.are_words(at, &["begin", "atomic"]) {
                let end = range.end.checked_sub(1)?;
                tokens.is_word(end, "end").then_some(())?;
                self.body = Body::Block(at + 2..end);
                at = range.end;
            } else if tokens.is_word(at, "return") {
                self.body = Body::Value(at + 1..range.end);
                at = range.end;
            } else if tokens.is_word(at, "set") {
                at = self.setting(tokens, at + 1, range.end)?;
            } else {
                at = clause_end(tokens, at, range.end)?;
            }
        }
        Some(())
    }

    /// `SET name TO value`, as the server keeps it. FROM CURRENT is not followed.
    fn setting(&mut self, tokens: &Tokens<'_>, at: usize, end: usize) -> Option<usize> {
        let name = tokens.name(at)?.into_owned();
        let assigned = is(tokens, at + 1, &Kind::Eq) || tokens.is_word(at + 1, "to");
        let behind = clause_end(tokens, at + 2, end)?;
        let value = assigned.then(|| {
            let parts = (at + 2..behind).map(|at| match tokens.kind(at) {
                Kind::SingleQuotedString(text) => format!("\"{text}\""),
                _ => tokens.raw(at).to_owned(),
            });
            parts.collect::<String>()
        });
        self.settings
            .push(format!("{name}={}", value.unwrap_or_default()));
        Some(behind)
    }
}

/// Behind a clause: where the next one begins.
fn clause_end(tokens: &Tokens<'_>, start: usize, end: usize) -> Option<usize> {
    let mut at = start;
    while at < end {
        let opens = CLAUSES.iter().any(|word| tokens.is_word(at, word));
        let part = at > 0 && is(tokens, at - 1, &Kind::Period);
        if opens && !part && at > start {
            return Some(at);
        }
        at = match tokens.kind(at) {
            Kind::LParen | Kind::LBracket => tokens.pair(at)? + 1,
            _ => at + 1,
        };
    }
    Some(end)
}

fn is(tokens: &Tokens<'_>, at: usize, kind: &Kind) -> bool {
    tokens.kind(at) == kind
}

/// A list of parameters, without its brackets.
pub(super) fn parameters(
    tokens: &Tokens<'_>,
    range: Range<usize>,
    mode: char,
) -> Option<Vec<Declared>> {
    let mut found = Vec::new();
    let mut start = range.start;
    let mut at = range.start;
    while start < range.end {
        while at < range.end && !is(tokens, at, &Kind::Comma) {
            at = match tokens.kind(at) {
                Kind::LParen | Kind::LBracket => tokens.pair(at)? + 1,
                _ => at + 1,
            };
        }
        found.push(parameter(tokens, start..at, mode)?);
        at += 1;
        start = at;
    }
    Some(found)
}

fn parameter(tokens: &Tokens<'_>, range: Range<usize>, mode: char) -> Option<Declared> {
    let mut at = range.start;
    let mut mode = mode;
    for (word, means) in [("in", 'i'), ("out", 'o'), ("inout", 'b'), ("variadic", 'v')] {
        if tokens.is_word(at, word) && at + 1 < range.end {
            // IN OUT is INOUT.
            mode = if mode == 'i' && means == 'o' && at > range.start {
                'b'
            } else {
                means
            };
            at += 1;
        }
    }
    let default =
        (at..range.end).find(|at| tokens.is_word(*at, "default") || is(tokens, *at, &Kind::Eq));
    let end = default.unwrap_or(range.end);
    let unnamed = tokens.type_end(at) == Some(end) || is(tokens, at + 1, &Kind::Period);
    let name = if unnamed {
        String::new()
    } else {
        let name = tokens.name(at)?.into_owned();
        at += 1;
        name
    };
    (at < end).then_some(Declared {
        mode,
        name,
        types: at..end,
        default: default.is_some(),
    })
}
