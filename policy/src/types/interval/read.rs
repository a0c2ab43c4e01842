//! Reads intervals in words and in SQL's form, from the right to the left so that a unit is known before its number.
//! What it does not understand is left to [`super::iso`].

use super::{
    Fields, Interval, iso,
    units::{self, Unit, Word},
};
use crate::types::{
    FormatSettings, InputError,
    calendar::{DAY, SECOND},
    datetime::{
        Fault,
        fields::{self, Field, Kind},
    },
    settings::IntervalStyle,
};

/// The server's buffer for an interval's text.
const ROOM: usize = 256;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Reads a text.
pub(super) fn parse(
    text: &str,
    fields: Option<Fields>,
    settings: &FormatSettings,
) -> Result<Interval, InputError> {
    if settings.release < 15 && is_read_otherwise_by_14(text, settings.interval_style()) {
        let fault =
            Fault::Unsupported("an interval with long numbers or fractions on PostgreSQL 14");
        return Err(fault.into_error("interval", text));
    }
    let found = fields::split(text, ROOM).and_then(|split| in_words(&split, fields, settings));
    let found = match found {
        Err(Fault::Format) => iso::parse(text, Sums::new(settings)),
        found => found,
    };
    found
        .map_err(|fault| match fault {
            Fault::Field | Fault::MonthOrDay => InputError::new(
                "22015",
                format!("interval field value out of range: \"{text}\""),
            ),
            fault => fault.into_error("interval", text),
        })?
        .total()
}

/// Whether PostgreSQL 14, which reads whole numbers in 32 bits and adds fractions up in other steps, may make something else
/// of the text than later releases.
fn is_read_otherwise_by_14(text: &str, style: IntervalStyle) -> bool {
    const LONGEST: usize = 6;
    let is_long = |run: &str| run.trim_start_matches('0').len() > LONGEST;
    let is_digit = |c: char| c.is_ascii_digit();
    let mut numbers = text.split(|c: char| !is_digit(c));
    let all_negative = style == IntervalStyle::SqlStandard && text.trim_start().starts_with('-');
    numbers.any(is_long) || all_negative || !has_plain_fraction(text)
}

/// No fraction, one of the seconds of a time of day, or one of seconds alone.
fn has_plain_fraction(text: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit();
    let Some((whole, rest)) = text.split_once('.') else {
        return !text.contains(['e', 'E']) || text.starts_with(|c: char| c != 'P');
    };
    let is_second = |word: &str| {
        let word = word.to_ascii_lowercase();
        word.is_empty()
            || matches!(
                word.as_str(),
                "s" | "sec" | "secs" | "second" | "seconds" | "ago"
            )
    };
    let fits = if text.contains(':') {
        whole.trim_end_matches(is_digit).ends_with(':')
    } else {
        text.split(|c: char| !c.is_ascii_alphabetic())
            .all(is_second)
    };
    fits && whole.ends_with(is_digit) && rest.starts_with(is_digit) && !rest.contains('.')
}

/// The sums of what has been read, year and month apart as on the server.
pub(super) struct Sums {
    years: i32,
    months: i32,
    days: i32,
    micros: i64,
    /// PostgreSQL 17's.
    infinity: Option<Interval>,
    /// PostgreSQL 14 cuts fractions of years to months and rounds fractions of seconds to even.
    is_14: bool,
}

impl Sums {
    pub(super) fn new(settings: &FormatSettings) -> Self {
        Self {
            years: 0,
            months: 0,
            days: 0,
            micros: 0,
            infinity: None,
            is_14: settings.release < 15,
        }
    }

    fn total(self) -> Result<Interval, InputError> {
        if let Some(infinity) = self.infinity {
            return Ok(infinity);
        }
        let months = i64::from(self.years) * 12 + i64::from(self.months);
        let months =
            i32::try_from(months).map_err(|_| InputError::new("22008", "interval out of range"))?;
        Ok(Interval {
            months,
            days: self.days,
            micros: self.micros,
        })
    }

    /// `value` and a fraction of units of so many microseconds.
    pub(super) fn add_micros(&mut self, value: i64, part: f64, unit: i64) -> Result<(), Fault> {
        let micros = value.checked_mul(unit).ok_or(Fault::Field)?;
        self.micros = self.micros.checked_add(micros).ok_or(Fault::Field)?;
        self.add_fraction(part, unit)
    }

    /// A fraction of a unit, rounded to microseconds; a half goes towards zero.
    pub(super) fn add_fraction(&mut self, part: f64, unit: i64) -> Result<(), Fault> {
        if self.is_14 {
            let seconds = part * (unit as f64 / SECOND as f64);
            let whole = seconds.trunc();
            let micros = whole as i64 * SECOND
                + ((seconds - whole) * SECOND as f64).round_ties_even() as i64;
            self.micros = self.micros.checked_add(micros).ok_or(Fault::Field)?;
            return Ok(());
        }
        let exact = part * unit as f64;
        let mut micros = exact as i64;
        let rest = exact - micros as f64;
        if rest > 0.5 {
            micros += 1;
        } else if rest < -0.5 {
            micros -= 1;
        }
        self.micros = self.micros.checked_add(micros).ok_or(Fault::Field)?;
        Ok(())
    }

    pub(super) fn add_days(&mut self, value: i64, each: i32) -> Result<(), Fault> {
        add(&mut self.days, value, each)
    }

    /// A fraction of `each` days.
    pub(super) fn add_part_of_days(&mut self, part: f64, each: i32) -> Result<(), Fault> {
        let exact = part * f64::from(each);
        let days = exact as i32;
        self.days = self.days.checked_add(days).ok_or(Fault::Field)?;
        self.add_fraction(exact - f64::from(days), DAY)
    }

    pub(super) fn add_months(&mut self, value: i64) -> Result<(), Fault> {
        add(&mut self.months, value, 1)
    }

    /// `value` and a fraction of `each` years; the fraction is rounded to months.
    pub(super) fn add_years(&mut self, value: i64, part: f64, each: i32) -> Result<(), Fault> {
        add(&mut self.years, value, each)?;
        let months = part * f64::from(each) * 12.0;
        let months = if self.is_14 {
            months as i32
        } else {
            months.round_ties_even() as i32
        };
        self.months = self.months.checked_add(months).ok_or(Fault::Field)?;
        Ok(())
    }

    fn negate(&mut self) -> Result<(), Fault> {
        let negated = |value: i32| value.checked_neg().ok_or(Fault::Field);
        self.micros = self.micros.checked_neg().ok_or(Fault::Field)?;
        self.days = negated(self.days)?;
        self.months = negated(self.months)?;
        self.years = negated(self.years)?;
        Ok(())
    }
}

fn add(sum: &mut i32, value: i64, each: i32) -> Result<(), Fault> {
    let value = i32::try_from(value).map_err(|_| Fault::Field)?;
    let value = value.checked_mul(each).ok_or(Fault::Field)?;
    *sum = sum.checked_add(value).ok_or(Fault::Field)?;
    Ok(())
}

/// Units that only dates have, spelt as they are looked up.
const DATE_UNITS: [&str; 7] = ["j", "jd", "julian", "dow", "doy", "isodow", "isoyear"];

/// What has been settled, one bit each.
type Mask = u32;
const TIME_FIELDS: Mask = bit(Unit::Hour) | bit(Unit::Minute) | ALL_SECONDS;
const ALL_SECONDS: Mask = bit(Unit::Second) | bit(Unit::Millisecond) | bit(Unit::Microsecond);

const fn bit(unit: Unit) -> Mask {
    1 << unit as u32
}

struct Reader {
    fields: Option<Fields>,
    sums: Sums,
    /// The unit of the next number to the left.
    unit: Option<Result<Unit, Fault>>,
    settled: Mask,
    all_negative: bool,
    before: bool,
    /// A unit was read, and its number was not yet: since PostgreSQL 17 no other word may come in between.
    expects_number: bool,
    is_strict: bool,
}

/// The release that knows infinite intervals, and takes `ago` at the end only and one unit a number.
const STRICT: u32 = 17;

fn in_words(
    split: &[Field],
    fields: Option<Fields>,
    settings: &FormatSettings,
) -> Result<Sums, Fault> {
    // SQL's `-1 2:03:04` is all negative.
    let signed = |field: &Field| field.text.starts_with(['-', '+']);
    let all_negative = settings.interval_style() == IntervalStyle::SqlStandard
        && split
            .first()
            .is_some_and(|field| field.text.starts_with('-'))
        && !split.iter().skip(1).any(signed);
    let mut reader = Reader {
        fields,
        sums: Sums::new(settings),
        unit: None,
        settled: 0,
        all_negative,
        before: false,
        expects_number: false,
        is_strict: settings.release >= STRICT,
    };
    for (at, field) in split.iter().rev().enumerate() {
        let settled = reader.field(field, at == 0)?;
        if settled & reader.settled != 0 {
            return Err(Fault::Format);
        }
        reader.settled |= settled;
    }
    if reader.settled == 0 || reader.is_strict && reader.expects_number {
        return Err(Fault::Format);
    }
    if reader.before {
        reader.sums.negate()?;
    }
    Ok(reader.sums)
}

impl Reader {
    fn field(&mut self, field: &Field, is_last: bool) -> Result<Mask, Fault> {
        let text = field.text.as_str();
        match field.kind {
            Kind::Time => {
                let micros = self.clock(text)?;
                self.time(micros);
                Ok(TIME_FIELDS)
            }
            Kind::Zone => match text[1..].contains(':').then(|| self.clock(&text[1..])) {
                Some(Ok(micros)) => {
                    self.time(if text.starts_with('-') {
                        -micros
                    } else {
                        micros
                    });
                    Ok(TIME_FIELDS)
                }
                _ => self.number(text),
            },
            Kind::Date | Kind::Number => self.number(text),
            Kind::Word => self.word(text, is_last),
        }
    }

    /// A time of day takes the place of microseconds read so far.
    fn time(&mut self, micros: i64) {
        self.sums.micros = if self.all_negative && micros > 0 {
            -micros
        } else {
            micros
        };
        self.unit = Some(Ok(Unit::Day));
        self.expects_number = false;
    }

    /// `hh:mm`, `hh:mm:ss.fff`, `mm:ss.fff`; of two fields minutes and seconds, if it is cut to these.
    fn clock(&self, text: &str) -> Result<i64, Fault> {
        let (hour, rest) = integer(text)?;
        let (minute, rest) = integer_of_c(rest.strip_prefix(':').ok_or(Fault::Format)?)?;
        let (hour, minute, second, rest) = if let Some(rest) = rest.strip_prefix(':') {
            let (second, rest) = integer_of_c(rest)?;
            (hour, minute, second, rest)
        } else if rest.starts_with('.')
            || (rest.is_empty() && self.fields == Some(Fields::MinuteToSecond))
        {
            let hour = i32::try_from(hour).map_err(|_| Fault::Field)?;
            (0, i64::from(hour), minute, rest)
        } else {
            (hour, minute, 0, rest)
        };
        let micros = if rest.is_empty() {
            0
        } else {
            crate::types::datetime::fraction(rest, self.sums.is_14)?
        };
        if hour < 0 || !(0..=59).contains(&minute) || !(0..=60).contains(&second) {
            return Err(Fault::Field);
        }
        let whole = hour.checked_mul(HOUR).ok_or(Fault::Field)?;
        whole
            .checked_add(minute * MINUTE + second * SECOND + micros)
            .ok_or(Fault::Field)
    }

    /// What the rightmost number counts.
    fn last_unit(&self) -> Unit {
        use Fields::*;
        match self.fields {
            Some(Year) => Unit::Year,
            Some(Month | YearToMonth) => Unit::Month,
            Some(Day) => Unit::Day,
            Some(Hour | DayToHour) => Unit::Hour,
            Some(Minute | HourToMinute | DayToMinute) => Unit::Minute,
            Some(Second | MinuteToSecond | HourToSecond | DayToSecond) | None => Unit::Second,
        }
    }

    fn number(&mut self, text: &str) -> Result<Mask, Fault> {
        self.expects_number = false;
        let mut unit = self.unit.take().unwrap_or(Ok(self.last_unit()));
        let (mut value, rest) = integer(text)?;
        let mut part = 0.0;
        if let Some(months) = rest.strip_prefix('-') {
            let (months, rest) = integer_of_c(months)?;
            if !(0..12).contains(&months) {
                return Err(Fault::Field);
            }
            if !rest.is_empty() {
                return Err(Fault::Format);
            }
            let months = if text.starts_with('-') {
                -months
            } else {
                months
            };
            let years = value.checked_mul(12).ok_or(Fault::Field)?;
            value = years.checked_add(months).ok_or(Fault::Field)?;
            unit = Ok(Unit::Month);
        } else if let Some(digits) = rest.strip_prefix('.') {
            part = fraction(digits)?;
            if text.starts_with('-') {
                part = -part;
            }
        } else if !rest.is_empty() {
            return Err(Fault::Format);
        }
        if self.all_negative {
            (value, part) = (-value.saturating_abs(), -part.abs());
        }
        let unit = unit?;
        self.unit = Some(Ok(if unit == Unit::Hour { Unit::Day } else { unit }));
        self.count(unit, value, part)
    }

    fn count(&mut self, unit: Unit, value: i64, part: f64) -> Result<Mask, Fault> {
        let sums = &mut self.sums;
        match unit {
            Unit::Microsecond => sums.add_micros(value, part, 1)?,
            Unit::Millisecond => sums.add_micros(value, part, 1000)?,
            Unit::Second => {
                sums.add_micros(value, part, SECOND)?;
                return Ok(if part == 0.0 { bit(unit) } else { ALL_SECONDS });
            }
            Unit::Minute => sums.add_micros(value, part, MINUTE)?,
            Unit::Hour => sums.add_micros(value, part, HOUR)?,
            Unit::Day => {
                sums.add_days(value, 1)?;
                sums.add_fraction(part, DAY)?;
            }
            Unit::Week => {
                sums.add_days(value, 7)?;
                sums.add_part_of_days(part, 7)?;
            }
            Unit::Month => {
                sums.add_months(value)?;
                sums.add_part_of_days(part, 30)?;
            }
            Unit::Year => sums.add_years(value, part, 1)?,
            Unit::Decade => sums.add_years(value, part, 10)?,
            Unit::Century => sums.add_years(value, part, 100)?,
            Unit::Millennium => sums.add_years(value, part, 1000)?,
        }
        Ok(bit(unit))
    }

    fn word(&mut self, text: &str, is_last: bool) -> Result<Mask, Fault> {
        if self.is_strict && self.expects_number {
            return Err(Fault::Format);
        }
        match units::find(text) {
            Some(Word::Unit(unit)) => {
                self.unit = Some(Ok(unit));
                self.expects_number = true;
            }
            Some(Word::Useless) => self.unit = Some(Err(Fault::Format)),
            Some(Word::Ago) if self.is_strict && !is_last => return Err(Fault::Format),
            Some(Word::Ago) => {
                self.before = true;
                self.unit = Some(Err(Fault::Format));
            }
            None if self.is_strict && is_last && text.ends_with("infinity") => {
                self.sums.infinity = match text {
                    "infinity" | "+infinity" => Some(Interval::GREATEST),
                    "-infinity" => Some(Interval::LEAST),
                    _ => return Err(Fault::Format),
                };
                self.unit = Some(Err(Fault::Format));
                return Ok(Mask::MAX);
            }
            // Units of dates, which a number may follow that brings its own.
            None if self.is_strict && DATE_UNITS.contains(&text) => {
                self.unit = Some(Err(Fault::Format));
                self.expects_number = true;
            }
            None => return Err(Fault::Format),
        }
        Ok(0)
    }
}

/// A 64-bit integer with a sign perhaps, and what follows. Nothing counts as 0, as C's `strtol` has it.
fn integer(text: &str) -> Result<(i64, &str), Fault> {
    let sign = usize::from(text.starts_with(['-', '+']));
    let end = sign + text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    if end == sign {
        return Ok((0, text));
    }
    let digits = text[..end].strip_prefix('+').unwrap_or(&text[..end]);
    let value = digits.parse().map_err(|_| Fault::Field)?;
    Ok((value, &text[end..]))
}

/// The same with 32 bits.
fn integer_of_c(text: &str) -> Result<(i64, &str), Fault> {
    let (value, rest) = integer(text)?;
    let value = i32::try_from(value).map_err(|_| Fault::Field)?;
    Ok((i64::from(value), rest))
}

/// The digits behind a point.
fn fraction(digits: &str) -> Result<f64, Fault> {
    if digits.is_empty() {
        return Ok(0.0);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::Format);
    }
    format!("0.{digits}").parse().map_err(|_| Fault::Format)
}
