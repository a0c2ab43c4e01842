//! The opening of a client's connection, up to its `StartupMessage` or `CancelRequest`: the requests for
//! encryption answered, TLS spoken. Whether the client may come in is the server's to say (`upstream`).

mod packet;

use std::{fmt, io, net::IpAddr};

use rustls::ServerConnection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsAcceptor;

#[cfg(test)]
pub(crate) use packet::testing;
pub use packet::{CancelRequest, PacketError, Replication, StartupMessage};

use self::packet::Packet;
use crate::{
    messages::Report,
    stream::{Io, Socket, Stream},
    tls::ALPN,
};

/// Bytes read at once; the largest startup packet takes two reads.
const READ_BYTES: usize = 8 * 1024;

/// The first byte of a TLS record that carries a handshake: direct TLS (PostgreSQL 17).
const TLS_HANDSHAKE: u8 = 0x16;

/// How clients are taken.
#[derive(Clone, Default)]
pub struct Entrance {
    /// Without one, SSLRequest is answered `N`.
    pub tls: Option<TlsAcceptor>,
    /// Refuse sessions without TLS.
    pub tls_required: bool,
}

impl fmt::Debug for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entrance")
            .field("tls", &self.tls.is_some())
            .field("tls_required", &self.tls_required)
            .finish()
    }
}

/// What a client came for.
#[derive(Debug)]
pub enum Opening<T = Socket> {
    /// A session.
    Session(Client<T>),
    /// To cancel what another connection runs. It is answered by closing `stream`, and nothing else.
    Cancel {
        /// What to forward.
        request: CancelRequest,
        /// To be closed when the server has seen it.
        stream: Stream<T>,
    },
    /// Nothing: it left without a word, as health checks do, or because it wanted encryption.
    Nothing,
}

/// A client that wants a session, and was told nothing yet.
pub struct Client<T = Socket> {
    /// Its connection.
    pub stream: Stream<T>,
    /// What it said.
    pub startup: StartupMessage,
    /// What it sent behind that without waiting for an answer.
    pub early: Vec<u8>,
}

impl<T> fmt::Debug for Client<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("startup", &self.startup)
            .field("early", &self.early.len())
            .finish_non_exhaustive()
    }
}

/// Why an opening came to nothing. The client was told already what it is to know.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// It took too long.
    #[error("the client did not send its startup packet in time")]
    TimedOut,
    /// Bytes that are no packet.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// Bytes between SSLRequest and the handshake: they would have been read as if they were encrypted
    /// (CVE-2021-23214).
    #[error("received unencrypted data after SSL request")]
    EarlyData,
    /// `client_tls.required`, and this client does without.
    #[error("a session without TLS was refused")]
    TlsRequired {
        /// What PostgreSQL says where no line of pg_hba.conf fits.
        message: String,
    },
    /// Direct TLS, but none is configured.
    #[error("received direct SSL connection request without SSL support")]
    DirectTlsUnsupported,
    /// Direct TLS without ALPN could be another protocol's client (ALPACA).
    #[error("received direct SSL connection request without ALPN protocol negotiation extension")]
    AlpnMissing,
    /// The handshake failed.
    #[error("could not accept SSL connection: {0}")]
    Handshake(io::Error),
    /// The client left within a packet.
    #[error("incomplete startup packet")]
    Incomplete,
    /// The socket failed.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
}

impl StartupError {
    /// What the client is told; PostgreSQL only logs the others.
    pub fn report(&self) -> Option<Report> {
        match self {
            Self::Packet(error) => error.report(),
            Self::EarlyData => Some(Report::fatal("08P01", self.to_string()).detail(
                "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
            )),
            Self::TlsRequired { message } => Some(
                Report::fatal("28000", message.clone())
                    .detail("pgveil takes only connections that are encrypted with TLS.")
                    .hint("Connect with sslmode=require or stronger."),
            ),
            Self::TimedOut
            | Self::DirectTlsUnsupported
            | Self::AlpnMissing
            | Self::Handshake(_)
            | Self::Incomplete
            | Self::Io(_) => None,
        }
    }
}

impl StartupError {
    /// Where `docs/errors.md` explains it, if it is a refusal of pgveil's own.
    pub fn anchor(&self) -> Option<&'static str> {
        matches!(self, Self::TlsRequired { .. }).then_some("client-tls-required")
    }
}

/// Takes a client in, until `deadline`. `from` is its address, for the refusal's text alone.
pub async fn open<T: Io>(
    io: T,
    entrance: &Entrance,
    from: Option<IpAddr>,
    deadline: Instant,
) -> Result<Opening<T>, StartupError> {
    match timeout_at(deadline, negotiate(io, entrance, from)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StartupError::TimedOut),
    }
}

async fn negotiate<T: Io>(
    io: T,
    entrance: &Entrance,
    from: Option<IpAddr>,
) -> Result<Opening<T>, StartupError> {
    let mut intake = Intake {
        stream: Stream::Plain(io),
        buffer: Vec::new(),
    };
    if intake.fill().await? == 0 {
        return Ok(Opening::Nothing);
    }
    if intake.buffer.first() == Some(&TLS_HANDSHAKE) {
        intake = intake.direct_tls(entrance).await?;
    }
    // Each request for encryption is answered once, and none within TLS.
    let (mut ssl_spent, mut gss_spent) = (intake.stream.is_tls(), intake.stream.is_tls());
    loop {
        match intake.packet().await {
            Ok(None) => return Ok(Opening::Nothing),
            Ok(Some(Packet::Ssl)) if !ssl_spent => {
                ssl_spent = true;
                intake = intake.answer_ssl(entrance).await?;
                gss_spent |= intake.stream.is_tls();
            }
            Ok(Some(Packet::GssEnc)) if !gss_spent => {
                gss_spent = true;
                intake.answer(b'N').await?;
            }
            Ok(Some(packet @ (Packet::Ssl | Packet::GssEnc))) => {
                return Err(intake.refuse(packet::repeated(&packet).into()).await);
            }
            Ok(Some(Packet::Cancel(request))) => {
                return Ok(Opening::Cancel {
                    request,
                    stream: intake.stream,
                });
            }
            Ok(Some(Packet::Startup(startup))) => {
                return intake.admit(startup, entrance, from).await;
            }
            Err(error) => return Err(intake.refuse(error).await),
        }
    }
}

/// A connection and what was read from it too much.
struct Intake<T> {
    stream: Stream<T>,
    buffer: Vec<u8>,
}

impl<T: Io> Intake<T> {
    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            outcome => outcome,
        }
    }

    /// The next packet; `None` if the client left before it began one.
    async fn packet(&mut self) -> Result<Option<Packet>, StartupError> {
        loop {
            if let Some(bytes) = packet::cut(&self.buffer)? {
                let (length, packet) = (bytes.len(), packet::read(bytes)?);
                self.buffer.drain(..length);
                return Ok(Some(packet));
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(StartupError::Incomplete)
                };
            }
        }
    }

    async fn answer(&mut self, byte: u8) -> io::Result<()> {
        self.stream.write_all(&[byte]).await?;
        self.stream.flush().await
    }

    async fn answer_ssl(mut self, entrance: &Entrance) -> Result<Self, StartupError> {
        let Some(acceptor) = &entrance.tls else {
            self.answer(b'N').await?;
            return Ok(self);
        };
        if !self.buffer.is_empty() {
            return Err(self.refuse(StartupError::EarlyData).await);
        }
        self.answer(b'S').await?;
        self.handshake(acceptor).await
    }

    async fn direct_tls(self, entrance: &Entrance) -> Result<Self, StartupError> {
        let acceptor = entrance
            .tls
            .as_ref()
            .ok_or(StartupError::DirectTlsUnsupported)?;
        let secured = self.handshake(acceptor).await?;
        if secured.stream.alpn() == Some(ALPN) {
            Ok(secured)
        } else {
            Err(StartupError::AlpnMissing)
        }
    }

    /// TLS over a plain stream. What the buffer holds is the beginning of the handshake: nothing in it is
    /// ever taken for decrypted bytes.
    async fn handshake(self, acceptor: &TlsAcceptor) -> Result<Self, StartupError> {
        let Stream::Plain(io) = self.stream else {
            return Err(StartupError::EarlyData);
        };
        let mut begun = Ok(());
        let accept = acceptor.accept_with(io, |tls| begun = feed(tls, &self.buffer));
        begun.map_err(StartupError::Handshake)?;
        let tls = accept.await.map_err(StartupError::Handshake)?;
        Ok(Self {
            stream: Stream::Tls(Box::new(tls.into())),
            buffer: Vec::new(),
        })
    }

    async fn admit(
        self,
        startup: StartupMessage,
        entrance: &Entrance,
        from: Option<IpAddr>,
    ) -> Result<Opening<T>, StartupError> {
        if entrance.tls_required && !self.stream.is_tls() {
            let message = format!(
                "no pg_hba.conf entry for host \"{}\", user \"{}\", database \"{}\", no encryption",
                from.map_or_else(|| "???".to_owned(), |from| from.to_string()),
                String::from_utf8_lossy(startup.user()),
                String::from_utf8_lossy(startup.database()),
            );
            return Err(self.refuse(StartupError::TlsRequired { message }).await);
        }
        Ok(Opening::Session(Client {
            stream: self.stream,
            startup,
            early: self.buffer,
        }))
    }

    /// Tells the client what there is to tell, and closes.
    async fn refuse(self, error: StartupError) -> StartupError {
        let is_old =
            matches!(&error, StartupError::Packet(packet) if packet.is_before_protocol_3());
        match error.report() {
            Some(report) if is_old => self.stream.refuse_in_protocol_2(&report).await,
            Some(report) => self.stream.refuse(&report).await,
            None => {}
        }
        error
    }
}

/// Gives a handshake the bytes that were read before it began.
fn feed(tls: &mut ServerConnection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        tls.read_tls(&mut bytes)?;
        tls.process_new_packets().map_err(io::Error::other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
