//! The session settings that forms depend on. Where they come from is the session's business.

use super::zone::Zone;
use crate::Refusal;

/// The session's settings that input and output functions obey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatSettings {
    /// `DateStyle`, as the server reports it: `ISO, MDY`.
    pub date_style: String,
    /// `TimeZone`.
    pub time_zone: String,
    /// `extra_float_digits`, -15 to 3.
    pub extra_float_digits: i32,
    /// `bytea_output` is `escape`.
    pub bytea_escape: bool,
    /// The server's major version: input functions read more with time.
    pub release: u32,
}

/// A fresh server's settings, in UTC.
impl Default for FormatSettings {
    fn default() -> Self {
        Self {
            date_style: "ISO, MDY".into(),
            time_zone: "UTC".into(),
            extra_float_digits: 1,
            bytea_escape: false,
            release: 15,
        }
    }
}

/// Which of a date's numbers comes first where that is not clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DateOrder {
    YearMonthDay,
    DayMonthYear,
    MonthDayYear,
}

impl FormatSettings {
    /// Why values that depend on these settings cannot be shown or read right, if they cannot.
    pub fn unsupported(&self) -> Option<Refusal> {
        if !self.is_iso() {
            let message = format!(
                "DateStyle \"{}\" is not supported with protected columns",
                self.date_style
            );
            let refusal = Refusal::unsupported("date-style-not-supported", message);
            return Some(
                refusal.hint("SET DateStyle = ISO; the order of input (MDY, DMY, YMD) is free."),
            );
        }
        if Zone::find(&self.time_zone).is_none() {
            let message = format!(
                "TimeZone \"{}\" is not supported with protected columns",
                self.time_zone
            );
            let refusal = Refusal::unsupported("time-zone-not-supported", message);
            return Some(
                refusal.hint("SET TimeZone to a name of the IANA database or a fixed offset."),
            );
        }
        None
    }

    fn is_iso(&self) -> bool {
        self.date_style
            .split(',')
            .any(|part| part.trim().eq_ignore_ascii_case("ISO"))
    }

    pub(super) fn date_order(&self) -> DateOrder {
        let has = |name: &str| {
            self.date_style
                .split(',')
                .any(|part| part.trim().eq_ignore_ascii_case(name))
        };
        if has("YMD") {
            DateOrder::YearMonthDay
        } else if has("DMY") {
            DateOrder::DayMonthYear
        } else {
            DateOrder::MonthDayYear
        }
    }
}
