//! Tokens with byte ranges, found again by the parser's line and column. Does not judge them (`guard` does).

use std::{borrow::Cow, ops::Range};

use sqlparser::{
    dialect::PostgreSqlDialect,
    keywords::Keyword,
    tokenizer::{Location, Token as Kind, TokenWithSpan, Tokenizer},
};

use super::guard;
use crate::Refusal;

/// PostgreSQL cuts identifiers here (`NAMEDATALEN - 1`), in bytes.
const MAX_IDENTIFIER_BYTES: usize = 63;

/// The significant tokens of a text: neither white space nor comments.
pub(crate) struct Tokens<'a> {
    /// The text itself.
    pub(crate) sql: &'a str,
    list: Vec<TokenWithSpan>,
    ranges: Vec<Range<usize>>,
    /// By index of a bracket: the index of its partner.
    pairs: Vec<Option<usize>>,
}

impl<'a> Tokens<'a> {
    /// Reads a text. Refuses what PostgreSQL's own scanner may read differently.
    pub(crate) fn read(sql: &'a str) -> Result<Self, Refusal> {
        if let Some(at) = sql.find('\0') {
            return Err(guard::unreadable("the text holds a NUL byte").at(at));
        }
        let all = Tokenizer::new(&PostgreSqlDialect {}, sql)
            .tokenize_with_location()
            .map_err(|error| {
                let at = offset_of(sql, error.location);
                guard::unreadable(
                    "a literal or comment does not end, or a token is not PostgreSQL's",
                )
                .at(at)
            })?;
        let mut cursor = Cursor::new(sql);
        let mut tokens = Self {
            sql,
            list: Vec::new(),
            ranges: Vec::new(),
            pairs: Vec::new(),
        };
        for token in all {
            let start = cursor.move_to(token.span.start);
            let end = cursor.move_to(token.span.end);
            if !matches!(token.token, Kind::Whitespace(_)) {
                tokens.list.push(token);
                tokens.ranges.push(start..end);
            }
        }
        tokens.pair_brackets();
        guard::check(&tokens)?;
        Ok(tokens)
    }

    fn pair_brackets(&mut self) {
        self.pairs = vec![None; self.list.len()];
        let mut open = Vec::new();
        for (index, token) in self.list.iter().enumerate() {
            match token.token {
                Kind::LParen | Kind::LBracket => open.push(index),
                Kind::RParen | Kind::RBracket => {
                    if let Some(partner) = open.pop() {
                        self.pairs[index] = Some(partner);
                        self.pairs[partner] = Some(index);
                    }
                }
                _ => {}
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// What the token is, `EOF` past the end.
    pub(crate) fn kind(&self, index: usize) -> &Kind {
        self.list
            .get(index)
            .map_or(&Kind::EOF, |token| &token.token)
    }

    /// The token as the parser takes it.
    pub(crate) fn token(&self, index: usize) -> &TokenWithSpan {
        &self.list[index]
    }

    /// Its bytes in the text.
    pub(crate) fn range(&self, index: usize) -> Range<usize> {
        self.ranges
            .get(index)
            .cloned()
            .unwrap_or(self.sql.len()..self.sql.len())
    }

    /// The text of a token as written.
    pub(crate) fn raw(&self, index: usize) -> &'a str {
        &self.sql[self.range(index)]
    }

    /// The bytes from the first to the last of some tokens.
    pub(crate) fn bytes(&self, tokens: &Range<usize>) -> Range<usize> {
        if tokens.is_empty() {
            let at = self.range(tokens.start).start;
            return at..at;
        }
        self.range(tokens.start).start..self.range(tokens.end - 1).end
    }

    /// The other bracket of a pair.
    pub(crate) fn pair(&self, index: usize) -> Option<usize> {
        self.pairs.get(index).copied().flatten()
    }

    /// The identifier or word as PostgreSQL means it: unquoted ones in lower case.
    pub(crate) fn name(&self, index: usize) -> Option<Cow<'_, str>> {
        match self.kind(index) {
            Kind::Word(word) => Some(fold(&word.value, word.quote_style.is_some())),
            _ => None,
        }
    }

    /// Whether a word can only be syntax: an unquoted word that PostgreSQL reserves, and not behind a dot, where
    /// every word is a name (PostgreSQL, appendix C; words that may also begin an expression are left out).
    pub(crate) fn is_syntax(&self, index: usize) -> bool {
        const RESERVED: [&str; 26] = [
            "all", "and", "as", "asc", "by", "case", "create", "desc", "distinct", "do", "else",
            "end", "except", "for", "from", "group", "having", "in", "into", "limit", "offset",
            "on", "or", "order", "select", "where",
        ];
        let behind_dot = index > 0 && matches!(self.kind(index - 1), Kind::Period);
        !behind_dot && RESERVED.iter().any(|word| self.is_word(index, word))
    }

    /// The keyword, unless quoted.
    pub(crate) fn keyword(&self, index: usize) -> Keyword {
        match self.kind(index) {
            Kind::Word(word) if word.quote_style.is_none() => word.keyword,
            _ => Keyword::NoKeyword,
        }
    }

    /// Whether the token is this unquoted word, in any case.
    pub(crate) fn is_word(&self, index: usize, wanted: &str) -> bool {
        matches!(self.kind(index), Kind::Word(word)
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted))
    }

    /// Whether these unquoted words stand there one after the other.
    pub(crate) fn are_words(&self, index: usize, wanted: &[&str]) -> bool {
        wanted
            .iter()
            .enumerate()
            .all(|(step, word)| self.is_word(index + step, word))
    }

    /// The index behind the fields of an interval (`day to second(3)`), if they begin here.
    pub(crate) fn behind_interval_fields(&self, index: usize) -> usize {
        let is_field = |at: usize| {
            ["year", "month", "day", "hour", "minute", "second"]
                .iter()
                .any(|word| self.is_word(at, word))
        };
        if !is_field(index) {
            return index;
        }
        let last = if self.is_word(index + 1, "to") && is_field(index + 2) {
            index + 2
        } else {
            index
        };
        match self.pair(last + 1) {
            Some(close)
                if self.is_word(last, "second") && matches!(self.kind(last + 1), Kind::LParen) =>
            {
                close + 1
            }
            _ => last + 1,
        }
    }

    /// The token that starts at the parser's location.
    pub(crate) fn starting(&self, location: Location) -> Option<usize> {
        self.list
            .binary_search_by_key(&key(location), |token| key(token.span.start))
            .ok()
    }
}

fn key(location: Location) -> (u64, u64) {
    (location.line, location.column)
}

/// An identifier as PostgreSQL stores it: folded unless quoted, cut at 63 bytes.
pub(crate) fn fold(word: &str, quoted: bool) -> Cow<'_, str> {
    let mut end = word.len().min(MAX_IDENTIFIER_BYTES);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    let word = &word[..end];
    if quoted || !word.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(word.to_ascii_lowercase())
    }
}

/// A name as SQL text: quoted unless it is plainly a word that means itself.
pub(crate) fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let keyword = sqlparser::keywords::ALL_KEYWORDS
        .binary_search(&name.to_ascii_uppercase().as_str())
        .is_ok();
    if plain && (!keyword || name == "public") {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Walks a text once, from location to location.
struct Cursor<'a> {
    chars: std::str::Chars<'a>,
    len: usize,
    line: u64,
    column: u64,
}

impl<'a> Cursor<'a> {
    fn new(sql: &'a str) -> Self {
        Self {
            chars: sql.chars(),
            len: sql.len(),
            line: 1,
            column: 1,
        }
    }

    /// The byte offset of a location that is not before the last one.
    fn move_to(&mut self, location: Location) -> usize {
        while (self.line, self.column) < key(location) {
            match self.chars.next() {
                Some('\n') => (self.line, self.column) = (self.line + 1, 1),
                Some(_) => self.column += 1,
                None => break,
            }
        }
        self.len - self.chars.as_str().len()
    }
}

fn offset_of(sql: &str, location: Location) -> usize {
    Cursor::new(sql).move_to(location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_tokens_by_byte_in_text_of_several_lines_and_widths() {
        let sql = "SELECT 'é\nü',\n \"Ö\" -- x\n FROM t";
        let tokens = Tokens::read(sql).unwrap();
        let raw: Vec<_> = (0..tokens.len()).map(|index| tokens.raw(index)).collect();
        assert_eq!(raw, ["SELECT", "'é\nü'", ",", "\"Ö\"", "FROM", "t"]);
        for index in 0..tokens.len() {
            assert_eq!(tokens.starting(tokens.token(index).span.start), Some(index));
        }
    }

    #[test]
    fn folds_and_cuts_names_as_the_server_does() {
        assert_eq!(fold("Émil", false), "Émil".replace('E', "e"));
        assert_eq!(fold("ABC", true), "ABC");
        assert_eq!(fold(&"é".repeat(40), false).len(), 62);
    }

    #[test]
    fn quotes_names_that_are_not_plain_words() {
        assert_eq!(quote_identifier("customers"), "customers");
        assert_eq!(quote_identifier("public"), "public");
        assert_eq!(quote_identifier("select"), "\"select\"");
        assert_eq!(quote_identifier("a\"B"), "\"a\"\"B\"");
    }
}
