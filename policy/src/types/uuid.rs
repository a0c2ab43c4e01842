//! `uuid`.

use super::{DamagedValue, InputError, binary};

/// 32 hex digits; braces around them, and a hyphen after any group of four, are allowed.
pub(super) fn input(text: &str) -> Result<Vec<u8>, InputError> {
    parse(text.as_bytes()).ok_or_else(|| InputError::syntax("uuid", text))
}

fn parse(text: &[u8]) -> Option<Vec<u8>> {
    let mut rest = match text {
        [b'{', inner @ .., b'}'] => inner,
        _ => text,
    };
    let mut bytes = Vec::with_capacity(16);
    for index in 0..16 {
        let (pair, after) = rest.split_first_chunk::<2>()?;
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        bytes.push((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8);
        rest = match after {
            [b'-', after @ ..] if index % 2 == 1 && index < 15 => after,
            _ => after,
        };
    }
    rest.is_empty().then_some(bytes)
}

pub(super) fn recv(bytes: &[u8]) -> Result<Vec<u8>, InputError> {
    Ok(binary::exactly::<16>(bytes)?.to_vec())
}

pub(super) fn output(value: &[u8], out: &mut Vec<u8>) -> Result<(), DamagedValue> {
    let bytes = binary::stored::<16>(value)?;
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]);
    }
    Ok(())
}
