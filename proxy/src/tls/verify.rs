//! What is asked of the server's certificate: libpq's `sslmode`, in rustls's terms.
//! Names are taken from subjectAltName only, and revocation lists are not read.

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// Who is taken for the server.
#[derive(Debug)]
pub(super) enum Trust {
    /// Whoever answers: nothing is authenticated, so nothing of the certificate is read.
    Anyone,
    /// A holder of a certificate that leads to one of these.
    Chain {
        roots: Vec<CertificateDer<'static>>,
        store: RootCertStore,
        /// And that carries the host's name.
        named: bool,
    },
}

impl Trust {
    pub(super) fn chain(roots: Vec<CertificateDer<'static>>, named: bool) -> Self {
        let store = super::store(&roots);
        Self::Chain {
            roots,
            store,
            named,
        }
    }
}

/// The verifier that rustls asks.
#[derive(Debug)]
pub(super) struct ServerCheck {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCheck {
    pub(super) fn new(trust: Trust, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { trust, algorithms }
    }

    /// The chain, or the certificate itself: a self-signed one that is given as its own root is what many
    /// servers have, and libpq takes it. webpki refuses it as an authority's (an error that it keeps
    /// apart from expiry and bad encoding, which are never forgiven).
    fn chain(
        &self,
        (roots, store): (&[CertificateDer<'static>], &RootCertStore),
        (end_entity, parsed): (&CertificateDer<'_>, &ParsedCertificate<'_>),
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        match verify_server_cert_signed_by_trust_anchor(
            parsed,
            store,
            intermediates,
            now,
            self.algorithms.all,
        ) {
            Err(Error::InvalidCertificate(
                CertificateError::Other(_) | CertificateError::UnknownIssuer,
            )) if roots.iter().any(|root| root == end_entity) => Ok(()),
            outcome => outcome,
        }
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Trust::Chain {
            roots,
            store,
            named,
        } = &self.trust
        {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            self.chain((roots, store), (end_entity, &parsed), intermediates, now)?;
            if *named {
                verify_server_name(&parsed, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.trust {
            Trust::Anyone => Ok(HandshakeSignatureValid::assertion()),
            Trust::Chain { .. } => verify_tls12_signature(message, cert, dss, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.trust {
            Trust::Anyone => Ok(HandshakeSignatureValid::assertion()),
            Trust::Chain { .. } => verify_tls13_signature(message, cert, dss, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
