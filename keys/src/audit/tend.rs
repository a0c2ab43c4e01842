//! What a running process does for the log by itself: checkpoints once a minute, the sinks, retention.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Log, Sinks, checkpoint::EVERY_US, sink};
use crate::keystore::KeystoreError;

/// How often it looks. A record is covered within this and [`WAIT`], which together are a minute.
const TICK: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_micros(EVERY_US).saturating_sub(TICK);
/// Retention is looked after once in so many ticks: an hour.
const TICKS_PER_PRUNE: u32 = 360;

/// Runs until it is dropped. Whoever serves calls it once.
pub async fn tend(log: Arc<Log>, mut sinks: Sinks, retention: Option<Duration>) {
    if let Some(path) = sinks.file()
        && path.exists()
        && let Err(error) = sink::compare(&log, path).await
    {
        tracing::error!(%error, "the audit log does not agree with the checkpoints kept outside the database");
    }
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut unsigned_since, mut tick) = (None, 0_u32);
    loop {
        ticks.tick().await;
        if let Err(error) = sign(&log, &mut unsigned_since).await {
            tracing::warn!(%error, "no checkpoint of the audit log could be made");
        }
        if let Err(error) = sinks.follow(&log).await {
            tracing::error!(%error, "checkpoints of the audit log do not leave the database");
        }
        if let (Some(retention), 0) = (retention, tick % TICKS_PER_PRUNE)
            && let Err(error) = prune(&log, retention).await
        {
            tracing::error!(%error, "old records of the audit log are not dropped");
        }
        tick = tick.wrapping_add(1);
    }
}

async fn sign(log: &Arc<Log>, since: &mut Option<Instant>) -> Result<(), KeystoreError> {
    if log.unsigned().await? == 0 {
        *since = None;
        return Ok(());
    }
    let now = log.clock.now();
    if now.saturating_duration_since(*since.get_or_insert(now)) >= WAIT {
        log.checkpoint().await?;
        *since = None;
    }
    Ok(())
}

async fn prune(log: &Arc<Log>, retention: Duration) -> Result<(), KeystoreError> {
    while let Some(pruned) = log.prune(retention).await? {
        tracing::info!(
            upto = pruned.upto,
            records = pruned.records,
            "old records of the audit log were dropped"
        );
    }
    Ok(())
}
