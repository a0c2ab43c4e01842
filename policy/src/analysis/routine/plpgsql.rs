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
    /// This cursor reads them.
    Cursor(String),
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
    /// A sub-select of an expression, which may look at protected columns if it yields nothing of them.
    Inner {
        tokens: Range<usize>,
        /// It is only asked whether there is a row.
        exists: bool,
    },
    /// A row of a cursor is kept in these variables.
    Fetch { cursor: String, names: Vec<String> },
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
    /// Cursors that are declared with their query.
    pub(super) cursors: Vec<String>,
    /// Variables that are made cursors where they are opened.
    pub(super) opened: Vec<String>,
    /// Variables of loops over cursors, which are rows.
    pub(super) rows: Vec<String>,
    /// Names of blocks and loops.
    pub(super) labels: Vec<String>,
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

    /// An expression: its sub-selects are statements, everything else must be blind.
    fn blind(&mut self, range: Range<usize>) {
        let (mut from, mut at) = (range.start, range.start);
        while at < range.end {
            let opens = matches!(self.tokens.kind(at), Kind::LParen)
                && (self.is(at + 1, "select") || self.is(at + 1, "with"));
            let close = self
                .tokens
                .pair(at)
                .filter(|close| opens && *close < range.end);
            let Some(close) = close else {
                at += 1;
                continue;
            };
            self.block.blind.push(from..at);
            self.block.steps.push(Step::Inner {
                tokens: at + 1..close,
                exists: at > range.start && self.is(at - 1, "exists"),
            });
            (from, at) = (close, close);
        }
        self.block.blind.push(from..range.end);
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
        } else if matches!(tokens.kind(at), Kind::ShiftLeft)
            && matches!(tokens.kind(at + 2), Kind::ShiftRight)
        {
            let label = self.tokens.name(at + 1).map(Cow::into_owned);
            self.block.labels.extend(label);
            self.at = at + 3;
        } else if one_of(&["case"]) {
            // Of each WHEN what stands before THEN follows.
            let end = self.until(at + 1, &["when"])?;
            self.blind(at + 1..end);
            self.at = end;
        } else if one_of(&["foreach"]) {
            self.for_each()?;
        } else if one_of(&["open"]) {
            self.open()?;
        } else if one_of(&["fetch", "move"]) {
            self.fetch()?;
        } else if one_of(&["close"]) && matches!(tokens.kind(at + 2), Kind::SemiColon) {
            self.skip_blind(at + 1, &[])?;
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
        if let Some(query) = self.cursor_of(start, end)? {
            self.block.cursors.push(name.clone());
            return self.statement(query, To::Cursor(name));
        }
        if self.is(start, "alias") {
            return Err(unknown("an alias"));
        }
        let query = self.only_query(&(value + 1..end)).filter(|_| value < end);
        let is_null = value == end || value + 2 == end && self.is(value + 1, "null");
        self.block.variables.push(Variable {
            name: name.clone(),
            types: start..value,
            initial: !is_null && query.is_none(),
        });
        if let Some(query) = query {
            return self.first_row(query, name, end);
        }
        self.blind(value..end);
        self.at = end + 1;
        Ok(())
    }

    /// `[NO] SCROLL CURSOR [(a int)] FOR query`: the query, which can be read before the statements that use the cursor.
    fn cursor_of(&self, start: usize, end: usize) -> Result<Option<Range<usize>>, Refusal> {
        let mut at = start + usize::from(self.is(start, "no"));
        at += usize::from(self.is(at, "scroll"));
        if !self.is(at, "cursor") {
            return Ok(None);
        }
        if matches!(self.tokens.kind(at + 1), Kind::LParen) {
            return Err(unknown("a cursor with arguments"));
        }
        let known = self.is(at + 1, "for") || self.is(at + 1, "is");
        (known.then_some(at + 2..end).map(Some)).ok_or_else(|| unknown("an unusual cursor"))
    }

    /// `OPEN c`, `OPEN c FOR query`.
    fn open(&mut self) -> Result<(), Refusal> {
        let at = self.at;
        let name = self.tokens.name(at + 1).map(Cow::into_owned);
        let name = name.ok_or_else(|| unknown("an unusual OPEN"))?;
        let end = self.until(at + 1, &[])?;
        if end == at + 2 {
            self.at = end + 1;
            return Ok(());
        }
        let mut query = at + 2 + usize::from(self.is(at + 2, "no"));
        query += usize::from(self.is(query, "scroll"));
        if !self.is(query, "for") {
            return Err(unknown("an unusual OPEN"));
        }
        self.block.opened.push(name.clone());
        self.statement(query + 1..end, To::Cursor(name))
    }

    /// `FETCH [direction FROM] c INTO a, b`, `MOVE c`.
    fn fetch(&mut self) -> Result<(), Refusal> {
        let at = self.at;
        let end = self.until(at + 1, &[])?;
        let into = (at + 1..end).find(|at| self.is(*at, "into"));
        let cursor = into.unwrap_or(end) - 1;
        let name = self.tokens.name(cursor).filter(|_| cursor > at);
        let name = name
            .ok_or_else(|| unknown("an unusual FETCH"))?
            .into_owned();
        // How far it moves says nothing of the rows.
        self.blind(at + 1..cursor);
        if let Some(into) = into {
            let (names, behind) = self.variables(into + 1)?;
            if behind != end {
                return Err(unknown("an unusual FETCH"));
            }
            let cursor = name;
            self.block.steps.push(Step::Fetch { cursor, names });
        }
        self.at = end + 1;
        Ok(())
    }

    /// `FOREACH x IN ARRAY expression LOOP`
    fn for_each(&mut self) -> Result<(), Refusal> {
        let at = self.at;
        let name = self.tokens.name(at + 1).map(Cow::into_owned);
        let slice = 2 * usize::from(self.is(at + 2, "slice"));
        let array = at + 2 + slice;
        let known = self.tokens.are_words(array, &["in", "array"]);
        let name = name.filter(|_| known);
        let name = name.ok_or_else(|| unknown("an unusual loop"))?;
        self.block.assigned.push(name);
        self.skip_blind(array + 2, &["loop"])
    }

    /// `FOR r IN query LOOP`, `FOR i IN 1..n LOOP`, `FOR r IN cursor LOOP`.
    fn for_loop(&mut self) -> Result<(), Refusal> {
        let at = self.at;
        let name = self.tokens.name(at + 1).filter(|_| self.is(at + 2, "in"));
        let name = name.ok_or_else(|| unknown("an unusual loop"))?.into_owned();
        let end = self.until(at + 3, &["loop"])?;
        let query = at + 3..end;
        let cursor = self.tokens.name(query.start).filter(|_| query.len() == 1);
        if let Some(cursor) = cursor
            && self.block.cursors.iter().any(|known| *known == cursor)
        {
            // Its variable is the loop's own.
            let cursor = cursor.into_owned();
            self.block.rows.push(name.clone());
            self.block.steps.push(Step::Fetch {
                cursor,
                names: vec![name],
            });
        } else if self.is(query.start, "select") || self.is(query.start, "with") {
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
                if let Some(query) = self.only_query(&value) {
                    self.statement(query, To::Rows)?;
                    self.at = end + 1;
                    return Ok(());
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
        let (names, at) = self.variables(into + 1 + usize::from(self.is(into + 1, "strict")))?;
        self.at = range.end + 1;
        self.block.steps.push(Step::Statement {
            tokens: range,
            apart: into..at,
            to: To::Variables(names),
        });
        Ok(())
    }

    /// The query of a value that is a sub-select and nothing else.
    fn only_query(&self, value: &Range<usize>) -> Option<Range<usize>> {
        let inner = value.start + 1..value.end.checked_sub(1)?;
        let is_query = self.tokens.pair(value.start) == Some(inner.end)
            && (self.is(inner.start, "select") || self.is(inner.start, "with"));
        is_query.then_some(inner)
    }

    /// A variable gets what a sub-select yields.
    fn first_row(&mut self, query: Range<usize>, name: String, end: usize) -> Result<(), Refusal> {
        self.statement(query, To::Variables(vec![name]))?;
        self.at = end + 1;
        Ok(())
    }

    /// The variables behind INTO, and what stands behind them.
    fn variables(&self, mut at: usize) -> Result<(Vec<String>, usize), Refusal> {
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
                _ => return Ok((names, at)),
            }
        }
    }

    /// `name := value;`
    fn assignment(&mut self) -> Result<(), Refusal> {
        let at = self.at;
        let end = self.until(at, &[])?;
        let assigns = matches!(self.tokens.kind(at + 1), Kind::Assignment | Kind::Eq);
        let name = self.tokens.name(at).filter(|_| assigns);
        let name = name.ok_or_else(|| unknown("a statement that is not known"))?;
        let name = name.into_owned();
        if let Some(query) = self.only_query(&(at + 2..end)) {
            return self.first_row(query, name, end);
        }
        let is_null = at + 3 == end && self.is(at + 2, "null");
        if !is_null {
            self.block.assigned.push(name);
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
            Step::Inner { tokens, exists } => {
                let how = if *exists {
                    "if any"
                } else {
                    "of an expression"
                };
                format!("{} {how}", text(tokens))
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
        let told = steps(body).unwrap();
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
    fn follows_cursors_branches_and_loops() {
        let body = "DECLARE c NO SCROLL CURSOR FOR SELECT id FROM people; d refcursor; n int; BEGIN \
            OPEN c; FETCH NEXT FROM c INTO n; MOVE c; CLOSE c; OPEN d FOR SELECT 2; FETCH d INTO n; \
            <<outer>> FOR r IN c LOOP CASE n WHEN 1, 2 THEN RETURN NEXT r; ELSE NULL; END CASE; \
            CASE WHEN n = 1 THEN CONTINUE outer; END CASE; END LOOP outer; \
            FOREACH n SLICE 1 IN ARRAY numbers LOOP EXIT WHEN n > 1; END LOOP; END;";
        assert_eq!(
            steps(body).unwrap(),
            [
                "d refcursor",
                "n int",
                "SELECT id FROM people - Cursor(\"c\")",
                "Fetch { cursor: \"c\", names: [\"n\"] }",
                "SELECT 2 - Cursor(\"d\")",
                "Fetch { cursor: \"d\", names: [\"n\"] }",
                "Fetch { cursor: \"c\", names: [\"r\"] }",
                "Return { name: Some(\"r\"), next: true }",
            ]
        );
    }

    #[test]
    fn finds_the_queries_in_expressions() {
        let body = "DECLARE n int := (SELECT 1); m int; BEGIN m := (SELECT 2); m := 1 + (SELECT 3); \
            IF NOT EXISTS (SELECT 4) AND m IN (SELECT 5) THEN RAISE NOTICE '%', f((SELECT 6)); END IF; END;";
        assert_eq!(
            steps(body).unwrap(),
            [
                "n int",
                "m int",
                "SELECT 1 - Variables([\"n\"])",
                "SELECT 2 - Variables([\"m\"])",
                "SELECT 3 of an expression",
                "SELECT 4 if any",
                "SELECT 5 of an expression",
                "SELECT 6 of an expression",
            ]
        );
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for body in [
            "BEGIN EXECUTE 'SELECT 1'; END",
            "BEGIN RETURN QUERY EXECUTE 'SELECT 1'; END",
            "BEGIN OPEN c FOR EXECUTE 'SELECT 1'; END",
            "DECLARE c CURSOR (n int) FOR SELECT n; BEGIN END",
            "DECLARE c ALIAS FOR $1; BEGIN END",
            "BEGIN SELECT 1 INTO r.a; END",
            "BEGIN FETCH c INTO r.a; END",
            "BEGIN COMMIT; END",
            "#variable_conflict use_column BEGIN END",
            "BEGIN SELECT 1",
        ] {
            assert!(steps(body).is_err(), "{body}");
        }
    }
}
