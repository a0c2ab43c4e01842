//! Bodies in PL/pgSQL by their words: which SQL statements are in them, in order, and what becomes of their rows. Everything else must be
//! blind: no word of it names something protected. What is not known here is refused.

use std::{borrow::Cow, ops::Range};

use sqlparser::tokenizer::Token as Kind;

use crate::{Refusal, analysis::refusals, text::Tokens};

/// What becomes of the rows of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// Nothing.
    Nowhere,
    /// They are what the function returns, or more of it.
    Rows,
    /// The first is kept in these variables.
    Variables(Vec<String>),
}

/// What a body does that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An SQL statement, without the tokens `apart`. Of `PERFORM` the first word stands for SELECT.
    Statement {
        tokens: Range<usize>,
        apart: Range<usize>,
        to: To,
    },
    /// RETURN or RETURN NEXT of a variable, or of a word that is none; of the OUT parameters if none is named.
    Return { name: Option<String>, next: bool },
    /// RETURN of something blind.
    ReturnPlain,
    /// RETURN NULL.
    ReturnNull,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    /// Tokens of its type; none for the variable of a loop.
    pub(super) types: Range<usize>,
    /// It has a value that is not NULL from the start.
    pub(super) initial: bool,
}

/// A body.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) variables: Vec<Variable>,
    pub(super) steps: Vec<Step>,
    /// Tokens that must name nothing that is, or holds, a sealed value.
    pub(super) blind: Vec<Range<usize>>,
    /// Variables that get something blind.
    pub(super) assigned: Vec<String>,
}

struct Reader<'t, 'a> {
    tokens: &'t Tokens<'a>,
    at: usize,
    block: Block,
}

/// Reads a body.
pub(super) fn read(tokens: &Tokens<'_>) -> Result<Block, Refusal> {
    let mut reader = Reader {
        tokens,
        at: 0,
        block: Block::default(),
    };
    while reader.at < tokens.len() {
        reader.next()?;
    }
    Ok(reader.block)
}

fn unknown(what: &str) -> Refusal {
    refusals::not_understood(&format!("Its PL/pgSQL has {what}"))
}

const STATEMENTS: [&str; 6] = ["select", "with", "insert", "update", "delete", "merge"];

impl Reader<'_, '_> {
    fn is(&self, at: usize, word: &str) -> bool {
        self.tokens.is_word(at, word)
    }

    /// The first of these words, or semicolon, outside of brackets.
    fn until(&self, from: usize, words: &[&str]) -> Result<usize, Refusal> {
        let mut at = from;
        while at < self.tokens.len() {
            if words.iter().any(|word| self.is(at, word)) {
                return Ok(at);
            }
            at = match self.tokens.kind(at) {
                Kind::SemiColon if words.is_empty() => return Ok(at),
                Kind::SemiColon => break,
                Kind::LParen | Kind::LBracket => {
                    let pair = self.tokens.pair(at);
                    pair.ok_or_else(|| unknown("an open bracket"))? + 1
                }
                _ => at + 1,
            };
        }
        Err(unknown("a statement that does not end"))
    }

    fn blind(&mut self, range: Range<usize>) {
        self.block.blind.push(range);
    }

    /// Something blind up to one of these words, and behind that.
    fn skip_blind(&mut self, from: usize, words: &[&str]) -> Result<(), Refusal> {
        let end = self.until(from, words)?;
        self.blind(from..end);
        self.at = end + 1;
        Ok(())
    }

    fn next(&mut self) -> Result<(), Refusal> {
        let at = self.at;
        let tokens = self.tokens;
        let one_of = |words: &[&str]| words.iter().any(|word| tokens.is_word(at, word));
        if matches!(tokens.kind(at), Kind::SemiColon)
            || one_of(&["begin", "else", "loop", "exception"])
        {
            self.at = at + 1;
        } else if one_of(&["declare"]) {
            self.at = at + 1;
            while !self.is(self.at, "begin") {
                self.declaration()?;
            }
        } else if one_of(&["end"]) {
            let mut end = at + 1;
            while end < tokens.len() && !matches!(tokens.kind(end), Kind::SemiColon) {
                end += 1;
            }
            if end - at > 3 {
                return Err(unknown("an END with more behind it"));
            }
            self.at = end + 1;
        } else if one_of(&["if", "elsif", "elseif", "when"]) {
            self.skip_blind(at + 1, &["then"])?;
        } else if one_of(&["while"]) {
            self.skip_blind(at + 1, &["loop"])?;
        } else if one_of(&["for"]) {
            self.for_loop()?;
        } else if one_of(&["return"]) {
            self.returned()?;
        } else if one_of(&["perform"]) {
            let end = self.until(at, &[])?;
            self.statement(at..end, To::Nowhere)?;
        } else if one_of(&STATEMENTS) {
            let end = self.until(at, &[])?;
            self.into(at..end)?;
        } else if one_of(&["raise", "null", "exit", "continue", "assert", "get"]) {
            self.skip_blind(at + 1, &[])?;
        } else {
            self.assignment()?;
        }
        Ok(())
    }

    fn declaration(&mut self) -> Result<(), Refusal> {
        let at = self.at;
        let end = self.until(at, &[])?;
        let name = self
            .tokens
            .name(at)
            .ok_or_else(|| unknown("an unusual declaration"))?;
        let name = name.into_owned();
        let start = at + 1 + usize::from(self.is(at + 1, "constant"));
        let is_value = |at: &usize| {
            self.is(*at, "default")
                || self.is(*at, "not")
                || self.is(*at, "collate")
                || matches!(self.tokens.kind(*at), Kind::Assignment | Kind::Eq)
        };
        let value = (start..end).find(is_value).unwrap_or(end);
        if ["alias", "cursor", "no", "scroll"]
            .iter()
            .any(|word| self.is(start, word))
        {
            return Err(unknown("an alias or a cursor"));
        }
        self.blind(value..end);
        let is_null = value == end || value + 2 == end && self.is(value + 1, "null");
        self.block.variables.push(Variable {
            name,
            types: start..value,
            initial: !is_null,
        });
        self.at = end + 1;
        Ok(())
    }

    /// `FOR r IN query LOOP`, `FOR i IN 1..n LOOP`.
    fn for_loop(&mut self) -> Result<(), Refusal> {
        let at = self.at;
        let name = self.tokens.name(at + 1).filter(|_| self.is(at + 2, "in"));
        let name = name.ok_or_else(|| unknown("an unusual loop"))?.into_owned();
        let end = self.until(at + 3, &["loop"])?;
        let query = at + 3..end;
        if self.is(query.start, "select") || self.is(query.start, "with") {
            self.statement(query, To::Variables(vec![name]))?;
        } else {
            self.blind(query);
            self.block.variables.push(Variable {
                name,
                types: 0..0,
                initial: true,
            });
        }
        self.at = end + 1;
        Ok(())
    }

    fn returned(&mut self) -> Result<(), Refusal> {
        let at = self.at;
        let end = self.until(at, &[])?;
        if self.is(at + 1, "query") {
            return self.statement(at + 2..end, To::Rows);
        }
        let next = self.is(at + 1, "next");
        let value = at + 1 + usize::from(next)..end;
        let step = match value.len() {
            0 => Step::Return { name: None, next },
            1 if self.is(value.start, "null") => Step::ReturnNull,
            1 if matches!(self.tokens.kind(value.start), Kind::Word(_)) => {
                let name = self.tokens.name(value.start).map(Cow::into_owned);
                Step::Return { name, next }
            }
            _ => {
                let inner = value.start + 1..value.end - 1;
                let is_query = self.tokens.pair(value.start) == Some(value.end - 1)
                    && self.is(inner.start, "select");
                if is_query {
                    self.at = end + 1;
                    return self.statement(inner, To::Rows).map(|()| self.at = end + 1);
                }
                self.blind(value);
                Step::ReturnPlain
            }
        };
        self.block.steps.push(step);
        self.at = end + 1;
        Ok(())
    }

    /// A statement of SQL without INTO.
    fn statement(&mut self, tokens: Range<usize>, to: To) -> Result<(), Refusal> {
        let known = STATEMENTS.iter().any(|word| self.is(tokens.start, word))
            || self.is(tokens.start, "perform") && to == To::Nowhere;
        if !known {
            return Err(unknown("SQL given as text, or an unusual statement"));
        }
        self.at = tokens.end + 1;
        let apart = tokens.end..tokens.end;
        self.block.steps.push(Step::Statement { tokens, apart, to });
        Ok(())
    }

    /// A statement that may keep its row in variables.
    fn into(&mut self, range: Range<usize>) -> Result<(), Refusal> {
        let mut at = range.start;
        let mut found = None;
        while at < range.end && found.is_none() {
            let other = at > 0 && (self.is(at - 1, "insert") || self.is(at - 1, "merge"));
            if self.is(at, "into") && !other {
                found = Some(at);
            }
            at = match self.tokens.kind(at) {
                Kind::LParen | Kind::LBracket => {
                    self.tokens
                        .pair(at)
                        .ok_or_else(|| unknown("an open bracket"))?
                        + 1
                }
                _ => at + 1,
            };
        }
        let Some(into) = found else {
            return self.statement(range, To::Nowhere);
        };
        let mut at = into + 1 + usize::from(self.is(into + 1, "strict"));
        let mut names = Vec::new();
        loop {
            let name = self
                .tokens
                .name(at)
                .ok_or_else(|| unknown("an unusual INTO"))?;
            names.push(name.into_owned());
            at += 1;
            match self.tokens.kind(at) {
                Kind::Comma => at += 1,
                Kind::Period | Kind::LBracket => return Err(unknown("INTO a part of a variable")),
                _ => break,
            }
        }
        self.at = range.end + 1;
        self.block.steps.push(Step::Statement {
            tokens: range,
            apart: into..at,
            to: To::Variables(names),
        });
        Ok(())
    }

    /// `name := value;`
    fn assignment(&mut self) -> Result<(), Refusal> {
        let at = self.at;
        let end = self.until(at, &[])?;
        let assigns = matches!(self.tokens.kind(at + 1), Kind::Assignment | Kind::Eq);
        let name = self.tokens.name(at).filter(|_| assigns);
        let name = name.ok_or_else(|| unknown("a statement that is not known"))?;
        let is_null = at + 3 == end && self.is(at + 2, "null");
        if !is_null {
            self.block.assigned.push(name.into_owned());
            self.blind(at + 2..end);
        }
        self.at = end + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(body: &str) -> Result<Vec<String>, String> {
        let tokens = Tokens::read(body).expect("readable");
        let block = read(&tokens).map_err(|refusal| refusal.detail.unwrap_or_default())?;
        let text = |range: &Range<usize>| tokens.sql[tokens.bytes(range)].to_owned();
        let mut told: Vec<String> = { block.variables.iter() }
            .map(|variable| format!("{} {}", variable.name, text(&variable.types)))
            .collect();
        told.extend(block.steps.iter().map(|step| match step {
            Step::Statement { tokens, apart, to } => {
                format!("{} -{} {to:?}", text(tokens), text(apart))
            }
            other => format!("{other:?}"),
        }));
        Ok(told)
    }

    #[test]
    fn finds_the_statements_of_a_body() {
        let body = "<<a>> DECLARE n int := 0; r people%ROWTYPE; BEGIN \
            IF n > 1 THEN RETURN; ELSIF (n = 2) THEN n := n + 1; ELSE NULL; END IF; \
            FOR r IN SELECT * FROM people LOOP RETURN NEXT r; END LOOP; \
            SELECT id INTO STRICT n FROM people; PERFORM f(n); \
            RETURN QUERY SELECT * FROM people; RETURN (SELECT 1); \
            EXCEPTION WHEN others THEN RAISE NOTICE 'x %', n; RETURN NULL; END;";
        assert!(steps(body).is_err(), "labels are not known");
        let told = steps(body.trim_start_matches("<<a>> ")).unwrap();
        assert_eq!(
            told,
            [
                "n int",
                "r people%ROWTYPE",
                "Return { name: None, next: false }",
                "SELECT * FROM people - Variables([\"r\"])",
                "Return { name: Some(\"r\"), next: true }",
                "SELECT id INTO STRICT n FROM people -INTO STRICT n Variables([\"n\"])",
                "PERFORM f(n) - Nowhere",
                "SELECT * FROM people - Rows",
                "SELECT 1 - Rows",
                "ReturnNull",
            ]
        );
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for body in [
            "BEGIN EXECUTE 'SELECT 1'; END",
            "BEGIN RETURN QUERY EXECUTE 'SELECT 1'; END",
            "BEGIN OPEN c FOR SELECT 1; END",
            "BEGIN CASE n WHEN 1 THEN NULL; END CASE; END",
            "DECLARE c CURSOR FOR SELECT 1; BEGIN END",
            "BEGIN SELECT 1 INTO r.a; END",
            "BEGIN FOREACH x IN ARRAY y LOOP END LOOP; END",
            "BEGIN COMMIT; END",
            "#variable_conflict use_column BEGIN END",
            "BEGIN SELECT 1",
        ] {
            assert!(steps(body).is_err(), "{body}");
        }
    }
}
