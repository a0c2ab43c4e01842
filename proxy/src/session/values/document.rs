//! `json` and `jsonb` documents with some of their strings replaced. Everything else stays byte for byte: the server
//! wrote the document, so it is well formed, and only its strings need to be told from the rest.

use super::codec::{Each, Malformed, Step, Stop};
use crate::session::results::stray_ciphertext;

/// How a sealed value begins inside a JSON string, with `bytea_output` `hex` and `escape`.
const BEGINNINGS: [&[u8]; 2] = [br"\\x50475601", br"PGV\\001"];

/// Replaces every string that is a sealed value by what `each` makes of it, given the string's text, or by `null`.
///
/// # Errors
/// `PV003` for a sealed value in a key or in the middle of a string: no rule lets one come there.
pub(super) fn text(document: &[u8], out: &mut Vec<u8>, each: &mut Each<'_>) -> Step {
    let finders = BEGINNINGS.map(memchr::memmem::Finder::new);
    let holds = |text: &[u8]| finders.iter().any(|finder| finder.find(text).is_some());
    if !holds(document) {
        out.extend_from_slice(document);
        return Ok(());
    }
    let mut rest = document;
    let mut decoded = Vec::new();
    while let Some(open) = memchr::memchr(b'"', rest) {
        let length = string_length(&rest[open + 1..])?;
        let string = &rest[open + 1..][..length];
        let behind = &rest[open + length + 2..];
        out.extend_from_slice(&rest[..open]);
        rest = behind;
        if !BEGINNINGS
            .iter()
            .any(|beginning| string.starts_with(beginning))
        {
            if holds(string) {
                return Err(stray_ciphertext().into());
            }
            out.push(b'"');
            out.extend_from_slice(string);
            out.push(b'"');
            continue;
        }
        let next = behind.iter().find(|byte| !byte.is_ascii_whitespace());
        if next == Some(&b':') {
            return Err(stray_ciphertext().into());
        }
        unescape(string, &mut decoded)?;
        let start = out.len();
        if !each(&decoded, out)? {
            out.truncate(start);
            out.extend_from_slice(b"null");
        }
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// How many bytes stand before the quote that ends a string.
fn string_length(string: &[u8]) -> Result<usize, Malformed> {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &string[at..]) {
        at += found;
        if string[at] == b'"' {
            return Ok(at);
        }
        at += 2;
        if at > string.len() {
            break;
        }
    }
    Err(Malformed("document"))
}

/// The text of a string that is a sealed value: of the escapes only those that `bytea` output needs can occur.
fn unescape(string: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
    out.clear();
    let mut bytes = string.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(escaped @ (b'\\' | b'"' | b'/')) => out.push(*escaped),
                _ => return Err(stray_ciphertext().into()),
            },
            byte => out.push(*byte),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::codec::testing::opened, *};

    fn text_of(document: &str) -> Option<String> {
        opened(|out, each| text(document.as_bytes(), out, each))
    }

    #[test]
    fn replaces_whole_strings_only_and_keeps_everything_else() {
        for (document, expected) in [
            ("[1, \"a\"]", "[1, \"a\"]"),
            ("{\"a\":\"\\\\x50475601ff\"}", "{\"a\":\\X50475601FF}"),
            ("\"\\\\x50475601ff\"", "\\X50475601FF"),
            (
                " { \"k\\\"\" : [ \"\\\\x50475601ff\" , null,\n \"x\\\\\" ] } ",
                " { \"k\\\"\" : [ \\X50475601FF , null,\n \"x\\\\\" ] } ",
            ),
            ("[\"PGV\\\\001\\\\000\"]", "[PGV\\001\\000]"),
        ] {
            assert_eq!(text_of(document).as_deref(), Some(expected), "{document}");
        }
    }

    #[test]
    fn shows_no_sealed_value_where_no_rule_puts_one() {
        for document in [
            "{\"\\\\x50475601ff\": 1}",
            "{\"\\\\x50475601ff\"\n : 1}",
            "[\"see \\\\x50475601ff\"]",
            "{\"see \\\\x50475601ff\":1}",
            "[\"\\\\x50475601ff\\u0041\"]",
            "[\"\\\\x50475601ff",
            "[\"\\\\x50475601ff\\",
        ] {
            assert_eq!(text_of(document), None, "{document}");
        }
    }
}
