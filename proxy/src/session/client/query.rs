//! The simple protocol: one string, any number of statements, spliced in place and never re-joined.

use std::{fmt::Write, sync::Arc};

use pgveil_policy::{
    Plan, Refusal,
    analysis::{self, Course, Protocol, cut_before},
    plan::{Effect, Make, Output},
    scan::Scan,
    splice::PositionMap,
    text::statements,
};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    ClientSide, effects_of, ends_transaction,
    guard::{ATTEMPTS, Stood, unsettled},
    probe::Ground,
    renew::Renewed,
    scopes::{Answered, Behind},
    state_unreadable,
};
use crate::{
    engine::{Prepared, Rules},
    messages::Query,
    session::{
        SessionError,
        ledger::{Owed, QueryOwed},
        refuse::STAND_IN,
        values::{Ahead, Made, Maker, Parameters},
        view::View,
    },
};

/// A statement behind the client's own, so that the transaction that a guard has begun ends with the Query. No application
/// listens to a channel of that name; its answer is not shown.
const CLOSES: &str = "\n; UNLISTEN \"pgveil guard\"";

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    pub(super) async fn query(&mut self) -> Result<(), SessionError> {
        if self.is_skipped().await? {
            return Ok(());
        }
        if let Err(refusal) = self.shared.engine.know_names().await {
            return self.refuse_query(refusal);
        }
        let named = self.reader.current().map(|frame| Query::read(frame.body));
        let named = named.and_then(Result::ok);
        let unknown = named.map(|query| self.unknown_relations(query.sql));
        if let Some(unknown) = unknown
            && let Err(refusal) = self.know_relations(unknown).await
        {
            return self.refuse_query(refusal);
        }
        let named = self.reader.current().map(|frame| Query::read(frame.body));
        let named = named.and_then(Result::ok);
        let scan = named.map(|query| self.scan_by_rules(query.sql));
        let asks = named.is_some_and(|query| {
            let (scan, _) = self.scan(query.sql);
            scan.protected || scan.names
        });
        if let Err(refusal) = self.end_own(asks).await? {
            return self.refuse_query(refusal);
        }
        self.know_own(scan).await?;
        if self.has_failed() {
            self.reader.skip();
            return Ok(());
        }
        let Some(frame) = self.reader.current() else {
            return Ok(());
        };
        let (scan, own, ends, effects, sql) = match Query::read(frame.body) {
            Ok(query) => {
                let (scan, own) = self.scan(query.sql);
                let looked_at = self.is_looked_at(scan);
                let effects = if looked_at {
                    Vec::new()
                } else {
                    effects_of(scan, query.sql)
                };
                let sql = looked_at
                    .then(|| Zeroizing::new(String::from_utf8_lossy(query.sql).into_owned()));
                let exact = sql.as_ref().is_none_or(|sql| sql.as_bytes() == query.sql);
                (
                    scan,
                    own,
                    ends_transaction(query.sql),
                    effects,
                    sql.map(|sql| (sql, exact)),
                )
            }
            // The server says what is wrong with it; but it need not see what may be plaintext.
            Err(malformed) => {
                let refusal = Refusal::new("08P01", "malformed-message", malformed.to_string());
                return self.refuse_query(refusal);
            }
        };
        if scan.names {
            self.settle_names().await?;
        }
        self.note_effects(scan, ends);
        {
            let mut ledger = self.shared.ledger();
            ledger.statements.remove(&[][..]);
            ledger.portals.remove(&[][..]);
        }
        match sql {
            None => {
                let owed = QueryOwed {
                    effects,
                    ..QueryOwed::default()
                };
                self.shared.ledger().note_preparing(owed.prepares());
                self.owe(Some(Owed::Query(Box::new(owed))));
                self.queried();
                self.reader.pass();
                Ok(())
            }
            Some((_, false)) => self.refuse_query(not_utf8()),
            Some((sql, true)) => {
                self.shared
                    .ledger()
                    .withhold(effects_of(scan, sql.as_bytes()));
                let mut from = 0;
                if !self.shared.engine.rules().set.guards.is_empty() {
                    // Whether a transaction is open has to be known.
                    self.settle_all().await?;
                }
                loop {
                    let sent = self.protected_query(&sql, from, scan, own).await?;
                    self.sent();
                    match sent {
                        Sent::AsItIs => return Ok(()),
                        Sent::Part(next) if self.part_ended().await? => from = next,
                        Sent::Part(_) | Sent::All => break,
                    }
                }
                self.reader.skip();
                Ok(())
            }
        }
    }

    /// Waits until the server has answered a part of a string. False if it failed: the rest is not sent, as the server
    /// would not have run it.
    async fn part_ended(&mut self) -> Result<bool, SessionError> {
        self.upstream
            .flush(&mut self.reader)
            .await
            .map_err(SessionError::Upstream)?;
        loop {
            if let Some(ended) = self.shared.ledger().part_ended.take() {
                return Ok(ended);
            }
            self.shared.drained.notified().await;
        }
    }

    /// Sends the client's string from this byte on, or as much of it as can be planned now; then where the rest begins.
    async fn protected_query(
        &mut self,
        whole: &str,
        from: usize,
        scan: Scan,
        own: bool,
    ) -> Result<Sent, SessionError> {
        if from == 0
            && let Some(end) = self.ends_failed_transaction(whole)
        {
            self.owe(Some(Owed::Query(Box::new(QueryOwed {
                continues: true,
                ..QueryOwed::default()
            }))));
            self.queried();
            let queue = self.upstream.settle(&mut self.reader);
            let sql = &whole.as_bytes()[..end];
            let written = Query { sql }.write(queue);
            written.expect("a part of a message is no longer than the message");
            self.note_effects(scan, true);
            return Ok(Sent::Part(end));
        }
        let mut part = Part {
            sql: &whole[from..],
            before: whole[..from].chars().count(),
            continues: false,
        };
        let mut ground = match self.ground().await? {
            Ok(ground) => ground,
            Err(refusal) => return Ok(self.refuse_all(refusal)),
        };
        let in_block = self.known_block();
        if ground.view.is_some() {
            ground = match self.guard_part(&mut part, ground, own, in_block).await? {
                Stood::Holds(ground) => ground,
                Stood::Refused(refusal) => return Ok(self.refuse_all(refusal)),
                Stood::Failed => {
                    self.end_failed();
                    return Ok(Sent::All);
                }
            };
        }
        if scan.settings || scan.catalog {
            // It was noted before the probe ran, which read the state before it.
            self.note_effects(scan, true);
        }
        let Some(view) = ground.view else {
            if self.has_failed() {
                return Ok(Sent::All);
            }
            if own && from == 0 {
                // The transaction has failed: the server refuses all but its end, which names nothing.
                self.owe(Some(Owed::Query(Box::default())));
                self.queried();
                self.reader.pass();
                return Ok(Sent::AsItIs);
            }
            return Ok(self.refuse_all(state_unreadable()));
        };
        let engine = Arc::clone(&self.shared.engine);
        let mut planned = self.plan(&ground.rules, part.sql, &view, Protocol::Simple, &[]);
        if let Ok(prepared) = &planned
            && let Some(at) = cut(part.sql, &prepared.plan, in_block)
        {
            part.sql = &part.sql[..at];
            part.continues = true;
            planned = self.plan(&ground.rules, part.sql, &view, Protocol::Simple, &[]);
        }
        if let Ok(prepared) = &planned
            && let Some(at) = cut_before_asking(part.sql, prepared, in_block)
        {
            part.sql = &part.sql[..at];
            part.continues = true;
            planned = self.plan(&ground.rules, part.sql, &view, Protocol::Simple, &[]);
        }
        let prepared = match planned {
            Ok(prepared) => prepared,
            Err(refusal) => return Ok(self.refuse_all(part.located(refusal))),
        };
        self.note_derived(scan);
        let sent = if part.continues {
            Sent::Part(from + part.sql.len())
        } else {
            Sent::All
        };
        let closed = match self.is_to_be_closed(&view) {
            Ok(closed) => closed,
            Err(refusal) => return Ok(self.refuse_all(refusal)),
        };
        if from == 0
            && !part.continues
            && !closed
            && prepared.plan.is_identity()
            && prepared
                .plan
                .statements
                .iter()
                .all(|s| s.output == Output::Unknown && matches!(s.effect, Effect::None))
        {
            self.owe(Some(Owed::Query(Box::default())));
            self.queried();
            self.reader.pass();
            return Ok(Sent::AsItIs);
        }
        let timed = asks_for_moments(&prepared.plan);
        let in_block = match in_block {
            None if timed => {
                self.settle_all().await?;
                // What a Query has left open is as good as a block here: nothing is cut by it.
                let left_open = self.shared.ledger().implicit.is_left_open();
                self.known_block().or(left_open.then_some(true))
            }
            known => known,
        };
        if timed && !of_one_moment(part.sql, &prepared.plan, in_block) {
            return Ok(self.refuse_all(several_moments()));
        }
        self.take_off(&prepared);
        let behind = match in_block {
            Some(false) if timed => Behind::QueryInTheSame,
            _ => Behind::Query,
        };
        let asked = match self
            .ask_scopes(&prepared, &ground.rules, &view, behind)
            .await?
        {
            Answered::Scopes(asked) => asked,
            Answered::Refused(refusal) => return Ok(self.refuse_all(part.located(refusal))),
            Answered::Failed => {
                self.end_failed();
                return Ok(Sent::All);
            }
        };
        let made = Maker {
            engine: &engine,
            rules: &ground.rules.set,
            prepared: &prepared,
            view: &view,
            params: Parameters::default(),
            asked: &asked,
            ahead: Ahead::default(),
        }
        .make_all()
        .await;
        let closed = self.is_to_be_closed(&view);
        match made.and_then(|made| Ok((made, closed?))) {
            Ok((made, closed)) => {
                self.send_query(&part, &prepared, &ground.rules, view, (&made, closed));
                Ok(sent)
            }
            Err(refusal) => Ok(self.refuse_all(part.located(refusal))),
        }
    }

    /// In a failed transaction the server runs nothing but its end; what follows that is planned once it has ended.
    fn ends_failed_transaction(&self, sql: &str) -> Option<usize> {
        let failed = {
            let ledger = self.shared.ledger();
            ledger.status == b'E' && ledger.owed.is_empty()
        };
        let statements = failed.then(|| statements(sql))?;
        let (first, second) = (statements.first()?.clone(), statements.get(1)?);
        let word = sql[first.clone()]
            .split(|c: char| !c.is_ascii_alphabetic())
            .next()?;
        let ends = ["rollback", "abort", "commit", "end"];
        let ends = ends.iter().any(|end| word.eq_ignore_ascii_case(end));
        let plain = !self.is_looked_at(self.scan_by_rules(sql[first].as_bytes()));
        (ends && plain).then_some(second.start)
    }

    /// Takes the guards of a part, which may become a shorter one.
    async fn guard_part(
        &mut self,
        part: &mut Part<'_>,
        mut ground: Ground,
        own: bool,
        in_block: Option<bool>,
    ) -> Result<Stood, SessionError> {
        let whole = part.sql;
        for _ in 0..ATTEMPTS {
            let own = own || { ground.view.as_ref() }
                .is_some_and(|view| view.names_own(whole.as_bytes()));
            let (guards, end) = match self.course(&ground.rules, whole, own, in_block) {
                Course::Free => (Vec::new(), None),
                Course::Refused(refusal) => return Ok(Stood::Refused(refusal)),
                Course::Cut(at) => (Vec::new(), Some(at)),
                Course::Guarded(guards, end) => (guards, end),
            };
            part.sql = &whole[..end.unwrap_or(whole.len())];
            part.continues = end.is_some();
            let again = Ground {
                rules: Arc::clone(&ground.rules),
                view: ground.view.clone(),
            };
            match self.guard_all(&guards, again).await? {
                Some(Stood::Holds(ground)) => {
                    return Ok(match self.renew_executed(part.sql, &ground).await? {
                        Renewed::Usable => Stood::Holds(ground),
                        Renewed::Refused(refusal) => Stood::Refused(refusal),
                        Renewed::Failed => Stood::Failed,
                    });
                }
                Some(stood) => return Ok(stood),
                None => {}
            }
            ground = match self.ground().await? {
                Ok(ground) => ground,
                Err(refusal) => return Ok(Stood::Refused(refusal)),
            };
        }
        Ok(Stood::Refused(unsettled()))
    }

    fn send_query(
        &mut self,
        part: &Part<'_>,
        prepared: &Arc<Prepared>,
        rules: &Arc<Rules>,
        view: Arc<View>,
        (made, closed): (&[Made], bool),
    ) {
        if keeps(prepared) {
            self.shared.ledger().names_used = true;
        }
        let mut spliced = prepared.plan.splice(part.sql, &mut |slot, out| {
            put_literal(&made[slot], prepared.plan.slots[slot].make, out);
        });
        let statements = prepared.plan.statements.len();
        let closed_by = (statements == 1 && closed).then_some(statements);
        if closed_by.is_some() {
            spliced.text.push_str(CLOSES);
        }
        let refused = prepared
            .plan
            .statements
            .iter()
            .position(|s| s.refused.is_some());
        let refusal = |at: usize| prepared.plan.statements[at].refused.clone();
        let swap = refused.and_then(|at| Some((at, Box::new(part.located(refusal(at)?)))));
        let owed = QueryOwed {
            prepared: Some(Arc::clone(prepared)),
            map: Some(spliced.map.behind(part.before)),
            continues: part.continues,
            closed_by,
            view: Some(view),
            ruleset: Some(Arc::clone(&rules.set)),
            swap,
            ..QueryOwed::default()
        };
        self.shared.ledger().note_preparing(owed.prepares());
        self.owe(Some(Owed::Query(Box::new(owed))));
        self.queried();
        let queue = self.upstream.settle(&mut self.reader);
        let written = Query {
            sql: spliced.text.as_bytes(),
        }
        .write(queue);
        if let Err(too_long) = written {
            let refusal = Refusal::new("54000", "too-long", too_long.to_string());
            Query {
                sql: STAND_IN.as_bytes(),
            }
            .write(queue)
            .expect("the stand-in is short");
            if let Some(Owed::Query(owed)) = self.shared.ledger().owed.back_mut() {
                owed.swap = Some((0, Box::new(refusal)));
            }
        }
    }

    /// The whole string is replaced by a stand-in, whose error becomes this refusal.
    pub(super) fn refuse_query(&mut self, refusal: Refusal) -> Result<(), SessionError> {
        self.refuse_all(refusal);
        self.reader.skip();
        Ok(())
    }

    fn refuse_all(&mut self, refusal: Refusal) -> Sent {
        if self.has_failed() {
            return Sent::All;
        }
        self.shared.count_refusal(&refusal);
        let owed = QueryOwed {
            swap: Some((0, Box::new(refusal))),
            map: Some(PositionMap::default()),
            ..QueryOwed::default()
        };
        self.owe(Some(Owed::Query(Box::new(owed))));
        self.queried();
        let queue = self.upstream.settle(&mut self.reader);
        Query {
            sql: STAND_IN.as_bytes(),
        }
        .write(queue)
        .expect("the stand-in is short");
        Sent::All
    }
}

/// Where a string may be cut before a statement whose rows' scopes the server is asked for, so that it is asked at that
/// place. `in_block`: whether a transaction is open, which is known only when nothing is under way.
fn cut_before_asking(sql: &str, prepared: &Prepared, in_block: Option<bool>) -> Option<usize> {
    let queries = &prepared.plan.scope_queries;
    let first = queries.iter().find(|query| query.statement > 0)?;
    cut_before(sql, first.statement, in_block?)
}

fn asks_for_moments(plan: &Plan) -> bool {
    plan.scope_queries
        .iter()
        .any(|query| !query.moments.is_empty())
}

/// Whether the transaction in which the server is asked for its time is that of each statement that needs it: a block that is
/// open already, or the one that the question begins. Whether one is open is not known while something is under way.
fn of_one_moment(sql: &str, plan: &Plan, in_block: Option<bool>) -> bool {
    // Behind the question the server would take it for one within a block.
    let declares = { plan.statements.iter() }
        .any(|statement| matches!(statement.effect, Effect::Declare { .. }));
    let mut timed = { plan.scope_queries.iter() }.filter(|query| !query.moments.is_empty());
    in_block.is_some_and(|open| open || !declares)
        && timed.all(|query| analysis::in_one_transaction(sql, query.statement))
}

/// Where a string may be cut that was refused because settings may have changed within it.
fn cut(sql: &str, plan: &Plan, in_block: Option<bool>) -> Option<usize> {
    analysis::cut(sql, plan, in_block?)
}

/// Whether something protected is kept by name.
fn keeps(prepared: &Prepared) -> bool {
    let mut effects = prepared.plan.statements.iter().map(|s| &s.effect);
    effects.any(|effect| match effect {
        Effect::Declare { rows, .. } => *rows != Output::Unknown,
        Effect::Prepare { statement, .. } => statement.is_some(),
        Effect::None
        | Effect::Execute { .. }
        | Effect::Close(_)
        | Effect::Deallocate(_)
        | Effect::DiscardAll => false,
    })
}

/// What became of a string.
enum Sent {
    /// Relayed.
    AsItIs,
    /// Sent, or a stand-in for it.
    All,
    /// Sent up to this byte; the rest follows if that succeeds.
    Part(usize),
}

/// A part of the client's string that is sent as one message.
struct Part<'a> {
    sql: &'a str,
    /// Characters of the string before it.
    before: usize,
    /// The string goes on behind it.
    continues: bool,
}

impl Part<'_> {
    fn located(&self, refusal: Refusal) -> Refusal {
        let mut refusal = located(self.sql, refusal);
        refusal.position = refusal.position.map(|at| at + self.before);
        refusal
    }
}

/// Turns a byte offset into Postgres's character position, once the text is at hand.
pub(super) fn located(sql: &str, mut refusal: Refusal) -> Refusal {
    refusal.position = refusal
        .position
        .map(|byte| crate::session::refuse::character_position(sql, byte));
    refusal
}

pub(super) fn put_literal(made: &Made, make: Make, out: &mut String) {
    // Writing to a String does not fail.
    let _ = match made {
        Made::Null if make.is_array() => write!(out, "NULL::pg_catalog.bytea[]"),
        Made::Null => write!(out, "NULL::pg_catalog.bytea"),
        Made::Bytes(bytes) => write!(out, "'\\x{}'::pg_catalog.bytea", hex::encode(bytes)),
        Made::Array(elements) => {
            out.push_str("ARRAY[");
            for (index, element) in elements.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                let _ = match element {
                    Some(bytes) => {
                        write!(out, "{comma}'\\x{}'::pg_catalog.bytea", hex::encode(bytes))
                    }
                    None => write!(out, "{comma}NULL"),
                };
            }
            write!(out, "]::pg_catalog.bytea[]")
        }
    };
}

fn several_moments() -> Refusal {
    Refusal::unsupported(
        "value-not-constant",
        "a value that only the server knows stands behind a statement that may end its transaction",
    )
    .detail("The server is asked for its time or user before the string, in the transaction that it begins.")
    .hint("Send the statement by itself.")
}

fn not_utf8() -> Refusal {
    Refusal::new(
        "22021",
        "not-utf8",
        "invalid byte sequence for encoding \"UTF8\"",
    )
    .detail(
        "The statement names something protected, and pgveil reads such statements in UTF-8 only.",
    )
    .hint("Set client_encoding to UTF8.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_written_with_their_type() {
        let mut out = String::new();
        put_literal(&Made::Bytes(vec![0xab]), Make::Seal, &mut out);
        put_literal(&Made::Null, Make::Seal, &mut out);
        let array = Made::Array(vec![Some(vec![1]), None]);
        put_literal(&array, Make::EqualityTerms, &mut out);
        assert_eq!(
            out,
            "'\\xab'::pg_catalog.byteaNULL::pg_catalog.byteaARRAY['\\x01'::pg_catalog.bytea,NULL]::pg_catalog.bytea[]"
        );
    }
}
