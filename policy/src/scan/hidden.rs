//! Identifiers with Unicode escapes (`U&"d\0061t" UESCAPE '!'`): what they may name. It does not tell literals and
//! comments from the rest, since every real one is written so whatever stands around it.

/// How such an identifier begins.
pub(super) const BEGIN: &[u8] = b"u&\"";
/// A name of 63 bytes takes at most 8 bytes each with escapes; what is longer is not looked into.
const MAX_BODY: usize = 1024;
/// Escape characters that are tried when the text has an UESCAPE.
const MAX_ESCAPES: usize = 8;

/// The names that the identifier whose body begins at `at` can have: one for each escape character that may be
/// meant. `None` if there are too many to say.
pub(super) fn names(sql: &[u8], at: usize) -> Option<Vec<Vec<u8>>> {
    let Some(body) = body(&sql[at..]) else {
        // It does not end: the server takes it for an error.
        return Some(Vec::new());
    };
    if body.len() > MAX_BODY {
        return None;
    }
    let mut escapes = vec![b'\\'];
    if has_uescape(sql) {
        for byte in body.iter().copied().filter(|byte| may_escape(*byte)) {
            if !escapes.contains(&byte) {
                escapes.push(byte);
            }
        }
    }
    if escapes.len() > MAX_ESCAPES {
        return None;
    }
    Some(
        escapes
            .into_iter()
            .filter_map(|escape| decode(&body, escape))
            .collect(),
    )
}

/// Up to the closing quote, doubled ones made single.
fn body(from: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let mut rest = from;
    loop {
        let quote = rest.iter().position(|byte| *byte == b'"')?;
        body.extend_from_slice(&rest[..quote]);
        match rest.get(quote + 1) {
            Some(b'"') => body.push(b'"'),
            _ => return Some(body),
        }
        rest = &rest[quote + 2..];
    }
}

fn has_uescape(sql: &[u8]) -> bool {
    const WORD: &[u8] = b"uescape";
    sql.windows(WORD.len())
        .any(|window| window.eq_ignore_ascii_case(WORD))
}

/// parser.c: `check_uescapechar`.
fn may_escape(byte: u8) -> bool {
    !(byte.is_ascii_hexdigit() || matches!(byte, b'+' | b'\'' | b'"' | b' ' | b'\t'..=b'\r'))
}

/// parser.c: `str_udeescape`. `None` where the server reports an error.
fn decode(body: &[u8], escape: u8) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(body.len());
    let mut high = None;
    let mut rest = body;
    while let Some((&byte, behind)) = rest.split_first() {
        if byte != escape || behind.first() == Some(&escape) {
            if high.is_some() {
                return None;
            }
            name.push(byte);
            rest = &behind[usize::from(byte == escape)..];
            continue;
        }
        let (digits, width) = match behind.first() {
            Some(b'+') => (behind.get(1..7)?, 7),
            _ => (behind.get(..4)?, 4),
        };
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let point = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        rest = &behind[width..];
        let point = match (high.take(), point) {
            (None, 0xD800..0xDC00) => {
                high = Some(point);
                continue;
            }
            (Some(high), 0xDC00..0xE000) => 0x10000 + ((high - 0xD800) << 10) + (point - 0xDC00),
            (Some(_), _) => return None,
            (None, point) => point,
        };
        let mut utf8 = [0; 4];
        name.extend_from_slice(char::from_u32(point)?.encode_utf8(&mut utf8).as_bytes());
    }
    high.is_none().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Option<Vec<String>> {
        let at = sql
            .to_ascii_lowercase()
            .find("u&\"")
            .expect("has an identifier");
        let names = names(sql.as_bytes(), at + BEGIN.len())?;
        let text = |name| String::from_utf8(name).expect("UTF-8");
        Some(names.into_iter().map(text).collect())
    }

    #[test]
    fn reads_escapes_as_the_server_does() {
        for (sql, wanted) in [
            (r#"u&"d\0061t\+000061""#, "data"),
            (r#"U&"plain""#, "plain"),
            (r#"U&"a""b\\c""#, "a\"b\\c"),
            (r#"U&"\D83D\DE00""#, "\u{1F600}"),
        ] {
            assert_eq!(of(sql), Some(vec![wanted.to_owned()]), "{sql}");
        }
        for broken in [
            r#"U&"\006""#,
            r#"U&"\D83D""#,
            r#"U&"\D83Dx""#,
            r#"U&"\DE00""#,
            r#"U&"open"#,
        ] {
            assert_eq!(of(broken), Some(vec![]), "{broken}");
        }
    }

    #[test]
    fn tries_every_escape_that_a_uescape_may_name() {
        let names = of(r#"select U&"p!0065ople" uEscape '!'"#).expect("few");
        assert!(names.contains(&"people".to_owned()), "{names:?}");
        assert_eq!(of(r#"U&"ghijklmnopqr" UESCAPE 'g'"#), None);
        assert_eq!(of(&format!("U&\"{}\"", "x".repeat(2000))), None);
    }
}
