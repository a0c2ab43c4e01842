//! The gate: how clients prove who they are. What is known of a role is looked up here (`secrets`); the exchange
//! itself is `upstream::bridge`'s.

mod secrets;

use anyhow::Context;
use pgveil_config::{
    Settings,
    settings::{AuthMode, Certificates, ChannelBinding},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use zeroize::Zeroizing;

pub use secrets::{Secret, Secrets, SecretsError};

use crate::{
    scram::{Leg, Verifier},
    tls::certificate,
};

/// Iterations that a role without a verifier pretends to (`scram_iterations`).
const PRETENDED_ITERATIONS: u32 = 4096;
/// Bytes of its salt.
const PRETENDED_SALT: usize = 16;

/// How clients log in.
#[derive(Debug)]
pub struct Gate {
    /// Who judges.
    pub mode: AuthMode,
    /// What a certificate is good for.
    pub certificates: Certificates,
    /// What is known of the roles.
    pub secrets: Secrets,
    binding: ChannelBinding,
    upstream_binding: ChannelBinding,
    /// The hash of our own certificate, if one is defined.
    end_point: Option<Vec<u8>>,
    /// What salts of roles without a verifier are made of.
    pretence: Zeroizing<[u8; 32]>,
}

impl Gate {
    /// As the settings say. Files are read once, so that what is wrong with them shows at start.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let auth = &settings.auth;
        let secrets = Secrets::new(settings);
        secrets.check().context("[auth]")?;
        let end_point = match &settings.client_tls {
            Some(tls) => CertificateDer::from_pem_file(&tls.cert_file)
                .ok()
                .and_then(|certificate| certificate::end_point(&certificate)),
            None => None,
        };
        if auth.channel_binding == ChannelBinding::Require && end_point.is_none() {
            anyhow::bail!(
                "[auth] channel_binding = \"require\": no channel binding is defined for a certificate with this kind of signature (Ed25519 is one); use an RSA or ECDSA one"
            );
        }
        Ok(Self {
            mode: auth.mode,
            certificates: auth.certificates,
            secrets,
            binding: auth.channel_binding,
            upstream_binding: settings.upstream.channel_binding,
            end_point,
            pretence: Zeroizing::new(random()),
        })
    }

    /// One that relays every login.
    #[cfg(test)]
    pub(crate) fn relaying() -> Self {
        Self {
            mode: AuthMode::Relay,
            certificates: Certificates::Off,
            secrets: Secrets::none(),
            binding: ChannelBinding::Prefer,
            upstream_binding: ChannelBinding::Prefer,
            end_point: None,
            pretence: Zeroizing::new([0; 32]),
        }
    }

    /// The hash that a client on TLS may bind to, if binding is offered.
    pub fn offered(&self, is_tls: bool) -> Option<&[u8]> {
        self.end_point
            .as_deref()
            .filter(|_| is_tls && self.binding != ChannelBinding::Disable)
    }

    /// Whether a client that does not bind is refused.
    pub fn needs_binding(&self) -> bool {
        self.binding == ChannelBinding::Require
    }

    /// How to bind to a server with this certificate that offers binding, or does not. `None` if it must and cannot.
    pub fn leg(&self, server: Option<&[u8]>, offers: bool) -> Option<Leg> {
        let hash = server.and_then(certificate::end_point);
        match (self.upstream_binding, hash) {
            (ChannelBinding::Prefer | ChannelBinding::Require, Some(hash)) if offers => {
                Some(Leg::Bound(hash))
            }
            (ChannelBinding::Require, _) => None,
            (ChannelBinding::Prefer, Some(_)) => Some(Leg::NotOffered),
            (ChannelBinding::Disable | ChannelBinding::Prefer, _) => Some(Leg::Unbound),
        }
    }

    /// A login without any exchange cannot bind.
    pub fn server_must_bind(&self) -> bool {
        self.upstream_binding == ChannelBinding::Require
    }

    /// What a role is asked with that has no verifier: always the same, so that nobody can tell (mock
    /// authentication in auth-scram.c).
    pub fn pretended(&self, role: &[u8]) -> (Vec<u8>, u32) {
        let hash = crate::scram::keyed_hash(&*self.pretence, role);
        (hash[..PRETENDED_SALT].to_vec(), PRETENDED_ITERATIONS)
    }

    /// A verifier that nothing fits.
    pub fn nobody(salt: Vec<u8>, iterations: u32) -> Verifier {
        Verifier::nobody(salt, iterations, random())
    }
}

/// Random bytes of the system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}
