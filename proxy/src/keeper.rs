//! What keeps the keys in shape while the proxy runs: settings of scopes that were set at run time, leases, next DEKs, the end
//! of keys that nothing uses. It serves no statement.

use std::{sync::Arc, time::Duration};

use pgveil_config::Settings;
use pgveil_jobs::destruction::{self, Round};
use pgveil_keys::{Keys, Keystore};
use tokio::time::{MissedTickBehavior, interval};

/// How often the keystore is looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// How often it is looked for keys whose destruction is due.
const DUE_PERIOD: Duration = Duration::from_mins(1);
/// How often it is looked for retired keys that no value uses: it reads every protected column, if there are candidates.
const RETIRED_PERIOD: Duration = Duration::from_hours(24);

/// Runs for as long as the process.
pub async fn keep(keys: Arc<Keys>, keystore: Arc<Keystore>, settings: Arc<Settings>) {
    let ended = end(Arc::clone(&keys), Arc::clone(&keystore), settings);
    tokio::join!(renew(keys, keystore), ended);
}

async fn renew(keys: Arc<Keys>, keystore: Arc<Keystore>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    let mut was_degraded = false;
    loop {
        ticks.tick().await;
        let is_degraded = keys.is_degraded();
        if is_degraded && !was_degraded {
            tracing::warn!(
                "degraded: a key provider is away, and keys in memory go on past their time (failure = \"open\")"
            );
        } else if was_degraded && !is_degraded {
            tracing::info!("no longer degraded: no key is used past its time");
        }
        was_degraded = is_degraded;
        match keystore.stored().await {
            Ok(stored) => {
                keys.set_stored(stored);
                told.clear();
            }
            Err(error) => {
                let why = error.to_string();
                // Not every two seconds the same.
                if why != told {
                    tracing::warn!(why, "the settings of scopes could not be read");
                    told = why;
                }
            }
        }
        keys.renew().await;
    }
}

async fn end(keys: Arc<Keys>, keystore: Arc<Keystore>, settings: Arc<Settings>) {
    let (mut due, mut retired) = (interval(DUE_PERIOD), interval(RETIRED_PERIOD));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    retired.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_first = true;
    loop {
        let done = tokio::select! {
            _ = due.tick() => destruction::destroy_due(&settings, &keystore).await,
            _ = retired.tick() => {
                destruction::schedule_retired(&settings, &keystore, &keys.scopes()).await
            }
        };
        match done {
            // Whoever was to look behind a job may be gone: the process before this one.
            Ok(Round {
                later: Some(wait), ..
            }) if is_first => {
                is_first = false;
                retired.reset_after(wait);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "data keys that nothing uses could not be ended; it is tried again");
            }
        }
    }
}
