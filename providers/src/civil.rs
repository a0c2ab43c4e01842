//! Seconds since 1970 as people and signatures write them, in UTC of the Gregorian calendar. No clock is read here.

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
/// The first second of the year 10000, which has no form here.
const END: u64 = 253_402_300_800;

/// `2026-11-22T16:50:00Z`.
pub fn rfc3339(seconds: u64) -> String {
    let Some([year, month, day, hour, minute, second]) = fields(seconds) else {
        return "-".to_owned();
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `20261122T165000Z`, as in `X-Amz-Date`; nothing beyond the year 9999.
pub fn compact(seconds: u64) -> Option<String> {
    let [year, month, day, hour, minute, second] = fields(seconds)?;
    Some(format!(
        "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"
    ))
}

/// Undoes [`compact`].
pub fn parse_compact(text: &str) -> Option<u64> {
    let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
    let number = |from: usize, to: usize| -> Option<u64> {
        bytes[from..to].iter().try_fold(0, |number, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            Some(number * 10 + digit)
        })
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    if year < 1970 || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days(year, month, day)? * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    // What is not written so is no date: the 31st of June, a letter in place of the T.
    (compact(seconds)? == text).then_some(seconds)
}

/// Year, month, day, hour, minute, second. The civil calendar of days since 1970, by years that begin in March.
fn fields(seconds: u64) -> Option<[u64; 6]> {
    if seconds >= END {
        return None;
    }
    let (days, rest) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    // From the first of March of the year 0; an era is 400 years.
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
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    Some([year, month, day, rest / 3600, rest / 60 % 60, rest % 60])
}

/// Days since 1970 of a date from then on.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_440_938_160, "2015-08-30T12:36:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
            let short = compact(seconds).expect("before the year 10000");
            assert_eq!(short, text.replace(['-', ':'], ""));
            assert_eq!(parse_compact(&short), Some(seconds));
        }
        assert_eq!((rfc3339(u64::MAX), compact(END)), ("-".to_owned(), None));
    }

    #[test]
    fn what_is_no_date_does_not_parse() {
        for text in [
            "",
            "20150830T123600",
            "20150830t123600Z",
            "20150832T123600Z",
            "20150230T123600Z",
            "20151330T123600Z",
            "20150800T123600Z",
            "20150830T246000Z",
            "19690830T123600Z",
            "2015083éT12360Z",
            "+0150830T123600Z",
        ] {
            assert_eq!(parse_compact(text), None, "{text}");
        }
    }
}
