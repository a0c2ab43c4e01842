//! The text forms of numerics that the input function reads.

use super::{DIGITS, Decimal, NEGATIVE, POSITIVE, overflow};
use crate::types::{InputError, encoding};

impl Decimal {
    /// The text of a number as the input function reads it, without modifiers.
    pub(in crate::types) fn parse(text: &str) -> Result<Self, InputError> {
        let syntax = || InputError::syntax("numeric", text);
        let word = encoding::trim(text);
        match Self::parse_special(word) {
            Some(value) => Ok(value),
            None => Self::parse_finite(word.as_bytes(), &syntax),
        }
    }

    fn parse_special(word: &str) -> Option<Self> {
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        if is("nan") {
            Some(Self::nan())
        } else if is("inf") || is("+inf") || is("infinity") || is("+infinity") {
            Some(Self::infinity(false))
        } else if is("-inf") || is("-infinity") {
            Some(Self::infinity(true))
        } else {
            None
        }
    }

    fn parse_finite(word: &[u8], syntax: &dyn Fn() -> InputError) -> Result<Self, InputError> {
        let (sign, word) = match word {
            [b'-', rest @ ..] => (NEGATIVE, rest),
            [b'+', rest @ ..] => (POSITIVE, rest),
            _ => (POSITIVE, word),
        };
        let count = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = count(word);
        let (fraction, rest): (&[u8], &[u8]) = match &word[whole..] {
            [b'.', after @ ..] => after.split_at(count(after)),
            rest => (&[], rest),
        };
        if whole + fraction.len() == 0 {
            return Err(syntax());
        }
        let (exponent, rest) = match rest {
            [b'e' | b'E', exponent @ ..] => parse_exponent(exponent).ok_or_else(syntax)?,
            _ => (0, rest),
        };
        if exponent.abs() >= i64::from(i32::MAX / 2) {
            return Err(overflow());
        }
        if !rest.is_empty() {
            return Err(syntax());
        }
        let scale = (fraction.len() as i64 - exponent).max(0);
        let first = whole as i64 - 1 + exponent;
        let digits = word[..whole].iter().chain(fraction).map(|byte| byte - b'0');
        Self::from_decimal_digits(sign, digits, whole + fraction.len(), first, scale)
    }

    /// From `count` decimal digits, the first of which stands for 10^`first`.
    fn from_decimal_digits(
        sign: u16,
        decimals: impl Iterator<Item = u8>,
        count: usize,
        first: i64,
        scale: i64,
    ) -> Result<Self, InputError> {
        let weight = first.div_euclid(i64::from(DIGITS));
        // How many leading zeros complete the first digit.
        let offset = (i64::from(DIGITS) - 1 - first.rem_euclid(i64::from(DIGITS))) as usize;
        let mut digits = vec![0_u16; (count + offset).div_ceil(DIGITS as usize)];
        for (index, decimal) in decimals.enumerate() {
            let place = index + offset;
            let power = [1000, 100, 10, 1][place % DIGITS as usize];
            digits[place / DIGITS as usize] += u16::from(decimal) * power;
        }
        let clamp = |n: i64| n.clamp(i64::from(i32::MIN / 2), i64::from(i32::MAX / 2)) as i32;
        Ok(Self {
            sign,
            weight: clamp(weight),
            scale: clamp(scale),
            digits,
        }
        .stripped())
    }
}

/// C's `strtol`: white space and a sign may precede the digits. The number and what follows; `None` without digits.
fn parse_exponent(text: &[u8]) -> Option<(i64, &[u8])> {
    let start = text.iter().position(|byte| !encoding::is_space(*byte))?;
    let (negative, text) = match &text[start..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let value = digits.iter().fold(0_i64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    });
    (end > 0).then_some((if negative { -value } else { value }, rest))
}
