//! Automatic rotation of the local KMS's keys: somebody has to look at the clock. `serve` and `kms serve` do; several at once
//! rotate each key once, because only one of them finds the record as it was.

use std::{sync::Arc, time::Duration};

use pgveil_providers::local::LocalKms;

/// How often it is looked whether a key's time has come.
const POLL: Duration = Duration::from_mins(1);

/// Rotates keys whose time has come, for ever.
pub async fn tend(managers: Vec<Arc<LocalKms>>) {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for kms in &managers {
            rotate_due(kms).await;
        }
    }
}

async fn rotate_due(kms: &LocalKms) {
    let provider = kms.name();
    match kms.rotate_due().await {
        Ok(rotated) => {
            for key in rotated {
                match key {
                    Ok(key) => tracing::info!(
                        provider,
                        key = key.name,
                        version = key.default_version,
                        "a key was rotated, as its schedule says"
                    ),
                    Err(error) => tracing::error!(provider, %error, "a key could not be rotated"),
                }
            }
        }
        Err(error) => tracing::warn!(provider, %error, "keys could not be rotated"),
    }
}
