//! TLS connections of the server: how many there are, how long they last, and who is at the other end. Requests are not read here.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::{Instant, Sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Connections at once, those in a handshake included.
const MAX_CONNECTIONS: usize = 512;
/// For a TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// A connection to which nothing was answered for so long is closed, whatever trickles in meanwhile.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Between attempts to accept when the system has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Reads the common name of a certificate in DER.
pub(super) type CommonName = fn(&[u8]) -> Option<String>;

/// Hears of a client whose certificate TLS did not let in, and why.
pub(super) type TurnedAway = fn(SocketAddr, &str);

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Of the certificate that was verified; nothing where none was asked for.
    pub(super) common_name: Option<String>,
}

/// Whom to let in.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) tls: TlsAcceptor,
    pub(super) common_name: CommonName,
    pub(super) turned_away: TurnedAway,
}

impl Door {
    async fn open(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
    ) -> Option<(TlsStream<TcpStream>, Peer)> {
        let _ = tcp.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, self.tls.accept(tcp));
        let stream = match handshake.await.ok()? {
            Ok(stream) => stream,
            Err(error) => {
                self.tell_turned_away(address, &error);
                return None;
            }
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let common_name = certificates
            .and_then(|chain| chain.first())
            .and_then(|own| (self.common_name)(own));
        let peer = Peer {
            address,
            common_name,
        };
        Some((stream, peer))
    }

    /// Tells of a client whose certificate does not do. What else goes wrong in a handshake is no client of ours.
    fn tell_turned_away(&self, address: SocketAddr, error: &io::Error) {
        use tokio_rustls::rustls::Error::{InvalidCertificate, NoCertificatesPresented};

        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some(why @ (InvalidCertificate(_) | NoCertificatesPresented)) = tls {
            (self.turned_away)(address, &why.to_string());
        }
    }
}

/// Connections whose handshake is done, in the order in which it was.
pub(super) struct Connections {
    ready: mpsc::Receiver<(Connection, Peer)>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, door: Door) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (done, ready) = mpsc::channel(MAX_CONNECTIONS);
        let accepting = tokio::spawn(accept(listener, door, done));
        Ok(Self {
            ready,
            address,
            accepting,
        })
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, door: Door, done: mpsc::Sender<(Connection, Peer)>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (tcp, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (door, done) = (door.clone(), done.clone());
        tokio::spawn(async move {
            if let Some((stream, peer)) = door.open(tcp, address).await {
                let connection = Connection {
                    stream,
                    silence: Box::pin(tokio::time::sleep(SILENCE_LIMIT)),
                    _place: place,
                };
                // Nobody takes it any more when the server ends.
                let _ = done.send((connection, peer)).await;
            }
        });
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task only ends with this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer {
            address: self.address,
            common_name: None,
        })
    }
}

/// A connection that ends when nothing is answered to it for long.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    silence: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn expired<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.silence.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let expired @ Poll::Ready(_) = this.expired(cx) {
            return expired;
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write(cx, buf) {
            Poll::Ready(written) => {
                this.silence.as_mut().reset(Instant::now() + SILENCE_LIMIT);
                Poll::Ready(written)
            }
            Poll::Pending => this.expired(cx),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(cx) {
            Poll::Pending => this.expired(cx),
            done @ Poll::Ready(_) => done,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_shutdown(cx) {
            Poll::Pending => this.expired(cx),
            done @ Poll::Ready(_) => done,
        }
    }
}
