//! What every provider must do, as one suite instantiated per provider.

use std::sync::Arc;

use pgveil_providers::{
    KeyProvider, ProviderError, WrapContext, Wrapped,
    local::{LocalProvider, MemoryKekStore, OpenError},
};

const KEY: &[u8] = b"thirty-two secret bytes of a DEK, and the binding that goes with";

fn context(scope: &str, key_id: u64, purpose: &'static str) -> WrapContext {
    WrapContext {
        scope: scope.to_owned(),
        key_id,
        purpose,
    }
}

/// The suite. `kek` and `other_kek` must be usable in the provider.
async fn contract(provider: &dyn KeyProvider, kek: &str, other_kek: &str) {
    let here = context("tenant:a", 7, "data");
    let wrapped = provider.wrap(kek, KEY, &here).await.expect("wraps");
    assert_eq!(
        *provider
            .unwrap(kek, &wrapped, &here)
            .await
            .expect("unwraps"),
        KEY,
        "round trip"
    );
    assert!(!wrapped.kek_version.is_empty(), "names the KEK's version");
    assert!(
        !contains(&wrapped.bytes, &KEY[..8]),
        "no plaintext in the wrapped bytes"
    );
    let again = provider.wrap(kek, KEY, &here).await.expect("wraps again");
    assert_ne!(again.bytes, wrapped.bytes, "randomised");

    binds_the_context(provider, kek, &wrapped).await;
    refuses_altered_bytes(provider, kek, &wrapped, &here).await;
    refuses_other_keks(provider, kek, other_kek, &wrapped, &here).await;
}

async fn binds_the_context(provider: &dyn KeyProvider, kek: &str, wrapped: &Wrapped) {
    for other in [
        context("tenant:b", 7, "data"),
        context("tenant:a", 8, "data"),
        context("tenant:a", 7, "index"),
    ] {
        let refused = provider.unwrap(kek, wrapped, &other).await;
        assert!(
            matches!(refused, Err(ProviderError::Damaged { .. })),
            "{other:?}: {refused:?}"
        );
    }
}

async fn refuses_altered_bytes(
    provider: &dyn KeyProvider,
    kek: &str,
    wrapped: &Wrapped,
    here: &WrapContext,
) {
    let not_opened = async |bytes: Vec<u8>| {
        let altered = Wrapped {
            bytes,
            kek_version: wrapped.kek_version.clone(),
        };
        let refused = provider
            .unwrap(kek, &altered, here)
            .await
            .expect_err("altered bytes must not open");
        assert!(
            matches!(
                refused,
                ProviderError::Damaged { .. } | ProviderError::NotMine { .. }
            ),
            "{refused:?}"
        );
    };
    for at in 0..wrapped.bytes.len() {
        let mut flipped = wrapped.bytes.clone();
        flipped[at] ^= 1;
        not_opened(flipped).await;
        not_opened(wrapped.bytes[..at].to_vec()).await;
    }
    not_opened([&wrapped.bytes[..], &[0]].concat()).await;
}

async fn refuses_other_keks(
    provider: &dyn KeyProvider,
    kek: &str,
    other_kek: &str,
    wrapped: &Wrapped,
    here: &WrapContext,
) {
    let refused = provider.unwrap(other_kek, wrapped, here).await;
    assert!(
        matches!(refused, Err(ProviderError::NotMine { .. })),
        "a KEK that was not made: {refused:?}"
    );
    provider
        .wrap(other_kek, KEY, here)
        .await
        .expect("another KEK wraps");
    let refused = provider.unwrap(other_kek, wrapped, here).await;
    assert!(
        matches!(
            refused,
            Err(ProviderError::Damaged { .. } | ProviderError::NotMine { .. })
        ),
        "another KEK: {refused:?}"
    );
    let elsewhere = Wrapped {
        bytes: b"vault:v1:AAAA".to_vec(),
        kek_version: wrapped.kek_version.clone(),
    };
    let refused = provider.unwrap(kek, &elsewhere, here).await;
    assert!(
        matches!(refused, Err(ProviderError::NotMine { .. })),
        "another provider's bytes: {refused:?}"
    );
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

struct Local {
    folder: tempfile::TempDir,
    keks: Arc<MemoryKekStore>,
}

impl Local {
    fn new() -> Self {
        let local = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            keks: Arc::default(),
        };
        LocalProvider::create_root_key(&local.file("root.key")).expect("a new root key");
        local
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    async fn open(&self, file: &str) -> Result<LocalProvider, OpenError> {
        LocalProvider::open("main", &self.file(file), self.keks.clone()).await
    }
}

#[tokio::test]
async fn the_local_provider_keeps_the_contract() {
    contract(
        &Local::new().open("root.key").await.unwrap(),
        "platform",
        "other",
    )
    .await;
}

#[tokio::test]
async fn keks_outlive_the_process_that_made_them() {
    let local = Local::new();
    let here = context("platform", 1, "data");
    let wrapped = local
        .open("root.key")
        .await
        .unwrap()
        .wrap("platform", KEY, &here)
        .await
        .unwrap();
    let reopened = local.open("root.key").await.unwrap();
    assert_eq!(
        *reopened.unwrap("platform", &wrapped, &here).await.unwrap(),
        KEY
    );
}

#[tokio::test]
async fn another_root_key_is_refused_at_start() {
    let local = Local::new();
    LocalProvider::create_root_key(&local.file("other.key")).unwrap();
    local
        .open("other.key")
        .await
        .expect("nothing is sealed yet");
    local
        .open("root.key")
        .await
        .unwrap()
        .wrap("platform", KEY, &context("a", 1, "data"))
        .await
        .unwrap();
    let error = local.open("other.key").await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not open the keystore's key encryption keys"),
        "{error}"
    );
    assert!(error.cure().contains("restore the original"));
    local.open("root.key").await.unwrap();
}

#[tokio::test]
async fn two_replicas_with_different_root_keys_cannot_both_make_keks() {
    let local = Local::new();
    LocalProvider::create_root_key(&local.file("other.key")).unwrap();
    let (one, two) = (
        local.open("root.key").await.unwrap(),
        local.open("other.key").await.unwrap(),
    );
    one.wrap("platform", KEY, &context("a", 1, "data"))
        .await
        .unwrap();
    let refused = two.wrap("another", KEY, &context("a", 1, "data")).await;
    assert!(
        matches!(refused, Err(ProviderError::Denied { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn two_replicas_agree_on_one_kek() {
    let local = Local::new();
    let here = context("a", 1, "data");
    let (one, two) = (
        local.open("root.key").await.unwrap(),
        local.open("root.key").await.unwrap(),
    );
    let (by_one, by_two) = tokio::join!(
        one.wrap("platform", KEY, &here),
        two.wrap("platform", KEY, &here)
    );
    assert_eq!(
        *one.unwrap("platform", &by_two.unwrap(), &here)
            .await
            .unwrap(),
        KEY
    );
    assert_eq!(
        *two.unwrap("platform", &by_one.unwrap(), &here)
            .await
            .unwrap(),
        KEY
    );
}

#[tokio::test]
async fn versions_that_no_local_kek_has_are_not_mine() {
    let local = Local::new();
    let here = context("a", 1, "data");
    let provider = local.open("root.key").await.unwrap();
    let wrapped = provider.wrap("platform", KEY, &here).await.unwrap();
    for version in ["", "0", "2", "01", "+1", "v1", "99999999999"] {
        let other = Wrapped {
            bytes: wrapped.bytes.clone(),
            kek_version: version.to_owned(),
        };
        let refused = provider.unwrap("platform", &other, &here).await;
        assert!(
            matches!(refused, Err(ProviderError::NotMine { .. })),
            "{version}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn debug_prints_no_key() {
    let local = Local::new();
    let provider = local.open("root.key").await.unwrap();
    assert_eq!(
        format!("{provider:?}"),
        "LocalProvider { name: \"main\", .. }"
    );
}
