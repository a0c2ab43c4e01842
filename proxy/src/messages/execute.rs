//! `Execute`: runs a portal, or the next part of it.

use bytes::BytesMut;

use super::{Malformed, TooLong, body::Body, builder::FrameBuilder, tag::client::EXECUTE};

/// A portal to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// Empty for the unnamed portal.
    pub portal: &'a [u8],
    /// At most so many rows before `PortalSuspended`; zero or less is all.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let portal = body.string()?;
        let max_rows = body.i32()?;
        body.end()?;
        Ok(Self { portal, max_rows })
    }

    /// Appends the frame.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        let mut frame = FrameBuilder::begin(out, EXECUTE);
        frame.string(self.portal);
        frame.i32(self.max_rows);
        frame.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, exactly};

    #[test]
    fn round_trips_exactly() {
        let execute = Execute {
            portal: b"p",
            max_rows: 100,
        };
        let body = body_of(EXECUTE, |out| execute.write(out).unwrap());
        assert_eq!(Execute::read(&body).unwrap(), execute);
        exactly(&body, |body| Execute::read(body).is_ok());
    }
}
