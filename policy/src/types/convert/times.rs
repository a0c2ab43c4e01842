//! Casts among dates and timestamps.

use super::damaged;
use crate::types::{
    FormatSettings, InputError,
    LogicalType::{self, *},
    calendar::{DAY, END_TIMESTAMP_DAY},
    date,
    timestamp::{self, session_zone, to_local, to_utc},
};

pub(super) fn assign(
    value: &[u8],
    from: LogicalType,
    to: LogicalType,
    settings: &FormatSettings,
) -> Result<Vec<u8>, InputError> {
    if from == Date {
        let days = date::read(value).map_err(|_| damaged())?;
        let micros = from_date(days, to, settings)?;
        return Ok(timestamp::assign(to, micros).to_be_bytes().to_vec());
    }
    let micros = timestamp::read(value).map_err(|_| damaged())?;
    let is_utc = matches!(from, Timestamptz(_));
    if to == Date {
        let local = local_time(micros, is_utc, settings)?;
        return Ok(timestamp_as_date(local).to_be_bytes().to_vec());
    }
    let micros = timestamp_as(micros, is_utc, to, settings)?;
    Ok(timestamp::assign(to, micros).to_be_bytes().to_vec())
}

/// Midnight, in the session's zone for `timestamptz`.
fn from_date(days: i32, to: LogicalType, settings: &FormatSettings) -> Result<i64, InputError> {
    let out_of_range = || InputError::new("22008", "date out of range for timestamp");
    let local = date_as_timestamp(days).ok_or_else(out_of_range)?;
    if timestamp::is_infinite(local) || !matches!(to, Timestamptz(_)) {
        return Ok(local);
    }
    let micros = to_utc(local, &session_zone(settings)?);
    micros
        .and_then(timestamp::in_range)
        .ok_or_else(out_of_range)
}

/// The time that the session's clocks show; it may lie a little beyond the last timestamp.
fn local_time(micros: i64, is_utc: bool, settings: &FormatSettings) -> Result<i64, InputError> {
    if !is_utc || timestamp::is_infinite(micros) {
        return Ok(micros);
    }
    to_local(micros, &session_zone(settings)?).ok_or_else(out_of_range)
}

fn out_of_range() -> InputError {
    InputError::new("22008", "timestamp out of range")
}

/// Midnight, `None` beyond the last timestamp.
pub(super) fn date_as_timestamp(days: i32) -> Option<i64> {
    match days {
        date::INFINITY => Some(timestamp::INFINITY),
        date::MINUS_INFINITY => Some(timestamp::MINUS_INFINITY),
        days if i64::from(days) < END_TIMESTAMP_DAY => i64::from(days).checked_mul(DAY),
        _ => None,
    }
}

/// The day of a local timestamp.
fn timestamp_as_date(local: i64) -> i32 {
    match local {
        timestamp::INFINITY => date::INFINITY,
        timestamp::MINUS_INFINITY => date::MINUS_INFINITY,
        _ => local.div_euclid(DAY) as i32,
    }
}

/// Local time as UTC or the other way, by the session's zone; nothing to do if both are of one kind.
fn timestamp_as(
    micros: i64,
    is_utc: bool,
    to: LogicalType,
    settings: &FormatSettings,
) -> Result<i64, InputError> {
    let wants_utc = matches!(to, Timestamptz(_));
    if is_utc == wants_utc || timestamp::is_infinite(micros) {
        return Ok(micros);
    }
    let converted = if wants_utc {
        to_utc(micros, &session_zone(settings)?)
    } else {
        Some(local_time(micros, is_utc, settings)?)
    };
    converted
        .and_then(timestamp::in_range)
        .ok_or_else(out_of_range)
}

/// All local timestamps that the session's zone makes this instant: none, one, or two where clocks changed.
pub(super) fn locals_of(micros: i64, settings: &FormatSettings) -> Result<Vec<i64>, InputError> {
    if timestamp::is_infinite(micros) {
        return Ok(vec![micros]);
    }
    let zone = session_zone(settings)?;
    let mut locals: Vec<i64> = [-DAY, 0, DAY]
        .into_iter()
        .filter_map(|around| {
            let shifted = micros.saturating_add(around);
            let offset = to_local(shifted, &zone)?.checked_sub(shifted)?;
            let local = micros.checked_add(offset)?;
            (to_utc(local, &zone) == Some(micros)).then_some(local)
        })
        .collect();
    locals.sort_unstable();
    locals.dedup();
    Ok(locals)
}
