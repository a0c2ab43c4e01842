//! TLS towards Postgres in libpq's terms: what each `sslmode` verifies. The proxy's own legs are set up elsewhere.

use std::{path::Path, sync::Arc};

use pgveil_config::TlsMode;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use super::ConnectError;

/// What a server must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verification {
    Nothing,
    Chain,
    ChainAndName,
}

impl Verification {
    fn of(mode: TlsMode, has_ca_file: bool) -> Self {
        match mode {
            TlsMode::Disable | TlsMode::Prefer => Self::Nothing,
            // libpq: "if a root CA file exists, the behavior of sslmode=require will be the same as that of verify-ca".
            TlsMode::Require if has_ca_file => Self::Chain,
            TlsMode::Require => Self::Nothing,
            TlsMode::VerifyCa => Self::Chain,
            TlsMode::VerifyFull => Self::ChainAndName,
        }
    }
}

/// The client side of TLS for `mode`.
pub(super) fn client_config(
    mode: TlsMode,
    ca_file: Option<&Path>,
) -> Result<ClientConfig, ConnectError> {
    let crypto = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&crypto))
        .with_safe_default_protocol_versions()?;
    let mut config = match Verification::of(mode, ca_file.is_some()) {
        Verification::ChainAndName => builder
            .with_root_certificates(roots(ca_file)?)
            .with_no_client_auth(),
        Verification::Chain => {
            let verifier = ChainOnly {
                crypto,
                roots: Some(roots(ca_file)?),
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth()
        }
        Verification::Nothing => {
            let verifier = ChainOnly {
                crypto,
                roots: None,
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, ConnectError> {
    match ca_file {
        Some(path) => roots_of_file(path),
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                Err(ConnectError::NoRoots)
            } else {
                Ok(roots)
            }
        }
    }
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, ConnectError> {
    let failed = |reason: String| ConnectError::CaFile {
        path: path.to_owned(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        Err(failed("it holds no certificate".to_owned()))
    } else {
        Ok(roots)
    }
}

/// Verifies the chain, or nothing (`roots` absent), and never the name. Signatures of the handshake are always
/// verified: whoever answers holds the key of the certificate shown.
#[derive(Debug)]
struct ChainOnly {
    crypto: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let algorithms = self.crypto.signature_verification_algorithms.all;
            let certificate = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            signature,
            &self.crypto.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            signature,
            &self.crypto.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sslmode_verifies_what_libpq_verifies() {
        assert_eq!(
            Verification::of(TlsMode::Prefer, true),
            Verification::Nothing
        );
        assert_eq!(
            Verification::of(TlsMode::Require, false),
            Verification::Nothing
        );
        assert_eq!(
            Verification::of(TlsMode::Require, true),
            Verification::Chain
        );
        assert_eq!(
            Verification::of(TlsMode::VerifyCa, false),
            Verification::Chain
        );
        assert_eq!(
            Verification::of(TlsMode::VerifyFull, true),
            Verification::ChainAndName
        );
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let error = roots_of_file(file.path()).expect_err("it is empty");
        assert!(
            error.to_string().ends_with("it holds no certificate"),
            "{error}"
        );
    }

    #[test]
    fn no_process_wide_provider_is_installed_or_needed() {
        client_config(TlsMode::Require, None).expect("needs no roots");
        assert!(CryptoProvider::get_default().is_none());
    }
}
