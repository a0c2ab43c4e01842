//! `CommandComplete`: the server's own word on what a statement did.

use bytes::BytesMut;

use super::{Malformed, body::Body, builder::short, tag::server::COMMAND_COMPLETE};

/// A statement's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandComplete<'a> {
    /// `SELECT 1`, `INSERT 0 1`, `DISCARD ALL`; ASCII.
    pub tag: &'a [u8],
}

impl<'a> CommandComplete<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let tag = body.string()?;
        body.end()?;
        Ok(Self { tag })
    }

    /// Appends the frame.
    pub fn write(&self, out: &mut BytesMut) {
        short(out, COMMAND_COMPLETE, |frame| frame.string(self.tag));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, exactly};

    #[test]
    fn round_trips_exactly() {
        let body = body_of(COMMAND_COMPLETE, |out| {
            CommandComplete { tag: b"INSERT 0 1" }.write(out);
        });
        assert_eq!(CommandComplete::read(&body).unwrap().tag, b"INSERT 0 1");
        exactly(&body, |body| CommandComplete::read(body).is_ok());
    }
}
