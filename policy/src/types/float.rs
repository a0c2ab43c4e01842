//! `real` and `double precision`. The shortest digits come from Rust, the notation is Postgres's.

mod digits;

use std::borrow::Cow;

use super::{DamagedValue, InputError, LogicalType, binary, encoding};

pub(super) use digits::rounded;
use digits::{notation, shortest};

/// A float's width decides its digits and thresholds.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Float {
    Single(f32),
    Double(f64),
}

impl Float {
    pub(super) fn read(kind: LogicalType, value: &[u8]) -> Result<Self, DamagedValue> {
        Ok(match kind {
            LogicalType::Float4 => Self::Single(f32::from_be_bytes(binary::stored(value)?)),
            _ => Self::Double(f64::from_be_bytes(binary::stored(value)?)),
        })
    }

    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            Self::Single(value) => value.to_be_bytes().to_vec(),
            Self::Double(value) => value.to_be_bytes().to_vec(),
        }
    }

    /// Exact.
    pub(super) fn wide(self) -> f64 {
        match self {
            Self::Single(value) => f64::from(value),
            Self::Double(value) => value,
        }
    }

    /// The absolute value as an integer times a power of two.
    fn parts(self) -> (u128, i32) {
        let (bits, width, bias) = match self {
            Self::Single(value) => (u64::from(value.to_bits() << 1 >> 1), 23, 150),
            Self::Double(value) => (value.to_bits() << 1 >> 1, 52, 1075),
        };
        let fraction = u128::from(bits & ((1 << width) - 1));
        match (bits >> width) as i32 {
            0 => (fraction, 1 - bias),
            exponent => (fraction | 1 << width, exponent - bias),
        }
    }

    /// Decimal digits that are always right: `FLT_DIG`, `DBL_DIG`.
    pub(super) fn sure_digits(self) -> i32 {
        match self {
            Self::Single(_) => 6,
            Self::Double(_) => 15,
        }
    }
}

/// Decimal notation, `Infinity`, `inf`, `NaN`, any case. The hexadecimal notation and `nan(...)`, which the
/// server's C library may accept, are refused.
pub(super) fn input(kind: LogicalType, text: &str) -> Result<Vec<u8>, InputError> {
    parse(kind, text).map(Float::encode)
}

/// As [`input`].
pub(super) fn parse(kind: LogicalType, text: &str) -> Result<Float, InputError> {
    let word = encoding::trim(text);
    let syntax = || InputError::syntax(&kind.sql_name(), text);
    let (negative, unsigned) = match word.as_bytes().first() {
        Some(b'-') => (true, &word[1..]),
        Some(b'+') => (false, &word[1..]),
        _ => (false, word),
    };
    let special = special(unsigned);
    if let Some(value) = special {
        let value = if negative { -value } else { value };
        return Ok(if kind == LogicalType::Float4 {
            Float::Single(value as f32)
        } else {
            Float::Double(value)
        });
    }
    if is_foreign_notation(unsigned) {
        return Err(InputError::unsupported(format!(
            "this notation of a {} is not supported on a protected column",
            kind.sql_name()
        ))
        .hint("Write the number in decimal notation."));
    }
    let length = decimal_length(unsigned.as_bytes());
    let number = &word[..word.len() - unsigned.len() + length];
    let value = match kind {
        _ if length == 0 => return Err(syntax()),
        LogicalType::Float4 => Float::Single(number.parse().map_err(|_| syntax())?),
        _ => Float::Double(number.parse().map_err(|_| syntax())?),
    };
    let mantissa = unsigned
        .bytes()
        .take_while(|byte| !matches!(byte, b'e' | b'E'));
    let is_zero = !mantissa
        .take(length)
        .any(|byte| matches!(byte, b'1'..=b'9'));
    let wide = value.wide();
    // Noticed before what follows the number.
    if wide.is_infinite() || (wide == 0.0 && !is_zero) {
        let quoted = if kind == LogicalType::Float4 {
            text
        } else {
            number
        };
        return Err(InputError::new(
            "22003",
            format!("\"{quoted}\" is out of range for type {}", kind.sql_name()),
        ));
    }
    if length < unsigned.len() {
        Err(syntax())
    } else {
        Ok(value)
    }
}

fn special(word: &str) -> Option<f64> {
    let is = |name: &str| word.eq_ignore_ascii_case(name);
    if is("nan") {
        Some(f64::NAN)
    } else if is("inf") || is("infinity") {
        Some(f64::INFINITY)
    } else {
        None
    }
}

/// What C's `strtod` reads beyond the SQL standard.
fn is_foreign_notation(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let hex = lower
        .strip_prefix("0x")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit() || c == '.'));
    hex || (lower.starts_with("nan(") && lower.ends_with(')'))
}

/// How much of the text is a number as C's `strtod` reads it: digits with at most one point and at least one digit, then
/// an exponent if it has digits.
fn decimal_length(text: &[u8]) -> usize {
    let digits = |from: usize| {
        text[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let whole = digits(0);
    let mut end = whole;
    let mut fraction = 0;
    if text.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        end += 1 + fraction;
    }
    if whole + fraction == 0 {
        return 0;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = if end + 1 + sign <= text.len() {
            digits(end + 1 + sign)
        } else {
            0
        };
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end
}

pub(super) fn recv(kind: LogicalType, bytes: &[u8]) -> Result<Vec<u8>, InputError> {
    Ok(match kind {
        LogicalType::Float4 => binary::exactly::<4>(bytes)?.to_vec(),
        _ => binary::exactly::<8>(bytes)?.to_vec(),
    })
}

/// One zero, one NaN.
pub(super) fn canonical(kind: LogicalType, value: &[u8]) -> Cow<'_, [u8]> {
    let Ok(float) = Float::read(kind, value) else {
        return Cow::Borrowed(value);
    };
    let wide = float.wide();
    if wide != 0.0 && !wide.is_nan() {
        return Cow::Borrowed(value);
    }
    let plain = if wide.is_nan() { f64::NAN } else { 0.0 };
    Cow::Owned(match float {
        Float::Single(_) => Float::Single(plain as f32).encode(),
        Float::Double(_) => Float::Double(plain).encode(),
    })
}

pub(super) fn output(
    kind: LogicalType,
    value: &[u8],
    extra_digits: i32,
    out: &mut Vec<u8>,
) -> Result<(), DamagedValue> {
    let text = text(Float::read(kind, value)?, extra_digits);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// The text form under `extra_float_digits`.
pub(super) fn text(float: Float, extra_digits: i32) -> String {
    let wide = float.wide();
    if wide.is_nan() {
        return "NaN".into();
    }
    if wide.is_infinite() {
        return if wide > 0.0 {
            "Infinity".into()
        } else {
            "-Infinity".into()
        };
    }
    if extra_digits > 0 {
        let threshold = float.sure_digits();
        return notation(&shortest(float), threshold);
    }
    rounded(wide, (float.sure_digits() + extra_digits).max(1))
}
