//! The keys of scopes: found in the cache, or unwrapped, or made on first use. The one door to unwrapped keys.
//!
//! It does not seal values and does not decide which scope a value belongs to.

mod make;
mod term;
mod warm;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use pgveil_config::{
    ScopePath, Settings,
    settings::{self, Failure},
};
use pgveil_providers::{Probe, ProviderError, Providers, WrapContext, probe};
use serde_json::json;
use tracing::Instrument;
use zeroize::Zeroizing;

use crate::{
    Clock, DataKey, DekId, IndexKey, KeyError, Purpose, Scopes,
    audit::{Actor, Event, Operation, Outcome},
    binding,
    cache::{Cache, Life, Loaded, MAX_ENTRIES},
    flight::{Flight, Flights},
    gate::{Answer, Fresh, Gate, ProviderState, Requests, Turn},
    key::{KEY_BYTES, Term},
    keystore::{KeyRecord, KeyState, KeyTable, KeystoreError, registry::Registry},
    scopes::{KekRef, Own},
    usage::Usage,
};
use term::Lease;
pub(crate) use term::{Replaced, STORED_AT_ONCE};
pub use warm::{MAX_WARMED, Wanted};

/// Of a provider's words, so many characters go into a record.
const MAX_REASON_CHARS: usize = 300;

/// A key as bytes, for as short as it takes to expand it.
type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// The keys of all scopes. Shared by all sessions; callers keep what it hands out for one statement, not longer,
/// because a key lives in memory only as long as the cache's TTL and those who hold it.
#[derive(Debug)]
pub struct Keys {
    table: Arc<dyn KeyTable>,
    gates: BTreeMap<String, Gate>,
    clock: Arc<dyn Clock>,
    /// Which KEK wraps a scope's new keys, how long they seal, and what happens while its provider is away.
    scopes: ArcSwap<Scopes>,
    /// Whether it is not known yet what was set at run time: then no key is wrapped.
    awaits_stored: AtomicBool,
    stale_max: Duration,
    sealing: Cache<ScopePath, DataKey>,
    opening: Cache<DekId, DataKey>,
    /// By scope, and the newest that may be meant.
    index: Cache<(ScopePath, u64), IndexKey>,
    usages: DashMap<DekId, Arc<Usage>>,
    /// Scopes whose DEK could not be replaced a moment ago, and until when nobody tries again.
    postponed: DashMap<ScopePath, Instant>,
    /// KEKs that were denied, as the audit log knows.
    denied: DashMap<KekRef, ()>,
    flights: Flights,
}

/// How the keys are doing, for people and for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysStatus {
    /// Unwrapped keys in memory.
    pub held: usize,
    /// Times since the start that a key went on past its time, for some seconds each, because its provider was away
    /// (`failure = "open"`).
    pub stale_uses: u64,
    /// Whether one does just now.
    pub degraded: bool,
    /// By `[provider.NAME]`.
    pub providers: BTreeMap<String, ProviderStatus>,
}

/// One provider, as its last answers show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderStatus {
    /// Whether it answers.
    pub state: ProviderState,
    /// KEKs that it denied within the last seconds: their scopes are sealed.
    pub denied: Vec<String>,
    /// How often it was asked since the start.
    pub requests: Requests,
}

impl Keys {
    /// Keys over a keystore (or another [`KeyTable`]) and the configured providers.
    pub fn new(
        table: Arc<dyn KeyTable>,
        providers: Providers,
        settings: &Settings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let scopes = Scopes::new(settings);
        Self::build(table, &providers, scopes, settings.cache, clock)
    }

    fn build(
        table: Arc<dyn KeyTable>,
        providers: &Providers,
        scopes: Scopes,
        cache: settings::Cache,
        clock: Arc<dyn Clock>,
    ) -> Self {
        if let Some(log) = table.log() {
            log.use_providers(providers, &scopes.kek(&ScopePath::platform()));
        }
        let gates = providers.iter().map(|(name, provider)| {
            let gate = Gate::new(name, Arc::clone(provider), Arc::clone(&clock));
            (name.to_owned(), gate)
        });
        Self {
            table,
            gates: gates.collect(),
            scopes: ArcSwap::from_pointee(scopes),
            awaits_stored: AtomicBool::new(false),
            stale_max: cache.stale_max,
            sealing: Cache::new(cache.ttl, MAX_ENTRIES, Arc::clone(&clock)),
            opening: Cache::new(cache.ttl, MAX_ENTRIES, Arc::clone(&clock)),
            index: Cache::new(cache.ttl, MAX_ENTRIES, Arc::clone(&clock)),
            usages: DashMap::new(),
            postponed: DashMap::new(),
            clock,
            denied: DashMap::new(),
            flights: Flights::default(),
        }
    }

    /// The settings of all scopes as they are now.
    pub fn scopes(&self) -> Arc<Scopes> {
        self.scopes.load_full()
    }

    /// Takes up what was set at run time. Keys that are held stay as they are wrapped.
    pub fn set_stored(&self, stored: BTreeMap<ScopePath, Own>) {
        let scopes = self.scopes.load();
        if *scopes.stored() != stored {
            self.scopes.store(Arc::new(scopes.with_stored(stored)));
        }
        self.awaits_stored.store(false, Ordering::Release);
    }

    /// Takes up what a configuration says of scopes. What was set at run time stays, and keys stay as they are wrapped.
    pub fn set_configured(&self, settings: &Settings) {
        self.scopes
            .rcu(|scopes| Scopes::new(settings).with_stored(scopes.stored().clone()));
    }

    /// Whether there is a provider of this name.
    pub fn has_provider(&self, name: &str) -> bool {
        self.gates.contains_key(name)
    }

    /// Wraps no key until [`Keys::set_stored`] is called.
    pub fn await_stored(&self) {
        self.awaits_stored.store(true, Ordering::Release);
    }

    /// How the keys and their providers are doing.
    pub fn status(&self) -> KeysStatus {
        let providers = self.gates.iter().map(|(name, gate)| {
            let status = ProviderStatus {
                state: gate.state(),
                denied: gate.denied().into_iter().collect(),
                requests: gate.requests(),
            };
            (name.clone(), status)
        });
        KeysStatus {
            held: self.held(),
            stale_uses: self.sealing.stale_uses()
                + self.opening.stale_uses()
                + self.index.stale_uses(),
            degraded: self.is_degraded(),
            providers: providers.collect(),
        }
    }

    /// Whether keys in memory are used past their time just now, because their provider is away.
    pub fn is_degraded(&self) -> bool {
        self.sealing.is_stale() || self.opening.is_stale() || self.index.is_stale()
    }

    /// To be held by whoever seals, from before it asks for a key until the server has said what became of the values: until
    /// then no key that they may name is destroyed.
    pub fn enter(&self) -> Flight {
        self.flights.enter()
    }

    pub(crate) fn flights(&self) -> &Flights {
        &self.flights
    }

    /// The scope's active DEK, if it is in memory and may seal one value more. Never waits.
    pub fn cached_sealing_key(&self, scope: &ScopePath) -> Option<Arc<DataKey>> {
        self.sealing.get(scope).filter(|key| key.usage.has_lease())
    }

    /// A DEK by the id in a sealed value, if it is in memory. Never waits.
    pub fn cached_opening_key(&self, id: DekId) -> Option<Arc<DataKey>> {
        self.opening.get(&id)
    }

    /// The scope's index key that is meant by `newest`, if it is in memory. Never waits.
    pub fn cached_index_key(&self, scope: &ScopePath, newest: u64) -> Option<Arc<IndexKey>> {
        self.index.get(&(scope.clone(), newest))
    }

    /// The scope's active DEK, with uses left; made now if the scope has none, or if the one it has is used up.
    pub async fn sealing_key(&self, scope: &ScopePath) -> Result<Arc<DataKey>, KeyError> {
        // A key that another replica replaced meanwhile, and one that is used up, each cost a round.
        for _ in 0..4 {
            let load = || {
                let span = tracing::info_span!("key.load", to = "seal", scope = scope.as_str());
                self.load_sealing(scope).instrument(span)
            };
            let key = self
                .sealing
                .get_or_load(scope, load, |_| self.stale(scope))
                .await?;
            if self.lease(&key, Lease::Any).await? {
                return Ok(key);
            }
            self.replace(&key).await?;
        }
        Err(KeyError::Busy {
            scope: scope.to_string(),
        })
    }

    /// A DEK by the id in a sealed value, active or retired. Never makes one.
    pub async fn opening_key(&self, id: DekId) -> Result<Arc<DataKey>, KeyError> {
        let load = || {
            let span = tracing::info_span!("key.load", to = "open", key = id.0);
            self.load_opening(id).instrument(span)
        };
        self.opening
            .get_or_load(&id, load, |key| self.stale(key.scope()))
            .await
    }

    /// The scope's newest index key with an id up to `newest`, else its oldest; made now if the scope has none. Which key that
    /// is never changes: [`KeyTable::replace`] sees to it.
    pub async fn index_key(
        &self,
        scope: &ScopePath,
        newest: u64,
    ) -> Result<Arc<IndexKey>, KeyError> {
        let key = (scope.clone(), newest);
        let load = || {
            let span = tracing::info_span!("key.load", to = "search", scope = scope.as_str());
            self.load_index(scope, newest).instrument(span)
        };
        self.index
            .get_or_load(&key, load, |_| self.stale(scope))
            .await
    }

    /// How long past its time a scope's key may be used while its provider is away.
    fn stale(&self, scope: &ScopePath) -> Duration {
        match self.scopes.load().failure(scope) {
            Failure::Closed => Duration::ZERO,
            Failure::Open => self.stale_max,
        }
    }

    /// Lets go of all keys of a scope.
    pub fn forget(&self, scope: &str) {
        self.forget_all(|held| held.as_str() == scope);
    }

    fn forget_all(&self, which: impl Fn(&ScopePath) -> bool) {
        // What seals last: it may be taking a key from what opens just now, and learns that something was let go.
        self.opening.forget(|_, key| which(key.scope()));
        self.sealing.forget(|held, _| which(held));
        self.index.forget(|(held, _), _| which(held));
    }

    /// What a provider's answer means. One that just said no takes the keys of every scope under that KEK from memory: asked
    /// again, the provider says for each what holds.
    fn learn<T>(
        &self,
        answer: Answer<T>,
        kek: &KekRef,
        scope: &str,
        id: u64,
    ) -> Result<T, KeyError> {
        if answer.is_ok() && !self.denied.is_empty() && self.denied.remove(kek).is_some() {
            self.tell(Operation::ProviderRestore, Outcome::Done, kek);
        }
        self.notice(&kek.provider);
        answer.map_err(|(error, fresh)| {
            let error = KeyError::from_provider(&error, scope, id);
            if matches!(error, KeyError::Denied { .. }) && fresh == Fresh::Asked {
                let scopes = self.scopes.load();
                self.forget_all(|held| held.as_str() == scope || scopes.kek(held) == *kek);
                tracing::warn!(
                    provider = kek.provider,
                    kek = kek.kek,
                    %error,
                    "a provider denies a key encryption key: the scopes under it are sealed until it does not"
                );
                if self.denied.len() < MAX_ENTRIES && self.denied.insert(kek.clone(), ()).is_none() {
                    self.tell(Operation::ProviderDeny, Outcome::Refused, kek);
                }
            }
            error
        })
    }

    /// Whether statements that need this KEK were refused just now, as far as providers' last answers show; one that was not
    /// answered is enough.
    pub fn refuses(&self, kek: &KekRef) -> bool {
        let gate = self.gates.get(&kek.provider);
        gate.is_some_and(|gate| gate.refuses(&kek.kek))
    }

    /// Looks how a KEK is, through the gate: with a wrap and an unwrap in the context of a scope that uses it, or by asking
    /// its provider only.
    pub async fn look(
        &self,
        kek: &KekRef,
        scope: &ScopePath,
        round_trip: bool,
    ) -> Result<Probe, ProviderError> {
        let Some(gate) = self.gates.get(&kek.provider) else {
            let reason = "pgveil.toml does not have it";
            return Err(ProviderError::unavailable(&kek.provider, reason));
        };
        let span = tracing::info_span!(
            "kek.probe",
            provider = kek.provider,
            kek = kek.kek,
            round_trip
        );
        let found = if round_trip {
            let probed = probe(gate, &kek.provider, &kek.kek, scope.as_str());
            probed.instrument(span).await
        } else {
            let described = gate.describe(&kek.kek).instrument(span).await;
            described.map(Probe::of).map_err(|(error, _)| error)
        };
        self.notice(&kek.provider);
        if found.as_ref().is_ok_and(|found| found.latency.is_some())
            && self.denied.remove(kek).is_some()
        {
            self.tell(Operation::ProviderRestore, Outcome::Done, kek);
        }
        found
    }

    /// Records that a provider went away or came back, once.
    fn notice(&self, provider: &str) {
        let Some(turn) = self.gates.get(provider).and_then(Gate::turn) else {
            return;
        };
        let (operation, outcome, reason) = match turn {
            Turn::Away(reason) => (Operation::ProviderLose, Outcome::Failed, reason),
            Turn::Back => (Operation::ProviderRestore, Outcome::Done, String::new()),
        };
        let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
        tracing::warn!(provider, reason, "{operation}");
        let event = Event::new(operation)
            .outcome(outcome)
            .actor(Actor::pgveil())
            .detail(json!({ "provider": provider, "reason": reason }));
        self.record(event);
    }

    /// Records what a provider says of a KEK: when it begins, not each time.
    fn tell(&self, operation: Operation, outcome: Outcome, kek: &KekRef) {
        let event = Event::new(operation)
            .outcome(outcome)
            .actor(Actor::pgveil())
            .key(&kek.kek)
            .detail(json!({ "provider": kek.provider }));
        self.record(event);
    }

    /// The registry of columns, to be read or changed; the platform's provider may have to be asked for the key of its rows.
    pub async fn registry(&self) -> Result<Registry, KeystoreError> {
        let log = self.table.log().ok_or_else(no_log)?;
        Registry::open(log).await
    }

    /// The same without asking anybody; `None` if the key is not known yet.
    pub fn registry_now(&self) -> Option<Registry> {
        self.table.log().and_then(Registry::open_now)
    }

    /// Records what is no change of the keystore, without waiting for it.
    pub fn record(&self, event: Event) {
        let Some(log) = self.table.log().map(Arc::clone) else {
            return;
        };
        tokio::spawn(async move {
            if let Err(error) = log.note(event).await {
                tracing::error!(%error, "an event could not be recorded");
            }
        });
    }

    /// Lets go of all keys of scopes and of those below them: they were sealed or erased. Nor is kept what is being loaded now.
    pub fn forget_below(&self, scopes: &HashSet<ScopePath>) {
        self.forget_all(|held| held.chain().iter().any(|level| scopes.contains(level)));
    }

    /// Lets go of what has expired. The proxy calls it every few seconds, so that keys leave memory when nobody asks for them.
    pub fn sweep(&self) {
        self.sealing.sweep();
        self.opening.sweep();
        self.index.sweep();
        // Leases that nobody holds any more and of which nothing is left.
        self.usages
            .retain(|_, usage| Arc::strong_count(usage) > 1 || usage.has_lease());
        let now = self.clock.now();
        self.postponed.retain(|_, until| now < *until);
    }

    /// Lets go of every key.
    pub fn clear(&self) {
        self.sealing.clear();
        self.opening.clear();
        self.index.clear();
    }

    /// How many keys are held (those that no sweep has dropped yet included).
    pub fn held(&self) -> usize {
        self.sealing.len() + self.opening.len() + self.index.len()
    }

    async fn load_sealing(&self, scope: &ScopePath) -> Result<Loaded<DataKey>, KeyError> {
        let (expires, forgotten) = (self.opening.expiry(), self.opening.forgotten());
        let (record, made) = self.active(scope, Purpose::Data).await?;
        let id = DekId(record.id);
        let mine = |held: Loaded<DataKey>| {
            let is_mine = held.value.scope() == scope && !record.scope_sealed;
            is_mine.then(|| {
                held.value.usage.observe(record.uses);
                held
            })
        };
        // What opens seals too, for as long as it would have opened: one unwrap for a key and its time.
        if let Some(held) = self.opening.held(&id).and_then(mine) {
            return Ok(held);
        }
        let key = match made {
            Some(key) => key,
            None => match self.unwrap(&record).await {
                Err(error) if error.is_outage() => {
                    // The one that it replaced may not seal on in its place: who waits for its end knows of `cache.ttl` only.
                    self.sealing.let_go(scope, |held| held.id() != id);
                    return self.opening.stale(&id).and_then(mine).ok_or(error);
                }
                key => key?,
            },
        };
        let key = self.data_key(&record, scope.clone(), &key);
        let stale = self.stale(scope);
        let life = Life { expires, stale };
        self.opening
            .insert_unless_forgotten(key.id(), Arc::clone(&key), life, forgotten);
        Ok(key.into())
    }

    async fn load_opening(&self, id: DekId) -> Result<Arc<DataKey>, KeyError> {
        let record = { self.table.data_key(id.0).await? }.ok_or(KeyError::NotFound { id })?;
        self.open_record(&record).await
    }

    async fn open_record(&self, record: &KeyRecord) -> Result<Arc<DataKey>, KeyError> {
        let scope = ScopePath::parse(&record.scope).map_err(|error| KeyError::Damaged {
            id: record.id,
            reason: format!("its scope is no scope: {error}"),
        })?;
        let key = self.unwrap(record).await?;
        Ok(self.data_key(record, scope, &key))
    }

    async fn load_index(&self, scope: &ScopePath, newest: u64) -> Result<Arc<IndexKey>, KeyError> {
        let (record, made) = match self.table.index_key(scope.as_str(), newest).await? {
            Some(record) => (record, None),
            // Its first one, whatever its id is.
            None => self.make(scope, Purpose::Index, None).await?,
        };
        let is_its = record.scope == scope.as_str() && record.purpose == Purpose::Index;
        if !is_its || record.state == KeyState::Destroyed {
            return Err(other_key(record.id));
        }
        let key = match made {
            Some(key) => key,
            None => self.unwrap(&record).await?,
        };
        Ok(Arc::new(IndexKey::new(&key)))
    }

    fn data_key(&self, record: &KeyRecord, scope: ScopePath, key: &KeyBytes) -> Arc<DataKey> {
        let id = DekId(record.id);
        let rotation = self.scopes.load().effective(&scope).rotation;
        let left = rotation.dek_epoch.saturating_sub(record.age);
        let term = Term {
            max_usage: rotation.dek_max_usage,
            ends: self.clock.now().checked_add(left),
        };
        let usage = Arc::clone(
            &self
                .usages
                .entry(id)
                .or_insert_with(|| Arc::new(Usage::new(record.uses))),
        );
        usage.observe(record.uses);
        Arc::new(DataKey::new(id, scope, key, usage, term))
    }

    /// The scope's active key; made now if there is none, and then it is known already.
    async fn active(
        &self,
        scope: &ScopePath,
        purpose: Purpose,
    ) -> Result<(KeyRecord, Option<KeyBytes>), KeyError> {
        let (record, made) = match self.table.active(scope.as_str(), purpose).await? {
            Some(record) => (record, None),
            None => self.make(scope, purpose, None).await?,
        };
        if record.scope != scope.as_str()
            || record.purpose != purpose
            || record.state != KeyState::Active
        {
            return Err(other_key(record.id));
        }
        Ok((record, made))
    }

    async fn unwrap(&self, record: &KeyRecord) -> Result<KeyBytes, KeyError> {
        // First: an erased scope stays sealed, and no unsealing brings its keys back.
        if record.state == KeyState::Destroyed {
            return Err(KeyError::Destroyed { id: record.id });
        }
        if record.scope_sealed {
            return Err(KeyError::ScopeSealed {
                scope: record.scope.clone(),
            });
        }
        let gate = self.gate(record.id, &record.provider)?;
        let context = WrapContext {
            scope: record.scope.clone(),
            key_id: record.id,
            purpose: record.purpose.as_str(),
        };
        let kek = KekRef {
            provider: record.provider.clone(),
            kek: record.kek.clone(),
        };
        let answer = gate.unwrap(&kek.kek, &record.wrapped, &context).await;
        let payload = self.learn(answer, &kek, &record.scope, record.id)?;
        binding::key(&payload, &context).ok_or_else(|| KeyError::Damaged {
            id: record.id,
            reason: "it was wrapped for another key, scope or purpose".to_owned(),
        })
    }

    fn gate(&self, id: u64, name: &str) -> Result<&Gate, KeyError> {
        self.gates
            .get(name)
            .ok_or_else(|| KeyError::ProviderMissing {
                id,
                provider: name.to_owned(),
            })
    }
}

fn no_log() -> KeystoreError {
    KeystoreError::Unaudited {
        reason: "this table of keys has no audit log".to_owned(),
    }
}

fn other_key(id: u64) -> KeyError {
    KeyError::Damaged {
        id,
        reason: "it is not the key that was asked for".to_owned(),
    }
}

#[cfg(test)]
mod tests;
