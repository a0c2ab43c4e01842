//! Literals as the server reads them: the text inside quotes, the type of a number. Converts nothing.

use sqlparser::tokenizer::Token as Kind;

use super::refusals;
use crate::{Refusal, text::Tokens, types::LogicalType};

/// A literal of the statement. Holds plaintext: never printed.
pub(super) struct Literal {
    /// What an input function gets.
    pub(super) text: String,
    /// The type that the literal has by itself; strings have none.
    pub(super) logical: Option<LogicalType>,
}

/// Whether a token is a string.
pub(super) fn is_text(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::SingleQuotedString(_) | Kind::EscapedStringLiteral(_) | Kind::DollarQuotedString(_)
    )
}

/// Reads the literal that one token is.
pub(super) fn read(
    tokens: &Tokens<'_>,
    index: usize,
    negative: bool,
) -> Result<Option<Literal>, Refusal> {
    let raw = tokens.raw(index);
    let string = |text: String| {
        Some(Literal {
            text,
            logical: None,
        })
    };
    Ok(match tokens.kind(index) {
        Kind::Number(..) => {
            let text = if negative {
                format!("-{raw}")
            } else {
                raw.to_owned()
            };
            let logical = Some(number_type(&text));
            Some(Literal { text, logical })
        }
        _ if negative => None,
        Kind::SingleQuotedString(_) => string(raw[1..raw.len() - 1].replace("''", "'")),
        Kind::EscapedStringLiteral(_) => {
            let text = unescape(&raw[2..raw.len() - 1]).ok_or_else(|| {
                refusals::not_understood("An escape string is not understood")
                    .at(tokens.range(index).start)
            })?;
            string(text)
        }
        Kind::DollarQuotedString(_) => {
            let tag = raw[1..].find('$').map_or(0, |end| end + 2);
            string(raw[tag..raw.len() - tag].to_owned())
        }
        Kind::Word(word) if word.quote_style.is_none() => {
            let truth = ["true", "false"]
                .into_iter()
                .find(|truth| word.value.eq_ignore_ascii_case(truth));
            truth.map(|truth| Literal {
                text: truth.to_owned(),
                logical: Some(LogicalType::Bool),
            })
        }
        _ => None,
    })
}

/// The type of a number: the narrowest of `integer`, `bigint` and `numeric`.
fn number_type(text: &str) -> LogicalType {
    if text.parse::<i32>().is_ok() {
        LogicalType::Int4
    } else if text.parse::<i64>().is_ok() {
        LogicalType::Int8
    } else {
        LogicalType::Numeric(None)
    }
}

/// The inside of `E'...'`.
fn unescape(inside: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(inside.len());
    let mut chars = inside.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                // The scanner let only `''` through.
                chars.next_if_eq(&'\'')?;
                bytes.push(b'\'');
            }
            '\\' => match chars.next()? {
                'b' => bytes.push(8),
                'f' => bytes.push(12),
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                'x' => match digits(&mut chars, 16, 2) {
                    Some((value, _)) => bytes.push(u8::try_from(value).ok()?),
                    None => bytes.push(b'x'),
                },
                first @ '0'..='7' => {
                    let mut value = first.to_digit(8)?;
                    if let Some((more, count)) = digits(&mut chars, 8, 2) {
                        value = value * 8u32.pow(count) + more;
                    }
                    bytes.push((value & 0xff) as u8);
                }
                unicode @ ('u' | 'U') => {
                    let wanted = if unicode == 'u' { 4 } else { 8 };
                    let (value, count) = digits(&mut chars, 16, wanted)?;
                    let c = char::from_u32(value).filter(|_| count == wanted)?;
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            },
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

/// Up to `most` digits: their value and number.
fn digits(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    radix: u32,
    most: u32,
) -> Option<(u32, u32)> {
    let (mut value, mut count) = (0u32, 0);
    while count < most
        && let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix))
    {
        value = value.checked_mul(radix)?.checked_add(digit)?;
        count += 1;
        chars.next();
    }
    (count > 0).then_some((value, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(sql: &str) -> Option<String> {
        let tokens = Tokens::read(sql).ok()?;
        read(&tokens, 0, false)
            .ok()
            .flatten()
            .map(|literal| literal.text)
    }

    #[test]
    fn reads_literals_as_the_server_does() {
        for (sql, expected) in [
            ("'a''b\\'", "a'b\\"),
            ("''", ""),
            ("$$a'$b$$", "a'$b"),
            ("$x$ $$ $x$", " $$ "),
            ("E'a\\'b''c\\\\'", "a'b'c\\"),
            (
                "e'\\n\\t\\x41\\101\\u00e9\\U0001F600\\q\\0051'",
                "\n\tAAé😀q\u{5}1",
            ),
            ("12.50", "12.50"),
            ("TRUE", "true"),
        ] {
            assert_eq!(text_of(sql).as_deref(), Some(expected), "{sql}");
        }
        for sql in ["E'\\xff'", "E'\\ud83d'", "E'\\000'", "email", "B'1'"] {
            assert_eq!(text_of(sql), None, "{sql}");
        }
    }

    #[test]
    fn types_numbers_as_the_server_does() {
        assert_eq!(number_type("2147483647"), LogicalType::Int4);
        assert_eq!(number_type("-2147483648"), LogicalType::Int4);
        assert_eq!(number_type("2147483648"), LogicalType::Int8);
        assert_eq!(number_type("1e3"), LogicalType::Numeric(None));
        assert_eq!(
            number_type("99999999999999999999"),
            LogicalType::Numeric(None)
        );
    }
}
