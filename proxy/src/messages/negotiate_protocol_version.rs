//! `NegotiateProtocolVersion`: the newest minor version and the options that the server does not know.

use bytes::BytesMut;
use pgwire::messages::{Message, startup};

use super::{Malformed, body::Body};

/// The server's counter-offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'a> {
    /// As the server sends it: the full version (0x00030002), or the minor version alone.
    pub version: u32,
    options: &'a [u8],
}

impl<'a> NegotiateProtocolVersion<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let version = body.u32()?;
        let count = body.u32()?;
        let options = body.rest();
        for _ in 0..count {
            body.string()?;
        }
        body.end()?;
        Ok(Self { version, options })
    }

    /// The options of the startup message that the server does not know.
    pub fn options(&self) -> impl Iterator<Item = &'a [u8]> + 'a {
        let mut options = Body::new(self.options);
        std::iter::from_fn(move || options.string().ok())
    }

    /// The minor version that the server speaks.
    pub fn minor(&self) -> u16 {
        self.version as u16
    }

    /// Appends a frame.
    pub fn write(out: &mut BytesMut, version: u32, options: Vec<String>) {
        let message = startup::NegotiateProtocolVersion::new(version as i32, options);
        message
            .encode(out)
            .expect("the options come out of a startup message of at most 10,000 bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{
        tag::server::NEGOTIATE_PROTOCOL_VERSION,
        testing::{body_of, exactly},
    };

    #[test]
    fn round_trips_exactly() {
        let body = body_of(NEGOTIATE_PROTOCOL_VERSION, |out| {
            NegotiateProtocolVersion::write(
                out,
                0x0003_0000,
                vec!["_pq_.a".into(), "_pq_.b".into()],
            );
        });
        let message = NegotiateProtocolVersion::read(&body).unwrap();
        assert_eq!(message.minor(), 0);
        assert_eq!(
            message.options().collect::<Vec<_>>(),
            [b"_pq_.a", b"_pq_.b"]
        );
        exactly(&body, |body| NegotiateProtocolVersion::read(body).is_ok());
    }
}
