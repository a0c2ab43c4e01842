//! `numeric(p,s)`: base 10000 digits as the server keeps and sends them. No arithmetic.

mod read;
mod round;

use std::borrow::Cow;

use super::{DamagedValue, InputError, binary::Reader, encoding, radix};

/// Signs of the send form.
const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const MINUS_INFINITY: u16 = 0xf000;
/// Decimal digits in a digit.
const DIGITS: i32 = 4;
const BASE: u16 = 10_000;
/// Greatest display scale of a value.
const MAX_SCALE: i32 = 0x3fff;
/// Range of the weight of a value's first digit.
const MAX_WEIGHT: i32 = 32_767;

/// A number: `±0.d0d1d2... × 10000^(weight + 1)`, shown with `scale` decimals.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Decimal {
    sign: u16,
    weight: i32,
    scale: i32,
    digits: Vec<u16>,
}

fn overflow() -> InputError {
    InputError::new("22003", "value overflows numeric format")
}

impl Decimal {
    fn special(sign: u16) -> Self {
        Self {
            sign,
            weight: 0,
            scale: 0,
            digits: Vec::new(),
        }
    }

    /// NaN or an infinity.
    pub(super) fn is_special(&self) -> bool {
        !matches!(self.sign, POSITIVE | NEGATIVE)
    }

    pub(super) fn is_nan(&self) -> bool {
        self.sign == NAN
    }

    pub(super) fn nan() -> Self {
        Self::special(NAN)
    }

    pub(super) fn infinity(negative: bool) -> Self {
        Self::special(if negative { MINUS_INFINITY } else { INFINITY })
    }

    pub(super) fn from_i64(value: i64) -> Self {
        let mut rest = value.unsigned_abs();
        let mut digits = Vec::with_capacity(5);
        while rest > 0 {
            digits.push((rest % u64::from(BASE)) as u16);
            rest /= u64::from(BASE);
        }
        digits.reverse();
        let weight = digits.len() as i32 - 1;
        let sign = if value < 0 { NEGATIVE } else { POSITIVE };
        Self {
            sign,
            weight,
            scale: 0,
            digits,
        }
        .stripped()
    }

    /// Without leading and trailing zero digits; zero has weight 0 and is positive.
    fn stripped(mut self) -> Self {
        let leading = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..leading);
        self.weight -= leading as i32;
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
        if self.digits.is_empty() && !self.is_special() {
            self.weight = 0;
            self.sign = POSITIVE;
        }
        self
    }

    /// Reads the send form as the receive function does.
    fn recv(bytes: &[u8]) -> Result<Self, InputError> {
        let invalid = |what: &str| {
            InputError::binary(format!("invalid {what} in external \"numeric\" value"))
        };
        let mut reader = Reader::new(bytes);
        let count = reader.u16()?;
        let weight = i32::from(reader.u16()? as i16);
        let sign = reader.u16()?;
        if !matches!(sign, POSITIVE | NEGATIVE | NAN | INFINITY | MINUS_INFINITY) {
            return Err(invalid("sign"));
        }
        let scale = i32::from(reader.u16()?);
        if scale > MAX_SCALE {
            return Err(invalid("scale"));
        }
        let mut digits = Vec::with_capacity(usize::from(count).min(bytes.len() / 2));
        for _ in 0..count {
            let digit = reader.u16()?;
            if digit >= BASE {
                return Err(invalid("digit"));
            }
            digits.push(digit);
        }
        reader.end()?;
        if !matches!(sign, POSITIVE | NEGATIVE) {
            return Ok(Self::special(sign));
        }
        Ok(Self {
            sign,
            weight,
            scale,
            digits,
        }
        .stripped()
        .truncate(scale)
        .stripped())
    }

    /// Reads a stored value.
    pub(super) fn read(value: &[u8]) -> Result<Self, DamagedValue> {
        Ok(Self::recv(value)?)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.digits.len() * 2);
        // The server shows the bits of its infinities' header as a scale of 32.
        let scale = if matches!(self.sign, INFINITY | MINUS_INFINITY) {
            32
        } else {
            self.scale
        };
        for part in [
            self.digits.len() as u16,
            self.weight as u16,
            self.sign,
            scale as u16,
        ] {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        for digit in &self.digits {
            bytes.extend_from_slice(&digit.to_be_bytes());
        }
        bytes
    }

    /// The digit that stands for 10000^`weight`.
    fn digit_at(&self, weight: i32) -> u16 {
        let index = i64::from(self.weight) - i64::from(weight);
        usize::try_from(index)
            .ok()
            .and_then(|index| self.digits.get(index))
            .copied()
            .unwrap_or(0)
    }

    /// Appends the text form.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self.sign {
            NAN => return out.extend_from_slice(b"NaN"),
            INFINITY => return out.extend_from_slice(b"Infinity"),
            MINUS_INFINITY => return out.extend_from_slice(b"-Infinity"),
            NEGATIVE => out.push(b'-'),
            _ => {}
        }
        if self.weight < 0 || self.digits.is_empty() {
            out.push(b'0');
        } else {
            write_digit(self.digit_at(self.weight), out, true);
            for weight in (0..self.weight).rev() {
                write_digit(self.digit_at(weight), out, false);
            }
        }
        if self.scale > 0 {
            out.push(b'.');
            let end = out.len() + self.scale as usize;
            for weight in 1..=(self.scale + DIGITS - 1) / DIGITS {
                write_digit(self.digit_at(-weight), out, false);
            }
            out.truncate(end);
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The integer it is exactly, if it is one and fits.
    pub(super) fn exact_i64(&self) -> Option<i64> {
        if self.is_special() || self.digits.len() as i64 > i64::from(self.weight) + 1 {
            return None;
        }
        let mut value: i64 = 0;
        for weight in (0..=self.weight.max(-1)).rev() {
            let digit = i64::from(self.digit_at(weight));
            let digit = if self.sign == NEGATIVE { -digit } else { digit };
            value = value.checked_mul(i64::from(BASE))?.checked_add(digit)?;
        }
        Some(value)
    }

    /// Display scale reduced to what the value needs.
    pub(super) fn with_least_scale(mut self) -> Self {
        let Some(last) = self.digits.last().copied() else {
            self.scale = 0;
            return self;
        };
        let mut decimals = (self.digits.len() as i32 - 1 - self.weight) * DIGITS;
        let mut digit = last;
        while digit % 10 == 0 && digit != 0 {
            digit /= 10;
            decimals -= 1;
        }
        self.scale = decimals.max(0);
        self
    }
}

fn write_digit(digit: u16, out: &mut Vec<u8>, first: bool) {
    let decimals = [digit / 1000, digit / 100 % 10, digit / 10 % 10, digit % 10]
        .map(|decimal| b'0' + decimal as u8);
    let skip = if first {
        decimals
            .iter()
            .take(3)
            .take_while(|decimal| **decimal == b'0')
            .count()
    } else {
        0
    };
    out.extend_from_slice(&decimals[skip..]);
}

pub(super) fn input(
    text: &str,
    modifiers: Option<(u16, i16)>,
    release: u32,
) -> Result<Vec<u8>, InputError> {
    let number = if release >= radix::SINCE {
        let read = Decimal::parse(&radix::plain(encoding::trim(text)));
        // The error names what was written.
        read.map_err(|error| match error.sqlstate {
            "22P02" => InputError::syntax("numeric", text),
            _ => error,
        })?
    } else {
        Decimal::parse(text)?
    };
    // As the server does: the number by itself must be one, then the modifiers apply.
    Ok(number.assign(None)?.assign(modifiers)?.encode())
}

pub(super) fn recv(bytes: &[u8], modifiers: Option<(u16, i16)>) -> Result<Vec<u8>, InputError> {
    Ok(Decimal::recv(bytes)?.assign(modifiers)?.encode())
}

pub(super) fn output(value: &[u8], out: &mut Vec<u8>) -> Result<(), DamagedValue> {
    Decimal::read(value)?.write(out);
    Ok(())
}

/// The display scale does not count: 1.0 equals 1.00.
pub(super) fn canonical(value: &[u8]) -> Cow<'_, [u8]> {
    match Decimal::read(value) {
        Ok(decimal) => Cow::Owned(decimal.with_least_scale().encode()),
        Err(DamagedValue) => Cow::Borrowed(value),
    }
}
