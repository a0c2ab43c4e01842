//! The log of this process: its own connection to the keystore, its keys, and what it knows of the chain's end.

use std::sync::{Arc, OnceLock};

use pgveil_providers::Providers;
use tokio::sync::{Mutex, OnceCell};

use super::{Change, Event, actor, chain::Tip, queue::Queue, root::Source, secrets::Secrets};
use crate::{
    clock::Clock,
    keystore::{Connection, KeystoreError},
    scopes::KekRef,
};

/// Appends to the audit log. One per process.
#[derive(Debug)]
pub struct Log {
    /// Not the keystore's other connection: what runs here are transactions.
    pub(crate) connection: Connection,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) source: OnceLock<Source>,
    secrets: OnceCell<Arc<Secrets>>,
    /// One change at a time; and the end of the chain that this process has seen: it never goes back.
    pub(super) turn: Arc<Mutex<Option<Tip>>>,
    pub(super) instance: String,
    pub(super) queue: Queue,
}

impl Log {
    pub(crate) fn new(connection: Connection, clock: Arc<dyn Clock>) -> Self {
        Self {
            connection,
            clock,
            source: OnceLock::new(),
            secrets: OnceCell::new(),
            turn: Arc::default(),
            instance: actor::instance(),
            queue: Queue::default(),
        }
    }

    /// Says who can unwrap the log's key, and which KEK wraps it if it is yet to be made. The first word holds.
    pub fn use_providers(&self, providers: &Providers, platform: &KekRef) {
        self.source.get_or_init(|| Source {
            providers: providers.clone(),
            platform: platform.clone(),
        });
    }

    /// The log's keys: unwrapped once per process, made if there are none.
    pub async fn secrets(&self) -> Result<Arc<Secrets>, KeystoreError> {
        let secrets = self
            .secrets
            .get_or_try_init(|| async { self.load_secrets().await.map(Arc::new) })
            .await?;
        Ok(Arc::clone(secrets))
    }

    /// Begins a change of the keystore that is recorded. It is done when [`Change::commit`] says so.
    pub async fn change(self: &Arc<Self>) -> Result<Change, KeystoreError> {
        match Change::begin(self).await {
            Err(KeystoreError::Unavailable { .. }) => Change::begin(self).await,
            begun => begun,
        }
    }

    /// Records what is no change of the keystore; returns when it is on disk.
    pub async fn record(self: &Arc<Self>, event: Event) -> Result<(), KeystoreError> {
        self.queue.put(self, event).await?.written().await
    }

    /// Records what is no change of the keystore, without waiting for the disk; waits only if too much waits already.
    pub async fn note(self: &Arc<Self>, event: Event) -> Result<(), KeystoreError> {
        self.queue.put(self, event).await.map(drop)
    }

    /// Waits until everything noted is on disk.
    pub async fn flush(self: &Arc<Self>) {
        self.queue.drained().await;
    }
}
