//! Shows intervals in the four styles.

use super::Interval;
use crate::types::{
    calendar::{SECOND, write_two},
    integer,
    settings::IntervalStyle,
    timestamp::write_fraction,
};

/// The fields that are shown; all of a day's time have one sign.
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
}

pub(super) fn write(interval: Interval, style: IntervalStyle, out: &mut Vec<u8>) {
    if interval.is_infinite() {
        let shown: &[u8] = if interval == Interval::LEAST {
            b"-infinity"
        } else {
            b"infinity"
        };
        return out.extend_from_slice(shown);
    }
    let (months, micros) = (i64::from(interval.months), interval.micros);
    let parts = Parts {
        year: months / 12,
        month: months % 12,
        day: i64::from(interval.days),
        hour: micros / (3600 * SECOND),
        minute: micros / (60 * SECOND) % 60,
        second: micros / SECOND % 60,
        micros: micros % SECOND,
    };
    match style {
        IntervalStyle::Postgres => parts.postgres(out),
        IntervalStyle::PostgresVerbose => parts.verbose(out),
        IntervalStyle::SqlStandard => parts.sql(out),
        IntervalStyle::Iso8601 => parts.iso(out),
    }
}

impl Parts {
    fn has_time(&self) -> bool {
        self.hour != 0 || self.minute != 0 || self.second != 0 || self.micros != 0
    }

    fn time_is_negative(&self) -> bool {
        self.hour < 0 || self.minute < 0 || self.second < 0 || self.micros < 0
    }

    /// `mm:ss.ffffff`, behind the hour.
    fn minutes(&self, out: &mut Vec<u8>) {
        out.push(b':');
        write_two(self.minute.abs(), out);
        out.push(b':');
        write_two(self.second.abs(), out);
        write_fraction(self.micros.abs(), out);
    }

    /// `s.ffffff` without a sign.
    fn seconds(&self, out: &mut Vec<u8>) {
        integer::write(self.second.abs(), out);
        write_fraction(self.micros.abs(), out);
    }

    /// `1 year 2 mons -3 days +04:05:06`: a sign tells where it differs from the field before.
    fn postgres(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut negative = false;
        for (value, unit) in [
            (self.year, " year"),
            (self.month, " mon"),
            (self.day, " day"),
        ] {
            if value == 0 {
                continue;
            }
            if out.len() > start {
                out.push(b' ');
            }
            if negative && value > 0 {
                out.push(b'+');
            }
            integer::write(value, out);
            out.extend_from_slice(unit.as_bytes());
            if value != 1 {
                out.push(b's');
            }
            negative = value < 0;
        }
        let is_zero = out.len() == start;
        if !is_zero && !self.has_time() {
            return;
        }
        if !is_zero {
            out.push(b' ');
        }
        if self.time_is_negative() {
            out.push(b'-');
        } else if negative {
            out.push(b'+');
        }
        let hour = self.hour.abs();
        if hour < 10 {
            out.push(b'0');
        }
        integer::write(hour, out);
        self.minutes(out);
    }

    /// `@ 1 year 2 mons -3 days 4 hours ago`: the first field's sign is `ago`.
    fn verbose(&self, out: &mut Vec<u8>) {
        out.push(b'@');
        let start = out.len();
        let mut before = false;
        for (value, unit) in [
            (self.year, " year"),
            (self.month, " mon"),
            (self.day, " day"),
            (self.hour, " hour"),
            (self.minute, " min"),
        ] {
            if value == 0 {
                continue;
            }
            let shown = if out.len() == start {
                before = value < 0;
                value.abs()
            } else if before {
                -value
            } else {
                value
            };
            out.push(b' ');
            integer::write(shown, out);
            out.extend_from_slice(unit.as_bytes());
            if shown != 1 {
                out.push(b's');
            }
        }
        if self.second != 0 || self.micros != 0 {
            let is_first = out.len() == start;
            out.push(b' ');
            if self.second < 0 || self.micros < 0 {
                if is_first {
                    before = true;
                } else if !before {
                    out.push(b'-');
                }
            } else if before {
                out.push(b'-');
            }
            self.seconds(out);
            out.extend_from_slice(b" sec");
            if self.second.abs() != 1 || self.micros != 0 {
                out.push(b's');
            }
        }
        if out.len() == start {
            out.extend_from_slice(b" 0");
        }
        if before {
            out.extend_from_slice(b" ago");
        }
    }

    /// SQL's two kinds of intervals where it is one, else all fields with signs.
    fn sql(&self, out: &mut Vec<u8>) {
        let all = [
            self.year,
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.second,
            self.micros,
        ];
        let has_negative = all.iter().any(|value| *value < 0);
        let has_positive = all.iter().any(|value| *value > 0);
        let has_years = self.year != 0 || self.month != 0;
        let has_days = self.day != 0 || self.has_time();
        let is_mixed = (has_negative && has_positive) || (has_years && has_days);
        if !has_years && !has_days {
            out.push(b'0');
            return;
        }
        if is_mixed {
            return self.sql_with_signs(out);
        }
        if has_negative {
            out.push(b'-');
        }
        if has_years {
            return self.years(out);
        }
        if self.day != 0 {
            integer::write(self.day.abs(), out);
            out.push(b' ');
        }
        integer::write(self.hour.abs(), out);
        self.minutes(out);
    }

    fn years(&self, out: &mut Vec<u8>) {
        integer::write(self.year.abs(), out);
        out.push(b'-');
        integer::write(self.month.abs(), out);
    }

    fn sql_with_signs(&self, out: &mut Vec<u8>) {
        let sign = |negative: bool| if negative { b'-' } else { b'+' };
        out.push(sign(self.year < 0 || self.month < 0));
        self.years(out);
        out.extend_from_slice(&[b' ', sign(self.day < 0)]);
        integer::write(self.day.abs(), out);
        out.extend_from_slice(&[b' ', sign(self.time_is_negative())]);
        integer::write(self.hour.abs(), out);
        self.minutes(out);
    }

    /// `P1Y2M3DT4H5M6S`
    fn iso(&self, out: &mut Vec<u8>) {
        let field = |value: i64, unit: u8, out: &mut Vec<u8>| {
            if value != 0 {
                integer::write(value, out);
                out.push(unit);
            }
        };
        out.push(b'P');
        field(self.year, b'Y', out);
        field(self.month, b'M', out);
        field(self.day, b'D', out);
        if !self.has_time() {
            if out.last() == Some(&b'P') {
                out.extend_from_slice(b"T0S");
            }
            return;
        }
        out.push(b'T');
        field(self.hour, b'H', out);
        field(self.minute, b'M', out);
        if self.second != 0 || self.micros != 0 {
            if self.second < 0 || self.micros < 0 {
                out.push(b'-');
            }
            self.seconds(out);
            out.push(b'S');
        }
    }
}
