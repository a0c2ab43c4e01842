//! HTTPS to a KMS: one client per provider, with time limits and our own trust. What the answers mean is the provider's.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use crate::ProviderError;

/// To connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// From the request to the last byte of its answer. Whoever waits for a key waits for this.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// All tries of one operation.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);
/// How often an operation is tried while its provider does not answer.
const MAX_TRIES: u32 = 3;
/// Before the second try; twice that before the third. Up to as much again is added at random, so that those who were
/// turned away together do not come back together.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest answer that is read. Wrapped keys and errors are far shorter.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A file of roots, or of a certificate.
    #[error("{}: {reason}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What says who asks.
    #[error("{reason}")]
    Credentials {
        /// What is wrong with them.
        reason: String,
    },
    /// An address that cannot be one.
    #[error("{address} is no address of it: {reason}")]
    Address {
        /// As it is written.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Anything else.
    #[error("no HTTPS client: {0}")]
    Client(String),
}

impl HttpError {
    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Roots { .. } | Self::Client(_) => {
                "see its `ca_file`: PEM, with the root that signed the server's certificate; and its `url`, `cert_file` and `key_file`, if it has them"
            }
            Self::Credentials { .. } => {
                "see docs/providers.md for where credentials are looked for"
            }
            Self::Address { .. } => "write it as the provider shows it, with https://",
        }
    }
}

/// A client that trusts `ca_file`, or the system's roots without it. Follows no redirect: a request may carry a token.
pub fn client(ca_file: Option<&Path>) -> Result<reqwest::Client, HttpError> {
    client_with(ca_file, None)
}

/// [`client`], which shows a certificate to servers that ask for one: chain and private key, PEM files both.
pub(crate) fn client_with(
    ca_file: Option<&Path>,
    certificate: Option<(&Path, &Path)>,
) -> Result<reqwest::Client, HttpError> {
    // Without a provider of cryptography of its own, the client takes the process's.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .tls_backend_rustls()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = ca_file {
        let unusable = |reason: String| HttpError::Roots {
            path: path.to_owned(),
            reason,
        };
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| unusable(error.to_string()))?;
        if roots.is_empty() {
            return Err(unusable("it holds no certificate".to_owned()));
        }
        builder = builder.tls_certs_only(roots);
    }
    if let Some((chain, key)) = certificate {
        builder = builder.identity(identity(chain, key)?);
    }
    builder
        .build()
        .map_err(|error| HttpError::Client(error.to_string()))
}

/// A certificate chain with its key.
fn identity(chain: &Path, key: &Path) -> Result<reqwest::Identity, HttpError> {
    let mut pem = Zeroizing::new(Vec::new());
    for path in [chain, key] {
        let part = std::fs::read(path).map(Zeroizing::new);
        let part = part.map_err(|error| HttpError::Roots {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        pem.extend_from_slice(&part);
        pem.push(b'\n');
    }
    reqwest::Identity::from_pem(&pem).map_err(|error| HttpError::Roots {
        path: chain.to_owned(),
        reason: format!("with {}: {error}", key.display()),
    })
}

/// Tries an operation until it succeeds or fails for good, a few times and not for long.
pub(crate) async fn retrying<T, F>(
    provider: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T, ProviderError>
where
    F: Future<Output = Result<T, ProviderError>>,
{
    let tries = async {
        let mut pause = PAUSE;
        for _ in 1..MAX_TRIES {
            match attempt().await {
                Err(error) if error.is_outage() => {}
                answer => return answer,
            }
            tokio::time::sleep(pause + jitter(pause)).await;
            pause *= 2;
        }
        attempt().await
    };
    match tokio::time::timeout(OPERATION_TIMEOUT, tries).await {
        Ok(answer) => answer,
        Err(_) => Err(ProviderError::unavailable(provider, "no answer in time")),
    }
}

/// Between nothing and `most`, so that those who wait do not all come at the same moment. Nothing where there is no
/// randomness, which is no reason to fail.
pub fn jitter(most: Duration) -> Duration {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    most * u32::from(byte[0]) / u32::from(u8::MAX)
}

/// The body of an answer, up to a limit. It may hold a key.
pub(crate) async fn body(mut response: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, String> {
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES));
    while let Some(chunk) = response.chunk().await.map_err(|error| why(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(format!(
                "its answer is longer than {MAX_ANSWER_BYTES} bytes"
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Whether the server turned our certificate away: by an alert of TLS (RFC 8446, section 6.2) that says so. Withdrawing the
/// certificate is how a customer says no.
pub(crate) fn is_turned_away(error: &reqwest::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        // What an I/O error wraps is not its source.
        let wrapped = error.downcast_ref::<std::io::Error>();
        let wrapped = wrapped.and_then(std::io::Error::get_ref);
        let tls = match wrapped {
            Some(inner) => inner.downcast_ref::<rustls::Error>(),
            None => error.downcast_ref::<rustls::Error>(),
        };
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return matches!(
                alert,
                Alert::AccessDenied
                    | Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::CertificateRequired
                    // Its signature does not verify.
                    | Alert::DecryptError
                    | Alert::UnknownCA
            );
        }
        source = error.source();
    }
    false
}

/// What went wrong on the way, without the URL, which messages of the provider's name already.
pub(crate) fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut source: &dyn std::error::Error = error;
    // The innermost cause is what people understand: "Connection refused".
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}
