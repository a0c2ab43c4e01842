//! HashiCorp Vault and OpenBao: the transit engine, over its HTTP API.
//! <https://openbao.org/api-docs/secret/transit/>
//!
//! The context goes along as `context`: with a key of `derived = true` the server derives a key of its own from it, so
//! that nothing opens under another context; other keys ignore it. (`associated_data` would be lost in `rewrap`.)

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use pgveil_config::settings;
use reqwest::{Method, StatusCode, header::HeaderValue};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    KekInfo, KeyProvider, ProviderError, Rotation, WrapContext, Wrapped,
    http::{self, HttpError},
};

/// What every ciphertext of the transit engine begins with; the key's version and a colon follow.
const PREFIX: &str = "vault:v";

/// A transit engine.
pub struct VaultTransit {
    name: String,
    client: reqwest::Client,
    /// `https://HOST:PORT/v1/MOUNT`.
    engine: String,
    namespace: Option<String>,
    token: settings::Secret,
}

impl std::fmt::Debug for VaultTransit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VaultTransit")
            .field("name", &self.name)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: String,
}

impl Drop for Decrypted {
    fn drop(&mut self) {
        self.plaintext.zeroize();
    }
}

#[derive(Deserialize)]
struct Key {
    latest_version: u64,
    #[serde(rename = "type")]
    algorithm: String,
    /// Seconds; 0 for never. Older engines do not tell.
    auto_rotate_period: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Failure {
    #[serde(default)]
    errors: Vec<String>,
}

impl VaultTransit {
    /// A provider of this name in the configuration. Sends nothing yet.
    pub fn new(name: &str, at: &settings::VaultTransit) -> Result<Self, HttpError> {
        let (address, mount) = (at.address.trim_end_matches('/'), at.mount.trim_matches('/'));
        Ok(Self {
            name: name.to_owned(),
            client: http::client(at.ca_file.as_deref())?,
            engine: format!("{address}/v1/{mount}"),
            namespace: at.namespace.clone(),
            token: at.token.clone(),
        })
    }

    /// Asks the engine. The body is JSON text, which may hold key material.
    async fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        method: Method,
        verb: &str,
        kek: &str,
        body: Option<Zeroizing<String>>,
    ) -> Result<T, ProviderError> {
        let body = body.as_deref().map(String::as_str);
        http::retrying(&self.name, || self.ask_once(&method, verb, kek, body)).await
    }

    async fn ask_once<T: for<'a> Deserialize<'a>>(
        &self,
        method: &Method,
        verb: &str,
        kek: &str,
        body: Option<&str>,
    ) -> Result<T, ProviderError> {
        let body = self.send(method, (verb, ""), kek, body).await?;
        let answer: Answer<T> = serde_json::from_slice(&body)
            .map_err(|_| self.unavailable("its answer is not that of a transit engine"))?;
        Ok(answer.data)
    }

    /// Sends a request and gives the body of the answer, if that is a yes. The key stands between the two parts of `path`.
    async fn send(
        &self,
        method: &Method,
        path: (&str, &str),
        kek: &str,
        body: Option<&str>,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        if kek.is_empty() || !kek.bytes().all(is_plain) {
            let reason = "the id of a transit key has letters, digits and `-._` only";
            return Err(self.denied(kek, reason));
        }
        let token = self.token.read();
        let token = token.map_err(|error| self.unavailable(format!("its token: {error}")))?;
        let mut token = HeaderValue::from_str(token.trim_end())
            .map_err(|_| self.unavailable("its token is no token"))?;
        token.set_sensitive(true);
        let mut request = self
            .client
            .request(
                method.clone(),
                format!("{}/{}/{kek}{}", self.engine, path.0, path.1),
            )
            .header("X-Vault-Token", token)
            .header("X-Vault-Request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.as_bytes().to_vec());
        }
        let response = request.send().await;
        let response = response.map_err(|error| self.unavailable(http::why(&error)))?;
        let status = response.status();
        let body = http::body(response).await;
        let body = body.map_err(|reason| self.unavailable(reason))?;
        if !status.is_success() {
            let failure: Failure = serde_json::from_slice(&body).unwrap_or_default();
            return Err(self.failed(kek, status, &failure.errors.join("; ")));
        }
        Ok(body)
    }

    /// What an answer other than 200 means.
    fn failed(&self, kek: &str, status: StatusCode, errors: &str) -> ProviderError {
        let reason = match errors {
            "" => format!("status {}", status.as_u16()),
            errors => errors.replace('\n', " "),
        };
        match status.as_u16() {
            // Bad requests: what was asked, and what the key allows, share one status.
            400 if { DAMAGED.iter() }.any(|words| reason.contains(words)) => {
                ProviderError::damaged(&self.name, kek, reason)
            }
            // Sealed, standby, throttled, broken.
            412 | 429 | 472 | 473 | 500..=599 => self.unavailable(reason),
            _ => self.denied(kek, &reason),
        }
    }

    /// What a transit engine encrypted, as it may stand in JSON text without escapes.
    fn ciphertext<'w>(&self, wrapped: &'w Wrapped) -> Result<&'w str, ProviderError> {
        let ciphertext = std::str::from_utf8(&wrapped.bytes).ok();
        let ciphertext = ciphertext.filter(|text| {
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
        });
        let ciphertext = ciphertext.ok_or_else(|| self.not_mine("the format is another's"))?;
        if version(ciphertext) != Some(wrapped.kek_version.as_str()) {
            return Err(self.not_mine("it names another version than the keystore"));
        }
        Ok(ciphertext)
    }

    fn wrapped(&self, ciphertext: String) -> Result<Wrapped, ProviderError> {
        let kek_version = version(&ciphertext)
            .ok_or_else(|| self.unavailable("its answer is no ciphertext of a transit engine"))?
            .to_owned();
        Ok(Wrapped {
            bytes: ciphertext.into_bytes(),
            kek_version,
        })
    }

    fn unavailable(&self, reason: impl Into<String>) -> ProviderError {
        ProviderError::unavailable(&self.name, reason)
    }

    fn denied(&self, kek: &str, reason: &str) -> ProviderError {
        ProviderError::denied(&self.name, kek, reason)
    }

    fn not_mine(&self, reason: &str) -> ProviderError {
        ProviderError::not_mine(&self.name, reason)
    }
}

/// What the engine says of a ciphertext that does not open.
const DAMAGED: [&str; 5] = [
    "message authentication failed",
    "invalid ciphertext",
    "could not be decoded",
    "illegal base64",
    "ciphertext is too short",
];

/// A character of a transit key's name.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// The version in `vault:v7:...`, as it is written there.
fn version(ciphertext: &str) -> Option<&str> {
    let (version, rest) = ciphertext.strip_prefix(PREFIX)?.split_once(':')?;
    let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !rest.is_empty()).then_some(version)
}

#[async_trait]
impl KeyProvider for VaultTransit {
    fn kind(&self) -> &'static str {
        "vault-transit"
    }

    async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        let plaintext = Zeroizing::new(BASE64.encode(plaintext));
        let body = Zeroizing::new(format!(
            r#"{{"plaintext":"{}","context":"{}"}}"#,
            *plaintext,
            BASE64.encode(context.aad())
        ));
        let Encrypted { ciphertext } = self.ask(Method::POST, "encrypt", kek, Some(body)).await?;
        self.wrapped(ciphertext)
    }

    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let ciphertext = self.ciphertext(wrapped)?;
        let body = Zeroizing::new(format!(
            r#"{{"ciphertext":"{ciphertext}","context":"{}"}}"#,
            BASE64.encode(context.aad())
        ));
        let answer: Decrypted = self.ask(Method::POST, "decrypt", kek, Some(body)).await?;
        BASE64
            .decode(&answer.plaintext)
            .map(Zeroizing::new)
            .map_err(|_| self.unavailable("its answer is not in base64"))
    }

    fn rotates(&self) -> Result<(), &'static str> {
        Ok(())
    }

    async fn rotate(&self, kek: &str) -> Result<(), ProviderError> {
        // Not repeated: a rotation whose answer was lost may have been done.
        let path = ("keys", "/rotate");
        self.send(&Method::POST, path, kek, Some("{}"))
            .await
            .map(drop)
    }

    /// `rewrap`, within one key: the plaintext does not leave the engine.
    async fn rewrap(
        &self,
        from: &str,
        wrapped: &Wrapped,
        to: &str,
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        if from != to {
            let plaintext = self.unwrap(from, wrapped, context).await?;
            return self.wrap(to, &plaintext, context).await;
        }
        let ciphertext = self.ciphertext(wrapped)?;
        let body = Zeroizing::new(format!(
            r#"{{"ciphertext":"{ciphertext}","context":"{}"}}"#,
            BASE64.encode(context.aad())
        ));
        self.ask(Method::POST, "rewrap", to, Some(body))
            .await
            .and_then(|Encrypted { ciphertext }| self.wrapped(ciphertext))
    }

    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
        let key: Key = self.ask(Method::GET, "keys", kek, None).await?;
        let rotation = key.auto_rotate_period.map(|seconds| Rotation {
            is_automatic: seconds > 0,
            period_days: u32::try_from(seconds / 86_400)
                .ok()
                .filter(|days| *days > 0),
            ..Rotation::default()
        });
        Ok(KekInfo::new(key.latest_version.to_string(), key.algorithm).rotating(rotation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_transit_engine_makes_has_a_version() {
        assert_eq!(version("vault:v12:abc"), Some("12"));
        for text in [
            "vault:v:abc",
            "vault:v1:",
            "vault:v1",
            "vault:vx:abc",
            "v1:abc",
            "",
        ] {
            assert_eq!(version(text), None, "{text}");
        }
    }
}
