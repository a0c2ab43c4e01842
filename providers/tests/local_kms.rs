//! The local KMS: versions and states, grants, rotation, and what a superuser of the database can do to it.

use std::sync::Arc;

use pgveil_providers::{
    KeyProvider, ProviderError, WrapContext, Wrapped,
    local::{
        Algorithm, Caller, Ciphertext, Grant, Key, KeyState, KmsError, LocalKms, LocalProvider,
        MemoryKekStore, NewKey, Operation, Origin, Scheme, Signature, Usage, VersionState,
        XksCiphertext,
    },
};

const DAY: u64 = 24 * 60 * 60;
const DEK: &[u8] = b"thirty-two secret bytes of a DEK, and the binding that goes with";

struct Site {
    folder: tempfile::TempDir,
    store: Arc<MemoryKekStore>,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            store: Arc::default(),
        };
        site.store.alter(|memory| memory.now = 1_000 * DAY);
        LocalProvider::create_root_key(&site.folder.path().join("root.key")).expect("a root key");
        site
    }

    async fn kms(&self) -> LocalKms {
        let file = self.folder.path().join("root.key");
        let kms = LocalKms::open("main", &file, self.store.clone()).await;
        kms.expect("a local KMS")
    }

    async fn provider(&self) -> LocalProvider {
        let file = self.folder.path().join("root.key");
        let provider = LocalProvider::open("main", &file, self.store.clone()).await;
        provider.expect("a local provider")
    }

    fn pass(&self, days: u64) {
        self.store.alter(|memory| memory.now += days * DAY);
    }
}

fn ada() -> Caller {
    Caller::user("ada")
}

fn new(name: &str, algorithm: Algorithm) -> NewKey {
    NewKey {
        name: name.to_owned(),
        description: String::new(),
        algorithm,
        usage: None,
        rotate_every_days: None,
        activate: true,
        grants: Vec::new(),
    }
}

fn grant(to: &str, operations: &[Operation]) -> Grant {
    Grant {
        to: to.parse().expect("a grantee"),
        operations: operations.iter().copied().collect(),
    }
}

fn context() -> WrapContext {
    WrapContext {
        scope: "tenant:a".to_owned(),
        key_id: 7,
        purpose: "data",
    }
}

fn states(key: &Key) -> Vec<VersionState> {
    key.versions.iter().map(|version| version.state).collect()
}

#[tokio::test]
async fn a_key_that_pgveil_makes_is_rotated_each_year_and_old_versions_open() {
    let site = Site::new();
    let (kms, provider) = (site.kms().await, site.provider().await);
    let first = provider.wrap("platform", DEK, &context()).await.unwrap();
    let made = kms.show("platform", &ada()).await.unwrap();
    assert_eq!(
        (made.origin, made.state),
        (Origin::Service, KeyState::Active)
    );
    assert_eq!(made.rotation.as_ref().unwrap().every_days, 365);
    assert!(kms.rotate_due().await.unwrap().is_empty());
    site.pass(365);
    let other_replica = site.kms().await;
    let (one, two) = tokio::join!(kms.rotate_due(), other_replica.rotate_due());
    assert_eq!(one.unwrap().len() + two.unwrap().len(), 1, "rotated once");
    let rotated = kms.show("platform", &ada()).await.unwrap();
    assert_eq!(rotated.default_version, Some(2));
    assert_eq!(rotated.rotated_at, Some(1_365 * DAY));
    assert_eq!(rotated.rotation.as_ref().unwrap().next_at, 1_730 * DAY);
    let second = provider.wrap("platform", DEK, &context()).await.unwrap();
    assert_eq!(
        (first.kek_version.as_str(), second.kek_version.as_str()),
        ("1", "2")
    );
    assert_eq!(provider.describe("platform").await.unwrap().version, "2");
    for wrapped in [&first, &second] {
        let opened = provider.unwrap("platform", wrapped, &context()).await;
        assert_eq!(*opened.unwrap(), DEK);
    }
    // What is wrapped names its version itself: another one beside it is noticed.
    let mixed = Wrapped {
        bytes: first.bytes.clone(),
        kek_version: "2".to_owned(),
    };
    let refused = provider.unwrap("platform", &mixed, &context()).await;
    assert!(
        matches!(refused, Err(ProviderError::NotMine { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_disabled_version_denies_at_once_in_every_replica_until_it_is_enabled() {
    let site = Site::new();
    let (kms, provider) = (site.kms().await, site.provider().await);
    let wrapped = provider.wrap("k", DEK, &context()).await.unwrap();
    kms.set_enabled("k", None, false, &ada()).await.unwrap();
    for refused in [
        provider.unwrap("k", &wrapped, &context()).await.map(drop),
        provider.wrap("k", DEK, &context()).await.map(drop),
        provider.describe("k").await.map(drop),
    ] {
        assert!(
            matches!(refused, Err(ProviderError::Denied { .. })),
            "{refused:?}"
        );
    }
    // Automatic rotation does not undo it.
    site.pass(400);
    assert!(kms.rotate_due().await.unwrap().is_empty());
    kms.set_enabled("k", Some(1), true, &ada()).await.unwrap();
    assert_eq!(
        *provider.unwrap("k", &wrapped, &context()).await.unwrap(),
        DEK
    );
    let again = kms.set_enabled("k", Some(1), true, &ada()).await;
    assert!(matches!(again, Err(KmsError::State { .. })), "{again:?}");
    let missing = kms.set_enabled("k", Some(9), false, &ada()).await;
    assert!(
        matches!(missing, Err(KmsError::NoVersion { .. })),
        "{missing:?}"
    );

    kms.set_active("k", false, &ada()).await.unwrap();
    let refused = provider.unwrap("k", &wrapped, &context()).await;
    assert!(
        matches!(refused, Err(ProviderError::Denied { .. })),
        "{refused:?}"
    );
    let refused = kms.rotate("k", &ada()).await;
    assert!(
        matches!(refused, Err(KmsError::State { .. })),
        "{refused:?}"
    );
    kms.set_active("k", true, &ada()).await.unwrap();
    assert_eq!(
        *provider.unwrap("k", &wrapped, &context()).await.unwrap(),
        DEK
    );
}

#[tokio::test]
async fn a_destroyed_version_is_erased_and_only_a_spent_key_can_be_deleted() {
    let site = Site::new();
    let (kms, provider) = (site.kms().await, site.provider().await);
    let wrapped = provider.wrap("k", DEK, &context()).await.unwrap();
    kms.rotate("k", &ada()).await.unwrap();
    let key = kms.destroy_version("k", 1, &ada()).await.unwrap();
    assert_eq!(
        states(&key),
        [VersionState::Destroyed, VersionState::Enabled]
    );
    assert_eq!(site.store.alter(|memory| memory.material.len()), 1);
    let refused = provider.unwrap("k", &wrapped, &context()).await;
    assert!(
        matches!(refused, Err(ProviderError::Denied { .. })),
        "{refused:?}"
    );
    for refused in [
        kms.set_enabled("k", Some(1), true, &ada()).await,
        kms.destroy_version("k", 1, &ada()).await,
        kms.delete("k", &ada()).await,
    ] {
        assert!(
            matches!(refused, Err(KmsError::State { .. })),
            "{refused:?}"
        );
    }
    kms.destroy_version("k", 2, &ada()).await.unwrap();
    kms.delete("k", &ada()).await.unwrap();
    assert!(kms.list(&ada()).await.unwrap().is_empty());
    // pgveil does not make it again, and nobody takes the name.
    let refused = provider.wrap("k", DEK, &context()).await;
    assert!(
        matches!(refused, Err(ProviderError::Denied { .. })),
        "{refused:?}"
    );
    let refused = kms.create(new("k", Algorithm::Aes256), &ada()).await;
    assert!(
        matches!(refused, Err(KmsError::Exists { deleted: true, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_key_in_pre_activation_does_nothing_until_its_first_version() {
    let site = Site::new();
    let (kms, provider) = (site.kms().await, site.provider().await);
    let mut later = new("later", Algorithm::Aes256);
    later.activate = false;
    later.rotate_every_days = Some(30);
    let key = kms.create(later.clone(), &ada()).await.unwrap();
    assert_eq!(
        (key.state, key.default_version),
        (KeyState::PreActivation, None)
    );
    let refused = provider.wrap("later", DEK, &context()).await;
    assert!(
        matches!(refused, Err(ProviderError::Denied { .. })),
        "{refused:?}"
    );
    kms.delete("later", &ada()).await.unwrap();
    // It wrapped nothing: the name is free.
    kms.create(later, &ada()).await.unwrap();
    site.pass(31);
    assert!(kms.rotate_due().await.unwrap().is_empty());
    let key = kms.rotate("later", &ada()).await.unwrap();
    assert_eq!(
        (key.state, key.default_version),
        (KeyState::Active, Some(1))
    );
    assert_eq!(key.rotated_at, None);
    assert_eq!(key.rotation.as_ref().unwrap().next_at, 1_061 * DAY);
    provider.wrap("later", DEK, &context()).await.unwrap();
    for days in [0, 1096] {
        let refused = kms.set_rotation("later", Some(days), &ada()).await;
        assert!(
            matches!(refused, Err(KmsError::Input { .. })),
            "{refused:?}"
        );
    }
    let key = kms.set_rotation("later", None, &ada()).await.unwrap();
    assert_eq!(key.rotation, None);
}

#[tokio::test]
async fn only_those_with_a_grant_do_it() {
    let site = Site::new();
    let kms = site.kms().await;
    kms.create(new("k", Algorithm::Aes256), &ada())
        .await
        .unwrap();
    let eve = Caller::user("eve");
    let server = Caller::request(Some("AKID".to_owned()), Some("app".to_owned()));
    let denied = |refused: Result<(), KmsError>| {
        assert!(
            matches!(refused, Err(KmsError::AccessDenied { .. })),
            "{refused:?}"
        );
    };
    denied(kms.show("k", &eve).await.map(drop));
    denied(kms.rotate("k", &eve).await.map(drop));
    denied(kms.encrypt("k", b"x", b"", &eve).await.map(drop));
    denied(kms.xks_encrypt("k", b"x", b"", &server).await.map(drop));
    assert!(kms.list(&eve).await.unwrap().is_empty());

    kms.grant("k", grant("cert:app", &[Operation::Encrypt]), &ada())
        .await
        .unwrap();
    let (version, sealed, _) = kms.xks_encrypt("k", b"x", b"aad", &server).await.unwrap();
    assert_eq!(version, 1);
    denied(
        kms.xks_decrypt("k", &sealed, b"aad", &server)
            .await
            .map(drop),
    );
    kms.grant("k", grant("key-id:AKID", &[Operation::Decrypt]), &ada())
        .await
        .unwrap();
    assert_eq!(
        *kms.xks_decrypt("k", &sealed, b"aad", &server)
            .await
            .unwrap(),
        b"x"
    );
    kms.grant("k", grant("cert:app", &[]), &ada())
        .await
        .unwrap();
    denied(kms.xks_encrypt("k", b"x", b"", &server).await.map(drop));

    // The last one to manage a key keeps it.
    let refused = kms
        .grant("k", grant("user:ada", &[Operation::Encrypt]), &ada())
        .await;
    assert!(
        matches!(refused, Err(KmsError::Input { .. })),
        "{refused:?}"
    );
    kms.grant("k", grant("user:eve", &[Operation::Manage]), &ada())
        .await
        .unwrap();
    kms.grant("k", grant("user:ada", &[]), &eve).await.unwrap();
    denied(kms.show("k", &ada()).await.map(drop));
}

#[tokio::test]
async fn what_the_xks_api_encrypts_is_bound_to_all_of_it() {
    let site = Site::new();
    let kms = site.kms().await;
    let mut key = new("k", Algorithm::Aes256);
    key.grants = vec![grant("key-id:*", &[Operation::Encrypt, Operation::Decrypt])];
    kms.create(key, &ada()).await.unwrap();
    let caller = Caller::request(Some("A".to_owned()), None);
    let (_, sealed, _) = kms
        .xks_encrypt("k", b"secret", b"aad", &caller)
        .await
        .unwrap();
    assert_eq!(
        (sealed.iv.len(), sealed.tag.len(), sealed.ciphertext.len()),
        (12, 16, 6)
    );
    let refuses = async |altered: XksCiphertext, aad: &[u8]| {
        let refused = kms.xks_decrypt("k", &altered, aad, &caller).await;
        assert!(
            matches!(refused, Err(KmsError::Ciphertext { .. })),
            "{refused:?}"
        );
    };
    refuses(sealed.clone(), b"aae").await;
    refuses(sealed.clone(), b"").await;
    for part in 0..4 {
        let mut altered = sealed.clone();
        let bytes = match part {
            0 => &mut altered.ciphertext,
            1 => &mut altered.iv,
            2 => &mut altered.tag,
            _ => &mut altered.metadata,
        };
        bytes[0] ^= 1;
        refuses(altered.clone(), b"aad").await;
        let mut cut = sealed.clone();
        let bytes = match part {
            0 => &mut cut.ciphertext,
            1 => &mut cut.iv,
            2 => &mut cut.tag,
            _ => &mut cut.metadata,
        };
        bytes.clear();
        refuses(cut, b"aad").await;
    }
    // Without the lengths in between, metadata could be passed off as the end of the AAD.
    let mut shifted = sealed.clone();
    shifted.metadata.clear();
    refuses(shifted, &[b"aad", &sealed.metadata[..]].concat()).await;
}

#[tokio::test]
async fn by_hand_a_ciphertext_names_its_version() {
    let site = Site::new();
    let kms = site.kms().await;
    kms.create(new("aes", Algorithm::Aes256), &ada())
        .await
        .unwrap();
    kms.create(new("rsa", Algorithm::Rsa2048), &ada())
        .await
        .unwrap();
    for name in ["aes", "rsa"] {
        let old = kms
            .encrypt(name, b"secret", b"context", &ada())
            .await
            .unwrap();
        kms.rotate(name, &ada()).await.unwrap();
        let new = kms
            .encrypt(name, b"secret", b"context", &ada())
            .await
            .unwrap();
        assert!(old.to_text().starts_with("pgveil:v1:") && new.to_text().starts_with("pgveil:v2:"));
        for encrypted in [&old, &new] {
            let read = Ciphertext::from_text(&encrypted.to_text()).unwrap();
            let opened = kms.decrypt(name, &read, b"context", &ada()).await;
            assert_eq!(*opened.unwrap(), b"secret");
            let refused = kms.decrypt(name, &read, b"", &ada()).await;
            assert!(
                matches!(refused, Err(KmsError::Ciphertext { .. })),
                "{refused:?}"
            );
        }
        let swapped = Ciphertext {
            version: 1,
            bytes: new.bytes,
        };
        let refused = kms.decrypt(name, &swapped, b"context", &ada()).await;
        assert!(
            matches!(refused, Err(KmsError::Ciphertext { .. })),
            "{refused:?}"
        );
    }
    let too_long = kms.encrypt("rsa", &[0; 191], b"", &ada()).await;
    assert!(
        matches!(too_long, Err(KmsError::Input { .. })),
        "{too_long:?}"
    );
    for text in [
        "",
        "pgveil:v01:AA==",
        "pgveil:v1:?",
        "pgveil:v1",
        "vault:v1:AA==",
    ] {
        assert_eq!(Ciphertext::from_text(text), None, "{text}");
    }
}

#[tokio::test]
async fn keys_sign_and_verify_and_show_their_public_key() {
    let site = Site::new();
    let kms = site.kms().await;
    let mut rsa = new("rsa", Algorithm::Rsa2048);
    rsa.usage = Some(Usage::SignVerify);
    kms.create(rsa, &ada()).await.unwrap();
    kms.create(new("ec", Algorithm::EcP256), &ada())
        .await
        .unwrap();
    let message = b"what is signed";
    for (name, scheme) in [
        ("rsa", Scheme::RsaPss),
        ("rsa", Scheme::RsaPkcs1),
        ("ec", Scheme::Ecdsa),
    ] {
        let signature = kms.sign(name, message, Some(scheme), &ada()).await.unwrap();
        let signature = Signature::from_text(&signature.to_text()).unwrap();
        let verifies = async |message: &[u8], signature: &Signature| {
            kms.verify(name, message, signature, Some(scheme), &ada())
                .await
                .unwrap()
        };
        assert!(verifies(message, &signature).await);
        assert!(!verifies(b"something else", &signature).await);
        let mut altered = signature.clone();
        altered.bytes[9] ^= 1;
        assert!(!verifies(message, &altered).await);
        let (version, der) = kms.public_key(name, None, &ada()).await.unwrap();
        assert_eq!((version, der[0]), (1, 0x30));
    }
    for refused in [
        kms.sign("rsa", message, Some(Scheme::Ecdsa), &ada())
            .await
            .map(drop),
        kms.encrypt("rsa", b"x", b"", &ada()).await.map(drop),
        kms.xks_encrypt("ec", b"x", b"", &ada()).await.map(drop),
    ] {
        assert!(
            matches!(
                refused,
                Err(KmsError::Usage { .. } | KmsError::AccessDenied { .. })
            ),
            "{refused:?}"
        );
    }
    let signature = kms.sign("ec", message, None, &ada()).await.unwrap();
    kms.set_enabled("ec", None, false, &ada()).await.unwrap();
    let refused = kms.verify("ec", message, &signature, None, &ada()).await;
    assert!(
        matches!(refused, Err(KmsError::State { .. })),
        "{refused:?}"
    );
    let mut wrong = new("wrong", Algorithm::EcP256);
    wrong.usage = Some(Usage::EncryptDecrypt);
    let refused = kms.create(wrong, &ada()).await;
    assert!(
        matches!(refused, Err(KmsError::Input { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_superuser_of_the_database_changes_nothing_unnoticed() {
    let site = Site::new();
    let provider = site.provider().await;
    let wrapped = provider.wrap("k", DEK, &context()).await.unwrap();
    provider.wrap("other", DEK, &context()).await.unwrap();
    let before = site.store.alter(|memory| memory.clone());
    site.kms()
        .await
        .set_enabled("k", None, false, &ada())
        .await
        .unwrap();
    let id = |name: &str| ("main".to_owned(), name.to_owned());
    let after = site.store.alter(|memory| memory.clone());

    let noticed = async |what: &str| {
        // A process that never saw the key, too.
        let opened = site
            .provider()
            .await
            .unwrap("k", &wrapped, &context())
            .await;
        assert!(
            matches!(opened, Err(ProviderError::Damaged { .. })),
            "{what}: {opened:?}"
        );
        site.store.alter(|memory| *memory = after.clone());
    };
    site.store.alter(|memory| {
        let key = memory.keys.get_mut(&id("k")).unwrap();
        key.record = key.record.replace("disabled", "enabled");
    });
    noticed("a version that is enabled by hand").await;
    site.store.alter(|memory| {
        let mut key = memory.keys[&id("other")].clone();
        key.name = "k".to_owned();
        memory.keys.insert(id("k"), key);
    });
    noticed("another key's record").await;
    site.store.alter(|memory| {
        let old = before.keys[&id("k")].clone();
        let key = memory.keys.get_mut(&id("k")).unwrap();
        (key.record, key.mac) = (old.record, old.mac);
    });
    noticed("the old record under the new revision").await;
    site.store.alter(|memory| {
        memory.keys.remove(&id("k"));
    });
    noticed("no record").await;

    // The old record with its old revision: whoever saw the newer one refuses it.
    let witness = site.provider().await;
    assert!(witness.unwrap("k", &wrapped, &context()).await.is_err());
    site.store.alter(|memory| *memory = before.clone());
    let opened = witness.unwrap("k", &wrapped, &context()).await;
    assert!(
        matches!(opened, Err(ProviderError::Damaged { .. })),
        "{opened:?}"
    );

    // Material that was altered, swapped or taken away.
    for what in 0..3 {
        site.store.alter(|memory| {
            let other = memory.material[&("main".to_owned(), "other".to_owned(), 1)].clone();
            let at = ("main".to_owned(), "k".to_owned(), 1);
            match what {
                0 => memory.material.get_mut(&at).unwrap()[20] ^= 1,
                1 => drop(memory.material.insert(at, other)),
                _ => drop(memory.material.remove(&at)),
            }
        });
        let opened = site
            .provider()
            .await
            .unwrap("k", &wrapped, &context())
            .await;
        assert!(
            matches!(opened, Err(ProviderError::Damaged { .. })),
            "{what}: {opened:?}"
        );
        site.store.alter(|memory| *memory = before.clone());
    }
    let opened = site
        .provider()
        .await
        .unwrap("k", &wrapped, &context())
        .await;
    assert_eq!(*opened.unwrap(), DEK);
}

#[tokio::test]
async fn names_are_what_a_url_can_hold() {
    let site = Site::new();
    let kms = site.kms().await;
    let long = "a".repeat(129);
    for name in ["", ".", "..", "a/b", "a b", "é", long.as_str()] {
        let refused = kms.create(new(name, Algorithm::Aes256), &ada()).await;
        assert!(
            matches!(refused, Err(KmsError::Input { .. })),
            "{name}: {refused:?}"
        );
    }
    kms.create(new("a.B-3_", Algorithm::Aes256), &ada())
        .await
        .unwrap();
    let again = kms.create(new("a.B-3_", Algorithm::Aes256), &ada()).await;
    assert!(
        matches!(again, Err(KmsError::Exists { deleted: false, .. })),
        "{again:?}"
    );
}
