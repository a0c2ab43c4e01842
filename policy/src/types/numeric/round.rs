//! Rounding numerics, and what a column's precision and scale make of them.

use super::{BASE, DIGITS, Decimal, MAX_SCALE, MAX_WEIGHT, POSITIVE, overflow};
use crate::types::InputError;

impl Decimal {
    /// Whether the server's storage can hold it.
    fn checked(self) -> Result<Self, InputError> {
        let fits = (-MAX_WEIGHT - 1..=MAX_WEIGHT).contains(&self.weight)
            && (0..=MAX_SCALE).contains(&self.scale);
        if fits { Ok(self) } else { Err(overflow()) }
    }

    /// Rounds half away from zero to so many decimals (negative: tens, hundreds, ...).
    pub(in crate::types) fn round(self, scale: i32) -> Self {
        self.cut(scale, true)
    }

    pub(super) fn truncate(self, scale: i32) -> Self {
        self.cut(scale, false)
    }

    fn cut(mut self, scale: i32, rounding: bool) -> Self {
        self.scale = scale;
        // Decimal digits to keep, counted from the first digit.
        let keep = i64::from(self.weight + 1) * i64::from(DIGITS) + i64::from(scale);
        let zero = |sign| Self {
            sign,
            weight: 0,
            scale,
            digits: Vec::new(),
        };
        if keep < 0 || (keep == 0 && !rounding) {
            return zero(POSITIVE);
        }
        let whole = (keep / i64::from(DIGITS)) as usize;
        if whole >= self.digits.len() {
            return self;
        }
        let within = (keep % i64::from(DIGITS)) as usize;
        let unit = [10_000, 1000, 100, 10][within];
        let kept = self.digits[whole] / unit * unit;
        let dropped = self.digits[whole] - kept;
        self.digits.truncate(whole);
        if within > 0 {
            self.digits.push(kept);
        }
        if rounding && dropped >= unit / 2 {
            self.add_at_end(if within > 0 { unit } else { 1 });
        }
        self.stripped()
    }

    /// Adds to the last digit and carries.
    fn add_at_end(&mut self, amount: u16) {
        let mut carry = amount;
        for digit in self.digits.iter_mut().rev() {
            *digit += carry;
            if *digit < BASE {
                return;
            }
            *digit -= BASE;
            carry = 1;
        }
        self.digits.insert(0, carry.min(1));
        self.weight += 1;
    }

    /// What a column `numeric(precision, scale)` makes of it, or `22003`; the storage limits hold in any case.
    pub(in crate::types) fn assign(
        self,
        modifiers: Option<(u16, i16)>,
    ) -> Result<Self, InputError> {
        let Some((precision, scale)) = modifiers else {
            return self.checked();
        };
        let (precision, scale) = (i32::from(precision), i32::from(scale));
        let field_overflow =
            |detail: String| InputError::new("22003", "numeric field overflow").detail(detail);
        if self.is_nan() {
            return Ok(self);
        }
        if self.is_special() {
            return Err(field_overflow(format!(
                "A field with precision {precision}, scale {scale} cannot hold an infinite value."
            )));
        }
        let mut rounded = self.round(scale);
        rounded.scale = rounded.scale.max(0);
        let whole_digits = precision - scale;
        if rounded.integer_digits() > i64::from(whole_digits) {
            let limit = if whole_digits == 0 {
                "1".into()
            } else {
                format!("10^{whole_digits}")
            };
            return Err(field_overflow(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value less than {limit}."
            )));
        }
        rounded.checked()
    }

    /// Decimal digits before the point; negative if the fraction starts with zeros. Least for zero.
    fn integer_digits(&self) -> i64 {
        let Some(first) = self.digits.first() else {
            return i64::MIN;
        };
        i64::from(self.weight) * i64::from(DIGITS) + i64::from(first.ilog10()) + 1
    }
}
