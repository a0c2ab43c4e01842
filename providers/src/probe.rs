//! Does a KEK work: what its provider says of it, and a round trip of random bytes. Nothing is kept of either.

use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{KekInfo, KeyProvider, ProviderError, WrapContext};

/// Describe, wrap and unwrap together. Each has a shorter limit of its own.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// What goes there and back.
const PROBE_BYTES: usize = 32;

/// A KEK that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What its provider says of it.
    pub info: KekInfo,
    /// How long wrapping and unwrapping took together; `None` where nothing was wrapped, because the KEK is made on first
    /// use.
    pub latency: Option<Duration>,
    /// The version of the KEK as a wrapping names it, where one was made.
    pub wraps_as: Option<String>,
}

impl Probe {
    /// Of a KEK that was only asked for.
    pub fn of(info: KekInfo) -> Self {
        Self {
            info,
            latency: None,
            wraps_as: None,
        }
    }
}

/// Asks a provider for a KEK and has it wrap and unwrap 32 random bytes, in the context of a scope that uses the KEK: a
/// provider's policy may allow some scopes only. Makes no KEK.
pub async fn probe(
    provider: &dyn KeyProvider,
    name: &str,
    kek: &str,
    scope: &str,
) -> Result<Probe, ProviderError> {
    let round = tokio::time::timeout(PROBE_TIMEOUT, round_trip(provider, name, kek, scope));
    round
        .await
        .unwrap_or_else(|_| Err(ProviderError::unavailable(name, "no answer in time")))
}

async fn round_trip(
    provider: &dyn KeyProvider,
    name: &str,
    kek: &str,
    scope: &str,
) -> Result<Probe, ProviderError> {
    let mut info = provider.describe(kek).await?;
    if !info.is_made {
        return Ok(Probe::of(info));
    }
    let context = WrapContext {
        scope: scope.to_owned(),
        key_id: 0,
        purpose: "probe",
    };
    let mut sent = Zeroizing::new([0; PROBE_BYTES]);
    getrandom::fill(&mut *sent)
        .map_err(|error| ProviderError::unavailable(name, format!("no random bytes: {error}")))?;
    let start = Instant::now();
    let wrapped = provider.wrap(kek, &*sent, &context).await?;
    let back = provider.unwrap(kek, &wrapped, &context).await?;
    let latency = Some(start.elapsed());
    if !bool::from(back.ct_eq(&*sent)) {
        let reason = "it gave back other bytes than it was given";
        return Err(ProviderError::damaged(name, kek, reason));
    }
    if info.rotation.is_none() {
        // Good to know, and often not allowed.
        info.rotation = provider.rotation(kek).await.unwrap_or_default();
    }
    let wraps_as = Some(wrapped.kek_version);
    Ok(Probe {
        info,
        latency,
        wraps_as,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::local::{LocalProvider, MemoryKekStore};

    #[tokio::test]
    async fn a_kek_that_is_made_on_first_use_is_not_made_by_a_probe() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root.key");
        LocalProvider::create_root_key(&root).unwrap();
        let store = Arc::new(MemoryKekStore::default());
        let local = LocalProvider::open("p", &root, store).await.unwrap();
        for _ in 0..2 {
            let found = probe(&local, "p", "k", "platform").await.unwrap();
            assert_eq!((found.info.is_made, found.latency), (false, None));
        }
        let context = WrapContext {
            scope: "platform".to_owned(),
            key_id: 1,
            purpose: "data",
        };
        local.wrap("k", b"key", &context).await.unwrap();
        let found = probe(&local, "p", "k", "platform").await.unwrap();
        assert!(found.info.is_made && found.latency.is_some());
    }
}
