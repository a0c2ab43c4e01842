//! `date`: days from 2000-01-01; the extreme integers are the infinities.

use super::{
    DamagedValue, FormatSettings, InputError, binary,
    calendar::{END_DATE, MIN_DAY, Ymd},
    datetime::{self, Parsed},
    settings::DateOrder,
};

pub(super) const INFINITY: i32 = i32::MAX;
pub(super) const MINUS_INFINITY: i32 = i32::MIN;
/// 1970-01-01.
const UNIX_EPOCH: i32 = -10_957;
/// The server's buffer for a date's text.
const ROOM: usize = 129;

/// A day, if it is one that the type holds.
pub(super) fn in_range(days: i64) -> Option<i32> {
    (MIN_DAY..END_DATE).contains(&days).then_some(days as i32)
}

pub(super) fn input(text: &str, settings: &FormatSettings) -> Result<Vec<u8>, InputError> {
    let days = match datetime::parse(text, "date", ROOM, settings)? {
        Parsed::Infinity => INFINITY,
        Parsed::MinusInfinity => MINUS_INFINITY,
        Parsed::Epoch => UNIX_EPOCH,
        Parsed::At(moment) => {
            let days = moment.date.is_in_calendar().then(|| moment.date.days());
            days.and_then(in_range)
                .ok_or_else(|| InputError::new("22008", format!("date out of range: \"{text}\"")))?
        }
    };
    Ok(days.to_be_bytes().to_vec())
}

pub(super) fn recv(bytes: &[u8]) -> Result<Vec<u8>, InputError> {
    binary::checked(bytes, |array| {
        let days = i32::from_be_bytes(array);
        let valid = matches!(days, INFINITY | MINUS_INFINITY) || in_range(days.into()).is_some();
        if valid {
            Ok(array.to_vec())
        } else {
            Err(InputError::new("22008", "date out of range"))
        }
    })
}

pub(super) fn read(value: &[u8]) -> Result<i32, DamagedValue> {
    Ok(i32::from_be_bytes(binary::stored(value)?))
}

pub(super) fn output(
    value: &[u8],
    settings: &FormatSettings,
    out: &mut Vec<u8>,
) -> Result<(), DamagedValue> {
    match read(value)? {
        INFINITY => out.extend_from_slice(b"infinity"),
        MINUS_INFINITY => out.extend_from_slice(b"-infinity"),
        days => {
            let date = Ymd::from_days(days.into());
            let day_first = settings.date_order() == DateOrder::DayMonthYear;
            date.write(settings.date_style(), day_first, out);
            date.write_era(out);
        }
    }
    Ok(())
}
