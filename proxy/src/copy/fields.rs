//! The fields of one line of text or CSV: where each stands, what it says, and how a value is written.
//! Follows `CopyReadAttributesText`, `CopyReadAttributesCSV`, `CopyAttributeOutText` and `CopyAttributeOutCSV`.

/// Where a field stands in its line, quotes and escapes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
    /// It has a quote in it.
    pub quoted: bool,
}

impl Span {
    /// The field as written.
    pub fn raw<'a>(&self, line: &'a [u8]) -> &'a [u8] {
        &line[self.start..self.end]
    }
}

/// A quoted field of CSV that does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unterminated;

/// The fields of a line of text, at most `limit` of them.
pub fn split_text(line: &[u8], delimiter: u8, limit: usize, spans: &mut Vec<Span>) {
    spans.clear();
    let (mut start, mut at) = (0, 0);
    while spans.len() < limit {
        let rest = &line[at..];
        match memchr::memchr2(delimiter, b'\\', rest) {
            Some(found) if rest[found] == b'\\' => at = (at + found + 2).min(line.len()),
            Some(found) => {
                spans.push(Span {
                    start,
                    end: at + found,
                    quoted: false,
                });
                at += found + 1;
                start = at;
            }
            None => {
                spans.push(Span {
                    start,
                    end: line.len(),
                    quoted: false,
                });
                return;
            }
        }
    }
}

/// The fields of a line of CSV, at most `limit` of them.
///
/// # Errors
/// If a quoted field does not end.
pub fn split_csv(
    line: &[u8],
    (delimiter, quote, escape): (u8, u8, u8),
    limit: usize,
    spans: &mut Vec<Span>,
) -> Result<(), Unterminated> {
    spans.clear();
    let (mut start, mut at, mut quoted) = (0, 0, false);
    while spans.len() < limit {
        let rest = &line[at..];
        match memchr::memchr2(delimiter, quote, rest) {
            Some(found) if rest[found] == delimiter => {
                spans.push(Span {
                    start,
                    end: at + found,
                    quoted,
                });
                at += found + 1;
                start = at;
                quoted = false;
            }
            Some(found) => {
                quoted = true;
                at = end_of_quotes(line, at + found + 1, quote, escape).ok_or(Unterminated)?;
            }
            None => {
                spans.push(Span {
                    start,
                    end: line.len(),
                    quoted,
                });
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Behind the quote that ends what begins at `at`.
fn end_of_quotes(line: &[u8], mut at: usize, quote: u8, escape: u8) -> Option<usize> {
    loop {
        at += memchr::memchr2(quote, escape, &line[at..])?;
        let next = line.get(at + 1).copied();
        if line[at] == escape && next.is_some_and(|next| next == escape || next == quote) {
            at += 2;
        } else if line[at] == quote {
            return Some(at + 1);
        } else {
            at += 1;
        }
    }
}

/// Appends what a field of text says.
pub fn read_text(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(found) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..found]);
        rest = &rest[found + 1..];
        // A backslash at the very end says nothing.
        let Some((&first, tail)) = rest.split_first() else {
            return;
        };
        rest = tail;
        let byte = match first {
            b'0'..=b'7' => digits(u32::from(first - b'0'), &mut rest, 8),
            b'x' => match rest.first().and_then(|digit| value_of(*digit, 16)) {
                Some(value) => {
                    rest = &rest[1..];
                    hexadecimal(value, &mut rest)
                }
                None => b'x',
            },
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            other => other,
        };
        out.push(byte);
    }
    out.extend_from_slice(rest);
}

fn value_of(digit: u8, radix: u32) -> Option<u32> {
    char::from(digit).to_digit(radix)
}

/// Up to two more octal digits.
fn digits(mut value: u32, rest: &mut &[u8], radix: u32) -> u8 {
    for _ in 0..2 {
        let Some(digit) = rest.first().and_then(|digit| value_of(*digit, radix)) else {
            break;
        };
        value = value * radix + digit;
        *rest = &rest[1..];
    }
    (value & 0xff) as u8
}

/// One more hexadecimal digit.
fn hexadecimal(value: u32, rest: &mut &[u8]) -> u8 {
    match rest.first().and_then(|digit| value_of(*digit, 16)) {
        Some(digit) => {
            *rest = &rest[1..];
            (value * 16 + digit) as u8
        }
        None => value as u8,
    }
}

/// Appends what a field of CSV says.
pub fn read_csv(raw: &[u8], quote: u8, escape: u8, out: &mut Vec<u8>) {
    let mut at = 0;
    let mut in_quotes = false;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        if !in_quotes {
            if byte == quote {
                in_quotes = true;
            } else {
                out.push(byte);
            }
            continue;
        }
        let next = raw.get(at).copied();
        match next {
            Some(next) if byte == escape && (next == escape || next == quote) => {
                out.push(next);
                at += 1;
            }
            _ if byte == quote => in_quotes = false,
            _ => out.push(byte),
        }
    }
}

/// Appends a value as text.
pub fn put_text(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    for &byte in value {
        let escaped = match byte {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            b'\\' => b'\\',
            _ if byte == delimiter => byte,
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', escaped]);
    }
}

/// How CSV is written.
#[derive(Clone, Copy, Debug)]
pub struct CsvStyle<'a> {
    /// `DELIMITER`.
    pub delimiter: u8,
    /// `QUOTE`.
    pub quote: u8,
    /// `ESCAPE`.
    pub escape: u8,
    /// `NULL`: a value that looks like it stands in quotes.
    pub null: &'a [u8],
    /// The row has only this field: `\.` stands in quotes.
    pub single: bool,
}

impl CsvStyle<'_> {
    /// Whether a value stands in quotes if it need not.
    pub fn needs_quotes(&self, value: &[u8]) -> bool {
        let is_special = |byte: &u8| {
            *byte == self.delimiter || *byte == self.quote || matches!(byte, b'\n' | b'\r')
        };
        value == self.null || (self.single && value == b"\\.") || value.iter().any(is_special)
    }

    /// Appends a value.
    pub fn put(&self, value: &[u8], force: bool, out: &mut Vec<u8>) {
        if !force && !self.needs_quotes(value) {
            out.extend_from_slice(value);
            return;
        }
        out.push(self.quote);
        for &byte in value {
            if byte == self.quote || byte == self.escape {
                out.push(self.escape);
            }
            out.push(byte);
        }
        out.push(self.quote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> Vec<String> {
        let mut spans = Vec::new();
        split_text(line.as_bytes(), b'\t', 100, &mut spans);
        let read = |span: &Span| {
            let mut out = Vec::new();
            read_text(span.raw(line.as_bytes()), &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        spans.iter().map(read).collect()
    }

    fn csv(line: &str, escape: u8) -> Result<Vec<String>, Unterminated> {
        let mut spans = Vec::new();
        split_csv(line.as_bytes(), (b',', b'"', escape), 100, &mut spans)?;
        let read = |span: &Span| {
            let mut out = Vec::new();
            read_csv(span.raw(line.as_bytes()), b'"', escape, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        Ok(spans.iter().map(read).collect())
    }

    #[test]
    fn text_is_read_as_the_server_reads_it() {
        for (line, fields) in [
            ("", &[""][..]),
            ("a\tb", &["a", "b"]),
            ("a\\\tb\tc", &["a\tb", "c"]),
            ("\\b\\f\\n\\r\\t\\v\\\\\\q", &["\x08\x0c\n\r\t\x0b\\q"]),
            ("\\101\\1012\\7\\x41\\x4\\xg\\x", &["AA2\x07A\x04xgx"]),
            ("a\\", &["a"]),
            ("\t", &["", ""]),
        ] {
            assert_eq!(text(line), fields, "{line:?}");
        }
    }

    #[test]
    fn csv_is_read_as_the_server_reads_it() {
        for (line, fields) in [
            ("", &[""][..]),
            ("a,b", &["a", "b"]),
            ("\"a,b\",c", &["a,b", "c"]),
            ("\"a\"\"b\"", &["a\"b"]),
            ("a\"b,c\"d", &["ab,cd"]),
            ("\"\",", &["", ""]),
        ] {
            assert_eq!(csv(line, b'"').unwrap(), fields, "{line:?}");
        }
        assert_eq!(
            csv("\"a\\\"b\\\\\\c\",d", b'\\').unwrap(),
            ["a\"b\\\\c", "d"]
        );
        assert_eq!(csv("a,\"b", b'"'), Err(Unterminated));
    }

    #[test]
    fn what_is_written_reads_back() {
        let style = CsvStyle {
            delimiter: b',',
            quote: b'"',
            escape: b'\\',
            null: b"",
            single: true,
        };
        for value in [
            "",
            "a",
            "a,b",
            "\"",
            "\\",
            "\\.",
            "a\nb\tc\r\x0b\x0c\x08",
            "é",
        ] {
            let (mut as_text, mut as_csv) = (Vec::new(), Vec::new());
            put_text(value.as_bytes(), b'\t', &mut as_text);
            style.put(value.as_bytes(), false, &mut as_csv);
            assert_eq!(text(&String::from_utf8(as_text).unwrap()), [value]);
            assert_eq!(
                csv(&String::from_utf8(as_csv).unwrap(), b'\\').unwrap(),
                [value]
            );
        }
        let mut out = Vec::new();
        style.put(b"", false, &mut out);
        style.put(b"\\.", false, &mut out);
        style.put(b"x", true, &mut out);
        assert_eq!(out, b"\"\"\"\\\\.\"\"x\"");
    }
}
