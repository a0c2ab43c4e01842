//! The equality terms that a sealed value bears: one, two while its column gets others, or none. How a term is made is
//! [`crate::term`]'s business.

use super::Damaged;
use crate::term::EQUALITY_BYTES;

const EQUALITY_BIT: u8 = 1;
const ORDER_BIT: u8 = 2;
const MATCH_BIT: u8 = 4;
/// A term with its number.
const NUMBERED_BIT: u8 = 8;
/// Another one behind it.
const SECOND_BIT: u8 = 16;
const NUMBER_BYTES: usize = 4;

/// What of the format is read: no term, one, or two.
const KNOWN: [u8; 5] = [
    0,
    EQUALITY_BIT,
    NUMBERED_BIT,
    EQUALITY_BIT | NUMBERED_BIT,
    NUMBERED_BIT | SECOND_BIT,
];

/// A term and its number; 0: it bears none.
type Numbered = (u32, [u8; EQUALITY_BYTES]);

/// By their numbers, ascending: which of a column's terms each is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms([Option<Numbered>; 2]);

impl Terms {
    /// No terms.
    pub const NONE: Self = Self([None; 2]);

    /// One term.
    pub fn one(number: u32, term: [u8; EQUALITY_BYTES]) -> Self {
        Self([Some((number, term)), None])
    }

    /// Two terms of different numbers.
    pub fn two(one: (u32, [u8; EQUALITY_BYTES]), other: (u32, [u8; EQUALITY_BYTES])) -> Self {
        let (first, second) = if one.0 <= other.0 {
            (one, other)
        } else {
            (other, one)
        };
        Self([Some(first), Some(second)])
    }

    /// The term of this number.
    pub fn get(&self, number: u32) -> Option<&[u8; EQUALITY_BYTES]> {
        let mut terms = self.0.iter().flatten();
        let found = terms.find(|(other, _)| *other == number);
        found.map(|(_, term)| term)
    }

    /// Their numbers.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flatten().map(|(number, _)| *number)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// Bytes that they take.
    pub(super) fn len(&self) -> usize {
        let terms = self.0.iter().flatten();
        terms
            .map(|(number, _)| EQUALITY_BYTES + if *number == 0 { 0 } else { NUMBER_BYTES })
            .sum()
    }

    fn bits(&self) -> u8 {
        let [first, second] = &self.0;
        match (first, second) {
            (None, _) => 0,
            (Some((0, _)), None) => EQUALITY_BIT,
            (Some(_), None) => NUMBERED_BIT,
            (Some((0, _)), Some(_)) => EQUALITY_BIT | NUMBERED_BIT,
            (Some(_), Some(_)) => NUMBERED_BIT | SECOND_BIT,
        }
    }

    /// Appends the byte that says which there are, and the terms.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.bits());
        for (number, term) in self.0.iter().flatten() {
            if *number != 0 {
                out.extend_from_slice(&number.to_be_bytes());
            }
            out.extend_from_slice(term);
        }
    }

    /// Takes the terms that the bits announce from the beginning of `rest`, and gives what is behind them.
    pub(super) fn split(bits: u8, rest: &[u8]) -> Result<(Self, &[u8]), Damaged> {
        if bits & (ORDER_BIT | MATCH_BIT) != 0 && bits < 2 * SECOND_BIT {
            return Err(Damaged::UnsupportedTerms { bits });
        }
        if !KNOWN.contains(&bits) {
            return Err(Damaged::UnknownTerms { bits });
        }
        let (mut terms, mut rest) = (Self::NONE, rest);
        let mut at = 0;
        for bit in [EQUALITY_BIT, NUMBERED_BIT, SECOND_BIT] {
            if bits & bit == 0 {
                continue;
            }
            let mut number = 0;
            if bit != EQUALITY_BIT {
                let (bytes, behind) = rest.split_first_chunk().ok_or(Damaged::Cut)?;
                (number, rest) = (u32::from_be_bytes(*bytes), behind);
            }
            let (term, behind) = rest.split_first_chunk().ok_or(Damaged::Cut)?;
            rest = behind;
            // In one order only, so that a value has one form.
            let before = terms.0[0].map(|(before, _)| before);
            if bit != EQUALITY_BIT && number <= before.unwrap_or(0) {
                return Err(Damaged::UnknownTerms { bits });
            }
            terms.0[at] = Some((number, *term));
            at += 1;
        }
        Ok((terms, rest))
    }
}

/// Bytes of the terms that the bits announce.
pub(super) fn len_of(bits: u8) -> usize {
    let plain = if bits & EQUALITY_BIT == 0 {
        0
    } else {
        EQUALITY_BYTES
    };
    let numbered = (bits & (NUMBERED_BIT | SECOND_BIT)).count_ones() as usize;
    plain + numbered * (NUMBER_BYTES + EQUALITY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_as_they_are_written() {
        let (a, b) = ([1; EQUALITY_BYTES], [2; EQUALITY_BYTES]);
        for terms in [
            Terms::NONE,
            Terms::one(0, a),
            Terms::one(7, a),
            Terms::two((9, b), (0, a)),
            Terms::two((7, a), (u32::MAX, b)),
        ] {
            let mut bytes = Vec::new();
            terms.write(&mut bytes);
            let (bits, rest) = bytes.split_first().unwrap();
            assert_eq!(rest.len(), terms.len());
            assert_eq!(rest.len(), len_of(*bits));
            assert_eq!(Terms::split(*bits, rest), Ok((terms, &[][..])));
            for cut in 0..rest.len() {
                assert_eq!(Terms::split(*bits, &rest[..cut]), Err(Damaged::Cut));
            }
        }
        let both = Terms::two((9, b), (0, a));
        assert_eq!(
            (both.get(0), both.get(9), both.get(7)),
            (Some(&a), Some(&b), None)
        );
    }

    #[test]
    fn terms_in_another_order_or_of_other_bits_are_refused() {
        let bytes = |numbers: [u32; 2]| {
            let mut bytes = Vec::new();
            for number in numbers {
                bytes.extend_from_slice(&number.to_be_bytes());
                bytes.extend_from_slice(&[0; EQUALITY_BYTES]);
            }
            bytes
        };
        for numbers in [[7, 7], [9, 7], [0, 7]] {
            let bits = NUMBERED_BIT | SECOND_BIT;
            assert_eq!(
                Terms::split(bits, &bytes(numbers)),
                Err(Damaged::UnknownTerms { bits })
            );
        }
        for bits in [16, 17, 25, 32, 128, 255] {
            assert_eq!(
                Terms::split(bits, &bytes([7, 9])),
                Err(Damaged::UnknownTerms { bits })
            );
        }
        for bits in [2, 3, 4, 6, 10] {
            assert_eq!(
                Terms::split(bits, &bytes([7, 9])),
                Err(Damaged::UnsupportedTerms { bits })
            );
        }
    }
}
