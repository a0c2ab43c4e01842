//! The last step of reading a date: eras, short years and ranges, once all fields are known.

use super::{
    Fault, Moment, Parsed,
    decode::{DATE, DAY, DAY_OF_YEAR, Decoder, MONTH, Meridiem, YEAR},
    words::Word,
};
use crate::types::calendar::Ymd;

impl Decoder {
    pub(super) fn finish(mut self) -> Result<Parsed, Fault> {
        self.settle_date()?;
        match (self.meridiem, self.hour) {
            (Some(_), 13..) => return Err(Fault::Field),
            (Some(Meridiem::Am), 12) => self.hour = 0,
            (Some(Meridiem::Pm), 0..=11) => self.hour += 12,
            _ => {}
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
        let date = Ymd {
            year: self.year,
            month: self.month,
            day: self.day,
        };
        Ok(Parsed::At(Moment {
            date,
            time: self.time_of_day(),
            zone: self.zone,
        }))
    }

    /// Eras, two-digit years, days of a year; then the ranges.
    fn settle_date(&mut self) -> Result<(), Fault> {
        if self.mask & YEAR != 0 {
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
            let date = Ymd::from_days(new_year.days() + self.day_of_year - 1);
            (self.year, self.month, self.day) = (date.year, date.month, date.day);
        }
        if self.mask & MONTH != 0 && !(1..=12).contains(&self.month) {
            return Err(Fault::MonthOrDay);
        }
        if self.mask & DAY != 0 && !(1..=31).contains(&self.day) {
            return Err(Fault::MonthOrDay);
        }
        let date = Ymd {
            year: self.year,
            month: self.month,
            day: self.day,
        };
        if self.mask & DATE == DATE && self.day > date.month_length() {
            return Err(Fault::Field);
        }
        Ok(())
    }
}
