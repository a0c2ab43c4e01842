//! `SASLInitialResponse`: the mechanism that a client chose, and its first message. Of that, only the
//! channel binding flag is read (RFC 5802, section 7: gs2-cbind-flag).

use bytes::BytesMut;

use super::{Malformed, body::Body, builder::short, tag::client::PASSWORD};

/// What a client says of channel binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// `n`: it does not support it.
    Unsupported,
    /// `y`: it supports it and believes that the server does not.
    NotOffered,
    /// `p=...`: it binds.
    Required,
}

impl ChannelBinding {
    /// The flag that begins a SCRAM client's first message; `None` if there is none of the three.
    pub fn of(first_message: &[u8]) -> Option<Self> {
        match first_message.first()? {
            b'n' => Some(Self::Unsupported),
            b'y' => Some(Self::NotOffered),
            b'p' => Some(Self::Required),
            _ => None,
        }
    }
}

/// The client's choice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism's name.
    pub mechanism: &'a [u8],
    /// Its first message, if it sent one at once.
    pub response: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let mechanism = body.string()?;
        let response = body.value()?;
        body.end()?;
        Ok(Self {
            mechanism,
            response,
        })
    }

    /// Appends a frame.
    pub fn write(out: &mut BytesMut, mechanism: &[u8], response: &[u8]) {
        short(out, PASSWORD, |frame| {
            frame.string(mechanism);
            frame.value(Some(response));
        });
    }

    /// What its first message says, if it is there.
    pub fn channel_binding(&self) -> Option<ChannelBinding> {
        self.response.and_then(ChannelBinding::of)
    }
}

/// Appends `SASLResponse`.
pub fn write_response(out: &mut BytesMut, message: &[u8]) {
    short(out, PASSWORD, |frame| frame.bytes(message));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, exactly};

    fn write(out: &mut BytesMut, response: Option<&[u8]>) {
        short(out, PASSWORD, |frame| {
            frame.string(b"SCRAM-SHA-256");
            frame.value(response);
        });
    }

    #[test]
    fn reads_the_binding_flag() {
        for (first, flag) in [
            (Some(&b"n,,n=,r=abc"[..]), Some(ChannelBinding::Unsupported)),
            (Some(b"y,,n=,r=abc"), Some(ChannelBinding::NotOffered)),
            (
                Some(b"p=tls-server-end-point,,n=,r=abc"),
                Some(ChannelBinding::Required),
            ),
            (Some(b"x"), None),
            (Some(b""), None),
            (None, None),
        ] {
            let body = body_of(PASSWORD, |out| write(out, first));
            let message = SaslInitialResponse::read(&body).unwrap();
            assert_eq!(message.mechanism, b"SCRAM-SHA-256");
            assert_eq!(message.channel_binding(), flag);
            exactly(&body, |body| SaslInitialResponse::read(body).is_ok());
        }
    }
}
