//! What `Describe` and `Close` name: a prepared statement or a portal.

use bytes::BytesMut;

use super::{Malformed, TooLong, body::Body, builder::FrameBuilder};

/// A statement or a portal by name; the empty name is the unnamed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target<'a> {
    /// `S`.
    Statement(&'a [u8]),
    /// `P`.
    Portal(&'a [u8]),
}

impl<'a> Target<'a> {
    /// Reads the whole body of a message that is only this; `neither` says what another kind byte is.
    pub(super) fn read(body: &'a [u8], neither: fn(u8) -> Malformed) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let kind = body.u8()?;
        let name = body.string()?;
        body.end()?;
        match kind {
            b'S' => Ok(Self::Statement(name)),
            b'P' => Ok(Self::Portal(name)),
            other => Err(neither(other)),
        }
    }

    /// Appends the frame of such a message.
    pub(super) fn write(self, tag: u8, out: &mut BytesMut) -> Result<(), TooLong> {
        let mut frame = FrameBuilder::begin(out, tag);
        frame.u8(match self {
            Self::Statement(_) => b'S',
            Self::Portal(_) => b'P',
        });
        frame.string(self.name());
        frame.end()
    }

    /// The name alone.
    pub fn name(self) -> &'a [u8] {
        match self {
            Self::Statement(name) | Self::Portal(name) => name,
        }
    }
}
