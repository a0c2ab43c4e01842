//! A connection's byte stream: plain, or TLS over it. It knows no frames and does no handshake.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsStream;

use crate::messages::Report;

/// A peer that says nothing for so long is asked whether it still lives, and then so often: a dead one is
/// noticed within minutes, not hours. There is no `TCP_USER_TIMEOUT`, as PostgreSQL's default has none: it would also end
/// the session of a client that lives and does not read, such as psql in its pager.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a peer may take to accept a last word before it is closed.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What carries bytes: a TCP connection, or a pipe in the tests.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection of either kind.
#[derive(Debug)]
pub enum Socket {
    /// By TCP.
    Tcp(TcpStream),
    /// By a Unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Sets what every connection of the proxy has: no delay of small segments, and keepalive.
    pub fn tune(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tune(tcp),
            // The kernel knows at once when the other end of a Unix socket is gone.
            Self::Unix(_) => Ok(()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, into),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}

/// Plain or encrypted.
#[derive(Debug)]
pub enum Stream<T = Socket> {
    /// As it is.
    Plain(T),
    /// After a handshake, of either side.
    Tls(Box<TlsStream<T>>),
}

impl<T> Stream<T> {
    /// Encrypted?
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The certificate that the peer showed, DER.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(AsRef::as_ref),
        }
    }

    /// The application protocol that the handshake agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }
}

impl<T: Io> Stream<T> {
    /// Two halves for two futures of one task. They share a lock that is held only within a poll.
    pub fn split(self) -> (ReadHalf<Self>, WriteHalf<Self>) {
        tokio::io::split(self)
    }

    /// Tells the peer why, as far as it takes it, and closes.
    pub async fn refuse(self, report: &Report) {
        let mut out = BytesMut::new();
        report.write(&mut out);
        self.last_word(&out, LAST_WORD).await;
    }

    /// As PostgreSQL answers clients from before protocol 3: text, without a length.
    pub(crate) async fn refuse_in_protocol_2(self, report: &Report) {
        let text = format!("EFATAL:  {}\n\0", report.message);
        self.last_word(text.as_bytes(), LAST_WORD).await;
    }

    /// Closes, as far as the peer takes part in it.
    pub async fn close(mut self) {
        let _ = tokio::time::timeout(LAST_WORD, self.shutdown()).await;
    }

    async fn last_word(mut self, bytes: &[u8], limit: Duration) {
        let last_word = async {
            self.write_all(bytes).await?;
            self.shutdown().await
        };
        // The peer may be gone or may never read: the connection ends either way.
        let _ = tokio::time::timeout(limit, last_word).await;
    }
}

fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    socket2::SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

impl<T: Io> AsyncRead for Stream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, into),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, into),
        }
    }
}

impl<T: Io> AsyncWrite for Stream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn both_halves_work_at_once() {
        let (near, far) = tokio::io::duplex(16);
        let (mut read, mut write) = Stream::Plain(near).split();
        let (mut far_read, mut far_write) = Stream::Plain(far).split();
        let message = vec![7_u8; 100_000];
        let mut there = vec![0; message.len()];
        let mut back = vec![0; message.len()];
        let (sent, _, _) = tokio::join!(
            async { tokio::try_join!(write.write_all(&message), far_write.write_all(&message)) },
            async { far_read.read_exact(&mut there).await.unwrap() },
            async { read.read_exact(&mut back).await.unwrap() },
        );
        sent.unwrap();
        assert!(there == message && back == message);
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_cannot_hold_a_refusal() {
        let (near, far) = tokio::io::duplex(1);
        Stream::Plain(near).last_word(b"no", Duration::ZERO).await;
        drop(far);
    }
}
