//! Appends one frame to a buffer, its length patched in when it is whole. It knows no message.

use bytes::{BufMut, BytesMut};

/// MaxAllocSize - 1: what PostgreSQL takes in one message.
const FRAME_BYTES: usize = 0x3fff_fffe;

/// A message longer than PostgreSQL takes. The frame is not in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message of {length} bytes exceeds the limit of {FRAME_BYTES} bytes")]
pub struct TooLong {
    /// What the length field would have to hold.
    pub length: usize,
}

impl TooLong {
    /// As PostgreSQL answers when a value outgrows what it can hold (`enlargeStringInfo`).
    pub fn report(&self) -> super::Report {
        super::Report::error("54000", "out of memory").detail(format!(
            "A message of {} bytes exceeds the limit of {FRAME_BYTES} bytes that PostgreSQL sets.",
            self.length
        ))
    }
}

/// A frame that is being appended. Dropped without `end`, it leaves no trace.
pub(crate) struct FrameBuilder<'a> {
    out: &'a mut BytesMut,
    start: usize,
    ended: bool,
}

impl std::fmt::Debug for FrameBuilder<'_> {
    /// The contents may be plaintext, so only their length is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameBuilder")
            .field("body_len", &self.body_len())
            .finish_non_exhaustive()
    }
}

impl<'a> FrameBuilder<'a> {
    pub(crate) fn begin(out: &'a mut BytesMut, tag: u8) -> Self {
        let start = out.len();
        out.put_u8(tag);
        out.put_u32(0);
        Self {
            out,
            start,
            ended: false,
        }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.out.put_u16(value);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.out.put_i16(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out.put_u32(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    /// A string and its NUL. A NUL inside would end it early, so it is cut there.
    pub(crate) fn string(&mut self, value: &[u8]) {
        let end = memchr::memchr(0, value).unwrap_or(value.len());
        self.out.put_slice(&value[..end]);
        self.out.put_u8(0);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.out.put_slice(value);
    }

    /// A value behind its length, or NULL.
    pub(crate) fn value(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.out.put_i32(-1),
            Some(value) => self.value_with(|out| out.put_slice(value)),
        }
    }

    /// A value that `write` appends itself.
    pub(crate) fn value_with(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let start = self.out.len();
        self.out.put_u32(0);
        write(self.out);
        // A length beyond 32 bits is refused by `end`, since the frame is longer still.
        let length = (self.out.len() - start - 4) as u32;
        self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Overwrites the 16-bit number at `offset` of the body.
    pub(crate) fn patch_u16(&mut self, offset: usize, value: u16) {
        let at = self.start + 5 + offset;
        self.out[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// Bytes of the body so far.
    pub(crate) fn body_len(&self) -> usize {
        self.out.len() - self.start - 5
    }

    pub(crate) fn end(mut self) -> Result<(), TooLong> {
        let length = self.out.len() - self.start - 1;
        if length > FRAME_BYTES {
            return Err(TooLong { length });
        }
        self.out[self.start + 1..self.start + 5].copy_from_slice(&(length as u32).to_be_bytes());
        self.ended = true;
        Ok(())
    }
}

impl Drop for FrameBuilder<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.out.truncate(self.start);
        }
    }
}

/// A frame whose length cannot reach the limit.
pub(crate) fn short(out: &mut BytesMut, tag: u8, write: impl FnOnce(&mut FrameBuilder<'_>)) {
    let mut frame = FrameBuilder::begin(out, tag);
    write(&mut frame);
    frame
        .end()
        .expect("the contents are bounded far below the limit");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_was_not_ended_leaves_no_trace() {
        let mut out = BytesMut::from(&b"before"[..]);
        FrameBuilder::begin(&mut out, b'D').u32(1);
        assert_eq!(&out[..], b"before");
    }

    #[test]
    fn strings_cannot_smuggle_a_second_one() {
        let mut out = BytesMut::new();
        short(&mut out, b'Q', |frame| frame.string(b"a\0b"));
        assert_eq!(&out[..], b"Q\0\0\0\x06a\0");
    }
}
