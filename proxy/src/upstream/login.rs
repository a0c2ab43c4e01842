//! Carries the login between a client and the server: the StartupMessage verbatim, then what `dialogue`
//! lets through, until the session begins or the server says no.

use std::fmt;

use bytes::BytesMut;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    dialogue::{BackendKey, Dialogue, LoginError, Turn},
    parameters::Parameters,
};
use crate::{
    frame::{FrameError, FrameReader, Next, Sender},
    startup::{Client, StartupMessage},
    stream::{Io, Stream},
};

/// The longest single message of a login: a notice or a setting.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// A client and a server that have come to a session: the client has seen `ReadyForQuery`.
pub struct Established<C = TcpStream, U = TcpStream> {
    /// The client's connection.
    pub client: Stream<C>,
    /// What it sent already.
    pub client_early: Vec<u8>,
    /// The server's connection.
    pub upstream: Stream<U>,
    /// What it sent already behind `ReadyForQuery`.
    pub upstream_early: Vec<u8>,
    /// What the client asked for.
    pub startup: StartupMessage,
    /// What the server reported.
    pub parameters: Parameters,
    /// What cancels the session's queries.
    pub key: Option<BackendKey>,
    /// The minor version of protocol 3 that both speak.
    pub minor_version: u16,
}

impl<C, U> fmt::Debug for Established<C, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Established")
            .field("startup", &self.startup)
            .field("key", &self.key)
            .field("minor_version", &self.minor_version)
            .finish_non_exhaustive()
    }
}

/// Logs the client in, until `deadline`. If that fails, the client is told why and closed.
pub async fn login<C: Io, U: Io>(
    client: Client<C>,
    upstream: Stream<U>,
    deadline: Instant,
) -> Result<Established<C, U>, LoginError> {
    let mut legs = Legs {
        client: FrameReader::new(client.stream, Sender::Login, client.early),
        server: FrameReader::new(upstream, Sender::Server, Vec::new()),
        out: BytesMut::new(),
        dialogue: Dialogue::default(),
    };
    let outcome = timeout_at(deadline, legs.converse(&client.startup)).await;
    match outcome.unwrap_or(Err(LoginError::TimedOut)) {
        Ok(()) => Ok(legs.established(client.startup)),
        Err(error) => {
            let (client, _) = legs.client.into_parts();
            match error.report() {
                Some(report) => client.refuse(&report).await,
                None => client.close().await,
            }
            Err(error)
        }
    }
}

struct Legs<C, U> {
    client: FrameReader<Stream<C>>,
    server: FrameReader<Stream<U>>,
    /// For the client.
    out: BytesMut,
    dialogue: Dialogue,
}

impl<C: Io, U: Io> Legs<C, U> {
    async fn converse(&mut self, startup: &StartupMessage) -> Result<(), LoginError> {
        send(&mut self.server, startup.raw())
            .await
            .map_err(FrameError::from)?;
        loop {
            let turn = match self.server.next()? {
                Next::Frame(frame) => self.dialogue.hear_server(frame, &mut self.out)?,
                Next::Large(header) if header.total_len() > MESSAGE_BYTES => {
                    return Err(LoginError::Unexpected(header.tag));
                }
                Next::Large(_) | Next::Wait => {
                    self.tell_client().await?;
                    if self.server.fill().await? == 0 {
                        return Err(LoginError::ServerGone);
                    }
                    continue;
                }
            };
            self.server.skip();
            match turn {
                Turn::Server => {}
                Turn::Client => {
                    self.tell_client().await?;
                    self.hand_on_answer().await?;
                }
                Turn::Ready => return self.tell_client().await,
                Turn::Rejected => {
                    self.tell_client().await?;
                    return Err(LoginError::Rejected);
                }
            }
        }
    }

    async fn tell_client(&mut self) -> Result<(), LoginError> {
        // A client that is gone cannot be told that it is.
        send(&mut self.client, &self.out)
            .await
            .map_err(|_| LoginError::ClientGone)?;
        self.out.clear();
        Ok(())
    }

    /// Takes one message from the client to the server.
    async fn hand_on_answer(&mut self) -> Result<(), LoginError> {
        loop {
            if let Next::Frame(frame) = self.client.next()? {
                self.dialogue.hear_client(frame.body)?;
                send(&mut self.server, frame.bytes)
                    .await
                    .map_err(FrameError::from)?;
                self.client.skip();
                return Ok(());
            }
            match self.client.fill().await {
                Ok(0) | Err(FrameError::Io(_) | FrameError::Truncated { .. }) => {
                    return Err(LoginError::ClientGone);
                }
                outcome => outcome?,
            };
        }
    }

    fn established(self, startup: StartupMessage) -> Established<C, U> {
        let (client, client_early) = self.client.into_parts();
        let (upstream, upstream_early) = self.server.into_parts();
        let Dialogue {
            parameters,
            key,
            counter_offer,
            ..
        } = self.dialogue;
        let minor_version = counter_offer.unwrap_or(startup.minor_version());
        Established {
            client,
            client_early,
            upstream,
            upstream_early,
            startup,
            parameters,
            key,
            minor_version,
        }
    }
}

async fn send<T: Io>(to: &mut FrameReader<Stream<T>>, bytes: &[u8]) -> std::io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    to.get_mut().write_all(bytes).await?;
    to.get_mut().flush().await
}

#[cfg(test)]
mod tests;
