//! The login as a dialogue: whose turn it is, what goes to the client unchanged, and what cannot be
//! relayed. Pure: `login` moves the bytes.
//!
//! SCRAM's channel binding ties the exchange to one TLS connection, and there are two. So the mechanisms
//! that bind (`...-PLUS`) are withheld; a client that then says that it would have bound is, to a server
//! that offered it, a victim of a downgrade (RFC 5802, section 6), and is refused here with a cure.

use bytes::BytesMut;

use super::parameters::{Parameters, TooManyParameters};
use crate::{
    frame::{Frame, FrameError},
    gate::SecretsError,
    messages::{
        Authentication, BackendKeyData, ErrorFields, Malformed, NegotiateProtocolVersion,
        ParameterStatus, ReadyForQuery, Report,
        authentication::Mechanisms,
        sasl::{ChannelBinding, SaslInitialResponse},
        tag::server,
    },
    scram::ScramError,
};

/// Mechanisms whose exchange is bound to the TLS connection end with this.
const BINDING_SUFFIX: &[u8] = b"-PLUS";

/// Why a login came to nothing. The client was told already what it is to know.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server said no, and the client has its word.
    #[error("the server refused the login")]
    Rejected,
    /// The client left, as psql does to ask its user for a password.
    #[error("the client left during the login")]
    ClientGone,
    /// The server closed its connection.
    #[error("the server closed the connection during the login")]
    ServerGone,
    /// It took too long.
    #[error("the login took too long")]
    TimedOut,
    /// Bytes that are no frame, or a connection that failed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The server's message is none.
    #[error("the server's message of type {tag} is malformed: {source}")]
    ServerMalformed {
        /// Its type.
        tag: u8,
        /// Why.
        source: Malformed,
    },
    /// The client's answer is none.
    #[error("the client's SASL response is malformed: {0}")]
    ClientMalformed(Malformed),
    /// A message of the server that has no place in a login, or is too long for one.
    #[error("the server sent a message of type {0} during the login")]
    Unexpected(u8),
    /// The server wants a proof that cannot be handed on.
    #[error("{0} authentication cannot be relayed")]
    Method(&'static str),
    /// The server offers nothing without channel binding.
    #[error("the server offers only authentication with channel binding")]
    OnlyBinding,
    /// TLS on both legs, and the client wants to, or would, bind to its own.
    #[error("SCRAM authentication with TLS on both legs cannot be relayed")]
    BindingLost,
    /// The server reports too much.
    #[error(transparent)]
    Parameters(#[from] TooManyParameters),
    /// The client's side of SCRAM.
    #[error("{0}")]
    Scram(ScramError),
    /// The server's side of SCRAM.
    #[error("the server's part of SCRAM: {0}")]
    ServerScram(ScramError),
    /// The server does not know the verifier that it asked by.
    #[error("the server did not prove that it knows the role's verifier")]
    ServerUnproven,
    /// `channel_binding = "require"` in [upstream].
    #[error("the server does not offer channel binding")]
    ServerUnbound,
    /// `channel_binding = "require"` in [auth].
    #[error("a login without channel binding was refused")]
    ClientUnbound,
    /// A wrong password, where the server has no say.
    #[error("password authentication failed for user \"{role}\"")]
    Password {
        /// The role.
        role: String,
    },
    /// `certificates = "require"`.
    #[error("connection requires a valid client certificate")]
    NoCertificate,
    /// A certificate of somebody else.
    #[error("certificate authentication failed for user \"{role}\"")]
    Certificate {
        /// The role.
        role: String,
    },
    /// The server wants a proof, and pgveil has none for a role that came by certificate.
    #[error("there is no password for a role that logged in by certificate")]
    NoCredential,
    /// What is known of the roles cannot be read.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

impl LoginError {
    /// What the client is told; nothing if it has the server's word or is gone.
    pub fn report(&self) -> Option<Report> {
        match self {
            Self::Rejected | Self::ClientGone => None,
            Self::ServerGone => Some(Report::server_gone()),
            Self::TimedOut => Some(Report::fatal("57014", "canceling authentication due to timeout")),
            Self::Frame(error) => error.report(),
            Self::ClientMalformed(error) => Some(Report::fatal("08P01", error.to_string())),
            Self::ServerMalformed { .. } | Self::Unexpected(_) => Some(
                Report::fatal("08P01", "the server behind pgveil broke the protocol during the login")
                    .detail(format!("{self}.")),
            ),
            Self::Method(method) => Some(
                Report::fatal("28000", format!("pgveil cannot relay {method} authentication"))
                    .detail("Its exchange is bound to the connection between client and server, and pgveil stands between them.")
                    .hint("Let pg_hba.conf ask for scram-sha-256 from the address of pgveil."),
            ),
            Self::OnlyBinding => Some(
                Report::fatal("28000", "pgveil cannot relay SCRAM authentication with channel binding")
                    .detail("The server offers no other mechanism, and a channel binding holds for one TLS connection only: the client's ends at pgveil.")
                    .hint("Set mode = \"terminate\" in [auth], or let the server offer SCRAM-SHA-256 too."),
            ),
            Self::BindingLost => Some(
                Report::fatal("28000", "pgveil cannot relay SCRAM authentication when TLS protects both its connections")
                    .detail("The client supports channel binding and was not offered it, since it would bind to the TLS connection that ends at pgveil. The server offers it, and so would take this for an attack.")
                    .hint("Set mode = \"terminate\" in [auth]. Or add channel_binding=disable to the client's connection string."),
            ),
            Self::Parameters(error) => Some(error.report()),
            Self::Scram(error) => Some(scram_report(error)),
            Self::ServerScram(_) | Self::ServerUnproven => Some(
                Report::fatal("28000", "the server behind pgveil did not prove who it is")
                    .detail("Its side of SCRAM does not fit the role's verifier.")
                    .hint("See that [upstream] address leads to the right server."),
            ),
            Self::ServerUnbound => Some(
                Report::fatal("28000", "the server behind pgveil does not offer channel binding")
                    .detail("pgveil's configuration requires it.")
                    .hint("Let pg_hba.conf ask pgveil's address for scram-sha-256 over TLS."),
            ),
            Self::ClientUnbound => Some(
                Report::fatal("28000", "pgveil requires channel binding")
                    .hint("Connect with sslmode=require or stronger, by a driver that supports SCRAM-SHA-256-PLUS."),
            ),
            Self::Password { .. } => Some(Report::fatal("28P01", self.to_string())),
            Self::NoCertificate | Self::Certificate { .. } => {
                Some(Report::fatal("28000", self.to_string()))
            }
            Self::NoCredential => Some(
                Report::fatal("28000", "pgveil cannot log in to the server as this role")
                    .detail("The client's certificate was accepted, but the server asks for a password.")
                    .hint("Give pgveil a certificate that the server maps to the role, or the role's password in userlist_file."),
            ),
            Self::Secrets(_) => Some(
                Report::fatal("57P03", "pgveil cannot look up how this role logs in")
                    .hint("Look at pgveil's log."),
            ),
        }
    }

    /// Where `docs/errors.md` explains it, if it is a refusal of pgveil's own.
    pub fn anchor(&self) -> Option<&'static str> {
        match self {
            Self::Method(_) => Some("authentication-not-relayed"),
            Self::OnlyBinding | Self::BindingLost => Some("channel-binding-not-relayed"),
            Self::ClientUnbound | Self::ServerUnbound => Some("channel-binding-required"),
            Self::NoCredential => Some("no-upstream-credential"),
            Self::Secrets(_) => Some("verifiers-unavailable"),
            Self::ServerScram(_) | Self::ServerUnproven => Some("server-unproven"),
            _ => None,
        }
    }
}

/// As PostgreSQL reports what is wrong with a client's messages.
fn scram_report(error: &ScramError) -> Report {
    let report = |sqlstate| Report::fatal(sqlstate, error.to_string());
    match error {
        ScramError::Malformed { detail } => report("08P01").detail(*detail),
        ScramError::Unsupported(_) => report("08P01"),
        ScramError::Nonce => report("08P01").detail("Nonce does not match."),
        ScramError::Downgrade => report("28000").detail(
            "The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.",
        ),
        ScramError::Binding => report("28000"),
        ScramError::Wrong => report("28P01"),
    }
}

/// The key that cancels what a session runs.
#[derive(Clone, PartialEq, Eq)]
pub struct BackendKey {
    /// The backend's process id.
    pub pid: i32,
    /// 4 to 256 bytes.
    pub secret: Vec<u8>,
}

impl BackendKey {
    /// As the messages have it.
    pub fn message(&self) -> BackendKeyData<'_> {
        BackendKeyData {
            pid: self.pid,
            secret: &self.secret,
        }
    }
}

impl std::fmt::Debug for BackendKey {
    /// The secret is one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendKey")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// Who speaks next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The server goes on.
    Server,
    /// The client answers with one message.
    Client,
    /// Nobody: the session begins.
    Ready,
    /// Nobody: the server said no.
    Rejected,
}

/// Which answer of the client is awaited, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Awaited {
    /// One that is the server's to judge.
    #[default]
    Opaque,
    /// The choice of a mechanism.
    SaslChoice,
    /// The first message of a mechanism, chosen without one.
    SaslFirst,
}

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Dialogue {
    pub(super) parameters: Parameters,
    pub(super) key: Option<BackendKey>,
    /// The minor version that the server counter-offered.
    pub(super) counter_offer: Option<u16>,
    awaited: Awaited,
    /// The server offered channel binding, and the client was not told.
    withheld: bool,
    authenticated: bool,
}

impl Dialogue {
    /// Takes the server's next message and appends to `out` what the client gets of it.
    pub(super) fn hear_server(
        &mut self,
        frame: Frame<'_>,
        out: &mut BytesMut,
    ) -> Result<Turn, LoginError> {
        let turn = self
            .judge(frame, out)
            .map_err(|error| error.of(frame.tag))?;
        if let Some(turn) = turn {
            out.extend_from_slice(frame.bytes);
            return Ok(turn);
        }
        Ok(Turn::Client)
    }

    /// Whose turn it is after `frame`; `None` if `out` already has what the client answers next.
    fn judge(&mut self, frame: Frame<'_>, out: &mut BytesMut) -> Result<Option<Turn>, Fault> {
        match frame.tag {
            server::AUTHENTICATION => {
                return self.authentication(Authentication::read(frame.body)?, out);
            }
            server::ERROR_RESPONSE => {
                ErrorFields::read(frame.body)?;
                return Ok(Some(Turn::Rejected));
            }
            server::NOTICE_RESPONSE => {
                ErrorFields::read(frame.body)?;
            }
            server::NEGOTIATE_PROTOCOL_VERSION if !self.authenticated => {
                self.counter_offer = Some(NegotiateProtocolVersion::read(frame.body)?.minor());
            }
            server::PARAMETER_STATUS => self.parameters.set(&ParameterStatus::read(frame.body)?)?,
            server::BACKEND_KEY_DATA if self.authenticated => {
                let BackendKeyData { pid, secret } = BackendKeyData::read(frame.body)?;
                self.key = Some(BackendKey {
                    pid,
                    secret: secret.to_vec(),
                });
            }
            server::READY_FOR_QUERY if self.authenticated => {
                ReadyForQuery::read(frame.body)?;
                return Ok(Some(Turn::Ready));
            }
            tag => return Err(LoginError::Unexpected(tag).into()),
        }
        Ok(Some(Turn::Server))
    }

    fn authentication(
        &mut self,
        step: Authentication<'_>,
        out: &mut BytesMut,
    ) -> Result<Option<Turn>, Fault> {
        if self.authenticated {
            return Err(LoginError::Unexpected(server::AUTHENTICATION).into());
        }
        match step {
            Authentication::Ok => {
                self.authenticated = true;
                Ok(Some(Turn::Server))
            }
            Authentication::SaslFinal(_) => Ok(Some(Turn::Server)),
            Authentication::CleartextPassword
            | Authentication::Md5Password(_)
            | Authentication::SaslContinue(_) => Ok(Some(Turn::Client)),
            Authentication::Sasl(mechanisms) => self.offer(mechanisms, out),
            Authentication::KerberosV5 => Err(LoginError::Method("Kerberos").into()),
            Authentication::Gss | Authentication::GssContinue(_) => {
                Err(LoginError::Method("GSSAPI").into())
            }
            Authentication::Sspi => Err(LoginError::Method("SSPI").into()),
            Authentication::Unassigned(_) => Err(LoginError::Method("this kind of").into()),
        }
    }

    /// Hands on the mechanisms that do not bind.
    fn offer(
        &mut self,
        mechanisms: Mechanisms<'_>,
        out: &mut BytesMut,
    ) -> Result<Option<Turn>, Fault> {
        self.awaited = Awaited::SaslChoice;
        self.withheld = mechanisms
            .names()
            .any(|name| name.ends_with(BINDING_SUFFIX));
        if !self.withheld {
            return Ok(Some(Turn::Client));
        }
        let mut unbound = mechanisms
            .names()
            .filter(|name| !name.ends_with(BINDING_SUFFIX))
            .peekable();
        if unbound.peek().is_none() {
            return Err(LoginError::OnlyBinding.into());
        }
        Authentication::write_sasl(out, unbound);
        Ok(None)
    }

    /// Takes the client's answer, which goes to the server as it is.
    pub(super) fn hear_client(&mut self, body: &[u8]) -> Result<(), LoginError> {
        let flag = match std::mem::take(&mut self.awaited) {
            Awaited::Opaque => return Ok(()),
            Awaited::SaslFirst => ChannelBinding::of(body),
            Awaited::SaslChoice => {
                let choice =
                    SaslInitialResponse::read(body).map_err(LoginError::ClientMalformed)?;
                if choice.response.is_none() {
                    self.awaited = Awaited::SaslFirst;
                }
                choice.channel_binding()
            }
        };
        match flag {
            Some(ChannelBinding::NotOffered | ChannelBinding::Required) if self.withheld => {
                Err(LoginError::BindingLost)
            }
            _ => Ok(()),
        }
    }
}

/// A malformed message, before its type is put to it.
enum Fault {
    Malformed(Malformed),
    Login(LoginError),
}

impl Fault {
    fn of(self, tag: u8) -> LoginError {
        match self {
            Self::Malformed(source) => LoginError::ServerMalformed { tag, source },
            Self::Login(error) => error,
        }
    }
}

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl From<LoginError> for Fault {
    fn from(error: LoginError) -> Self {
        Self::Login(error)
    }
}

impl From<TooManyParameters> for Fault {
    fn from(error: TooManyParameters) -> Self {
        Self::Login(error.into())
    }
}
