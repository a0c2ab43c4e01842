//! The log of this process: its own connection to the keystore, its keys, and what it knows of the chain's end.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use pgveil_providers::Providers;
use tokio::sync::{Mutex, OnceCell};

use super::{
    Change, Event, Record, actor,
    chain::Tip,
    hold::Hold,
    queue::Queue,
    remembered::Remembered,
    root::Source,
    secrets::{PublicKey, Secrets},
    stored::{PAGE, StoredRecord},
    verify::{Fault, Sound, Verifier},
};
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
    /// The public key that it must have, as the configuration says.
    pub(super) pinned: Option<PublicKey>,
    secrets: OnceCell<Arc<Secrets>>,
    /// That their provider does not give them.
    pub(super) hold: Hold,
    /// One change at a time; and the end of the chain that this process has seen: it never goes back.
    pub(super) turn: Arc<Mutex<Option<Tip>>>,
    pub(crate) instance: String,
    pub(super) queue: Queue,
    pub(crate) remembered: Remembered,
}

/// What comes by while a log is judged.
pub(super) enum Seen<'a> {
    Record(&'a Record, &'a StoredRecord),
    Checkpoint(&'a str),
}

/// What is done with each.
pub(super) type Each<'a> = &'a mut (dyn FnMut(Seen<'_>) -> Result<(), KeystoreError> + Send);

/// Whether a fault of a row's columns is no reason to stop.
pub(super) type Forgive<'a> = &'a mut (dyn FnMut(&StoredRecord, &Fault) -> bool + Send);

impl Log {
    pub(crate) fn new(
        connection: Connection,
        clock: Arc<dyn Clock>,
        pinned: Option<PublicKey>,
    ) -> Self {
        Self {
            connection,
            clock,
            source: OnceLock::new(),
            pinned,
            secrets: OnceCell::new(),
            hold: Hold::default(),
            turn: Arc::default(),
            instance: actor::instance(),
            queue: Queue::default(),
            remembered: Remembered::default(),
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

    /// The same, if they are known already.
    pub(crate) fn secrets_now(&self) -> Option<Arc<Secrets>> {
        self.secrets.get().map(Arc::clone)
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

    /// Signs the end of the log, if no checkpoint covers it.
    pub async fn checkpoint(self: &Arc<Self>) -> Result<(), KeystoreError> {
        if self.unsigned().await? == 0 {
            return Ok(());
        }
        self.change().await?.commit_checkpoint().await
    }

    /// Reads the whole log and judges it, MACs and all. What is written meanwhile is not looked at.
    pub async fn verify(self: &Arc<Self>) -> Result<Result<Sound, Fault>, KeystoreError> {
        self.verify_all(&mut |_| Ok(()), &mut |_, _| false).await
    }

    /// The same, going on behind faults of columns that `forgive` admits; `each` sees the others.
    pub(super) async fn verify_all(
        self: &Arc<Self>,
        each: Each<'_>,
        forgive: Forgive<'_>,
    ) -> Result<Result<Sound, Fault>, KeystoreError> {
        let secrets = self.secrets().await?;
        let Some(head) = self.stored_head().await? else {
            // Nothing yet, or everything is gone: then there are records that nothing leads to.
            let none = self.first().await?.is_none();
            let gone = Fault::TailCut {
                expected: 0,
                found: 1,
            };
            return Ok(if none {
                Ok(Sound::default())
            } else {
                Err(gone)
            });
        };
        let anchor = self.anchor().await?;
        let mut verifier =
            match Verifier::new(*secrets.public_key(), Some(&secrets), anchor.as_deref()) {
                Ok(verifier) => verifier,
                Err(fault) => return Ok(Err(fault)),
            };
        let judged = self
            .judge_all(&mut verifier, head.tip.seq, each, forgive)
            .await?;
        let judged = judged.and_then(|()| verifier.head(&head));
        Ok(judged.and_then(|()| verifier.finish()))
    }

    /// Takes all records up to one through a verifier, with their checkpoints; `each` sees them on the way.
    pub(super) async fn judge(
        &self,
        verifier: &mut Verifier<'_>,
        upto: u64,
        each: Each<'_>,
    ) -> Result<Result<(), Fault>, KeystoreError> {
        self.judge_all(verifier, upto, each, &mut |_, _| false)
            .await
    }

    async fn judge_all(
        &self,
        verifier: &mut Verifier<'_>,
        upto: u64,
        each: Each<'_>,
        forgive: Forgive<'_>,
    ) -> Result<Result<(), Fault>, KeystoreError> {
        let mut checkpoints = Checkpoints::after(verifier.at());
        loop {
            let page = self.after(verifier.at(), upto).await?;
            if page.is_empty() {
                return Ok(Ok(()));
            }
            for row in page {
                match verifier.row(&row) {
                    Ok(record) => each(Seen::Record(&record, &row))?,
                    // The record itself was taken.
                    Err(fault @ Fault::Column { .. }) if forgive(&row, &fault) => {}
                    Err(fault) => return Ok(Err(fault)),
                }
                while let Some(line) = checkpoints.at(self, row.seq).await? {
                    if let Err(fault) = verifier.checkpoint(row.seq, &line) {
                        return Ok(Err(fault));
                    }
                    each(Seen::Checkpoint(&line))?;
                }
            }
        }
    }

    /// Waits until everything noted is on disk.
    pub async fn flush(self: &Arc<Self>) {
        self.queue.drained().await;
    }
}

/// Checkpoints in order, read page by page.
struct Checkpoints {
    page: VecDeque<(u64, String)>,
    read: u64,
    more: bool,
}

impl Checkpoints {
    fn after(seq: u64) -> Self {
        Self {
            page: VecDeque::new(),
            read: seq,
            more: true,
        }
    }

    /// The next one, if it stands at this record or, where none can, before it.
    async fn at(&mut self, log: &Log, seq: u64) -> Result<Option<String>, KeystoreError> {
        if self.page.is_empty() && self.more {
            self.page = log.checkpoints_after(self.read).await?.into();
            self.more = self.page.len() as i64 == PAGE;
            self.read = self.page.back().map_or(self.read, |(seq, _)| *seq);
        }
        let next = self.page.pop_front_if(|(at, _)| *at <= seq);
        Ok(next.map(|(_, line)| line))
    }
}
