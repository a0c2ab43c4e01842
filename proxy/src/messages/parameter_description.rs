//! `ParameterDescription`: the types of a prepared statement's parameters.

use bytes::BytesMut;

use super::{
    Malformed, TooLong, body::Body, builder::FrameBuilder, tag::server::PARAMETER_DESCRIPTION,
};

/// Parameter types.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ParameterDescription<'a>(&'a [[u8; 4]]);

impl<'a> ParameterDescription<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let count = body.u16()?;
        let (oids, _) = body.bytes(usize::from(count) * 4)?.as_chunks();
        body.end()?;
        Ok(Self(oids))
    }

    /// The types in the parameters' order.
    pub fn oids(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.0.iter().map(|oid| u32::from_be_bytes(*oid))
    }

    /// Appends a frame. At most 65,535 `oids` are written.
    pub fn write(
        out: &mut BytesMut,
        oids: impl ExactSizeIterator<Item = u32>,
    ) -> Result<(), TooLong> {
        let count = u16::try_from(oids.len()).unwrap_or(u16::MAX);
        let mut frame = FrameBuilder::begin(out, PARAMETER_DESCRIPTION);
        frame.u16(count);
        oids.take(usize::from(count)).for_each(|oid| frame.u32(oid));
        frame.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, exactly};

    #[test]
    fn round_trips_exactly() {
        let body = body_of(PARAMETER_DESCRIPTION, |out| {
            ParameterDescription::write(out, [23, 25].into_iter()).unwrap();
        });
        assert_eq!(
            ParameterDescription::read(&body)
                .unwrap()
                .oids()
                .collect::<Vec<_>>(),
            [23, 25]
        );
        exactly(&body, |body| ParameterDescription::read(body).is_ok());
    }
}
