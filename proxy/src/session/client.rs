//! From the client to the server: what may pass is relayed undecoded, what names something protected is
//! analysed and rewritten, what is refused is replaced by a stand-in that keeps its place.
//!
//! It never writes to the client; every answer comes back through the other direction.

mod bound;
mod copy;
mod extended;
mod function;
mod guard;
mod kept;
mod look;
mod open;
mod probe;
mod query;
mod renew;
mod scopes;

use std::sync::Arc;

use pgveil_policy::{
    Refusal,
    plan::Effect,
    scan::{Scan, relations::RelationName},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{End, Shared, copy::incoming::Incoming, ledger::Owed, view::View};
use crate::{
    engine::{Prepared, Rules},
    frame::{FrameReader, FrameWriter, Next},
    messages::{Query, tag::client as tag},
    session::{SessionError, refuse::STAND_IN},
};

/// Answers owed at once; beyond it the client waits, as it would for a full socket.
const MAX_OWED: usize = 16 * 1024;

/// The reading half of the client and the writing half of the server.
pub struct ClientSide<R, W> {
    reader: FrameReader<R>,
    upstream: FrameWriter<W>,
    shared: Arc<Shared>,
    /// The session as the last probe saw it, and the rules that the probe was made for.
    view: Option<(Arc<View>, Arc<Rules>)>,
    /// The rules within a transaction that has changed something protected.
    overlay: Option<look::Overlay>,
    /// Messages of the extended protocol went out that no Sync has ended.
    unsynced: bool,
    /// A Query went out behind such messages, or behind one that did, and may have left open what they have begun.
    may_be_open: bool,
    /// A portal was bound under a name since the last Sync.
    bound: bool,
    /// The rows of a COPY FROM STDIN with protected columns.
    copying: Option<Box<Incoming>>,
}

/// What stands at the reader's cursor, without borrowing it.
enum At {
    Frame(u8),
    Large(u8),
    Nothing,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    /// A session that has just become ready.
    pub fn new(reader: FrameReader<R>, upstream: FrameWriter<W>, shared: Arc<Shared>) -> Self {
        Self {
            reader,
            upstream,
            shared,
            view: None,
            overlay: None,
            unsynced: false,
            may_be_open: false,
            bound: false,
            copying: None,
        }
    }

    /// Runs until the client leaves.
    ///
    /// # Errors
    /// When either socket fails or the client breaks the protocol.
    pub async fn run(&mut self) -> Result<End, SessionError> {
        loop {
            let at = match self.reader.next().map_err(SessionError::Client)? {
                Next::Frame(frame) => At::Frame(frame.tag),
                Next::Large(header) => At::Large(header.tag),
                Next::Wait => At::Nothing,
            };
            match at {
                At::Frame(tag::TERMINATE) => {
                    self.reader.pass();
                    return self.leave().await;
                }
                At::Frame(tag) => self.frame(tag).await?,
                // A CopyData goes by in pieces; whatever else is long is assembled, to be looked at.
                At::Large(tag::COPY_DATA) => self.copy_large().await?,
                At::Large(_) | At::Nothing => {
                    if self.wait().await? == 0 {
                        return self.leave().await;
                    }
                }
            }
        }
    }

    /// Writes what is due and waits for more from the client; meanwhile a result that could not be shown may
    /// ask for the transaction to be failed.
    async fn wait(&mut self) -> Result<usize, SessionError> {
        loop {
            if self.shared.ledger().fail_transaction {
                self.owe(None);
            }
            self.break_copy_in();
            self.upstream
                .flush(&mut self.reader)
                .await
                .map_err(SessionError::Upstream)?;
            while self.shared.ledger().owed.len() > MAX_OWED {
                self.shared.drained.notified().await;
            }
            tokio::select! {
                biased;
                () = self.shared.fail.notified() => {}
                read = self.reader.fill() => return read.map_err(SessionError::Client),
            }
        }
    }

    /// Hands on what is due and closes the sending half; the server answers what it was asked and closes too.
    async fn leave(&mut self) -> Result<End, SessionError> {
        // The server may be gone already; the session ends either way.
        let _ = self.upstream.flush(&mut self.reader).await;
        let _ = self.upstream.shutdown().await;
        Ok(End::ClientLeft)
    }

    async fn frame(&mut self, tag: u8) -> Result<(), SessionError> {
        if tag == tag::SYNC {
            self.sync();
            return Ok(());
        }
        if self.shared.ledger().skipping
            && !matches!(tag, tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL)
        {
            // The server ignores everything up to the next Sync; so it need not even see it.
            self.reader.skip();
            return Ok(());
        }
        match tag {
            tag::QUERY => self.query().await,
            tag::PARSE => self.parse().await,
            tag::BIND => self.bind().await,
            tag::DESCRIBE => self.describe().await,
            tag::EXECUTE => self.execute(),
            tag::CLOSE => self.close(),
            tag::FUNCTION_CALL => self.function_call().await,
            tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => self.copy_frame(tag).await,
            // Flush is not answered; the reader lets no other type through.
            _ => {
                self.reader.pass();
                Ok(())
            }
        }
    }

    fn sync(&mut self) {
        let ledger = self.shared.ledger();
        // In copy-in mode the server ignores it.
        let answered = !ledger.copy_in;
        drop(ledger);
        if answered {
            self.owe(Some(Owed::Sync));
            let mut ledger = self.shared.ledger();
            ledger.skipping = false;
            if ledger.settings_touched && ledger.status == b'I' {
                // The implicit transaction ends here, and with it what was set for it alone.
                ledger.view_stale = true;
            }
            self.unsynced = false;
            self.may_be_open = false;
            self.bound = false;
        }
        self.reader.pass();
    }

    /// Notes what the server will owe. Whatever asked for the transaction to be failed goes first.
    fn owe(&mut self, owed: Option<Owed>) {
        let mut ledger = self.shared.ledger();
        if std::mem::take(&mut ledger.fail_transaction) {
            ledger.owed.push_back(Owed::Failing);
            let queue = self.upstream.settle(&mut self.reader);
            Query {
                sql: STAND_IN.as_bytes(),
            }
            .write(queue)
            .expect("the stand-in is short");
        }
        if let Some(owed) = owed {
            ledger.owe(owed);
        }
    }

    /// Whether a text is analysed: it may name something protected, or something that the session keeps and that may
    /// hold something protected.
    fn is_looked_at(&self, scan: Scan) -> bool {
        scan.protected || (scan.names && self.names_used())
    }

    /// Whether something protected is kept by name, also what was relayed under other rules.
    fn names_used(&self) -> bool {
        let rules = self.shared.engine.rules();
        let own = self.own_rules();
        let mut ledger = self.shared.ledger();
        if !ledger.names_used && !ledger.beside.is_known_to(rules.set.version) {
            let is_protected = |text: &[u8]| {
                rules.set.scan(text).protected
                    || own.is_some_and(|own| own.set.scan(text).protected)
            };
            ledger.names_used = ledger.beside.look_again(rules.set.version, is_protected);
        }
        ledger.names_used
    }

    /// Before keys are asked for: a plan that seals values is under way until the server has told what became of it.
    fn take_off(&self, prepared: &Prepared) {
        if prepared.plan.slots.iter().any(|slot| slot.make.stores()) {
            let engine = &self.shared.engine;
            self.shared.ledger().take_off(|| engine.keys.enter());
        }
    }

    /// Behind [`ClientSide::take_off`]: what was sealed is queued, or was given up.
    fn sent(&self) {
        self.shared.ledger().sent(self.unsynced);
    }

    /// Follows what a statement may change, at the moment it is sent for execution.
    fn note_effects(&self, scan: Scan, ends_transaction: bool) {
        if !(scan.settings || scan.catalog || ends_transaction) {
            return;
        }
        let mut ledger = self.shared.ledger();
        ledger.may_have_ended |= ends_transaction;
        // What was changed may bear its former names again, or yet others: until the next probe every name counts.
        ledger.own_unknown |= ledger.rules_touched && (ends_transaction || scan.catalog);
        if scan.settings {
            ledger.view_stale = true;
            ledger.settings_touched = true;
        }
        if ends_transaction && ledger.settings_touched {
            ledger.view_stale = true;
        }
        ledger.catalog_touched |= scan.catalog;
        // A type is not named by the tables that have columns of it.
        ledger.rules_touched |=
            scan.catalog && (scan.protected || self.shared.engine.rules().set.seals_enums());
        ledger.always_probe |= scan.deferred && (scan.settings || scan.catalog);
    }

    /// A statement that names something protected may make or change relations: until the next probe every name may
    /// be one of theirs.
    fn note_derived(&self, scan: Scan) {
        if scan.settings || scan.catalog {
            let mut ledger = self.shared.ledger();
            ledger.own_unknown = true;
            ledger.catalog_touched = true;
            ledger.rules_touched = true;
        }
    }

    /// What a text can touch, by the names of all rulesets that may be in force.
    fn scan_by_rules(&self, sql: &[u8]) -> Scan {
        let mut scan = self.shared.engine.rules().set.scan(sql);
        if let Some(own) = self.own_rules() {
            // What the transaction calls otherwise may be called as before at any moment.
            let within = own.set.scan(sql);
            scan.protected |= within.protected;
            scan.settings |= within.settings;
            scan.catalog |= within.catalog;
        }
        scan
    }

    /// The relations that a text may name and that neither the rules nor the last view know; see
    /// [`Engine::know_relations`](crate::engine::Engine::know_relations).
    fn unknown_relations(&self, sql: &[u8]) -> Option<Vec<RelationName>> {
        let fresh = self
            .view
            .as_ref()
            .filter(|_| !self.shared.ledger().view_stale);
        let own = fresh.map_or(&[][..], |(view, _)| &view.session.relations);
        match self.own_rules() {
            Some(within) => within.set.unknown_relations(sql, own),
            None => self.shared.engine.rules().set.unknown_relations(sql, own),
        }
    }

    /// Looks for relations that were made or renamed beside pgveil, before a statement that names them is judged.
    async fn know_relations(&self, names: Option<Vec<RelationName>>) -> Result<(), Refusal> {
        if names.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let found = self.shared.engine.know_relations(names.as_deref()).await?;
        // Functions of the running transaction are known by its own look at the catalog.
        if names.is_some_and(|names| names.iter().all(|name| name.is_function)) {
            return Ok(());
        }
        let mut ledger = self.shared.ledger();
        if !found && ledger.catalog_touched {
            // The running transaction may have made it, in ways that nobody looked into.
            ledger.own_unknown = true;
            ledger.view_stale = true;
        }
        Ok(())
    }

    /// Where any name may be one of the session's own relations, asks the server which those are, before a text that names
    /// nothing else protected counts as if it did: it need not be one that pgveil can read.
    async fn know_own(&mut self, sql: Option<Scan>) -> Result<(), SessionError> {
        let asks = sql.is_some_and(|scan| !scan.protected) && self.shared.ledger().own_unknown;
        if asks {
            // If it cannot be told, every name counts still, and what is to be said is said then.
            let _ = self.ground().await?;
        }
        Ok(())
    }

    /// What a text can touch, by the ruleset's names and by those of the session's own relations. Also says whether
    /// only the latter make it protected.
    fn scan(&self, sql: &[u8]) -> (Scan, bool) {
        let mut scan = self.scan_by_rules(sql);
        let own = !scan.protected
            && (self.shared.ledger().own_unknown
                || self
                    .view
                    .as_ref()
                    .is_some_and(|(view, _)| view.names_own(sql)));
        scan.protected |= own;
        (scan, own)
    }
}

/// What the statements of a text that is relayed do to the session's names.
fn effects_of(scan: Scan, sql: &[u8]) -> Vec<Effect> {
    match std::str::from_utf8(sql) {
        Ok(sql) if scan.names => pgveil_policy::analysis::effects(sql),
        _ => Vec::new(),
    }
}

/// Whether a statement's first word ends a transaction; only then can what was set within it come undone.
fn ends_transaction(sql: &[u8]) -> bool {
    let start = sql
        .iter()
        .position(|b| !b.is_ascii_whitespace())
        .unwrap_or(0);
    let word = sql[start..]
        .split(|b| !b.is_ascii_alphabetic())
        .next()
        .unwrap_or_default();
    [&b"commit"[..], b"end", b"rollback", b"abort", b"prepare"]
        .iter()
        .any(|w| word.eq_ignore_ascii_case(w))
        || memchr::memchr(b';', sql).is_some_and(|at| !sql[at + 1..].trim_ascii().is_empty())
        || sql[start..].starts_with(b"--")
        || sql[start..].starts_with(b"/*")
}

/// A transaction that has failed refuses everything but its end; so does the stand-in, in the server's words.
/// Should the server answer otherwise, this is shown.
fn state_unreadable() -> Refusal {
    Refusal::new(
        "PV002",
        "session-unreadable",
        "pgveil could not read the session's settings from the server",
    )
    .hint("Try again; if it stays, look at the server's log.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_statements_that_may_end_a_transaction() {
        for sql in [
            "COMMIT",
            " rollback",
            "End;",
            "ABORT",
            "/* c */ commit",
            "-- c\ncommit",
            "select 1; commit",
            "PREPARE TRANSACTION 'x'",
        ] {
            assert!(ends_transaction(sql.as_bytes()), "{sql}");
        }
        for sql in [
            "SELECT 1",
            "SELECT 1;",
            "INSERT INTO t VALUES (1)",
            "",
            "commitment",
        ] {
            assert!(!ends_transaction(sql.as_bytes()), "{sql}");
        }
    }
}
