//! `CopyData` and `CopyFail` as pgveil sends them to the server.

use bytes::BytesMut;

use super::{builder::short, tag::client as tag};

/// Appends a CopyData; `data` is far shorter than the limit.
pub fn copy_data(out: &mut BytesMut, data: &[u8]) {
    short(out, tag::COPY_DATA, |frame| frame.bytes(data));
}

/// Appends a CopyFail.
pub fn copy_fail(out: &mut BytesMut, reason: &str) {
    short(out, tag::COPY_FAIL, |frame| frame.string(reason.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_written_as_the_server_reads_them() {
        let mut out = BytesMut::new();
        copy_data(&mut out, b"1\n");
        copy_fail(&mut out, "no");
        assert_eq!(&out[..], b"d\0\0\0\x061\nf\0\0\0\x07no\0");
    }
}
