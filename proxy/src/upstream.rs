//! The server behind the proxy: reaching it under libpq's `sslmode`, and the login relayed to it.
//! One connection for each client's; there is no pool.

mod bridge;
mod dialogue;
mod login;
mod parameters;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::BytesMut;
use pgveil_config::{TlsMode, settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{Instant, timeout_at},
};

pub use dialogue::{BackendKey, LoginError};
pub use login::{Established, login};
pub use parameters::{Parameters, TooManyParameters};

use crate::{
    listener::UNIX,
    messages::{Report, ssl_request},
    stream::{Io, Socket, Stream},
    tls::{self, Connector, TlsError},
};

/// How long reaching the server may take, handshake included, where the configuration does not say.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the server is and how the leg to it is protected.
#[derive(Clone, Debug)]
pub struct Upstream {
    host: String,
    port: u16,
    /// A Unix socket, in the place of host and port.
    socket: Option<PathBuf>,
    mode: TlsMode,
    connector: Option<Connector>,
    /// TLS from the first byte.
    direct: bool,
    connect_timeout: Duration,
}

/// Why the settings name no server.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// `address` is not HOST:PORT.
    #[error("\"{address}\" is not HOST:PORT")]
    Address {
        /// What it is.
        address: String,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why the server cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Its name has no address, or none of them answers.
    #[error("could not connect to {host}:{port}: {source}")]
    Unreachable {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What the last address said.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("timed out connecting to {host}:{port}")]
    TimedOut {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// It answers SSLRequest with `N`, and the mode asks for TLS.
    #[error("server does not support SSL, but SSL was required")]
    TlsUnsupported,
    /// It answers SSLRequest with an error: too old, or without a process for the connection.
    #[error("server sent an error response during SSL exchange")]
    TlsErrorAnswer,
    /// It answers SSLRequest with something else.
    #[error("received invalid response to SSL negotiation: {0}")]
    TlsAnswer(u8),
    /// Bytes between the answer and the handshake: they would have been read as if they were encrypted
    /// (CVE-2021-23222).
    #[error("received unencrypted data after SSL response")]
    EarlyData,
    /// Direct TLS with somebody who does not speak of PostgreSQL.
    #[error("direct SSL connection was established without ALPN protocol negotiation extension")]
    AlpnMissing,
    /// The handshake failed, or the certificate is not to be trusted.
    #[error("SSL error: {0}")]
    Handshake(io::Error),
    /// The socket failed.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
}

impl ConnectError {
    /// What the client is told. Where the server is, is for the log alone.
    pub fn report(&self) -> Report {
        let report = Report::fatal("08006", "could not connect to the server behind pgveil");
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Io(_) => {
                report.detail("The server does not answer.")
            }
            Self::TlsUnsupported
            | Self::TlsErrorAnswer
            | Self::TlsAnswer(_)
            | Self::EarlyData
            | Self::AlpnMissing
            | Self::Handshake(_) => report
                .detail("The connection to it cannot be protected as pgveil's configuration asks."),
        }
    }

    /// libpq's `prefer` tries again without TLS after these.
    fn is_without_tls_another_matter(&self) -> bool {
        matches!(self, Self::TlsErrorAnswer | Self::Handshake(_))
    }
}

impl Upstream {
    /// The server that `[upstream]` names.
    pub fn new(settings: &settings::Upstream) -> Result<Self, UpstreamError> {
        let upstream = Self::at(&settings.address, TlsMode::Disable, None)?;
        if upstream.socket.is_some() {
            // As libpq, no TLS on Unix sockets.
            return Ok(Self {
                connect_timeout: settings.connect_timeout,
                ..upstream
            });
        }
        let own = settings
            .cert_file
            .as_deref()
            .zip(settings.key_file.as_deref());
        let ca_file = settings.ca_file.as_deref();
        Ok(Self {
            connector: tls::connector(settings.tls, ca_file, own, &upstream.host)?,
            mode: settings.tls,
            direct: settings.direct_tls,
            connect_timeout: settings.connect_timeout,
            ..upstream
        })
    }

    /// The server at `address`, HOST:PORT or unix:PATH; an IPv6 address stands in brackets.
    pub fn at(address: &str, mode: TlsMode, ca_file: Option<&Path>) -> Result<Self, UpstreamError> {
        let wrong = || UpstreamError::Address {
            address: address.to_owned(),
        };
        if let Some(path) = address.strip_prefix(UNIX) {
            return Ok(Self {
                host: path.to_owned(),
                port: 0,
                socket: Some(path.into()),
                mode: TlsMode::Disable,
                connector: None,
                direct: false,
                connect_timeout: CONNECT,
            });
        }
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            socket: None,
            mode,
            connector: tls::connector(mode, ca_file, None, host)?,
            direct: false,
            connect_timeout: CONNECT,
        })
    }

    /// A new connection, protected as the mode says, before any startup packet; within `deadline` and
    /// `connect_timeout`.
    pub async fn connect(&self, deadline: Instant) -> Result<Stream, ConnectError> {
        let deadline = deadline.min(Instant::now() + self.connect_timeout);
        match timeout_at(deadline, self.reach()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ConnectError::TimedOut {
                host: self.host.clone(),
                port: self.port,
            }),
        }
    }

    async fn reach(&self) -> Result<Stream, ConnectError> {
        let Some(connector) = &self.connector else {
            return Ok(Stream::Plain(self.dial().await?));
        };
        if self.direct {
            return directly(self.dial().await?, connector).await;
        }
        match secure(self.dial().await?, connector, self.mode).await {
            Err(error) if self.mode == TlsMode::Prefer && error.is_without_tls_another_matter() => {
                tracing::debug!(%error, "going on without TLS, as tls = \"prefer\" says");
                Ok(Stream::Plain(self.dial().await?))
            }
            outcome => outcome,
        }
    }

    async fn dial(&self) -> Result<Socket, ConnectError> {
        let unreachable = |source| ConnectError::Unreachable {
            host: self.host.clone(),
            port: self.port,
            source,
        };
        if let Some(path) = &self.socket {
            return match UnixStream::connect(path).await {
                Ok(unix) => Ok(Socket::Unix(unix)),
                Err(error) => Err(unreachable(error)),
            };
        }
        // tokio tries all addresses of the name in their order.
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(unreachable)?;
        let socket = Socket::Tcp(tcp);
        socket.tune()?;
        Ok(socket)
    }
}

/// Asks for TLS and speaks it, or goes on without where `prefer` allows it.
async fn secure<T: Io>(
    mut io: T,
    connector: &Connector,
    mode: TlsMode,
) -> Result<Stream<T>, ConnectError> {
    if !ask_for_tls(&mut io).await? {
        return if mode == TlsMode::Prefer {
            Ok(Stream::Plain(io))
        } else {
            Err(ConnectError::TlsUnsupported)
        };
    }
    let connect = connector.tls.connect(connector.name.clone(), io);
    let tls = connect.await.map_err(ConnectError::Handshake)?;
    Ok(Stream::Tls(Box::new(tls.into())))
}

/// Speaks TLS without asking. A server that is not PostgreSQL 17 does not understand it, or does not agree on ALPN.
async fn directly<T: Io>(io: T, connector: &Connector) -> Result<Stream<T>, ConnectError> {
    let connect = connector.tls.connect(connector.name.clone(), io);
    let tls = connect.await.map_err(ConnectError::Handshake)?;
    let stream = Stream::Tls(Box::new(tls.into()));
    if stream.alpn() == Some(tls::ALPN) {
        Ok(stream)
    } else {
        Err(ConnectError::AlpnMissing)
    }
}

async fn ask_for_tls<T: Io>(io: &mut T) -> Result<bool, ConnectError> {
    let mut request = BytesMut::new();
    ssl_request::write(&mut request);
    io.write_all(&request).await?;
    io.flush().await?;
    // One byte is due. Room for more shows whether more came.
    let mut answer = [0; 16];
    let count = io.read(&mut answer).await?;
    match &answer[..count] {
        b"S" => Ok(true),
        b"N" => Ok(false),
        [b'S', ..] => Err(ConnectError::EarlyData),
        [b'E', ..] => Err(ConnectError::TlsErrorAnswer),
        [other, ..] => Err(ConnectError::TlsAnswer(*other)),
        [] => Err(ConnectError::Io(io::ErrorKind::UnexpectedEof.into())),
    }
}

#[cfg(test)]
mod tests;
