//! What a running process does for the log by itself: checkpoints once a minute, the sinks, retention; and once an hour it reads
//! all of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Fault, Listed, Log, Sinks,
    checkpoint::EVERY_US,
    sink::{self, SinkError},
};
use crate::keystore::KeystoreError;

/// How often it looks. A record is covered within this and [`WAIT`], which together are a minute.
const TICK: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_micros(EVERY_US).saturating_sub(TICK);
/// Retention is looked after once in so many ticks: an hour.
const TICKS_PER_PRUNE: u32 = 360;

/// How often the whole log is read: its records say which rows of the keystore were written last.
const READ_EVERY: Duration = Duration::from_hours(1);
/// When it could not be read, as when the provider of its key is away.
const READ_AGAIN: Duration = Duration::from_mins(1);

/// Runs until it is dropped. Whoever serves calls it once.
pub async fn tend(log: Arc<Log>, sinks: Sinks, retention: Option<Duration>) {
    tokio::join!(sign_and_prune(&log, sinks, retention), read(&log));
}

/// Reads the whole log now and once an hour, and puts back what the lists lack. Runs until it is dropped.
pub async fn read(log: &Arc<Log>) {
    let mut ticks = tokio::time::interval(READ_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match log.mend_lists().await {
            Ok(Listed { put_back, judged }) => {
                if put_back > 0 {
                    tracing::error!(
                        entries = put_back,
                        "somebody took entries out of pgveil.key_changes or pgveil.row_changes, so that older rows pass for the last ones; they were put back"
                    );
                }
                if let Err(fault) = judged {
                    tracing::error!(%fault, "the audit log is not as pgveil wrote it; see `pgveil audit verify`");
                }
                match log.lost_keys().await {
                    Ok(lost) if lost.is_empty() => {}
                    Ok(lost) => {
                        tracing::error!(keys = ?lost, "rows of pgveil.keys are gone: restore them from a backup of schema pgveil");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "rows of pgveil.keys could not be held against the audit log");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the audit log could not be read as a whole; it is tried again in a minute");
                ticks.reset_after(READ_AGAIN);
            }
        }
    }
}

async fn sign_and_prune(log: &Arc<Log>, mut sinks: Sinks, retention: Option<Duration>) {
    if let Some(path) = sinks.file()
        && path.exists()
        && let Err(error) = sink::compare(log, path).await
    {
        tracing::error!(%error, "the audit log does not agree with the checkpoints kept outside the database");
        // What the log's key signed and the log lacks; a line that does not read says nothing of the log.
        if let SinkError::Differs {
            fault: fault @ (Fault::TailCut { .. } | Fault::Checkpoint { .. }),
            ..
        } = error
        {
            log.went_back(&format!(
                "a checkpoint kept outside the database is not in it: {fault}"
            ));
        }
    }
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut unsigned_since, mut tick) = (None, 0_u32);
    loop {
        ticks.tick().await;
        if let Err(error) = sign(log, &mut unsigned_since).await {
            tracing::warn!(%error, "no checkpoint of the audit log could be made");
        }
        if let Err(error) = sinks.follow(log).await {
            tracing::error!(%error, "checkpoints of the audit log do not leave the database");
        }
        if let (Some(retention), 0) = (retention, tick % TICKS_PER_PRUNE)
            && let Err(error) = prune(log, retention).await
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
