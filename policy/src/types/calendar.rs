//! The proleptic Gregorian calendar as days and microseconds from 2000-01-01, and the server's ranges. Knows no zone.

use super::settings::DateStyle;

/// Microseconds of a day.
pub(super) const DAY: i64 = 86_400_000_000;
/// Microseconds of a second.
pub(super) const SECOND: i64 = 1_000_000;
/// 2000-01-01 in seconds of the Unix epoch.
pub(super) const EPOCH_UNIX_SECONDS: i64 = 946_684_800;
/// Days of the cycle in which the calendar, weekdays included, repeats: 400 years.
pub(super) const CYCLE_DAYS: i64 = 146_097;
/// First valid day: 4714-11-24 BC, Julian day 0.
pub(super) const MIN_DAY: i64 = -2_451_545;
/// Day after the last valid `date`, 5874897-12-31.
pub(super) const END_DATE: i64 = 2_147_483_494 - 2_451_545;
/// Day after the last valid timestamp's, 294276-12-31.
pub(super) const END_TIMESTAMP_DAY: i64 = 109_203_528 - 2_451_545;
/// First valid timestamp.
pub(super) const MIN_TIMESTAMP: i64 = MIN_DAY * DAY;
/// The timestamp after the last valid one.
pub(super) const END_TIMESTAMP: i64 = END_TIMESTAMP_DAY * DAY;

/// A day; year 0 is 1 BC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ymd {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
}

impl Ymd {
    /// Days from 2000-01-01. Months and days beyond their range carry.
    pub(super) fn days(self) -> i64 {
        // Years begin in March, so that the leap day is the last one.
        let year = self.year - i64::from(self.month <= 2);
        let month = (self.month + 9).rem_euclid(12);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * month + 2) / 5 + self.day - 1;
        let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        year.div_euclid(400) * CYCLE_DAYS + days - DAYS_FROM_YEAR_ZERO
    }

    pub(super) fn from_days(days: i64) -> Self {
        let days = days + DAYS_FROM_YEAR_ZERO;
        let era = days.div_euclid(CYCLE_DAYS);
        let of_era = days.rem_euclid(CYCLE_DAYS);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day,
        }
    }

    /// `j2date`, which makes something odd of days before 4801 BC instead of an error.
    pub(super) fn as_the_server_has_it(days: i64) -> Self {
        const JULIAN_OF_EPOCH: i64 = 2_451_545;
        const OFFSET: u32 = 32_044;
        let julian = ((days + JULIAN_OF_EPOCH) as u32).wrapping_add(OFFSET);
        if julian < i32::MAX as u32 {
            return Self::from_days(days);
        }
        let quad = julian / 146_097;
        let extra = (julian - quad * 146_097) * 4 + 3;
        let julian = julian.wrapping_add(60 + quad * 3 + extra / 146_097);
        let quad = julian / 1461;
        let rest = julian - quad * 1461;
        let year = rest * 4 / 1461;
        let of_year = 123
            + if year == 0 {
                (rest + 306) % 366
            } else {
                (rest + 305) % 365
            };
        let month = of_year * 2141 / 65_536;
        Self {
            year: i64::from(year + quad * 4) - 4800,
            month: i64::from((month + 10) % 12 + 1),
            day: i64::from(of_year - 7834 * month / 256),
        }
    }

    /// Whether the server's calendar begins no later and ends no earlier.
    pub(super) fn is_in_calendar(self) -> bool {
        let Self { year, month, .. } = self;
        (year > -4713 || (year == -4713 && month >= 11))
            && (year < 5_874_898 || (year == 5_874_898 && month < 6))
    }

    /// Days of its month.
    pub(super) fn month_length(self) -> i64 {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 => 28 + i64::from(leap),
            _ => 31,
        }
    }

    /// Appends the date in a style; the era is [`write_era`]'s.
    pub(super) fn write(self, style: DateStyle, day_first: bool, out: &mut Vec<u8>) {
        let separator = match style {
            DateStyle::Iso => {
                self.write_year(out);
                out.push(b'-');
                write_two(self.month, out);
                out.push(b'-');
                return write_two(self.day, out);
            }
            DateStyle::Sql => b'/',
            DateStyle::Postgres => b'-',
            DateStyle::German => b'.',
        };
        let (first, second) = if day_first || style == DateStyle::German {
            (self.day, self.month)
        } else {
            (self.month, self.day)
        };
        write_two(first, out);
        out.push(separator);
        write_two(second, out);
        out.push(separator);
        self.write_year(out);
    }

    /// Four digits at least, without the era.
    pub(super) fn write_year(self, out: &mut Vec<u8>) {
        let year = if self.year > 0 {
            self.year
        } else {
            1 - self.year
        };
        if year > 9999 {
            super::integer::write(year, out);
        } else {
            write_two(year / 100, out);
            write_two(year % 100, out);
        }
    }

    /// Appends ` BC` where it is.
    pub(super) fn write_era(self, out: &mut Vec<u8>) {
        if self.year <= 0 {
            out.extend_from_slice(b" BC");
        }
    }
}

/// From 0000-03-01 to 2000-01-01.
const DAYS_FROM_YEAR_ZERO: i64 = 730_425;

/// Two decimal digits.
pub(super) fn write_two(value: i64, out: &mut Vec<u8>) {
    out.push(b'0' + (value / 10 % 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree() {
        let new_year = Ymd {
            year: 2000,
            month: 1,
            day: 1,
        };
        assert_eq!(new_year.days(), 0);
        let first = Ymd {
            year: -4713,
            month: 11,
            day: 24,
        };
        assert_eq!(first.days(), MIN_DAY);
        for days in (MIN_DAY..END_DATE).step_by(9_973) {
            assert_eq!(Ymd::from_days(days).days(), days);
        }
        assert_eq!(
            Ymd::from_days(END_DATE - 1),
            Ymd {
                year: 5_874_897,
                month: 12,
                day: 31
            }
        );
    }
}
