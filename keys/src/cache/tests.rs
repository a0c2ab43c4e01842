//! The cache: lifetimes, one load at a time, limits.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{DekId, clock::ManualClock};

const TTL: Duration = Duration::from_mins(5);

fn cache(max_entries: usize) -> (Cache<u64, u64>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    (Cache::new(TTL, max_entries, clock.clone()), clock)
}

/// Nothing outlives its time.
fn fresh(_: &u64) -> Duration {
    Duration::ZERO
}

async fn load(cache: &Cache<u64, u64>, key: u64) -> Arc<u64> {
    cache
        .get_or_load(&key, || async move { Ok(Arc::new(key)) }, fresh)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_entry_lives_exactly_its_time() {
    let (cache, clock) = cache(8);
    load(&cache, 1).await;
    clock.advance(Duration::from_millis(299_999));
    assert!(cache.get(&1).is_some());
    clock.advance(Duration::from_millis(1));
    assert!(cache.get(&1).is_none());
}

#[tokio::test]
async fn reading_does_not_prolong_a_life() {
    let (cache, clock) = cache(8);
    load(&cache, 1).await;
    for _ in 0..3 {
        clock.advance(TTL / 3);
        load(&cache, 2).await;
        let _ = cache.get(&1);
    }
    assert!(cache.get(&1).is_none());
}

#[tokio::test]
async fn time_spent_loading_counts() {
    let (cache, clock) = cache(8);
    let slow = cache.get_or_load(
        &1,
        || async {
            clock.advance(TTL);
            Ok(Arc::new(1))
        },
        fresh,
    );
    assert_eq!(*slow.await.unwrap(), 1, "who asked gets it");
    assert!(
        cache.get(&1).is_none(),
        "but it is not kept beyond its time"
    );
}

#[tokio::test]
async fn a_sweep_drops_what_is_expired() {
    let (cache, clock) = cache(8);
    let value = load(&cache, 1).await;
    clock.advance(TTL / 2);
    load(&cache, 2).await;
    clock.advance(TTL / 2);
    cache.sweep();
    assert_eq!(cache.len(), 1);
    assert_eq!(Arc::strong_count(&value), 1, "the cache holds it no more");
}

#[tokio::test]
async fn many_who_miss_make_one_load() {
    let (cache, _) = cache(8);
    let loads = AtomicUsize::new(0);
    let one = || {
        cache.get_or_load(
            &1,
            || async {
                loads.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok(Arc::new(1))
            },
            fresh,
        )
    };
    let (a, b, c) = tokio::join!(one(), one(), one());
    assert!(Arc::ptr_eq(&a.unwrap(), &b.unwrap()) && c.is_ok());
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert!(cache.loads.is_empty());
}

#[tokio::test]
async fn a_failure_is_shared_and_not_kept() {
    let (cache, _) = cache(8);
    let loads = AtomicUsize::new(0);
    let fails = || {
        cache.get_or_load(
            &1,
            || async {
                loads.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Err::<Arc<u64>, _>(KeyError::NotFound { id: DekId(1) })
            },
            fresh,
        )
    };
    let (a, b) = tokio::join!(fails(), fails());
    assert!(a.is_err() && b.is_err());
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    load(&cache, 1).await;
}

#[tokio::test]
async fn who_waits_takes_over_a_cancelled_load() {
    let (cache, _) = cache(8);
    let stuck = cache.get_or_load(
        &1,
        std::future::pending::<Result<Arc<u64>, KeyError>>,
        fresh,
    );
    let waits = cache.get_or_load(&1, || async { Ok(Arc::new(2_u64)) }, fresh);
    tokio::pin!(waits);
    {
        tokio::pin!(stuck);
        tokio::select! { biased; _ = &mut stuck => unreachable!(), _ = &mut waits => unreachable!(), () = tokio::task::yield_now() => {} }
    }
    assert_eq!(*waits.await.unwrap(), 2);
}

#[tokio::test]
async fn a_cancelled_load_leaves_nothing_after_a_sweep() {
    let (cache, _) = cache(8);
    {
        let stuck = cache.get_or_load(
            &1,
            std::future::pending::<Result<Arc<u64>, KeyError>>,
            fresh,
        );
        tokio::select! { biased; _ = stuck => unreachable!(), () = tokio::task::yield_now() => {} }
    }
    cache.sweep();
    assert!(cache.loads.is_empty());
}

#[tokio::test]
async fn a_full_cache_drops_what_expires_first() {
    let (cache, clock) = cache(32);
    for key in 0..32 {
        load(&cache, key).await;
        clock.advance(Duration::from_secs(1));
    }
    load(&cache, 32).await;
    assert!(cache.get(&0).is_none() && cache.get(&31).is_some() && cache.get(&32).is_some());
    assert!(cache.len() <= 32);
}

#[tokio::test]
async fn a_burst_never_exceeds_the_limit_nor_empties_the_cache() {
    let (cache, _) = cache(32);
    for key in 0..1000 {
        load(&cache, key).await;
        assert!(cache.len() <= 32);
    }
    assert!(cache.len() >= 28, "{}", cache.len());
}

#[tokio::test]
async fn a_value_with_less_time_left_does_not_take_a_fresh_ones_place() {
    let (cache, clock) = cache(8);
    let early = cache.expiry();
    clock.advance(Duration::from_secs(1));
    load(&cache, 1).await;
    cache.insert(
        1,
        Arc::new(99),
        Life {
            expires: early,
            stale: Duration::ZERO,
        },
    );
    assert_eq!(*cache.get(&1).unwrap(), 1);
}

/// A load that ends like this; what was loaded may outlive its time by an hour.
async fn ask(cache: &Cache<u64, u64>, answer: Result<u64, KeyError>) -> Result<u64, KeyError> {
    let hour = |_: &u64| Duration::from_hours(1);
    let loaded = cache.get_or_load(&1, || async { answer.map(Arc::new) }, hour);
    loaded.await.map(|value| *value)
}

fn outage() -> KeyError {
    KeyError::Unavailable {
        scope: "platform".to_owned(),
        reason: "no answer".to_owned(),
    }
}

#[tokio::test]
async fn what_may_outlives_its_time_while_nobody_answers() {
    let (cache, clock) = cache(8);
    ask(&cache, Ok(7)).await.unwrap();
    clock.advance(TTL);
    cache.sweep();
    assert!(cache.get(&1).is_none(), "it is asked for anew first");
    assert_eq!(ask(&cache, Err(outage())).await, Ok(7));
    assert!(cache.get(&1).is_some(), "for a moment nobody is asked");
    clock.advance(STALE_STEP);
    assert!(cache.get(&1).is_none());
    // An answer counts at once.
    assert_eq!(ask(&cache, Ok(8)).await, Ok(8));
    // Five seconds before the last moment.
    clock.advance(TTL + Duration::from_secs(3595));
    assert_eq!(ask(&cache, Err(outage())).await, Ok(8));
    clock.advance(Duration::from_secs(5));
    assert!(cache.get(&1).is_none(), "never longer than it may");
    assert_eq!(ask(&cache, Err(outage())).await, Err(outage()));
    cache.sweep();
    assert_eq!(cache.len(), 0);
}

#[tokio::test]
async fn what_was_denied_does_not_outlive_its_time() {
    let (cache, clock) = cache(8);
    ask(&cache, Ok(7)).await.unwrap();
    clock.advance(TTL);
    let denied = KeyError::Denied {
        scope: "platform".to_owned(),
        reason: "disabled".to_owned(),
    };
    assert!(ask(&cache, Err(denied)).await.is_err());
    assert!(ask(&cache, Err(outage())).await.is_err());
}
