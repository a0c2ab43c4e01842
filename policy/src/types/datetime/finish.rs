//! The last step of reading a date: eras, short years and ranges, once all fields are known.

use super::{
    Fault, Given, Moment, Parsed,
    decode::{DATE, DAY, DAY_OF_YEAR, Decoder, MODIFIER, MONTH, Meridiem, STRICT, YEAR},
    words::Word,
};
use crate::types::calendar::Ymd;

impl Decoder<'_> {
    pub(super) fn finish(mut self) -> Result<Parsed, Fault> {
        // The word has settled day and time, without saying which.
        if self.settings.release < STRICT || self.whole.is_none() {
            self.settle_date()?;
            self.settle_hour()?;
        }
        match self.whole {
            Some(Word::Epoch) => return Ok(Parsed::Epoch),
            Some(Word::Infinity) => return Ok(Parsed::Infinity),
            Some(_) => return Ok(Parsed::MinusInfinity),
            None => {}
        }
        if self.mask & DATE != DATE {
            return Err(Fault::Format);
        }
        self.check_zone()?;
        let date = self.ymd();
        Ok(Parsed::At(Moment {
            date,
            time: self.time_of_day(),
            zone: self.zone,
        }))
    }

    pub(super) fn ymd(&self) -> Ymd {
        Ymd {
            year: self.year,
            month: self.month,
            day: self.day,
        }
    }

    pub(super) fn settle_hour(&mut self) -> Result<(), Fault> {
        match (self.meridiem, self.hour) {
            (Some(_), 13..) => return Err(Fault::Field),
            (Some(Meridiem::Am), 12) => self.hour = 0,
            (Some(Meridiem::Pm), 0..=11) => self.hour += 12,
            _ => {}
        }
        Ok(())
    }

    /// `DST` goes with an offset only.
    pub(super) fn check_zone(&self) -> Result<(), Fault> {
        match self.zone {
            Given::Offset(_) => Ok(()),
            _ if self.mask & MODIFIER != 0 => Err(Fault::Format),
            _ => Ok(()),
        }
    }

    /// Eras, two-digit years, days of a year; then the ranges.
    pub(super) fn settle_date(&mut self) -> Result<(), Fault> {
        if self.mask & YEAR != 0 && !self.julian {
            self.year = match self.year {
                ..=0 if self.before_christ || !self.two_digit_year => return Err(Fault::Field),
                ..0 => return Err(Fault::Field),
                year if self.before_christ => 1 - year,
                year @ ..70 if self.two_digit_year => year + 2000,
                year @ ..100 if self.two_digit_year => year + 1900,
                year => year,
            };
        }
        if self.mask & DAY_OF_YEAR != 0 {
            let new_year = Ymd {
                year: self.year,
                month: 1,
                day: 1,
            };
            let date = Ymd::as_the_server_has_it(new_year.days() + self.day_of_year - 1);
            (self.year, self.month, self.day) = (date.year, date.month, date.day);
        }
        if self.mask & MONTH != 0 && !(1..=12).contains(&self.month) {
            return Err(Fault::MonthOrDay);
        }
        if self.mask & DAY != 0 && !(1..=31).contains(&self.day) {
            return Err(Fault::MonthOrDay);
        }
        let date = self.ymd();
        if self.mask & DATE == DATE && self.day > date.month_length() {
            return Err(Fault::Field);
        }
        Ok(())
    }
}
