//! `timestamp(p)` and `timestamptz(p)`: microseconds from 2000-01-01, of local time or of UTC; the extreme integers are
//! the infinities. `timestamptz` is read and shown in the session's time zone.

use super::{
    DamagedValue, FormatSettings, InputError, LogicalType, binary,
    calendar::{DAY, END_TIMESTAMP, MIN_TIMESTAMP, SECOND, Ymd, write_two},
    datetime::{self, Given, Moment, Parsed},
    settings::{DateOrder, DateStyle},
    zone::Zone,
};

pub(super) const INFINITY: i64 = i64::MAX;
pub(super) const MINUS_INFINITY: i64 = i64::MIN;
/// 1970-01-01.
const UNIX_EPOCH: i64 = -10_957 * DAY;
/// The server's buffer for a timestamp's text.
const ROOM: usize = 153;

pub(super) fn is_infinite(micros: i64) -> bool {
    matches!(micros, INFINITY | MINUS_INFINITY)
}

/// A timestamp, if it is one that the type holds.
pub(super) fn in_range(micros: i64) -> Option<i64> {
    (MIN_TIMESTAMP..END_TIMESTAMP)
        .contains(&micros)
        .then_some(micros)
}

/// The session's zone, or `0A000` if it is not known here.
pub(super) fn session_zone(settings: &FormatSettings) -> Result<Zone, InputError> {
    Zone::find(&settings.time_zone).ok_or_else(|| {
        let message = format!(
            "TimeZone \"{}\" is not supported with protected columns",
            settings.time_zone
        );
        InputError::unsupported(message)
            .hint("SET TimeZone to a name of the IANA database or a fixed offset.")
    })
}

/// Local microseconds as UTC, by the zone's rule for times that are skipped or come twice.
pub(super) fn to_utc(local: i64, zone: &Zone) -> Option<i64> {
    let offset = zone.offset_of(local.div_euclid(SECOND))?;
    local.checked_sub(offset * SECOND)
}

/// UTC microseconds as local ones.
pub(super) fn to_local(micros: i64, zone: &Zone) -> Option<i64> {
    let offset = zone.offset_at(micros.div_euclid(SECOND))?;
    micros.checked_add(offset * SECOND)
}

fn modifier(kind: LogicalType) -> Option<u8> {
    match kind {
        LogicalType::Timestamp(p) | LogicalType::Timestamptz(p) => p,
        _ => None,
    }
}

fn has_zone(kind: LogicalType) -> bool {
    matches!(kind, LogicalType::Timestamptz(_))
}

/// Rounds to so many decimals of a second, half away from 2000-01-01.
pub(super) fn assign(kind: LogicalType, micros: i64) -> i64 {
    let Some(decimals @ 0..6) = modifier(kind) else {
        return micros;
    };
    if is_infinite(micros) {
        return micros;
    }
    let unit = 10_i64.pow(6 - u32::from(decimals));
    let half = if micros < 0 { -unit / 2 } else { unit / 2 };
    micros.saturating_add(half) / unit * unit
}

pub(super) fn input(
    kind: LogicalType,
    text: &str,
    settings: &FormatSettings,
) -> Result<Vec<u8>, InputError> {
    let type_name = if has_zone(kind) {
        "timestamp with time zone"
    } else {
        "timestamp"
    };
    let micros = match datetime::parse(text, type_name, ROOM, settings)? {
        Parsed::Infinity => INFINITY,
        Parsed::MinusInfinity => MINUS_INFINITY,
        Parsed::Epoch => UNIX_EPOCH,
        Parsed::At(moment) => {
            let micros = if has_zone(kind) {
                in_zone(&moment, settings)?
            } else {
                moment.local()
            };
            micros.and_then(in_range).ok_or_else(|| {
                InputError::new("22008", format!("timestamp out of range: \"{text}\""))
            })?
        }
    };
    Ok(assign(kind, micros).to_be_bytes().to_vec())
}

fn in_zone(moment: &Moment, settings: &FormatSettings) -> Result<Option<i64>, InputError> {
    let Some(local) = moment.local() else {
        return Ok(None);
    };
    Ok(match &moment.zone {
        Given::Offset(offset) => local.checked_sub(offset * SECOND),
        Given::Named(zone) => to_utc(local, zone),
        Given::Abbreviation(name, zone) => zone
            .offset_of_abbreviation(name, local.div_euclid(SECOND))
            .and_then(|offset| local.checked_sub(offset * SECOND)),
        Given::Nothing => to_utc(local, &session_zone(settings)?),
    })
}

pub(super) fn recv(kind: LogicalType, bytes: &[u8]) -> Result<Vec<u8>, InputError> {
    binary::checked(bytes, |array| {
        let micros = i64::from_be_bytes(array);
        if !is_infinite(micros) && in_range(micros).is_none() {
            return Err(InputError::new("22008", "timestamp out of range"));
        }
        Ok(assign(kind, micros).to_be_bytes().to_vec())
    })
}

pub(super) fn read(value: &[u8]) -> Result<i64, DamagedValue> {
    Ok(i64::from_be_bytes(binary::stored(value)?))
}

/// Damaged also if the session's zone is not known here: ask [`FormatSettings::unsupported`] first.
pub(super) fn output(
    kind: LogicalType,
    value: &[u8],
    settings: &FormatSettings,
    out: &mut Vec<u8>,
) -> Result<(), DamagedValue> {
    let micros = read(value)?;
    match micros {
        INFINITY => out.extend_from_slice(b"infinity"),
        MINUS_INFINITY => out.extend_from_slice(b"-infinity"),
        _ if has_zone(kind) => {
            let zone = session_zone(settings)?;
            let instant = micros.div_euclid(SECOND);
            let offset = zone.offset_at(instant).ok_or(DamagedValue)?;
            let local = micros.checked_add(offset * SECOND).ok_or(DamagedValue)?;
            let shown = if settings.date_style() == DateStyle::Iso {
                ShownZone::Offset(offset)
            } else {
                ShownZone::Name(zone.abbreviation_at(instant).ok_or(DamagedValue)?)
            };
            write(local, Some(shown), settings, out);
        }
        _ => write(micros, None, settings, out),
    }
    Ok(())
}

/// How the zone is shown: ISO's style has offsets, the others have abbreviations.
enum ShownZone {
    Offset(i64),
    Name(String),
}

/// Characters of an abbreviation that are shown.
const MOST_OF_A_NAME: usize = 10;

fn write(local: i64, zone: Option<ShownZone>, settings: &FormatSettings, out: &mut Vec<u8>) {
    let (days, time) = (local.div_euclid(DAY), local.rem_euclid(DAY));
    let date = Ymd::from_days(days);
    let style = settings.date_style();
    let day_first = settings.date_order() == DateOrder::DayMonthYear;
    if style == DateStyle::Postgres {
        write_in_words(days, date, day_first, out);
    } else {
        date.write(style, day_first, out);
    }
    out.push(b' ');
    super::time_of_day::write(time, out);
    if style == DateStyle::Postgres {
        out.push(b' ');
        date.write_year(out);
    }
    match zone {
        None => {}
        Some(ShownZone::Offset(offset)) => write_offset(offset, out),
        Some(ShownZone::Name(name)) => {
            out.push(b' ');
            out.extend_from_slice(&name.as_bytes()[..name.len().min(MOST_OF_A_NAME)]);
        }
    }
    date.write_era(out);
}

/// `Wed Dec 17`
fn write_in_words(days: i64, date: Ymd, day_first: bool, out: &mut Vec<u8>) {
    const DAYS: [&str; 7] = ["Sat", "Sun", "Mon", "Tue", "Wed", "Thu", "Fri"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    out.extend_from_slice(DAYS[days.rem_euclid(7) as usize].as_bytes());
    out.push(b' ');
    let month = MONTHS[(date.month - 1).clamp(0, 11) as usize].as_bytes();
    if day_first {
        write_two(date.day, out);
        out.push(b' ');
        out.extend_from_slice(month);
    } else {
        out.extend_from_slice(month);
        out.push(b' ');
        write_two(date.day, out);
    }
}

/// Microseconds without trailing zeros.
pub(super) fn write_fraction(micros: i64, out: &mut Vec<u8>) {
    if micros == 0 {
        return;
    }
    out.push(b'.');
    for pair in [micros / 10_000, micros / 100, micros] {
        write_two(pair % 100, out);
    }
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

/// `+02`, `+05:30`, `-04:56:02`.
pub(super) fn write_offset(offset: i64, out: &mut Vec<u8>) {
    out.push(if offset < 0 { b'-' } else { b'+' });
    let west_or_east = offset.abs();
    let hours = west_or_east / 3600;
    if hours < 100 {
        write_two(hours, out);
    } else {
        super::integer::write(hours, out);
    }
    let (minutes, seconds) = (west_or_east / 60 % 60, west_or_east % 60);
    if minutes != 0 || seconds != 0 {
        out.push(b':');
        write_two(minutes, out);
    }
    if seconds != 0 {
        out.push(b':');
        write_two(seconds, out);
    }
}
