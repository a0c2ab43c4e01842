//! Refuses texts that the parser's tokenizer and PostgreSQL's scanner could cut differently.
//! Does not know what a statement does.

use sqlparser::tokenizer::Token as Kind;

use super::Tokens;
use crate::Refusal;

/// The refusal of a text that cannot be read safely.
pub(super) fn unreadable(what: &str) -> Refusal {
    Refusal::unsupported(
        "statement-not-readable",
        "a statement that names something protected cannot be read safely",
    )
    .detail(format!(
        "pgveil reads this text in a way that may not be the server's: {what}."
    ))
}

/// Checks every token and its neighbour.
pub(super) fn check(tokens: &Tokens<'_>) -> Result<(), Refusal> {
    for index in 0..tokens.len() {
        if let Some(what) = token(tokens, index).or_else(|| neighbour(tokens, index)) {
            return Err(unreadable(what).at(tokens.range(index).start));
        }
    }
    Ok(())
}

fn token(tokens: &Tokens<'_>, index: usize) -> Option<&'static str> {
    let raw = tokens.raw(index);
    match tokens.kind(index) {
        Kind::Word(word) => match word.quote_style {
            None | Some('"') => (word.value.is_empty()).then_some("an empty identifier"),
            Some(_) => Some("an identifier in unusual quotes"),
        },
        Kind::SingleQuotedString(_) | Kind::EscapedStringLiteral(_) => None,
        Kind::HexStringLiteral(_) => {
            let plain = raw.starts_with(['x', 'X']) && !raw.contains('\\');
            (!plain).then_some("a hexadecimal literal")
        }
        Kind::SingleQuotedByteStringLiteral(_) => {
            raw.contains('\\').then_some("a backslash in a bit string")
        }
        Kind::DollarQuotedString(_) => {
            let tag = raw[1..].split('$').next().unwrap_or_default();
            tag.starts_with(|c: char| c.is_ascii_digit())
                .then_some("a dollar quote that starts with a digit")
        }
        Kind::Number(_, _) => (!raw
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte)))
        .then_some("an unusual number"),
        Kind::Placeholder(_) => (!raw[1..].bytes().all(|byte| byte.is_ascii_digit())
            || raw.len() < 2)
            .then_some("a parameter that is no number"),
        Kind::UnicodeStringLiteral(_) => Some("a literal with Unicode escapes (U&'...')"),
        Kind::DoubleQuotedString(_)
        | Kind::TripleSingleQuotedString(_)
        | Kind::TripleDoubleQuotedString(_)
        | Kind::DoubleQuotedByteStringLiteral(_)
        | Kind::TripleSingleQuotedByteStringLiteral(_)
        | Kind::TripleDoubleQuotedByteStringLiteral(_)
        | Kind::SingleQuotedRawStringLiteral(_)
        | Kind::DoubleQuotedRawStringLiteral(_)
        | Kind::TripleSingleQuotedRawStringLiteral(_)
        | Kind::TripleDoubleQuotedRawStringLiteral(_)
        | Kind::NationalStringLiteral(_)
        | Kind::QuoteDelimitedStringLiteral(_)
        | Kind::NationalQuoteDelimitedStringLiteral(_) => Some("an unusual kind of literal"),
        Kind::Char(_) | Kind::Backslash | Kind::LBrace | Kind::RBrace => {
            Some("a character outside SQL")
        }
        _ => operator(tokens, index),
    }
}

/// The server ends an operator where a comment begins, even inside what looks like one operator.
fn operator(tokens: &Tokens<'_>, index: usize) -> Option<&'static str> {
    let bytes = tokens.sql.as_bytes();
    tokens
        .range(index)
        .any(|at| matches!(bytes.get(at..at + 2), Some(b"--" | b"/*")))
        .then_some("an operator that holds the beginning of a comment")
}

fn neighbour(tokens: &Tokens<'_>, index: usize) -> Option<&'static str> {
    let adjacent =
        index + 1 < tokens.len() && tokens.range(index).end == tokens.range(index + 1).start;
    if !adjacent {
        return None;
    }
    let is_word = |kind: &Kind| matches!(kind, Kind::Word(_));
    match (tokens.kind(index), tokens.kind(index + 1)) {
        // `1..3` of a loop in PL/pgSQL: the server's scanner ends the number before two dots.
        (Kind::Number(_, _), Kind::Number(_, _))
            if is_range(tokens.raw(index), tokens.raw(index + 1)) =>
        {
            None
        }
        (Kind::Number(_, _) | Kind::Placeholder(_), next)
            if is_word(next) || matches!(next, Kind::Number(_, _) | Kind::Placeholder(_)) =>
        {
            Some("a number or parameter that runs into the next word")
        }
        (Kind::Word(word), Kind::Ampersand)
            if word.value.eq_ignore_ascii_case("u")
                && tokens.sql[tokens.range(index + 1).end..].starts_with('"') =>
        {
            Some("an identifier with Unicode escapes (U&\"...\")")
        }
        (first, second) if is_word(first) && is_word(second) => {
            Some("an identifier that runs into the next")
        }
        (first, second) if is_string(first) && is_string(second) => {
            Some("a literal that runs into the next")
        }
        _ => None,
    }
}

/// Whether two numbers that touch are `1.` and `.3`.
fn is_range(first: &str, second: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (low, high) = (first.strip_suffix('.'), second.strip_prefix('.'));
    matches!((low, high), (Some(low), Some(high)) if digits(low) && digits(high))
}

fn is_string(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::SingleQuotedString(_) | Kind::EscapedStringLiteral(_) | Kind::DollarQuotedString(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_the_server_would_cut_differently() {
        for sql in [
            "SELECT U&\"\\0065mail\" FROM t",
            "SELECT u&'x'",
            "SELECT x'\\' , email --'",
            "SELECT 1 @-- ' \n 2",
            "SELECT a ?-- ' \n 2",
            "SELECT 1 |/*x*/ 2",
            "SELECT 0x1F",
            "SELECT 1a",
            "SELECT $1AND 1",
            "SELECT 1L",
            "SELECT 1.5.3",
            "SELECT 1..3e1",
            "SELECT $1$ email $1$",
            "SELECT b\"email\"",
            "SELECT N'x'",
            "SELECT \"\"",
            "SELECT 'a",
            "SELECT /* a",
            "SELECT `a`",
            "SELECT a\0b",
            "SELECT {d 'x'}",
        ] {
            let refusal = Tokens::read(sql)
                .err()
                .unwrap_or_else(|| panic!("passes: {sql}"));
            assert_eq!(refusal.anchor, "statement-not-readable", "{sql}");
        }
    }

    #[test]
    fn reads_ordinary_texts() {
        for sql in [
            "SELECT 'a''b', E'\\'', $$x$$, $a$ ' $a$, 1.5e-3, .5, x'0f', B'01', a->>'b' FROM t -- '",
            "FOR i IN 1..3 LOOP",
            "SELECT a=b,a<-1,a/ /* ' */ b, a*/**/b, -1, - 1",
            "SELECT \"a\"\"b\", t.*, c.relname OPERATOR(pg_catalog.~) '^(customers)$' COLLATE pg_catalog.default",
        ] {
            Tokens::read(sql).unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
        }
    }
}
