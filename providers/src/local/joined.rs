//! A [`KekStore`] of which many callers ask the same at once: they share one question, if it is put after the last of them came.
//! So nobody is answered by what was read before they asked: this is no cache, and what a replica disables is not used any more.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;

use super::{KekStore, KekStoreError, KeyChange, RootCheck, StoredKey};

/// Keys, and versions of keys, that are asked for at once. For more, everybody asks for themselves.
const MAX_PLACES: usize = 1024;

/// A store whose readers ask together.
#[derive(Debug)]
pub(super) struct Joined {
    store: Arc<dyn KekStore>,
    keys: Places<(String, String), Option<StoredKey>>,
    material: Places<(String, String, u32), Option<Vec<u8>>>,
}

impl Joined {
    pub(super) fn new(store: Arc<dyn KekStore>) -> Self {
        Self {
            store,
            keys: Places::default(),
            material: Places::default(),
        }
    }
}

#[async_trait]
impl KekStore for Joined {
    async fn root_check(&self, provider: &str) -> Result<Option<RootCheck>, KekStoreError> {
        self.store.root_check(provider).await
    }

    async fn adopt_root(
        &self,
        provider: &str,
        check: &RootCheck,
    ) -> Result<RootCheck, KekStoreError> {
        self.store.adopt_root(provider, check).await
    }

    async fn now(&self) -> Result<u64, KekStoreError> {
        self.store.now().await
    }

    async fn key(&self, provider: &str, name: &str) -> Result<Option<StoredKey>, KekStoreError> {
        let ask = || self.store.key(provider, name);
        let key = (provider.to_owned(), name.to_owned());
        self.keys.ask(key, ask).await
    }

    async fn keys(
        &self,
        provider: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<StoredKey>, KekStoreError> {
        self.store.keys(provider, after, limit).await
    }

    async fn due(
        &self,
        provider: &str,
        now: u64,
        limit: u32,
    ) -> Result<Vec<String>, KekStoreError> {
        self.store.due(provider, now, limit).await
    }

    async fn material(
        &self,
        provider: &str,
        name: &str,
        version: u32,
    ) -> Result<Option<Vec<u8>>, KekStoreError> {
        let ask = || self.store.material(provider, name, version);
        let key = (provider.to_owned(), name.to_owned(), version);
        self.material.ask(key, ask).await
    }

    async fn change(&self, change: &KeyChange) -> Result<bool, KekStoreError> {
        self.store.change(change).await
    }
}

/// What is being asked, by what it is about.
struct Places<K, T>(Mutex<HashMap<K, Arc<Place<T>>>>);

/// One question that is put again and again.
struct Place<T> {
    /// How often it was put.
    put: AtomicU64,
    /// The last answer, and which time that was. Held while it is put: whoever comes meanwhile waits for the next time.
    last: tokio::sync::Mutex<Option<(u64, Result<T, KekStoreError>)>>,
}

impl<K: std::hash::Hash + Eq, T: Clone> Places<K, T> {
    /// The answer to a question that was put after this was called.
    async fn ask<F>(&self, about: K, ask: impl FnOnce() -> F) -> Result<T, KekStoreError>
    where
        F: Future<Output = Result<T, KekStoreError>>,
    {
        let Some(place) = self.place(about) else {
            return ask().await;
        };
        let before = place.put.load(Ordering::SeqCst);
        let mut last = place.last.lock().await;
        if let Some((time, answer)) = &*last
            && *time > before
        {
            return answer.clone();
        }
        let time = 1 + place.put.fetch_add(1, Ordering::SeqCst);
        let answer = ask().await;
        *last = Some((time, answer.clone()));
        answer
    }

    fn place(&self, about: K) -> Option<Arc<Place<T>>> {
        let mut places = self.lock();
        if !places.contains_key(&about) && places.len() >= MAX_PLACES {
            // Those that nobody waits at.
            places.retain(|_, place| Arc::strong_count(place) > 1);
        }
        if let Some(place) = places.get(&about) {
            return Some(Arc::clone(place));
        }
        if places.len() >= MAX_PLACES {
            return None;
        }
        let place = Arc::new(Place {
            put: AtomicU64::new(0),
            last: tokio::sync::Mutex::new(None),
        });
        places.insert(about, Arc::clone(&place));
        Some(place)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Place<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, T> Default for Places<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K, T> fmt::Debug for Places<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// Answers how often it was asked, when it is let.
    struct Slow {
        asked: AtomicU64,
        may: Semaphore,
    }

    impl Slow {
        async fn ask(&self) -> Result<u64, KekStoreError> {
            let asked = 1 + self.asked.fetch_add(1, Ordering::SeqCst);
            self.may.acquire().await.unwrap().forget();
            Ok(asked)
        }
    }

    #[tokio::test]
    async fn who_comes_while_it_is_asked_shares_the_next_answer_and_never_the_one_under_way() {
        let places = Arc::new(Places::<u8, u64>::default());
        let slow = Arc::new(Slow {
            asked: AtomicU64::new(0),
            may: Semaphore::new(0),
        });
        let begin = || {
            let (places, slow) = (Arc::clone(&places), Arc::clone(&slow));
            tokio::spawn(async move { places.ask(7, || slow.ask()).await })
        };
        let first = begin();
        while slow.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let later: Vec<_> = (0..20).map(|_| begin()).collect();
        // Each is at the place: the map, the first and itself hold it.
        while Arc::strong_count(&places.place(7).unwrap()) < 23 {
            tokio::task::yield_now().await;
        }
        slow.may.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(1));
        for answer in later {
            assert_eq!(answer.await.unwrap(), Ok(2));
        }
        slow.may.add_permits(1);
        assert_eq!(begin().await.unwrap(), Ok(3));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_keeps_nobody_from_asking() {
        let places = Places::<u8, u64>::default();
        let slow = Slow {
            asked: AtomicU64::new(0),
            may: Semaphore::new(0),
        };
        tokio::select! {
            biased;
            _ = places.ask(7, || slow.ask()) => panic!("it may not answer yet"),
            () = tokio::task::yield_now() => {}
        }
        slow.may.add_permits(1);
        assert_eq!(places.ask(7, || slow.ask()).await, Ok(2));
    }

    #[tokio::test]
    async fn there_is_an_end_to_how_much_is_remembered() {
        let places = Places::<usize, u64>::default();
        for about in 0..3 * MAX_PLACES {
            assert_eq!(places.ask(about, async || Ok(1)).await, Ok(1));
            assert!(places.lock().len() <= MAX_PLACES);
        }
    }
}
