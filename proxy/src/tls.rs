//! TLS settings of both legs: rustls with ring, from PEM files. No handshake is begun here.

pub mod certificate;
mod verify;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use pgveil_config::TlsMode;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use self::verify::{ServerCheck, Trust};

/// PostgreSQL's protocol id (IANA; PostgreSQL 17 requires it of direct TLS).
pub const ALPN: &[u8] = b"postgresql";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("cannot read {what} from {}: {source}", path.display())]
    Pem {
        /// Which of them.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A PEM file without a certificate.
    #[error("{} holds no certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The system has no trusted roots, and no `ca_file` is given.
    #[error("the system has no trusted certificates: set ca_file")]
    NoSystemRoots,
    /// A name that no certificate can carry.
    #[error("\"{host}\" is neither a host name nor an address")]
    HostName {
        /// The name.
        host: String,
    },
    /// Certificates that no client's can lead to.
    #[error("{} cannot be used as an authority for clients: {source}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VerifierBuilderError,
    },
    /// rustls refuses the certificate or the key.
    #[error("the certificate or its key cannot be used: {0}")]
    Refused(#[from] rustls::Error),
}

/// The side that clients see: certificate chain and key from PEM files, ALPN `postgresql` offered. With a
/// `client_ca_file`, clients are asked for a certificate, which they need not have.
pub fn acceptor(
    cert_file: &Path,
    key_file: &Path,
    client_ca_file: Option<&Path>,
) -> Result<TlsAcceptor, TlsError> {
    let certificates = client_ca_file.map(|path| (path, Certificates::Welcome));
    server(cert_file, key_file, certificates, ALPN)
}

/// The side that callers of an HTTP service see. With a `client_ca_file`, they must have a certificate from there.
pub fn https(
    cert_file: &Path,
    key_file: &Path,
    client_ca_file: Option<&Path>,
) -> Result<TlsAcceptor, TlsError> {
    let certificates = client_ca_file.map(|path| (path, Certificates::Required));
    server(cert_file, key_file, certificates, b"http/1.1")
}

/// Whether a client may come without a certificate.
enum Certificates {
    Welcome,
    Required,
}

fn server(
    cert_file: &Path,
    key_file: &Path,
    client_certificates: Option<(&Path, Certificates)>,
    alpn: &[u8],
) -> Result<TlsAcceptor, TlsError> {
    let (chain, key) = identity(cert_file, key_file)?;
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match client_certificates {
        None => builder.with_no_client_auth(),
        Some((path, need)) => {
            let roots = Arc::new(store(&certificates(path)?));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = match need {
                Certificates::Welcome => verifier.allow_unauthenticated(),
                Certificates::Required => verifier,
            };
            let verifier = verifier.build().map_err(|source| TlsError::Authority {
                path: path.into(),
                source,
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A certificate chain and its key.
fn identity(
    cert_file: &Path,
    key_file: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(cert_file)?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|source| TlsError::Pem {
        what: "a private key",
        path: key_file.into(),
        source,
    })?;
    Ok((chain, key))
}

/// The side that the server sees.
#[derive(Clone)]
pub struct Connector {
    pub(crate) tls: TlsConnector,
    pub(crate) name: ServerName<'static>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How to speak TLS to `host` under libpq's `mode`; `None` for `disable`.
///
/// As libpq, `require` with a `ca_file` verifies the chain, and `prefer` verifies nothing. `verify-full`
/// takes a name from the certificate's subjectAltName only, never from its CN. `own`: certificate and key to show to
/// a server that asks for one.
pub fn connector(
    mode: TlsMode,
    ca_file: Option<&Path>,
    own: Option<(&Path, &Path)>,
    host: &str,
) -> Result<Option<Connector>, TlsError> {
    let trust = match mode {
        TlsMode::Disable => return Ok(None),
        TlsMode::Prefer => Trust::Anyone,
        TlsMode::Require if ca_file.is_none() => Trust::Anyone,
        TlsMode::Require | TlsMode::VerifyCa => Trust::chain(roots(ca_file)?, false),
        TlsMode::VerifyFull => Trust::chain(roots(ca_file)?, true),
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::HostName {
        host: host.to_owned(),
    })?;
    let provider = provider();
    let check = ServerCheck::new(trust, provider.signature_verification_algorithms);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(check));
    let mut config = match own {
        None => config.with_no_client_auth(),
        Some((cert_file, key_file)) => {
            let (chain, key) = identity(cert_file, key_file)?;
            config.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Some(Connector {
        tls: TlsConnector::from(Arc::new(config)),
        name,
    }))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Pem {
        what: "certificates",
        path: path.into(),
        source,
    };
    let all = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(unreadable)?;
    if all.is_empty() {
        Err(TlsError::NoCertificate { path: path.into() })
    } else {
        Ok(all)
    }
}

/// The trusted certificates: of the file, or of the system.
fn roots(ca_file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    match ca_file {
        Some(path) => certificates(path),
        None => {
            let found = rustls_native_certs::load_native_certs().certs;
            if found.is_empty() {
                Err(TlsError::NoSystemRoots)
            } else {
                Ok(found)
            }
        }
    }
}

/// Roots that rustls can use; a bundle may hold some that it cannot.
fn store(roots: &[CertificateDer<'static>]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    store
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::{testing::Authority, *};
    use crate::stream::Stream;

    /// Whether a client of `mode` that trusts `roots` completes a handshake with a server called `server.test`.
    async fn connects(authority: &Authority, mode: TlsMode, ca: Option<&Path>, host: &str) -> bool {
        let (near, far) = tokio::io::duplex(4096);
        let acceptor = acceptor(&authority.cert_file(), &authority.key_file(), None).unwrap();
        let connector = connector(mode, ca, None, host).unwrap().unwrap();
        let (server, client) = tokio::join!(
            acceptor.accept(far),
            connector.tls.connect(connector.name, near)
        );
        assert_eq!(server.is_ok(), client.is_ok());
        if let Ok(client) = client {
            assert_eq!(Stream::Tls(Box::new(client.into())).alpn(), Some(ALPN));
            return true;
        }
        false
    }

    #[tokio::test]
    async fn each_mode_verifies_what_libpq_verifies() {
        let ours = Authority::new("server.test");
        let (own, other) = (ours.ca_file(), Authority::new("server.test"));
        let stranger = other.ca_file();
        for (mode, ca, host, connected) in [
            (TlsMode::Prefer, None, "elsewhere.test", true),
            (TlsMode::Require, None, "elsewhere.test", true),
            (TlsMode::Require, Some(&own), "elsewhere.test", true),
            (TlsMode::Require, Some(&stranger), "server.test", false),
            (TlsMode::VerifyCa, Some(&own), "elsewhere.test", true),
            (TlsMode::VerifyCa, Some(&stranger), "server.test", false),
            (TlsMode::VerifyFull, Some(&own), "server.test", true),
            (TlsMode::VerifyFull, Some(&own), "elsewhere.test", false),
            (TlsMode::VerifyFull, Some(&own), "192.0.2.1", false),
            (TlsMode::VerifyFull, Some(&stranger), "server.test", false),
        ] {
            let outcome = connects(&ours, mode, ca.map(PathBuf::as_path), host).await;
            assert_eq!(outcome, connected, "{mode:?} {ca:?} {host}");
        }
    }

    #[tokio::test]
    async fn a_self_signed_certificate_that_is_itself_trusted_is_verified() {
        let pinned = Authority::self_signed("server.test");
        let ca = Some(pinned.cert_file());
        assert!(connects(&pinned, TlsMode::VerifyFull, ca.as_deref(), "server.test").await);
        assert!(
            !connects(
                &pinned,
                TlsMode::VerifyFull,
                ca.as_deref(),
                "elsewhere.test"
            )
            .await
        );
        assert!(connects(&pinned, TlsMode::VerifyCa, ca.as_deref(), "elsewhere.test").await);
    }

    #[tokio::test]
    async fn an_expired_certificate_is_refused_even_when_pinned() {
        let expired = Authority::expired("server.test");
        let ca = Some(expired.cert_file());
        assert!(!connects(&expired, TlsMode::VerifyCa, ca.as_deref(), "server.test").await);
        assert!(connects(&expired, TlsMode::Require, None, "server.test").await);
    }

    #[test]
    fn says_which_file_is_wrong() {
        let ours = Authority::new("server.test");
        let missing = Path::new("/nonexistent/server.crt");
        let text = |result: Result<TlsAcceptor, TlsError>| result.err().unwrap().to_string();
        assert!(
            text(acceptor(missing, &ours.key_file(), None))
                .starts_with("cannot read certificates from /nonexistent")
        );
        assert!(
            text(acceptor(&ours.key_file(), &ours.key_file(), None))
                .ends_with("holds no certificate")
        );
        assert!(
            text(acceptor(&ours.cert_file(), &ours.cert_file(), None))
                .starts_with("cannot read a private key from")
        );
        let other = Authority::new("server.test");
        assert!(matches!(
            acceptor(&ours.cert_file(), &other.key_file(), None),
            Err(TlsError::Refused(_))
        ));
        assert!(
            connector(TlsMode::Disable, Some(missing), None, "host")
                .unwrap()
                .is_none()
        );
        assert!(connector(TlsMode::VerifyCa, Some(missing), None, "host").is_err());
        assert!(matches!(
            connector(TlsMode::Require, None, None, "no name"),
            Err(TlsError::HostName { .. })
        ));
    }
}
