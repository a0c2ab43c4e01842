//! Reads ISO 8601's intervals: `P1Y2M3DT4H5M6S`, `P0001-02-03T04:05:06`, `P00010203T040506`, and what the server lets
//! pass as such.

use super::read::Sums;
use crate::types::{
    calendar::{DAY, SECOND},
    datetime::Fault,
};

/// Greatest number, so that its fraction is exact enough.
const GREATEST: f64 = 1.0e15;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

struct Number<'a> {
    whole: i64,
    part: f64,
    /// Digits of the integer part.
    width: usize,
    rest: &'a str,
}

/// Adds what the text says to `sums`.
pub(super) fn parse(text: &str, mut sums: Sums) -> Result<Sums, Fault> {
    let mut rest = text.strip_prefix('P').ok_or(Fault::Format)?;
    if rest.is_empty() {
        return Err(Fault::Format);
    }
    let mut of_date = true;
    let mut has_field = false;
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T') {
            (of_date, has_field, rest) = (false, false, time);
            continue;
        }
        let number = number(rest)?;
        let unit = number.rest.chars().next();
        rest = unit.map_or("", |unit| &number.rest[unit.len_utf8()..]);
        let Number { whole, part, .. } = number;
        match (of_date, unit) {
            (true, Some('Y')) => sums.add_years(whole, part, 1)?,
            (true, Some('M')) => months(&mut sums, whole, part)?,
            (true, Some('W')) => {
                sums.add_days(whole, 7)?;
                sums.add_part_of_days(part, 7)?;
            }
            (true, Some('D')) => days(&mut sums, whole, part)?,
            (true, None | Some('T')) if number.width == 8 && !has_field => {
                sums.add_years(whole / 10000, 0.0, 1)?;
                sums.add_months(whole / 100 % 100)?;
                days(&mut sums, whole % 100, part)?;
                (of_date, has_field) = (false, false);
                continue;
            }
            (true, None | Some('T' | '-')) => {
                if has_field {
                    return Err(Fault::Format);
                }
                sums.add_years(whole, part, 1)?;
                if unit == Some('-') {
                    rest = month_and_day(&mut sums, rest)?;
                }
                (of_date, has_field) = (false, false);
                continue;
            }
            (false, Some('H')) => sums.add_micros(whole, part, HOUR)?,
            (false, Some('M')) => sums.add_micros(whole, part, MINUTE)?,
            (false, Some('S')) => sums.add_micros(whole, part, SECOND)?,
            (false, None) if number.width == 6 && !has_field => {
                sums.add_micros(whole / 10000, 0.0, HOUR)?;
                sums.add_micros(whole / 100 % 100, 0.0, MINUTE)?;
                sums.add_micros(whole % 100, 0.0, SECOND)?;
                sums.add_fraction(part, 1)?;
            }
            (false, None | Some(':')) => {
                if has_field {
                    return Err(Fault::Format);
                }
                sums.add_micros(whole, part, HOUR)?;
                if unit.is_some() {
                    minute_and_second(&mut sums, rest)?;
                }
                return Ok(sums);
            }
            _ => return Err(Fault::Format),
        }
        has_field = true;
    }
    Ok(sums)
}

fn months(sums: &mut Sums, whole: i64, part: f64) -> Result<(), Fault> {
    sums.add_months(whole)?;
    sums.add_part_of_days(part, 30)
}

fn days(sums: &mut Sums, whole: i64, part: f64) -> Result<(), Fault> {
    sums.add_days(whole, 1)?;
    sums.add_fraction(part, DAY)
}

/// `02-03T` behind a year; what stands behind the `T`.
fn month_and_day<'a>(sums: &mut Sums, text: &'a str) -> Result<&'a str, Fault> {
    let month = number(text)?;
    months(sums, month.whole, month.part)?;
    let Some(text) = month.rest.strip_prefix('-') else {
        return behind_date(month.rest);
    };
    let day = number(text)?;
    days(sums, day.whole, day.part)?;
    behind_date(day.rest)
}

fn behind_date(rest: &str) -> Result<&str, Fault> {
    if rest.is_empty() {
        return Ok(rest);
    }
    rest.strip_prefix('T').ok_or(Fault::Format)
}

fn minute_and_second(sums: &mut Sums, text: &str) -> Result<(), Fault> {
    let minute = number(text)?;
    sums.add_micros(minute.whole, minute.part, MINUTE)?;
    if minute.rest.is_empty() {
        return Ok(());
    }
    let second = number(minute.rest.strip_prefix(':').ok_or(Fault::Format)?)?;
    sums.add_micros(second.whole, second.part, SECOND)?;
    if second.rest.is_empty() {
        Ok(())
    } else {
        Err(Fault::Format)
    }
}

/// A decimal number, with an exponent perhaps. The hexadecimal numbers of C are not read.
fn number(text: &str) -> Result<Number<'_>, Fault> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if let Some(hexadecimal) = unsigned
        .strip_prefix(['0'])
        .and_then(|rest| rest.strip_prefix(['x', 'X']))
        && hexadecimal.starts_with(|c: char| c.is_ascii_hexdigit() || c == '.')
    {
        return Err(Fault::Unsupported("an interval with hexadecimal numbers"));
    }
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let width = digits(unsigned);
    let mut end = width;
    if unsigned[end..].starts_with('.') {
        let decimals = digits(&unsigned[end + 1..]);
        if width + decimals == 0 {
            return Err(Fault::Format);
        }
        end += 1 + decimals;
    }
    if end == 0 {
        return Err(Fault::Format);
    }
    if let Some(exponent) = unsigned[end..].strip_prefix(['e', 'E']) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let count = digits(&exponent[sign..]);
        if count > 0 {
            end += 1 + sign + count;
        }
    }
    let end = end + text.len() - unsigned.len();
    let value: f64 = text[..end].parse().map_err(|_| Fault::Format)?;
    if value.is_infinite() || is_underflow(value, &text[..end]) {
        return Err(Fault::Format);
    }
    if value.abs() > GREATEST {
        return Err(Fault::Field);
    }
    Ok(Number {
        whole: value.trunc() as i64,
        part: value - value.trunc(),
        width,
        rest: &text[end..],
    })
}

/// C's `strtod` reports what is too small for a normal double.
fn is_underflow(value: f64, text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let is_zero = !mantissa.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    !is_zero && value.abs() < f64::MIN_POSITIVE
}
