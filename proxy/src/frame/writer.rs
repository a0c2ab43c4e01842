//! The writing side of a connection: a queue of frames made here, and runs lent by a reader.
//! It waits for the peer as long as the peer takes: that is the back-pressure.

use std::{
    fmt,
    io::{self, IoSlice},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{FrameReader, KEEP_BUFFER_BYTES, READ_BUFFER_BYTES};

/// Flush when this much is queued.
const QUEUE_BYTES: usize = 2 * READ_BUFFER_BYTES;

/// Writes frames to `io` in order.
pub struct FrameWriter<W> {
    io: W,
    queue: BytesMut,
}

impl<W> fmt::Debug for FrameWriter<W> {
    /// The queue may hold plaintext, so only its length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter")
            .field("queued", &self.queue.len())
            .finish_non_exhaustive()
    }
}

impl<W> FrameWriter<W> {
    /// Writes to `io`.
    pub fn new(io: W) -> Self {
        Self {
            io,
            queue: BytesMut::new(),
        }
    }

    /// Where frames made here are appended. If a reader's run goes to the same peer, `settle` it first.
    pub fn queue(&mut self) -> &mut BytesMut {
        &mut self.queue
    }

    /// The queue, with everything that `reader` passed already in it.
    pub fn settle<R>(&mut self, reader: &mut FrameReader<R>) -> &mut BytesMut {
        self.queue.extend_from_slice(reader.run());
        reader.clear_run();
        &mut self.queue
    }

    /// So much is queued that it should go out before more is made.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= QUEUE_BYTES
    }

    /// The stream itself.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.io
    }

    /// The stream; what was queued and not written is dropped.
    pub fn into_inner(self) -> W {
        self.io
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes the queue, then the run of `reader`, in one call where the stream can, and flushes.
    /// Not to be cancelled: a part of a frame may be out.
    pub async fn flush<R>(&mut self, reader: &mut FrameReader<R>) -> io::Result<()> {
        self.write(Some(reader.run())).await?;
        reader.clear_run();
        Ok(())
    }

    /// Writes the queue and flushes. Not to be cancelled.
    pub async fn flush_queue(&mut self) -> io::Result<()> {
        self.write(None).await
    }

    async fn write(&mut self, run: Option<&[u8]>) -> io::Result<()> {
        let mut run = run.unwrap_or_default();
        if self.queue.is_empty() && run.is_empty() {
            return Ok(());
        }
        while !self.queue.is_empty() && !run.is_empty() {
            let slices = [IoSlice::new(&self.queue), IoSlice::new(run)];
            let written = self.io.write_vectored(&slices).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let of_queue = written.min(self.queue.len());
            self.queue.advance(of_queue);
            run = &run[written - of_queue..];
        }
        self.io.write_all(&self.queue).await?;
        self.io.write_all(run).await?;
        if self.queue.capacity() > KEEP_BUFFER_BYTES {
            self.queue = BytesMut::new();
        }
        self.queue.clear();
        self.io.flush().await
    }

    /// Tells the peer that nothing more comes (TLS close_notify, TCP FIN).
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::frame::{Next, Sender};

    const SYNC: &[u8] = b"S\0\0\0\x04";
    const FLUSH: &[u8] = b"H\0\0\0\x04";

    #[tokio::test]
    async fn what_was_passed_before_goes_before() {
        let (near, mut far) = tokio::io::duplex(7);
        let mut reader = FrameReader::new(
            tokio::io::empty(),
            Sender::Client,
            [SYNC, FLUSH, SYNC].concat(),
        );
        let mut writer = FrameWriter::new(near);
        assert!(matches!(reader.next().unwrap(), Next::Frame(_)));
        reader.pass();
        assert!(matches!(reader.next().unwrap(), Next::Frame(_)));
        writer.settle(&mut reader).extend_from_slice(b"X\0\0\0\x04");
        reader.skip();
        assert!(matches!(reader.next().unwrap(), Next::Frame(_)));
        reader.pass();
        let written = async move {
            writer.flush(&mut reader).await.unwrap();
            assert!(reader.run().is_empty());
            drop(writer);
        };
        let mut received = Vec::new();
        let ((), read) = tokio::join!(written, far.read_to_end(&mut received));
        read.unwrap();
        assert_eq!(received, [SYNC, b"X\0\0\0\x04", SYNC].concat());
    }

    #[tokio::test]
    async fn a_queue_that_grew_is_given_back() {
        let mut writer = FrameWriter::new(tokio::io::sink());
        writer
            .queue()
            .extend_from_slice(&vec![0; 2 * KEEP_BUFFER_BYTES]);
        assert!(writer.is_full());
        writer.flush_queue().await.unwrap();
        assert!(!writer.is_full());
        assert!(writer.queue.capacity() <= KEEP_BUFFER_BYTES);
    }
}
