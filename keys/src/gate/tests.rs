//! The gate over a provider that does as it is told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use pgveil_providers::KekInfo;

use super::*;
use crate::clock::ManualClock;

#[derive(Debug, Default)]
struct Told {
    asked: AtomicUsize,
    /// Whether nothing is answered on the way `here`.
    hangs: AtomicBool,
    fault: Mutex<Option<ProviderError>>,
}

impl Told {
    fn answer(&self) -> Result<(), ProviderError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.fault.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl KeyProvider for Told {
    fn kind(&self) -> &'static str {
        "told"
    }

    async fn wrap(&self, kek: &str, _: &[u8], _: &WrapContext) -> Result<Wrapped, ProviderError> {
        tokio::task::yield_now().await;
        if self.hangs.load(Ordering::SeqCst) && kek.starts_with("here:") {
            std::future::pending::<()>().await;
        }
        self.answer().map(|()| Wrapped {
            bytes: Vec::new(),
            kek_version: "1".to_owned(),
        })
    }

    async fn unwrap(
        &self,
        _: &str,
        _: &Wrapped,
        _: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        self.answer().map(|()| Zeroizing::default())
    }

    async fn describe(&self, _: &str) -> Result<KekInfo, ProviderError> {
        self.answer().map(|()| KekInfo::new("1", "AES"))
    }

    fn way<'k>(&self, kek: &'k str) -> &'k str {
        kek.split_once(':').map_or("", |(way, _)| way)
    }
}

struct World {
    provider: Arc<Told>,
    clock: Arc<ManualClock>,
    gate: Gate,
}

impl World {
    fn new() -> Self {
        let (provider, clock) = (Arc::new(Told::default()), Arc::new(ManualClock::new()));
        Self {
            gate: Gate::new("main", provider.clone(), clock.clone()),
            provider,
            clock,
        }
    }

    fn fail(&self, error: Option<ProviderError>) {
        *self.provider.fault.lock().unwrap() = error;
    }

    fn asked(&self) -> usize {
        self.provider.asked.load(Ordering::SeqCst)
    }

    async fn ask(&self, kek: &str) -> Answer<()> {
        self.gate.wrap(kek, b"", &context()).await.map(|_| ())
    }
}

fn context() -> WrapContext {
    WrapContext {
        scope: "platform".to_owned(),
        key_id: 1,
        purpose: "data",
    }
}

fn away() -> Option<ProviderError> {
    Some(ProviderError::Unavailable {
        provider: "main".to_owned(),
        reason: "no answer in time".to_owned(),
    })
}

fn no(kek: &str) -> Option<ProviderError> {
    Some(ProviderError::Denied {
        provider: "main".to_owned(),
        kek: kek.to_owned(),
        reason: "disabled".to_owned(),
    })
}

#[tokio::test]
async fn an_outage_is_answered_at_once_and_probed_by_one() {
    let world = World::new();
    world.fail(away());
    for _ in 0..FAILURES {
        assert_eq!(world.ask("a").await.unwrap_err().1, Fresh::Asked);
    }
    assert!(matches!(world.gate.state(), ProviderState::Away { .. }));
    let (error, fresh) = world.ask("b").await.unwrap_err();
    assert_eq!(fresh, Fresh::Remembered);
    assert!(error.to_string().contains("no answer in time"), "{error}");
    assert_eq!(world.asked(), FAILURES as usize);

    world.clock.advance(FIRST_PAUSE);
    let (one, two) = tokio::join!(world.ask("a"), world.ask("a"));
    assert!(one.is_err() && two.is_err());
    assert_eq!(world.asked(), FAILURES as usize + 1, "one of them probes");

    world.clock.advance(FIRST_PAUSE);
    world.ask("a").await.unwrap_err();
    assert_eq!(
        world.asked(),
        FAILURES as usize + 1,
        "the pause has doubled"
    );

    world.clock.advance(FIRST_PAUSE);
    world.fail(None);
    world.ask("a").await.unwrap();
    assert_eq!(world.gate.state(), ProviderState::Answers);
    world.ask("b").await.unwrap();
}

#[tokio::test]
async fn an_outage_on_one_way_stops_no_key_that_is_reached_on_another() {
    let world = World::new();
    world.fail(away());
    for _ in 0..FAILURES {
        world.ask("here:a").await.unwrap_err();
    }
    assert_eq!(world.ask("here:b").await.unwrap_err().1, Fresh::Remembered);
    world.fail(None);
    world.ask("there:a").await.unwrap();
    world.ask("c").await.unwrap();
    assert!(matches!(world.gate.state(), ProviderState::Away { .. }));
    assert_eq!(
        world.ask("here:b").await.unwrap_err().1,
        Fresh::Remembered,
        "another way's answer says nothing of this one"
    );
    world.clock.advance(FIRST_PAUSE);
    world.ask("here:b").await.unwrap();
    assert_eq!(world.gate.state(), ProviderState::Answers);
}

#[tokio::test]
async fn a_way_more_than_are_counted_is_open() {
    let world = World::new();
    world.fail(away());
    for way in 0..MAX_WAYS {
        for _ in 0..FAILURES {
            world.ask(&format!("{way}:a")).await.unwrap_err();
        }
    }
    world.ask("one more:a").await.unwrap_err();
    world.fail(None);
    world.ask("one more:a").await.unwrap();
    assert_eq!(world.ask("0:b").await.unwrap_err().1, Fresh::Remembered);
}

#[tokio::test]
async fn a_way_that_hangs_takes_nobodys_turn_on_another() {
    let world = World::new();
    world.provider.hangs.store(true, Ordering::SeqCst);
    let mut stuck: Vec<_> = { 0..AT_ONCE }
        .map(|_| Box::pin(world.ask("here:a")))
        .collect();
    for one in &mut stuck {
        assert!(futures_now(one).await.is_none());
    }
    let mut other = Box::pin(world.ask("there:a"));
    for _ in 0..AT_ONCE {
        if let Some(answer) = futures_now(&mut other).await {
            answer.unwrap();
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it waits for the way that hangs");
}

#[tokio::test]
async fn an_outage_and_its_end_are_told_once() {
    let world = World::new();
    assert_eq!(world.gate.turn(), None);
    world.fail(away());
    for _ in 0..FAILURES {
        assert_eq!(world.gate.turn(), None);
        world.ask("a").await.unwrap_err();
    }
    let told = Turn::Away("no answer in time".to_owned());
    assert_eq!((world.gate.turn(), world.gate.turn()), (Some(told), None));
    world.clock.advance(FIRST_PAUSE);
    world.ask("a").await.unwrap_err();
    assert_eq!(world.gate.turn(), None);
    // What describes may still not wrap.
    world.fail(None);
    world.clock.advance(LAST_PAUSE);
    world.gate.describe("a").await.unwrap();
    assert_eq!(world.gate.turn(), None);
    world.ask("a").await.unwrap();
    assert_eq!(
        (world.gate.turn(), world.gate.turn()),
        (Some(Turn::Back), None)
    );
}

#[tokio::test]
async fn who_looks_how_a_kek_is_goes_through_the_gate_and_is_not_counted() {
    let world = World::new();
    let probe = WrapContext {
        purpose: PROBE,
        ..context()
    };
    let look = || KeyProvider::wrap(&world.gate, "a", b"", &probe);
    look().await.unwrap();
    assert_eq!(world.gate.requests(), Requests::default());
    // It finds the outage for all others, and waits for its end as they do.
    world.fail(away());
    for _ in 0..FAILURES {
        look().await.unwrap_err();
    }
    let asked = world.asked();
    assert_eq!(world.ask("b").await.unwrap_err().1, Fresh::Remembered);
    look().await.unwrap_err();
    assert_eq!(world.asked(), asked);
    world.fail(None);
    world.clock.advance(FIRST_PAUSE);
    look().await.unwrap();
    world.ask("b").await.unwrap();
}

#[tokio::test]
async fn one_failure_is_no_outage() {
    let world = World::new();
    for _ in 0..FAILURES {
        world.fail(away());
        world.ask("a").await.unwrap_err();
        assert!(world.gate.refuses("a"), "nobody looks how the KEK is");
        world.fail(None);
        world.ask("a").await.unwrap();
        assert!(!world.gate.refuses("a"));
    }
    assert_eq!(world.gate.state(), ProviderState::Answers);
}

#[tokio::test]
async fn a_no_holds_for_its_kek_and_for_a_moment() {
    let world = World::new();
    world.fail(no("a"));
    assert_eq!(world.ask("a").await.unwrap_err().1, Fresh::Asked);
    world.fail(None);
    assert_eq!(world.ask("a").await.unwrap_err().1, Fresh::Remembered);
    assert!(world.gate.denied().into_iter().eq(["a".to_owned()]));
    world.ask("b").await.unwrap();
    let wrapped = Wrapped {
        bytes: Vec::new(),
        kek_version: "1".to_owned(),
    };
    let unwrapped = world.gate.unwrap("a", &wrapped, &context()).await;
    assert!(unwrapped.is_ok(), "what may not wrap may still unwrap");
    world.clock.advance(DENIED_FOR);
    world.ask("a").await.unwrap();
    assert!(world.gate.denied().is_empty());
}

#[tokio::test]
async fn a_probe_that_is_given_up_leaves_room_for_the_next() {
    let world = World::new();
    world.fail(away());
    for _ in 0..FAILURES {
        world.ask("a").await.unwrap_err();
    }
    world.clock.advance(FIRST_PAUSE);
    let before = world.asked();
    {
        let given_up = world.ask("a");
        tokio::pin!(given_up);
        // Polled once: it is under way.
        assert!(futures_now(&mut given_up).await.is_none());
    }
    world.fail(None);
    world.ask("a").await.unwrap();
    assert_eq!(world.asked(), before + 1);
}

/// What a future has to say when it is polled once.
async fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
