//! A `CancelRequest`: forwarded as it came, over a connection of its own. Which backend it means and
//! whether its key is right, the server alone knows; it answers by closing.

use std::io;

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use crate::{
    messages::cancel_request,
    startup::CancelRequest,
    stream::{Io, Stream},
    upstream::{BackendKey, ConnectError, Upstream},
};

/// A server has nothing to say to this; more than an error's worth is not read.
const ANSWER_BYTES: u64 = 16 * 1024;

/// Why a request did not reach the server.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The server cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server did not close in time.
    #[error("the server did not close the cancel connection in time")]
    TimedOut,
    /// The socket failed.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
}

/// Forwards a client's request and, when the server has seen it, closes the client's connection: a client
/// that sees it closed may send its next query, which must not be hit.
pub async fn relay<T: Io>(
    client: Stream<T>,
    request: &CancelRequest,
    upstream: &Upstream,
    deadline: Instant,
) -> Result<(), CancelError> {
    let outcome = deliver(request.raw(), upstream, deadline).await;
    client.close().await;
    outcome
}

/// Cancels what the backend with this key runs.
pub async fn send(
    key: &BackendKey,
    upstream: &Upstream,
    deadline: Instant,
) -> Result<(), CancelError> {
    let mut packet = BytesMut::new();
    cancel_request::write(&key.message(), &mut packet);
    deliver(&packet, upstream, deadline).await
}

async fn deliver(packet: &[u8], upstream: &Upstream, deadline: Instant) -> Result<(), CancelError> {
    present_until(deadline, upstream.connect(deadline).await?, packet).await
}

async fn present_until<T: Io>(
    deadline: Instant,
    server: Stream<T>,
    packet: &[u8],
) -> Result<(), CancelError> {
    match timeout_at(deadline, present(server, packet)).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(CancelError::TimedOut),
    }
}

/// Writes the packet and waits for the server to close.
async fn present<T: Io>(mut server: Stream<T>, packet: &[u8]) -> io::Result<()> {
    server.write_all(packet).await?;
    server.flush().await?;
    let closed = tokio::io::copy(&mut server.take(ANSWER_BYTES), &mut tokio::io::sink()).await;
    match closed {
        // TLS without close_notify, or a reset: closed all the same.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ) =>
        {
            Ok(())
        }
        outcome => outcome.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgveil_config::TlsMode;
    use tokio::net::TcpListener;

    use super::*;
    use crate::startup::{Entrance, Opening, open, testing};

    fn later() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    #[tokio::test]
    async fn the_client_is_closed_after_the_server_has_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream::at(
            &listener.local_addr().unwrap().to_string(),
            TlsMode::Disable,
            None,
        )
        .unwrap();
        let raw = testing::cancel_request(&[5; 32]);
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(&raw).await.unwrap();
        let Ok(Opening::Cancel { request, stream }) =
            open(near, &Entrance::default(), None, later()).await
        else {
            panic!()
        };
        let closed = std::cell::Cell::new(false);
        let server = async {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; raw.len()];
            tcp.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, raw);
            closed.set(true);
            drop(tcp);
        };
        let client = async {
            assert_eq!(
                far.read(&mut [0; 16]).await.unwrap(),
                0,
                "it is answered by closing only"
            );
            assert!(closed.get());
        };
        let (outcome, (), ()) =
            tokio::join!(relay(stream, &request, &upstream, later()), server, client);
        outcome.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_does_not_close_is_not_waited_for() {
        let (near, mut far) = tokio::io::duplex(1024);
        let outcome = present_until(Instant::now(), Stream::Plain(near), b"packet").await;
        assert!(matches!(outcome, Err(CancelError::TimedOut)));
        far.read_exact(&mut [0; 6]).await.unwrap();
    }

    #[tokio::test]
    async fn our_own_request_carries_the_key() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream::at(
            &listener.local_addr().unwrap().to_string(),
            TlsMode::Disable,
            None,
        )
        .unwrap();
        let key = BackendKey {
            pid: 77,
            secret: vec![2; 4],
        };
        let server = async {
            let mut heard = Vec::new();
            let (mut tcp, _) = listener.accept().await.unwrap();
            tcp.read_buf(&mut heard).await.unwrap();
            heard
        };
        let (outcome, heard) = tokio::join!(send(&key, &upstream, later()), server);
        outcome.unwrap();
        assert_eq!(heard, testing::cancel_request(&[2; 4]));
    }
}
