//! Names of relations in a statement's text, by the words before them, and of functions, by the bracket behind them. One pass over the bytes, no parsing: it answers only
//! whether a text may read or write something that the catalog, as it was read last, does not have. Finding a name too many
//! costs a question to the server; names that only a string holds are not found.

use std::collections::HashSet;

use memchr::memmem;

use super::is_word_byte;

/// A name as PostgreSQL stores it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelationName {
    /// The schema, if the text says one.
    pub schema: Option<String>,
    /// The relation.
    pub name: String,
    /// It is a function, of any schema.
    pub is_function: bool,
}

/// PostgreSQL cuts longer identifiers.
const MAX_IDENTIFIER: usize = 63;

/// Names that are looked at; a text with more of them is one that nobody writes.
const MAX_NAMES: usize = 256;

/// The relations and functions that a text may name and that are not known. `None`: it cannot be told.
pub(crate) fn unknown(
    sql: &[u8],
    known: &dyn Fn(Option<&str>, &str) -> bool,
    known_function: &dyn Fn(&str) -> bool,
) -> Option<Vec<RelationName>> {
    let mut reader = Reader::new(sql);
    reader.read()?;
    let Reader {
        names,
        calls,
        queries,
        ..
    } = reader;
    let names = names.into_iter().filter(|relation| {
        let is_query = relation.schema.is_none() && queries.contains(&relation.name);
        !is_query && !known(relation.schema.as_deref(), &relation.name)
    });
    let calls = calls
        .into_iter()
        .filter(|name| !queries.contains(name) && !known(None, name) && !known_function(name));
    let calls = calls.map(|name| RelationName {
        schema: None,
        name,
        is_function: true,
    });
    Some(names.chain(calls).collect())
}

/// Words before a bracket that call nothing.
const SYNTAX: [&[u8]; 40] = [
    b"and",
    b"any",
    b"all",
    b"array",
    b"as",
    b"between",
    b"bit",
    b"by",
    b"case",
    b"cast",
    b"char",
    b"character",
    b"check",
    b"coalesce",
    b"conflict",
    b"decimal",
    b"else",
    b"exists",
    b"extract",
    b"filter",
    b"greatest",
    b"in",
    b"interval",
    b"is",
    b"key",
    b"least",
    b"like",
    b"not",
    b"nullif",
    b"numeric",
    b"or",
    b"over",
    b"references",
    b"row",
    b"some",
    b"then",
    b"time",
    b"timestamp",
    b"unique",
    b"varchar",
];

/// What stands in a text.
enum Token {
    /// A word: whether it is quoted, and its bytes as written (quotes left away).
    Word {
        quoted: bool,
        start: usize,
        end: usize,
    },
    /// One byte of anything else.
    Other(u8),
    /// The end of the text.
    End,
}

/// What is known of a level of brackets.
#[derive(Clone, Copy, Default)]
struct Level {
    /// A query or a statement begins here, so that FROM is a clause.
    is_query: bool,
    /// A comma is followed by another relation.
    lists: bool,
    /// A relation's name may come next.
    expects: bool,
    /// A JOIN has no condition yet: USING is followed by columns.
    joins: bool,
}

/// Where a word stands, and whether it is quoted.
type Spot = (bool, usize, usize);

struct Reader<'a> {
    sql: &'a [u8],
    at: usize,
    levels: Vec<Level>,
    level: Level,
    names: Vec<RelationName>,
    /// What stands before a bracket.
    calls: HashSet<String>,
    /// Names of common table expressions.
    queries: HashSet<String>,
    /// Before each open bracket: the word there.
    openers: Vec<Option<Spot>>,
    /// The last word, if nothing stands behind it; the word before a bracket that was just closed.
    last: Option<Spot>,
}

/// Deeper brackets are not looked into.
const MAX_LEVELS: usize = 512;

/// Words after which a relation stands.
const LEADS: [&[u8]; 8] = [
    b"from", b"join", b"into", b"update", b"table", b"using", b"copy", b"view",
];

/// Reserved words that may stand between.
const BETWEEN: [&[u8]; 4] = [b"only", b"lateral", b"not", b"table"];

/// Others that may: relations can have these names too.
const BETWEEN_OR_NAMES: [&[u8]; 9] = [
    b"if",
    b"exists",
    b"concurrently",
    b"rows",
    b"view",
    b"temp",
    b"temporary",
    b"unlogged",
    b"local",
];

/// Words that end a list of relations, or that are no names.
const ENDS: [&[u8]; 24] = [
    b"where",
    b"group",
    b"having",
    b"window",
    b"order",
    b"limit",
    b"offset",
    b"fetch",
    b"for",
    b"union",
    b"intersect",
    b"except",
    b"set",
    b"returning",
    b"select",
    b"values",
    b"with",
    b"when",
    b"do",
    b"of",
    b"skip",
    b"nowait",
    b"default",
    b"on",
];

fn is_one_of(word: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|other| word.eq_ignore_ascii_case(other))
}

impl<'a> Reader<'a> {
    fn new(sql: &'a [u8]) -> Self {
        Self {
            sql,
            at: 0,
            levels: Vec::new(),
            level: Level {
                is_query: true,
                ..Level::default()
            },
            names: Vec::new(),
            calls: HashSet::new(),
            queries: HashSet::new(),
            openers: Vec::new(),
            last: None,
        }
    }

    fn read(&mut self) -> Option<()> {
        loop {
            match self.token()? {
                Token::End => return Some(()),
                Token::Other(b'(') => {
                    if self.levels.len() >= MAX_LEVELS {
                        return None;
                    }
                    if let Some((quoted, start, end)) = self.last {
                        self.call(quoted, start, end)?;
                    }
                    self.levels.push(self.level);
                    self.openers.push(self.last.take());
                    self.level = Level {
                        // FROM ((a JOIN b ...) JOIN c ...)
                        expects: self.level.expects,
                        lists: self.level.expects,
                        is_query: self.level.expects,
                        joins: false,
                    };
                }
                Token::Other(b')') => {
                    self.level = self.levels.pop().unwrap_or(self.level);
                    self.level.expects = false;
                    self.last = self.openers.pop().flatten();
                }
                Token::Other(b',') => {
                    self.level.expects = self.level.lists;
                    self.last = None;
                }
                Token::Other(b';') => {
                    self.levels.clear();
                    self.openers.clear();
                    self.level = Level {
                        is_query: true,
                        ..Level::default()
                    };
                    self.last = None;
                }
                Token::Other(_) => {
                    self.level.expects = false;
                    self.last = None;
                }
                Token::Word { quoted, start, end } => self.word(quoted, start, end)?,
            }
        }
    }

    fn word(&mut self, quoted: bool, start: usize, end: usize) -> Option<()> {
        let sql = self.sql;
        let word = &sql[start..end];
        if quoted {
            return self.name(true, start, end);
        }
        if word.eq_ignore_ascii_case(b"as") {
            // `name AS (query)`, `name (a, b) AS MATERIALIZED (query)`
            if let Some((quoted, start, end)) = self.last.take()
                && self.opens_query()
            {
                self.queries.insert(spelled(&sql[start..end], quoted)?);
            }
            self.level.expects = false;
            return Some(());
        }
        let after_distinct = self.last.is_some_and(|(quoted, start, end)| {
            !quoted && sql[start..end].eq_ignore_ascii_case(b"distinct")
        });
        if is_one_of(word, &LEADS)
            && !(word.eq_ignore_ascii_case(b"from") && (!self.level.is_query || after_distinct))
        {
            let joins = word.eq_ignore_ascii_case(b"join");
            let condition = word.eq_ignore_ascii_case(b"using")
                && std::mem::replace(&mut self.level.joins, false);
            self.level.joins |= joins;
            self.level.expects = !condition;
            self.level.lists = is_one_of(word, &[b"from", b"using", b"table"]) || self.level.lists;
            self.last = None;
            return Some(());
        }
        if self.level.expects && is_one_of(word, &BETWEEN) {
            return Some(());
        }
        if self.level.expects && is_one_of(word, &BETWEEN_OR_NAMES) {
            self.name(false, start, end)?;
            self.level.expects = true;
            return Some(());
        }
        if is_one_of(word, &ENDS) {
            let is_query = is_one_of(word, &[b"select", b"values", b"with"]);
            self.level.is_query |= is_query;
            self.level.expects = false;
            self.level.joins = false;
            // The condition of a join stands within the list.
            self.level.lists &= word.eq_ignore_ascii_case(b"on");
            self.last = None;
            return Some(());
        }
        self.name(false, start, end)
    }

    /// A word that is not syntax: a relation's name where one is expected.
    fn name(&mut self, quoted: bool, start: usize, end: usize) -> Option<()> {
        self.last = Some((quoted, start, end));
        if !std::mem::take(&mut self.level.expects) {
            return Some(());
        }
        let mut parts = vec![spelled(&self.sql[start..end], quoted)?];
        while self.peek() == Some(b'.') {
            self.at = self.skip_blank() + 1;
            match self.token()? {
                Token::Word { quoted, start, end } => {
                    self.last = Some((quoted, start, end));
                    parts.push(spelled(&self.sql[start..end], quoted)?);
                }
                _ => return Some(()),
            }
        }
        let name = parts.pop()?;
        if self.peek() != Some(b'(') || self.level_takes_columns() {
            if self.names.len() >= MAX_NAMES {
                return None;
            }
            self.names.push(RelationName {
                schema: parts.pop(),
                name,
                is_function: false,
            });
        }
        Some(())
    }

    /// A word before a bracket.
    fn call(&mut self, quoted: bool, start: usize, end: usize) -> Option<()> {
        let word = &self.sql[start..end];
        if !quoted && is_one_of(word, &SYNTAX) {
            return Some(());
        }
        self.calls.insert(spelled(word, quoted)?);
        (self.calls.len() <= MAX_NAMES).then_some(())
    }

    /// `INSERT INTO t (a, b)` and `COPY t (a, b)`; in FROM it would be a function.
    fn level_takes_columns(&self) -> bool {
        !self.level.lists
    }

    /// Whether a bracket follows, maybe behind [NOT] MATERIALIZED.
    fn opens_query(&mut self) -> bool {
        let from = self.at;
        let mut opens = false;
        for _ in 0..3 {
            match self.token() {
                Some(Token::Other(b'(')) => {
                    opens = true;
                    break;
                }
                Some(Token::Word { start, end, .. })
                    if is_one_of(&self.sql[start..end], &[b"not", b"materialized"]) => {}
                _ => break,
            }
        }
        self.at = from;
        opens
    }

    fn peek(&self) -> Option<u8> {
        self.sql.get(self.skip_blank()).copied()
    }

    /// Behind blanks and comments.
    fn skip_blank(&self) -> usize {
        let mut at = self.at;
        loop {
            let rest = &self.sql[at.min(self.sql.len())..];
            match rest {
                [byte, ..] if byte.is_ascii_whitespace() || *byte == 0x0b => at += 1,
                [b'-', b'-', ..] => {
                    let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    at += end.unwrap_or(rest.len());
                }
                [b'/', b'*', ..] => at += super::leading::block_comment(rest),
                _ => return at,
            }
        }
    }

    /// The next token. `None`: the text cannot be read this way.
    fn token(&mut self) -> Option<Token> {
        self.at = self.skip_blank();
        let Some(byte) = self.sql.get(self.at).copied() else {
            return Some(Token::End);
        };
        let start = self.at;
        match byte {
            b'"' => {
                let end = self.behind_quote(start + 1, b'"', false)?;
                self.at = end;
                Some(Token::Word {
                    quoted: true,
                    start: start + 1,
                    end: end - 1,
                })
            }
            b'\'' => {
                self.at = self.behind_quote(start + 1, b'\'', false)?;
                Some(Token::Other(byte))
            }
            b'$' if self.dollar_quote(start).is_some() => {
                self.at = self.dollar_quote(start)?;
                Some(Token::Other(byte))
            }
            _ if byte.is_ascii_digit() => {
                while self.sql.get(self.at).is_some_and(u8::is_ascii_digit) {
                    self.at += 1;
                }
                Some(Token::Other(byte))
            }
            _ if is_word_byte(byte) => {
                let rest = &self.sql[start..];
                let len = rest.iter().position(|byte| !is_word_byte(*byte));
                let end = start + len.unwrap_or(rest.len());
                self.at = end;
                match (&self.sql[start..end], self.sql.get(end)) {
                    // U&"..." and the like may mean any name.
                    (b"u" | b"U", Some(b'&')) if self.sql.get(end + 1) == Some(&b'"') => None,
                    (b"e" | b"E", Some(b'\'')) => {
                        self.at = self.behind_quote(end + 1, b'\'', true)?;
                        Some(Token::Other(b'\''))
                    }
                    _ => Some(Token::Word {
                        quoted: false,
                        start,
                        end,
                    }),
                }
            }
            _ => {
                self.at += 1;
                Some(Token::Other(byte))
            }
        }
    }

    /// Behind the closing quote; a doubled one is none.
    fn behind_quote(&self, from: usize, quote: u8, escapes: bool) -> Option<usize> {
        let mut at = from;
        loop {
            let rest = self.sql.get(at..)?;
            let next = if escapes {
                memchr::memchr2(quote, b'\\', rest)?
            } else {
                memchr::memchr(quote, rest)?
            };
            at += next;
            // Where `standard_conforming_strings` is off the string goes on: no word of it is to be taken for a name.
            if quote == b'\'' && !escapes && at > from && self.sql[at - 1] == b'\\' {
                return None;
            }
            if self.sql[at] == b'\\' && escapes || self.sql.get(at + 1) == Some(&quote) {
                at += 2;
            } else {
                return Some(at + 1);
            }
        }
    }

    /// Behind a dollar-quoted string that begins here.
    fn dollar_quote(&self, start: usize) -> Option<usize> {
        let rest = &self.sql[start + 1..];
        let len = memchr::memchr(b'$', rest)?;
        let tag = &rest[..len];
        let is_tag = tag.iter().all(|byte| is_word_byte(*byte) && *byte != b'$')
            && !tag.first().is_some_and(u8::is_ascii_digit);
        let quote = &self.sql[start..start + len + 2];
        let body = start + quote.len();
        let end = is_tag.then(|| memmem::find(&self.sql[body..], quote))??;
        Some(body + end + quote.len())
    }
}

/// A name as it is stored. `None`: it is not in UTF-8.
fn spelled(word: &[u8], quoted: bool) -> Option<String> {
    let text = std::str::from_utf8(word).ok()?;
    let mut name = if quoted {
        text.replace("\"\"", "\"")
    } else {
        text.to_ascii_lowercase()
    };
    let mut end = MAX_IDENTIFIER.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sql: &str) -> Option<Vec<String>> {
        let known = |_: Option<&str>, name: &str| name.starts_with("known");
        let unknown = unknown(sql.as_bytes(), &known, &|_| true)?;
        let name = |relation: RelationName| match relation.schema {
            Some(schema) => format!("{schema}.{}", relation.name),
            None => relation.name,
        };
        Some(unknown.into_iter().map(name).collect())
    }

    #[test]
    fn finds_relations_that_are_not_known() {
        for (sql, found) in [
            ("SELECT count(DISTINCT email) FROM copied", "copied"),
            (
                "select * from KNOWN, public.\"Odd\"\"er\" o, c AS d (x, y), e",
                "public.Odd\"er c e",
            ),
            (
                "SELECT * FROM known k JOIN LATERAL (SELECT * FROM a WHERE x = (SELECT max(y) FROM b)) s ON s.z = k.z, c",
                "a b c",
            ),
            (
                "SELECT * FROM (known CROSS JOIN a) LEFT JOIN b USING (id), ONLY c",
                "a b c",
            ),
            (
                "WITH w AS (SELECT 1), x (a, b) AS NOT MATERIALIZED (SELECT * FROM a) SELECT * FROM w, x, y",
                "a y",
            ),
            (
                "SELECT * FROM generate_series(1, 2) g, unnest('{}'::int[]) AS u (a), a",
                "a",
            ),
            (
                "INSERT INTO a (x, y) VALUES (1, 'from b'), (2, $$ from c $$) RETURNING z",
                "a",
            ),
            (
                "UPDATE a SET x = 1 FROM b WHERE a.y IS DISTINCT FROM b.y",
                "a b",
            ),
            ("DELETE FROM ONLY a USING b, known WHERE true", "a b"),
            ("DELETE FROM known USING (a JOIN b USING (x))", "a b"),
            (
                "MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN UPDATE SET y = 1",
                "a b",
            ),
            (
                "SELECT extract(epoch FROM t), substring(a FROM 1 FOR 2), trim(BOTH FROM b) FROM known",
                "",
            ),
            (
                "SELECT 1; TABLE a; SELECT * FROM b FOR UPDATE OF b SKIP LOCKED",
                "a b",
            ),
            ("COPY a (x) TO STDOUT", "a"),
            ("SELECT * FROM known -- , a\n , /* b, /* c */ */ d", "d"),
            ("SELECT E'\\' FROM a' FROM b", "b"),
            ("REFRESH MATERIALIZED VIEW CONCURRENTLY a", "concurrently a"),
            ("TRUNCATE TABLE ONLY a, b", "a b"),
            ("SELECT * FROM known ORDER BY x, y LIMIT 1", ""),
            (
                "SELECT * FROM known WHERE x IN (SELECT y FROM a) GROUP BY b, c",
                "a",
            ),
            ("SELECT a FROM known UNION SELECT b FROM c", "c"),
            ("SELECT x INTO TEMP TABLE a FROM b", "temp a b"),
            ("SELECT $1, 1.5e3, 'it''s', \"from\" FROM known", ""),
        ] {
            let expected: Vec<String> = found.split_whitespace().map(str::to_owned).collect();
            assert_eq!(names(sql), Some(expected), "{sql}");
        }
    }

    #[test]
    fn finds_functions_that_are_not_known() {
        let calls = |sql: &str| {
            let known = |_: Option<&str>, name: &str| name.starts_with("known");
            let unknown = unknown(sql.as_bytes(), &known, &|name| name == "count")?;
            let calls = unknown.into_iter().filter(|name| name.is_function);
            let mut calls: Vec<String> = calls.map(|name| name.name).collect();
            calls.sort();
            Some(calls.join(" "))
        };
        for (sql, found) in [
            ("SELECT f(1), public.G (2), count(*) FROM known", "f g"),
            ("SELECT \"F\"('h(1)') -- i(2)\n FROM known", "F"),
            ("SELECT * FROM f(1) AS a, LATERAL g(a) b (c)", "b f g"),
            (
                "INSERT INTO known (a, b) VALUES (1, (2)) ON CONFLICT (a) DO NOTHING",
                "",
            ),
            (
                "WITH w (a) AS (SELECT 1) SELECT * FROM w WHERE a IN (1) AND (true)",
                "",
            ),
            ("CALL f()", "f"),
        ] {
            assert_eq!(calls(sql).as_deref(), Some(found), "{sql}");
        }
    }

    #[test]
    fn says_what_it_cannot_read() {
        for sql in [
            "SELECT * FROM U&\"\\0061\"",
            "SELECT * FROM \"open",
            "SELECT 'it\\'s from nobody' FROM t",
        ] {
            assert_eq!(names(sql), None, "{sql}");
        }
        assert_eq!(
            unknown(b"SELECT * FROM t\xe9st", &|_, _| true, &|_| true),
            None
        );
        let long = format!("TABLE \"{}\"", "é".repeat(40));
        assert_eq!(names(&long), Some(vec!["é".repeat(31)]));
        assert_eq!(names(&format!("SELECT {}", "(".repeat(1000))), None);
    }
}
