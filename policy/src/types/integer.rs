//! `smallint`, `integer`, `bigint`.

use super::{DamagedValue, InputError, LogicalType, binary, encoding, radix};

/// Decimal with an optional sign and white space around it; since PostgreSQL 16 also what `radix` reads.
pub(super) fn input(kind: LogicalType, text: &str, release: u32) -> Result<Vec<u8>, InputError> {
    let range = || InputError::text_out_of_range(&kind.sql_name(), text);
    let read = if release >= radix::SINCE {
        parse_newer(least(kind), text.as_bytes())
    } else {
        parse(least(kind), text.as_bytes())
    };
    match read {
        Ok(value) => encode(kind, value).ok_or_else(range),
        Err(Unread::Syntax) => Err(InputError::syntax(&kind.sql_name(), text)),
        Err(Unread::Range) => Err(range()),
    }
}

fn least(kind: LogicalType) -> i64 {
    match kind {
        LogicalType::Int2 => i16::MIN.into(),
        LogicalType::Int4 => i32::MIN.into(),
        _ => i64::MIN,
    }
}

enum Unread {
    Syntax,
    Range,
}

/// `pg_strtoint64_safe` and its like, since PostgreSQL 16: what is out of range before its last digit is so whatever follows.
fn parse_newer(least: i64, text: &[u8]) -> Result<i64, Unread> {
    let greatest = u128::from(least.unsigned_abs());
    let blanks = |text: &[u8]| {
        text.iter()
            .take_while(|byte| encoding::is_space(**byte))
            .count()
    };
    let text = &text[blanks(text)..];
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (radix, text) = match text {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', b'o' | b'O', rest @ ..] => (8, rest),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest),
        _ => (10, text),
    };
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(radix);
    let (mut value, mut at) = (0_u128, 0);
    loop {
        if let Some(digit) = digit(at) {
            if value > greatest / u128::from(radix) {
                return Err(Unread::Range);
            }
            value = value * u128::from(radix) + u128::from(digit);
            at += 1;
        } else if text.get(at) == Some(&b'_') {
            at += 1;
            // A decimal number does not begin with one.
            if digit(at).is_none() || (radix == 10 && at == 1) {
                return Err(Unread::Syntax);
            }
        } else {
            break;
        }
    }
    if at == 0 || at + blanks(&text[at..]) != text.len() {
        return Err(Unread::Syntax);
    }
    let value = i128::try_from(value).map_err(|_| Unread::Range)?;
    i64::try_from(if negative { -value } else { value }).map_err(|_| Unread::Range)
}

/// Digits are counted downwards, since the least integer has no positive counterpart. What goes below it is out of
/// range whatever follows; then what follows is looked at, and then the sign.
fn parse(least: i64, text: &[u8]) -> Result<i64, Unread> {
    let start = text
        .iter()
        .position(|byte| !encoding::is_space(*byte))
        .ok_or(Unread::Syntax)?;
    let text = &text[start..];
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    if end == 0 {
        return Err(Unread::Syntax);
    }
    let mut value: i64 = 0;
    for byte in &text[..end] {
        let digit = i64::from(byte - b'0');
        let next = value
            .checked_mul(10)
            .and_then(|tens| tens.checked_sub(digit));
        value = next.filter(|next| *next >= least).ok_or(Unread::Range)?;
    }
    if !text[end..].iter().all(|byte| encoding::is_space(*byte)) {
        return Err(Unread::Syntax);
    }
    if negative {
        Ok(value)
    } else {
        value.checked_neg().ok_or(Unread::Range)
    }
}

/// The send form, or `None` if out of range.
pub(super) fn encode(kind: LogicalType, value: i64) -> Option<Vec<u8>> {
    Some(match kind {
        LogicalType::Int2 => i16::try_from(value).ok()?.to_be_bytes().to_vec(),
        LogicalType::Int4 => i32::try_from(value).ok()?.to_be_bytes().to_vec(),
        _ => value.to_be_bytes().to_vec(),
    })
}

pub(super) fn recv(kind: LogicalType, bytes: &[u8]) -> Result<Vec<u8>, InputError> {
    Ok(match kind {
        LogicalType::Int2 => binary::exactly::<2>(bytes)?.to_vec(),
        LogicalType::Int4 => binary::exactly::<4>(bytes)?.to_vec(),
        _ => binary::exactly::<8>(bytes)?.to_vec(),
    })
}

pub(super) fn read(kind: LogicalType, value: &[u8]) -> Result<i64, DamagedValue> {
    Ok(match kind {
        LogicalType::Int2 => i16::from_be_bytes(binary::stored(value)?).into(),
        LogicalType::Int4 => i32::from_be_bytes(binary::stored(value)?).into(),
        _ => i64::from_be_bytes(binary::stored(value)?),
    })
}

pub(super) fn output(
    kind: LogicalType,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DamagedValue> {
    write(read(kind, value)?, out);
    Ok(())
}

/// Decimal digits, without allocation.
pub(super) fn write(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}
