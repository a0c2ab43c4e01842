//! `jsonb`: a version byte and the text that the server prints: keys once, by length and bytes; numbers as `numeric`.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::{
    DamagedValue, InputError, encoding,
    json::{self, Literal, Sink},
    numeric::Decimal,
};

/// First byte of the send form.
const VERSION: u8 = 1;
/// Longest text of a document. Numbers may print much longer than they are written.
const MAX_TEXT: usize = 0x0fff_ffff;
/// Longest string or key.
const MAX_STRING: usize = 0x0fff_ffff;

pub(super) fn input(text: &str) -> Result<Vec<u8>, InputError> {
    normalise(text, false)
}

/// The receive function checks version and text.
pub(super) fn recv(bytes: &[u8]) -> Result<Vec<u8>, InputError> {
    match bytes {
        [] => Err(InputError::truncated()),
        [VERSION, text @ ..] => input(encoding::utf8(text)?),
        [version, ..] => Err(InputError::new(
            "XX000",
            format!("unsupported jsonb version number {version}"),
        )),
    }
}

/// The stored text.
pub(super) fn read(value: &[u8]) -> Result<&str, DamagedValue> {
    match value {
        [VERSION, text @ ..] => std::str::from_utf8(text).map_err(|_| DamagedValue),
        _ => Err(DamagedValue),
    }
}

/// Numbers without their display scale: 1.0 equals 1.00.
pub(super) fn canonical(value: &[u8]) -> Cow<'_, [u8]> {
    match read(value).ok().and_then(|text| normalise(text, true).ok()) {
        Some(bytes) => Cow::Owned(bytes),
        None => Cow::Borrowed(value),
    }
}

fn normalise(text: &str, least_scale: bool) -> Result<Vec<u8>, InputError> {
    let mut writer = Writer {
        out: Zeroizing::new(Vec::with_capacity(text.len() + 1)),
        open: Vec::new(),
        least_scale,
    };
    writer.out.push(VERSION);
    json::parse(text, &mut writer)?;
    Ok(std::mem::take(&mut *writer.out))
}

/// Writes values as they come. An object's values stand one after the other until its end, when they are put in order.
struct Writer {
    out: Zeroizing<Vec<u8>>,
    open: Vec<Open>,
    least_scale: bool,
}

enum Open {
    Array { is_empty: bool },
    Object(Object),
}

struct Object {
    /// Where its values begin in `out`.
    start: usize,
    keys: Zeroizing<Vec<u8>>,
    members: Vec<Member>,
}

/// Where a member's key ends in `keys`, and its value in `out`; each begins where the one before ends.
struct Member {
    key_end: usize,
    value_end: usize,
}

impl Writer {
    fn begin_value(&mut self) {
        if let Some(Open::Array { is_empty }) = self.open.last_mut()
            && !std::mem::replace(is_empty, false)
        {
            self.out.extend_from_slice(b", ");
        }
    }

    fn end_value(&mut self) {
        if let Some(Open::Object(object)) = self.open.last_mut()
            && let Some(member) = object.members.last_mut()
        {
            member.value_end = self.out.len();
        }
    }
}

impl Sink for Writer {
    const DECODES: bool = true;

    fn begin_object(&mut self) {
        self.begin_value();
        let object = Object {
            start: self.out.len(),
            keys: Zeroizing::default(),
            members: Vec::new(),
        };
        self.open.push(Open::Object(object));
    }

    fn end_object(&mut self) {
        if let Some(Open::Object(object)) = self.open.pop() {
            let text = object.text(&self.out);
            self.out.truncate(object.start);
            self.out.extend_from_slice(&text);
        }
        self.end_value();
    }

    fn begin_array(&mut self) {
        self.begin_value();
        self.out.push(b'[');
        self.open.push(Open::Array { is_empty: true });
    }

    fn end_array(&mut self) {
        self.open.pop();
        self.out.push(b']');
        self.end_value();
    }

    fn key(&mut self, key: &str) -> Result<(), InputError> {
        check_length(key)?;
        if let Some(Open::Object(object)) = self.open.last_mut() {
            object.keys.extend_from_slice(key.as_bytes());
            object.members.push(Member {
                key_end: object.keys.len(),
                value_end: self.out.len(),
            });
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), InputError> {
        check_length(text)?;
        self.begin_value();
        write_string(text.as_bytes(), &mut self.out);
        self.end_value();
        Ok(())
    }

    fn number(&mut self, text: &str) -> Result<(), InputError> {
        self.begin_value();
        let number = Decimal::parse(text)?.assign(None)?;
        let number = if self.least_scale {
            number.with_least_scale()
        } else {
            number
        };
        number.write(&mut self.out);
        if self.out.len() > MAX_TEXT {
            return Err(InputError::new(
                "54000",
                format!("jsonb text exceeds {MAX_TEXT} bytes"),
            ));
        }
        self.end_value();
        Ok(())
    }

    fn literal(&mut self, literal: Literal) {
        self.begin_value();
        self.out.extend_from_slice(match literal {
            Literal::Null => b"null",
            Literal::True => b"true",
            Literal::False => b"false",
        });
        self.end_value();
    }
}

impl Object {
    /// Its text; `out` holds its values. Of members with one key the last counts.
    fn text(&self, out: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut members: Vec<(&[u8], &[u8])> = Vec::with_capacity(self.members.len());
        let (mut key_start, mut value_start) = (0, self.start);
        for member in &self.members {
            members.push((
                &self.keys[key_start..member.key_end],
                &out[value_start..member.value_end],
            ));
            (key_start, value_start) = (member.key_end, member.value_end);
        }
        // Stable: the last of equal keys is the last of its run.
        members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        let mut text = Zeroizing::new(Vec::with_capacity(
            out.len() - self.start + self.keys.len() + 6 * members.len() + 2,
        ));
        text.push(b'{');
        for (index, (key, value)) in members.iter().enumerate() {
            if members.get(index + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            if text.len() > 1 {
                text.extend_from_slice(b", ");
            }
            write_string(key, &mut text);
            text.extend_from_slice(b": ");
            text.extend_from_slice(value);
        }
        text.push(b'}');
        text
    }
}

fn check_length(text: &str) -> Result<(), InputError> {
    if text.len() <= MAX_STRING {
        return Ok(());
    }
    Err(
        InputError::new("54000", "string too long to represent as jsonb string").detail(format!(
            "Due to an implementation restriction, jsonb strings cannot exceed {MAX_STRING} bytes."
        )),
    )
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            ..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(input: &str) -> String {
        let bytes = super::input(input).unwrap();
        read(&bytes).unwrap().to_owned()
    }

    #[test]
    fn prints_as_the_server_prints() {
        assert_eq!(
            text(r#" {"bb":1,"a":[ ],"b":{"x":1.00,"x":[1,2 ,"é\u00e9"]}} "#),
            r#"{"a": [], "b": {"x": [1, 2, "éé"]}, "bb": 1}"#
        );
        assert_eq!(
            text(r#""\u0001\b\f\n\r\t\"\\\/\ud83d\ude00""#),
            "\"\\u0001\\b\\f\\n\\r\\t\\\"\\\\/😀\""
        );
        assert_eq!(
            text("[1e3, -0, 1.50, 1E-2, true, false, null, {}]"),
            "[1000, 0, 1.50, 0.01, true, false, null, {}]"
        );
    }

    #[test]
    fn equal_documents_have_one_canonical_form() {
        let canonical = |text: &str| canonical(&input(text).unwrap()).into_owned();
        assert_eq!(
            canonical(r#"{"a": 1.0, "b": [100]}"#),
            canonical(r#"{"b":[1e2],"a":1.000}"#)
        );
        assert_ne!(canonical("[1]"), canonical("1"));
        assert_ne!(canonical("\"1\""), canonical("1"));
    }

    #[test]
    fn refuses_what_the_server_refuses() {
        let state = |text: &str| input(text).unwrap_err().sqlstate;
        assert_eq!(state(r#""\u0000""#), "22P05");
        assert_eq!(state(r#""\ud800""#), "22P02");
        assert_eq!(state("1e131072"), "22003");
        assert_eq!(recv(b"\x02{}").unwrap_err().sqlstate, "XX000");
        assert_eq!(recv(b"").unwrap_err().sqlstate, "08P01");
    }
}
