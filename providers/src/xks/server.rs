//! The server: keys of the local KMS over the XKS Proxy API. TLS is set up by who starts it; logs are written there, too.

use std::{
    fmt,
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::{
    connections::{CommonName, Connections, Door, Peer, TurnedAway},
    credentials::CredentialsFile,
    sigv4,
    wire::{
        ALGORITHM, Bytes, CDIV_ALGORITHM, DecryptRequest, DecryptResponse, EncryptRequest,
        EncryptResponse, ErrorName, ErrorResponse, HealthResponse, KeyManager, MAX_AAD_BYTES,
        MAX_METADATA_BYTES, MAX_PLAINTEXT_BYTES, MetadataResponse, PlainRequest, RequestMetadata,
        TAG_BYTES, is_key_id,
    },
};
use crate::local::{
    Algorithm, Caller, Key, KeyState, KmsError, LocalKms, Operation, VersionState, XksCiphertext,
};

/// The longest request: 4,300 bytes of plaintext and 8,192 of AAD in base64, and metadata with ARNs of 2,048 characters.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// From the head of a request to its answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long requests in progress may go on when the server is told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Words of a request that go to the log.
const MAX_LOGGED_CHARS: usize = 256;

/// One request, for the log. It holds no plaintext.
#[derive(Clone, Debug)]
pub struct Served {
    /// Where it came from.
    pub peer: String,
    /// Under which names; empty if under none.
    pub caller: String,
    /// The key; empty for health.
    pub key: String,
    /// `encrypt`, `decrypt`, `metadata`, `health`.
    pub operation: String,
    /// The caller's number for it (`kmsRequestId`).
    pub request_id: String,
    /// What the caller's KMS was asked for (`kmsOperation`).
    pub kms_operation: String,
    /// On whose behalf (`awsPrincipalArn`).
    pub principal: String,
    /// The error, if it was not done.
    pub refused: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// A server that does not start.
#[derive(Debug, thiserror::Error)]
#[error("keys cannot be served: {0}")]
pub struct ServeError(#[from] io::Error);

/// What is served, to whom.
pub struct Server {
    /// Whose keys.
    pub kms: Arc<LocalKms>,
    /// Access keys that requests must be signed with; nothing, where the certificate is enough.
    pub credentials: Option<CredentialsFile>,
    /// Common names of clients; none: every certificate that TLS let in.
    pub client_names: Vec<String>,
    /// What stands before `/kms/xks/v1`.
    pub path_prefix: String,
    /// Reads the common name of a certificate in DER.
    pub common_name: CommonName,
    /// Hears of a client whose certificate TLS did not let in, and why.
    pub turned_away: TurnedAway,
    /// Seconds since 1970, for the time of signatures.
    pub now: fn() -> u64,
    /// Hears of each request.
    pub served: fn(&Served),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("kms", &self.kms)
            .field("path_prefix", &self.path_prefix)
            .finish_non_exhaustive()
    }
}

impl Connected<IncomingStream<'_, Connections>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.remote_addr().clone()
    }
}

impl Server {
    /// Serves until `stop` is done, and then what is in progress.
    pub async fn run(
        self,
        listener: TcpListener,
        tls: TlsAcceptor,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let door = Door {
            tls,
            common_name: self.common_name,
            turned_away: self.turned_away,
        };
        let connections = Connections::new(listener, door)?;
        let service = Router::new()
            .fallback(answer)
            .with_state(Arc::new(self))
            .into_make_service_with_connect_info::<Peer>();
        let (stopping, stopped) = tokio::sync::oneshot::channel();
        let serving = axum::serve(connections, service).with_graceful_shutdown(async move {
            stop.await;
            let _ = stopping.send(());
        });
        let drained = async {
            let _ = stopped.await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            ended = serving.into_future() => ended?,
            () = drained => {}
        }
        Ok(())
    }
}

/// What is known of a request so far, for the log.
#[derive(Default)]
struct Heard {
    caller: String,
    key: String,
    operation: String,
    metadata: RequestMetadata,
}

type Answer = Result<Response, ErrorResponse>;

async fn answer(
    State(server): State<Arc<Server>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let started = Instant::now();
    // For load balancers: that something answers, and no more.
    if request.method() == Method::GET && server.below(request.uri().path()) == Some("healthz") {
        return StatusCode::OK.into_response();
    }
    let mut heard = Heard::default();
    let judged = tokio::time::timeout(REQUEST_LIMIT, server.judge(request, &peer, &mut heard));
    let answer = judged.await.unwrap_or_else(|_| {
        Err(ErrorResponse::new(
            ErrorName::DependencyTimeoutException,
            "no answer in time",
        ))
    });
    let refused = answer.as_ref().err().map(|error| {
        let words = error.error_message.as_deref().unwrap_or_default();
        format!("{:?}: {words}", error.error_name)
    });
    let short = |text: &str| text.chars().take(MAX_LOGGED_CHARS).collect();
    (server.served)(&Served {
        peer: peer.address.to_string(),
        caller: heard.caller,
        key: heard.key,
        operation: heard.operation,
        request_id: short(&heard.metadata.kms_request_id),
        kms_operation: short(&heard.metadata.kms_operation),
        principal: short(
            heard
                .metadata
                .aws_principal_arn
                .as_deref()
                .unwrap_or_default(),
        ),
        refused,
        took: started.elapsed(),
    });
    answer.unwrap_or_else(|error| {
        let status = StatusCode::from_u16(error.error_name.status());
        json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &error)
    })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body).into_response()
}

fn invalid(reason: &str) -> ErrorResponse {
    ErrorResponse::new(ErrorName::ValidationException, reason)
}

fn parse<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, ErrorResponse> {
    // The parser's own words could quote a plaintext.
    serde_json::from_slice(body).map_err(|error| {
        invalid(&format!(
            "the body is not what the API describes (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

impl Server {
    /// What follows the API's root, or the prefix, in a path.
    fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(&self.path_prefix)?.strip_prefix('/')
    }

    async fn judge(&self, request: Request, peer: &Peer, heard: &mut Heard) -> Answer {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            return Ok(StatusCode::METHOD_NOT_ALLOWED.into_response());
        }
        self.admit(peer)?;
        let body = read(body).await?;
        let caller = self.caller(&head, &body, peer)?;
        heard.caller = caller.to_string();
        let path = head.uri.path().to_owned();
        let steps: Vec<&str> = { self.below(&path) }
            .and_then(|rest| rest.strip_prefix("kms/xks/v1/"))
            .map(|rest| rest.split('/').collect())
            .unwrap_or_default();
        match steps[..] {
            ["health"] => {
                heard.operation = "health".to_owned();
                heard.metadata = parse::<PlainRequest>(&body)?.request_metadata;
                self.health().await
            }
            [
                "keys",
                key,
                operation @ ("encrypt" | "decrypt" | "metadata"),
            ] => {
                heard.operation = operation.to_owned();
                if !is_key_id(key) {
                    let reason = "the id of a key has 1 to 128 letters, digits and `-._`";
                    return Err(invalid(reason));
                }
                heard.key = key.to_owned();
                match operation {
                    "encrypt" => self.encrypt(key, parse(&body)?, &caller, heard).await,
                    "decrypt" => self.decrypt(key, parse(&body)?, &caller, heard).await,
                    _ => {
                        heard.metadata = parse::<PlainRequest>(&body)?.request_metadata;
                        self.metadata(key, &caller).await
                    }
                }
            }
            _ => Err(ErrorResponse::new(
                ErrorName::InvalidUriPathException,
                "there is nothing at this path",
            )),
        }
    }

    /// Refuses a certificate whose name is not among those that are let in: by an answer, so that it is not taken for an outage.
    fn admit(&self, peer: &Peer) -> Result<(), ErrorResponse> {
        let names = &self.client_names;
        let is_welcome =
            names.is_empty() || peer.common_name.iter().any(|name| names.contains(name));
        if is_welcome {
            return Ok(());
        }
        let name = peer.common_name.as_deref().unwrap_or("(none)");
        let name: String = name.chars().take(MAX_LOGGED_CHARS).collect();
        Err(ErrorResponse::new(
            ErrorName::AccessDeniedException,
            &format!("the certificate's common name, {name}, is not one that is let in"),
        ))
    }

    /// Who asks, as far as it was proved.
    fn caller(
        &self,
        head: &axum::http::request::Parts,
        body: &[u8],
        peer: &Peer,
    ) -> Result<Caller, ErrorResponse> {
        let key_id = match &self.credentials {
            None => None,
            Some(file) => {
                let signed = sigv4::verify(head, body, (self.now)(), |id| file.secret(id));
                Some(signed.map_err(|reason| {
                    ErrorResponse::new(ErrorName::AuthenticationFailedException, reason)
                })?)
            }
        };
        Ok(Caller::request(key_id, peer.common_name.clone()))
    }

    async fn encrypt(
        &self,
        key: &str,
        request: EncryptRequest,
        caller: &Caller,
        heard: &mut Heard,
    ) -> Answer {
        heard.metadata = request.request_metadata;
        let aad = request.additional_authenticated_data.unwrap_or_default();
        check_sizes(request.plaintext.len(), aad.len())?;
        check_algorithm(&request.encryption_algorithm)?;
        let wants_value = match request.ciphertext_data_integrity_value_algorithm.as_deref() {
            None => false,
            Some(CDIV_ALGORITHM) => true,
            Some(_) => return Err(invalid("the integrity value's algorithm must be SHA_256")),
        };
        let made = self.kms.xks_encrypt(key, &request.plaintext, &aad, caller);
        let (version, made, value) = made.await.map_err(|error| refused(&error))?;
        Ok(json(
            StatusCode::OK,
            &EncryptResponse {
                authentication_tag: Bytes::of(&made.tag),
                ciphertext: Bytes::of(&made.ciphertext),
                ciphertext_data_integrity_value: wants_value.then(|| Bytes::of(&value)),
                ciphertext_metadata: Some(Bytes::of(&made.metadata)),
                initialization_vector: Bytes::of(&made.iv),
                key_version: Some(version.to_string()),
            },
        ))
    }

    async fn decrypt(
        &self,
        key: &str,
        request: DecryptRequest,
        caller: &Caller,
        heard: &mut Heard,
    ) -> Answer {
        heard.metadata = request.request_metadata;
        let aad = request.additional_authenticated_data.unwrap_or_default();
        let metadata = request.ciphertext_metadata.unwrap_or_default();
        check_sizes(request.ciphertext.len(), aad.len())?;
        check_algorithm(&request.encryption_algorithm)?;
        if metadata.len() > MAX_METADATA_BYTES
            || !matches!(request.initialization_vector.len(), 12 | 16)
            || request.authentication_tag.len() != TAG_BYTES
        {
            return Err(invalid(
                "metadata has at most 20 bytes, the vector 12 or 16, the tag 16",
            ));
        }
        let encrypted = XksCiphertext {
            ciphertext: request.ciphertext.to_vec(),
            metadata: metadata.to_vec(),
            iv: request.initialization_vector.to_vec(),
            tag: request.authentication_tag.to_vec(),
        };
        let opened = self.kms.xks_decrypt(key, &encrypted, &aad, caller).await;
        let plaintext = Bytes(opened.map_err(|error| refused(&error))?);
        Ok(json(StatusCode::OK, &DecryptResponse { plaintext }))
    }

    async fn metadata(&self, key: &str, caller: &Caller) -> Answer {
        let key = { self.kms.show(key, caller).await }.map_err(|error| refused(&error))?;
        Ok(json(StatusCode::OK, &described(&key)))
    }

    async fn health(&self) -> Answer {
        self.kms.health().await.map_err(|error| refused(&error))?;
        let model = concat!("pgveil ", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(json(
            StatusCode::OK,
            &HealthResponse {
                xks_proxy_fleet_size: 1,
                xks_proxy_vendor: "pgveil".to_owned(),
                xks_proxy_model: model.clone(),
                ekm_vendor: "pgveil".to_owned(),
                ekm_fleet_details: vec![KeyManager {
                    id: self.kms.name().to_owned(),
                    model,
                    health_status: "ACTIVE".to_owned(),
                }],
            },
        ))
    }
}

async fn read(body: Body) -> Result<Zeroizing<Vec<u8>>, ErrorResponse> {
    let body = to_bytes(body, MAX_REQUEST_BYTES).await;
    body.map(|body| Zeroizing::new(body.to_vec()))
        .map_err(|_| invalid("the body is cut off, or longer than 65536 bytes"))
}

fn check_sizes(text: usize, aad: usize) -> Result<(), ErrorResponse> {
    if text > MAX_PLAINTEXT_BYTES || aad > MAX_AAD_BYTES {
        return Err(ErrorResponse::new(
            ErrorName::UnsupportedOperationException,
            "at most 4300 bytes are encrypted, with at most 8192 bytes of authenticated data",
        ));
    }
    Ok(())
}

fn check_algorithm(algorithm: &str) -> Result<(), ErrorResponse> {
    if algorithm != ALGORITHM {
        return Err(invalid("the algorithm must be AES_GCM"));
    }
    Ok(())
}

fn described(key: &Key) -> MetadataResponse {
    let usable = key.state == KeyState::Active
        && key
            .default()
            .is_some_and(|version| version.state == VersionState::Enabled);
    let usage = key.usage.operations().map(Operation::as_str);
    MetadataResponse {
        key_spec: match key.algorithm {
            Algorithm::Aes256 => "AES_256",
            Algorithm::Rsa2048 => "RSA_2048",
            Algorithm::Rsa3072 => "RSA_3072",
            Algorithm::Rsa4096 => "RSA_4096",
            Algorithm::EcP256 => "ECC_NIST_P256",
        }
        .to_owned(),
        key_usage: usage.map(str::to_uppercase).to_vec(),
        key_status: if usable { "ENABLED" } else { "DISABLED" }.to_owned(),
        key_version: key.default_version.map(|version| version.to_string()),
    }
}

/// What an error of the KMS is called in the API. What the keystore says stays here.
fn refused(error: &KmsError) -> ErrorResponse {
    let name = match error {
        KmsError::NotFound { .. } => ErrorName::KeyNotFoundException,
        // A key whose record was altered is not to be used: that is a no, not an outage.
        KmsError::State { .. } | KmsError::Tampered { .. } => ErrorName::InvalidStateException,
        KmsError::AccessDenied { .. } => ErrorName::AccessDeniedException,
        KmsError::Usage { .. } => ErrorName::InvalidKeyUsageException,
        KmsError::Ciphertext { .. } | KmsError::NoVersion { .. } => {
            ErrorName::InvalidCiphertextException
        }
        KmsError::Input { .. } | KmsError::Exists { .. } => ErrorName::ValidationException,
        KmsError::Store(_) => {
            return ErrorResponse::new(
                ErrorName::DependencyTimeoutException,
                "the keystore cannot be reached",
            );
        }
        KmsError::Busy { .. } | KmsError::AnotherRootKey | KmsError::NoRandomness => {
            ErrorName::InternalException
        }
    };
    ErrorResponse::new(name, &error.to_string())
}
