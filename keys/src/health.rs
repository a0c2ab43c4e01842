//! How the KEKs in use are: what the last look at each found. Looks at nothing itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use pgveil_providers::{KekInfo, Probe, ProviderError};

use crate::scopes::KekRef;

/// Of a provider's words, so many characters are kept.
const MAX_ERROR_CHARS: usize = 500;

/// What a look at a KEK finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It wraps and unwraps.
    Works,
    /// Its provider says no.
    Denied,
    /// Its provider says nothing.
    Unavailable,
    /// Its provider gives back something else than it was given.
    Broken,
}

impl State {
    /// As people and programs read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Broken => "broken",
        }
    }

    /// What an error says of the KEK.
    pub fn of(error: &ProviderError) -> Self {
        match error {
            ProviderError::Denied { .. } => Self::Denied,
            ProviderError::Unavailable { .. } => Self::Unavailable,
            ProviderError::NotMine { .. } | ProviderError::Damaged { .. } => Self::Broken,
        }
    }
}

/// A KEK as it was when it was looked at last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it works.
    pub state: State,
    /// How long a round trip took, the last time one was made.
    pub latency: Option<Duration>,
    /// What its provider said of it, the last time it did.
    pub info: Option<KekInfo>,
    /// The version as wrappings name it, the last time one was made.
    pub wraps_as: Option<String>,
    /// Why it does not work.
    pub error: Option<String>,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// When it was looked at.
    pub checked: SystemTime,
}

/// The KEKs that have been looked at. Shared by who looks and who shows.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<KekRef, Status>>);

/// A KEK that came into another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// `None` when it was looked at for the first time.
    pub from: Option<State>,
    /// What it is now.
    pub to: State,
}

impl Health {
    /// Notes what a look found. Answers the change, if
    /// there is one.
    pub fn note(
        &self,
        kek: &KekRef,
        found: Result<&Probe, &ProviderError>,
        now: SystemTime,
    ) -> Option<Change> {
        let mut all = self.locked();
        let before = all.get(kek);
        let (state, error) = match &found {
            Ok(_) => (State::Works, None),
            Err(error) => (State::of(error), Some(shortened(&error.to_string()))),
        };
        let from = before.map(|before| before.state);
        let since = match before {
            Some(before) if before.state == state => before.since,
            _ => now,
        };
        let found = found.ok();
        let latency = found.and_then(|found| found.latency);
        let info = found.map(|found| found.info.clone());
        let wraps_as = found.and_then(|found| found.wraps_as.clone());
        let status = Status {
            state,
            latency: latency.or_else(|| before?.latency),
            info: info.or_else(|| before?.info.clone()),
            wraps_as: wraps_as.or_else(|| before?.wraps_as.clone()),
            error,
            since,
            checked: now,
        };
        all.insert(kek.clone(), status);
        (from != Some(state)).then_some(Change { from, to: state })
    }

    /// Lets go of a KEK that no scope uses any more.
    pub fn forget(&self, kek: &KekRef) {
        self.locked().remove(kek);
    }

    /// All of them, in the order of providers and KEKs.
    pub fn all(&self) -> BTreeMap<KekRef, Status> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<KekRef, Status>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_ERROR_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_lasts_until_another_comes() {
        let health = Health::default();
        let kek = KekRef {
            provider: "p".into(),
            kek: "k".into(),
        };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let found = Probe {
            latency: Some(Duration::from_millis(5)),
            wraps_as: Some("1".into()),
            ..Probe::of(KekInfo::new("1", "AES"))
        };
        let works = || Ok(&found);
        let away = ProviderError::unavailable("p", "x".repeat(9_999));
        let denied = ProviderError::denied("p", "k", "no");
        let change = |from, to| Some(Change { from, to });

        assert_eq!(
            health.note(&kek, works(), at(1)),
            change(None, State::Works)
        );
        let shallow = Probe::of(KekInfo::new("2", "AES"));
        assert_eq!(health.note(&kek, Ok(&shallow), at(2)), None);
        let status = health.all()[&kek].clone();
        assert_eq!((status.since, status.checked), (at(1), at(2)));
        assert_eq!(status.latency, Some(Duration::from_millis(5)));
        assert_eq!(status.wraps_as.as_deref(), Some("1"));

        let gone = health.note(&kek, Err(&away), at(3));
        assert_eq!(gone, change(Some(State::Works), State::Unavailable));
        let status = health.all()[&kek].clone();
        assert_eq!(
            (status.since, status.info.map(|info| info.version)),
            (at(3), Some("2".into()))
        );
        assert_eq!(status.error.map(|error| error.len()), Some(MAX_ERROR_CHARS));

        let said = health.note(&kek, Err(&denied), at(4));
        assert_eq!(said, change(Some(State::Unavailable), State::Denied));
        assert_eq!(health.note(&kek, Err(&denied), at(5)), None);
        assert_eq!(
            health.note(&kek, works(), at(6)),
            change(Some(State::Denied), State::Works)
        );
        assert_eq!(health.all()[&kek].error, None);
    }
}
