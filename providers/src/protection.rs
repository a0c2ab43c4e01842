//! Where a KEK is kept, as its provider says, and the setting that no key is wrapped under one that is kept less well than in a
//! hardware security module. What is wrapped already goes on opening: it has to, to be brought elsewhere.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{ENTROPY_BYTES, KekInfo, KeyProvider, ProviderError, Rotation, WrapContext, Wrapped};

/// How long a provider's word is good for: a key does not change where it is kept, its name may come to mean another one.
const GOOD_FOR: Duration = Duration::from_mins(10);
/// KEKs whose answer is remembered; of others it is asked each time.
const MAX_KNOWN: usize = 10_000;

/// Where a provider says that a KEK is kept and used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// It does not say.
    #[default]
    Unknown,
    /// In software.
    Software,
    /// In a hardware security module of the provider's.
    Hsm,
    /// In a key manager behind the provider, of which it does not say more.
    External,
}

impl Protection {
    /// As people and programs read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Software => "software",
            Self::Hsm => "hsm",
            Self::External => "external",
        }
    }
}

/// A provider under whose KEKs keys are wrapped only if they are in a hardware security module, by its own word.
pub(crate) struct InHsm {
    name: String,
    provider: Arc<dyn KeyProvider>,
    known: Mutex<HashMap<String, Instant>>,
}

impl fmt::Debug for InHsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.provider.fmt(f)
    }
}

impl InHsm {
    pub(crate) fn new(name: &str, provider: Arc<dyn KeyProvider>) -> Self {
        Self {
            name: name.to_owned(),
            provider,
            known: Mutex::default(),
        }
    }

    async fn is_kept_well(&self, kek: &str) -> Result<(), ProviderError> {
        let is_known = |last: &Instant| last.elapsed() < GOOD_FOR;
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known().get(kek).is_some_and(is_known) {
            return Ok(());
        }
        let why = match self.provider.describe(kek).await?.protection {
            Protection::Hsm => {
                let mut known = known();
                if known.len() >= MAX_KNOWN {
                    known.retain(|_, last| is_known(last));
                }
                if known.len() < MAX_KNOWN {
                    known.insert(kek.to_owned(), Instant::now());
                }
                return Ok(());
            }
            Protection::Software => "the key is kept in software",
            Protection::External => {
                "the key is kept in a key manager outside, and nobody says whether in hardware"
            }
            Protection::Unknown => "the provider does not say where the key is kept",
        };
        let reason = format!("{why}, and [defaults] key_protection asks for \"hsm\"");
        Err(ProviderError::denied(&self.name, kek, reason))
    }
}

#[async_trait]
impl KeyProvider for InHsm {
    fn kind(&self) -> &'static str {
        self.provider.kind()
    }

    async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        self.is_kept_well(kek).await?;
        self.provider.wrap(kek, plaintext, context).await
    }

    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        self.provider.unwrap(kek, wrapped, context).await
    }

    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
        self.provider.describe(kek).await
    }

    fn way<'k>(&self, kek: &'k str) -> &'k str {
        self.provider.way(kek)
    }

    async fn rotation(&self, kek: &str) -> Result<Option<Rotation>, ProviderError> {
        self.provider.rotation(kek).await
    }

    fn rotates(&self) -> Result<(), &'static str> {
        self.provider.rotates()
    }

    async fn rotate(&self, kek: &str) -> Result<(), ProviderError> {
        self.provider.rotate(kek).await
    }

    async fn rewrap(
        &self,
        from: &str,
        wrapped: &Wrapped,
        to: &str,
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        self.is_kept_well(to).await?;
        self.provider.rewrap(from, wrapped, to, context).await
    }

    async fn entropy(
        &self,
        kek: &str,
        context: &WrapContext,
    ) -> Result<Option<Zeroizing<[u8; ENTROPY_BYTES]>>, ProviderError> {
        self.provider.entropy(kek, context).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Keys by the protection they are named after. What is wrapped under them is not changed.
    #[derive(Debug, Default)]
    struct Named {
        asked: AtomicUsize,
    }

    #[async_trait]
    impl KeyProvider for Named {
        fn kind(&self) -> &'static str {
            "named"
        }

        async fn wrap(
            &self,
            _: &str,
            plaintext: &[u8],
            _: &WrapContext,
        ) -> Result<Wrapped, ProviderError> {
            Ok(Wrapped {
                bytes: plaintext.to_vec(),
                kek_version: "1".to_owned(),
            })
        }

        async fn unwrap(
            &self,
            _: &str,
            wrapped: &Wrapped,
            _: &WrapContext,
        ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
            Ok(Zeroizing::new(wrapped.bytes.clone()))
        }

        async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let all = [
                Protection::Unknown,
                Protection::Software,
                Protection::Hsm,
                Protection::External,
            ];
            let protection = all.into_iter().find(|found| found.as_str() == kek);
            Ok(KekInfo::new("1", "AES").kept(protection.unwrap()))
        }
    }

    #[tokio::test]
    async fn nothing_is_wrapped_under_a_key_outside_of_a_module_and_all_is_unwrapped() {
        let context = WrapContext {
            scope: "platform".to_owned(),
            key_id: 1,
            purpose: "data",
        };
        let named = Arc::new(Named::default());
        let provider = InHsm::new("p", Arc::clone(&named) as Arc<dyn KeyProvider>);
        let wrapped = provider.wrap("hsm", b"key", &context).await.unwrap();
        for kek in ["software", "external", "unknown"] {
            let refused = provider.wrap(kek, b"key", &context).await.unwrap_err();
            assert!(matches!(refused, ProviderError::Denied { .. }), "{refused}");
            assert!(refused.to_string().contains("key_protection"), "{refused}");
            assert_eq!(
                *provider.unwrap(kek, &wrapped, &context).await.unwrap(),
                b"key"
            );
            let moved = provider.rewrap("hsm", &wrapped, kek, &context).await;
            assert!(matches!(moved, Err(ProviderError::Denied { .. })));
            let moved = provider.rewrap(kek, &wrapped, "hsm", &context).await;
            assert_eq!(moved.unwrap().bytes, b"key");
        }
        // A key in a module is asked for once, another one each time: it may have been replaced.
        assert_eq!(named.asked.load(Ordering::Relaxed), 1 + 2 * 3);
    }
}
