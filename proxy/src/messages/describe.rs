//! `Describe`: asks for the types of a statement or a portal.

use bytes::BytesMut;

use super::{Malformed, Target, TooLong, tag::client::DESCRIBE};

/// What to describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Describe<'a> {
    /// Statement or portal.
    pub target: Target<'a>,
}

impl<'a> Describe<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        Target::read(body, Malformed::DescribeSubtype).map(|target| Self { target })
    }

    /// Appends the frame.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        self.target.write(DESCRIBE, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, exactly};

    #[test]
    fn round_trips_exactly() {
        for target in [Target::Statement(b"s"), Target::Portal(b"")] {
            let body = body_of(DESCRIBE, |out| Describe { target }.write(out).unwrap());
            assert_eq!(Describe::read(&body).unwrap().target, target);
            exactly(&body, |body| Describe::read(body).is_ok());
        }
    }

    #[test]
    fn refuses_other_kinds_in_the_words_of_postgres() {
        assert_eq!(
            Describe::read(b"X\0").err().unwrap().to_string(),
            "invalid DESCRIBE message subtype 88"
        );
        assert_eq!(Describe::read(b"").err(), Some(Malformed::NoData));
    }
}
