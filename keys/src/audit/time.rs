//! Times as records show them: RFC 3339, in UTC, with microseconds. No time zones, no leap seconds.

const DAY_S: u64 = 86_400;

/// `2026-11-22T15:04:05.000001Z`.
pub fn show(us: u64) -> String {
    let (seconds, micros) = (us / 1_000_000, us % 1_000_000);
    let (days, second) = (seconds / DAY_S, seconds % DAY_S);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Reads a date, or a date and a time in UTC: `2026-11-22`, `2026-11-22T15:04`, `2026-11-22T15:04:05Z`.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let mut date = date.split('-');
    let mut next = |width| digits(date.next()?, width);
    let (year, month, day) = (next(4)?, next(2)?, next(2)?);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = time.split(':');
    let (hour, minute) = (digits(clock.next()?, 2)?, digits(clock.next()?, 2)?);
    let second = clock.next().map_or(Some(0), |text| digits(text, 2))?;
    let micros = match fraction.len() {
        0 => 0,
        width @ 1..=6 => digits(fraction, width)? * 10_u64.pow(6 - width as u32),
        _ => return None,
    };
    let complete = date.next().is_none() && clock.next().is_none();
    if !complete || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from(year, month, day)?;
    Some(((days * DAY_S + hour * 3600 + minute * 60 + second) * 1_000_000) + micros)
}

fn digits(text: &str, width: usize) -> Option<u64> {
    let all = text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok())?
}

/// Howard Hinnant, "chrono-compatible low-level date algorithms": days since 1970 to year, month, day.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// The other way, for days that there are, from 1970 on.
fn days_from(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    (civil(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read() {
        for us in [
            0,
            1,
            951_782_400_000_000,
            1_700_000_000_123_456,
            4_102_444_799_999_999,
        ] {
            assert_eq!(parse(&show(us)), Some(us), "{}", show(us));
        }
        assert_eq!(show(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(parse("2000-02-29"), Some(951_782_400_000_000));
        assert_eq!(parse("1970-01-01T00:01"), Some(60_000_000));
    }

    #[test]
    fn days_that_there_are_not_are_not_read() {
        for text in [
            "",
            "2001-02-29",
            "2001-13-01",
            "1969-12-31",
            "2001-1-1",
            "2001-01-01T24:00",
            "2001-01-01T1:00",
            "yesterday",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
