//! What stands between pgveil and a provider: an outage is noticed once and then answered at once, a "no" is remembered for
//! a moment, and not everybody asks at the same time. It decides nothing about keys.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use pgveil_providers::{
    ENTROPY_BYTES, KekInfo, KeyProvider, ProviderError, Rotation, WrapContext, Wrapped, jitter,
};
use tokio::sync::Semaphore;
use tracing::{
    Instrument,
    field::{Empty, display},
};
use zeroize::Zeroizing;

use crate::clock::Clock;

/// So many failures in a row are an outage.
const FAILURES: u32 = 3;
/// The first pause of an outage; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// How long a "no" is taken for the answer. A scope whose KEK is given back opens within this time.
const DENIED_FOR: Duration = Duration::from_secs(5);
/// Requests under way on one way to a provider. KMS limit rates; whoever comes later waits for his turn.
const AT_ONCE: usize = 64;
/// The purpose of what only shows whether a KEK works.
const PROBE: &str = "probe";
/// KEKs whose "no" is remembered: beyond these it is asked again.
const MAX_DENIED: usize = 4096;
/// Ways to one provider whose failures are counted, each for itself; whoever goes on one beyond these is let through, since
/// to share a count would close a way on which nothing failed.
const MAX_WAYS: usize = 4096;

/// A provider behind its gate.
#[derive(Debug)]
pub(crate) struct Gate {
    name: String,
    provider: Arc<dyn KeyProvider>,
    clock: Arc<dyn Clock>,
    /// By way, so that one that hangs takes nobody's turn on another.
    permits: Mutex<HashMap<String, Arc<Semaphore>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By [`KeyProvider::way`]: those on which the last request failed, at most [`MAX_WAYS`].
    ways: HashMap<String, Way>,
    /// By what was asked for: a KEK that may not wrap may still unwrap.
    denied: HashMap<(Verb, String), Denial>,
    requests: Requests,
    /// Whether the outage was told of, as far as [`Gate::turn`] knows.
    told: bool,
}

/// Requests that a provider answered, or that failed on the way; what the gate answered by itself is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Keys to be wrapped.
    pub wrap: u64,
    /// Keys to be unwrapped.
    pub unwrap: u64,
    /// Of both, those that were not done.
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Verb {
    Wrap,
    Unwrap,
    /// To be asked how a KEK is shows that a provider is away, and not that it is back: it may describe and not wrap.
    Describe,
    /// The same as the first two, to see whether they work: not counted among the requests.
    ProbeWrap,
    ProbeUnwrap,
}

impl Verb {
    /// As spans name it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Wrap | Self::ProbeWrap => "wrap",
            Self::Unwrap | Self::ProbeUnwrap => "unwrap",
            Self::Describe => "describe",
        }
    }

    fn wrap(context: &WrapContext) -> Self {
        if context.purpose == PROBE {
            Self::ProbeWrap
        } else {
            Self::Wrap
        }
    }

    fn unwrap(context: &WrapContext) -> Self {
        if context.purpose == PROBE {
            Self::ProbeUnwrap
        } else {
            Self::Unwrap
        }
    }
}

/// A provider went away, or came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// With its last error.
    Away(String),
    Back,
}

/// A way to the provider that does not lead there just now.
#[derive(Clone, Debug, Default)]
struct Way {
    /// Without a success in between.
    failures: u32,
    outage: Option<Outage>,
}

impl State {
    /// What is known of one of the ways that are out.
    fn outage(&self) -> Option<&Outage> {
        self.ways.values().find_map(|way| way.outage.as_ref())
    }
}

#[derive(Clone, Debug)]
struct Outage {
    /// Until then nobody asks.
    until: Instant,
    pause: Duration,
    reason: String,
    /// Somebody is asking whether it is over.
    probing: bool,
}

#[derive(Clone, Debug)]
struct Denial {
    until: Instant,
    error: ProviderError,
}

/// How a provider is doing, as its last answers show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderState {
    /// It answers.
    Answers,
    /// It does not.
    Away {
        /// Its last error.
        reason: String,
    },
}

/// An answer, and whether the provider itself gave it just now.
pub(crate) type Answer<T> = Result<T, (ProviderError, Fresh)>;

/// Whether the provider was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fresh {
    /// It said so just now.
    Asked,
    /// It said so a moment ago.
    Remembered,
}

impl Gate {
    pub(crate) fn new(name: &str, provider: Arc<dyn KeyProvider>, clock: Arc<dyn Clock>) -> Self {
        Self {
            name: name.to_owned(),
            provider,
            clock,
            permits: Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// [`KeyProvider::wrap`], if the gate is open.
    pub(crate) async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Answer<Wrapped> {
        let request = self.provider.wrap(kek, plaintext, context);
        self.pass((Verb::wrap(context), kek), request).await
    }

    /// [`KeyProvider::rewrap`] within one KEK, if the gate is open.
    pub(crate) async fn rewrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Answer<Wrapped> {
        let request = self.provider.rewrap(kek, wrapped, kek, context);
        self.pass((Verb::Wrap, kek), request).await
    }

    /// [`KeyProvider::unwrap`], if the gate is open.
    pub(crate) async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Answer<Zeroizing<Vec<u8>>> {
        let request = self.provider.unwrap(kek, wrapped, context);
        self.pass((Verb::unwrap(context), kek), request).await
    }

    /// [`KeyProvider::describe`], if the gate is open.
    pub(crate) async fn describe(&self, kek: &str) -> Answer<KekInfo> {
        let request = self.provider.describe(kek);
        self.pass((Verb::Describe, kek), request).await
    }

    /// Whether the provider went away or came back since this was asked last.
    pub(crate) fn turn(&self) -> Option<Turn> {
        let mut state = self.lock();
        let away = state.outage().map(|outage| outage.reason.clone());
        if away.is_some() == state.told {
            return None;
        }
        state.told = away.is_some();
        Some(away.map_or(Turn::Back, Turn::Away))
    }

    /// [`KeyProvider::entropy`], where there is any and the provider is not away. A failure is none of the key's: not to
    /// be allowed to ask for random bytes is no reason to seal a scope.
    pub(crate) async fn entropy(
        &self,
        kek: &str,
        context: &WrapContext,
    ) -> Option<Zeroizing<[u8; ENTROPY_BYTES]>> {
        if self.is_out(kek) {
            return None;
        }
        let _permit = self.permits(kek).acquire_owned().await.ok()?;
        let answer = self.provider.entropy(kek, context).await;
        answer.unwrap_or_else(|error| {
            tracing::debug!(%error, "a provider gave no random bytes for a new key");
            None
        })
    }

    fn is_out(&self, kek: &str) -> bool {
        let state = self.lock();
        let way = state.ways.get(self.provider.way(kek));
        way.is_some_and(|way| way.outage.is_some())
    }

    /// How the provider is doing; one of the ways to it that is out is told.
    pub(crate) fn state(&self) -> ProviderState {
        match self.lock().outage() {
            Some(outage) => ProviderState::Away {
                reason: outage.reason.clone(),
            },
            None => ProviderState::Answers,
        }
    }

    /// Whether what needs this KEK was refused just now: the provider denied it a moment ago, or did not answer the last that
    /// was asked.
    pub(crate) fn refuses(&self, kek: &str) -> bool {
        let now = self.clock.now();
        let denied = |state: &State, verb| {
            let denial = state.denied.get(&(verb, kek.to_owned()));
            denial.is_some_and(|denial| now < denial.until)
        };
        let state = self.lock();
        state.ways.contains_key(self.provider.way(kek))
            || !state.denied.is_empty()
                && (denied(&state, Verb::Wrap) || denied(&state, Verb::Unwrap))
    }

    /// How often it was asked since the start.
    pub(crate) fn requests(&self) -> Requests {
        self.lock().requests
    }

    /// KEKs that the provider denied a moment ago.
    pub(crate) fn denied(&self) -> BTreeSet<String> {
        let now = self.clock.now();
        let state = self.lock();
        let denied = state.denied.iter().filter(|(_, denial)| now < denial.until);
        denied.map(|((_, kek), _)| kek.clone()).collect()
    }

    async fn pass<T>(
        &self,
        (verb, kek): (Verb, &str),
        request: impl Future<Output = Result<T, ProviderError>>,
    ) -> Answer<T> {
        let span = tracing::info_span!(
            "provider.request",
            otel.kind = "client",
            provider = self.name,
            kek,
            operation = verb.as_str(),
            error = Empty,
        );
        let answer = self.asked((verb, kek), request).instrument(span.clone());
        let answer = answer.await;
        if let Err((error, _)) = &answer {
            span.record("error", display(error));
        }
        answer
    }

    async fn asked<T>(
        &self,
        asked: (Verb, &str),
        request: impl Future<Output = Result<T, ProviderError>>,
    ) -> Answer<T> {
        let probe = self.enter(asked)?;
        let permit = self.permits(asked.1).acquire_owned().await;
        let permit = permit.expect("it is never closed");
        // While it waited for its turn, the others may have learnt that nobody is there.
        let probe = match probe {
            Some(probe) => Some(probe),
            None => self.enter(asked)?,
        };
        let answer = request.await;
        drop(permit);
        let answer = self.learn(asked, answer);
        drop(probe);
        answer
    }

    fn permits(&self, kek: &str) -> Arc<Semaphore> {
        let mut permits = self.permits.lock().expect("no holder of this lock panics");
        let way = self.provider.way(kek);
        if let Some(known) = permits.get(way) {
            return Arc::clone(known);
        }
        let way = if permits.len() < MAX_WAYS { way } else { "" };
        let new = || Arc::new(Semaphore::new(AT_ONCE));
        Arc::clone(permits.entry(way.to_owned()).or_insert_with(new))
    }

    /// Lets a request through, or says what is known already. The one that finds out whether an outage is over holds
    /// a [`Probe`].
    fn enter(
        &self,
        (verb, kek): (Verb, &str),
    ) -> Result<Option<Probe<'_>>, (ProviderError, Fresh)> {
        let now = self.clock.now();
        let mut state = self.lock();
        // The usual case asks for no copy of the name.
        if !state.denied.is_empty() {
            let asked = (verb, kek.to_owned());
            if let Some(denial) = state.denied.get(&asked) {
                if now < denial.until {
                    return Err((denial.error.clone(), Fresh::Remembered));
                }
                state.denied.remove(&asked);
            }
        }
        if state.ways.is_empty() {
            return Ok(None);
        }
        let way = self.provider.way(kek);
        let found = state.ways.get_mut(way);
        let Some(outage) = found.and_then(|way| way.outage.as_mut()) else {
            return Ok(None);
        };
        if now < outage.until || outage.probing {
            let error = ProviderError::Unavailable {
                provider: self.name.clone(),
                reason: format!("{} (it is asked again within seconds)", outage.reason),
            };
            return Err((error, Fresh::Remembered));
        }
        outage.probing = true;
        Ok(Some(Probe {
            gate: self,
            way: way.to_owned(),
        }))
    }

    fn learn<T>(&self, (verb, kek): (Verb, &str), answer: Result<T, ProviderError>) -> Answer<T> {
        let now = self.clock.now();
        let mut state = self.lock();
        match verb {
            Verb::Wrap => state.requests.wrap += 1,
            Verb::Unwrap => state.requests.unwrap += 1,
            Verb::Describe | Verb::ProbeWrap | Verb::ProbeUnwrap => {}
        }
        if matches!(verb, Verb::Wrap | Verb::Unwrap) {
            state.requests.failed += u64::from(answer.is_err());
        }
        let way = self.provider.way(kek);
        match &answer {
            Err(ProviderError::Unavailable { reason, .. })
                if state.ways.len() < MAX_WAYS || state.ways.contains_key(way) =>
            {
                let state = state.ways.entry(way.to_owned()).or_default();
                state.failures = state.failures.saturating_add(1);
                let before = state.outage.as_ref();
                if before.is_some_and(|outage| outage.probing) || state.failures >= FAILURES {
                    let pause = before.map_or(FIRST_PAUSE, |outage| {
                        // Those that were under way when it began make it no longer.
                        if outage.probing {
                            (outage.pause * 2).min(LAST_PAUSE)
                        } else {
                            outage.pause
                        }
                    });
                    state.outage = Some(Outage {
                        // Replicas do not come back all at once.
                        until: now + pause * 3 / 4 + jitter(pause / 4),
                        pause,
                        reason: reason.clone(),
                        probing: false,
                    });
                }
            }
            Err(error @ ProviderError::Denied { .. }) => {
                if verb != Verb::Describe {
                    state.ways.remove(way);
                }
                if state.denied.len() >= MAX_DENIED {
                    state.denied.retain(|_, denial| now < denial.until);
                }
                if state.denied.len() < MAX_DENIED {
                    let denial = Denial {
                        until: now + DENIED_FOR,
                        error: error.clone(),
                    };
                    state.denied.insert((verb, kek.to_owned()), denial);
                }
            }
            Err(ProviderError::Unavailable { .. }) => {}
            Ok(_) | Err(_) if verb == Verb::Describe => {}
            Ok(_) | Err(ProviderError::NotMine { .. } | ProviderError::Damaged { .. }) => {
                state.ways.remove(way);
            }
        }
        answer.map_err(|error| (error, Fresh::Asked))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

/// A provider as it is behind its gate: for whoever looks how its KEKs are. It keeps nobody else's key.
#[async_trait]
impl KeyProvider for Gate {
    fn kind(&self) -> &'static str {
        self.provider.kind()
    }

    async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        let answer = Self::wrap(self, kek, plaintext, context).await;
        answer.map_err(|(error, _)| error)
    }

    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let answer = Self::unwrap(self, kek, wrapped, context).await;
        answer.map_err(|(error, _)| error)
    }

    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
        Self::describe(self, kek).await.map_err(|(error, _)| error)
    }

    async fn rotation(&self, kek: &str) -> Result<Option<Rotation>, ProviderError> {
        self.provider.rotation(kek).await
    }

    fn way<'k>(&self, kek: &'k str) -> &'k str {
        self.provider.way(kek)
    }
}

/// Held by the request that finds out whether an outage is over. Given up (its client went away), the next one asks.
struct Probe<'a> {
    gate: &'a Gate,
    way: String,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        let way = state.ways.get_mut(&self.way);
        if let Some(outage) = way.and_then(|way| way.outage.as_mut()) {
            outage.probing = false;
        }
    }
}

#[cfg(test)]
mod tests;
