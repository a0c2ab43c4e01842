//! `time(p)` and `timetz(p)`: microseconds from midnight, up to `24:00:00`; `timetz` with an offset beside them. Knows no
//! date: a `timetz` without a zone is read where the session's zone has one offset all the year round.

use super::{
    DamagedValue, FormatSettings, InputError, LogicalType, binary,
    calendar::{DAY, SECOND, write_two},
    datetime::{self, Clock},
    timestamp::{write_fraction, write_offset},
};

/// The server's buffer for a time's text.
const ROOM: usize = 129;
/// Offsets must be below this, in seconds.
const END_OFFSET: i32 = 16 * 3600;

fn modifier(kind: LogicalType) -> Option<u8> {
    match kind {
        LogicalType::Time(p) | LogicalType::Timetz(p) => p,
        _ => None,
    }
}

fn has_zone(kind: LogicalType) -> bool {
    matches!(kind, LogicalType::Timetz(_))
}

/// Rounds to so many decimals of a second, half away from zero.
pub(super) fn rounded(micros: i64, decimals: Option<u8>) -> i64 {
    let Some(decimals @ 0..6) = decimals else {
        return micros;
    };
    let unit = 10_i64.pow(6 - u32::from(decimals));
    let half = if micros < 0 { -unit / 2 } else { unit / 2 };
    micros.saturating_add(half) / unit * unit
}

/// The send form. `east` is in seconds; it stands west of UTC, as POSIX has it.
pub(super) fn encode(kind: LogicalType, micros: i64, east: i64) -> Vec<u8> {
    let mut bytes = rounded(micros, modifier(kind)).to_be_bytes().to_vec();
    if has_zone(kind) {
        bytes.extend_from_slice(&((-east) as i32).to_be_bytes());
    }
    bytes
}

pub(super) fn input(
    kind: LogicalType,
    text: &str,
    settings: &FormatSettings,
) -> Result<Vec<u8>, InputError> {
    let type_name = if has_zone(kind) {
        "time with time zone"
    } else {
        "time"
    };
    let wants = if has_zone(kind) {
        Clock::WithZone
    } else {
        Clock::Bare
    };
    let (micros, east) = datetime::parse_time(text, type_name, ROOM, settings, wants)?;
    Ok(encode(kind, micros, east))
}

pub(super) fn recv(kind: LogicalType, bytes: &[u8]) -> Result<Vec<u8>, InputError> {
    let out_of_range = || InputError::new("22008", "time out of range");
    if !has_zone(kind) {
        return binary::checked(bytes, |array| {
            let micros = i64::from_be_bytes(array);
            if !(0..=DAY).contains(&micros) {
                return Err(out_of_range());
            }
            Ok(encode(kind, micros, 0))
        });
    }
    let mut reader = binary::Reader::new(bytes);
    let micros = i64::from_be_bytes(reader.array()?);
    if !(0..=DAY).contains(&micros) {
        return Err(out_of_range());
    }
    let west = reader.i32()?;
    if west <= -END_OFFSET || west >= END_OFFSET {
        return Err(InputError::new(
            "22009",
            "time zone displacement out of range",
        ));
    }
    reader.end()?;
    Ok(encode(kind, micros, -i64::from(west)))
}

/// Microseconds, and seconds east of UTC (0 for `time`).
pub(super) fn read(kind: LogicalType, value: &[u8]) -> Result<(i64, i64), DamagedValue> {
    if !has_zone(kind) {
        return Ok((i64::from_be_bytes(binary::stored(value)?), 0));
    }
    let bytes: [u8; 12] = binary::stored(value)?;
    let (micros, west) = bytes.split_first_chunk::<8>().ok_or(DamagedValue)?;
    let west = i32::from_be_bytes(west.try_into().map_err(|_| DamagedValue)?);
    Ok((i64::from_be_bytes(*micros), -i64::from(west)))
}

pub(super) fn output(
    kind: LogicalType,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DamagedValue> {
    let (micros, east) = read(kind, value)?;
    if !(0..=DAY).contains(&micros) {
        return Err(DamagedValue);
    }
    write(micros, out);
    if has_zone(kind) {
        write_offset(east, out);
    }
    Ok(())
}

/// `hh:mm:ss.ffffff`
pub(super) fn write(micros: i64, out: &mut Vec<u8>) {
    let seconds = micros / SECOND;
    write_two(seconds / 3600, out);
    out.push(b':');
    write_two(seconds / 60 % 60, out);
    out.push(b':');
    write_two(seconds % 60, out);
    write_fraction(micros % SECOND, out);
}
