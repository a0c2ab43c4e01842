//! The seam to a KMS: wrap, unwrap, and the ways in which they fail. No provider is implemented here.

use std::{fmt, time::SystemTime};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::Protection;

/// Domain separation of [`WrapContext::aad`].
const CONTEXT_LABEL: &[u8] = b"pgveil key v1\0";

/// A KMS. Two verbs make a provider; "not mine" is apart from "denied" is apart from "unavailable".
#[async_trait]
pub trait KeyProvider: Send + Sync + fmt::Debug {
    /// What the configuration calls this sort of provider: `local`, `aws-kms`, ...
    fn kind(&self) -> &'static str;

    /// Encrypts `plaintext` (at most 4,096 bytes) under the KEK's current version and binds `context` to it.
    /// The answer names the version that was used.
    async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError>;

    /// Undoes [`KeyProvider::wrap`]. Succeeds only with the KEK, the version and the context that it was wrapped with.
    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError>;

    /// What the provider says of a KEK that may be used; [`ProviderError::Denied`] for one that may not.
    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError>;

    /// How a KEK is reached, where KEKs of one provider are reached in several ways (regions): while those on one way do not
    /// answer, the others may.
    fn way<'k>(&self, _kek: &'k str) -> &'k str {
        ""
    }

    /// When a KEK rotates; `None` where the provider does not tell.
    async fn rotation(&self, _kek: &str) -> Result<Option<Rotation>, ProviderError> {
        Ok(None)
    }

    /// Whether [`KeyProvider::rotate`] can be asked for; if not, what to do instead.
    fn rotates(&self) -> Result<(), &'static str> {
        Err("rotate the key where it is kept; pgveil notices and follows")
    }

    /// Makes a new version of a KEK the one that wraps; what the older ones wrapped goes on unwrapping. It may take a while until
    /// [`KeyProvider::describe`] tells of it.
    async fn rotate(&self, kek: &str) -> Result<(), ProviderError> {
        Err(ProviderError::denied(
            self.kind(),
            kek,
            "it does not rotate keys when it is asked to",
        ))
    }

    /// Wraps what is wrapped under `from` under the current version of `to`, another KEK of this provider or the same
    /// one. Where the provider can, the key does not leave it on the way. As after [`KeyProvider::wrap`], whoever relies on
    /// the answer unwraps and compares first.
    async fn rewrap(
        &self,
        from: &str,
        wrapped: &Wrapped,
        to: &str,
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        let plaintext = self.unwrap(from, wrapped, context).await?;
        self.wrap(to, &plaintext, context).await
    }

    /// Random bytes of the provider's own, made for `context`; `None` where it offers none. They are mixed into new keys
    /// and never stand alone.
    async fn entropy(
        &self,
        _kek: &str,
        _context: &WrapContext,
    ) -> Result<Option<Zeroizing<[u8; ENTROPY_BYTES]>>, ProviderError> {
        Ok(None)
    }
}

/// What [`KeyProvider::entropy`] gives.
pub const ENTROPY_BYTES: usize = 32;

/// A KEK as its provider describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KekInfo {
    /// Its current version in the provider's own terms: another one after each rotation.
    pub version: String,
    /// The algorithm in the provider's own terms.
    pub algorithm: String,
    /// When it rotates, where the provider tells in the same breath; [`KeyProvider::rotation`] asks for it.
    pub rotation: Option<Rotation>,
    /// Where it is kept.
    pub protection: Protection,
    /// Whether it is there. A provider that makes KEKs on first use describes those to come.
    pub is_made: bool,
}

impl KekInfo {
    /// A KEK that is there and tells nothing of its rotation.
    pub fn new(version: impl Into<String>, algorithm: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            algorithm: algorithm.into(),
            rotation: None,
            protection: Protection::Unknown,
            is_made: true,
        }
    }

    /// The same with its rotation.
    pub fn rotating(mut self, rotation: Option<Rotation>) -> Self {
        self.rotation = rotation;
        self
    }

    /// The same, kept there.
    pub fn kept(mut self, protection: Protection) -> Self {
        self.protection = protection;
        self
    }

    /// The same, not made yet.
    pub fn to_come(mut self) -> Self {
        self.is_made = false;
        self
    }
}

/// When a KEK rotates. What the provider does not tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Whether the provider rotates it by itself.
    pub is_automatic: bool,
    /// How often, in days.
    pub period_days: Option<u32>,
    /// The last time.
    pub last: Option<SystemTime>,
    /// The next time.
    pub next: Option<SystemTime>,
}

/// What a provider made of a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// Opaque to everyone but the provider.
    pub bytes: Vec<u8>,
    /// The KEK's version in the provider's own terms.
    pub kek_version: String,
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrapped")
            .field("kek_version", &self.kek_version)
            .finish_non_exhaustive()
    }
}

/// What a wrapped key is for. It goes to the provider as encryption context, where it may be logged: no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapContext {
    /// The scope's path.
    pub scope: String,
    /// The key's id in the keystore.
    pub key_id: u64,
    /// `data`, `index`, or `probe` for what only shows whether the KEK works.
    pub purpose: &'static str,
}

impl WrapContext {
    /// The context as bytes that no other context makes:
    /// `"pgveil key v1\0" ‖ u32be length ‖ scope ‖ u64be key id ‖ u32be length ‖ purpose`.
    pub fn aad(&self) -> Vec<u8> {
        let mut aad =
            Vec::with_capacity(CONTEXT_LABEL.len() + 16 + self.scope.len() + self.purpose.len());
        aad.extend_from_slice(CONTEXT_LABEL);
        push_prefixed(&mut aad, self.scope.as_bytes());
        aad.extend_from_slice(&self.key_id.to_be_bytes());
        push_prefixed(&mut aad, self.purpose.as_bytes());
        aad
    }
}

/// Appends `u32be length ‖ part`.
pub(crate) fn push_prefixed(out: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("names are far shorter than 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(part);
}

/// Why a provider did not do it. Says nothing of any key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// These bytes, this version or this KEK id do not belong to this provider.
    #[error("provider \"{provider}\" did not wrap this: {reason}")]
    NotMine {
        /// The provider's name in the configuration.
        provider: String,
        /// What shows it.
        reason: String,
    },
    /// The provider answered no: access denied, key disabled, scheduled for deletion, destroyed.
    #[error("provider \"{provider}\" denies the use of key encryption key \"{kek}\": {reason}")]
    Denied {
        /// The provider's name in the configuration.
        provider: String,
        /// The KEK.
        kek: String,
        /// Its own words, or ours.
        reason: String,
    },
    /// No answer: time-out, network, 5xx, throttling.
    #[error("provider \"{provider}\" is unavailable: {reason}")]
    Unavailable {
        /// The provider's name in the configuration.
        provider: String,
        /// What happened.
        reason: String,
    },
    /// The bytes were altered, cut, or wrapped for another context.
    #[error("a key wrapped by provider \"{provider}\" under \"{kek}\" does not open: {reason}")]
    Damaged {
        /// The provider's name in the configuration.
        provider: String,
        /// The KEK.
        kek: String,
        /// What failed.
        reason: String,
    },
}

impl ProviderError {
    /// What was given is another provider's, or another version's.
    pub fn not_mine(provider: &str, reason: impl Into<String>) -> Self {
        Self::NotMine {
            provider: provider.to_owned(),
            reason: reason.into(),
        }
    }

    /// The provider said no.
    pub fn denied(provider: &str, kek: &str, reason: impl Into<String>) -> Self {
        Self::Denied {
            provider: provider.to_owned(),
            kek: kek.to_owned(),
            reason: reason.into(),
        }
    }

    /// The provider said nothing.
    pub fn unavailable(provider: &str, reason: impl Into<String>) -> Self {
        Self::Unavailable {
            provider: provider.to_owned(),
            reason: reason.into(),
        }
    }

    /// What was given does not open.
    pub fn damaged(provider: &str, kek: &str, reason: impl Into<String>) -> Self {
        Self::Damaged {
            provider: provider.to_owned(),
            kek: kek.to_owned(),
            reason: reason.into(),
        }
    }

    /// Whether another try may succeed.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(scope: &str, key_id: u64, purpose: &'static str) -> WrapContext {
        WrapContext {
            scope: scope.to_owned(),
            key_id,
            purpose,
        }
    }

    #[test]
    fn the_context_is_length_prefixed() {
        let aad = context("tenant:a", 7, "data").aad();
        assert_eq!(
            hex::encode(aad),
            "70677665696c206b6579207631000000000874656e616e743a6100000000000000070000000464617461"
        );
    }

    #[test]
    fn two_contexts_never_make_the_same_bytes() {
        assert_ne!(
            context("a", 1, "data").aad(),
            context("a", 1, "index").aad()
        );
        assert_ne!(context("a", 1, "data").aad(), context("a", 2, "data").aad());
        assert_ne!(
            context("ab", 1, "data").aad(),
            context("a", 1, "data").aad()
        );
    }

    #[test]
    fn debug_shows_no_wrapped_bytes() {
        let wrapped = Wrapped {
            bytes: vec![0xAB; 4],
            kek_version: "1".into(),
        };
        assert_eq!(format!("{wrapped:?}"), "Wrapped { kek_version: \"1\", .. }");
    }
}
