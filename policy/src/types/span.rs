//! Intervals that are computed of numbers, texts and parameters: `3 * interval '1 day'`, `make_interval(hours => $1)`,
//! `($1 || ' minutes')::interval`. Makes of them what PostgreSQL makes; knows no statement.

use std::fmt;

use super::{
    FormatSettings, InputError, LogicalType, TextExpression, Value,
    calendar::{DAY, SECOND},
    float::Float,
    integer,
    interval::{self, Interval},
};

/// The value of a parameter (from 0) as this type; `None` is NULL.
pub type GivenAs<'g> = &'g dyn Fn(usize, LogicalType) -> Result<Option<Value>, InputError>;

/// An interval that a statement gives.
#[derive(Clone, PartialEq)]
pub enum Span {
    /// A literal, in its send form.
    Literal(Value),
    /// A parameter (from 0).
    Param(usize),
    /// What a text is read as.
    Text(TextExpression),
    /// `interval '1 day' * 3`
    Times(Box<Self>, Number),
    /// `make_interval(years, months, weeks, days, hours, mins, secs)`
    Made(Box<[Number; 7]>),
}

/// A number that a statement gives.
#[derive(Clone, Copy, PartialEq)]
pub enum Number {
    /// A literal.
    Literal(f64),
    /// A parameter (from 0).
    Param(usize),
}

/// With the date of a log it tells the value.
impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

/// The same.
impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

impl Number {
    /// The number as `float8`; `None` is NULL.
    fn float(self, given: GivenAs<'_>) -> Result<Option<f64>, InputError> {
        match self {
            Self::Literal(number) => Ok(Some(number)),
            Self::Param(param) => {
                let value = given(param, LogicalType::Float8)?;
                let read = |value: Value| Float::read(LogicalType::Float8, value.as_bytes());
                let number = value.map(read).transpose().map_err(damaged)?;
                Ok(number.map(Float::wide))
            }
        }
    }

    /// The number as `int4`; `None` is NULL.
    pub(super) fn integer(self, given: GivenAs<'_>) -> Result<Option<i32>, InputError> {
        match self {
            Self::Literal(number) => Ok(Some(number as i32)),
            Self::Param(param) => {
                let value = given(param, LogicalType::Int4)?;
                let read = |value: Value| integer::read(LogicalType::Int4, value.as_bytes());
                let number = value.map(read).transpose().map_err(damaged)?;
                Ok(number.map(|number| number as i32))
            }
        }
    }

    /// Whether it is written in the statement.
    pub(super) fn is_literal(self) -> bool {
        matches!(self, Self::Literal(_))
    }
}

impl Span {
    /// A literal, in its send form; `None`: it is infinite.
    pub fn literal(value: Value) -> Option<Self> {
        let interval = Interval::read(value.as_bytes()).ok()?;
        (!interval.is_infinite()).then_some(Self::Literal(value))
    }

    /// Whether any of it is written in the statement.
    pub fn holds_literal(&self) -> bool {
        match self {
            Self::Literal(_) => true,
            Self::Param(_) => false,
            Self::Text(text) => text.holds_literal(),
            Self::Times(span, number) => span.holds_literal() || number.is_literal(),
            Self::Made(numbers) => numbers
                .iter()
                .any(|number| !matches!(number, Number::Literal(0.0) | Number::Param(_))),
        }
    }

    /// Whether a parameter is part of it.
    pub(super) fn has_params(&self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Param(_) => true,
            Self::Text(text) => text.has_params(),
            Self::Times(span, number) => span.has_params() || !number.is_literal(),
            Self::Made(numbers) => !numbers.iter().all(|number| number.is_literal()),
        }
    }

    /// The interval; `None` is NULL.
    ///
    /// # Errors
    /// What PostgreSQL says of texts that are no intervals, and of intervals out of range.
    pub(super) fn made(
        &self,
        given: GivenAs<'_>,
        settings: &FormatSettings,
    ) -> Result<Option<Interval>, InputError> {
        let logical = LogicalType::Interval(None, None);
        let value = match self {
            Self::Literal(value) => Some(value.clone()),
            Self::Param(param) => given(*param, logical)?,
            Self::Text(text) => {
                let param = |index: usize| {
                    let value = given(index, LogicalType::Text)?;
                    value.map(|value| text_of(&value)).transpose()
                };
                match text.value(&param, settings)? {
                    Some(text) => Some(logical.input(text.as_bytes(), settings)?),
                    None => None,
                }
            }
            Self::Times(span, number) => {
                let (Some(span), Some(factor)) =
                    (span.made(given, settings)?, number.float(given)?)
                else {
                    return Ok(None);
                };
                return times(span, factor).ok_or_else(out_of_range).map(Some);
            }
            Self::Made(numbers) => return made_of(numbers, given),
        };
        let Some(value) = value else { return Ok(None) };
        let read = Interval::read(value.as_bytes()).map_err(damaged)?;
        if read.is_infinite() {
            return Err(interval::infinite());
        }
        Ok(Some(read))
    }
}

fn text_of(value: &Value) -> Result<zeroize::Zeroizing<String>, InputError> {
    let text = std::str::from_utf8(value.as_bytes());
    let text = text.map_err(|_| InputError::new("22021", "not a text in UTF-8"))?;
    Ok(zeroize::Zeroizing::new(text.to_owned()))
}

fn damaged(_: super::DamagedValue) -> InputError {
    InputError::binary("incorrect binary data format")
}

pub(super) fn out_of_range() -> InputError {
    InputError::new("22008", "interval out of range")
}

/// `make_interval`: NULL if any of its numbers is.
fn made_of(numbers: &[Number; 7], given: GivenAs<'_>) -> Result<Option<Interval>, InputError> {
    let mut whole = [0_i64; 6];
    for (place, number) in whole.iter_mut().zip(numbers) {
        match number.integer(given)? {
            Some(number) => *place = i64::from(number),
            None => return Ok(None),
        }
    }
    let [_, _, _, _, _, _, seconds] = numbers;
    let Some(seconds) = seconds.float(given)? else {
        return Ok(None);
    };
    let [years, months, weeks, days, hours, minutes] = whole;
    let micros = fits((seconds * SECOND as f64).round_ties_even());
    let made = || {
        Some(Interval {
            months: i32::try_from(years * 12 + months).ok()?,
            days: i32::try_from(weeks * 7 + days).ok()?,
            micros: (hours * 3600 + minutes * 60)
                .checked_mul(SECOND)?
                .checked_add(micros?)?,
        })
    };
    made().ok_or_else(out_of_range).map(Some)
}

/// A number of microseconds, if it is one.
fn fits(micros: f64) -> Option<i64> {
    // 2^63 is no i64; -2^63 is one.
    const END: f64 = 9_223_372_036_854_775_808.0;
    (-END..END).contains(&micros).then_some(micros as i64)
}

/// `interval_mul`: fractions of months become days of 30, fractions of days become seconds.
fn times(span: Interval, factor: f64) -> Option<Interval> {
    const DAYS_OF_MONTH: f64 = 30.0;
    let day = (DAY / SECOND) as f64;
    // To microseconds.
    let rounded = |seconds: f64| (seconds * 1e6).round_ties_even() / 1e6;
    let whole = |number: f64| -> Option<i32> {
        let fits = number >= f64::from(i32::MIN) && number <= f64::from(i32::MAX);
        fits.then_some(number as i32)
    };
    let months = whole(f64::from(span.months) * factor)?;
    let days = whole(f64::from(span.days) * factor)?;
    let of_months = (f64::from(span.months) * factor - f64::from(months)) * DAYS_OF_MONTH;
    let of_months = rounded(of_months);
    let whole_of_months = of_months as i32;
    let mut seconds = rounded(
        (f64::from(span.days) * factor - f64::from(days) + of_months - f64::from(whole_of_months))
            * day,
    );
    let mut days = days;
    if seconds.abs() >= day {
        let more = (seconds / day) as i32;
        days = days.checked_add(more)?;
        seconds -= f64::from(more) * day;
    }
    Some(Interval {
        months,
        days: days.checked_add(whole_of_months)?,
        micros: fits((span.micros as f64 * factor + seconds * 1e6).round_ties_even())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(span: &Span) -> Result<String, InputError> {
        let settings = FormatSettings::default();
        let nothing: GivenAs<'_> = &|_, _| Ok(None);
        let Some(made) = span.made(nothing, &settings)? else {
            return Ok("NULL".to_owned());
        };
        let value = made.encode();
        let mut out = Vec::new();
        let logical = LogicalType::Interval(None, None);
        logical.output(&value, &settings, &mut out).unwrap();
        Ok(String::from_utf8(out).unwrap())
    }

    fn literal(text: &str) -> Span {
        let settings = FormatSettings::default();
        let value = LogicalType::Interval(None, None).input(text.as_bytes(), &settings);
        Span::Literal(value.unwrap())
    }

    #[test]
    fn multiplies_as_the_server_does() {
        // Taken from PostgreSQL 15.
        for (text, factor, wanted) in [
            ("1 day", 3.0, "3 days"),
            ("1 month", 1.5, "1 mon 15 days"),
            ("1 month", 0.1, "3 days"),
            ("1 day", 0.5, "12:00:00"),
            ("1 day", -1.25, "-1 days -06:00:00"),
            (
                "1 year 2 mons 3 days 04:05:06.7",
                2.5,
                "2 years 11 mons 7 days 22:12:46.75",
            ),
            ("1 mon 30 days", 0.33, "19 days 19:12:00"),
            ("1 second", 900.0, "00:15:00"),
            ("1 second", 0.0000004, "00:00:00"),
            ("1 minute", 0.1, "00:00:06"),
            ("-1 mon", 0.7, "-21 days"),
        ] {
            let span = Span::Times(Box::new(literal(text)), Number::Literal(factor));
            assert_eq!(shown(&span).unwrap(), wanted, "{text} * {factor}");
        }
        for factor in [f64::NAN, f64::INFINITY, 1e20] {
            let span = Span::Times(Box::new(literal("1 day")), Number::Literal(factor));
            assert_eq!(shown(&span).unwrap_err().sqlstate, "22008");
        }
    }

    #[test]
    fn makes_intervals_as_the_server_does() {
        let numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5].map(Number::Literal);
        let made = Span::Made(Box::new(numbers));
        assert_eq!(shown(&made).unwrap(), "1 year 2 mons 25 days 05:06:07.5");
        let mut one_is_null = numbers;
        one_is_null[5] = Number::Param(0);
        assert_eq!(shown(&Span::Made(Box::new(one_is_null))).unwrap(), "NULL");
        let mut too_long = numbers;
        too_long[6] = Number::Literal(f64::INFINITY);
        let error = shown(&Span::Made(Box::new(too_long))).unwrap_err();
        assert_eq!(error.sqlstate, "22008");
    }
}
