//! Keys from before there were records.

use std::sync::Arc;

use super::*;
use crate::local::{LocalProvider, MemoryKekStore, material::AesKey};
use crate::{KeyProvider, ProviderError, WrapContext, Wrapped};

const MATERIAL: [u8; 32] = [7; 32];

#[tokio::test]
async fn a_key_without_a_record_gets_one_and_does_not_open_without_it_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("root.key");
    LocalProvider::create_root_key(&file).unwrap();
    let store = Arc::new(MemoryKekStore::default());
    let kms = LocalKms::open("main", &file, store.clone()).await.unwrap();
    let context = WrapContext {
        scope: "tenant:a".to_owned(),
        key_id: 7,
        purpose: "data",
    };
    // What an earlier pgveil left: sealed material, and something wrapped.
    let sealed = material::seal_first(&kms.root, kms.id("k", 1), &MATERIAL).unwrap();
    let at = ("main".to_owned(), "k".to_owned(), 1);
    store.alter(|memory| memory.material.insert(at.clone(), sealed.clone()));
    let body = AesKey::new(&MATERIAL)
        .unwrap()
        .encrypt(b"dek", &kms.id("k", 1).wrapping(&context.aad()))
        .unwrap();
    let wrapped = Wrapped {
        bytes: material::wrapped_first(&body),
        kek_version: "1".to_owned(),
    };

    let provider = LocalProvider::open("main", &file, store.clone())
        .await
        .unwrap();
    assert_eq!(
        *provider.unwrap("k", &wrapped, &context).await.unwrap(),
        b"dek"
    );
    let key = kms.show("k", &Caller::user("ada")).await.unwrap();
    assert_eq!((key.origin, key.revision), (Origin::Service, 1));
    let again = provider.wrap("k", b"dek", &context).await.unwrap();
    assert_eq!(
        *provider.unwrap("k", &again, &context).await.unwrap(),
        b"dek"
    );
    assert!(store.alter(|memory| memory.material[&at] != sealed));

    // Without its record it is not taken for an old one again.
    store.alter(|memory| memory.keys.clear());
    let later = LocalProvider::open("main", &file, store.clone())
        .await
        .unwrap();
    let refused = later.unwrap("k", &wrapped, &context).await;
    assert!(
        matches!(refused, Err(ProviderError::Damaged { .. })),
        "{refused:?}"
    );
}

#[test]
fn the_largest_record_is_below_the_limit() {
    let mut key = Key {
        name: "k".to_owned(),
        revision: 1,
        change_id: "0".repeat(16),
        description: "\u{fffd}".repeat(341),
        algorithm: Algorithm::Aes256,
        usage: Usage::EncryptDecrypt,
        state: KeyState::PreActivation,
        origin: Origin::Service,
        created_at: u64::MAX,
        created_by: "x".repeat(300),
        default_version: None,
        versions: Vec::new(),
        rotated_at: None,
        rotation: None,
        access: Vec::new(),
    };
    let by = Caller::user("x".repeat(255));
    for _ in 0..key::MAX_VERSIONS {
        key.add_version(u64::MAX / 2, &by);
    }
    for version in &mut key.versions {
        version.destroyed_at = Some(u64::MAX);
    }
    let grants = administer::service_grants();
    key.access = grants.into_iter().cycle().take(key::MAX_GRANTS).collect();
    let record = serde_json::to_string(&key).unwrap();
    assert!(record.len() < MAX_RECORD_BYTES, "{}", record.len());
}
