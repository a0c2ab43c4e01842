//! A bounded cache whose entries die after a time, with one load at a time per key. What it holds zeroizes itself.
//!
//! It does not keep failures: the next request after a failed load loads again. It does not refresh by itself. What may
//! outlive its time while nobody can be asked (failure policy `open`) is used again for a short while at a time.

use std::{
    fmt,
    future::Future,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use tokio::sync::OnceCell;

use crate::{KeyError, clock::Clock};

/// Unwrapped keys of one kind held at once: a hundred thousand tenants fit (docs/performance.md says what they take).
pub(crate) const MAX_ENTRIES: usize = 131_072;

/// How long what has outlived its time is used before the provider is asked again.
const STALE_STEP: Duration = Duration::from_secs(10);

/// A load under way and everyone who waits for it.
type Load<V> = Arc<OnceCell<Result<Arc<V>, KeyError>>>;

pub(crate) struct Cache<K, V> {
    entries: DashMap<K, Held<V>>,
    loads: DashMap<K, Load<V>>,
    ttl: Duration,
    max_entries: usize,
    clock: Arc<dyn Clock>,
    /// Times that something was used past its time.
    stale_uses: AtomicU64,
    /// Until when the last of these is used.
    stale_until: Mutex<Option<Instant>>,
    /// How often something was let go on demand: what was being loaded meanwhile may be of it, and is not held.
    forgotten: AtomicU64,
}

struct Held<V> {
    value: Arc<V>,
    expires: Instant,
    /// Until then it may be used if the provider cannot be asked.
    until: Instant,
}

/// How long a value may be held.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    /// Until then it is used without asking.
    pub(crate) expires: Instant,
    /// How much longer, if nobody can be asked.
    pub(crate) stale: Duration,
}

/// A value that was loaded.
pub(crate) struct Loaded<V> {
    pub(crate) value: Arc<V>,
    /// Of a value that was held elsewhere: it is held here no longer. Absent: its time begins now.
    life: Option<Life>,
}

impl<V> From<Arc<V>> for Loaded<V> {
    fn from(value: Arc<V>) -> Self {
        Self { value, life: None }
    }
}

impl<V> Held<V> {
    fn loaded(&self) -> Loaded<V> {
        let stale = self.until.saturating_duration_since(self.expires);
        let expires = self.expires;
        Loaded {
            value: Arc::clone(&self.value),
            life: Some(Life { expires, stale }),
        }
    }
}

impl<K: Eq + Hash, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    pub(crate) fn new(ttl: Duration, max_entries: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            entries: DashMap::new(),
            loads: DashMap::new(),
            ttl,
            max_entries,
            clock,
            stale_uses: AtomicU64::new(0),
            stale_until: Mutex::default(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// The value, if it is held and not expired. Never waits.
    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        let held = self.entries.get(key)?;
        (self.clock.now() < held.expires).then(|| Arc::clone(&held.value))
    }

    /// The same with its life: for another cache that is to hold it no longer.
    pub(crate) fn held(&self, key: &K) -> Option<Loaded<V>> {
        let held = self.entries.get(key)?;
        (self.clock.now() < held.expires).then(|| held.loaded())
    }

    /// The value, loaded if it is not held. Whoever asks while a load is under way gets that load's answer. `stale` says
    /// of a loaded value how long past its time it may be used if the provider cannot be asked.
    pub(crate) async fn get_or_load<F, L>(
        &self,
        key: &K,
        load: impl FnOnce() -> F,
        stale: impl FnOnce(&V) -> Duration,
    ) -> Result<Arc<V>, KeyError>
    where
        F: Future<Output = Result<L, KeyError>>,
        L: Into<Loaded<V>>,
    {
        if let Some(value) = self.get(key) {
            return Ok(value);
        }
        let shared: Load<V> = self.loads.entry(key.clone()).or_default().clone();
        // If the one that loads is cancelled (its client went away), the next one that waits loads in its place.
        let answer = shared
            .get_or_init(|| self.load(key, load, stale))
            .await
            .clone();
        self.loads
            .remove_if(key, |_, current| Arc::ptr_eq(current, &shared));
        answer
    }

    async fn load<F, L>(
        &self,
        key: &K,
        load: impl FnOnce() -> F,
        stale: impl FnOnce(&V) -> Duration,
    ) -> Result<Arc<V>, KeyError>
    where
        F: Future<Output = Result<L, KeyError>>,
        L: Into<Loaded<V>>,
    {
        // A load that ended between the caller's look and its turn.
        if let Some(value) = self.get(key) {
            return Ok(value);
        }
        // From before the provider was asked: a key revoked meanwhile is gone within one TTL.
        let expires = self.clock.now() + self.ttl;
        let forgotten = self.forgotten();
        match load().await.map(Into::into) {
            Ok(Loaded { value, life }) => {
                let life = life.unwrap_or_else(|| Life {
                    expires,
                    stale: stale(&value),
                });
                self.insert_unless_forgotten(key.clone(), Arc::clone(&value), life, forgotten);
                Ok(value)
            }
            Err(error) if error.is_outage() => {
                let held = self.stale(key).map(|held| held.value);
                held.ok_or(error)
            }
            Err(error) => {
                // The keystore away says nothing of the key.
                if !error.is_transient() {
                    self.entries.remove(key);
                }
                Err(error)
            }
        }
    }

    /// What has outlived its time, if it may be used a little longer.
    pub(crate) fn stale(&self, key: &K) -> Option<Loaded<V>> {
        let now = self.clock.now();
        let mut held = self.entries.get_mut(key)?;
        if now >= held.until {
            return None;
        }
        held.expires = held.until.min(now + STALE_STEP);
        self.stale_uses.fetch_add(1, Ordering::Relaxed);
        *self.stale_until() = Some(held.expires);
        Some(held.loaded())
    }

    fn stale_until(&self) -> MutexGuard<'_, Option<Instant>> {
        let until = self.stale_until.lock();
        until.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something is used past its time just now.
    pub(crate) fn is_stale(&self) -> bool {
        let now = self.clock.now();
        self.stale_until().is_some_and(|until| now < until)
    }

    /// How often something was let go on demand: for [`Cache::insert_unless_forgotten`], read before loading.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    /// [`Cache::insert`], unless something was let go on demand since.
    pub(crate) fn insert_unless_forgotten(&self, key: K, value: Arc<V>, life: Life, since: u64) {
        self.insert(key.clone(), value, life);
        // After it is in: whoever lets go from now on finds it.
        if self.forgotten() != since {
            self.entries.remove(&key);
        }
    }

    /// Holds a value for its life, or less if there is no room. A value that is held longer stays.
    pub(crate) fn insert(&self, key: K, value: Arc<V>, life: Life) {
        let Life { expires, stale } = life;
        let held = Held {
            value,
            expires,
            until: expires + stale,
        };
        if self.entries.len() >= self.max_entries {
            self.make_room();
        }
        match self.entries.entry(key) {
            Entry::Occupied(there) if there.get().expires > expires => {}
            Entry::Occupied(mut there) => {
                there.insert(held);
            }
            Entry::Vacant(room) => {
                room.insert(held);
            }
        }
    }

    /// Lets go of everything that may not be used any more, whatever happens.
    pub(crate) fn sweep(&self) {
        let now = self.clock.now();
        self.entries.retain(|_, held| now < held.until);
        // Loads that were cancelled and that nobody waits for.
        self.loads.retain(|_, load| Arc::strong_count(load) > 1);
    }

    /// What is held and not expired.
    pub(crate) fn values(&self) -> Vec<Arc<V>> {
        let now = self.clock.now();
        let held = self.entries.iter().filter(|held| now < held.expires);
        held.map(|held| Arc::clone(&held.value)).collect()
    }

    /// Lets go of what this says.
    pub(crate) fn forget(&self, which: impl Fn(&K, &V) -> bool) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.entries.retain(|key, held| !which(key, &held.value));
    }

    /// Lets go of one value, if this says so.
    pub(crate) fn let_go(&self, key: &K, which: impl FnOnce(&V) -> bool) {
        self.entries.remove_if(key, |_, held| which(&held.value));
    }

    /// Lets go of everything.
    pub(crate) fn clear(&self) {
        self.entries.clear();
    }

    /// Times that something was used past its time because nobody could be asked; each time serves some seconds.
    pub(crate) fn stale_uses(&self) -> u64 {
        self.stale_uses.load(Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The expiry that an entry loaded now would have.
    pub(crate) fn expiry(&self) -> Instant {
        self.clock.now() + self.ttl
    }

    /// Drops what is expired; if that is not enough, the sixteenth part that expires first, so that a full cache
    /// pays for this pass once in many inserts.
    fn make_room(&self) {
        self.sweep();
        if self.entries.len() < self.max_entries {
            return;
        }
        let mut expiries: Vec<Instant> = self.entries.iter().map(|held| held.expires).collect();
        let nth = self.max_entries / 16;
        if nth >= expiries.len() {
            return;
        }
        let (_, &mut last, _) = expiries.select_nth_unstable(nth);
        let mut to_drop = nth + 1;
        self.entries.retain(|_, held| {
            let drop = to_drop > 0 && held.expires <= last;
            to_drop -= usize::from(drop);
            !drop
        });
    }
}

#[cfg(test)]
mod tests;
