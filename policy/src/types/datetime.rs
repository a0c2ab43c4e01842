//! Reads the text of dates and timestamps as the server's `DecodeDateTime` does. Knows no clock: `now` and its kin are
//! refused, and so are a few rare spellings (labels as in `y2001m02d04` and `J2451187`, the modifier `DST`, abbreviations of
//! time zones that depend on the date or on `timezone_abbreviations`).

mod abbreviations;
mod decode;
mod fields;
mod finish;
mod numbers;
mod words;

use super::{
    InputError,
    calendar::{DAY, Ymd},
    settings::DateOrder,
    zone::Zone,
};

/// What a text says.
#[derive(Debug)]
pub(super) enum Parsed {
    At(Moment),
    Epoch,
    Infinity,
    MinusInfinity,
}

/// A day and a time of it, in the zone given with it or in the session's.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) date: Ymd,
    /// Microseconds from midnight; `24:00:00`, and `256199` which the server does not check, pass the day.
    pub(super) time: i64,
    pub(super) zone: Given,
}

/// The zone that a text names.
#[derive(Debug, Default)]
pub(super) enum Given {
    #[default]
    Nothing,
    /// Seconds east of UTC.
    Offset(i64),
    Named(Zone),
}

impl Moment {
    /// Whether the server's calendar begins no later and ends no earlier.
    pub(super) fn is_in_calendar(&self) -> bool {
        let Ymd { year, month, .. } = self.date;
        (year > -4713 || (year == -4713 && month >= 11))
            && (year < 5_874_898 || (year == 5_874_898 && month < 6))
    }

    /// Microseconds from 2000-01-01 without regard to a zone.
    pub(super) fn local(&self) -> Option<i64> {
        if !self.is_in_calendar() {
            return None;
        }
        self.date.days().checked_mul(DAY)?.checked_add(self.time)
    }
}

/// Why a text is no date.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Format,
    /// A field is out of its range.
    Field,
    /// A month or day is: perhaps the order is another.
    MonthOrDay,
    Displacement,
    UnknownZone(String),
    Unsupported(&'static str),
}

impl Fault {
    fn into_error(self, type_name: &str, text: &str) -> InputError {
        let out_of_range = || format!("date/time field value out of range: \"{text}\"");
        match self {
            Self::Format => InputError::new("22007", format!("invalid input syntax for type {type_name}: \"{text}\"")),
            Self::Field => InputError::new("22008", out_of_range()),
            Self::MonthOrDay => InputError::new("22008", out_of_range())
                .hint("Perhaps you need a different \"datestyle\" setting."),
            Self::Displacement => {
                InputError::new("22009", format!("time zone displacement out of range: \"{text}\""))
            }
            Self::UnknownZone(name) => InputError::new("22023", format!("time zone \"{name}\" not recognized")),
            Self::Unsupported(what) => {
                InputError::unsupported(format!("{what} is not supported in values of protected columns"))
                    .hint("Write the date as YYYY-MM-DD HH:MM:SS with a numeric offset or a full time zone name.")
            }
        }
    }
}

/// Reads a text. `type_name` is for errors; `room` is the size of the server's buffer.
pub(super) fn parse(
    text: &str,
    type_name: &str,
    room: usize,
    order: DateOrder,
) -> Result<Parsed, InputError> {
    fields::split(text, room)
        .and_then(|fields| decode::decode(&fields, order))
        .map_err(|fault| fault.into_error(type_name, text))
}
