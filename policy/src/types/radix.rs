//! What the input functions of integers and numerics read since PostgreSQL 16: hexadecimal, octal and binary
//! integers, and underscores between digits. It rewrites such a text as the plain decimal that older servers read.

use std::borrow::Cow;

/// The first release whose input functions read these forms.
pub(super) const SINCE: u32 = 16;

/// Hexadecimal digits of the longest numeric; a longer one overflows whatever it holds.
const LONGEST: usize = 131_072;

/// Decimal digits in a limb.
const LIMB_DIGITS: usize = 9;
const LIMB: u64 = 1_000_000_000;

/// `word`, trimmed, without the newer spellings; as it is if there are none, or if they are wrong: then the older
/// rules refuse it too.
pub(super) fn plain(word: &str) -> Cow<'_, str> {
    let (sign, digits) = match word.as_bytes() {
        [b'-' | b'+', ..] => word.split_at(1),
        _ => ("", word),
    };
    let radix = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        _ => {
            return without_underscores(word);
        }
    };
    match decimal(&digits.as_bytes()[2..], radix) {
        Some(text) => Cow::Owned(format!("{sign}{text}")),
        None => Cow::Borrowed(word),
    }
}

/// An underscore stands between two digits.
fn without_underscores(word: &str) -> Cow<'_, str> {
    let bytes = word.as_bytes();
    let is_digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let mut found = false;
    for at in memchr::memchr_iter(b'_', bytes) {
        if !(is_digit(at.checked_sub(1)) && is_digit(Some(at + 1))) {
            return Cow::Borrowed(word);
        }
        found = true;
    }
    if found {
        Cow::Owned(word.replace('_', ""))
    } else {
        Cow::Borrowed(word)
    }
}

/// The decimal digits of what follows `0x`, `0o` or `0b`. An underscore comes before a digit.
fn decimal(text: &[u8], radix: u32) -> Option<String> {
    let mut limbs: Vec<u64> = vec![0];
    let mut count = 0;
    let mut after_underscore = false;
    for byte in text {
        if *byte == b'_' && !after_underscore {
            after_underscore = true;
            continue;
        }
        let digit = char::from(*byte).to_digit(radix)?;
        after_underscore = false;
        count += 1;
        if count <= LONGEST {
            push(&mut limbs, u64::from(radix), u64::from(digit));
        }
    }
    if count == 0 || after_underscore {
        return None;
    }
    let mut out = limbs
        .last()
        .map_or_else(String::new, |first| first.to_string());
    for limb in limbs.iter().rev().skip(1) {
        out.push_str(&format!("{limb:0LIMB_DIGITS$}"));
    }
    Some(out)
}

fn push(limbs: &mut Vec<u64>, radix: u64, digit: u64) {
    let mut carry = digit;
    for limb in limbs.iter_mut() {
        let value = *limb * radix + carry;
        (*limb, carry) = (value % LIMB, value / LIMB);
    }
    if carry > 0 {
        limbs.push(carry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_spellings_become_decimals() {
        for (word, decimal) in [
            ("0x1F", "31"),
            ("-0Xff", "-255"),
            ("+0o17", "+15"),
            ("0b_1_0", "2"),
            ("1_000", "1000"),
            ("1_0.0_1e1_0", "10.01e10"),
            (
                "0xffffffffffffffffffffffff",
                "79228162514264337593543950335",
            ),
            ("0x3B9ACA00", "1000000000"),
        ] {
            assert_eq!(plain(word), decimal);
        }
    }

    #[test]
    fn what_is_wrong_stays_wrong() {
        for word in [
            "", "0x", "0x_", "0x1_", "0x1__2", "0o8", "0b2", "0xg", "_1", "1_", "1__0", "1_.5",
            "1._5", "1e_1", "-", "0x1.5",
        ] {
            assert_eq!(plain(word), word);
        }
    }
}
