//! Messages without a body: `Sync`, `Flush`, `Terminate`, `ParseComplete` and the like.

use bytes::{BufMut, BytesMut};
use pgwire::messages::{Message, terminate};

use super::Malformed;

/// Appends the frame of a message without a body.
pub fn write(out: &mut BytesMut, tag: u8) {
    out.put_u8(tag);
    out.put_u32(4);
}

/// Appends `Terminate`.
pub fn write_terminate(out: &mut BytesMut) {
    terminate::Terminate::new()
        .encode(out)
        .expect("four bytes are below any limit");
}

/// Nothing may follow (`pq_getmsgend`).
pub fn check(body: &[u8]) -> Result<(), Malformed> {
    super::body::Body::new(body).end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{
        tag::client,
        testing::{body_of, exactly},
    };

    #[test]
    fn has_no_body() {
        exactly(
            &body_of(client::SYNC, |out| write(out, client::SYNC)),
            |body| check(body).is_ok(),
        );
        exactly(&body_of(client::TERMINATE, write_terminate), |body| {
            check(body).is_ok()
        });
    }
}
