//! From the server to the client: answers are matched with what is owed, descriptions show logical types,
//! rows are opened, the errors of stand-ins become refusals. Everything else is relayed undecoded.
//!
//! It never writes to the server.

mod ahead;
mod broken;
mod copy;
mod errors;
mod portals;
mod rows;

use std::{collections::HashSet, sync::Arc};

use pgveil_policy::{
    plan::{ClientParam, ColumnId, Effect, Output, ServerParam},
    splice::PositionMap,
};
use tokio::io::{AsyncRead, AsyncWrite};

use self::portals::{cursor_rules, portal_rules};
use super::{
    End, SessionError, Shared,
    ledger::{Closed, Owed, PortalNamed, Probed},
    names::Planned,
    refuse::put_refusal,
    results::{ResultRules, is_ciphertext, judge, stray_ciphertext},
    values::Scratch,
};
use crate::{
    frame::{FrameReader, FrameWriter, Next},
    messages::{
        CommandComplete, DataRow, ErrorFields, ParameterDescription, ReadyForQuery, RowDescription,
        TransactionStatus, tag::server as tag,
    },
};

const BYTEA: u32 = 17;
const TEXT: u32 = 25;
/// Declaring a parameter `unknown` leaves its type to the server, as 0 does.
const UNKNOWN: u32 = 705;
const IN_FAILED_TRANSACTION: &[u8] = b"25P02";

/// The reading half of the server and the writing half of the client.
pub struct UpstreamSide<R, W> {
    reader: FrameReader<R>,
    client: FrameWriter<W>,
    shared: Arc<Shared>,
    /// How to treat the rows that come now; `None` between results.
    rules: Option<Arc<ResultRules>>,
    /// An answer could not be shown: everything up to ReadyForQuery is swallowed.
    broken: bool,
    /// The COPY TO STDOUT that is going on.
    copying_out: Option<copy::CopyingOut>,
    scratch: Scratch,
    ahead: ahead::Ahead,
    /// Columns of which it was said that this session does not see them.
    told: HashSet<ColumnId>,
}

/// What becomes of a frame.
enum Fate {
    Pass,
    Skip,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> UpstreamSide<R, W> {
    /// A session that has just become ready.
    pub fn new(reader: FrameReader<R>, client: FrameWriter<W>, shared: Arc<Shared>) -> Self {
        Self {
            reader,
            client,
            shared,
            rules: None,
            broken: false,
            copying_out: None,
            scratch: Scratch::default(),
            ahead: ahead::Ahead::default(),
            told: HashSet::new(),
        }
    }

    /// The writer, for a last word to the client when the session ends.
    pub fn client(&mut self) -> &mut FrameWriter<W> {
        &mut self.client
    }

    /// Runs until the server closes.
    ///
    /// # Errors
    /// When either socket fails or the server's answers do not match what it owes.
    pub async fn run(&mut self) -> Result<End, SessionError> {
        loop {
            let (tag, whole) = match self.reader.next().map_err(SessionError::Server)? {
                Next::Frame(frame) => (frame.tag, true),
                Next::Large(header) => (header.tag, false),
                Next::Wait => {
                    self.client
                        .flush(&mut self.reader)
                        .await
                        .map_err(SessionError::ClientGone)?;
                    if self.reader.fill().await.map_err(SessionError::Server)? == 0 {
                        return Ok(End::ServerClosed);
                    }
                    continue;
                }
            };
            if !whole && !self.passes_unseen(tag) {
                self.client
                    .flush(&mut self.reader)
                    .await
                    .map_err(SessionError::ClientGone)?;
                if self.reader.fill().await.map_err(SessionError::Server)? == 0 {
                    return Ok(End::ServerClosed);
                }
                continue;
            }
            match self.frame(tag).await? {
                Fate::Pass => self.reader.pass(),
                Fate::Skip => self.reader.skip(),
            }
            if self.client.is_full() {
                self.client
                    .flush(&mut self.reader)
                    .await
                    .map_err(SessionError::ClientGone)?;
            }
        }
    }

    /// Frames that need no look and may go by in pieces, whatever their length.
    fn passes_unseen(&self, tag: u8) -> bool {
        match tag {
            tag::COPY_DATA => {
                self.broken || !matches!(self.copying_out, Some(copy::CopyingOut::Opened(_)))
            }
            tag::DATA_ROW => self.broken || self.rules.as_ref().is_some_and(|rules| rules.relay),
            _ => false,
        }
    }

    async fn frame(&mut self, tag: u8) -> Result<Fate, SessionError> {
        if self.broken
            && !matches!(
                tag,
                tag::READY_FOR_QUERY
                    | tag::NOTICE_RESPONSE
                    | tag::NOTIFICATION_RESPONSE
                    | tag::PARAMETER_STATUS
            )
        {
            self.swallow(tag);
            return Ok(Fate::Skip);
        }
        match tag {
            tag::DATA_ROW => self.data_row().await,
            tag::COMMAND_COMPLETE => Ok(self.complete()),
            tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED => Ok(self.executed(tag)),
            tag::PARSE_COMPLETE | tag::BIND_COMPLETE | tag::CLOSE_COMPLETE => {
                Ok(self.confirmed(tag))
            }
            tag::ROW_DESCRIPTION => self.row_description(),
            tag::NO_DATA => {
                self.described(Some(ResultRules::none()));
                Ok(Fate::Pass)
            }
            tag::PARAMETER_DESCRIPTION => self.parameter_description(),
            tag::ERROR_RESPONSE => self.error(),
            tag::READY_FOR_QUERY => self.ready(),
            tag::PARAMETER_STATUS => {
                self.shared.ledger().view_stale = true;
                Ok(Fate::Pass)
            }
            tag::COPY_IN_RESPONSE => self.begin_copy_in(),
            tag::COPY_OUT_RESPONSE => self.begin_copy_out(),
            tag::COPY_DATA if self.copying_out.is_some() => self.copy_data().await,
            tag::NOTICE_RESPONSE => Ok(self.notice()),
            // A function called by its OID may hand out what it read from a protected table.
            tag::FUNCTION_CALL_RESPONSE
                if self
                    .reader
                    .current()
                    .is_some_and(|f| f.body.get(4..).is_some_and(is_ciphertext)) =>
            {
                self.break_off(stray_ciphertext())
            }
            _ => Ok(Fate::Pass),
        }
    }

    async fn data_row(&mut self) -> Result<Fate, SessionError> {
        if let Some(rules) = &self.rules
            && rules.relay
        {
            return Ok(Fate::Pass);
        }
        if self.rules.is_none() {
            match self.rules_of_front() {
                Some(rules) => self.rules = Some(rules),
                None => {
                    self.collect_probe()?;
                    return Ok(Fate::Skip);
                }
            }
        }
        let Some(rules) = self.rules.clone() else {
            return Ok(Fate::Pass);
        };
        if !rules.opens {
            return match rows::guard(&self.reader, &rules) {
                Ok(()) => Ok(Fate::Pass),
                Err(refusal) => self.break_off(refusal),
            };
        }
        self.tell_withheld(&rules);
        loop {
            let queue = self.client.settle(&mut self.reader);
            let Some(frame) = self.reader.current() else {
                return Ok(Fate::Pass);
            };
            match rows::open(
                frame.body,
                &rules,
                &self.shared.engine.keys,
                &mut self.scratch,
                queue,
            ) {
                Ok(None) => return Ok(Fate::Skip),
                Ok(Some(key)) => {
                    if let Err(refusal) = self.fetch_key(key).await {
                        return self.break_off(refusal);
                    }
                }
                Err(refusal) => return self.break_off(refusal),
            }
        }
    }

    /// The rules for rows that come without a RowDescription of their own: what a Describe said earlier, what
    /// the analysis says, or nothing. `None` if the rows are the probe's.
    fn rules_of_front(&self) -> Option<Arc<ResultRules>> {
        let mut ledger = self.shared.ledger();
        match ledger.front() {
            Some(Owed::Execute {
                portal: PortalNamed::Bound(portal),
            }) => {
                let portal = Arc::clone(portal);
                Some(portal_rules(&portal, &ledger))
            }
            Some(Owed::Execute {
                portal: PortalNamed::Other(name),
            }) => {
                let name = name.clone();
                Some(Arc::new(cursor_rules(ledger.cursor(&name), &[])))
            }
            Some(Owed::Probe { .. } | Owed::ScopeQuery { .. }) => None,
            Some(Owed::Query(query)) => query
                .rules
                .clone()
                .or_else(|| Some(Arc::new(ResultRules::unknown()))),
            _ => Some(Arc::new(ResultRules::unknown())),
        }
    }

    fn collect_probe(&self) -> Result<(), SessionError> {
        let Some(frame) = self.reader.current() else {
            return Ok(());
        };
        let row = DataRow::read(frame.body).map_err(|_| SessionError::OutOfStep)?;
        let fields = row.values().map(|v| v.map(<[u8]>::to_vec)).collect();
        if self.shared.ledger().probe_row(fields) {
            Ok(())
        } else {
            Err(SessionError::OutOfStep)
        }
    }

    fn complete(&mut self) -> Fate {
        self.rules = None;
        self.copying_out = None;
        let Some(frame) = self.reader.current() else {
            return Fate::Pass;
        };
        let done = CommandComplete::read(frame.body)
            .map(|c| c.tag.to_vec())
            .unwrap_or_default();
        let mut ledger = self.shared.ledger();
        if let Some(Owed::Probe { .. } | Owed::ScopeQuery { .. }) = ledger.front() {
            // Its statement and portal are closed after it; the probe itself ends with those answers.
            return Fate::Skip;
        }
        if let Some(Owed::Query(query)) = ledger.front()
            && query.closed_by == Some(query.statement)
        {
            return Fate::Skip;
        }
        ledger.end_copy();
        match done.as_slice() {
            b"DEALLOCATE ALL" => ledger.forget_statements(None),
            b"DISCARD ALL" => ledger.apply(&Effect::DiscardAll, None),
            _ => {}
        }
        ledger.completed(&done);
        let shown = shown_tag(ledger.owed.front_mut());
        let fate = match ledger.owed.front_mut() {
            Some(Owed::Query(query)) => {
                let at = query.statement;
                query.statement += 1;
                query.rules = None;
                let planned = query.prepared.clone().zip(query.ruleset.clone());
                let planned = planned.map(|(prepared, ruleset)| Planned {
                    prepared,
                    statement: at,
                    view: query.view.clone(),
                    ruleset,
                });
                let plain =
                    (at < query.effects.len()).then(|| std::mem::take(&mut query.effects[at]));
                ledger.took_effect(planned, plain.as_ref());
                Fate::Pass
            }
            Some(Owed::Execute { .. }) => {
                if let Some(Owed::Execute {
                    portal: PortalNamed::Bound(portal),
                }) = ledger.owed.pop_front()
                {
                    let plain = portal.statement.effects.first();
                    ledger.took_effect(Planned::of_portal(&portal), plain);
                }
                Fate::Pass
            }
            _ => Fate::Pass,
        };
        drop(ledger);
        self.shared.drained.notify_waiters();
        if let Some(tag) = shown {
            let queue = self.client.settle(&mut self.reader);
            CommandComplete {
                tag: tag.as_bytes(),
            }
            .write(queue);
            return Fate::Skip;
        }
        fate
    }

    fn executed(&mut self, tag: u8) -> Fate {
        self.rules = None;
        let mut ledger = self.shared.ledger();
        match ledger.front() {
            Some(Owed::Query(query)) if tag == tag::EMPTY_QUERY_RESPONSE => query.statement += 1,
            Some(Owed::Execute { .. }) => {
                if tag == tag::PORTAL_SUSPENDED {
                    ledger.implicit.suspended();
                }
                ledger.owed.pop_front();
            }
            _ => {}
        }
        drop(ledger);
        self.shared.drained.notify_waiters();
        Fate::Pass
    }

    fn confirmed(&mut self, tag: u8) -> Fate {
        let mut ledger = self.shared.ledger();
        match (ledger.front(), tag) {
            (Some(Owed::Parse { .. }), tag::PARSE_COMPLETE) => {
                if let Some(Owed::Parse {
                    name,
                    confirmed: Some(statement),
                    ..
                }) = ledger.owed.pop_front()
                {
                    ledger.statements.insert(name, statement);
                }
                self.shared.drained.notify_waiters();
                Fate::Pass
            }
            (Some(Owed::Bind { .. }), tag::BIND_COMPLETE)
            | (Some(Owed::Close(_)), tag::CLOSE_COMPLETE) => {
                // Portals and cursors share their names.
                if let Some(Owed::Bind { name, .. } | Owed::Close(Closed::Portal(name, _))) =
                    ledger.owed.pop_front()
                {
                    ledger.cursors.close(Some(&name));
                }
                self.shared.drained.notify_waiters();
                Fate::Pass
            }
            (Some(Owed::Probe { synced, .. } | Owed::ScopeQuery { synced, .. }), tag) => {
                let synced = *synced;
                let ended = if tag == tag::CLOSE_COMPLETE {
                    ledger.probe_closed()
                } else {
                    false
                };
                if ended && !synced {
                    ledger.owed.pop_front();
                    drop(ledger);
                    self.shared.probed.notify_one();
                }
                Fate::Skip
            }
            _ => Fate::Pass,
        }
    }

    fn row_description(&mut self) -> Result<Fate, SessionError> {
        let queue = self.client.settle(&mut self.reader);
        let Some(frame) = self.reader.current() else {
            return Ok(Fate::Pass);
        };
        let row = RowDescription::read(frame.body).map_err(|_| SessionError::OutOfStep)?;
        let planned = self.shared.ledger().described();
        let unknown = Output::Unknown;
        let output = planned.as_ref().map_or(&unknown, Planned::output);
        let view = planned.as_ref().and_then(|planned| planned.view.as_ref());
        let ruleset = planned.as_ref().map_or_else(
            || Arc::clone(&self.shared.engine.rules().set),
            |planned| Arc::clone(&planned.ruleset),
        );
        match judge(&ruleset, output, view, &row, queue) {
            Ok(judged) => {
                let rewritten = judged.rewritten;
                self.described(Some(judged.rules));
                Ok(if rewritten { Fate::Skip } else { Fate::Pass })
            }
            Err(refusal) => {
                // A change beside pgveil, most likely: whoever tries again is not to meet the old catalog.
                self.shared.engine.catalog_may_have_changed(false);
                self.break_off(refusal)
            }
        }
    }

    /// Keeps the rules where the rows will look for them.
    fn described(&mut self, rules: Option<ResultRules>) {
        let rules = rules.map(Arc::new);
        let mut ledger = self.shared.ledger();
        match ledger.front() {
            Some(Owed::Query(query)) => {
                query.rules.clone_from(&rules);
                self.rules = rules;
            }
            Some(Owed::DescribeStatement(statement)) => {
                if let Some(statement) = statement {
                    *super::lock(&statement.described) = rules;
                }
                ledger.owed.pop_front();
            }
            Some(Owed::DescribePortal(portal)) => {
                if let PortalNamed::Bound(portal) = portal {
                    *super::lock(&portal.rules) = rules;
                }
                ledger.owed.pop_front();
            }
            // EXECUTE and the like describe their rows as they run.
            _ => self.rules = rules,
        }
        drop(ledger);
        self.shared.drained.notify_waiters();
    }

    fn parameter_description(&mut self) -> Result<Fate, SessionError> {
        let statement = match self.shared.ledger().front() {
            Some(Owed::DescribeStatement(Some(statement))) => Arc::clone(statement),
            _ => return Ok(Fate::Pass),
        };
        let Some(protected) = &statement.protected else {
            return Ok(Fate::Pass);
        };
        let plan = &protected.prepared.plan;
        if plan.server_params.is_empty() && !plan.answers_itself {
            return Ok(Fate::Pass);
        }
        let queue = self.client.settle(&mut self.reader);
        let Some(frame) = self.reader.current() else {
            return Ok(Fate::Pass);
        };
        let server = ParameterDescription::read(frame.body).map_err(|_| SessionError::OutOfStep)?;
        let server: Vec<u32> = server.oids().collect();
        let shown = plan.client_params.iter().enumerate().map(|(index, param)| {
            let declared = protected
                .declared
                .get(index)
                .copied()
                .filter(|oid| ![0, UNKNOWN].contains(oid));
            match param {
                ClientParam::Server(_) if plan.answers_itself => declared.unwrap_or(TEXT),
                ClientParam::Server(at) => server.get(*at).copied().unwrap_or(0),
                ClientParam::Logical(logical) => declared.unwrap_or_else(|| logical.oid()),
                ClientParam::Array(logical) => declared.unwrap_or_else(|| logical.array_oid()),
                ClientParam::Converted { from } | ClientParam::Cast { from, .. } => {
                    declared.unwrap_or_else(|| from.oid())
                }
            }
        });
        // Slots are bytea because Parse said so; anything else means that plan and server are out of step.
        let agrees = plan
            .server_params
            .iter()
            .enumerate()
            .all(|(at, param)| match param {
                ServerParam::Slot(slot) if !plan.slots[*slot].make.is_array() => {
                    server.get(at) == Some(&BYTEA)
                }
                _ => true,
            });
        if !agrees {
            return Err(SessionError::OutOfStep);
        }
        ParameterDescription::write(queue, shown).map_err(|_| SessionError::OutOfStep)?;
        Ok(Fate::Skip)
    }

    fn error(&mut self) -> Result<Fate, SessionError> {
        self.rules = None;
        self.copying_out = None;
        let copy_error = self.copy_error();
        let queue = self.client.settle(&mut self.reader);
        let Some(frame) = self.reader.current() else {
            return Ok(Fate::Pass);
        };
        let fields = ErrorFields::read(frame.body).map_err(|_| SessionError::OutOfStep)?;
        let fatal = fields
            .get(b'V')
            .or(fields.get(b'S'))
            .is_some_and(|s| s == b"FATAL" || s == b"PANIC");
        let mut ledger = self.shared.ledger();
        if fatal {
            return Ok(Fate::Pass);
        }
        ledger.cursors.failed();
        let aborted = fields.get(b'C') == Some(IN_FAILED_TRANSACTION);
        let replaced = shown_tag(ledger.front()).is_some();
        let fate = match ledger.front() {
            _ if copy_error.is_some() => Fate::Skip,
            Some(Owed::Query(query)) => match &query.swap {
                Some((at, refusal)) if *at == query.statement && !aborted => {
                    put_refusal(queue, refusal);
                    Fate::Skip
                }
                _ => errors::mapped(queue, fields, query.map.as_ref(), replaced),
            },
            Some(
                Owed::Parse {
                    swap: Some(refusal),
                    ..
                }
                | Owed::Bind {
                    swap: Some(refusal),
                    ..
                },
            ) if !aborted => {
                put_refusal(queue, refusal);
                Fate::Skip
            }
            Some(Owed::Parse {
                map: Some(prepared),
                ..
            }) => errors::mapped(
                queue,
                fields,
                prepared.spliced.as_ref().map(|s| &s.map),
                replaced,
            ),
            Some(Owed::Execute {
                portal: PortalNamed::Bound(portal),
            }) => {
                let sent = portal.statement.protected.as_ref();
                let sent = sent.and_then(|protected| protected.prepared.spliced.as_ref());
                errors::mapped(queue, fields, sent.map(|spliced| &spliced.map), replaced)
            }
            Some(Owed::Probe { synced: true, .. } | Owed::Failing) => Fate::Skip,
            // It is not the client's text that a position would be in.
            Some(Owed::Probe { .. } | Owed::ScopeQuery { .. }) => {
                errors::mapped(queue, fields, Some(&PositionMap::nowhere()), true)
            }
            _ => errors::mapped(queue, fields, None, replaced),
        };
        match ledger.front() {
            Some(Owed::Query(query)) => {
                query.failed = true;
                self.shared.drained.notify_waiters();
            }
            Some(Owed::FunctionCall | Owed::Failing) => {}
            Some(Owed::Probe { synced: true, .. } | Owed::ScopeQuery { synced: true, .. }) => {
                ledger.probe_failed();
            }
            _ => {
                if ledger.skip_to_sync() {
                    self.shared.probed.notify_one();
                }
                self.shared.drained.notify_waiters();
            }
        }
        Ok(fate)
    }

    fn ready(&mut self) -> Result<Fate, SessionError> {
        self.rules = None;
        self.copying_out = None;
        let Some(frame) = self.reader.current() else {
            return Ok(Fate::Pass);
        };
        let status = ReadyForQuery::read(frame.body)
            .map_err(|_| SessionError::OutOfStep)?
            .status;
        let code = match status {
            TransactionStatus::Idle => b'I',
            TransactionStatus::Transaction => b'T',
            TransactionStatus::Error => b'E',
        };
        let mut ledger = self.shared.ledger();
        let answered = loop {
            match ledger.owed.pop_front() {
                Some(
                    owed @ (Owed::Sync
                    | Owed::Query(_)
                    | Owed::FunctionCall
                    | Owed::Failing
                    | Owed::Probe { synced: true, .. }
                    | Owed::ScopeQuery { synced: true, .. }),
                ) => break owed,
                Some(_) => {}
                None => return Err(SessionError::OutOfStep),
            }
        };
        let query = matches!(
            answered,
            Owed::Query(_) | Owed::FunctionCall | Owed::Failing
        );
        ledger.implicit.ready(code, query);
        ledger.ready(code);
        if code == b'I' && ledger.catalog_touched {
            self.shared
                .engine
                .catalog_may_have_changed(ledger.rules_touched);
            // What touched it may have been sent behind what was answered now.
            let pending = !ledger.owed.is_empty();
            ledger.catalog_touched = pending;
            ledger.rules_touched &= pending;
        }
        let broken = std::mem::take(&mut self.broken);
        if matches!(&answered, Owed::Query(query) if query.continues) {
            ledger.part_ended = Some(false);
        }
        let fate = match answered {
            Owed::Probe { .. } => {
                if ledger.probed.is_none() {
                    ledger.probe_failed();
                }
                self.shared.probed.notify_one();
                Fate::Skip
            }
            Owed::ScopeQuery { .. } => {
                // Its error was shown in the place of the statement's.
                let ended = ledger.probed.get_or_insert(Probed::Failed);
                let fate = match ended {
                    Probed::Rows(_) | Probed::TooLarge => Fate::Skip,
                    Probed::Failed => Fate::Pass,
                };
                self.shared.probed.notify_one();
                fate
            }
            Owed::Query(query) if query.continues && !query.failed && !broken => {
                ledger.part_ended = Some(true);
                Fate::Skip
            }
            _ if broken && code == b'T' => {
                // The client was told of an error, so the transaction has to fail; its ReadyForQuery is the
                // one that follows. What was sent ahead would run in a transaction that should have failed.
                if !ledger.owed.is_empty() {
                    return Err(SessionError::CannotFail);
                }
                ledger.fail_transaction = true;
                self.shared.fail.notify_one();
                Fate::Skip
            }
            _ => Fate::Pass,
        };
        drop(ledger);
        self.shared.drained.notify_waiters();
        Ok(fate)
    }
}

/// The command tag to show instead of the server's, which ran another command in its place.
fn shown_tag(owed: Option<&mut Owed>) -> Option<&'static str> {
    let (plan, statement) = match owed? {
        Owed::Query(query) => (query.prepared.as_ref()?, query.statement),
        Owed::Execute {
            portal: PortalNamed::Bound(portal),
        } => (&portal.statement.protected.as_ref()?.prepared, 0),
        _ => return None,
    };
    plan.plan.statements.get(statement)?.tag
}
