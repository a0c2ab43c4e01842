//! The meaning of a date's fields in their order, with what earlier fields have settled.

use super::{
    Fault, Given, Parsed,
    abbreviations::{self, Abbreviation},
    fields::{Field, Kind},
    numbers::{displacement, field_integer, fraction, int, leading_integer},
    words::{self, Word},
};
use crate::types::{
    FormatSettings,
    calendar::{self, SECOND},
    settings::DateOrder,
    zone::{Meaning, Zone, lacks_rule},
};

/// The release since which `infinity` and `epoch` stand alone, and a number follows `J`.
pub(super) const STRICT: u32 = 16;
/// The release since which abbreviations of the session's zone come before those of `timezone_abbreviations`.
const ABBREVIATIONS_OF_SESSION: u32 = 18;

/// What has been settled, one bit each.
pub(super) type Mask = u32;
pub(super) const RESERVED: Mask = 1 << 0;
pub(super) const MONTH: Mask = 1 << 1;
pub(super) const YEAR: Mask = 1 << 2;
pub(super) const DAY: Mask = 1 << 3;
pub(super) const ZONE: Mask = 1 << 5;
pub(super) const SUMMER: Mask = 1 << 6;
const DYNAMIC: Mask = 1 << 7;
pub(super) const MERIDIEM: Mask = 1 << 9;
pub(super) const TIME: Mask = 1 << 10;
pub(super) const DAY_OF_YEAR: Mask = 1 << 15;
pub(super) const WEEKDAY: Mask = 1 << 16;
pub(super) const ERA: Mask = 1 << 18;
pub(super) const MODIFIER: Mask = 1 << 28;
pub(super) const DATE: Mask = YEAR | MONTH | DAY;

/// Half of the day that an hour counts from.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Meridiem {
    Am,
    Pm,
}

/// A field that says what the next one is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Pending {
    /// `T`: a time.
    IsoTime,
    /// `J`: a Julian day.
    Julian,
}

/// What the fields have said so far.
pub(super) struct Decoder<'s> {
    pub(super) settings: &'s FormatSettings,
    pub(super) order: DateOrder,
    pub(super) mask: Mask,
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) day_of_year: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    pub(super) micros: i64,
    pub(super) two_digit_year: bool,
    pub(super) month_is_word: bool,
    pub(super) before_christ: bool,
    pub(super) meridiem: Option<Meridiem>,
    pub(super) zone: Given,
    /// What the field before says of this one.
    pub(super) pending: Option<Pending>,
    /// The date is a Julian day: neither era nor short year.
    pub(super) julian: bool,
    /// A word that stands for the whole value.
    pub(super) whole: Option<Word>,
}

pub(super) fn decode(fields: &[Field], settings: &FormatSettings) -> Result<Parsed, Fault> {
    let mut decoder = Decoder::new(settings);
    for (index, field) in fields.iter().enumerate() {
        let next = fields.get(index + 1).map(|field| field.kind);
        let Some(settled) = decoder.field(field, next)? else {
            continue;
        };
        if settled & decoder.mask != 0 {
            return Err(Fault::Format);
        }
        decoder.mask |= settled;
    }
    decoder.finish()
}

impl<'s> Decoder<'s> {
    pub(super) fn new(settings: &'s FormatSettings) -> Self {
        Self {
            settings,
            order: settings.date_order(),
            mask: 0,
            year: 0,
            month: 0,
            day: 0,
            day_of_year: 0,
            hour: 0,
            minute: 0,
            second: 0,
            micros: 0,
            two_digit_year: false,
            month_is_word: false,
            before_christ: false,
            meridiem: None,
            zone: Given::Nothing,
            pending: None,
            julian: false,
            whole: None,
        }
    }

    /// Takes a field in; says what it settles, `None` if it means nothing.
    fn field(&mut self, field: &Field, next: Option<Kind>) -> Result<Option<Mask>, Fault> {
        let text = field.text.as_str();
        match field.kind {
            Kind::Date => self.date_or_zone(text).map(Some),
            Kind::Time => {
                if self.pending.take() == Some(Pending::Julian) {
                    return Err(Fault::Format);
                }
                let settled = self.time(text)?;
                if self.hour > 24 || self.time_of_day() > calendar::DAY {
                    return Err(Fault::Field);
                }
                Ok(Some(settled))
            }
            Kind::Zone => {
                self.zone = Given::Offset(displacement(text)?);
                Ok(Some(ZONE))
            }
            Kind::Number => self.number(text).map(Some),
            Kind::Word => self.word(text, next),
        }
    }

    /// After month and day this is a time run together with a zone (`040506-08`), or a zone's name.
    fn date_or_zone(&mut self, text: &str) -> Result<Mask, Fault> {
        let pending = self.pending.take();
        if pending == Some(Pending::Julian) {
            let (day, rest) = leading_integer(text);
            self.julian_day(day.unwrap_or(0))?;
            self.zone = Given::Offset(displacement(rest)?);
            return Ok(DATE | TIME | ZONE);
        }
        if pending.is_none() && self.mask & (MONTH | DAY) != MONTH | DAY {
            let mut mask = self.mask;
            return self.date(text, &mut mask);
        }
        if pending.is_none() && !text.starts_with(|c: char| c.is_ascii_digit()) {
            return self.named_zone(text);
        }
        if self.mask & TIME != 0 {
            return Err(Fault::Format);
        }
        self.time_with_zone(text, self.mask)
    }

    /// A zone's name with punctuation.
    pub(super) fn named_zone(&mut self, text: &str) -> Result<Mask, Fault> {
        self.zone = match Zone::find(text) {
            Some(zone) => Given::Named(zone),
            None if lacks_rule(text) => {
                return Err(Fault::Unsupported(
                    "a time zone without a rule for daylight saving",
                ));
            }
            None => return Err(Fault::UnknownZone(text.to_owned())),
        };
        Ok(ZONE)
    }

    /// `040506-08`
    pub(super) fn time_with_zone(&mut self, text: &str, mask: Mask) -> Result<Mask, Fault> {
        let dash = text.find('-').ok_or(Fault::Format)?;
        self.zone = Given::Offset(displacement(&text[dash..])?);
        Ok(self.run_together(&text[..dash], mask)? | ZONE)
    }

    /// Whether nothing that a `J` could stand before follows: since PostgreSQL 16 that is an error.
    pub(super) fn lacks_number(&self, next: Option<Kind>) -> bool {
        let fits = matches!(next, Some(Kind::Number | Kind::Time | Kind::Date));
        self.settings.release >= STRICT && !fits
    }

    fn julian_day(&mut self, day: i64) -> Result<(), Fault> {
        let date = calendar::Ymd::from_days(int(day)? + calendar::MIN_DAY);
        (self.year, self.month, self.day) = (date.year, date.month, date.day);
        self.julian = true;
        Ok(())
    }

    /// `2451187` or `2451187.5` behind a `J`.
    pub(super) fn julian(&mut self, text: &str) -> Result<Mask, Fault> {
        let (day, rest) = leading_integer(text);
        let day = int(day.unwrap_or(0))?;
        if !rest.is_empty() && !rest.starts_with('.') {
            return Err(Fault::Format);
        }
        self.whole = None;
        self.julian_day(day)?;
        if rest.is_empty() {
            return Ok(DATE);
        }
        let of_day: f64 = format!("0{rest}0").parse().map_err(|_| Fault::Format)?;
        let micros = (of_day * calendar::DAY as f64) as i64;
        let seconds = micros / SECOND;
        (self.hour, self.minute, self.second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        self.micros = micros % SECOND;
        Ok(DATE | TIME)
    }

    /// `hh:mm`, `hh:mm:ss`, `hh:mm:ss.fff`, `mm:ss.fff`.
    pub(super) fn time(&mut self, text: &str) -> Result<Mask, Fault> {
        // The hour's range is looked at last.
        let (hour, rest) = leading_integer(text);
        let hour = int(hour.unwrap_or(0))?;
        let (minute, rest) = field_integer(rest.strip_prefix(':').ok_or(Fault::Format)?)?;
        let (hour, minute, second, rest) = if let Some(rest) = rest.strip_prefix(':') {
            let (second, rest) = field_integer(rest)?;
            (hour, minute, second, rest)
        } else if rest.starts_with('.') {
            (0, hour, minute, rest)
        } else {
            (hour, minute, 0, rest)
        };
        (self.hour, self.minute, self.second) = (hour, minute, second);
        self.micros = if rest.is_empty() {
            0
        } else {
            fraction(rest, self.settings.release < 15)?
        };
        // The hour is looked at by the caller.
        if minute > 59 || second > 60 {
            return Err(Fault::Field);
        }
        Ok(TIME)
    }

    pub(super) fn time_of_day(&self) -> i64 {
        ((self.hour * 60 + self.minute) * 60 + self.second) * SECOND + self.micros
    }

    fn number(&mut self, text: &str) -> Result<Mask, Fault> {
        match self.pending.take() {
            Some(Pending::Julian) => return self.julian(text),
            Some(Pending::IsoTime) => return self.iso_time(text),
            None => {}
        }
        match text.find('.') {
            Some(_) if self.mask & DATE == 0 => {
                let mut mask = self.mask;
                self.date(text, &mut mask)
            }
            Some(point) if point > 2 => self.run_together(text, self.mask),
            _ if text.len() >= 6 && (self.mask & DATE == 0 || self.mask & TIME == 0) => {
                self.run_together(text, self.mask)
            }
            _ => self.single_number(text, self.mask),
        }
    }

    /// `hhmmss` behind a `T`.
    pub(super) fn iso_time(&mut self, text: &str) -> Result<Mask, Fault> {
        self.whole = None;
        int(leading_integer(text).0.unwrap_or(0))?;
        match self.run_together(text, self.mask | DATE)? {
            TIME => Ok(TIME),
            _ => Err(Fault::Format),
        }
    }

    /// The abbreviation of a zone's name, if it is one.
    pub(super) fn abbreviation(&mut self, text: &str) -> Result<Option<Mask>, Fault> {
        let mut found = abbreviations::find(text, &self.settings.abbreviations);
        if self.settings.release >= ABBREVIATIONS_OF_SESSION {
            let name = text.to_ascii_uppercase();
            let unknown = || Fault::Unsupported("this time zone abbreviation");
            // The session's zone comes first, whatever it means there; such as LMT, which no set of abbreviations has.
            match Zone::find(&self.settings.time_zone) {
                None if found.is_some() => return Err(unknown()),
                None => {}
                Some(session) => match session.meaning(&name) {
                    Meaning::None => {}
                    Meaning::One(offset, summer) => {
                        found = Some(Abbreviation::Fixed(offset, summer));
                    }
                    Meaning::ByDate => {
                        self.zone = Given::Abbreviation(name, session);
                        return Ok(Some(ZONE | DYNAMIC));
                    }
                    Meaning::Unknown => return Err(unknown()),
                },
            }
        }
        Ok(match found {
            Some(Abbreviation::Fixed(offset, summer)) => {
                self.zone = Given::Offset(offset);
                Some(if summer { ZONE | SUMMER } else { ZONE })
            }
            Some(Abbreviation::Of(zone)) => {
                let zone =
                    Zone::find(zone).ok_or(Fault::Unsupported("this time zone abbreviation"))?;
                self.zone = Given::Abbreviation(text.to_ascii_uppercase(), zone);
                Some(ZONE | DYNAMIC)
            }
            Some(Abbreviation::Unknown) => {
                return Err(Fault::Unsupported("this time zone abbreviation"));
            }
            None => None,
        })
    }

    /// `DST` behind a zone: an hour more.
    pub(super) fn summer_time(&mut self) -> Mask {
        if let Given::Offset(offset) = &mut self.zone {
            *offset += 3600;
        }
        MODIFIER | SUMMER
    }

    fn word(&mut self, text: &str, next: Option<Kind>) -> Result<Option<Mask>, Fault> {
        if let Some(settled) = self.abbreviation(text)? {
            return Ok(Some(settled));
        }
        let Some(word) = words::find(text) else {
            // Perhaps a zone's name of letters only.
            self.zone = Given::Named(Zone::find(text).ok_or(Fault::Format)?);
            return Ok(Some(ZONE));
        };
        let settled = match word {
            Word::Nothing => return Ok(None),
            Word::Month(month) => self.month_word(month),
            Word::Weekday => WEEKDAY,
            Word::Am | Word::Pm => {
                self.meridiem = Some(if word == Word::Am {
                    Meridiem::Am
                } else {
                    Meridiem::Pm
                });
                MERIDIEM
            }
            Word::Ad | Word::Bc => {
                self.before_christ = word == Word::Bc;
                ERA
            }
            Word::IsoTime => {
                let time_follows = matches!(next, Some(Kind::Number | Kind::Time | Kind::Date));
                if self.mask & DATE != DATE || !time_follows {
                    return Err(Fault::Format);
                }
                self.pending = Some(Pending::IsoTime);
                0
            }
            Word::Epoch | Word::Infinity | Word::MinusInfinity => {
                self.whole = Some(word);
                if self.settings.release >= STRICT {
                    DATE | TIME | ZONE
                } else {
                    RESERVED
                }
            }
            Word::Allballs => {
                self.whole = None;
                (self.hour, self.minute, self.second) = (0, 0, 0);
                self.zone = Given::Offset(0);
                TIME | ZONE
            }
            Word::Now | Word::Today => {
                return Err(Fault::Unsupported(
                    "a date that depends on the current time",
                ));
            }
            Word::SummerTime => self.summer_time(),
            Word::Julian if self.lacks_number(next) => return Err(Fault::Format),
            Word::Julian => {
                self.pending = Some(Pending::Julian);
                0
            }
            Word::Label => return Err(Fault::Unsupported("a date with labelled fields")),
        };
        Ok(Some(settled))
    }

    /// A month's name: a number that was taken for the month was the day.
    fn month_word(&mut self, month: i64) -> Mask {
        let has_number = self.mask & MONTH != 0 && !self.month_is_word && self.mask & DAY == 0;
        let settled = if has_number && (1..=31).contains(&self.month) {
            self.day = self.month;
            DAY
        } else {
            MONTH
        };
        self.month_is_word = true;
        self.month = month;
        settled
    }
}
