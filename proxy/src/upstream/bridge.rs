//! A login that ends at pgveil, on each leg: the client proves itself to pgveil, and pgveil to the server as the same
//! role, with the key that the proof gave away (`scram`). No password is needed, and none is known.
//!
//! The server is asked first. So a client is given the server's own salt, whether the role exists or not, and a
//! login that fails here fails there too: the error and the line in the server's log are the server's own.

use zeroize::Zeroizing;

use super::{
    dialogue::{LoginError, Turn},
    login::Legs,
};
use crate::{
    gate::{Gate, Secret, random},
    messages::{
        Authentication,
        authentication::Mechanisms,
        sasl::{self, SaslInitialResponse},
        tag::server,
    },
    scram::{
        Asking, Awaited, Challenge, ClientFirst, Key, MECHANISM, MECHANISM_PLUS, Proven,
        ScramError, Verifier, keys_of_password, nonce,
    },
    stream::Io,
};

/// Iterations that pgveil hashes a password with; PostgreSQL's default is 4096.
const MAX_ITERATIONS: u32 = 1_000_000;

/// What the server wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing: pg_hba.conf trusts pgveil, or its certificate.
    Nothing,
    /// SCRAM.
    Scram {
        /// It offers SCRAM-SHA-256.
        plain: bool,
        /// It offers SCRAM-SHA-256-PLUS.
        plus: bool,
    },
}

impl Wanted {
    pub(super) fn of(mechanisms: Mechanisms<'_>) -> Self {
        let offers = |wanted| mechanisms.names().any(|name| name == wanted);
        Self::Scram {
            plain: offers(MECHANISM),
            plus: offers(MECHANISM_PLUS),
        }
    }
}

/// Who logs in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comer<'a> {
    pub(super) role: &'a str,
    /// By certificate, so that no password is asked for.
    pub(super) certified: bool,
}

/// A message of the server's side of SASL.
enum Step {
    Continue(Vec<u8>),
    Final(Vec<u8>),
}

/// An exchange that the server has begun.
struct Asked {
    asking: Asking,
    challenge: Challenge,
}

impl<C: Io, U: Io> Legs<C, U> {
    /// Ends the login on both legs, up to the server's AuthenticationOk, which is not taken.
    pub(super) async fn bridge(
        &mut self,
        gate: &Gate,
        comer: Comer<'_>,
        wanted: Wanted,
    ) -> Result<(), LoginError> {
        let secret = gate.secrets.find(comer.role).await?;
        let asked = match wanted {
            Wanted::Nothing if gate.server_must_bind() => return Err(LoginError::ServerUnbound),
            Wanted::Nothing => None,
            Wanted::Scram { plain, plus } => Some(self.ask(gate, plain, plus).await?),
        };
        if comer.certified {
            return match asked {
                None => Ok(()),
                Some(asked) => {
                    let (client_key, server_key) = keys(secret, &asked.challenge).await?;
                    self.prove(&asked, &client_key, &server_key).await
                }
            };
        }
        let verifier = verifier(gate, comer.role, secret, asked.as_ref()).await;
        match self.examine(gate, &verifier).await {
            Ok(proven) => {
                if let Some(asked) = &asked {
                    self.prove(asked, &proven.client_key, verifier.server_key())
                        .await?;
                }
                Authentication::write_sasl_final(&mut self.out, proven.last.as_bytes());
                Ok(())
            }
            Err(LoginError::Scram(ScramError::Wrong)) => match asked {
                Some(asked) => self.fail_as_the_server_does(&asked).await,
                None => Err(LoginError::Password {
                    role: comer.role.to_owned(),
                }),
            },
            Err(error) => Err(error),
        }
    }

    /// Begins SCRAM with the server.
    async fn ask(&mut self, gate: &Gate, plain: bool, plus: bool) -> Result<Asked, LoginError> {
        let certificate = self.server.get_mut().peer_certificate();
        let leg = gate
            .leg(certificate, plus)
            .ok_or(LoginError::ServerUnbound)?;
        let asking = Asking::new(nonce(random()), leg);
        let chosen = asking.mechanism();
        if !(chosen == MECHANISM_PLUS || plain) {
            return Err(LoginError::Method("this kind of SASL"));
        }
        let mut out = bytes::BytesMut::new();
        SaslInitialResponse::write(&mut out, chosen, asking.first().as_bytes());
        self.tell_server(&out).await?;
        match self.server_step().await? {
            Step::Continue(message) => {
                let challenge = asking.hear(&message).map_err(LoginError::ServerScram)?;
                Ok(Asked { asking, challenge })
            }
            Step::Final(_) => Err(LoginError::Unexpected(server::AUTHENTICATION)),
        }
    }

    /// Proves the role to the server, and has the server prove itself.
    async fn prove(
        &mut self,
        asked: &Asked,
        client_key: &Key,
        server_key: &Key,
    ) -> Result<(), LoginError> {
        let (last, awaited): (String, Awaited) =
            asked
                .asking
                .answer(&asked.challenge, client_key, server_key);
        self.tell_server_sasl(last.as_bytes()).await?;
        match self.server_step().await? {
            Step::Final(message) if awaited.is(&message) => Ok(()),
            Step::Final(_) | Step::Continue(_) => Err(LoginError::ServerUnproven),
        }
    }

    /// Lets the server refuse the login: it knows the words, writes its log, and counts.
    async fn fail_as_the_server_does(&mut self, asked: &Asked) -> Result<(), LoginError> {
        let last = asked.asking.give_up(&asked.challenge, random());
        self.tell_server_sasl(last.as_bytes()).await?;
        // It answers with an error, which is on its way to the client then.
        self.server_step().await?;
        Err(LoginError::ServerUnproven)
    }

    /// Has the client prove itself.
    async fn examine(&mut self, gate: &Gate, verifier: &Verifier) -> Result<Proven, LoginError> {
        let is_tls = self.client.get_mut().is_tls();
        let offered = gate.offered(is_tls).map(<[u8]>::to_vec);
        if gate.needs_binding() && offered.is_none() {
            return Err(LoginError::ClientUnbound);
        }
        let plus = offered.as_ref().map(|_| MECHANISM_PLUS);
        let plain = (!gate.needs_binding()).then_some(MECHANISM);
        Authentication::write_sasl(&mut self.out, plus.into_iter().chain(plain));
        self.tell_client().await?;
        let first = self.client_first(offered.is_some()).await?;
        if gate.needs_binding() && !first.binds() {
            return Err(LoginError::ClientUnbound);
        }
        let exchange = first.challenge(&nonce(random()), &verifier.salt, verifier.iterations);
        Authentication::write_sasl_continue(&mut self.out, exchange.challenge.as_bytes());
        self.tell_client().await?;
        let last = self.client_answer().await?;
        exchange
            .prove(&last, verifier, offered.as_deref())
            .map_err(LoginError::Scram)
    }

    async fn client_first(&mut self, offered: bool) -> Result<ClientFirst, LoginError> {
        let body = self.client_answer().await?;
        let choice = SaslInitialResponse::read(&body).map_err(LoginError::ClientMalformed)?;
        let first = if let Some(first) = choice.response {
            ClientFirst::read(choice.mechanism, first, offered)
        } else {
            // Chosen without a first message: it is asked for by an empty challenge.
            Authentication::write_sasl_continue(&mut self.out, b"");
            self.tell_client().await?;
            let first = self.client_answer().await?;
            ClientFirst::read(choice.mechanism, &first, offered)
        };
        first.map_err(LoginError::Scram)
    }

    /// The body of the client's next answer.
    async fn client_answer(&mut self) -> Result<Zeroizing<Vec<u8>>, LoginError> {
        self.await_client().await?;
        let body = self.client.current().map(|frame| frame.body.to_vec());
        self.client.wipe();
        self.client.skip();
        Ok(Zeroizing::new(body.unwrap_or_default()))
    }

    /// The server's next message of SASL. An error of its goes to the client.
    async fn server_step(&mut self) -> Result<Step, LoginError> {
        loop {
            self.await_server().await?;
            let Some(frame) = self.server.current() else {
                continue;
            };
            let step = match (frame.tag, Authentication::read(frame.body)) {
                (server::AUTHENTICATION, Ok(Authentication::SaslContinue(message))) => {
                    Some(Step::Continue(message.to_vec()))
                }
                (server::AUTHENTICATION, Ok(Authentication::SaslFinal(message))) => {
                    Some(Step::Final(message.to_vec()))
                }
                (server::AUTHENTICATION, _) => return Err(LoginError::Unexpected(frame.tag)),
                _ => {
                    if self.dialogue.hear_server(frame, &mut self.out)? == Turn::Rejected {
                        self.tell_client().await?;
                        return Err(LoginError::Rejected);
                    }
                    None
                }
            };
            self.server.skip();
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    async fn tell_server_sasl(&mut self, message: &[u8]) -> Result<(), LoginError> {
        let mut out = bytes::BytesMut::new();
        sasl::write_response(&mut out, message);
        self.tell_server(&out).await
    }
}

/// What a client is judged by. Where nothing fits, one that no proof fits: the exchange goes its way all the same.
async fn verifier(
    gate: &Gate,
    role: &str,
    secret: Option<Secret>,
    asked: Option<&Asked>,
) -> Verifier {
    let (salt, iterations) = match asked {
        Some(asked) => (asked.challenge.salt.clone(), asked.challenge.iterations),
        None => gate.pretended(role.as_bytes()),
    };
    match secret {
        Some(Secret::Verifier(verifier)) if asked.is_none() => verifier,
        Some(Secret::Verifier(verifier))
            if verifier.salt == salt && verifier.iterations == iterations =>
        {
            verifier
        }
        Some(Secret::Verifier(_)) => {
            tracing::warn!(
                role,
                "the verifier that pgveil has for this role is not the server's: its password was changed"
            );
            Gate::nobody(salt, iterations)
        }
        Some(Secret::Password(password)) if iterations <= MAX_ITERATIONS => {
            let with = salt.clone();
            let made = tokio::task::spawn_blocking(move || {
                let (client_key, server_key) = keys_of_password(&password, &with, iterations);
                Verifier::of_keys(with, iterations, &client_key, server_key)
            });
            made.await
                .unwrap_or_else(|_| Gate::nobody(salt, iterations))
        }
        Some(Secret::Password(_)) | None => Gate::nobody(salt, iterations),
    }
}

/// The keys of a role that logs in by certificate: of its password, which alone is good for it.
async fn keys(secret: Option<Secret>, challenge: &Challenge) -> Result<(Key, Key), LoginError> {
    let Some(Secret::Password(password)) = secret else {
        return Err(LoginError::NoCredential);
    };
    let (salt, iterations) = (challenge.salt.clone(), challenge.iterations);
    if iterations > MAX_ITERATIONS {
        return Err(LoginError::NoCredential);
    }
    tokio::task::spawn_blocking(move || keys_of_password(&password, &salt, iterations))
        .await
        .map_err(|_| LoginError::NoCredential)
}
