//! The messages of the XKS Proxy API, version 1, as client and server share them.
//! <https://github.com/aws/aws-kms-xksproxy-api-spec>

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize, de, ser};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// What a server must be able to take.
pub const MAX_PLAINTEXT_BYTES: usize = 4300;
/// Of additional authenticated data.
pub const MAX_AAD_BYTES: usize = 8192;
/// Of ciphertext metadata.
pub const MAX_METADATA_BYTES: usize = 20;
/// Of an authentication tag.
pub const TAG_BYTES: usize = 16;
/// The only one.
pub const ALGORITHM: &str = "AES_GCM";
/// The only one.
pub const CDIV_ALGORITHM: &str = "SHA_256";
/// What signatures are scoped to.
pub const SERVICE: &str = "kms-xks-proxy";
/// An error message is shorter.
const MAX_MESSAGE_CHARS: usize = 511;

/// Bytes that go in base64 and are wiped when they go: plaintexts are among them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Zeroizing<Vec<u8>>);

impl Bytes {
    /// A copy.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(BASE64.encode(&*self.0)))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = BASE64.decode(text.as_bytes());
        // The decoder's own words quote the byte that it did not like.
        let bytes = bytes.map_err(|_| de::Error::custom("not base64"))?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

/// Why a request was made: for the server's log and for rules of its own. Further fields may come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestMetadata {
    /// Who asked the KMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_principal_arn: Option<String>,
    /// With which of its keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key_arn: Option<String>,
    /// For what.
    pub kms_operation: String,
    /// Under which number.
    pub kms_request_id: String,
}

/// `.../keys/ID/encrypt`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptRequest {
    /// Why.
    pub request_metadata: RequestMetadata,
    /// Bound to the ciphertext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_authenticated_data: Option<Bytes>,
    /// What is encrypted.
    pub plaintext: Bytes,
    /// [`ALGORITHM`].
    pub encryption_algorithm: String,
    /// [`CDIV_ALGORITHM`], when the answer shall have an integrity value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext_data_integrity_value_algorithm: Option<String>,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptResponse {
    /// 16 bytes.
    pub authentication_tag: Bytes,
    /// As long as the plaintext.
    pub ciphertext: Bytes,
    /// [`integrity_value`], when it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext_data_integrity_value: Option<Bytes>,
    /// At most 20 bytes of the server's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext_metadata: Option<Bytes>,
    /// 12 or 16 bytes.
    pub initialization_vector: Bytes,
    /// pgveil's own addition: which version of the key encrypted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version: Option<String>,
}

/// `.../keys/ID/decrypt`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecryptRequest {
    /// Why.
    pub request_metadata: RequestMetadata,
    /// As it was given to encrypt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_authenticated_data: Option<Bytes>,
    /// [`ALGORITHM`].
    pub encryption_algorithm: String,
    /// From the answer to encrypt, as are the others.
    pub ciphertext: Bytes,
    /// Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext_metadata: Option<Bytes>,
    /// Likewise.
    pub initialization_vector: Bytes,
    /// Likewise.
    pub authentication_tag: Bytes,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct DecryptResponse {
    /// What was encrypted.
    pub plaintext: Bytes,
}

/// `.../keys/ID/metadata` and `.../health`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlainRequest {
    /// Why.
    pub request_metadata: RequestMetadata,
}

/// What a key is.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataResponse {
    /// `AES_256`.
    pub key_spec: String,
    /// `ENCRYPT`, `DECRYPT`, and others.
    pub key_usage: Vec<String>,
    /// `ENABLED` or `DISABLED`.
    pub key_status: String,
    /// pgveil's own addition: the version that encrypts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version: Option<String>,
}

/// How a server is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthResponse {
    /// More than zero.
    pub xks_proxy_fleet_size: u32,
    /// Whose proxy it is.
    pub xks_proxy_vendor: String,
    /// Which.
    pub xks_proxy_model: String,
    /// Whose key manager.
    pub ekm_vendor: String,
    /// One to ten.
    pub ekm_fleet_details: Vec<KeyManager>,
}

/// One key manager behind a server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyManager {
    /// Its name.
    pub id: String,
    /// What it is.
    pub model: String,
    /// `ACTIVE`, `DEGRADED` or `UNAVAILABLE`.
    pub health_status: String,
}

/// The typed errors, with their status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorName {
    /// 400: a parameter.
    ValidationException,
    /// 400: the key is disabled.
    InvalidStateException,
    /// 400: the ciphertext, or what it is bound to.
    InvalidCiphertextException,
    /// 400: the key is for something else.
    InvalidKeyUsageException,
    /// 401: the signature.
    AuthenticationFailedException,
    /// 403: whoever signed may not.
    AccessDeniedException,
    /// 404: no such key.
    KeyNotFoundException,
    /// 404: no such path.
    InvalidUriPathException,
    /// 429: too much.
    ThrottlingException,
    /// 501: not implemented.
    UnsupportedOperationException,
    /// 503: what the server depends on did not answer.
    DependencyTimeoutException,
    /// 500: anything else.
    InternalException,
}

impl ErrorName {
    /// The status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::ValidationException
            | Self::InvalidStateException
            | Self::InvalidCiphertextException
            | Self::InvalidKeyUsageException => 400,
            Self::AuthenticationFailedException => 401,
            Self::AccessDeniedException => 403,
            Self::KeyNotFoundException | Self::InvalidUriPathException => 404,
            Self::ThrottlingException => 429,
            Self::UnsupportedOperationException => 501,
            Self::DependencyTimeoutException => 503,
            Self::InternalException => 500,
        }
    }
}

/// The body of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorResponse {
    /// Which.
    pub error_name: ErrorName,
    /// Printable ASCII, less than 512 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

impl ErrorResponse {
    /// An error, its message made to fit.
    pub fn new(error_name: ErrorName, message: &str) -> Self {
        let printable = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
        let message = message.chars().take(MAX_MESSAGE_CHARS).map(printable);
        Self {
            error_name,
            error_message: Some(message.collect()),
        }
    }
}

/// CDIV: SHA-256 over all parts of a ciphertext (Appendix C).
pub fn integrity_value(
    aad: &[u8],
    metadata: &[u8],
    iv: &[u8],
    ciphertext: &[u8],
    tag: &[u8],
) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [aad, metadata, iv, ciphertext, tag] {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Whether a key's id can stand in the path: 1 to 128 letters, digits and `-._`.
pub fn is_key_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=128).contains(&id.len()) && id.bytes().all(plain) && !matches!(id, "." | "..")
}

#[cfg(test)]
mod tests;
