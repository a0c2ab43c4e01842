//! What is computed of the server's own time: `now() + interval '1 day'`, `CURRENT_DATE - 30`, `date_trunc('day', now())`. A
//! step makes of a time what PostgreSQL's operators, functions and casts make of it. Knows no clock.

use std::fmt;

use super::{
    FormatSettings, InputError,
    LogicalType::{self, *},
    Value,
    calendar::{DAY, SECOND, Ymd},
    convert::{Conversion, Converted, convert},
    date,
    interval::Interval,
    span::{self, GivenAs, Number, Span},
    timestamp::{self, in_range, session_zone, to_local, to_utc},
    zone::Zone,
};

/// A step in the computing of a time.
#[derive(Clone, PartialEq)]
pub struct TimeStep(Step);

#[derive(Clone, PartialEq)]
enum Step {
    /// `+ interval`, or `-`.
    Shift { by: Span, back: bool },
    /// `+ 30`, of a date, or `-`.
    Days { by: Number, back: bool },
    /// `date_trunc('month', x)`
    Cut(Unit),
    /// `x::date`
    Cast(LogicalType),
    /// `x AT TIME ZONE 'UTC'`
    Utc,
}

/// What is cut off below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

/// With the date of a log a step tells the value.
impl fmt::Debug for TimeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Step::Shift { .. } | Step::Days { .. } => "+ ...",
            Step::Cut(_) => "date_trunc",
            Step::Cast(_) => "cast",
            Step::Utc => "AT TIME ZONE 'UTC'",
        })
    }
}

impl TimeStep {
    /// An interval added or (`back`) subtracted.
    pub fn shift(by: Span, back: bool) -> Self {
        Self(Step::Shift { by, back })
    }

    /// So many days, added to a date or subtracted from it.
    pub fn days(by: Number, back: bool) -> Self {
        Self(Step::Days { by, back })
    }

    /// Whether a part of the value is written in the statement.
    pub fn holds_literal(&self) -> bool {
        match &self.0 {
            Step::Shift { by, .. } => by.holds_literal(),
            Step::Days { by, .. } => by.is_literal(),
            Step::Cut(_) | Step::Cast(_) | Step::Utc => false,
        }
    }

    /// Whether a parameter is part of it.
    pub fn has_params(&self) -> bool {
        match &self.0 {
            Step::Shift { by, .. } => by.has_params(),
            Step::Days { by, .. } => !by.is_literal(),
            Step::Cut(_) | Step::Cast(_) | Step::Utc => false,
        }
    }

    /// `date_trunc` to this unit, in any case.
    pub fn cut(unit: &str) -> Option<Self> {
        Some(Self(Step::Cut(match &*unit.to_ascii_lowercase() {
            "second" | "seconds" => Unit::Second,
            "minute" | "minutes" => Unit::Minute,
            "hour" | "hours" => Unit::Hour,
            "day" | "days" => Unit::Day,
            "week" | "weeks" => Unit::Week,
            "month" | "months" => Unit::Month,
            "quarter" => Unit::Quarter,
            "year" | "years" => Unit::Year,
            _ => return None,
        })))
    }

    /// A cast.
    pub fn cast(to: LogicalType) -> Self {
        Self(Step::Cast(to))
    }

    /// `AT TIME ZONE 'UTC'` of a timestamp with time zone.
    pub fn utc() -> Self {
        Self(Step::Utc)
    }

    /// The type that it makes of another. `None`: PostgreSQL has no such step, or it is not done here.
    pub fn of(&self, from: LogicalType) -> Option<LogicalType> {
        match (&self.0, from) {
            (Step::Shift { .. }, Date | Timestamp(None)) => Some(Timestamp(None)),
            (Step::Shift { .. }, Timestamptz(None) | Time(None)) => Some(from),
            (Step::Days { .. }, Date) => Some(Date),
            (Step::Cut(_), Date | Timestamptz(None)) => Some(Timestamptz(None)),
            (Step::Cut(_), Timestamp(None)) => Some(Timestamp(None)),
            (Step::Utc, Timestamptz(None)) => Some(Timestamp(None)),
            (
                Step::Cast(to @ (Date | Timestamp(None) | Timestamptz(None))),
                Date | Timestamp(None) | Timestamptz(None),
            )
            | (Step::Cast(to @ Time(None)), Timestamp(None) | Timestamptz(None) | Time(None)) => {
                Some(*to)
            }
            _ => None,
        }
    }

    /// What it makes of a value of this type; `None` is NULL.
    ///
    /// # Errors
    /// What PostgreSQL says of times and intervals out of range; a zone that is not known here.
    pub fn apply(
        &self,
        value: &Value,
        from: LogicalType,
        given: GivenAs<'_>,
        settings: &FormatSettings,
    ) -> Result<Option<Value>, InputError> {
        let converted = |value: &Value, from, to| match convert(
            value,
            from,
            to,
            Conversion::Assignment,
            settings,
        )? {
            Converted::Value(value) => Ok(value),
            Converted::NeverEqual => Err(out_of_range()),
        };
        let damaged = |_| InputError::binary("incorrect binary data format");
        let bytes = match (&self.0, from) {
            // PostgreSQL: the time of day of an infinite timestamp is NULL.
            (Step::Cast(Time(_)), Timestamp(_) | Timestamptz(_)) if is_infinite(value, from)? => {
                return Ok(None);
            }
            (Step::Cast(to), _) => return converted(value, from, *to).map(Some),
            (Step::Utc, _) => return Ok(Some(value.clone())),
            (Step::Shift { .. }, Date) => {
                let value = converted(value, Date, Timestamp(None))?;
                return self.apply(&value, Timestamp(None), given, settings);
            }
            (Step::Cut(_), Date) => {
                let value = converted(value, Date, Timestamptz(None))?;
                return self.apply(&value, Timestamptz(None), given, settings);
            }
            (Step::Days { by, back }, _) => {
                let Some(days) = by.integer(given)?.map(i64::from) else {
                    return Ok(None);
                };
                if is_infinite(value, from)? {
                    return Ok(Some(value.clone()));
                }
                let days = if *back { -days } else { days };
                let from = date::read(value.as_bytes()).map_err(damaged)?;
                let moved = date::in_range(i64::from(from) + days);
                let moved = moved.ok_or_else(|| InputError::new("22008", "date out of range"))?;
                moved.to_be_bytes().to_vec()
            }
            (Step::Shift { by, back }, _) => {
                let Some(shift) = by.made(given, settings)? else {
                    return Ok(None);
                };
                if is_infinite(value, from)? {
                    return Ok(Some(value.clone()));
                }
                let micros = timestamp::read(value.as_bytes()).map_err(damaged)?;
                let moved = if matches!(from, Time(_)) {
                    round_the_clock(micros, shift, *back)
                } else {
                    let zone = matches!(from, Timestamptz(_)).then(|| session_zone(settings));
                    let shift = if *back { negated(shift)? } else { shift };
                    shifted(micros, shift, zone.transpose()?.as_ref()).and_then(in_range)
                };
                moved.ok_or_else(out_of_range)?.to_be_bytes().to_vec()
            }
            (Step::Cut(_), _) if is_infinite(value, from)? => return Ok(Some(value.clone())),
            (Step::Cut(unit), _) => {
                let zone = matches!(from, Timestamptz(_)).then(|| session_zone(settings));
                let micros = timestamp::read(value.as_bytes()).map_err(damaged)?;
                let made = cut(micros, *unit, zone.transpose()?.as_ref()).and_then(in_range);
                made.ok_or_else(out_of_range)?.to_be_bytes().to_vec()
            }
        };
        Ok(Some(Value::from_send_form(bytes)))
    }
}

/// Nothing is added to what is infinite, or cut off of it.
fn is_infinite(value: &Value, kind: LogicalType) -> Result<bool, InputError> {
    let damaged = |_| InputError::binary("incorrect binary data format");
    Ok(match kind {
        Date => matches!(
            date::read(value.as_bytes()).map_err(damaged)?,
            date::INFINITY | date::MINUS_INFINITY
        ),
        Timestamp(_) | Timestamptz(_) => {
            timestamp::is_infinite(timestamp::read(value.as_bytes()).map_err(damaged)?)
        }
        _ => false,
    })
}

/// A time of day, by what is shorter than a day.
fn round_the_clock(micros: i64, by: Interval, back: bool) -> Option<i64> {
    let (micros, by) = (i128::from(micros), i128::from(by.micros));
    let moved = if back { micros - by } else { micros + by };
    i64::try_from(moved.rem_euclid(i128::from(DAY))).ok()
}

fn out_of_range() -> InputError {
    InputError::new("22008", "timestamp out of range")
}

fn negated(interval: Interval) -> Result<Interval, InputError> {
    let negated = || {
        Some(Interval {
            months: interval.months.checked_neg()?,
            days: interval.days.checked_neg()?,
            micros: interval.micros.checked_neg()?,
        })
    };
    negated().ok_or_else(span::out_of_range)
}

/// What clocks show in a zone is changed, and taken for a time of that zone again; without a zone it is that already.
fn locally(
    micros: i64,
    zone: Option<&Zone>,
    change: impl FnOnce(i64, i64) -> Option<i64>,
) -> Option<i64> {
    let local = match zone {
        Some(zone) => to_local(micros, zone)?,
        None => micros,
    };
    let days = change(local.div_euclid(DAY), local.rem_euclid(DAY))?;
    match zone {
        Some(zone) => to_utc(days, zone),
        None => Some(days),
    }
}

/// `timestamp_pl_interval`, `timestamptz_pl_interval`: months, then days, then what is shorter.
fn shifted(micros: i64, by: Interval, zone: Option<&Zone>) -> Option<i64> {
    let at = |days: i64, time: i64| days.checked_mul(DAY)?.checked_add(time);
    let mut micros = micros;
    if by.months != 0 {
        micros = locally(micros, zone, |days, time| {
            let date = Ymd::from_days(days);
            let months = date.year * 12 + date.month - 1 + i64::from(by.months);
            let first = Ymd {
                year: months.div_euclid(12),
                month: months.rem_euclid(12) + 1,
                day: 1,
            };
            let day = date.day.min(first.month_length());
            in_range(at(Ymd { day, ..first }.days(), time)?)
        })?;
    }
    if by.days != 0 {
        micros = locally(micros, zone, |days, time| {
            in_range(at(days + i64::from(by.days), time)?)
        })?;
    }
    micros.checked_add(by.micros)
}

/// `date_trunc`
fn cut(micros: i64, unit: Unit, zone: Option<&Zone>) -> Option<i64> {
    let length = match unit {
        Unit::Second => SECOND,
        Unit::Minute => 60 * SECOND,
        Unit::Hour => 3600 * SECOND,
        _ => DAY,
    };
    if unit < Unit::Day {
        // The offset stays what it was.
        let local = match zone {
            Some(zone) => to_local(micros, zone)?,
            None => micros,
        };
        return micros.checked_sub(local.rem_euclid(length));
    }
    locally(micros, zone, |days, _| {
        let date = Ymd::from_days(days);
        let month = match unit {
            Unit::Year => 1,
            Unit::Quarter => (date.month - 1) / 3 * 3 + 1,
            _ => date.month,
        };
        let days = match unit {
            // 2000-01-03 was a Monday.
            Unit::Week => days - (days - 2).rem_euclid(7),
            Unit::Month | Unit::Quarter | Unit::Year => Ymd {
                month,
                day: 1,
                ..date
            }
            .days(),
            _ => days,
        };
        days.checked_mul(DAY)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(from: LogicalType, text: &str, steps: &[TimeStep]) -> Result<String, InputError> {
        let settings = FormatSettings {
            time_zone: "Europe/Berlin".into(),
            ..FormatSettings::default()
        };
        let mut value = from.input(text.as_bytes(), &settings)?;
        let mut kind = from;
        for step in steps {
            let given: GivenAs<'_> = &|_, _| Ok(None);
            value = step.apply(&value, kind, given, &settings)?.unwrap();
            kind = step.of(kind).unwrap();
        }
        let mut out = Vec::new();
        kind.output(value.as_bytes(), &settings, &mut out).unwrap();
        Ok(String::from_utf8(out).unwrap())
    }

    fn by(text: &str, back: bool) -> TimeStep {
        let settings = FormatSettings::default();
        let interval = Interval(None, None).input(text.as_bytes(), &settings);
        TimeStep::shift(Span::Literal(interval.unwrap()), back)
    }

    fn days(days: f64, back: bool) -> TimeStep {
        TimeStep::days(Number::Literal(days), back)
    }

    #[test]
    fn computes_times_as_the_server_does() {
        let (tz, ts) = (Timestamptz(None), Timestamp(None));
        let to = |unit| TimeStep::cut(unit).unwrap();
        // Taken from PostgreSQL 15, in Europe/Berlin.
        for (from, text, steps, shown) in [
            (
                tz,
                "2024-01-31 12:00+01",
                vec![by("1 month", false)],
                "2024-02-29 12:00:00+01",
            ),
            (
                tz,
                "2024-03-30 02:30+01",
                vec![by("1 day", false)],
                "2024-03-31 03:30:00+02",
            ),
            (
                tz,
                "2024-03-30 02:30+01",
                vec![by("24 hours", false)],
                "2024-03-31 03:30:00+02",
            ),
            (
                tz,
                "2024-03-31 12:00+02",
                vec![by("1 day", true)],
                "2024-03-30 12:00:00+01",
            ),
            (
                tz,
                "2024-03-31 12:00+02",
                vec![by("24:00", true)],
                "2024-03-30 11:00:00+01",
            ),
            (
                tz,
                "2024-10-26 02:30+02",
                vec![by("1 day", false)],
                "2024-10-27 02:30:00+01",
            ),
            (
                ts,
                "2024-05-31 01:00",
                vec![by("1 month -1 day 00:30", true)],
                "2024-05-01 00:30:00",
            ),
            (
                ts,
                "2024-02-29 01:00",
                vec![by("1 year", true)],
                "2023-02-28 01:00:00",
            ),
            (
                Date,
                "2024-02-29",
                vec![by("18 years", true)],
                "2006-02-28 00:00:00",
            ),
            (Date, "2024-02-29", vec![days(1.0, false)], "2024-03-01"),
            (Date, "2024-02-29", vec![days(60.0, true)], "2023-12-31"),
            (
                Time(None),
                "23:30",
                vec![by("1 day 01:00", false)],
                "00:30:00",
            ),
            (Time(None), "00:30", vec![by("01:00", true)], "23:30:00"),
            (
                tz,
                "2024-03-31 15:45:12.5+02",
                vec![to("second")],
                "2024-03-31 15:45:12+02",
            ),
            (
                tz,
                "2024-03-31 15:45:12+02",
                vec![to("HOUR")],
                "2024-03-31 15:00:00+02",
            ),
            (
                tz,
                "2024-03-31 15:45:12+02",
                vec![to("day")],
                "2024-03-31 00:00:00+01",
            ),
            (
                tz,
                "2024-03-31 15:45:12+02",
                vec![to("week")],
                "2024-03-25 00:00:00+01",
            ),
            (
                tz,
                "2024-06-30 23:45+02",
                vec![to("quarter")],
                "2024-04-01 00:00:00+02",
            ),
            (
                ts,
                "1999-12-31 23:45",
                vec![to("week")],
                "1999-12-27 00:00:00",
            ),
            (
                ts,
                "2024-06-30 23:45",
                vec![to("year")],
                "2024-01-01 00:00:00",
            ),
            (
                Date,
                "2024-06-30",
                vec![to("month")],
                "2024-06-01 00:00:00+02",
            ),
            (
                tz,
                "2024-06-30 23:45+00",
                vec![by("1 day", false), TimeStep::cast(Date)],
                "2024-07-02",
            ),
            (
                tz,
                "2024-06-30 23:45+02",
                vec![TimeStep::utc()],
                "2024-06-30 21:45:00",
            ),
            (
                Date,
                "2024-06-30",
                vec![TimeStep::cast(tz)],
                "2024-06-30 00:00:00+02",
            ),
        ] {
            assert_eq!(
                made(from, text, &steps).unwrap(),
                shown,
                "{from} {text} {steps:?}"
            );
        }
    }

    #[test]
    fn what_is_out_of_range_is_an_error() {
        let far = days(f64::from(i32::MAX), false);
        assert_eq!(
            made(Date, "2024-01-01", &[far]).unwrap_err().sqlstate,
            "22008"
        );
        let error = made(Timestamp(None), "2024-01-01", &[by("300000 years", false)]);
        assert_eq!(error.unwrap_err().sqlstate, "22008");
        let far = made(Date, "2024-01-01", &[days(f64::from(i32::MIN), true)]);
        assert_eq!(far.unwrap_err().sqlstate, "22008");
        assert!(TimeStep::cut("fortnight").is_none());
        assert!(by("1 day", false).of(Timetz(None)).is_none());
    }
}
