//! HTTPS to a KMS: one client per provider, with time limits and our own trust. What the answers mean is the provider's.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

/// To connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// From the request to the last byte of its answer. Whoever waits for a key waits for this.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
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
    /// Anything else.
    #[error("no HTTPS client: {0}")]
    Client(String),
}

/// A client that trusts `ca_file`, or the system's roots without it. Follows no redirect: a request may carry a token.
pub(crate) fn client(ca_file: Option<&Path>) -> Result<reqwest::Client, HttpError> {
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

/// The body of an answer, up to a limit.
pub(crate) async fn body(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
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
