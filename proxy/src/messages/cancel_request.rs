//! `CancelRequest`: presents a backend's key on a connection of its own.

use bytes::{Bytes, BytesMut};
use pgwire::messages::{Message, cancel, startup::SecretKey};

use super::BackendKeyData;

/// Appends the request for the query that runs in the backend with this key.
pub fn write(key: &BackendKeyData<'_>, out: &mut BytesMut) {
    let secret = SecretKey::Bytes(Bytes::copy_from_slice(key.secret));
    let message = cancel::CancelRequest::new(key.pid, secret);
    message.encode(out).expect("a key is at most 256 bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_keys_of_any_length() {
        for length in [4, 32, 256] {
            let secret = vec![9; length];
            let mut out = BytesMut::new();
            write(
                &BackendKeyData {
                    pid: 77,
                    secret: &secret,
                },
                &mut out,
            );
            assert_eq!(out[..4], (length as u32 + 12).to_be_bytes());
            assert_eq!(out[4..12], *b"\x04\xd2\x16\x2e\0\0\0\x4d");
            assert_eq!(out[12..], secret);
        }
    }
}
