//! Google Cloud KMS, over its REST API, with credentials by Google's own library.
//! <https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys>
//!
//! The context goes along as additional authenticated data. Checksums go both ways: what Google did not see as it was
//! sent, or what did not come back as it was answered, is asked for again and never used.

mod checksum;
mod rotate;
mod wire;

use std::{path::Path, time::SystemTime};

use async_trait::async_trait;
use aws_sdk_kms::primitives::{DateTime, DateTimeFormat};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use google_cloud_auth::credentials::{
    self, CacheableResource, Credentials, external_account, impersonated, service_account,
    user_account,
};
use pgveil_config::settings;
use reqwest::{Method, header::HeaderMap};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    KekInfo, KeyProvider, Protection, ProviderError, Rotation, WrapContext, Wrapped,
    http::{self, HttpError},
};
use checksum::crc32c;
use wire::{CryptoKey, Decrypted, Encrypted, Verb};

const ENDPOINT: &str = "https://cloudkms.googleapis.com";
/// What the credentials are asked for: keys, and nothing else of Google's.
const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";
/// What stands between a key's name and a version's number.
const VERSIONS: &str = "/cryptoKeyVersions/";

/// Keys in Google Cloud KMS.
pub struct GcpKms {
    name: String,
    client: reqwest::Client,
    /// `https://cloudkms.googleapis.com`.
    endpoint: String,
    /// `None` over plain HTTP, where no token is sent.
    credentials: Option<Credentials>,
}

impl std::fmt::Debug for GcpKms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GcpKms")
            .field("name", &self.name)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl GcpKms {
    /// A provider of this name in the configuration. Sends nothing yet.
    pub fn new(name: &str, at: &settings::GcpKms) -> Result<Self, HttpError> {
        let endpoint = at.endpoint.as_deref().unwrap_or(ENDPOINT);
        let client = http::client(at.ca_file.as_deref())?;
        let credentials = if endpoint.starts_with("https://") {
            Some(found_credentials(at.credentials_file.as_deref())?)
        } else {
            None
        };
        Ok(Self {
            name: name.to_owned(),
            client,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            credentials,
        })
    }

    /// Asks for `VERB` of a key and reads the answer with `read`, which refuses what was damaged on the way.
    async fn ask<T: for<'a> Deserialize<'a>, U>(
        &self,
        kek: &str,
        verb: Verb,
        body: Option<Zeroizing<String>>,
        read: impl Fn(T) -> Result<U, String>,
    ) -> Result<U, ProviderError> {
        self.ask_page(kek, (verb, ""), body, read).await
    }

    /// [`GcpKms::ask`], with what stands behind the verb.
    async fn ask_page<T: for<'a> Deserialize<'a>, U>(
        &self,
        kek: &str,
        verb: (Verb, &str),
        body: Option<Zeroizing<String>>,
        read: impl Fn(T) -> Result<U, String>,
    ) -> Result<U, ProviderError> {
        self.is_plain(kek)?;
        let body = body.as_deref().map(String::as_str);
        http::retrying(&self.name, || async {
            let answer = self.ask_once(kek, verb, body).await?;
            read(answer).map_err(|reason| ProviderError::unavailable(&self.name, reason))
        })
        .await
    }

    /// Refuses what cannot stand in a path.
    fn is_plain(&self, kek: &str) -> Result<(), ProviderError> {
        if is_key(kek) {
            return Ok(());
        }
        let reason = "a key is projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY";
        Err(ProviderError::denied(&self.name, kek, reason))
    }

    async fn ask_once<T: for<'a> Deserialize<'a>>(
        &self,
        kek: &str,
        (verb, page): (Verb, &str),
        body: Option<&str>,
    ) -> Result<T, ProviderError> {
        let unavailable = |reason: String| ProviderError::unavailable(&self.name, reason);
        let url = format!("{}/v1/{kek}{}{page}", self.endpoint, verb.suffix());
        let method = match body {
            Some(_) => Method::POST,
            None => Method::GET,
        };
        let mut request = self.client.request(method, url);
        if let Some(credentials) = &self.credentials {
            request = request.headers(self.token(kek, credentials).await?);
        }
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.as_bytes().to_vec());
        }
        let response = request.send().await;
        let response = response.map_err(|error| unavailable(http::why(&error)))?;
        let status = response.status();
        let body = http::body(response).await.map_err(unavailable)?;
        if !status.is_success() {
            return Err(wire::failed(&self.name, kek, verb, status.as_u16(), &body));
        }
        serde_json::from_slice(&body)
            .map_err(|_| unavailable("its answer is not that of Google Cloud KMS".to_owned()))
    }

    /// The headers that say who asks.
    async fn token(&self, kek: &str, from: &Credentials) -> Result<HeaderMap, ProviderError> {
        match from.headers(::http::Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(data),
            Ok(CacheableResource::NotModified) => {
                let reason = "its credentials gave no token";
                Err(ProviderError::unavailable(&self.name, reason))
            }
            Err(error) if error.is_transient() => {
                let reason = format!("no token: {}", innermost(&error));
                Err(ProviderError::unavailable(&self.name, reason))
            }
            Err(error) => {
                let reason = format!("no token: {}", innermost(&error));
                Err(ProviderError::denied(&self.name, kek, reason))
            }
        }
    }

    async fn key(&self, kek: &str) -> Result<CryptoKey, ProviderError> {
        self.ask(kek, Verb::Get, None, |key: CryptoKey| Ok(key))
            .await
    }
}

/// A service account's key or another file that `gcloud` writes; without one, what the environment has: the file that
/// `GOOGLE_APPLICATION_CREDENTIALS` names, `gcloud`'s own, or the machine's service account.
fn found_credentials(file: Option<&Path>) -> Result<Credentials, HttpError> {
    let unusable = |reason: String| HttpError::Credentials { reason };
    let Some(file) = file else {
        let built = credentials::Builder::default().with_scopes([SCOPE]).build();
        return built.map_err(|error| unusable(innermost(&error)));
    };
    let shown = file.display();
    let text = std::fs::read(file).map(Zeroizing::new);
    let text = text.map_err(|error| unusable(format!("{shown}: {error}")))?;
    // The parser's own words might quote the file.
    let json: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|_| unusable(format!("{shown} is no credentials file: it is not JSON")))?;
    let kind = json["type"].as_str().unwrap_or_default().to_owned();
    let built = match kind.as_str() {
        "service_account" => service_account::Builder::new(json)
            .with_access_specifier(service_account::AccessSpecifier::from_scopes([SCOPE]))
            .build(),
        "external_account" => external_account::Builder::new(json)
            .with_scopes([SCOPE])
            .build(),
        "impersonated_service_account" => impersonated::Builder::new(json)
            .with_scopes([SCOPE])
            .build(),
        "authorized_user" => user_account::Builder::new(json)
            .with_scopes([SCOPE])
            .build(),
        _ => {
            let reason = format!("{shown} is no credentials file: its `type` is none of Google's");
            return Err(unusable(reason));
        }
    };
    built.map_err(|error| unusable(format!("{shown}: {}", innermost(&error))))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut source = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

/// `projects/P/locations/L/keyRings/R/cryptoKeys/K`, as it may stand in a path.
fn is_key(kek: &str) -> bool {
    let parts: Vec<&str> = kek.split('/').collect();
    let [
        "projects",
        project,
        "locations",
        location,
        "keyRings",
        ring,
        "cryptoKeys",
        key,
    ] = parts.as_slice()
    else {
        return false;
    };
    // The project of a domain has a colon and dots.
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    [project, location, ring, key].iter().all(|part| {
        let is_word = part.bytes().any(|byte| byte.is_ascii_alphanumeric());
        is_word && part.bytes().all(is_plain)
    })
}

/// The time in a text of RFC 3339.
fn time(text: Option<&String>) -> Option<SystemTime> {
    let time = DateTime::from_str(text?, DateTimeFormat::DateTimeWithOffset).ok()?;
    SystemTime::try_from(time).ok()
}

#[async_trait]
impl KeyProvider for GcpKms {
    fn kind(&self) -> &'static str {
        "gcp-kms"
    }

    /// Its location: `projects/P/locations/L/...`.
    fn way<'k>(&self, kek: &'k str) -> &'k str {
        kek.split('/').nth(3).unwrap_or_default()
    }

    async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        let aad = context.aad();
        let text = Zeroizing::new(BASE64.encode(plaintext));
        let body = Zeroizing::new(format!(
            r#"{{"plaintext":"{}","plaintextCrc32c":"{}","additionalAuthenticatedData":"{}","additionalAuthenticatedDataCrc32c":"{}"}}"#,
            *text,
            crc32c(plaintext),
            BASE64.encode(&aad),
            crc32c(&aad)
        ));
        self.ask(kek, Verb::Encrypt, Some(body), |answer: Encrypted| {
            answer.checked(kek)
        })
        .await
    }

    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let version = wrapped.kek_version.strip_prefix(kek);
        if !version.is_some_and(|version| version.starts_with(VERSIONS)) {
            let reason = "the version is not one of this key";
            return Err(ProviderError::not_mine(&self.name, reason));
        }
        let aad = context.aad();
        let body = Zeroizing::new(format!(
            r#"{{"ciphertext":"{}","ciphertextCrc32c":"{}","additionalAuthenticatedData":"{}","additionalAuthenticatedDataCrc32c":"{}"}}"#,
            BASE64.encode(&wrapped.bytes),
            crc32c(&wrapped.bytes),
            BASE64.encode(&aad),
            crc32c(&aad)
        ));
        self.ask(kek, Verb::Decrypt, Some(body), |answer: Decrypted| {
            answer.checked()
        })
        .await
    }

    fn rotates(&self) -> Result<(), &'static str> {
        Ok(())
    }

    async fn rotate(&self, kek: &str) -> Result<(), ProviderError> {
        self.make_version_primary(kek).await
    }

    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
        let key = self.key(kek).await?;
        let denied = |reason: String| ProviderError::denied(&self.name, kek, reason);
        if key.purpose != "ENCRYPT_DECRYPT" {
            let purpose = key.purpose;
            return Err(denied(format!("the key's purpose is {purpose}")));
        }
        let Some(primary) = key.primary else {
            return Err(denied("the key has no primary version".to_owned()));
        };
        if primary.state != "ENABLED" {
            let state = primary.state;
            return Err(denied(format!("its primary version is in state {state}")));
        }
        let rotation = Rotation {
            is_automatic: key.rotation_period.is_some(),
            period_days: key.rotation_period.as_deref().and_then(wire::days),
            last: time(primary.create_time.as_ref()),
            next: time(key.next_rotation_time.as_ref()),
        };
        // https://cloud.google.com/kms/docs/reference/rest/v1/ProtectionLevel
        let protection = match primary.protection_level.as_str() {
            "SOFTWARE" => Protection::Software,
            "HSM" | "HSM_SINGLE_TENANT" => Protection::Hsm,
            "EXTERNAL" | "EXTERNAL_VPC" => Protection::External,
            _ => Protection::Unknown,
        };
        let info = KekInfo::new(primary.name, primary.algorithm);
        Ok(info.kept(protection).rotating(Some(rotation)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_keys_full_name_is_a_key() {
        let key = "projects/p-1/locations/europe-west3/keyRings/r/cryptoKeys/k_1";
        assert!(is_key(key));
        assert!(is_key(&key.replace("p-1", "example.com:p-1")));
        for other in [
            "k",
            "",
            &format!("{key}/"),
            &format!("{key}/cryptoKeyVersions/1"),
            &key.replace("k_1", ".."),
            &key.replace("k_1", "k:encrypt?x"),
            &key.replace("k_1", ""),
            &key.replace("keyRings", "keyrings"),
            &key.replace("k_1", "\u{e9}"),
        ] {
            assert!(!is_key(other), "{other}");
        }
    }

    #[test]
    fn times_are_read() {
        let at = |text: &str| {
            time(Some(&text.to_owned())).map(|time| {
                time.duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap()
                    .as_secs()
            })
        };
        assert_eq!(at("2026-11-22T00:00:00Z"), Some(1_795_305_600));
        assert_eq!(at("2026-11-22T00:00:00.123456789Z"), Some(1_795_305_600));
        assert_eq!(at("yesterday"), None);
    }
}
