//! What Google Cloud KMS answers, and what its errors mean. Nothing is sent here.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::{VERSIONS, checksum::crc32c};
use crate::{ProviderError, Wrapped};

/// What is asked of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Encrypt,
    Decrypt,
    Versions,
    NewVersion,
    SetPrimary,
}

impl Verb {
    /// What stands behind the key's name.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Get => "",
            Self::Encrypt => ":encrypt",
            Self::Decrypt => ":decrypt",
            Self::Versions => "/cryptoKeyVersions?pageSize=100",
            Self::NewVersion => "/cryptoKeyVersions",
            Self::SetPrimary => ":updatePrimaryVersion",
        }
    }
}

/// A whole number of 64 bits, which Google writes as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Int64 {
    Text(String),
    Number(i64),
}

impl Int64 {
    fn is(&self, expected: u32) -> bool {
        match self {
            Self::Text(text) => text.parse() == Ok(i64::from(expected)),
            Self::Number(number) => *number == i64::from(expected),
        }
    }
}

/// `CryptoKeyVersion`, and `CryptoKey` as far as its name goes.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

/// `EncryptResponse`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Encrypted {
    name: String,
    ciphertext: String,
    ciphertext_crc32c: Option<Int64>,
    #[serde(default)]
    verified_plaintext_crc32c: bool,
    #[serde(default)]
    verified_additional_authenticated_data_crc32c: bool,
}

impl Encrypted {
    /// The ciphertext and the version that made it, if Google saw what was sent and this is what it answered.
    pub(super) fn checked(self, kek: &str) -> Result<Wrapped, String> {
        if !(self.verified_plaintext_crc32c && self.verified_additional_authenticated_data_crc32c) {
            return Err("the request was damaged on the way: no checksum was verified".to_owned());
        }
        let version = self.name.strip_prefix(kek);
        if !version.is_some_and(|version| version.starts_with(VERSIONS)) {
            return Err("its answer names another key".to_owned());
        }
        let bytes = decoded(&self.ciphertext)?;
        verified(&bytes, self.ciphertext_crc32c.as_ref())?;
        Ok(Wrapped {
            bytes: bytes.to_vec(),
            kek_version: self.name,
        })
    }
}

/// `DecryptResponse`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Decrypted {
    #[serde(default)]
    plaintext: String,
    plaintext_crc32c: Option<Int64>,
}

impl Drop for Decrypted {
    fn drop(&mut self) {
        self.plaintext.zeroize();
    }
}

impl Decrypted {
    /// The plaintext, if this is what Google answered.
    pub(super) fn checked(self) -> Result<Zeroizing<Vec<u8>>, String> {
        let bytes = decoded(&self.plaintext)?;
        verified(&bytes, self.plaintext_crc32c.as_ref())?;
        Ok(bytes)
    }
}

fn decoded(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let bytes = BASE64.decode(text).map(Zeroizing::new);
    bytes.map_err(|_| "its answer is not in base64".to_owned())
}

fn verified(bytes: &[u8], sum: Option<&Int64>) -> Result<(), String> {
    match sum {
        Some(sum) if sum.is(crc32c(bytes)) => Ok(()),
        _ => Err("its answer was damaged on the way: the checksum is another".to_owned()),
    }
}

/// `CryptoKey`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CryptoKey {
    #[serde(default)]
    pub(super) purpose: String,
    pub(super) primary: Option<Version>,
    pub(super) rotation_period: Option<String>,
    pub(super) next_rotation_time: Option<String>,
}

/// `CryptoKeyVersion`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    pub(super) name: String,
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) algorithm: String,
    #[serde(default)]
    pub(super) protection_level: String,
    pub(super) create_time: Option<String>,
}

/// `ListCryptoKeyVersionsResponse`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Versions {
    #[serde(default)]
    pub(super) crypto_key_versions: Vec<Version>,
    pub(super) next_page_token: Option<String>,
}

/// What asks for the next page; `None` at the end.
pub(super) fn page(token: Option<&str>) -> Option<String> {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let escaped = |byte: u8| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let token = token.filter(|token| !token.is_empty())?;
    Some(
        token
            .bytes()
            .map(escaped)
            .fold("&pageToken=".to_owned(), |page, byte| page + &byte),
    )
}

/// Whether a version in this state can be the primary one, now or in a moment.
pub(super) fn may_wrap(state: &str) -> bool {
    matches!(state, "ENABLED" | "PENDING_GENERATION")
}

/// The days in a duration such as `7776000s`.
pub(super) fn days(duration: &str) -> Option<u32> {
    let seconds = duration.strip_suffix('s')?.split('.').next()?;
    let seconds: u64 = seconds.parse().ok()?;
    u32::try_from(seconds / 86_400)
        .ok()
        .filter(|days| *days > 0)
}

#[derive(Deserialize)]
struct Failure {
    error: Status,
}

/// `google.rpc.Status`, as the REST API writes it.
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
}

/// What an answer other than 200 means. <https://cloud.google.com/apis/design/errors>
pub(super) fn failed(
    provider: &str,
    kek: &str,
    verb: Verb,
    http_status: u16,
    body: &[u8],
) -> ProviderError {
    let Ok(Failure { error }) = serde_json::from_slice(body) else {
        // Google's errors are JSON; this is something on the way.
        return ProviderError::unavailable(provider, format!("status {http_status}"));
    };
    let reason = format!("{}: {}", error.status, error.message.replace('\n', " "));
    match error.status.as_str() {
        // A request whose checksum does not fit was damaged on the way and may be sent again.
        "INVALID_ARGUMENT" if is_checksum(&error.message) => {
            ProviderError::unavailable(provider, reason)
        }
        "INVALID_ARGUMENT" if verb == Verb::Decrypt => {
            ProviderError::damaged(provider, kek, reason)
        }
        // A version that is disabled, destroyed or scheduled for destruction is FAILED_PRECONDITION.
        "INVALID_ARGUMENT"
        | "FAILED_PRECONDITION"
        | "NOT_FOUND"
        | "PERMISSION_DENIED"
        | "UNAUTHENTICATED" => ProviderError::denied(provider, kek, reason),
        "UNAVAILABLE" | "DEADLINE_EXCEEDED" | "RESOURCE_EXHAUSTED" | "INTERNAL" | "ABORTED"
        | "CANCELLED" | "UNKNOWN" => ProviderError::unavailable(provider, reason),
        _ if http_status >= 500 || http_status == 429 => {
            ProviderError::unavailable(provider, reason)
        }
        _ => ProviderError::denied(provider, kek, reason),
    }
}

fn is_checksum(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("crc32c") || message.contains("checksum")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_shown_in_days() {
        assert_eq!(days("7776000s"), Some(90));
        assert_eq!(days("86400.5s"), Some(1));
        for none in ["", "s", "86399s", "90d", "-86400s"] {
            assert_eq!(days(none), None, "{none}");
        }
    }

    #[test]
    fn a_token_is_escaped() {
        assert_eq!(
            page(Some("aZ-9_=&/")).as_deref(),
            Some("&pageToken=aZ-9_%3D%26%2F")
        );
        assert_eq!((page(Some("")), page(None)), (None, None));
    }

    #[test]
    fn errors_are_told_apart() {
        let said = |verb, http_status, status: &str, message: &str| {
            let body = format!(
                r#"{{"error":{{"code":{http_status},"message":"{message}","status":"{status}"}}}}"#
            );
            match failed("p", "k", verb, http_status, body.as_bytes()) {
                ProviderError::Denied { .. } => "denied",
                ProviderError::Damaged { .. } => "damaged",
                ProviderError::Unavailable { .. } => "unavailable",
                ProviderError::NotMine { .. } => "not mine",
            }
        };
        let all = [Verb::Get, Verb::Encrypt, Verb::Decrypt];
        for verb in all {
            for (http_status, status) in [
                (400, "FAILED_PRECONDITION"),
                (401, "UNAUTHENTICATED"),
                (403, "PERMISSION_DENIED"),
                (404, "NOT_FOUND"),
            ] {
                assert_eq!(said(verb, http_status, status, "no"), "denied");
            }
            for (http_status, status) in [
                (429, "RESOURCE_EXHAUSTED"),
                (500, "INTERNAL"),
                (503, "UNAVAILABLE"),
                (504, "DEADLINE_EXCEEDED"),
                (599, "NEW"),
            ] {
                assert_eq!(said(verb, http_status, status, "later"), "unavailable");
            }
        }
        assert_eq!(
            said(Verb::Decrypt, 400, "INVALID_ARGUMENT", "bad"),
            "damaged"
        );
        assert_eq!(
            said(Verb::Encrypt, 400, "INVALID_ARGUMENT", "bad"),
            "denied"
        );
        let sum = "The checksum in field ciphertext_crc32c did not match";
        assert_eq!(
            said(Verb::Decrypt, 400, "INVALID_ARGUMENT", sum),
            "unavailable"
        );
        let page = failed("p", "k", Verb::Get, 404, b"<html>");
        assert!(page.is_outage(), "{page:?}");
    }
}
