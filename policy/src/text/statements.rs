//! Cuts a text at its top-level semicolons, as the server does. Does not parse the statements.

use std::ops::Range;

use sqlparser::{keywords::Keyword, tokenizer::Token as Kind};

use super::Tokens;

/// The byte ranges of the non-empty statements of a text, without semicolons and the white space around them.
/// A text that cannot be read safely is one statement.
pub fn statements(sql: &str) -> Vec<Range<usize>> {
    match Tokens::read(sql) {
        Ok(tokens) => split(&tokens)
            .iter()
            .map(|statement| tokens.bytes(statement))
            .collect(),
        Err(_) => std::iter::once(0..sql.len()).collect(),
    }
}

/// The non-empty statements as token ranges.
pub(crate) fn split(tokens: &Tokens<'_>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut start, mut brackets, mut blocks) = (0, 0usize, 0usize);
    for index in 0..tokens.len() {
        match tokens.kind(index) {
            Kind::LParen => brackets += 1,
            Kind::RParen => brackets = brackets.saturating_sub(1),
            Kind::Word(_) => match tokens.keyword(index) {
                Keyword::BEGIN
                    if tokens.is_word(index + 1, "atomic") && makes_routine(tokens, start) =>
                {
                    blocks += 1;
                }
                Keyword::CASE if blocks > 0 => blocks += 1,
                Keyword::END => blocks = blocks.saturating_sub(1),
                _ => {}
            },
            Kind::SemiColon if brackets == 0 && blocks == 0 => {
                if start < index {
                    found.push(start..index);
                }
                start = index + 1;
            }
            _ => {}
        }
    }
    if start < tokens.len() {
        found.push(start..tokens.len());
    }
    found
}

/// Whether the statement is CREATE [OR REPLACE] FUNCTION or PROCEDURE: only there BEGIN ATOMIC opens a body.
fn makes_routine(tokens: &Tokens<'_>, start: usize) -> bool {
    let start = if tokens.are_words(start, &["create", "or", "replace"]) {
        start + 3
    } else {
        start + 1
    };
    tokens.is_word(start, "function") || tokens.is_word(start, "procedure")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(sql: &str) -> Vec<&str> {
        statements(sql)
            .into_iter()
            .map(|range| &sql[range])
            .collect()
    }

    #[test]
    fn cuts_where_the_server_does() {
        assert_eq!(cut(" ; a ;; b; -- ; \n"), ["a", "b"]);
        assert_eq!(
            cut("SELECT ';', $$;$$, \";\" /* ; */; b"),
            ["SELECT ';', $$;$$, \";\"", "b"]
        );
        assert_eq!(cut("CREATE RULE r AS ON INSERT TO t DO (a; b); c").len(), 2);
        let body = "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END";
        assert_eq!(cut(&format!("{body}; SELECT 3")), [body, "SELECT 3"]);
        assert_eq!(cut("BEGIN; SELECT 1; END; SELECT 2").len(), 4);
        assert!(cut("").is_empty());
    }
}
