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
    /// `IntervalStyle`.
    pub interval_style: String,
    /// `timezone_abbreviations`.
    pub abbreviations: String,
    /// `lower` and `upper` make of ASCII letters what they are in English (not so in Turkish).
    pub ascii_case: bool,
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
            interval_style: "postgres".into(),
            abbreviations: "Default".into(),
            ascii_case: true,
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

/// How dates are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DateStyle {
    Iso,
    Sql,
    Postgres,
    German,
}

/// How intervals are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IntervalStyle {
    Postgres,
    PostgresVerbose,
    SqlStandard,
    Iso8601,
}

impl FormatSettings {
    pub(super) fn interval_style(&self) -> IntervalStyle {
        match self.interval_style.as_str() {
            "postgres_verbose" => IntervalStyle::PostgresVerbose,
            "sql_standard" => IntervalStyle::SqlStandard,
            "iso_8601" => IntervalStyle::Iso8601,
            _ => IntervalStyle::Postgres,
        }
    }

    /// Why values that depend on these settings cannot be shown or read right, if they cannot.
    pub fn unsupported(&self) -> Option<Refusal> {
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

    pub(super) fn date_style(&self) -> DateStyle {
        let style = self.date_style.split(',').next().unwrap_or_default();
        match style.trim().to_ascii_lowercase().as_str() {
            "sql" => DateStyle::Sql,
            "postgres" => DateStyle::Postgres,
            "german" => DateStyle::German,
            _ => DateStyle::Iso,
        }
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
