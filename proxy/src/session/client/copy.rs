//! CopyData, CopyDone, CopyFail: data for a COPY with protected columns is taken apart and sealed, data for any other is
//! relayed, data that no COPY wants goes nowhere: the server would ignore it, and it may be plaintext.

use std::sync::Arc;

use pgveil_keys::Keys;
use pgveil_policy::Refusal;
use tokio::io::{AsyncRead, AsyncWrite};

use super::ClientSide;
use crate::{
    messages::{copy_data, copy_fail, tag::client as tag, unit},
    session::{
        SessionError,
        copy::{
            CopyJob, MARKER, Refused,
            incoming::{Incoming, Step},
        },
        ledger::{Coming, Owed},
        values::sealing,
    },
};

/// So much of a CopyData is looked at at once.
const PIECE_BYTES: usize = 32 * 1024;
/// A CopyData that pgveil sends has at most so many bytes; rows may cross the border.
const MAX_DATA_BYTES: usize = 1024 * 1024;
/// A buffer that grew is given back above this.
const KEEP_BYTES: usize = 256 * 1024;

/// What becomes of the client's data.
enum Fate {
    /// It is for a COPY without protected columns.
    Relay,
    /// It is for this one.
    Rows(Arc<CopyJob>),
    /// No COPY wants it.
    Drop,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    /// CopyData, CopyDone or CopyFail, whole.
    pub(super) async fn copy_frame(&mut self, tag: u8) -> Result<(), SessionError> {
        match self.copy_fate().await? {
            Fate::Drop => self.reader.skip(),
            Fate::Relay => {
                if tag != tag::COPY_DATA {
                    let mut ledger = self.shared.ledger();
                    if ledger.copy_in {
                        ledger.client_ended_copy();
                    } else {
                        ledger.owed.push_back(Owed::CopyEnd);
                    }
                    drop(ledger);
                    self.copy_ended();
                }
                self.reader.pass();
            }
            Fate::Rows(job) => {
                self.take_off_rows();
                self.upstream.settle(&mut self.reader);
                match tag {
                    tag::COPY_DATA => self.copy_rows(&job).await?,
                    tag::COPY_DONE => self.copy_done(&job).await?,
                    _ => self.copy_given_up(&job),
                }
                if tag != tag::COPY_DATA {
                    self.copy_ended();
                }
                self.sent();
                self.reader.skip();
            }
        }
        Ok(())
    }

    /// In copy-in mode the server ignores Sync: what an Execute began needs another.
    fn copy_ended(&mut self) {
        let ledger = self.shared.ledger();
        let by_execute = ledger
            .owed
            .iter()
            .any(|owed| matches!(owed, Owed::Execute { .. }));
        drop(ledger);
        self.unsynced |= by_execute;
    }

    /// The server owes the end of the COPY, which tells what became of its rows.
    fn take_off_rows(&self) {
        let keys = &self.shared.engine.keys;
        self.shared.ledger().take_off(|| keys.enter());
    }

    /// The start of a CopyData that is too long to be waited for as a whole.
    pub(super) async fn copy_large(&mut self) -> Result<(), SessionError> {
        let job = match self.copy_fate().await? {
            Fate::Drop => {
                self.reader.skip();
                return Ok(());
            }
            Fate::Relay => {
                self.reader.pass();
                return Ok(());
            }
            Fate::Rows(job) => job,
        };
        self.take_off_rows();
        self.upstream.settle(&mut self.reader);
        self.reader.open();
        while self.reader.is_open() {
            let piece = self.reader.piece().len().min(PIECE_BYTES);
            if piece == 0 {
                self.wait().await?;
                continue;
            }
            if self.is_copying(&job) {
                self.take_in(&job, |reader, rows| rows.push(&reader.piece()[..piece]));
                self.seal_rows(false).await?;
            }
            self.reader.take(piece);
        }
        self.sent();
        Ok(())
    }

    /// Decides about data, once it is certain what it is for.
    async fn copy_fate(&mut self) -> Result<Fate, SessionError> {
        loop {
            {
                let mut ledger = self.shared.ledger();
                if ledger.copy_in {
                    return Ok(match &ledger.copying {
                        Some(job) => Fate::Rows(Arc::clone(job)),
                        None => Fate::Relay,
                    });
                }
                match ledger.coming_copy() {
                    Coming::None => return Ok(Fate::Drop),
                    Coming::Unknown => return Ok(Fate::Relay),
                    Coming::Protected => {}
                }
            }
            // The server either begins the COPY or reports an error; it waits for nothing else.
            self.upstream
                .flush(&mut self.reader)
                .await
                .map_err(SessionError::Upstream)?;
            self.shared.drained.notified().await;
        }
    }

    fn is_copying(&self, job: &Arc<CopyJob>) -> bool {
        let ledger = self.shared.ledger();
        ledger.copy_in
            && ledger
                .copying
                .as_ref()
                .is_some_and(|copying| Arc::ptr_eq(copying, job))
    }

    /// The rows of this COPY.
    fn take_in(
        &mut self,
        job: &Arc<CopyJob>,
        push: impl FnOnce(&crate::frame::FrameReader<R>, &mut Incoming),
    ) {
        let rows = match self.copying.take() {
            Some(rows) if Arc::ptr_eq(rows.job(), job) => rows,
            _ => Box::new(Incoming::new(Arc::clone(job))),
        };
        let rows = self.copying.insert(rows);
        push(&self.reader, rows);
    }

    async fn copy_rows(&mut self, job: &Arc<CopyJob>) -> Result<(), SessionError> {
        let mut at = 0;
        loop {
            let mut length = 0;
            self.take_in(job, |reader, rows| {
                let body = reader.current().map_or(&[][..], |frame| frame.body);
                let end = body.len().min(at + PIECE_BYTES);
                rows.push(&body[at..end]);
                at = end;
                length = body.len();
            });
            self.seal_rows(false).await?;
            if at >= length || !self.is_copying(job) {
                return Ok(());
            }
        }
    }

    async fn copy_done(&mut self, job: &Arc<CopyJob>) -> Result<(), SessionError> {
        self.take_in(job, |_, _| {});
        self.seal_rows(true).await?;
        self.copying = None;
        if self.is_copying(job) {
            unit::write(self.upstream.queue(), tag::COPY_DONE);
            self.shared.ledger().client_ended_copy();
        }
        Ok(())
    }

    /// CopyFail. Its message may quote a row, so that the server need not have it: the client reads it in the error.
    fn copy_given_up(&mut self, job: &Arc<CopyJob>) {
        self.copying = None;
        let body = self.reader.current().map_or(&[][..], |frame| frame.body);
        let message = body.split(|byte| *byte == 0).next().unwrap_or_default();
        let refusal = Refusal::new(
            "57014",
            "invalid-input",
            format!(
                "COPY from stdin failed: {}",
                String::from_utf8_lossy(message)
            ),
        );
        self.fail_copy(job, Refused::whole(refusal));
    }

    /// Seals what has come and queues it for the server.
    async fn seal_rows(&mut self, at_end: bool) -> Result<(), SessionError> {
        let keys: Arc<Keys> = Arc::clone(&self.shared.engine.keys);
        loop {
            let Some(rows) = &mut self.copying else {
                return Ok(());
            };
            let job = Arc::clone(rows.job());
            let step = rows.advance(&keys, at_end);
            let out = rows.out();
            for piece in out.chunks(MAX_DATA_BYTES) {
                copy_data(self.upstream.queue(), piece);
            }
            out.clear();
            if out.capacity() > KEEP_BYTES {
                *out = Vec::new();
            }
            match step {
                Step::Used => {}
                Step::Fail(refused) => {
                    self.copying = None;
                    self.fail_copy(&job, refused);
                }
                Step::NeedsKeys(column, scope) => {
                    let mut wanted = rows.wanted();
                    wanted.retain(|key| !keys.has(key));
                    // One alone is had as it is.
                    if wanted.len() > 1 {
                        keys.ready(wanted).await;
                    }
                    if let Err(refusal) = sealing::fetch(&keys, &column, &scope).await {
                        self.copying = None;
                        self.fail_copy(&job, Refused::whole(refusal));
                    }
                    continue;
                }
            }
            if self.upstream.is_full() {
                self.upstream
                    .flush(&mut self.reader)
                    .await
                    .map_err(SessionError::Upstream)?;
            }
            return Ok(());
        }
    }

    /// Makes the server fail the COPY behind the rows that were sent.
    fn fail_copy(&mut self, job: &Arc<CopyJob>, refused: Refused) {
        if !self.is_copying(job) {
            return;
        }
        job.refuse(refused);
        copy_fail(self.upstream.queue(), MARKER);
        self.shared.ledger().client_ended_copy();
    }

    /// The server is in copy-in mode and must leave it, without a word of the client's.
    pub(super) fn break_copy_in(&mut self) {
        let mut ledger = self.shared.ledger();
        if std::mem::take(&mut ledger.fail_copy) && ledger.copy_in {
            ledger.client_ended_copy();
            drop(ledger);
            copy_fail(self.upstream.settle(&mut self.reader), MARKER);
        }
    }
}
