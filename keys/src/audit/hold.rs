//! That the provider of the log's key does not answer, or says no, is remembered for a moment: whoever waits for the key is told
//! at once, and one request at a time finds out whether it is back.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::keystore::KeystoreError;

/// Failures in a row before anything is remembered: who mends something tries again at once.
const FAILURES: u32 = 3;
/// How long the first is remembered that is; twice as long each time after that ...
const FIRST: Duration = Duration::from_secs(1);
/// ... and no longer than this: the provider's return is to be noticed soon.
const LAST: Duration = Duration::from_secs(8);

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Hold(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    pause: Duration,
    error: KeystoreError,
}

impl Hold {
    /// The last failure, while it is remembered.
    pub(super) fn check(&self, now: Instant) -> Result<(), KeystoreError> {
        match &self.state().held {
            Some(held) if now < held.until => Err(held.error.clone()),
            _ => Ok(()),
        }
    }

    /// Notes how a request ended.
    pub(super) fn note<T>(&self, now: Instant, answer: &Result<T, KeystoreError>) {
        let mut state = self.state();
        let Err(error) = answer else {
            *state = State::default();
            return;
        };
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES {
            return;
        }
        let pause = match &state.held {
            None => FIRST,
            Some(held) => (held.pause * 2).min(LAST),
        };
        state.held = Some(Held {
            until: now + pause,
            pause,
            error: error.clone(),
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Result<(), KeystoreError> {
        Err(KeystoreError::Unavailable {
            reason: "away".to_owned(),
        })
    }

    #[test]
    fn the_third_failure_is_remembered_for_longer_each_time_and_a_yes_forgets_it() {
        let hold = Hold::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 1..FAILURES {
            hold.note(at(0), &away());
            assert_eq!(hold.check(at(0)), Ok(()));
        }
        let mut now = 0;
        for pause in [1, 2, 4, 8, 8] {
            hold.note(at(now), &away());
            assert_eq!(hold.check(at(now)), away());
            let just_before = at(now) + Duration::from_millis(pause * 1000 - 1);
            assert_eq!(hold.check(just_before), away());
            now += pause;
            assert_eq!(hold.check(at(now)), Ok(()));
        }
        hold.note(at(now), &Ok(()));
        hold.note(at(now), &away());
        assert_eq!(hold.check(at(now)), Ok(()));
    }
}
