//! Carries the login between a client and the server: the StartupMessage verbatim, then what `dialogue`
//! lets through, until the session begins or the server says no.

use std::fmt;

use bytes::BytesMut;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout_at},
};

use pgveil_config::settings::{AuthMode, Certificates};

use super::{
    bridge::{Comer, Wanted},
    dialogue::{BackendKey, Dialogue, LoginError, Turn},
    parameters::Parameters,
};
use crate::{
    frame::{FrameError, FrameReader, Next, Sender},
    gate::Gate,
    messages::{Authentication, tag::server},
    startup::{Client, StartupMessage},
    stream::{Io, Socket, Stream},
    tls::certificate,
};

/// The longest single message of a login: a notice or a setting.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// A client and a server that have come to a session: the client has seen `ReadyForQuery`.
pub struct Established<C = Socket, U = Socket> {
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

/// Logs the client in through `gate`, until `deadline`. If that fails, the client is told why and closed.
pub async fn login<C: Io, U: Io>(
    client: Client<C>,
    upstream: Stream<U>,
    gate: &Gate,
    deadline: Instant,
) -> Result<Established<C, U>, LoginError> {
    let mut legs = Legs {
        client: FrameReader::new(client.stream, Sender::Login, client.early),
        server: FrameReader::new(upstream, Sender::Server, Vec::new()),
        out: BytesMut::new(),
        dialogue: Dialogue::default(),
    };
    let outcome = timeout_at(deadline, legs.converse(&client.startup, gate)).await;
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

pub(super) struct Legs<C, U> {
    pub(super) client: FrameReader<Stream<C>>,
    pub(super) server: FrameReader<Stream<U>>,
    /// For the client.
    pub(super) out: BytesMut,
    pub(super) dialogue: Dialogue,
}

/// How far the client has proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// Not at all.
    Due,
    /// To pgveil.
    Here,
    /// To the server, by what is relayed.
    There,
}

impl<C: Io, U: Io> Legs<C, U> {
    async fn converse(&mut self, startup: &StartupMessage, gate: &Gate) -> Result<(), LoginError> {
        let role = String::from_utf8_lossy(startup.user()).into_owned();
        let comer = Comer {
            role: &role,
            certified: self.is_certified(gate, &role)?,
        };
        let mut proof = match gate.mode {
            AuthMode::Relay => Proof::There,
            AuthMode::Terminate => Proof::Due,
        };
        self.tell_server(startup.raw()).await?;
        loop {
            self.await_server().await?;
            if proof == Proof::Due {
                proof = self.end_here(gate, comer).await?;
            }
            // What was bridged is done with; the next message is the server's own.
            let Some(frame) = self.server.current() else {
                continue;
            };
            let turn = self.dialogue.hear_server(frame, &mut self.out)?;
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

    /// Whether a certificate lets this role in without more. One that is asked for and does not fit is an error.
    fn is_certified(&mut self, gate: &Gate, role: &str) -> Result<bool, LoginError> {
        let shown = self.client.get_mut().peer_certificate();
        match (gate.certificates, shown) {
            (Certificates::Off, _) | (Certificates::Login, None) => Ok(false),
            (Certificates::Require, None) => Err(LoginError::NoCertificate),
            (kind, Some(shown)) => {
                let name = certificate::common_name(shown);
                let fits = match &name {
                    Some(name) => gate.secrets.may_log_in(name, role)?,
                    None => false,
                };
                if fits {
                    Ok(kind == Certificates::Login)
                } else {
                    Err(LoginError::Certificate {
                        role: role.to_owned(),
                    })
                }
            }
        }
    }

    /// Looks at the server's message before it is relayed: what asks for a proof that pgveil judges is answered.
    async fn end_here(&mut self, gate: &Gate, comer: Comer<'_>) -> Result<Proof, LoginError> {
        let step = match self.server.current() {
            Some(frame) if frame.tag == server::AUTHENTICATION => Authentication::read(frame.body),
            _ => return Ok(Proof::Due),
        };
        match step {
            Ok(Authentication::Sasl(mechanisms)) => {
                let wanted = Wanted::of(mechanisms);
                self.server.skip();
                self.bridge(gate, comer, wanted).await?;
                Ok(Proof::Here)
            }
            Ok(Authentication::Ok) => {
                self.bridge(gate, comer, Wanted::Nothing).await?;
                Ok(Proof::Here)
            }
            // The password itself, or its hash: the server judges it.
            Ok(Authentication::CleartextPassword | Authentication::Md5Password(_))
                if gate.needs_binding() =>
            {
                Err(LoginError::ClientUnbound)
            }
            Ok(Authentication::CleartextPassword | Authentication::Md5Password(_))
                if gate.server_must_bind() =>
            {
                Err(LoginError::ServerUnbound)
            }
            _ => Ok(Proof::There),
        }
    }

    /// Returns when the server's next message is there, whole.
    pub(super) async fn await_server(&mut self) -> Result<(), LoginError> {
        loop {
            match self.server.next()? {
                Next::Frame(_) => return Ok(()),
                Next::Large(header) if header.total_len() > MESSAGE_BYTES => {
                    return Err(LoginError::Unexpected(header.tag));
                }
                Next::Large(_) | Next::Wait => {
                    self.tell_client().await?;
                    if self.server.fill().await? == 0 {
                        return Err(LoginError::ServerGone);
                    }
                }
            }
        }
    }

    pub(super) async fn tell_server(&mut self, bytes: &[u8]) -> Result<(), LoginError> {
        send(&mut self.server, bytes)
            .await
            .map_err(|error| LoginError::Frame(FrameError::from(error)))
    }

    pub(super) async fn tell_client(&mut self) -> Result<(), LoginError> {
        // A client that is gone cannot be told that it is.
        send(&mut self.client, &self.out)
            .await
            .map_err(|_| LoginError::ClientGone)?;
        self.out.clear();
        Ok(())
    }

    /// Takes one message from the client to the server. It may be a password, and is not kept.
    async fn hand_on_answer(&mut self) -> Result<(), LoginError> {
        self.await_client().await?;
        if let Some(frame) = self.client.current() {
            self.dialogue.hear_client(frame.body)?;
            send(&mut self.server, frame.bytes)
                .await
                .map_err(FrameError::from)?;
        }
        self.client.wipe();
        self.client.skip();
        Ok(())
    }

    /// Returns when the client's next message is there, whole.
    pub(super) async fn await_client(&mut self) -> Result<(), LoginError> {
        loop {
            // A message that is larger than the buffer is assembled; it is bounded by the login's limit.
            if let Next::Frame(_) = self.client.next()? {
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
