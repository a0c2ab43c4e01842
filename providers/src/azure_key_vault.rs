//! Azure Key Vault and Managed HSM, by Azure's own client over our own HTTPS.
//! <https://learn.microsoft.com/rest/api/keyvault/keys>
//!
//! A vault wraps a key of 32 bytes made for the purpose, and that key wraps what was asked for (`envelope`): RSA takes
//! little, and binds no context. What an RSA key wrapped it also signs, because anybody can wrap with a public key.

mod envelope;
mod errors;
mod identity;
mod transport;

use std::{collections::HashMap, sync::Mutex};

use async_trait::async_trait;
use azure_core::http::{ClientOptions, RetryOptions};
use azure_security_keyvault_keys::{
    KeyClient, KeyClientOptions, ResourceExt,
    models::{
        EncryptionAlgorithm, Key, KeyClientGetKeyOptions, KeyClientSignOptions,
        KeyClientWrapKeyOptions, KeyOperationParameters, KeyRotationPolicyAction, KeyType,
        SignParameters, SignatureAlgorithm,
    },
};
use pgveil_config::settings;
use zeroize::Zeroizing;

use crate::{
    KekInfo, KeyProvider, Protection, ProviderError, Rotation, WrapContext, Wrapped,
    http::{self, HttpError},
};
use envelope::{CEK_BYTES, Envelope, Place, PublicKey, Wrapping};
use errors::{Doing, Failed};

/// Public keys that are remembered, each a version's, which never changes.
const MAX_PUBLIC_KEYS: usize = 1024;

/// Keys in a vault.
pub struct AzureKeyVault {
    name: String,
    vault_url: String,
    client: KeyClient,
    /// By key and version.
    public_keys: Mutex<HashMap<(String, String), PublicKey>>,
}

impl std::fmt::Debug for AzureKeyVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureKeyVault")
            .field("name", &self.name)
            .field("vault_url", &self.vault_url)
            .finish_non_exhaustive()
    }
}

/// A key as it is to be used: its current version, and how that wraps.
struct Current {
    version: String,
    wrapping: Wrapping,
    public_key: Option<PublicKey>,
    info: KekInfo,
}

impl AzureKeyVault {
    /// A provider of this name in the configuration. Sends nothing yet.
    pub fn new(name: &str, at: &settings::AzureKeyVault) -> Result<Self, HttpError> {
        let host = at.vault_url.strip_prefix("https://");
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return Err(HttpError::Address {
                address: at.vault_url.clone(),
                reason: "tokens go over https:// only",
            });
        };
        let options = ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(transport::transport(at.ca_file.as_deref())?),
            ..ClientOptions::default()
        };
        let identity = identity::identity(at, &options)?;
        let options = KeyClientOptions {
            client_options: options,
            // A vault may ask for tokens for its own domain only. What runs on this machine has none.
            verify_challenge_resource: Some(!is_loopback(host)),
            ..KeyClientOptions::default()
        };
        let client = KeyClient::new(&at.vault_url, identity, Some(options));
        let client = client.map_err(|error| HttpError::Client(error.to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            vault_url: at.vault_url.clone(),
            client,
            public_keys: Mutex::default(),
        })
    }

    fn failed(&self, kek: &str, doing: Doing, error: impl Into<Failed>) -> ProviderError {
        errors::meaning(&self.name, kek, doing, error.into())
    }

    /// Refuses what cannot stand in a path.
    fn plain(&self, kek: &str) -> Result<(), ProviderError> {
        if is_plain(kek) {
            return Ok(());
        }
        let reason = "the name of a vault's key has letters, digits and `-` only";
        Err(ProviderError::denied(&self.name, kek, reason))
    }

    async fn get(&self, kek: &str, version: Option<&str>) -> Result<Key, ProviderError> {
        self.plain(kek)?;
        let options = KeyClientGetKeyOptions {
            key_version: version.map(str::to_owned),
            ..KeyClientGetKeyOptions::default()
        };
        let answer = self.client.get_key(kek, Some(options)).await;
        let key = answer.and_then(|answer| answer.into_model());
        key.map_err(|error| self.failed(kek, Doing::Describing, error))
    }

    /// What the key is now, if it may be used.
    async fn current(&self, kek: &str) -> Result<Current, ProviderError> {
        let key = self.get(kek, None).await?;
        let denied = |reason: &str| ProviderError::denied(&self.name, kek, reason);
        let attributes = key.attributes.clone().unwrap_or_default();
        if attributes.enabled == Some(false) {
            return Err(denied("the key is disabled"));
        }
        let version = self.version(kek, &key)?;
        let material = key.key.unwrap_or_default();
        // https://learn.microsoft.com/azure/key-vault/keys/about-keys#hsm-protected-keys
        let protection = match &material.kty {
            Some(KeyType::RsaHsm | KeyType::OctHsm) => Protection::Hsm,
            _ => Protection::Software,
        };
        let (wrapping, public_key, algorithm) = match material.kty {
            Some(KeyType::Rsa | KeyType::RsaHsm) => {
                let public_key = PublicKey::new(material.n, material.e);
                let public_key = public_key
                    .ok_or_else(|| denied("its public key is none for RSA-2048 to 8192"))?;
                let algorithm = format!("RSA-{}", public_key.bits());
                (Wrapping::Rsa, Some(public_key), algorithm)
            }
            Some(KeyType::Oct | KeyType::OctHsm) => (Wrapping::Aes, None, "AES-256".to_owned()),
            _ => {
                return Err(denied(
                    "a key of its type wraps nothing: make one of type RSA or oct",
                ));
            }
        };
        let mut info = KekInfo::new(&version, algorithm).kept(protection);
        info.rotation = attributes.created.map(|created| Rotation {
            last: Some(created.into()),
            ..Rotation::default()
        });
        Ok(Current {
            version,
            wrapping,
            public_key,
            info,
        })
    }

    /// The version in the id of an answer, which must be of the key that was asked for.
    fn version(&self, kek: &str, of: &impl ResourceExt) -> Result<String, ProviderError> {
        let id = of.resource_id().ok();
        let id = id.filter(|id| id.name == kek).and_then(|id| id.version);
        id.filter(|version| is_plain(version))
            .ok_or_else(|| ProviderError::unavailable(&self.name, "its answer names another key"))
    }

    /// A version's public key, from memory or from the vault.
    async fn public_key(&self, kek: &str, version: &str) -> Result<PublicKey, ProviderError> {
        let place = (kek.to_owned(), version.to_owned());
        if let Some(key) = self.remembered().get(&place) {
            return Ok(key.clone());
        }
        let key = self.get(kek, Some(version)).await?;
        if self.version(kek, &key)? != version {
            let reason = "its answer names another version";
            return Err(ProviderError::unavailable(&self.name, reason));
        }
        let material = key.key.unwrap_or_default();
        let key = PublicKey::new(material.n, material.e)
            .ok_or_else(|| ProviderError::not_mine(&self.name, "the key is none of RSA"))?;
        self.remember(place, key.clone());
        Ok(key)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), PublicKey>> {
        let locked = self.public_keys.lock();
        locked.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn remember(&self, place: (String, String), key: PublicKey) {
        let mut keys = self.remembered();
        if keys.len() >= MAX_PUBLIC_KEYS {
            keys.clear();
        }
        keys.insert(place, key);
    }

    async fn wrap_once(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        let current = self.current(kek).await?;
        let place = Place {
            kek,
            version: &current.version,
            context,
        };
        let no_randomness = |error: getrandom::Error| {
            ProviderError::unavailable(&self.name, format!("no random bytes: {error}"))
        };
        let cek = envelope::new_cek().map_err(no_randomness)?;
        let parameters = KeyOperationParameters {
            algorithm: Some(algorithm(current.wrapping)),
            value: Some(cek.to_vec()),
            ..KeyOperationParameters::default()
        };
        let options = KeyClientWrapKeyOptions {
            key_version: Some(current.version.clone()),
            ..KeyClientWrapKeyOptions::default()
        };
        let wrapped = async {
            let answer = self
                .client
                .wrap_key(kek, parameters.try_into()?, Some(options));
            answer.await?.into_model()
        };
        let answer = wrapped
            .await
            .map_err(|error| self.failed(kek, Doing::Wrapping, error))?;
        let wrapped_cek = answer.result.ok_or_else(|| self.without_answer())?;
        let envelope = Envelope::seal(current.wrapping, &cek, wrapped_cek, plaintext, &place)
            .map_err(no_randomness)?;
        let signature = match &current.public_key {
            None => Vec::new(),
            Some(public_key) => {
                let signature = self.sign(&envelope, &place).await?;
                if !public_key.verifies(&envelope, &place, &signature) {
                    let reason = "it signed with another key than it says it has";
                    return Err(ProviderError::unavailable(&self.name, reason));
                }
                self.remember(
                    (kek.to_owned(), current.version.clone()),
                    public_key.clone(),
                );
                signature
            }
        };
        let bytes = envelope.with(&signature).ok_or_else(|| {
            let reason = "its answer has parts that are longer than any key makes";
            ProviderError::unavailable(&self.name, reason)
        })?;
        Ok(Wrapped {
            bytes,
            kek_version: current.version,
        })
    }

    async fn sign(&self, envelope: &Envelope, place: &Place<'_>) -> Result<Vec<u8>, ProviderError> {
        let parameters = SignParameters {
            algorithm: Some(SignatureAlgorithm::Ps256),
            value: Some(envelope.digest(place).to_vec()),
        };
        let options = KeyClientSignOptions {
            key_version: Some(place.version.to_owned()),
            ..KeyClientSignOptions::default()
        };
        let signed = async {
            let answer = self
                .client
                .sign(place.kek, parameters.try_into()?, Some(options));
            answer.await?.into_model()
        };
        let answer = signed
            .await
            .map_err(|error| self.failed(place.kek, Doing::Wrapping, error))?;
        answer.result.ok_or_else(|| self.without_answer())
    }

    async fn unwrap_once(
        &self,
        envelope: &Envelope,
        signature: &[u8],
        place: &Place<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let damaged = |reason: &str| ProviderError::damaged(&self.name, place.kek, reason);
        if envelope.wrapping() == Wrapping::Rsa {
            let public_key = self.public_key(place.kek, place.version).await?;
            if !public_key.verifies(envelope, place, signature) {
                return Err(damaged("its signature is not this key's"));
            }
        }
        let parameters = KeyOperationParameters {
            algorithm: Some(algorithm(envelope.wrapping())),
            value: Some(envelope.wrapped_cek().to_vec()),
            ..KeyOperationParameters::default()
        };
        let unwrapped = async {
            let answer =
                self.client
                    .unwrap_key(place.kek, place.version, parameters.try_into()?, None);
            answer.await?.into_model()
        };
        let answer = unwrapped
            .await
            .map_err(|error| self.failed(place.kek, Doing::Unwrapping, error))?;
        let cek = Zeroizing::new(answer.result.ok_or_else(|| self.without_answer())?);
        let cek: &[u8; CEK_BYTES] = cek
            .as_slice()
            .try_into()
            .map_err(|_| damaged("what it wraps is no key of 32 bytes"))?;
        envelope
            .open(cek, place)
            .ok_or_else(|| damaged("it was altered, or wrapped for another key, scope or purpose"))
    }

    fn without_answer(&self) -> ProviderError {
        ProviderError::unavailable(&self.name, "its answer lacks what was asked for")
    }
}

fn algorithm(wrapping: Wrapping) -> EncryptionAlgorithm {
    match wrapping {
        Wrapping::Rsa => EncryptionAlgorithm::RsaOaep256,
        Wrapping::Aes => EncryptionAlgorithm::A256Kw,
    }
}

/// What the name of a key and a version look like, and may stand in a path.
fn is_plain(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=127).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Whether `HOST[:PORT][/...]` is this machine.
fn is_loopback(host: &str) -> bool {
    let host = host.split('/').next().unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The days in a duration of ISO 8601 such as `P90D`, `P3M`, `P1Y` or `P1Y10D`.
fn days(text: &str) -> Option<u32> {
    let mut days = 0_u32;
    let mut rest = text.strip_prefix('P')?;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u32 = rest[..end].parse().ok()?;
        let unit = match rest.as_bytes()[end] {
            b'D' => 1,
            b'W' => 7,
            b'M' => 30,
            b'Y' => 365,
            _ => return None,
        };
        days = days.checked_add(count.checked_mul(unit)?)?;
        rest = &rest[end + 1..];
    }
    (days > 0).then_some(days)
}

#[async_trait]
impl KeyProvider for AzureKeyVault {
    fn kind(&self) -> &'static str {
        "azure-key-vault"
    }

    async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        http::retrying(&self.name, || self.wrap_once(kek, plaintext, context)).await
    }

    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        self.plain(kek)?;
        let place = Place {
            kek,
            version: &wrapped.kek_version,
            context,
        };
        let not_mine = |reason| ProviderError::not_mine(&self.name, reason);
        if !is_plain(place.version) {
            return Err(not_mine("no version of a vault's key"));
        }
        let (envelope, signature) =
            Envelope::parse(&wrapped.bytes).ok_or_else(|| not_mine("the format is another's"))?;
        http::retrying(&self.name, || {
            self.unwrap_once(&envelope, signature, &place)
        })
        .await
    }

    fn rotates(&self) -> Result<(), &'static str> {
        Ok(())
    }

    async fn rotate(&self, kek: &str) -> Result<(), ProviderError> {
        self.plain(kek)?;
        let answer = self.client.rotate_key(kek, None).await;
        let rotated = answer.and_then(|answer| answer.into_model());
        rotated
            .map(drop)
            .map_err(|error| self.failed(kek, Doing::Describing, error))
    }

    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
        let current = http::retrying(&self.name, || self.current(kek)).await?;
        Ok(current.info)
    }

    async fn rotation(&self, kek: &str) -> Result<Option<Rotation>, ProviderError> {
        let last = self.describe(kek).await?.rotation.unwrap_or_default().last;
        let policy = http::retrying(&self.name, || async {
            let answer = self.client.get_key_rotation_policy(kek, None).await;
            let policy = answer.and_then(|answer| answer.into_model());
            policy.map_err(|error| self.failed(kek, Doing::Describing, error))
        });
        let actions = policy.await?.lifetime_actions.unwrap_or_default();
        let rotates = actions.into_iter().find(|action| {
            let kind = action
                .action
                .as_ref()
                .and_then(|kind| kind.type_prop.as_ref());
            kind == Some(&KeyRotationPolicyAction::Rotate)
        });
        let period = rotates.as_ref().and_then(|action| {
            let trigger = action.trigger.as_ref()?;
            days(trigger.time_after_create.as_ref()?)
        });
        let length = period.map(|days| std::time::Duration::from_hours(24 * u64::from(days)));
        Ok(Some(Rotation {
            is_automatic: rotates.is_some(),
            period_days: period,
            last,
            next: last
                .zip(length)
                .and_then(|(last, length)| last.checked_add(length)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_days() {
        assert_eq!(days("P90D"), Some(90));
        assert_eq!(days("P1Y10D"), Some(375));
        assert_eq!(days("P3M"), Some(90));
        for none in [
            "",
            "P",
            "PT48H",
            "90D",
            "P9",
            "PD",
            "P99999999999D",
            "P4294967295Y",
        ] {
            assert_eq!(days(none), None, "{none}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for here in [
            "127.0.0.1:8443",
            "localhost",
            "localhost:1",
            "[::1]:8443",
            "127.9.9.9/x",
        ] {
            assert!(is_loopback(here), "{here}");
        }
        for there in [
            "a.vault.azure.net",
            "localhost.example.com",
            "127.0.0.1.example.com:1",
            "",
        ] {
            assert!(!is_loopback(there), "{there}");
        }
    }

    #[test]
    fn names_that_would_change_a_path_are_none() {
        for name in ["", "a/b", "..", "a?b", "a.b", "\u{e9}", &"a".repeat(128)] {
            assert!(!is_plain(name), "{name}");
        }
        assert!(is_plain("Key-1"));
    }
}
