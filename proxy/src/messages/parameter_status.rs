//! `ParameterStatus`: a setting that the server reports, at startup and whenever it changes.

use bytes::BytesMut;

use super::{Malformed, TooLong, body::Body, builder::FrameBuilder, tag::server::PARAMETER_STATUS};

/// A setting and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    /// The setting's name as the server spells it.
    pub name: &'a [u8],
    /// In the client's encoding.
    pub value: &'a [u8],
}

impl<'a> ParameterStatus<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let name = body.string()?;
        let value = body.string()?;
        body.end()?;
        Ok(Self { name, value })
    }

    /// Appends the frame.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        let mut frame = FrameBuilder::begin(out, PARAMETER_STATUS);
        frame.string(self.name);
        frame.string(self.value);
        frame.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, exactly};

    #[test]
    fn round_trips_exactly() {
        let status = ParameterStatus {
            name: b"client_encoding",
            value: b"UTF8",
        };
        let body = body_of(PARAMETER_STATUS, |out| status.write(out).unwrap());
        assert_eq!(ParameterStatus::read(&body).unwrap(), status);
        exactly(&body, |body| ParameterStatus::read(body).is_ok());
    }
}
