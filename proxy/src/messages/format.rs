//! Format codes: text or binary, one for each value, one for all, or none for text.

use super::{Malformed, body::Body};

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// The type's output function, in the client's encoding.
    #[default]
    Text,
    /// The type's send function.
    Binary,
}

impl Format {
    /// The code on the wire.
    pub fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }

    /// Of a code on the wire; the server alone judges codes that mean neither ("unsupported format code: %d").
    pub fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Text),
            1 => Some(Self::Binary),
            _ => None,
        }
    }
}

/// The codes of a `Bind`, as the client wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats<'a>(&'a [[u8; 2]]);

impl<'a> Formats<'a> {
    pub(super) fn read(body: &mut Body<'a>) -> Result<Self, Malformed> {
        let count = body.u16()?;
        let (codes, _) = body.bytes(usize::from(count) * 2)?.as_chunks();
        Ok(Self(codes))
    }

    /// How many codes there are: 0 all text, 1 the same for all values, else one for each.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No codes: all text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The codes as they are.
    pub fn codes(&self) -> impl ExactSizeIterator<Item = i16> + Clone + 'a {
        self.0.iter().map(|code| i16::from_be_bytes(*code))
    }

    /// The code that holds for the value at `index`; `None` if there are several and none for it.
    pub fn code_of(&self, index: usize) -> Option<i16> {
        match self.0 {
            [] => Some(0),
            [code] => Some(i16::from_be_bytes(*code)),
            codes => codes.get(index).map(|code| i16::from_be_bytes(*code)),
        }
    }

    /// As [`Self::code_of`]; `None` also if the code means neither text nor binary.
    pub fn of(&self, index: usize) -> Option<Format> {
        self.code_of(index).and_then(Format::from_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_means_text_and_one_means_all() {
        let formats = |body: &'static [u8]| Formats::read(&mut Body::new(body)).unwrap();
        assert_eq!(formats(b"\0\0").of(7), Some(Format::Text));
        assert_eq!(formats(b"\0\x01\0\x01").of(7), Some(Format::Binary));
        let two = formats(b"\0\x02\0\x01\0\x02");
        assert_eq!(
            (two.of(0), two.of(1), two.code_of(1), two.code_of(2)),
            (Some(Format::Binary), None, Some(2), None)
        );
    }
}
