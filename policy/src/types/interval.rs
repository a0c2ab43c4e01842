//! `interval`, with fields and precision: months, days and microseconds, each with a sign of its own. Read by [`read`] and
//! [`iso`], shown by [`write`].

mod iso;
mod read;
mod units;
mod write;

use super::{DamagedValue, FormatSettings, InputError, binary, calendar::DAY, time_of_day};

/// Which fields an interval is cut to: `interval day to minute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fields {
    /// `year`
    Year,
    /// `month`
    Month,
    /// `day`
    Day,
    /// `hour`
    Hour,
    /// `minute`
    Minute,
    /// `second`
    Second,
    /// `year to month`
    YearToMonth,
    /// `day to hour`
    DayToHour,
    /// `day to minute`
    DayToMinute,
    /// `day to second`
    DayToSecond,
    /// `hour to minute`
    HourToMinute,
    /// `hour to second`
    HourToSecond,
    /// `minute to second`
    MinuteToSecond,
}

/// Name and bits in a typmod.
const FIELDS: [(Fields, &str, i32); 13] = {
    const YEAR: i32 = 1 << 2;
    const MONTH: i32 = 1 << 1;
    const DAY: i32 = 1 << 3;
    const HOUR: i32 = 1 << 10;
    const MINUTE: i32 = 1 << 11;
    const SECOND: i32 = 1 << 12;
    [
        (Fields::Year, "year", YEAR),
        (Fields::Month, "month", MONTH),
        (Fields::Day, "day", DAY),
        (Fields::Hour, "hour", HOUR),
        (Fields::Minute, "minute", MINUTE),
        (Fields::Second, "second", SECOND),
        (Fields::YearToMonth, "year to month", YEAR | MONTH),
        (Fields::DayToHour, "day to hour", DAY | HOUR),
        (Fields::DayToMinute, "day to minute", DAY | HOUR | MINUTE),
        (
            Fields::DayToSecond,
            "day to second",
            DAY | HOUR | MINUTE | SECOND,
        ),
        (Fields::HourToMinute, "hour to minute", HOUR | MINUTE),
        (
            Fields::HourToSecond,
            "hour to second",
            HOUR | MINUTE | SECOND,
        ),
        (Fields::MinuteToSecond, "minute to second", MINUTE | SECOND),
    ]
};
/// Every field, in a typmod.
const ALL_FIELDS: i32 = 0x7fff;
/// No precision, in a typmod.
const NO_PRECISION: i32 = 0xffff;

impl Fields {
    /// By name, in lower case with single blanks.
    pub(super) fn find(name: &str) -> Option<Self> {
        let found = FIELDS.iter().find(|(_, known, _)| *known == name);
        found.map(|(fields, _, _)| *fields)
    }

    fn row(self) -> (&'static str, i32) {
        let found = FIELDS.iter().find(|(fields, _, _)| *fields == self);
        found.map_or(("", ALL_FIELDS), |(_, name, bits)| (name, *bits))
    }

    /// As SQL spells it.
    pub(super) fn name(self) -> &'static str {
        self.row().0
    }

    /// Whether seconds are among them, so that a precision may follow.
    pub(super) fn has_seconds(self) -> bool {
        self.name().ends_with("second")
    }
}

/// Fields and decimals of a second; `None` for all.
pub(super) type Modifiers = (Option<Fields>, Option<u8>);

/// `atttypmod`.
pub(super) fn typmod((fields, precision): Modifiers) -> i32 {
    if fields.is_none() && precision.is_none() {
        return -1;
    }
    let bits = fields.map_or(ALL_FIELDS, |fields| fields.row().1);
    bits << 16 | precision.map_or(NO_PRECISION, i32::from)
}

/// What an `atttypmod` that is not negative means.
pub(super) fn from_typmod(typmod: i32) -> Option<Modifiers> {
    let fields = match typmod >> 16 & ALL_FIELDS {
        ALL_FIELDS => None,
        bits => Some(FIELDS.iter().find(|(_, _, known)| *known == bits)?.0),
    };
    let precision = match typmod & NO_PRECISION {
        NO_PRECISION => None,
        digits => Some(u8::try_from(digits).ok()?.min(6)),
    };
    Some((fields, precision))
}

/// The name as `format_type` writes it.
pub(super) fn sql_name((fields, precision): Modifiers) -> String {
    let mut name = "interval".to_owned();
    if let Some(fields) = fields {
        name.push(' ');
        name.push_str(fields.name());
    }
    if let Some(precision) = precision {
        name.push_str(&format!("({precision})"));
    }
    name
}

/// An interval as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) months: i32,
    pub(super) days: i32,
    pub(super) micros: i64,
}

impl Interval {
    /// A stored value.
    pub(super) fn read(value: &[u8]) -> Result<Self, DamagedValue> {
        let bytes: [u8; 16] = binary::stored(value)?;
        let number = u128::from_be_bytes(bytes);
        Ok(Self {
            months: number as i32,
            days: (number >> 32) as i32,
            micros: (number >> 64) as i64,
        })
    }

    /// The send form.
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = self.micros.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.days.to_be_bytes());
        bytes.extend_from_slice(&self.months.to_be_bytes());
        bytes
    }

    /// What the server compares: months of 30 days, days of 24 hours.
    pub(super) fn span(self) -> i128 {
        let days = i128::from(self.months) * 30 + i128::from(self.days);
        days * i128::from(DAY) + i128::from(self.micros)
    }

    /// `-infinity` since PostgreSQL 17, an extreme number to older servers.
    pub(super) const LEAST: Self = Self {
        months: i32::MIN,
        days: i32::MIN,
        micros: i64::MIN,
    };
    /// `infinity`, the same way.
    pub(super) const GREATEST: Self = Self {
        months: i32::MAX,
        days: i32::MAX,
        micros: i64::MAX,
    };

    pub(super) fn is_infinite(self) -> bool {
        [Self::LEAST, Self::GREATEST].contains(&self)
    }

    /// Older servers compute with what later ones take for an infinity.
    fn checked(self, settings: &FormatSettings) -> Result<Self, InputError> {
        if self.is_infinite() && settings.release < 17 {
            return Err(infinite());
        }
        Ok(self)
    }

    /// Cuts to the fields and rounds seconds, half away from zero.
    pub(super) fn assign(mut self, (fields, precision): Modifiers) -> Self {
        const MINUTE: i64 = 60_000_000;
        use Fields::*;
        if self.is_infinite() {
            return self;
        }
        let whole = |micros: i64, unit: i64| micros / unit * unit;
        match fields {
            Some(Year) => {
                self.months = self.months / 12 * 12;
                (self.days, self.micros) = (0, 0);
            }
            Some(Month | YearToMonth) => (self.days, self.micros) = (0, 0),
            Some(Day) => self.micros = 0,
            Some(Hour | DayToHour) => self.micros = whole(self.micros, 60 * MINUTE),
            Some(Minute | DayToMinute | HourToMinute) => {
                self.micros = whole(self.micros, MINUTE);
            }
            Some(Second | DayToSecond | HourToSecond | MinuteToSecond) | None => {}
        }
        self.micros = time_of_day::rounded(self.micros, precision);
        self
    }
}

pub(super) fn infinite() -> InputError {
    InputError::unsupported(
        "infinite intervals are not supported in values of protected columns before PostgreSQL 17",
    )
}

pub(super) fn input(
    text: &str,
    modifiers: Modifiers,
    settings: &FormatSettings,
) -> Result<Vec<u8>, InputError> {
    let interval = read::parse(text, modifiers.0, settings)?.checked(settings)?;
    Ok(interval.assign(modifiers).encode())
}

pub(super) fn recv(
    bytes: &[u8],
    modifiers: Modifiers,
    settings: &FormatSettings,
) -> Result<Vec<u8>, InputError> {
    binary::checked::<16>(bytes, |array| {
        let interval = Interval::read(&array).map_err(|_| InputError::truncated())?;
        Ok(interval.checked(settings)?.assign(modifiers).encode())
    })
}

pub(super) fn output(
    value: &[u8],
    settings: &FormatSettings,
    out: &mut Vec<u8>,
) -> Result<(), DamagedValue> {
    write::write(Interval::read(value)?, settings.interval_style(), out);
    Ok(())
}

/// The span: equal exactly for intervals that the server calls equal.
pub(super) fn canonical(value: &[u8]) -> Option<Vec<u8>> {
    let interval = Interval::read(value).ok()?;
    Some(interval.span().to_be_bytes().to_vec())
}
