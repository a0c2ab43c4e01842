//! `BackendKeyData`: what a `CancelRequest` must present. The secret is four bytes in protocol 3.0 and up
//! to 256 in 3.2.

use bytes::BytesMut;

use super::{Malformed, body::Body, builder::short, tag::server::BACKEND_KEY_DATA};

/// Shortest and longest secret of a cancel key.
pub const SECRET_BYTES: std::ops::RangeInclusive<usize> = 4..=256;

/// A backend's process id and its cancel secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackendKeyData<'a> {
    /// Opaque; poolers make it negative.
    pub pid: i32,
    /// Opaque.
    pub secret: &'a [u8],
}

impl<'a> BackendKeyData<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let pid = body.i32()?;
        let secret = body.rest();
        if !SECRET_BYTES.contains(&secret.len()) {
            return Err(Malformed::InvalidFormat);
        }
        Ok(Self { pid, secret })
    }

    /// Appends the frame.
    pub fn write(&self, out: &mut BytesMut) {
        short(out, BACKEND_KEY_DATA, |frame| {
            frame.i32(self.pid);
            frame.bytes(self.secret);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, never_panics};

    #[test]
    fn takes_keys_of_4_to_256_bytes() {
        for (length, taken) in [
            (0, false),
            (3, false),
            (4, true),
            (32, true),
            (256, true),
            (257, false),
        ] {
            let secret = vec![7; length];
            let body = body_of(BACKEND_KEY_DATA, |out| {
                BackendKeyData {
                    pid: -5,
                    secret: &secret,
                }
                .write(out);
            });
            let key = BackendKeyData::read(&body);
            assert_eq!(key.is_ok(), taken, "{length}");
            if let Ok(key) = key {
                assert_eq!((key.pid, key.secret), (-5, &secret[..]));
            }
            never_panics(&body[..body.len().min(16)], |body| {
                BackendKeyData::read(body).is_ok()
            });
        }
    }
}
