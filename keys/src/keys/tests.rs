//! Keys over tables and providers in memory: first use, races, what is refused. The same over Postgres is in
//! `tests/`.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use pgveil_config::settings::Rotation;
use pgveil_policy::plan::ColumnId;
use pgveil_providers::{
    KekInfo, KeyProvider, ProviderError, Wrapped,
    local::{LocalProvider, MemoryKekStore},
};
use tokio::sync::Mutex;

use super::*;
use crate::{
    clock::ManualClock,
    keystore::{MemoryKeyTable, NewKey},
    nonce,
    scopes::{Effective, KekRef},
    sealed,
};

const TTL: Duration = Duration::from_mins(5);
const STALE_MAX: Duration = Duration::from_hours(1);
const EPOCH: Duration = Duration::from_hours(24);
const MAX_USAGE: u64 = 1 << 16;
/// What a process leases at a time under that limit.
const BLOCK: u64 = MAX_USAGE / 16;

/// The local provider with a switch for each way to fail.
#[derive(Debug)]
struct Faulty {
    local: LocalProvider,
    unwraps: AtomicUsize,
    fault: Mutex<Option<ProviderError>>,
    forgetful: bool,
}

#[async_trait]
impl KeyProvider for Faulty {
    fn kind(&self) -> &'static str {
        "faulty"
    }

    async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        self.fail().await?;
        let plaintext = if self.forgetful { &[0; 64] } else { plaintext };
        self.local.wrap(kek, plaintext, context).await
    }

    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        self.fail().await?;
        self.unwraps.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.local.unwrap(kek, wrapped, context).await
    }

    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
        self.fail().await?;
        self.local.describe(kek).await
    }
}

impl Faulty {
    async fn fail(&self) -> Result<(), ProviderError> {
        self.fault.lock().await.clone().map_or(Ok(()), Err)
    }
}

/// A deployment in memory; `replica` makes further processes of it.
struct World {
    table: Arc<MemoryKeyTable>,
    provider: Arc<Faulty>,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with_provider(false).await
    }

    async fn with_provider(forgetful: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root.key");
        LocalProvider::create_root_key(&root).unwrap();
        let local = LocalProvider::open("main", &root, Arc::new(MemoryKekStore::default()))
            .await
            .unwrap();
        let provider = Faulty {
            local,
            unwraps: AtomicUsize::default(),
            fault: Mutex::default(),
            forgetful,
        };
        Self {
            table: Arc::default(),
            provider: Arc::new(provider),
            clock: Arc::new(ManualClock::new()),
            _folder: folder,
        }
    }

    fn replica(&self) -> Keys {
        let mut providers = Providers::default();
        providers.insert("main", self.provider.clone());
        Keys::build(
            self.table.clone(),
            &providers,
            Scopes::of_platform(Effective {
                kek: KekRef {
                    provider: "main".to_owned(),
                    kek: "platform".to_owned(),
                },
                failure: Failure::Closed,
                rotation: Rotation {
                    dek_epoch: EPOCH,
                    dek_max_usage: MAX_USAGE,
                    kek_period: None,
                    destroy_retired_after: None,
                },
            }),
            settings::Cache {
                ttl: TTL,
                stale_max: STALE_MAX,
            },
            self.clock.clone(),
        )
    }

    fn unwraps(&self) -> usize {
        self.provider.unwraps.load(Ordering::SeqCst)
    }
}

fn unavailable() -> ProviderError {
    ProviderError::Unavailable {
        provider: "main".into(),
        reason: "time-out".into(),
    }
}

fn denied() -> ProviderError {
    ProviderError::Denied {
        provider: "main".into(),
        kek: "platform".into(),
        reason: "disabled".into(),
    }
}

fn scope(text: &str) -> ScopePath {
    ScopePath::parse(text).unwrap()
}

fn seal_one(key: &DataKey) -> Vec<u8> {
    let mut out = Vec::new();
    sealed::seal(
        key,
        ColumnId(1),
        &sealed::Terms::NONE,
        &nonce::next(),
        b"ada",
        &mut out,
    )
    .unwrap();
    out
}

#[tokio::test]
async fn a_scopes_keys_are_made_on_first_use_and_found_again() {
    let world = World::new().await;
    let (keys, acme) = (world.replica(), scope("tenant:acme"));
    assert!(keys.cached_sealing_key(&acme).is_none());
    let key = keys.sealing_key(&acme).await.unwrap();
    assert_eq!(key.scope(), &acme);
    assert!(Arc::ptr_eq(&key, &keys.cached_sealing_key(&acme).unwrap()));
    assert!(
        Arc::ptr_eq(&key, &keys.cached_opening_key(key.id()).unwrap()),
        "it opens too, without another unwrap"
    );
    let other = world.replica().opening_key(key.id()).await.unwrap();
    let mut out = Vec::new();
    sealed::Envelope::parse(&seal_one(&key))
        .unwrap()
        .open(&other, &mut out)
        .unwrap();
    assert_eq!(out, b"ada");
    assert_eq!(world.table.rows().len(), 1);
}

#[tokio::test]
async fn a_key_is_unwrapped_once_in_its_time_whatever_it_is_used_for() {
    let world = World::new().await;
    let (keys, acme) = (world.replica(), scope("tenant:acme"));
    let id = keys.sealing_key(&acme).await.unwrap().id();
    keys.index_key(&acme, 0).await.unwrap();
    assert_eq!(world.unwraps(), 2, "each to compare it, when it was made");

    let keys = world.replica();
    let opens = keys.opening_key(id).await.unwrap();
    world.clock.advance(TTL / 2);
    let seals = keys.sealing_key(&acme).await.unwrap();
    assert!(Arc::ptr_eq(&opens, &seals));
    assert_eq!(world.unwraps(), 3);
    world.clock.advance(TTL / 2);
    assert!(
        keys.cached_sealing_key(&acme).is_none(),
        "it seals longer than it may be held"
    );
    keys.sealing_key(&acme).await.unwrap();
    keys.opening_key(id).await.unwrap();
    assert_eq!(world.unwraps(), 4);
    keys.forget(acme.as_str());
    *world.provider.fault.lock().await = Some(denied());
    assert!(keys.sealing_key(&acme).await.is_err());
}

/// A scope whose keys outlive an outage.
fn goes_on(scope: &ScopePath) -> BTreeMap<ScopePath, Own> {
    let own = Own {
        failure: Some(Failure::Open),
        ..Own::default()
    };
    [(scope.clone(), own)].into()
}

#[tokio::test]
async fn a_key_that_was_replaced_does_not_seal_on_while_its_provider_is_away() {
    let world = World::new().await;
    let acme = scope("tenant:acme");
    let keys = world.replica();
    keys.set_stored(goes_on(&acme));
    let before = keys.sealing_key(&acme).await.unwrap().id();
    let right = crate::step_up::Authority::Automatic;
    world.replica().rotate(&acme, right).await.unwrap();
    world.clock.advance(TTL);
    *world.provider.fault.lock().await = Some(unavailable());
    let error = keys.sealing_key(&acme).await.unwrap_err();
    assert!(matches!(error, KeyError::Unavailable { .. }), "{error}");
    assert_eq!(keys.opening_key(before).await.unwrap().id(), before);
}

#[tokio::test]
async fn a_key_that_is_held_to_open_seals_while_its_provider_is_away_and_no_longer() {
    let world = World::new().await;
    let acme = scope("tenant:acme");
    let id = world.replica().sealing_key(&acme).await.unwrap().id();
    let keys = world.replica();
    keys.set_stored(goes_on(&acme));
    let opens = keys.opening_key(id).await.unwrap();
    world.clock.advance(TTL);
    *world.provider.fault.lock().await = Some(unavailable());
    assert!(!keys.status().degraded);
    let seals = keys.sealing_key(&acme).await.unwrap();
    assert!(Arc::ptr_eq(&opens, &seals));
    assert!(keys.status().stale_uses > 0 && keys.status().degraded);
    world.clock.advance(STALE_MAX);
    assert!(!keys.status().degraded);
    let error = keys.sealing_key(&acme).await.unwrap_err();
    assert!(matches!(error, KeyError::Unavailable { .. }), "{error}");
    // Under `closed`, not at all.
    *world.provider.fault.lock().await = None;
    world.clock.advance(Duration::from_mins(1));
    let keys = world.replica();
    keys.opening_key(id).await.unwrap();
    world.clock.advance(TTL);
    *world.provider.fault.lock().await = Some(unavailable());
    assert!(keys.sealing_key(&acme).await.is_err());
}

#[tokio::test]
async fn scopes_and_purposes_have_keys_of_their_own() {
    let world = World::new().await;
    let keys = world.replica();
    let one = keys.sealing_key(&scope("tenant:a")).await.unwrap();
    let two = keys.sealing_key(&scope("tenant:b")).await.unwrap();
    keys.index_key(&scope("tenant:a"), 0).await.unwrap();
    assert_ne!(one.id(), two.id());
    assert_eq!(world.table.rows().len(), 3);
}

#[tokio::test]
async fn replicas_that_race_agree_on_one_key() {
    let world = World::new().await;
    let acme = scope("tenant:acme");
    let (one, two, three) = (world.replica(), world.replica(), world.replica());
    let (a, b, c) = tokio::join!(
        one.sealing_key(&acme),
        two.sealing_key(&acme),
        three.sealing_key(&acme)
    );
    let ids = [a.unwrap().id(), b.unwrap().id(), c.unwrap().id()];
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let (a, b) = tokio::join!(one.index_key(&acme, 0), two.index_key(&acme, 0));
    let term = |key: &IndexKey| {
        crate::term::equality(
            key,
            &pgveil_policy::ruleset::TermContext::Column(ColumnId(1)),
            b"ada",
        )
    };
    assert_eq!(term(&a.unwrap()), term(&b.unwrap()));
    assert_eq!(world.table.rows().len(), 2);
}

#[tokio::test]
async fn many_sessions_that_miss_make_one_unwrap() {
    let world = World::new().await;
    let keys = world.replica();
    let id = keys.sealing_key(&scope("tenant:a")).await.unwrap().id();
    keys.clear();
    let before = world.unwraps();
    let (a, b, c) = tokio::join!(
        keys.opening_key(id),
        keys.opening_key(id),
        keys.opening_key(id)
    );
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(world.unwraps(), before + 1);
}

#[tokio::test]
async fn a_key_is_forgotten_at_its_time() {
    let world = World::new().await;
    let (keys, acme) = (world.replica(), scope("tenant:acme"));
    let id = keys.sealing_key(&acme).await.unwrap().id();
    keys.index_key(&acme, 0).await.unwrap();
    assert_eq!(keys.held(), 3);
    world.clock.advance(TTL);
    assert!(keys.cached_sealing_key(&acme).is_none());
    assert!(keys.cached_opening_key(id).is_none());
    assert!(keys.cached_index_key(&acme, 0).is_none());
    keys.sweep();
    assert_eq!(keys.held(), 0);
}

#[tokio::test]
async fn a_provider_that_loses_keys_is_found_out_before_the_first_use() {
    let world = World::with_provider(true).await;
    let error = world
        .replica()
        .sealing_key(&scope("tenant:a"))
        .await
        .unwrap_err();
    assert!(matches!(error, KeyError::Damaged { .. }), "{error}");
    assert!(world.table.rows().is_empty(), "nothing was stored");
}

#[tokio::test]
async fn provider_failures_are_told_apart_and_soon_forgotten() {
    let world = World::new().await;
    let (keys, acme) = (world.replica(), scope("tenant:acme"));
    *world.provider.fault.lock().await = Some(unavailable());
    let error = keys.sealing_key(&acme).await.unwrap_err();
    assert!(
        matches!(error, KeyError::Unavailable { .. }) && error.is_transient(),
        "{error}"
    );
    *world.provider.fault.lock().await = Some(denied());
    let error = keys.sealing_key(&acme).await.unwrap_err();
    assert!(
        matches!(error, KeyError::Denied { .. }) && !error.is_transient(),
        "{error}"
    );
    let kek = keys.scopes().kek(&acme);
    assert!(keys.refuses(&kek));
    *world.provider.fault.lock().await = None;
    world.clock.advance(Duration::from_secs(5));
    keys.sealing_key(&acme).await.unwrap();
    assert!(!keys.refuses(&kek));
}

#[tokio::test]
async fn wrapped_keys_that_were_swapped_in_the_keystore_do_not_open() {
    let world = World::new().await;
    let keys = world.replica();
    let a = keys.sealing_key(&scope("tenant:a")).await.unwrap().id();
    let b = keys.sealing_key(&scope("tenant:b")).await.unwrap().id();
    keys.index_key(&scope("tenant:a"), 0).await.unwrap();
    let records = world.table.rows();
    let wrapped = |id: u64| {
        records
            .iter()
            .find(|record| record.id == id)
            .unwrap()
            .wrapped
            .clone()
    };
    let index = records
        .iter()
        .find(|record| record.purpose == Purpose::Index)
        .unwrap()
        .wrapped
        .clone();
    for swapped in [wrapped(b.0), index] {
        world
            .table
            .edit(a.0, |record| record.wrapped = swapped.clone());
        let error = world.replica().opening_key(a).await.unwrap_err();
        assert!(matches!(error, KeyError::Damaged { .. }), "{error}");
    }
    world
        .table
        .edit(b.0, |record| record.scope = "tenant:a".to_owned());
    let error = world.replica().opening_key(b).await.unwrap_err();
    assert!(
        matches!(error, KeyError::Damaged { .. }),
        "another scope: {error}"
    );
}

#[tokio::test]
async fn retired_keys_open_and_destroyed_sealed_or_unknown_ones_do_not() {
    let world = World::new().await;
    let acme = scope("tenant:acme");
    let id = world.replica().sealing_key(&acme).await.unwrap().id();
    world
        .table
        .edit(id.0, |record| record.state = KeyState::DecryptOnly);
    assert_eq!(world.replica().opening_key(id).await.unwrap().id(), id);
    let next = world.replica().sealing_key(&acme).await.unwrap();
    assert_ne!(next.id(), id, "a retired key does not seal");
    assert_eq!(world.table.rows().last().unwrap().epoch, 2);
    world
        .table
        .edit(id.0, |record| record.state = KeyState::Destroyed);
    assert_eq!(
        world.replica().opening_key(id).await.unwrap_err(),
        KeyError::Destroyed { id: id.0 }
    );
    world
        .table
        .edit(next.id().0, |record| record.scope_sealed = true);
    let error = world.replica().sealing_key(&acme).await.unwrap_err();
    assert!(matches!(error, KeyError::ScopeSealed { .. }), "{error}");
    let unknown = DekId(u64::MAX);
    assert_eq!(
        world.replica().opening_key(unknown).await.unwrap_err(),
        KeyError::NotFound { id: unknown }
    );
}

#[tokio::test]
async fn an_index_key_never_opens_values() {
    let world = World::new().await;
    let keys = world.replica();
    keys.index_key(&scope("tenant:a"), 0).await.unwrap();
    let id = DekId(world.table.rows()[0].id);
    assert_eq!(
        keys.opening_key(id).await.unwrap_err(),
        KeyError::NotFound { id }
    );
}

#[tokio::test]
async fn a_provider_that_was_taken_out_of_the_configuration_is_named() {
    let world = World::new().await;
    let id = world
        .replica()
        .sealing_key(&scope("tenant:a"))
        .await
        .unwrap()
        .id();
    world
        .table
        .edit(id.0, |record| record.provider = "old".to_owned());
    let error = world.replica().opening_key(id).await.unwrap_err();
    assert_eq!(
        error,
        KeyError::ProviderMissing {
            id: id.0,
            provider: "old".to_owned()
        }
    );
}

#[tokio::test]
async fn uses_are_leased_before_they_are_used_and_go_on_over_reloads() {
    let world = World::new().await;
    let (keys, acme) = (world.replica(), scope("tenant:acme"));
    let uses = |at: usize| world.table.rows()[at].uses;
    seal_one(&keys.sealing_key(&acme).await.unwrap());
    assert_eq!(uses(0), BLOCK);
    keys.clear();
    for _ in 1..BLOCK {
        seal_one(&keys.sealing_key(&acme).await.unwrap());
    }
    assert_eq!(
        uses(0),
        BLOCK,
        "all of the block was used before another is leased"
    );
    assert!(
        keys.cached_sealing_key(&acme).is_none(),
        "who seals must ask"
    );
    seal_one(&keys.sealing_key(&acme).await.unwrap());
    assert_eq!(uses(0), 2 * BLOCK);
    let other = world.replica();
    other.sealing_key(&acme).await.unwrap();
    assert_eq!(uses(0), 3 * BLOCK, "a replica has a block of its own");
}

#[tokio::test]
async fn half_a_block_before_its_end_the_next_is_leased() {
    let world = World::new().await;
    let (keys, acme) = (world.replica(), scope("tenant:acme"));
    let key = keys.sealing_key(&acme).await.unwrap();
    keys.renew().await;
    assert_eq!(world.table.rows()[0].uses, BLOCK);
    for _ in 0..=BLOCK / 2 {
        seal_one(&key);
    }
    keys.renew().await;
    keys.renew().await;
    assert_eq!(world.table.rows()[0].uses, 2 * BLOCK);
}

#[tokio::test]
async fn a_key_is_replaced_before_it_is_used_up() {
    let world = World::new().await;
    let (keys, acme) = (world.replica(), scope("tenant:acme"));
    let first = keys.sealing_key(&acme).await.unwrap().id();
    world
        .table
        .edit(first.0, |record| record.uses = MAX_USAGE / 8 * 7);
    keys.clear();
    keys.sealing_key(&acme).await.unwrap();
    keys.renew().await;
    let second = keys.sealing_key(&acme).await.unwrap().id();
    assert_ne!(first, second);
    let records = world.table.rows();
    assert_eq!(records[0].state, KeyState::DecryptOnly);
    assert_eq!((records[1].epoch, records[1].state), (2, KeyState::Active));
    assert_eq!(keys.opening_key(first).await.unwrap().id(), first);
}

#[tokio::test]
async fn a_key_that_others_used_up_is_replaced_when_it_is_met() {
    let world = World::new().await;
    let (keys, acme) = (world.replica(), scope("tenant:acme"));
    let first = keys.sealing_key(&acme).await.unwrap();
    for _ in 0..BLOCK {
        seal_one(&first);
    }
    world
        .table
        .edit(first.id().0, |record| record.uses = MAX_USAGE);
    let second = keys.sealing_key(&acme).await.unwrap();
    assert_ne!(first.id(), second.id());
    seal_one(&second);
    // Of two replicas that find it used up, one makes the next.
    let other = world.replica();
    assert_eq!(other.sealing_key(&acme).await.unwrap().id(), second.id());
    assert_eq!(world.table.rows().len(), 2);
}

#[tokio::test]
async fn a_key_is_replaced_when_its_epoch_ends() {
    let world = World::new().await;
    let (keys, acme) = (world.replica(), scope("tenant:acme"));
    let first = keys.sealing_key(&acme).await.unwrap().id();
    keys.renew().await;
    assert_eq!(keys.sealing_key(&acme).await.unwrap().id(), first);
    world.table.edit(first.0, |record| record.age = EPOCH);
    keys.clear();
    assert_eq!(
        keys.sealing_key(&acme).await.unwrap().id(),
        first,
        "it seals until the next one is there"
    );
    keys.renew().await;
    assert_ne!(keys.sealing_key(&acme).await.unwrap().id(), first);
}

#[tokio::test]
async fn a_key_whose_successor_cannot_be_made_goes_on() {
    let world = World::new().await;
    let (keys, acme) = (world.replica(), scope("tenant:acme"));
    let first = keys.sealing_key(&acme).await.unwrap().id();
    world.table.edit(first.0, |record| record.age = EPOCH);
    keys.clear();
    keys.sealing_key(&acme).await.unwrap();
    *world.provider.fault.lock().await = Some(unavailable());
    keys.renew().await;
    assert_eq!(keys.cached_sealing_key(&acme).unwrap().id(), first);
    *world.provider.fault.lock().await = None;
    keys.renew().await;
    assert_eq!(
        keys.sealing_key(&acme).await.unwrap().id(),
        first,
        "it is not tried again at once"
    );
    world.clock.advance(Duration::from_secs(30));
    keys.renew().await;
    assert_ne!(keys.sealing_key(&acme).await.unwrap().id(), first);
}

#[tokio::test]
async fn a_no_takes_every_scope_under_that_kek_from_memory() {
    let world = World::new().await;
    let keys = world.replica();
    keys.sealing_key(&scope("tenant:a")).await.unwrap();
    assert_eq!(keys.held(), 2);
    *world.provider.fault.lock().await = Some(denied());
    // A new scope needs a wrap, which is denied as an unwrap would be.
    keys.sealing_key(&scope("tenant:b")).await.unwrap_err();
    assert_eq!(keys.held(), 0);
    assert_eq!(keys.status().providers["main"].denied, ["platform"]);
    let before = world.unwraps();
    let error = keys.sealing_key(&scope("tenant:a")).await.unwrap_err();
    assert!(matches!(error, KeyError::Denied { .. }), "{error}");
    assert_eq!(world.unwraps(), before);
}

#[tokio::test]
async fn an_offer_that_lost_its_race_changes_nothing() {
    let world = World::new().await;
    let id = world
        .replica()
        .sealing_key(&scope("tenant:a"))
        .await
        .unwrap()
        .id();
    let before = world.table.rows();
    let late = NewKey {
        id: id.0 + 100,
        scope: "tenant:a".to_owned(),
        purpose: Purpose::Data,
        provider: "main".to_owned(),
        kek: "platform".to_owned(),
        wrapped: before[0].wrapped.clone(),
    };
    world.table.offer(&late).await.unwrap();
    assert_eq!(world.table.rows(), before);
}

#[tokio::test]
async fn keys_that_rows_ahead_name_are_loaded_together_and_once() {
    let world = World::new().await;
    let maker = world.replica();
    let mut ids = Vec::new();
    for tenant in ["a", "b", "c"] {
        let tenant = scope(&format!("tenant:{tenant}"));
        ids.push(maker.sealing_key(&tenant).await.unwrap().id());
    }
    let (keys, before) = (Arc::new(world.replica()), world.unwraps());
    let mut wanted = ids.clone();
    wanted.push(DekId(u64::MAX));
    let (warmed, needed) = tokio::join!(Arc::clone(&keys).warm(wanted), keys.opening_key(ids[1]));
    let ((), needed) = (warmed, needed.unwrap());
    assert_eq!(needed.id(), ids[1]);
    assert!(ids.iter().all(|id| keys.cached_opening_key(*id).is_some()));
    assert_eq!(
        world.unwraps() - before,
        ids.len(),
        "one unwrap for each key"
    );
    assert!(matches!(
        keys.opening_key(DekId(u64::MAX)).await,
        Err(KeyError::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_load_ahead_that_fails_says_so_only_to_who_needs_the_key() {
    let world = World::new().await;
    let key = world.replica().sealing_key(&scope("tenant:a")).await;
    let id = key.unwrap().id();
    let keys = Arc::new(world.replica());
    *world.provider.fault.lock().await = Some(unavailable());
    Arc::clone(&keys).warm(vec![id]).await;
    assert!(keys.cached_opening_key(id).is_none());
    assert!(matches!(
        keys.opening_key(id).await,
        Err(KeyError::Unavailable { .. })
    ));
}
