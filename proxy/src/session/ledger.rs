//! The ledger: which answers the server still owes, in order, and what each one means.
//!
//! One entry per message that the server answers. Entries are pushed when a message is sent and
//! leave when its answer (or the error that skips it) arrives, so that what pgveil says itself
//! keeps its place and the statement and portal maps follow the server's own word.

mod coming;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use crate::session::{SessionError, scoped::Scoped};
use pgveil_keys::{DekId, Flight};
use pgveil_policy::{
    Refusal, Ruleset,
    plan::{Effect, MAX_FETCHED},
    scan::Scan,
    splice::PositionMap,
};

use zeroize::Zeroizing;

pub use self::coming::Coming;
use super::{
    copy::CopyJob,
    implicit::Implicit,
    names::Cursors,
    relayed::{Beside, Relayed},
    results::{Described, ResultRules},
    view::View,
};
use crate::engine::Prepared;

/// A statement that a Parse made.
#[derive(Debug)]
pub struct Statement {
    /// What its words say it may touch.
    pub scan: Scan,
    /// What it does to the session's names, if it was not analysed.
    pub effects: Vec<Effect>,
    /// `None`: relayed as it is.
    pub protected: Option<ProtectedStatement>,
    /// Its text, if it was relayed: another policy may say otherwise of it.
    pub relayed: Option<Relayed>,
    /// What Describe told about its results, so that an Execute without Describe knows its columns.
    pub described: Described,
    /// Whether its text ends a transaction.
    pub ends_transaction: bool,
}

/// What a protected statement needs at each Bind.
#[derive(Debug)]
pub struct ProtectedStatement {
    /// The client's text, for planning again after the catalog changed.
    pub sql: Zeroizing<String>,
    /// Parameter types as the client declared them.
    pub declared: Vec<u32>,
    /// The plan and the text that was sent.
    pub prepared: Arc<Prepared>,
    /// The session as it was at Parse.
    pub view: Arc<View>,
    /// The rules it was planned under.
    pub ruleset: Arc<Ruleset>,
    /// By slot that stands in the text as a literal, how it was made; `None` for NULL.
    pub literals: Vec<Option<LiteralSlot>>,
}

/// How a slot in the text of a prepared statement was made.
#[derive(Debug)]
pub struct LiteralSlot {
    /// With whose keys.
    pub scope: Scoped,
    /// The key that it was sealed with; `None` for a term.
    pub dek: Option<DekId>,
}

impl Statement {
    /// Whether it prepares another statement when it runs.
    pub fn prepares(&self) -> bool {
        let prepares = |effect: &Effect| matches!(effect, Effect::Prepare { .. });
        let planned = self.protected.as_ref().map(|p| &p.prepared.plan.statements);
        self.effects.iter().any(prepares)
            || planned.is_some_and(|all| all.iter().any(|s| prepares(&s.effect)))
    }
}

/// A portal that a Bind made.
#[derive(Debug)]
pub struct Portal {
    /// Its statement.
    pub statement: Arc<Statement>,
    /// The session as it was at Bind; `None` for statements that are relayed.
    pub view: Option<Arc<View>>,
    /// Result formats as the client asked: none, one for all, or one each.
    pub formats: Vec<i16>,
    /// How to treat its rows; made by the first Describe or Execute.
    pub rules: Described,
}

/// What the server owes for one message.
#[derive(Debug)]
pub enum Owed {
    /// ParseComplete.
    Parse {
        /// The name parsed, and what it named before.
        name: Vec<u8>,
        /// What to put back if this fails.
        previous: Option<Arc<Statement>>,
        /// What the name means once the server confirms, if it means something else until then.
        confirmed: Option<Arc<Statement>>,
        /// Sent as a stand-in: the error to show instead of the server's.
        swap: Option<Box<Refusal>>,
        /// For positions in errors.
        map: Option<Arc<Prepared>>,
    },
    /// BindComplete.
    Bind {
        /// The name bound.
        name: Vec<u8>,
        /// What to put back if this fails.
        previous: Option<Arc<Portal>>,
        /// As in Parse.
        swap: Option<Box<Refusal>>,
    },
    /// ParameterDescription, then RowDescription or NoData.
    DescribeStatement(Option<Arc<Statement>>),
    /// RowDescription or NoData.
    DescribePortal(PortalNamed),
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute {
        /// Whose rows.
        portal: PortalNamed,
    },
    /// CloseComplete; what was closed is put back if this is skipped.
    Close(Closed),
    /// Nothing: here the client ended a COPY FROM STDIN, so what stands before was sent during the copy.
    CopyEnd,
    /// ReadyForQuery.
    Sync,
    /// Everything up to ReadyForQuery.
    Query(Box<QueryOwed>),
    /// FunctionCallResponse, ReadyForQuery.
    FunctionCall,
    /// The answers to queries of pgveil's own, which are swallowed.
    Probe {
        /// With a Sync of its own, so that a ReadyForQuery follows.
        synced: bool,
        /// CloseCompletes that are still to come: of each query `PROBE_CLOSES`.
        closes: usize,
    },
    /// The answers of a scope query, which are swallowed; its error is the error of the statement that it is asked for.
    ScopeQuery {
        /// With a Sync of its own, so that a ReadyForQuery follows.
        synced: bool,
        /// CloseCompletes that are still to come.
        closes: usize,
    },
    /// The answer to a stand-in that pgveil sent on its own account to fail the transaction; swallowed but
    /// for the ReadyForQuery.
    Failing,
}

/// The portal of a Describe or Execute.
#[derive(Debug)]
pub enum PortalNamed {
    /// One that a Bind of this session made.
    Bound(Arc<Portal>),
    /// This name: a cursor that SQL declared, or nothing.
    Other(Vec<u8>),
}

/// What a Close closed.
#[derive(Debug)]
pub enum Closed {
    /// A statement, by name.
    Statement(Vec<u8>, Option<Arc<Statement>>),
    /// A portal, by name.
    Portal(Vec<u8>, Option<Arc<Portal>>),
}

/// What a Query owes.
#[derive(Debug, Default)]
pub struct QueryOwed {
    /// The plan, if the text was analysed.
    pub prepared: Option<Arc<Prepared>>,
    /// For positions in errors: how the text sent relates to the client's.
    pub map: Option<PositionMap>,
    /// The session at the time; set if the text was analysed.
    pub view: Option<Arc<View>>,
    /// Index of the statement whose answer is awaited.
    pub statement: usize,
    /// The statement that stands in for a refused one, and the refusal to show.
    pub swap: Option<(usize, Box<Refusal>)>,
    /// The ruleset of the plan.
    pub ruleset: Option<Arc<Ruleset>>,
    /// How to treat the rows of the current result.
    pub rules: Option<Arc<ResultRules>>,
    /// What each statement does to the session's names, if the text was not analysed.
    pub effects: Vec<Effect>,
    /// The client's string goes on behind this part: its ReadyForQuery is not shown unless it failed.
    pub continues: bool,
    /// Behind so many statements of the client's stands one of pgveil's, whose answer is not shown.
    pub closed_by: Option<usize>,
    /// The server reported an error.
    pub failed: bool,
}

impl QueryOwed {
    /// Whether some statement of it that has not been answered prepares another.
    pub fn prepares(&self) -> bool {
        let prepares = |effect: &Effect| matches!(effect, Effect::Prepare { .. });
        let planned = self.prepared.as_ref().map(|p| &p.plan.statements);
        self.effects.iter().any(prepares)
            || planned.is_some_and(|all| all.iter().any(|s| prepares(&s.effect)))
    }
}

/// Rows that pgveil's own queries return together, at most.
const MAX_PROBE_ROWS: usize = MAX_FETCHED + 1;

/// Bytes of these rows that are kept.
const MAX_PROBE_BYTES: usize = 64 * 1024 * 1024;

/// Names remembered of which the server need not see what EXECUTE says.
const MAX_WITHHELD: usize = 4096;

/// The session's state that both directions share.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Owed answers, oldest first.
    pub owed: VecDeque<Owed>,
    /// Named statements.
    pub statements: HashMap<Vec<u8>, Arc<Statement>>,
    /// Portals, the unnamed one under the empty name.
    pub portals: HashMap<Vec<u8>, Arc<Portal>>,
    /// Cursors that SQL declared.
    pub cursors: Cursors,
    /// Something protected was once prepared or declared: from then on statements about names are looked at.
    pub names_used: bool,
    /// The last ReadyForQuery's status: `I`, `T` or `E`.
    pub status: u8,
    /// The server reported an error in the extended protocol and skips to the next Sync.
    pub skipping: bool,
    /// The server is in copy-in mode.
    pub copy_in: bool,
    /// The COPY FROM STDIN that is going on, if protected columns are in its rows; until the server has answered it.
    pub copying: Option<Arc<CopyJob>>,
    /// The client must not be asked for data: the COPY that has just begun is to fail.
    pub fail_copy: bool,
    /// The client's data for the COPY that is answered next has ended.
    copy_ended: bool,
    /// The answer of the last probe, handed to the client side once it has ended.
    pub probed: Option<Probed>,
    /// The rows of the current probe that have come.
    probe_rows: ProbeRows,
    probe_bytes: usize,
    /// Something in the running transaction may have changed a setting.
    pub settings_touched: bool,
    /// A name that was taken was parsed again, or SQL prepared one.
    pub name_was_taken: bool,
    /// A statement was prepared or a cursor declared that may change settings whenever it runs: the session is
    /// asked again before every protected statement.
    pub always_probe: bool,
    /// Something in the running transaction may have changed the catalog.
    pub catalog_touched: bool,
    /// It was something that names protected tables: what is protected, and under which names, may be different now.
    pub rules_touched: bool,
    /// A text that may have ended the transaction was sent since the last ReadyForQuery.
    pub may_have_ended: bool,
    /// The transaction that no BEGIN has begun.
    pub implicit: Implicit,
    /// Relations of the session's own may have come to hold or read sealed values since the last view.
    pub own_unknown: bool,
    /// The session's settings may differ from the last view.
    pub view_stale: bool,
    /// Names that something protected had or was to get, and that mean nothing now: what EXECUTE says of them does not
    /// reach the server.
    pub withheld: HashSet<Vec<u8>>,
    /// What PREPARE made of texts that were relayed.
    pub beside: Beside,
    /// How a part of a string ended: whether the rest may follow.
    pub part_ended: Option<bool>,
    /// A result could not be shown although the server had already answered: the transaction must be failed.
    pub fail_transaction: bool,
    /// Values were sealed, or are just being sealed, whose fate the server has not told.
    flight: Option<Flight>,
    /// They are just being sealed: nothing is owed for them yet.
    sealing: bool,
}

/// The rows that queries of pgveil's own returned.
pub type ProbeRows = Vec<Vec<Option<Vec<u8>>>>;

/// How a probe ended.
#[derive(Debug)]
pub enum Probed {
    /// The server's answer, the rows of all its queries.
    Rows(ProbeRows),
    /// They were more than can be kept.
    TooLarge,
    /// It was skipped or refused: the transaction has failed.
    Failed,
}

impl Probed {
    /// The rows; `None` if there are none because it failed.
    ///
    /// # Errors
    /// More than queries of pgveil's own can return.
    pub fn rows(self) -> Result<Option<ProbeRows>, SessionError> {
        match self {
            Self::Rows(rows) => Ok(Some(rows)),
            Self::TooLarge => Err(SessionError::OutOfStep),
            Self::Failed => Ok(None),
        }
    }
}

/// A query of pgveil's own closes its statement before it makes it, since one that failed left it behind; then its
/// portal and its statement.
pub const PROBE_CLOSES: usize = 3;

impl Ledger {
    /// A session that has just been authenticated: idle, nothing known.
    pub fn new() -> Self {
        Self {
            status: b'I',
            view_stale: true,
            ..Self::default()
        }
    }

    /// The server forgot a statement, or all. Those whose Parse was sent behind that live on: a Bind to one that
    /// is not known here would be relayed as it is, plaintext and all.
    pub fn forget_statements(&mut self, only: Option<&[u8]>) {
        let owed = &self.owed;
        let coming = |name: &[u8]| {
            owed.iter()
                .any(|owed| matches!(owed, Owed::Parse { name: parsed, .. } if parsed == name))
        };
        self.beside.forget(only);
        let withheld = &mut self.withheld;
        self.statements.retain(|name, statement| {
            // DEALLOCATE has no name for the unnamed one.
            let stays = name.is_empty() || only.is_some_and(|only| only != name) || coming(name);
            if !stays && statement.protected.is_some() && withheld.len() < MAX_WITHHELD {
                withheld.insert(name.clone());
            }
            stays
        });
    }

    /// A text is sent that is to prepare these statements; until the server has done so, they are not executed.
    pub fn withhold(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Prepare { name, .. } = effect
                && self.withheld.len() < MAX_WITHHELD
            {
                self.names_used = true;
                self.withheld.insert(name.into_bytes());
            }
        }
    }

    /// A message is sent whose answer decides what a name means.
    pub fn note_preparing(&mut self, prepares: bool) {
        self.name_was_taken |= prepares;
    }

    /// Whether a name that was taken was parsed again, or SQL prepares one, and the server has not said yet what
    /// became of it.
    pub fn is_name_unsettled(&mut self) -> bool {
        // Looked for only after it happened once: it hardly ever does.
        self.name_was_taken = self.name_was_taken
            && self.owed.iter().any(|owed| match owed {
                Owed::Parse {
                    previous: Some(_), ..
                } => true,
                Owed::Query(query) => query.prepares(),
                Owed::Execute {
                    portal: PortalNamed::Bound(portal),
                } => portal.statement.prepares(),
                _ => false,
            });
        self.name_was_taken
    }

    /// The server answered with an error: everything up to the next Sync is skipped and undone here.
    /// Returns whether a probe or scope query was among what is skipped.
    pub fn skip_to_sync(&mut self) -> bool {
        self.end_copy();
        let end = self
            .owed
            .iter()
            .position(|o| matches!(o, Owed::Sync))
            .unwrap_or(self.owed.len());
        let skipped: Vec<Owed> = self.owed.drain(..end).collect();
        self.skipping = self.owed.is_empty();
        // The unnamed statement is destroyed by a Parse that fails, and lives on behind one that is skipped.
        let destroyed =
            matches!(skipped.first(), Some(Owed::Parse { name, .. }) if name.is_empty());
        let mut probe = false;
        for owed in skipped.into_iter().rev() {
            probe |= self.undo(owed);
        }
        if destroyed {
            self.statements.remove(&[][..]);
        }
        if probe {
            self.probe_failed();
        }
        probe
    }

    /// A message was sent, or something in its place. What the server skips it does not answer: that is undone at once.
    pub fn owe(&mut self, owed: Owed) {
        if !self.skipping || matches!(owed, Owed::Sync) {
            self.owed.push_back(owed);
        } else if self.undo(owed) {
            self.probe_failed();
        }
    }

    /// The server skips a message. Returns whether it was a probe or a scope query.
    fn undo(&mut self, owed: Owed) -> bool {
        match owed {
            Owed::Parse { name, previous, .. } => restore(&mut self.statements, name, previous),
            Owed::Bind { name, previous, .. } => restore(&mut self.portals, name, previous),
            Owed::Close(Closed::Statement(name, previous)) => {
                restore(&mut self.statements, name, previous);
            }
            Owed::Close(Closed::Portal(name, previous)) => {
                restore(&mut self.portals, name, previous);
            }
            Owed::Probe { .. } | Owed::ScopeQuery { .. } => return true,
            _ => {}
        }
        false
    }

    /// A row of the probe or scope query arrived. False if there are more than can be.
    pub fn probe_row(&mut self, row: Vec<Option<Vec<u8>>>) -> bool {
        let bytes: usize = row.iter().flatten().map(Vec::len).sum();
        self.probe_bytes = self.probe_bytes.saturating_add(bytes);
        // Of too much the count alone is of use.
        let kept = self.probe_bytes <= MAX_PROBE_BYTES;
        self.probe_rows.push(if kept { row } else { Vec::new() });
        self.probe_rows.len() <= MAX_PROBE_ROWS
    }

    /// One of the CloseCompletes of a probe or scope query arrived; true with the last.
    pub fn probe_closed(&mut self) -> bool {
        let Some(Owed::Probe { closes, synced } | Owed::ScopeQuery { closes, synced }) =
            self.owed.front_mut()
        else {
            return false;
        };
        *closes = closes.saturating_sub(1);
        let ended = *closes == 0;
        if ended {
            if !*synced {
                self.implicit.asked();
            }
            let too_large = std::mem::take(&mut self.probe_bytes) > MAX_PROBE_BYTES;
            let rows = std::mem::take(&mut self.probe_rows);
            self.probed = Some(if too_large {
                Probed::TooLarge
            } else {
                Probed::Rows(rows)
            });
        }
        ended
    }

    /// The probe was refused or skipped.
    pub fn probe_failed(&mut self) {
        self.probe_rows.clear();
        self.probe_bytes = 0;
        self.probed = Some(Probed::Failed);
    }

    /// The oldest answer that is owed.
    pub fn front(&mut self) -> Option<&mut Owed> {
        while matches!(self.owed.front(), Some(Owed::CopyEnd)) {
            self.owed.pop_front();
        }
        self.owed.front_mut()
    }

    /// COPY FROM STDIN began within an Execute: the server ignores every Sync until the copy ends.
    /// `job`: protected columns are in its rows.
    pub fn begin_copy_in(&mut self, job: Option<Arc<CopyJob>>) {
        let ended = self
            .owed
            .iter()
            .position(|owed| matches!(owed, Owed::CopyEnd));
        self.copy_in = ended.is_none();
        self.copy_ended = ended.is_some();
        self.copying = job;
        if matches!(self.owed.front(), Some(Owed::Execute { .. })) {
            let end = ended.unwrap_or(self.owed.len());
            let mut index = 0;
            self.owed.retain(|owed| {
                index += 1;
                index > end || !matches!(owed, Owed::Sync)
            });
        }
    }

    /// The server is done with a COPY, one way or the other.
    pub fn end_copy(&mut self) {
        self.copy_in = false;
        self.copy_ended = false;
        self.fail_copy = false;
        self.copying = None;
    }

    /// The client has sent all data of the COPY that is going on, or the reason why there will be no more.
    pub fn client_ended_copy(&mut self) {
        self.copy_in = false;
        self.copy_ended = true;
    }

    /// A statement of the client's was completed.
    pub fn completed(&mut self, tag: &[u8]) {
        let by_execute = matches!(self.front(), Some(Owed::Execute { .. }));
        self.implicit.completed(tag, by_execute);
        self.cursors.completed(tag);
    }

    /// The message at hand is one whose values are sealed; the oldest flight is kept.
    pub fn take_off(&mut self, enter: impl FnOnce() -> Flight) {
        self.flight.get_or_insert_with(enter);
        self.sealing = true;
    }

    /// The message at hand is sent, or something in its place. `unsynced`: messages before it may be executed still.
    pub fn sent(&mut self, unsynced: bool) {
        self.sealing = false;
        if self.status == b'I' && self.owed.is_empty() && (self.skipping || !unsynced) {
            self.flight = None;
        }
    }

    /// ReadyForQuery arrived.
    pub fn ready(&mut self, status: u8) {
        self.skipping = false;
        self.may_have_ended &= !self.owed.is_empty();
        self.end_copy();
        let was = std::mem::replace(&mut self.status, status);
        self.cursors.ready(status == b'I');
        if status == b'I' {
            if self.owed.is_empty() {
                self.portals.clear();
                if !self.sealing {
                    self.flight = None;
                }
            }
            if std::mem::take(&mut self.settings_touched) && was != b'I' {
                self.view_stale = true;
            }
        }
    }
}

fn restore<T>(map: &mut HashMap<Vec<u8>, Arc<T>>, name: Vec<u8>, previous: Option<Arc<T>>) {
    match previous {
        Some(previous) => map.insert(name, previous),
        None => map.remove(&name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Arc<Statement> {
        Arc::new(Statement {
            scan: Scan::default(),
            effects: Vec::new(),
            protected: None,
            relayed: None,
            described: Described::default(),
            ends_transaction: false,
        })
    }

    fn parse(ledger: &mut Ledger, name: &[u8]) -> Arc<Statement> {
        let made = statement();
        let previous = ledger.statements.insert(name.to_vec(), Arc::clone(&made));
        ledger.owed.push_back(Owed::Parse {
            name: name.to_vec(),
            previous,
            confirmed: None,
            swap: None,
            map: None,
        });
        made
    }

    #[test]
    fn an_error_puts_back_what_the_skipped_messages_had_replaced() {
        let mut ledger = Ledger::new();
        let first = parse(&mut ledger, b"a");
        ledger.owed.clear();
        parse(&mut ledger, b"a");
        parse(&mut ledger, b"b");
        let closed = ledger.statements.remove(&b"a"[..]);
        ledger
            .owed
            .push_back(Owed::Close(Closed::Statement(b"a".to_vec(), closed)));
        ledger.owed.push_back(Owed::Sync);
        assert!(!ledger.skip_to_sync());
        assert!(Arc::ptr_eq(&ledger.statements[&b"a"[..]], &first));
        assert!(!ledger.statements.contains_key(&b"b"[..]));
        assert!(!ledger.skipping, "the Sync was sent already");
        assert_eq!(ledger.owed.len(), 1);
    }

    #[test]
    fn until_a_sync_is_sent_everything_is_skipped() {
        let mut ledger = Ledger::new();
        parse(&mut ledger, b"");
        ledger.owed.push_back(Owed::Probe {
            synced: false,
            closes: 2,
        });
        assert!(ledger.skip_to_sync(), "the probe is among what is skipped");
        assert!(ledger.skipping);
        assert!(matches!(ledger.probed, Some(Probed::Failed)));
    }

    #[test]
    fn copy_in_swallows_the_syncs_sent_before_its_data() {
        let mut ledger = Ledger::new();
        ledger.owed.push_back(Owed::Execute {
            portal: PortalNamed::Other(Vec::new()),
        });
        ledger.owed.push_back(Owed::Sync);
        ledger.begin_copy_in(None);
        assert_eq!(ledger.owed.len(), 1);
        assert!(ledger.copy_in);
    }

    #[test]
    fn a_statement_parsed_behind_deallocate_all_is_not_forgotten() {
        let mut ledger = Ledger::new();
        parse(&mut ledger, b"old");
        ledger.owed.clear();
        parse(&mut ledger, b"new");
        ledger.forget_statements(Some(b"other"));
        assert_eq!(ledger.statements.len(), 2);
        ledger.forget_statements(None);
        assert!(ledger.statements.contains_key(&b"new"[..]));
        assert!(!ledger.statements.contains_key(&b"old"[..]));
    }

    #[test]
    fn a_sync_behind_the_end_of_the_copy_is_answered() {
        let mut ledger = Ledger::new();
        ledger.owed.extend([
            Owed::Execute {
                portal: PortalNamed::Other(Vec::new()),
            },
            Owed::Sync,
            Owed::CopyEnd,
            Owed::Sync,
        ]);
        ledger.begin_copy_in(None);
        assert!(!ledger.copy_in);
        ledger.owed.pop_front();
        assert!(matches!(ledger.front(), Some(Owed::Sync)));
        assert_eq!(ledger.owed.len(), 1);
    }

    #[test]
    fn what_was_set_within_a_transaction_is_asked_again_after_it() {
        let mut ledger = Ledger::new();
        ledger.view_stale = false;
        ledger.settings_touched = true;
        ledger.ready(b'T');
        assert!(!ledger.view_stale);
        ledger.ready(b'I');
        assert!(ledger.view_stale);
    }
}
