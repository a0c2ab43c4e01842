//! `SSLRequest`: asks the server for TLS, before anything else.

use bytes::BytesMut;
use pgwire::messages::{Message, startup};

/// Appends the request.
pub fn write(out: &mut BytesMut) {
    startup::SslRequest::new()
        .encode(out)
        .expect("eight bytes are below any limit");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_length_and_code() {
        let mut out = BytesMut::new();
        write(&mut out);
        assert_eq!(&out[..], b"\0\0\0\x08\x04\xd2\x16\x2f");
    }
}
