//! The reading side of a connection: one buffer, walked frame by frame without copying.
//! It decides nothing: the caller passes, keeps or skips each frame.
//!
//! The buffer is `[ run | frame at the cursor | more ]`. The *run* is what was passed and is not yet
//! written: frames that need no change are written together, with one call, straight from here.
//!
//! ```text
//! loop {
//!     match reader.next()? {
//!         Next::Frame(frame) if unchanged(frame) => reader.pass(),
//!         Next::Frame(_) => {
//!             let out = writer.settle(&mut reader);            // what came before goes before
//!             rewrite(reader.current().expect("..."), out);    // a frame in the place of this one
//!             reader.skip();
//!         }
//!         Next::Large(header) if unchanged_type(header) => reader.pass(), // streamed in pieces
//!         Next::Large(_) | Next::Wait => {
//!             writer.flush(&mut reader).await?;
//!             if reader.fill().await? == 0 { break }           // the peer closed
//!         }
//!     }
//! }
//! ```

use std::{fmt, io::ErrorKind};

use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroize;

use super::{
    Frame, FrameError, HEADER_BYTES, Header, KEEP_BUFFER_BYTES, READ_BUFFER_BYTES, Sender,
};

/// What stands at the cursor.
#[derive(Debug)]
pub enum Next<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// A frame that the buffer does not hold yet and that is longer than [`READ_BUFFER_BYTES`]. `pass` or
    /// `skip` now and its body goes by in pieces; `fill` instead and it is assembled.
    Large(Header),
    /// Nothing whole: write what is due, then `fill`.
    Wait,
}

/// What happens to the bytes of a frame that had not all arrived when it was passed or skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    None,
    Pass(usize),
    Skip(usize),
    /// The caller takes it in pieces.
    Open(usize),
}

/// Cuts frames out of `io`. See the module for how it is used.
pub struct FrameReader<R> {
    io: R,
    sender: Sender,
    buffer: Vec<u8>,
    /// `buffer[..start]` is done with.
    start: usize,
    /// `buffer[start..cursor]` is the run.
    cursor: usize,
    /// The frame at the cursor, once `next` has shown it.
    current: Option<Header>,
    rest: Rest,
}

impl<R> fmt::Debug for FrameReader<R> {
    /// The buffer may hold plaintext, so only its length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader")
            .field("sender", &self.sender)
            .field("buffered", &self.buffer.len())
            .finish_non_exhaustive()
    }
}

impl<R> FrameReader<R> {
    /// Reads frames of `sender` from `io`, after those in `buffered` (what an earlier phase read too much).
    pub fn new(io: R, sender: Sender, buffered: Vec<u8>) -> Self {
        let mut buffer = buffered;
        buffer.reserve(READ_BUFFER_BYTES.saturating_sub(buffer.len()));
        Self {
            io,
            sender,
            buffer,
            start: 0,
            cursor: 0,
            current: None,
            rest: Rest::None,
        }
    }

    /// The stream, and the bytes read from it that no frame was taken from.
    pub fn into_parts(self) -> (R, Vec<u8>) {
        let mut buffer = self.buffer;
        buffer.drain(..self.cursor);
        (self.io, buffer)
    }

    /// The stream itself.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.io
    }

    /// What stands at the cursor. Asking again without `pass` or `skip` gives the same answer.
    #[allow(
        clippy::should_implement_trait,
        reason = "it lends, so it cannot be an Iterator"
    )]
    pub fn next(&mut self) -> Result<Next<'_>, FrameError> {
        self.current = None;
        if !self.settle_rest() {
            return Ok(Next::Wait);
        }
        let bytes = &self.buffer[self.cursor..];
        let Some(header) = Header::parse(self.sender, bytes)? else {
            return Ok(Next::Wait);
        };
        if bytes.len() >= header.total_len() {
            self.current = Some(header);
            return Ok(Next::Frame(Frame::cut(header, bytes)));
        }
        if header.total_len() <= READ_BUFFER_BYTES {
            return Ok(Next::Wait);
        }
        self.current = Some(header);
        Ok(Next::Large(header))
    }

    /// The whole frame that `next` showed last, until it is passed or skipped.
    pub fn current(&self) -> Option<Frame<'_>> {
        let bytes = &self.buffer[self.cursor..];
        self.current
            .filter(|header| bytes.len() >= header.total_len())
            .map(|header| Frame::cut(header, bytes))
    }

    /// What has arrived from the cursor on: the frame that `next` showed, and what is behind it.
    pub fn arrived(&self) -> &[u8] {
        &self.buffer[self.cursor..]
    }

    /// Adds the frame that `next` showed to the run, all of it: what has not arrived yet follows.
    pub fn pass(&mut self) {
        let Some(header) = self.current.take() else {
            return;
        };
        self.rest = Rest::Pass(header.total_len());
        self.settle_rest();
    }

    /// Drops the frame that `next` showed, all of it. What the caller sends in its place goes behind the
    /// run: `FrameWriter::settle` first.
    pub fn skip(&mut self) {
        let Some(header) = self.current.take() else {
            return;
        };
        self.rest = Rest::Skip(header.total_len());
        self.settle_rest();
    }

    /// Overwrites the body of the frame that `next` showed: a password is not to stay in memory.
    pub fn wipe(&mut self) {
        let Some(header) = self.current else { return };
        let end = (self.cursor + header.total_len()).min(self.buffer.len());
        let start = (self.cursor + HEADER_BYTES).min(end);
        self.buffer[start..end].zeroize();
    }

    /// Drops the header of the frame that `next` showed; its body is taken in pieces: `piece` and `take`, and `fill`
    /// when there is none, until the frame is no longer open.
    pub fn open(&mut self) {
        let Some(header) = self.current.take() else {
            return;
        };
        self.remove(HEADER_BYTES);
        self.rest = Rest::Open(header.body_len);
        self.settle_rest();
    }

    /// Whether something of an open frame is still to be taken.
    pub fn is_open(&self) -> bool {
        matches!(self.rest, Rest::Open(_))
    }

    /// What has come of the open frame and was not taken.
    pub fn piece(&self) -> &[u8] {
        match self.rest {
            Rest::Open(wanted) => {
                let come = &self.buffer[self.cursor..];
                &come[..wanted.min(come.len())]
            }
            _ => &[],
        }
    }

    /// Drops the first `count` bytes of the piece.
    pub fn take(&mut self, count: usize) {
        let count = count.min(self.piece().len());
        if let Rest::Open(wanted) = self.rest {
            self.remove(count);
            self.rest = Rest::Open(wanted - count);
            self.settle_rest();
        }
    }

    /// Whole frames and at most one piece of a frame that were passed and are not yet written.
    pub fn run(&self) -> &[u8] {
        &self.buffer[self.start..self.cursor]
    }

    /// The run was written, or copied.
    pub fn clear_run(&mut self) {
        self.start = self.cursor;
    }

    /// A frame was passed of which a part is still to come: nothing else may be written before that.
    pub fn is_within_frame(&self) -> bool {
        matches!(self.rest, Rest::Pass(_))
    }

    /// Takes what has arrived of a frame that is on its way; true when none is any more.
    fn settle_rest(&mut self) -> bool {
        let arrived = self.buffer.len() - self.cursor;
        match self.rest {
            Rest::None => return true,
            Rest::Open(_) => {}
            Rest::Pass(wanted) => {
                let taken = wanted.min(arrived);
                self.cursor += taken;
                self.rest = Rest::Pass(wanted - taken);
            }
            Rest::Skip(wanted) => {
                let taken = wanted.min(arrived);
                self.remove(taken);
                self.rest = Rest::Skip(wanted - taken);
            }
        }
        if matches!(self.rest, Rest::Pass(0) | Rest::Skip(0) | Rest::Open(0)) {
            self.rest = Rest::None;
        }
        self.rest == Rest::None
    }

    /// Drops `count` bytes at the cursor.
    fn remove(&mut self, count: usize) {
        if self.start == self.cursor {
            self.start += count;
            self.cursor += count;
        } else {
            self.buffer.drain(self.cursor..self.cursor + count);
        }
    }

    /// Makes room for the next read: in a drained buffer all of it, else what the frame at the cursor
    /// needs, doubling so that a header alone cannot claim a gigabyte.
    fn make_room(&mut self) {
        debug_assert!(
            self.run().is_empty(),
            "the run is written before more is read"
        );
        if self.start == self.buffer.len() && self.buffer.capacity() > KEEP_BUFFER_BYTES {
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..self.start);
        }
        self.cursor -= self.start;
        self.start = 0;
        let held = self.buffer.len();
        if held == self.buffer.capacity() || self.buffer.capacity() < READ_BUFFER_BYTES {
            let frame = Header::parse(self.sender, &self.buffer)
                .ok()
                .flatten()
                .map_or(0, Header::total_len);
            let missing = frame.saturating_sub(held).max(READ_BUFFER_BYTES);
            self.buffer
                .reserve_exact(held.clamp(READ_BUFFER_BYTES, missing));
        }
    }
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads once, whatever has arrived; the number of bytes, 0 when the peer closed between two frames.
    /// Write the run first. Cancelling it loses nothing.
    pub async fn fill(&mut self) -> Result<usize, FrameError> {
        self.current = None;
        self.make_room();
        let read = match self.io.read_buf(&mut self.buffer).await {
            Ok(read) => read,
            // rustls says so when a peer closes without close_notify; frames say by themselves whether one was cut.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error.into()),
        };
        if read == 0 && (self.cursor < self.buffer.len() || self.rest != Rest::None) {
            return Err(FrameError::Truncated {
                sender: self.sender,
            });
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
