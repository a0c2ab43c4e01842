//! Numbers of a date by themselves: which part of the date or time each one is.

use super::{
    Fault,
    decode::{DATE, DAY, DAY_OF_YEAR, Decoder, MONTH, Mask, TIME, YEAR, ZONE},
    words::{self, Word},
};
use crate::types::settings::DateOrder;

/// Most parts of a date with separators.
const MAX_PARTS: usize = 25;

/// The integer at the start (saturating) and what follows it. `None` if there is none.
pub(super) fn leading_integer(text: &str) -> (Option<i64>, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let digits = &text[..end];
    let value = digits.bytes().fold(0_i64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    });
    ((end > 0).then_some(value), &text[end..])
}

/// A number that must fit C's `int`.
pub(super) fn int(value: i64) -> Result<i64, Fault> {
    i32::try_from(value)
        .map(i64::from)
        .map_err(|_| Fault::Field)
}

/// C's `atoi`, which keeps the low 32 bits.
fn low_bits(digits: &str) -> i64 {
    i64::from(leading_integer(digits).0.unwrap_or(0) as i32)
}

/// `.fff` in microseconds, by way of a double as on the server. PostgreSQL 14 does not read a point alone.
pub(in crate::types) fn fraction(text: &str, is_14: bool) -> Result<i64, Fault> {
    let digits = text.strip_prefix('.').ok_or(Fault::Format)?;
    if digits.is_empty() {
        return if is_14 { Err(Fault::Format) } else { Ok(0) };
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::Format);
    }
    let fraction: f64 = format!("0.{digits}").parse().map_err(|_| Fault::Format)?;
    Ok((fraction * 1e6).round_ties_even() as i64)
}

/// A field's leading integer; nothing counts as 0, as C's `strtol` has it.
pub(super) fn field_integer(text: &str) -> Result<(i64, &str), Fault> {
    let (value, rest) = leading_integer(text);
    Ok((int(value.unwrap_or(0))?, rest))
}

/// `±hh`, `±hhmm`, `±hh:mm`, `±hh:mm:ss`: seconds east of UTC.
pub(super) fn displacement(text: &str) -> Result<i64, Fault> {
    let (negative, digits) = match text.split_at_checked(1) {
        Some(("-", digits)) => (true, digits),
        Some(("+", digits)) => (false, digits),
        _ => return Err(Fault::Format),
    };
    let (mut hour, mut rest) = displacement_part(digits)?;
    let (mut minute, mut second) = (0, 0);
    if let Some(after) = rest.strip_prefix(':') {
        (minute, rest) = displacement_part(after)?;
        if let Some(after) = rest.strip_prefix(':') {
            (second, rest) = displacement_part(after)?;
        }
    } else if rest.is_empty() && text.len() > 3 {
        (hour, minute) = (hour / 100, hour % 100);
    }
    if !(0..=15).contains(&hour) || !(0..60).contains(&minute) || !(0..60).contains(&second) {
        return Err(Fault::Displacement);
    }
    if !rest.is_empty() {
        return Err(Fault::Format);
    }
    let east = (hour * 60 + minute) * 60 + second;
    Ok(if negative { -east } else { east })
}

/// A part may have a sign of its own, though it must not be negative then.
fn displacement_part(text: &str) -> Result<(i64, &str), Fault> {
    let unsigned = text
        .strip_prefix('-')
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let (value, rest) = field_integer(unsigned.unwrap_or(text)).map_err(|_| Fault::Displacement)?;
    Ok((if unsigned.is_some() { -value } else { value }, rest))
}

impl Decoder<'_> {
    /// A date with separators; a month's name settles the month first.
    pub(super) fn date(&mut self, text: &str, mask: &mut Mask) -> Result<Mask, Fault> {
        let mut settled = 0;
        let mut numbers = Vec::new();
        let mut month_is_word = false;
        for part in parts(text)? {
            if part.starts_with(|c: char| c.is_ascii_digit()) {
                numbers.push(part);
                continue;
            }
            let Some(Word::Month(month)) = words::find(part) else {
                return Err(Fault::Format);
            };
            if *mask & MONTH != 0 {
                return Err(Fault::Format);
            }
            self.month = month;
            month_is_word = true;
            *mask |= MONTH;
            settled |= MONTH;
        }
        let outer = std::mem::replace(&mut self.month_is_word, month_is_word);
        for number in numbers {
            let part = self.single_number(number, *mask)?;
            if part & *mask != 0 {
                return Err(Fault::Format);
            }
            *mask |= part;
            settled |= part;
        }
        self.month_is_word = outer;
        if *mask & !(DAY_OF_YEAR | ZONE) == DATE {
            Ok(settled)
        } else {
            Err(Fault::Format)
        }
    }

    /// A number of up to five digits, or more once date and time are settled.
    pub(super) fn single_number(&mut self, text: &str, mask: Mask) -> Result<Mask, Fault> {
        let (value, rest) = leading_integer(text);
        let value = int(value.ok_or(Fault::Format)?)?;
        if rest.starts_with('.') {
            if text.len() - rest.len() > 2 {
                return self.run_together(text, mask | DATE);
            }
            self.micros = fraction(rest, self.settings.release < 15)?;
        } else if !rest.is_empty() {
            return Err(Fault::Format);
        }
        if text.len() == 3 && mask & DATE == YEAR && (1..=366).contains(&value) {
            self.day_of_year = value;
            return Ok(DAY_OF_YEAR | MONTH | DAY);
        }
        let long = text.len() >= 3;
        let part = self.which_part(long, mask)?;
        match part {
            YEAR => {
                self.year = value;
                self.two_digit_year = text.len() <= 2;
            }
            MONTH => self.month = value,
            DAY if mask & DATE == YEAR | MONTH
                && self.month_is_word
                && long
                && self.two_digit_year =>
            {
                // What was taken for a two-digit year was the day.
                self.day = self.year;
                self.year = value;
                self.two_digit_year = false;
            }
            DAY => self.day = value,
            _ => return self.run_together(text, mask),
        }
        Ok(part)
    }

    /// Which part of the date comes next. [`TIME`] if the date is complete.
    fn which_part(&self, long: bool, mask: Mask) -> Result<Mask, Fault> {
        let year_first = long || self.order == DateOrder::YearMonthDay;
        let settled = mask & DATE;
        Ok(if settled == 0 {
            match self.order {
                _ if year_first => YEAR,
                DateOrder::DayMonthYear => DAY,
                _ => MONTH,
            }
        } else if settled == YEAR || settled == DAY {
            MONTH
        } else if settled == MONTH {
            if self.month_is_word && year_first {
                YEAR
            } else {
                DAY
            }
        } else if settled == YEAR | MONTH {
            DAY
        } else if settled == MONTH | DAY {
            YEAR
        } else if settled == DATE {
            TIME
        } else {
            return Err(Fault::Format);
        })
    }

    /// `yyyymmdd`, `yymmdd`, `hhmmss`, `hhmm`, the last two with a fraction perhaps.
    pub(super) fn run_together(&mut self, text: &str, mask: Mask) -> Result<Mask, Fault> {
        let digits = match text.split_once('.') {
            Some((digits, _)) => {
                let end = digits.len()
                    + 1
                    + text[digits.len() + 1..]
                        .bytes()
                        .take_while(u8::is_ascii_digit)
                        .count();
                self.micros = fraction(&text[digits.len()..end], false)?;
                digits
            }
            None => text,
        };
        let length = digits.len();
        if length == text.len() && mask & DATE != DATE && length >= 6 {
            self.day = low_bits(&digits[length - 2..]);
            self.month = low_bits(&digits[length - 4..length - 2]);
            self.year = low_bits(&digits[..length - 4]);
            self.two_digit_year |= length == 6;
            return Ok(DATE);
        }
        if mask & TIME == 0 && (length == 4 || length == 6) {
            self.hour = low_bits(&digits[..2]);
            self.minute = low_bits(&digits[2..4]);
            self.second = if length == 6 {
                low_bits(&digits[4..])
            } else {
                0
            };
            return Ok(TIME);
        }
        Err(Fault::Format)
    }
}

/// Runs of digits and of letters; one separator may follow each, several may precede.
fn parts(text: &str) -> Result<Vec<&str>, Fault> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() && parts.len() < MAX_PARTS {
        rest = rest.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let Some(first) = rest.bytes().next() else {
            return Err(Fault::Format);
        };
        let same = |byte: &u8| {
            byte.is_ascii_digit() == first.is_ascii_digit() && byte.is_ascii_alphanumeric()
        };
        let end = rest.bytes().take_while(|byte| same(byte)).count();
        parts.push(&rest[..end]);
        // The character behind a part goes unread, whatever it is.
        let mut behind = rest[end..].chars();
        behind.next();
        rest = behind.as_str();
    }
    Ok(parts)
}
