//! The provider `rest`: any key manager that speaks the XKS Proxy API.
//!
//! An answer is believed to be a no only when it is one of the API's typed errors; a load balancer's 403 is an outage.

use std::time::SystemTime;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use pgveil_config::settings;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::wire::{
    ALGORITHM, Bytes, CDIV_ALGORITHM, DecryptRequest, DecryptResponse, EncryptRequest,
    EncryptResponse, ErrorName, ErrorResponse, MAX_METADATA_BYTES, MAX_PLAINTEXT_BYTES,
    MetadataResponse, PlainRequest, RequestMetadata, SERVICE, TAG_BYTES, integrity_value,
    is_key_id,
};
use crate::{
    KekInfo, KeyProvider, ProviderError, WrapContext, Wrapped,
    http::{self, HttpError},
};

/// Starts what this provider wrapped: "PGX" and the format's version.
const MAGIC: &[u8; 4] = b"PGX\x01";
/// The version of a key whose server does not tell.
const UNKNOWN_VERSION: &str = "unknown";
/// Versions are short; longer ones are not kept.
const MAX_VERSION_BYTES: usize = 64;

/// A key manager behind the XKS Proxy API.
pub struct Xks {
    name: String,
    client: reqwest::Client,
    /// `https://HOST[/PREFIX]/kms/xks/v1`.
    root: String,
    signing: Option<Signing>,
}

struct Signing {
    access_key_id: String,
    secret: settings::Secret,
    region: String,
}

impl std::fmt::Debug for Xks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Xks")
            .field("name", &self.name)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// The parts of a wrapped key: `MAGIC ‖ u8 length ‖ metadata ‖ u8 length ‖ iv ‖ tag ‖ ciphertext`.
struct Parts<'a> {
    metadata: &'a [u8],
    iv: &'a [u8],
    tag: &'a [u8],
    ciphertext: &'a [u8],
}

impl<'a> Parts<'a> {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for part in [self.metadata, self.iv] {
            bytes.push(part.len() as u8);
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(self.tag);
        bytes.extend_from_slice(self.ciphertext);
        bytes
    }

    fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (metadata, rest) = prefixed(bytes.strip_prefix(MAGIC)?)?;
        let (iv, rest) = prefixed(rest)?;
        let (tag, ciphertext) = rest.split_at_checked(TAG_BYTES)?;
        let parts = Self {
            metadata,
            iv,
            tag,
            ciphertext,
        };
        parts.fit().then_some(parts)
    }

    /// Whether the API allows these lengths.
    fn fit(&self) -> bool {
        self.metadata.len() <= MAX_METADATA_BYTES
            && matches!(self.iv.len(), 12 | 16)
            && self.tag.len() == TAG_BYTES
            && self.ciphertext.len() <= MAX_PLAINTEXT_BYTES
    }
}

fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

impl Xks {
    /// A provider of this name in the configuration. Sends nothing yet.
    pub fn new(name: &str, at: &settings::Rest) -> Result<Self, HttpError> {
        let root = at.url.trim_end_matches('/').to_owned();
        let url = Url::parse(&root).map_err(|error| HttpError::Client(format!("url: {error}")))?;
        if url.scheme() != "https" {
            return Err(HttpError::Client(
                "its url must begin with https://: keys go over this connection".to_owned(),
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(HttpError::Client(
                "its url must end with the path, as in https://xks.example.com/kms/xks/v1"
                    .to_owned(),
            ));
        }
        let certificate = at.cert_file.as_deref().zip(at.key_file.as_deref());
        let signing = at.access_key_id.clone().zip(at.secret_access_key.clone());
        Ok(Self {
            name: name.to_owned(),
            client: http::client_with(at.ca_file.as_deref(), certificate)?,
            root,
            signing: signing.map(|(access_key_id, secret)| Signing {
                access_key_id,
                secret,
                region: at.region.clone(),
            }),
        })
    }

    async fn ask<Q: Serialize, A: for<'a> Deserialize<'a>>(
        &self,
        kek: &str,
        verb: &str,
        question: &Q,
    ) -> Result<A, ProviderError> {
        if !is_key_id(kek) {
            let reason = "the id of a key has 1 to 128 letters, digits and `-._`";
            return Err(self.denied(kek, reason));
        }
        let url = format!("{}/keys/{kek}/{verb}", self.root);
        let url = Url::parse(&url).map_err(|_| self.unavailable("its url is none"))?;
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut body = Zeroizing::new(Vec::with_capacity(32 * 1024));
        serde_json::to_writer(&mut *body, question)
            .map_err(|_| self.unavailable("the request cannot be written"))?;
        http::retrying(&self.name, || self.ask_once(kek, &url, &body)).await
    }

    /// Signed anew each time: a signature is for one moment.
    async fn ask_once<A: for<'a> Deserialize<'a>>(
        &self,
        kek: &str,
        url: &Url,
        body: &[u8],
    ) -> Result<A, ProviderError> {
        let mut request = self
            .client
            .post(url.clone())
            .header("Content-Type", "application/json");
        if let Some(signing) = &self.signing {
            let headers = signing
                .headers(url, body, SystemTime::now())
                .map_err(|reason| self.unavailable(reason))?;
            for (name, value) in headers {
                request = request.header(name, value);
            }
        }
        let response = request.body(body.to_vec()).send().await;
        let response = response.map_err(|error| {
            if http::is_turned_away(&error) {
                let reason = format!("it does not accept the certificate: {}", http::why(&error));
                ProviderError::denied(&self.name, kek, reason)
            } else {
                self.unavailable(http::why(&error))
            }
        })?;
        let status = response.status();
        let body = http::body(response).await;
        let body = body.map_err(|reason| self.unavailable(reason))?;
        if !status.is_success() {
            return Err(match serde_json::from_slice::<ErrorResponse>(&body) {
                Ok(error) => self.failed(kek, &error),
                Err(_) => self.unavailable(format!("status {}", status.as_u16())),
            });
        }
        serde_json::from_slice(&body)
            .map_err(|_| self.unavailable("its answer is not that of the XKS Proxy API"))
    }

    fn failed(&self, kek: &str, error: &ErrorResponse) -> ProviderError {
        let words = error.error_message.as_deref().unwrap_or_default();
        let words: String = words
            .chars()
            .filter(|c| !c.is_control())
            .take(512)
            .collect();
        let reason = match words.as_str() {
            "" => format!("{:?}", error.error_name),
            words => format!("{:?}: {words}", error.error_name),
        };
        match error.error_name {
            ErrorName::InvalidCiphertextException => self.damaged(kek, &reason),
            ErrorName::ThrottlingException
            | ErrorName::DependencyTimeoutException
            | ErrorName::InternalException => self.unavailable(reason),
            _ => self.denied(kek, &reason),
        }
    }

    fn unavailable(&self, reason: impl Into<String>) -> ProviderError {
        ProviderError::Unavailable {
            provider: self.name.clone(),
            reason: reason.into(),
        }
    }

    fn denied(&self, kek: &str, reason: &str) -> ProviderError {
        ProviderError::Denied {
            provider: self.name.clone(),
            kek: kek.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn damaged(&self, kek: &str, reason: &str) -> ProviderError {
        ProviderError::Damaged {
            provider: self.name.clone(),
            kek: kek.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// For the server's log, where the scope tells whose key it was. Never a value.
    fn metadata(
        &self,
        operation: &str,
        scope: Option<&str>,
    ) -> Result<RequestMetadata, ProviderError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| self.unavailable(format!("no random bytes: {error}")))?;
        let id = hex::encode(id);
        let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
        Ok(RequestMetadata {
            aws_principal_arn: Some("arn:pgveil:proxy".to_owned()),
            kms_key_arn: scope.map(|scope| format!("arn:pgveil:scope:{scope}")),
            kms_operation: operation.to_owned(),
            kms_request_id: parts.join("-"),
        })
    }
}

impl Signing {
    /// `Authorization` and `X-Amz-Date`.
    fn headers(
        &self,
        url: &Url,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Vec<(String, String)>, String> {
        let secret = self.secret.read();
        let secret = secret.map_err(|error| format!("its access key: {error}"))?;
        let credentials = Credentials::new(
            &*self.access_key_id,
            secret.trim_end(),
            None,
            None,
            "pgveil",
        );
        let identity = credentials.into();
        let failed = |_| "the request cannot be signed".to_owned();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| "the request cannot be signed".to_owned())?
            .into();
        let request = SignableRequest::new(
            "POST",
            url.as_str(),
            std::iter::empty(),
            SignableBody::Bytes(body),
        )
        .map_err(failed)?;
        let (instructions, _) = sign(request, &params).map_err(failed)?.into_parts();
        let headers = instructions.headers();
        Ok(headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }
}

/// What a server calls the version, as far as it can be kept.
fn version(told: Option<String>) -> String {
    told.filter(|version| {
        (1..=MAX_VERSION_BYTES).contains(&version.len())
            && version.bytes().all(|byte| byte.is_ascii_graphic())
    })
    .unwrap_or_else(|| UNKNOWN_VERSION.to_owned())
}

#[async_trait]
impl KeyProvider for Xks {
    fn kind(&self) -> &'static str {
        "rest"
    }

    async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        let aad = context.aad();
        let question = EncryptRequest {
            request_metadata: self.metadata("Encrypt", Some(&context.scope))?,
            additional_authenticated_data: Some(Bytes::of(&aad)),
            plaintext: Bytes::of(plaintext),
            encryption_algorithm: ALGORITHM.to_owned(),
            ciphertext_data_integrity_value_algorithm: Some(CDIV_ALGORITHM.to_owned()),
        };
        let answer: EncryptResponse = self.ask(kek, "encrypt", &question).await?;
        let parts = Parts {
            metadata: answer.ciphertext_metadata.as_deref().unwrap_or_default(),
            iv: &answer.initialization_vector,
            tag: &answer.authentication_tag,
            ciphertext: &answer.ciphertext,
        };
        if !parts.fit() || parts.ciphertext.len() != plaintext.len() {
            return Err(
                self.unavailable("its answer has parts of lengths that the API does not allow")
            );
        }
        let Parts {
            metadata,
            iv,
            tag,
            ciphertext,
        } = &parts;
        let value = integrity_value(&aad, metadata, iv, ciphertext, tag);
        let told = answer
            .ciphertext_data_integrity_value
            .as_deref()
            .unwrap_or_default();
        if !bool::from(value[..].ct_eq(told)) {
            return Err(
                self.unavailable("its answer was altered on the way: the integrity value differs")
            );
        }
        Ok(Wrapped {
            bytes: parts.to_bytes(),
            kek_version: version(answer.key_version),
        })
    }

    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let parts = Parts::from_bytes(&wrapped.bytes).ok_or_else(|| ProviderError::NotMine {
            provider: self.name.clone(),
            reason: "the format is another's".to_owned(),
        })?;
        let question = DecryptRequest {
            request_metadata: self.metadata("Decrypt", Some(&context.scope))?,
            additional_authenticated_data: Some(Bytes::of(&context.aad())),
            encryption_algorithm: ALGORITHM.to_owned(),
            ciphertext: Bytes::of(parts.ciphertext),
            ciphertext_metadata: (!parts.metadata.is_empty()).then(|| Bytes::of(parts.metadata)),
            initialization_vector: Bytes::of(parts.iv),
            authentication_tag: Bytes::of(parts.tag),
        };
        let answer: DecryptResponse = self.ask(kek, "decrypt", &question).await?;
        if answer.plaintext.len() != parts.ciphertext.len() {
            return Err(self.unavailable("its answer is of another length than what was encrypted"));
        }
        Ok(answer.plaintext.0)
    }

    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
        let question = PlainRequest {
            request_metadata: self.metadata("DescribeKey", None)?,
        };
        let key: MetadataResponse = self.ask(kek, "metadata", &question).await?;
        let usable = |usage: &str| key.key_usage.iter().any(|word| word == usage);
        if key.key_status != "ENABLED" {
            return Err(self.denied(kek, "the key is not enabled"));
        }
        if key.key_spec != "AES_256" || !usable("ENCRYPT") || !usable("DECRYPT") {
            return Err(self.denied(kek, "it is no AES-256 key that encrypts and decrypts"));
        }
        Ok(KekInfo::new(version(key.key_version), "AES-256-GCM"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_api_can_have_made_has_parts() {
        let parts = Parts {
            metadata: b"meta",
            iv: &[1; 12],
            tag: &[2; 16],
            ciphertext: b"secret",
        };
        let bytes = parts.to_bytes();
        let read = Parts::from_bytes(&bytes).expect("its own parts");
        assert_eq!(
            (read.metadata, read.ciphertext),
            (&b"meta"[..], &b"secret"[..])
        );
        // All but the ciphertext is needed.
        for cut in 0..bytes.len() - 6 {
            assert!(Parts::from_bytes(&bytes[..cut]).is_none(), "{cut}");
        }
        let long = [MAGIC, &[21][..], &[0; 100]].concat();
        assert!(Parts::from_bytes(&long).is_none());
        let mut other_iv = bytes.clone();
        other_iv[9] = 13;
        assert!(Parts::from_bytes(&other_iv).is_none());
    }

    /// A provider as configuration text makes it.
    fn configured(url: &str) -> Result<Xks, HttpError> {
        let text = format!(
            "[upstream]\naddress = \"127.0.0.1:5432\"\n[keystore]\nurl = \"postgres://pgveil@127.0.0.1/app\"\n\
             [defaults]\nprovider = \"p\"\nkey = \"k\"\n[provider.p]\nkind = \"rest\"\nurl = \"{url}\"\n\
             access_key_id = \"ID\"\nsecret_access_key_file = \"secret\"\n"
        );
        let path = std::path::Path::new("pgveil.toml");
        let settings = pgveil_config::Settings::parse(&text, path).expect("a configuration");
        match &settings.providers["p"] {
            settings::Provider::Rest(at) => Xks::new("p", at),
            _ => unreachable!("its kind is rest"),
        }
    }

    #[test]
    fn each_typed_error_has_its_meaning() {
        let provider = configured("https://xks.example.com/kms/xks/v1/").expect("a provider");
        for (name, meaning) in [
            ("ValidationException", "Denied"),
            ("InvalidStateException", "Denied"),
            ("InvalidCiphertextException", "Damaged"),
            ("InvalidKeyUsageException", "Denied"),
            ("AuthenticationFailedException", "Denied"),
            ("AccessDeniedException", "Denied"),
            ("KeyNotFoundException", "Denied"),
            ("InvalidUriPathException", "Denied"),
            ("ThrottlingException", "Unavailable"),
            ("UnsupportedOperationException", "Denied"),
            ("DependencyTimeoutException", "Unavailable"),
            ("InternalException", "Unavailable"),
        ] {
            let body = format!("{{\"errorName\": \"{name}\", \"errorMessage\": \"why\"}}");
            let error: ErrorResponse = serde_json::from_str(&body).expect("an error");
            let failed = provider.failed("k", &error);
            assert!(format!("{failed:?}").starts_with(meaning), "{failed:?}");
            assert!(failed.to_string().contains("why"), "{failed}");
        }
        // What no version of the API has is no answer of it.
        assert!(serde_json::from_str::<ErrorResponse>("{\"errorName\": \"Forbidden\"}").is_err());
    }

    #[test]
    fn a_url_without_tls_or_with_more_than_a_path_is_refused() {
        for url in [
            "http://xks.example.com/kms/xks/v1",
            "https://xks.example.com/kms/xks/v1?x=1",
            "https://xks.example.com/kms/xks/v1#x",
        ] {
            assert!(configured(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_version_is_short_and_plain() {
        assert_eq!(version(Some("7".to_owned())), "7");
        for odd in ["", "a b", "\u{e9}", "\n"] {
            assert_eq!(version(Some(odd.to_owned())), UNKNOWN_VERSION);
        }
        assert_eq!(version(Some("7".repeat(65))), UNKNOWN_VERSION);
    }
}
