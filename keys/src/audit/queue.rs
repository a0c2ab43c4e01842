//! Events that accompany no change of the keystore: gathered while the last ones are being written, and then written
//! together. Nothing is dropped: who has more to tell than is written waits.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Event, Log};
use crate::keystore::KeystoreError;

/// Events that may wait to be written.
const MAX_WAITING: usize = 1024;
/// Events in one transaction.
const MAX_TOGETHER: usize = 256;
/// How long one waits for room, or for the disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts while the log cannot be written.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Queue {
    room: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Entry>,
    /// Somebody is writing and looks here again before stopping.
    written: bool,
}

#[derive(Debug)]
struct Entry {
    event: Event,
    done: oneshot::Sender<()>,
    _room: OwnedSemaphorePermit,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(MAX_WAITING)),
            waiting: Mutex::default(),
        }
    }
}

/// An event that will be written.
pub(super) struct Pending(oneshot::Receiver<()>);

impl Pending {
    /// Waits for the disk. The event is written in any case, as long as this process lives.
    pub(super) async fn written(self) -> Result<(), KeystoreError> {
        match tokio::time::timeout(PATIENCE, self.0).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(busy()),
        }
    }
}

impl Queue {
    /// Waits for room and takes the event.
    pub(super) async fn put(&self, log: &Arc<Log>, event: Event) -> Result<Pending, KeystoreError> {
        let event = event.settled();
        let room = Arc::clone(&self.room).acquire_owned();
        let Ok(Ok(room)) = tokio::time::timeout(PATIENCE, room).await else {
            return Err(busy());
        };
        let (done, pending) = oneshot::channel();
        let mut waiting = self.waiting();
        waiting.events.push_back(Entry {
            event,
            done,
            _room: room,
        });
        if !waiting.written {
            waiting.written = true;
            tokio::spawn(write(Arc::clone(log)));
        }
        Ok(Pending(pending))
    }

    /// Waits until nothing waits.
    pub(super) async fn drained(&self) {
        // All the room there is, is there when nobody is in it. Nobody closes the semaphore.
        let _ = self.room.acquire_many(MAX_WAITING as u32).await;
    }

    /// The next events, or the end of the writer.
    fn next(&self) -> Vec<Entry> {
        let mut waiting = self.waiting();
        let count = waiting.events.len().min(MAX_TOGETHER);
        waiting.written = count > 0;
        waiting.events.drain(..count).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes until nothing waits.
async fn write(log: Arc<Log>) {
    loop {
        let entries = log.queue.next();
        if entries.is_empty() {
            return;
        }
        while let Err(error) = append(&log, &entries).await {
            tracing::error!(%error, events = entries.len(), "the audit log cannot be written; trying again");
            tokio::time::sleep(PAUSE).await;
        }
        for entry in entries {
            // Whoever only noted it does not listen.
            let _ = entry.done.send(());
        }
    }
}

async fn append(log: &Arc<Log>, entries: &[Entry]) -> Result<(), KeystoreError> {
    let events = entries.iter().map(|entry| entry.event.clone()).collect();
    log.change().await?.commit_all(events).await
}

fn busy() -> KeystoreError {
    KeystoreError::Unavailable {
        reason: "the audit log could not be written in time".to_owned(),
    }
}
