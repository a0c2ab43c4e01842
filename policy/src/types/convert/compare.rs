//! Operands of `=`: the one value of the column's type that equals the operand, or none.

use super::{
    Converted, damaged,
    numbers::{Number, exact_integer, to_float},
    plain_name,
    times::{date_as_timestamp, locals_of},
};
use crate::types::{
    FormatSettings, InputError,
    LogicalType::{self, *},
    Value,
    calendar::DAY,
    date,
    float::Float,
    integer,
    interval::Interval,
    numeric::Decimal,
    text, time_of_day, timestamp,
};

/// From here on a double equals several integers.
const EXACT_DOUBLES: f64 = 9_007_199_254_740_992.0;

pub(super) fn operand(
    value: &Value,
    from: LogicalType,
    to: LogicalType,
    settings: &FormatSettings,
) -> Result<Converted, InputError> {
    let bytes = value.as_bytes();
    let (from, to) = (from.without_modifiers(), to.without_modifiers());
    if !to.supports_equality() || !from.supports_equality() {
        return Err(no_operator(from, to));
    }
    match (from, to) {
        _ if from == to => Ok(Converted::Value(value.clone())),
        (Text | Varchar(_), Text | Varchar(_)) => Ok(Converted::Value(value.clone())),
        // Postgres compares char(n) with text as text without its blanks, with varchar as char(n).
        (Bpchar(_), Text) => Ok(Converted::from_bytes(text::without_blanks(bytes).to_vec())),
        (Bpchar(_), Varchar(_)) => Err(ambiguous("a value of type character")),
        (Text, Bpchar(_)) if bytes.ends_with(b" ") => Ok(Converted::NeverEqual),
        (Text | Varchar(_), Bpchar(_)) => Ok(Converted::Value(value.clone())),
        (
            Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_),
            Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_),
        ) => number(Number::read(bytes, from)?, to),
        (Date | Timestamp(_) | Timestamptz(_), Date | Timestamp(_) | Timestamptz(_)) => {
            time(bytes, from, to, settings)
        }
        (Inet | Cidr, Inet | Cidr) => Ok(Converted::Value(value.clone())),
        (Time(_), Interval(..)) => {
            let (micros, _) = time_of_day::read(from, bytes).map_err(|_| damaged())?;
            let interval = Interval {
                micros,
                ..Interval::default()
            };
            Ok(Converted::from_bytes(interval.encode()))
        }
        (Interval(..), Time(_)) => {
            let span = Interval::read(bytes).map_err(|_| damaged())?.span();
            let micros = i64::try_from(span).ok();
            let micros = micros.filter(|micros| (0..=DAY).contains(micros));
            Ok(found(micros.map(|micros| micros.to_be_bytes().to_vec())))
        }
        // The offset that a time has today.
        (Time(_), Timetz(_)) => Err(ambiguous("a time without time zone")),
        (Timetz(_), Time(_)) => Err(ambiguous("a time with time zone")),
        _ => Err(no_operator(from, to)),
    }
}

fn no_operator(from: LogicalType, to: LogicalType) -> InputError {
    let message = format!(
        "operator does not exist: {} = {}",
        plain_name(to),
        plain_name(from)
    );
    InputError::new("42883", message).hint(
        "No operator matches the given name and argument types. You might need to add explicit type casts.",
    )
}

/// A comparison whose operand equals several values of the column's type, or values that are not known.
fn ambiguous(what: &str) -> InputError {
    InputError::unsupported(format!(
        "{what} cannot be compared with a protected column of another type"
    ))
    .hint("Cast the operand to the column's type.")
}

fn found(bytes: Option<Vec<u8>>) -> Converted {
    bytes.map_or(Converted::NeverEqual, Converted::from_bytes)
}

fn number(number: Number, to: LogicalType) -> Result<Converted, InputError> {
    match (to, &number) {
        (Int2 | Int4 | Int8, Number::Integer(value)) => Ok(found(integer::encode(to, *value))),
        (Int2 | Int4 | Int8, Number::Decimal(decimal)) => Ok(found(
            decimal
                .exact_i64()
                .and_then(|value| integer::encode(to, value)),
        )),
        (Int2 | Int4 | Int8, Number::Float(float)) => integer_equal_to(float.wide(), to),
        (Numeric(_), Number::Integer(value)) => Ok(found(Some(Decimal::from_i64(*value).encode()))),
        (Numeric(_), Number::Decimal(decimal)) => Ok(found(Some(decimal.encode()))),
        // The column would be rounded to a double.
        (Numeric(_), Number::Float(_)) => Err(ambiguous("a floating-point number")),
        // Both sides become double precision.
        _ => Ok(float_equal_to(to_float(&number, Float8)?.wide(), to)),
    }
}

/// The column's integers are compared as doubles.
fn integer_equal_to(value: f64, to: LogicalType) -> Result<Converted, InputError> {
    let Some(integer) = exact_integer(value) else {
        // 2^63 itself is what the greatest bigints are rounded to.
        return if to == Int8 && value == -(i64::MIN as f64) {
            Err(ambiguous("a floating-point number of this size"))
        } else {
            Ok(Converted::NeverEqual)
        };
    };
    if to == Int8 && value.abs() >= EXACT_DOUBLES {
        return Err(ambiguous("a floating-point number of this size"));
    }
    Ok(found(integer::encode(to, integer)))
}

fn float_equal_to(value: f64, to: LogicalType) -> Converted {
    if to == Float8 {
        return found(Some(Float::Double(value).encode()));
    }
    let narrow = value as f32;
    let equal = value.is_nan() || f64::from(narrow) == value;
    found(equal.then(|| Float::Single(narrow).encode()))
}

fn time(
    bytes: &[u8],
    from: LogicalType,
    to: LogicalType,
    settings: &FormatSettings,
) -> Result<Converted, InputError> {
    if from == Date {
        let days = date::read(bytes).map_err(|_| damaged())?;
        let Some(local) = date_as_timestamp(days) else {
            return Ok(Converted::NeverEqual);
        };
        return local_operand(local, to, settings);
    }
    let micros = timestamp::read(bytes).map_err(|_| damaged())?;
    if !matches!(from, Timestamptz(_)) {
        return local_operand(micros, to, settings);
    }
    // The column's local times are compared as instants of the session's zone.
    let mut locals = locals_of(micros, settings)?;
    if to == Date {
        locals.retain(|local| midnight(*local).is_some());
    }
    match locals.as_slice() {
        [] => Ok(Converted::NeverEqual),
        [local] => local_operand(*local, to, settings),
        _ => Err(ambiguous("an instant at which clocks changed")),
    }
}

/// A local time compared with a column of `to`.
fn local_operand(
    local: i64,
    to: LogicalType,
    settings: &FormatSettings,
) -> Result<Converted, InputError> {
    match to {
        Date => Ok(found(
            midnight(local).map(|days| days.to_be_bytes().to_vec()),
        )),
        Timestamptz(_) if !timestamp::is_infinite(local) => {
            let zone = timestamp::session_zone(settings)?;
            let micros = timestamp::to_utc(local, &zone).and_then(timestamp::in_range);
            Ok(found(micros.map(|micros| micros.to_be_bytes().to_vec())))
        }
        _ => Ok(found(Some(local.to_be_bytes().to_vec()))),
    }
}

/// The date whose midnight it is.
fn midnight(local: i64) -> Option<i32> {
    match local {
        timestamp::INFINITY => Some(date::INFINITY),
        timestamp::MINUS_INFINITY => Some(date::MINUS_INFINITY),
        // A date beyond the last timestamp equals none.
        _ if local.rem_euclid(DAY) == 0 => {
            timestamp::in_range(local).and_then(|local| date::in_range(local.div_euclid(DAY)))
        }
        _ => None,
    }
}
