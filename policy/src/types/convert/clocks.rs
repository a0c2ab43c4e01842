//! Casts among times of day and intervals, and of timestamps to times of day.

use super::damaged;
use crate::types::{
    FormatSettings, InputError,
    LogicalType::{self, *},
    calendar::{DAY, SECOND},
    interval::Interval,
    time_of_day,
    timestamp::{self, session_zone, to_local},
};

pub(super) fn assign(
    value: &[u8],
    from: LogicalType,
    to: LogicalType,
    settings: &FormatSettings,
) -> Result<Vec<u8>, InputError> {
    if let Interval(..) = from {
        let interval = Interval::read(value).map_err(|_| damaged())?;
        return Ok(match to {
            Interval(fields, precision) => interval.assign((fields, precision)).encode(),
            _ if interval.is_infinite() => {
                let message = "cannot convert infinite interval to time";
                return Err(InputError::new("22008", message));
            }
            _ => time_of_day::encode(to, interval.micros.rem_euclid(DAY), 0),
        });
    }
    let (micros, east) = match from {
        Timestamp(_) | Timestamptz(_) => of_timestamp(value, from, settings)?,
        _ => time_of_day::read(from, value).map_err(|_| damaged())?,
    };
    if let Interval(fields, precision) = to {
        let interval = Interval {
            micros,
            ..Interval::default()
        };
        return Ok(interval.assign((fields, precision)).encode());
    }
    if let (Time(_), Timetz(_)) = (from, to) {
        // The offset of today.
        let offset = session_zone(settings)?.settled_offset();
        let offset = offset.ok_or_else(|| {
            InputError::unsupported(
                "a time without time zone cannot be stored in a protected column of type time with time zone in \
                 this TimeZone",
            )
            .hint("Write the time with an offset.")
        })?;
        return Ok(time_of_day::encode(to, micros, offset));
    }
    Ok(time_of_day::encode(to, micros, east))
}

fn of_timestamp(
    value: &[u8],
    from: LogicalType,
    settings: &FormatSettings,
) -> Result<(i64, i64), InputError> {
    let micros = timestamp::read(value).map_err(|_| damaged())?;
    if timestamp::is_infinite(micros) {
        return Err(InputError::unsupported(
            "an infinite timestamp has no time of day that a protected column could store",
        ));
    }
    if !matches!(from, Timestamptz(_)) {
        return Ok((micros.rem_euclid(DAY), 0));
    }
    let local = to_local(micros, &session_zone(settings)?)
        .ok_or_else(|| InputError::new("22008", "timestamp out of range"))?;
    Ok((local.rem_euclid(DAY), (local - micros) / SECOND))
}
