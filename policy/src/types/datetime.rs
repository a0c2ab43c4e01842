//! Reads the text of dates, times and timestamps as the server's `DecodeDateTime` and `DecodeTimeOnly` do. Knows no clock:
//! `now` and its kin are refused, and so are labels as in `y2001m02d04`, which newer servers do not read.

mod abbreviations;
mod clock;
mod decode;
pub(super) mod fields;
mod finish;
mod numbers;
mod words;

use super::{
    FormatSettings, InputError,
    calendar::{DAY, Ymd},
    zone::Zone,
};

pub(super) use numbers::fraction;

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
    /// An abbreviation, in upper case, whose offset depends on the date.
    Abbreviation(String, Zone),
}

impl Moment {
    /// Microseconds from 2000-01-01 without regard to a zone.
    pub(super) fn local(&self) -> Option<i64> {
        if !self.date.is_in_calendar() {
            return None;
        }
        self.date.days().checked_mul(DAY)?.checked_add(self.time)
    }
}

/// Why a text is no date.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
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
    pub(super) fn into_error(self, type_name: &str, text: &str) -> InputError {
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
    settings: &FormatSettings,
) -> Result<Parsed, InputError> {
    fields::split(text, room)
        .and_then(|fields| decode::decode(&fields, settings))
        .map_err(|fault| fault.into_error(type_name, text))
}

/// Which type a time is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// A zone is read and forgotten.
    Bare,
    WithZone,
}

/// Reads a time of day: microseconds, and seconds east of UTC.
pub(super) fn parse_time(
    text: &str,
    type_name: &str,
    room: usize,
    settings: &FormatSettings,
    wants: Clock,
) -> Result<(i64, i64), InputError> {
    fields::split(text, room)
        .and_then(|fields| clock::decode(&fields, settings, wants))
        .map_err(|fault| fault.into_error(type_name, text))
}
