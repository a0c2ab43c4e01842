//! `macaddr` and `macaddr8`: six and eight bytes.

use super::{DamagedValue, InputError, LogicalType, binary, encoding::is_space};

pub(super) fn input(kind: LogicalType, text: &str) -> Result<Vec<u8>, InputError> {
    if kind == LogicalType::Macaddr8 {
        return eight(text).ok_or_else(|| InputError::syntax("macaddr8", text));
    }
    let octets = SHAPES
        .iter()
        .find_map(|shape| scan(text.as_bytes(), shape))
        .ok_or_else(|| InputError::syntax("macaddr", text))?;
    octets
        .into_iter()
        .map(u8::try_from)
        .collect::<Result<_, _>>()
        .map_err(|_| {
            InputError::new(
                "22003",
                format!("invalid octet value in \"macaddr\" value: \"{text}\""),
            )
        })
}

/// How octets are separated, and how many digits one may have.
struct Shape {
    width: usize,
    separators: [Option<u8>; 5],
}

const SHAPES: [Shape; 7] = {
    const fn shape(width: usize, separators: [Option<u8>; 5]) -> Shape {
        Shape { width, separators }
    }
    const COLON: Option<u8> = Some(b':');
    const DASH: Option<u8> = Some(b'-');
    const POINT: Option<u8> = Some(b'.');
    [
        shape(usize::MAX, [COLON; 5]),
        shape(usize::MAX, [DASH; 5]),
        shape(2, [None, None, COLON, None, None]),
        shape(2, [None, None, DASH, None, None]),
        shape(2, [None, POINT, None, POINT, None]),
        shape(2, [None, DASH, None, DASH, None]),
        shape(2, [None; 5]),
    ]
};

/// Six numbers as C's `scanf` reads them, and nothing behind but white space.
fn scan(text: &[u8], shape: &Shape) -> Option<[i32; 6]> {
    let mut octets = [0; 6];
    let mut rest = text;
    for (index, octet) in octets.iter_mut().enumerate() {
        (*octet, rest) = hexadecimal(rest, shape.width)?;
        if let Some(Some(separator)) = shape.separators.get(index) {
            rest = rest.strip_prefix(&[*separator])?;
        }
    }
    rest.iter().all(|byte| is_space(*byte)).then_some(octets)
}

/// White space, a sign, `0x`, digits; the sign and `0x` count into the width.
fn hexadecimal(text: &[u8], width: usize) -> Option<(i32, &[u8])> {
    let start = text.iter().position(|byte| !is_space(*byte))?;
    let text = &text[start..];
    let (field, beyond) = text.split_at(text.len().min(width));
    let (negative, digits) = match field {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, field),
    };
    let digits = match digits {
        [b'0', b'x' | b'X', rest @ ..] if rest.first().is_some_and(u8::is_ascii_hexdigit) => rest,
        // Eaten as a prefix without digits, it is no number.
        [b'0', b'x' | b'X', ..] => return None,
        _ => digits,
    };
    let count = digits
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    if count == 0 {
        return None;
    }
    let value = digits[..count].iter().fold(0_u64, |value, digit| {
        let digit = u64::from(char::from(*digit).to_digit(16).unwrap_or_default());
        match value.checked_mul(16) {
            Some(value) => value | digit,
            None => u64::MAX,
        }
    });
    let value = if negative {
        value.wrapping_neg()
    } else {
        value
    };
    let left = digits.len() - count + beyond.len();
    Some((value as i32, &text[text.len() - left..]))
}

/// Six or eight pairs of digits, all pairs separated alike or not at all.
fn eight(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    let start = text.iter().position(|byte| !is_space(*byte))?;
    let mut rest = &text[start..];
    let mut bytes = Vec::with_capacity(8);
    let mut spacer = None;
    while let [high, low, behind @ ..] = rest {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        if bytes.len() == 8 {
            return None;
        }
        bytes.push((nibble(*high)? << 4 | nibble(*low)?) as u8);
        rest = behind;
        if let [separator @ (b':' | b'-' | b'.'), behind @ ..] = rest {
            if *spacer.get_or_insert(*separator) != *separator {
                return None;
            }
            rest = behind;
        }
        if matches!(bytes.len(), 6 | 8) && rest.first().is_some_and(|byte| is_space(*byte)) {
            if !rest.iter().all(|byte| is_space(*byte)) {
                return None;
            }
            rest = &[];
        }
    }
    match bytes.len() {
        6 => Some(widened(&bytes)),
        8 => Some(bytes),
        _ => None,
    }
}

/// Six bytes as eight, with `FF:FE` between.
pub(super) fn widened(six: &[u8]) -> Vec<u8> {
    let (vendor, device) = six.split_at(six.len().min(3));
    [vendor, &[0xff, 0xfe], device].concat()
}

/// Eight bytes as six, if `FF:FE` is between.
pub(super) fn narrowed(eight: &[u8]) -> Result<Vec<u8>, InputError> {
    match eight {
        [a, b, c, 0xff, 0xfe, d, e, f] => Ok(vec![*a, *b, *c, *d, *e, *f]),
        _ => Err(InputError::new(
            "22003",
            "macaddr8 data out of range to convert to macaddr",
        )
        .hint(
            "Only addresses that have FF and FE as values in the 4th and 5th bytes from the left, for example \
             xx:xx:xx:ff:fe:xx:xx:xx, are eligible to be converted from macaddr8 to macaddr.",
        )),
    }
}

pub(super) fn recv(kind: LogicalType, bytes: &[u8]) -> Result<Vec<u8>, InputError> {
    let no_data = || InputError::new("08P01", "no data left in message");
    match (kind, bytes.len()) {
        (LogicalType::Macaddr8, 6) => Ok(widened(bytes)),
        (LogicalType::Macaddr8, _) => {
            let exact = binary::exactly::<8>(bytes);
            exact.map(|array| array.to_vec()).map_err(|error| {
                if error == InputError::truncated() {
                    no_data()
                } else {
                    error
                }
            })
        }
        (_, ..6) => Err(no_data()),
        _ => Ok(binary::exactly::<6>(bytes)?.to_vec()),
    }
}

pub(super) fn output(
    kind: LogicalType,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DamagedValue> {
    let expected = if kind == LogicalType::Macaddr8 { 8 } else { 6 };
    if value.len() != expected {
        return Err(DamagedValue);
    }
    for (index, byte) in value.iter().enumerate() {
        if index > 0 {
            out.push(b':');
        }
        out.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    Ok(())
}
