//! What keeps the keys in shape while the proxy runs: settings of scopes that were set at run time, leases, next DEKs. It
//! serves no statement.

use std::{sync::Arc, time::Duration};

use pgveil_keys::{Keys, Keystore};
use tokio::time::{MissedTickBehavior, interval};

/// How often the keystore is looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// Runs for as long as the process.
pub async fn keep(keys: Arc<Keys>, keystore: Arc<Keystore>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match keystore.stored().await {
            Ok(stored) => keys.set_stored(stored),
            Err(error) => tracing::warn!(%error, "the settings of scopes could not be read"),
        }
        keys.renew().await;
    }
}
