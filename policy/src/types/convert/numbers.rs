//! Casts among integers, floats and numerics.

use super::damaged;
use crate::types::{
    InputError,
    LogicalType::{self, *},
    float::{self, Float},
    integer,
    numeric::Decimal,
};

/// A number of any type.
pub(super) enum Number {
    Integer(i64),
    Float(Float),
    Decimal(Decimal),
}

impl Number {
    pub(super) fn read(value: &[u8], kind: LogicalType) -> Result<Self, InputError> {
        Ok(match kind {
            Int2 | Int4 | Int8 => Self::Integer(integer::read(kind, value).map_err(|_| damaged())?),
            Float4 | Float8 => Self::Float(Float::read(kind, value).map_err(|_| damaged())?),
            _ => Self::Decimal(Decimal::read(value).map_err(|_| damaged())?),
        })
    }
}

pub(super) fn assign(
    value: &[u8],
    from: LogicalType,
    to: LogicalType,
) -> Result<Vec<u8>, InputError> {
    let number = Number::read(value, from)?;
    match to {
        Int2 | Int4 | Int8 => {
            let wide = to_integer(number, to)?;
            wide.and_then(|wide| integer::encode(to, wide))
                .ok_or_else(|| InputError::out_of_range(&to.sql_name()))
        }
        Float4 | Float8 => Ok(to_float(&number, to)?.encode()),
        _ => {
            let modifiers = if let Numeric(modifiers) = to {
                modifiers
            } else {
                None
            };
            Ok(to_decimal(number)?.assign(modifiers)?.encode())
        }
    }
}

/// Floats round half to even, numerics half away from zero. `None` if it is no `bigint`.
fn to_integer(number: Number, to: LogicalType) -> Result<Option<i64>, InputError> {
    Ok(match number {
        Number::Integer(value) => Some(value),
        Number::Float(float) => exact_integer(float.wide().round_ties_even()),
        Number::Decimal(decimal) if decimal.is_special() => {
            let what = if decimal.is_nan() { "NaN" } else { "infinity" };
            return Err(InputError::new(
                "0A000",
                format!("cannot convert {what} to {}", to.sql_name()),
            ));
        }
        Number::Decimal(decimal) => decimal.round(0).exact_i64(),
    })
}

/// The integer that a float is exactly.
pub(super) fn exact_integer(value: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (value.trunc() == value && (-LIMIT..LIMIT).contains(&value)).then_some(value as i64)
}

pub(super) fn to_float(number: &Number, to: LogicalType) -> Result<Float, InputError> {
    match number {
        Number::Integer(value) if to == Float4 => Ok(Float::Single(*value as f32)),
        Number::Integer(value) => Ok(Float::Double(*value as f64)),
        Number::Float(float) if to == Float8 => Ok(Float::Double(float.wide())),
        Number::Float(Float::Single(value)) => Ok(Float::Single(*value)),
        Number::Float(Float::Double(value)) => narrow(*value),
        Number::Decimal(decimal) => float::parse(to, &decimal.text()),
    }
}

fn narrow(value: f64) -> Result<Float, InputError> {
    let narrow = value as f32;
    if narrow.is_infinite() && value.is_finite() {
        return Err(InputError::new("22003", "value out of range: overflow"));
    }
    if narrow == 0.0 && value != 0.0 {
        return Err(InputError::new("22003", "value out of range: underflow"));
    }
    Ok(Float::Single(narrow))
}

/// A float has as many digits as are always right.
fn to_decimal(number: Number) -> Result<Decimal, InputError> {
    Ok(match number {
        Number::Integer(value) => Decimal::from_i64(value),
        Number::Decimal(decimal) => decimal,
        Number::Float(float) => {
            let wide = float.wide();
            if wide.is_nan() {
                Decimal::nan()
            } else if wide.is_infinite() {
                Decimal::infinity(wide < 0.0)
            } else {
                Decimal::parse(&float::rounded(wide, float.sure_digits()))?
            }
        }
    })
}
