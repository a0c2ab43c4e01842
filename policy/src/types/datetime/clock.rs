//! The meaning of a time's fields: a date may stand with them where a zone's offset depends on it.

use super::{
    Clock, Fault, Given,
    decode::{DATE, Decoder, ERA, MERIDIEM, Mask, Meridiem, Pending, STRICT, TIME, ZONE},
    fields::{Field, Kind},
    numbers::displacement,
    words::{self, Word},
};
use crate::types::{
    FormatSettings,
    calendar::{DAY, SECOND},
    zone::Zone,
};

pub(super) fn decode(
    fields: &[Field],
    settings: &FormatSettings,
    wants: Clock,
) -> Result<(i64, i64), Fault> {
    let mut decoder = Decoder::new(settings);
    for index in 0..fields.len() {
        let Some(settled) = decoder.clock_field(fields, index)? else {
            continue;
        };
        if settled & decoder.mask != 0 {
            return Err(Fault::Format);
        }
        decoder.mask |= settled;
    }
    decoder.finish_clock(settings, wants)
}

impl Decoder<'_> {
    /// Takes a field in; says what it settles, `None` if it means nothing.
    fn clock_field(&mut self, fields: &[Field], index: usize) -> Result<Option<Mask>, Fault> {
        let field = &fields[index];
        let text = field.text.as_str();
        match field.kind {
            Kind::Date => self.clock_date(fields, index).map(Some),
            Kind::Time => {
                if self.settings.release >= STRICT && self.pending.take() == Some(Pending::Julian) {
                    return Err(Fault::Format);
                }
                self.time(text).map(Some)
            }
            Kind::Zone => {
                self.zone = Given::Offset(displacement(text)?);
                Ok(Some(ZONE))
            }
            Kind::Number => self.clock_number(fields, index).map(Some),
            Kind::Word => self.clock_word(text, fields.get(index + 1).map(|field| field.kind)),
        }
    }

    /// A date at the start, if a zone's name or a time says that it is one; else a time with an offset, or a zone's name.
    fn clock_date(&mut self, fields: &[Field], index: usize) -> Result<Mask, Fault> {
        let text = fields[index].text.as_str();
        let is_kind = |at: usize, kind| fields.get(at).is_some_and(|field| field.kind == kind);
        if index == 0
            && fields.len() >= 2
            && (is_kind(fields.len() - 1, Kind::Date) || is_kind(1, Kind::Time))
        {
            let mut mask = self.mask;
            return self.date(text, &mut mask);
        }
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            return self.named_zone(text);
        }
        if self.mask & TIME == TIME {
            return Err(Fault::Format);
        }
        self.time_with_zone(text, self.mask | DATE)
    }

    fn clock_number(&mut self, fields: &[Field], index: usize) -> Result<Mask, Fault> {
        let text = fields[index].text.as_str();
        match self.pending.take() {
            Some(Pending::Julian) => return self.julian(text),
            Some(Pending::IsoTime) => return self.iso_time(text),
            None => {}
        }
        let date_follows = index == 0
            && fields.len() >= 2
            && fields.last().is_some_and(|last| last.kind == Kind::Date);
        match text.find('.') {
            Some(_) if date_follows => {
                let mut mask = self.mask;
                self.date(text, &mut mask)
            }
            Some(3..) => self.run_together(text, self.mask | DATE),
            Some(_) => Err(Fault::Format),
            None if text.len() > 4 => self.run_together(text, self.mask | DATE),
            None => self.single_number(text, self.mask | DATE),
        }
    }

    fn clock_word(&mut self, text: &str, next: Option<Kind>) -> Result<Option<Mask>, Fault> {
        if let Some(settled) = self.abbreviation(text)? {
            return Ok(Some(settled));
        }
        let Some(word) = words::find(text) else {
            self.zone = Given::Named(Zone::find(text).ok_or(Fault::Format)?);
            return Ok(Some(ZONE));
        };
        let settled = match word {
            Word::Nothing => return Ok(None),
            Word::Am | Word::Pm => {
                let half = if word == Word::Am {
                    Meridiem::Am
                } else {
                    Meridiem::Pm
                };
                self.meridiem = Some(half);
                MERIDIEM
            }
            Word::Ad | Word::Bc => {
                self.before_christ = word == Word::Bc;
                ERA
            }
            Word::Allballs => {
                (self.hour, self.minute, self.second) = (0, 0, 0);
                self.zone = Given::Offset(0);
                TIME | ZONE
            }
            Word::SummerTime => self.summer_time(),
            Word::Julian if self.lacks_number(next) => return Err(Fault::Format),
            Word::Julian => {
                self.pending = Some(Pending::Julian);
                0
            }
            Word::IsoTime => {
                if !matches!(next, Some(Kind::Number | Kind::Time | Kind::Date)) {
                    return Err(Fault::Format);
                }
                self.pending = Some(Pending::IsoTime);
                0
            }
            Word::Now => {
                return Err(Fault::Unsupported(
                    "a time that depends on the current time",
                ));
            }
            Word::Label => return Err(Fault::Unsupported("a time with labelled fields")),
            Word::Month(_)
            | Word::Weekday
            | Word::Epoch
            | Word::Infinity
            | Word::MinusInfinity
            | Word::Today => return Err(Fault::Format),
        };
        Ok(Some(settled))
    }

    fn finish_clock(
        mut self,
        settings: &FormatSettings,
        wants: Clock,
    ) -> Result<(i64, i64), Fault> {
        self.settle_date()?;
        self.settle_hour()?;
        let in_range = self.hour <= 24 && self.minute <= 59 && self.second <= 60;
        let micros = self.time_of_day();
        if !in_range || micros > DAY {
            return Err(Fault::Field);
        }
        if self.mask & TIME != TIME {
            return Err(Fault::Format);
        }
        self.check_zone()?;
        Ok((micros, self.clock_offset(settings, wants)?))
    }

    /// Seconds east of UTC.
    fn clock_offset(&self, settings: &FormatSettings, wants: Clock) -> Result<i64, Fault> {
        let date = match self.mask & DATE {
            0 => None,
            DATE => Some(self.ymd()),
            // Part of a date helps nobody, unless there is an offset.
            _ if matches!(self.zone, Given::Offset(_)) => None,
            _ => return Err(Fault::Format),
        };
        let local = date.map(|date| date.days() * (DAY / SECOND) + self.time_of_day() / SECOND);
        // Beyond its calendar the server knows no zone.
        let is_known = date.is_some_and(|date| date.is_in_calendar());
        let at = |zone: &Zone, local: i64| {
            if is_known {
                zone.offset_of(local).ok_or(Fault::Field)
            } else {
                Ok(0)
            }
        };
        match (&self.zone, local) {
            (Given::Offset(offset), _) => Ok(*offset),
            (Given::Named(zone), local) => match (zone.only_offset(), local) {
                (Some(offset), _) => Ok(offset),
                (None, Some(local)) => at(zone, local),
                (None, None) => Err(Fault::Format),
            },
            (Given::Abbreviation(..) | Given::Nothing, _) if wants == Clock::Bare => Ok(0),
            (Given::Abbreviation(..), None) => Err(Fault::Unsupported(
                "a time with this time zone abbreviation and without a date",
            )),
            (Given::Abbreviation(name, zone), Some(local)) => {
                zone.offset_of_abbreviation(name, local).ok_or(Fault::Field)
            }
            (Given::Nothing, local) => {
                let unknown = Fault::Unsupported("a time without a zone in this TimeZone");
                let zone = Zone::find(&settings.time_zone)
                    .ok_or(Fault::Unsupported("a time without a zone in this TimeZone"))?;
                match local {
                    Some(local) => at(&zone, local),
                    None => zone.settled_offset().ok_or(unknown),
                }
            }
        }
    }
}
