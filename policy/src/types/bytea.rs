//! `bytea`: hex and escape formats.

use super::InputError;

/// `\x` and hex digits, or the escape format.
pub(super) fn input(text: &str) -> Result<Vec<u8>, InputError> {
    match text.strip_prefix("\\x") {
        Some(digits) => hex(digits),
        None => escaped(text.as_bytes()),
    }
}

/// White space may stand between pairs of digits, not within one.
fn hex(text: &str) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\n', '\t', '\r']);
        let Some(high) = rest.chars().next() else {
            return Ok(bytes);
        };
        let high_nibble = nibble(high)?;
        rest = &rest[1..];
        let Some(low) = rest.chars().next() else {
            return Err(InputError::new(
                "22023",
                "invalid hexadecimal data: odd number of digits",
            ));
        };
        bytes.push(high_nibble << 4 | nibble(low)?);
        rest = &rest[1..];
    }
}

fn nibble(digit: char) -> Result<u8, InputError> {
    digit
        .to_digit(16)
        .map(|value| value as u8)
        .ok_or_else(|| InputError::new("22023", format!("invalid hexadecimal digit: \"{digit}\"")))
}

/// A backslash starts `\\` or three octal digits.
fn escaped(text: &[u8]) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Ok(bytes),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                rest @ ..,
            ] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            [b'\\', ..] => {
                return Err(InputError::new(
                    "22P02",
                    "invalid input syntax for type bytea",
                ));
            }
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        }
    }
}

pub(super) fn output(value: &[u8], escape: bool, out: &mut Vec<u8>) {
    if escape {
        output_escaped(value, out);
        return;
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + value.len() * 2);
    out.extend_from_slice(b"\\x");
    for byte in value {
        out.extend_from_slice(&[
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]);
    }
}

fn output_escaped(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x20..=0x7e => out.push(*byte),
            _ => out.extend_from_slice(&[
                b'\\',
                b'0' + (byte >> 6),
                b'0' + (byte >> 3 & 7),
                b'0' + (byte & 7),
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hex_and_escape() {
        assert_eq!(input("\\x 0aFF 00").unwrap(), [0x0a, 0xff, 0]);
        assert_eq!(input("a\\\\b\\001").unwrap(), b"a\\b\x01");
        assert_eq!(
            input("\\x0").unwrap_err().message,
            "invalid hexadecimal data: odd number of digits"
        );
        assert_eq!(
            input("\\x0é").unwrap_err().message,
            "invalid hexadecimal digit: \"é\""
        );
        assert_eq!(input("\\400").unwrap_err().sqlstate, "22P02");
    }
}
