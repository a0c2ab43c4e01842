//! Behind a completed job: its old keys are scheduled for destruction, where one is set. Replicas may hold them for longer than the
//! job took to settle; then it is looked for them once more. It destroys nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pgveil_config::Settings;
use pgveil_keys::{Keys, Keystore};
use tokio::time::{Instant, sleep_until};

use super::Shared;
use crate::destruction;

/// When this process looks again.
type Again = Arc<Mutex<Option<Instant>>>;

/// Who looks, and when it does so again.
#[derive(Debug, Default)]
pub(super) struct Retired {
    again: Again,
}

impl Retired {
    /// From the proof on the clock of the old keys runs.
    pub(super) async fn schedule(&self, shared: &Shared) {
        let (settings, keystore, keys) = (&shared.settings, &shared.keystore, &shared.keys);
        let Some(wait) = look(settings, keystore, keys).await else {
            return;
        };
        let at = Instant::now() + wait;
        let waits = { lock(&self.again).replace(at) }.is_some();
        if !waits {
            let looked = again(
                Arc::clone(&self.again),
                Arc::clone(settings),
                Arc::clone(keystore),
                Arc::clone(keys),
            );
            tokio::spawn(looked);
        }
    }
}

/// Once, behind the last of the jobs that have asked for it: it counts all protected tables.
async fn again(asked: Again, settings: Arc<Settings>, keystore: Arc<Keystore>, keys: Arc<Keys>) {
    loop {
        let Some(at) = *lock(&asked) else {
            return;
        };
        sleep_until(at).await;
        {
            let mut asked = lock(&asked);
            if *asked != Some(at) {
                continue;
            }
            *asked = None;
        }
        look(&settings, &keystore, &keys).await;
        return;
    }
}

async fn look(settings: &Settings, keystore: &Keystore, keys: &Keys) -> Option<Duration> {
    match destruction::schedule_retired(settings, keystore, &keys.scopes()).await {
        Ok(round) => round.later,
        Err(error) => {
            tracing::warn!(%error, "the destruction of retired keys could not be scheduled; it is tried again within a day");
            None
        }
    }
}

fn lock(again: &Again) -> std::sync::MutexGuard<'_, Option<Instant>> {
    again.lock().unwrap_or_else(PoisonError::into_inner)
}
