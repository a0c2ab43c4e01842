//! The extended protocol: Parse, Bind, Describe, Execute, Close.
//!
//! Every sealed value and search term is a server parameter, made at Bind; the text that Parse sends is stable.

use std::sync::Arc;

use pgveil_policy::{Refusal, analysis::Protocol, plan::ServerParam, scan::Scan};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    ClientSide,
    bound::{check_count, parameters, write_bind},
    effects_of, ends_transaction,
    guard::Stood,
    probe::Ground,
    query::located,
    renew::{Renewed, write_parse},
    scopes::{Answered, Behind},
    state_unreadable,
};
use crate::{
    engine::Prepared,
    messages::{
        Bind, BindBuilder, Close, Describe, Execute, Parse, Target, TooLong, tag::client as tag,
        unit,
    },
    session::{
        SessionError,
        ledger::{Closed, Owed, Portal, PortalNamed, ProtectedStatement, Statement},
        names::KeptBy,
        refuse::STAND_IN,
        relayed::Relayed,
        results::Described,
        values::{Ahead, Maker},
    },
};

/// `bytea` and `bytea[]`.
const BYTEA: u32 = 17;
const BYTEA_ARRAY: u32 = 1001;
/// A stand-in is parsed under this name; it never comes to exist.
const REFUSED_NAME: &[u8] = b"pgveil refused";

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    pub(super) async fn parse(&mut self) -> Result<(), SessionError> {
        if let Err(refusal) = self.shared.engine.know_names().await {
            return self.refuse_parse(&[], refusal);
        }
        let named = self.reader.current().map(|frame| Parse::read(frame.body));
        let named = named.and_then(Result::ok);
        let unknown = named.map(|parse| self.unknown_relations(parse.sql));
        if let Some(unknown) = unknown
            && let Err(refusal) = self.know_relations(unknown).await
        {
            return self.refuse_parse(&[], refusal);
        }
        let named = self.reader.current().map(|frame| Parse::read(frame.body));
        let named = named.and_then(Result::ok);
        let scan = named.map(|parse| self.scan_by_rules(parse.sql));
        self.know_own(scan).await?;
        if self.skips() {
            return Ok(());
        }
        let Some(frame) = self.reader.current() else {
            return Ok(());
        };
        let (name, scan, own, effects, ends, (protected, relayed)) = match Parse::read(frame.body) {
            Ok(parse) => {
                let (scan, own) = self.scan(parse.sql);
                let looked_at = self.is_looked_at(scan);
                let effects = if looked_at {
                    Vec::new()
                } else {
                    effects_of(scan, parse.sql)
                };
                let declared: Vec<u32> = parse.param_oids().collect();
                let (protected, relayed) = if looked_at {
                    let text =
                        std::str::from_utf8(parse.sql).map(|sql| Zeroizing::new(sql.to_owned()));
                    (Some((text, declared)), None)
                } else {
                    let rules = self.shared.engine.rules();
                    let relayed = Relayed::new(parse.sql, declared, rules.set.version);
                    (None, Some(relayed))
                };
                (
                    parse.name.to_vec(),
                    scan,
                    own,
                    effects,
                    ends_transaction(parse.sql),
                    (protected, relayed),
                )
            }
            Err(malformed) => {
                return self.refuse_parse(
                    &[],
                    Refusal::new("08P01", "malformed-message", malformed.to_string()),
                );
            }
        };
        if scan.names {
            self.settle_names().await?;
            if self.skips() {
                return Ok(());
            }
        }
        let Some((sql, declared)) = protected else {
            let statement = Statement {
                scan,
                effects,
                protected: None,
                relayed,
                described: Described::default(),
                ends_transaction: ends,
            };
            self.owe_parse(name, Some(Arc::new(statement)), None, None);
            self.reader.pass();
            return Ok(());
        };
        let Ok(sql) = sql else {
            let refusal = Refusal::new(
                "22021",
                "not-utf8",
                "invalid byte sequence for encoding \"UTF8\"",
            )
            .hint("Set client_encoding to UTF8.");
            return self.refuse_parse(&name, refusal);
        };
        let ground = match self.ground().await? {
            Ok(ground) => ground,
            Err(refusal) => return self.refuse_parse(&name, refusal),
        };
        if own && ground.view.is_none() {
            // The transaction has failed: the server refuses all but its end, which names nothing.
            let statement = Statement {
                scan,
                effects: Vec::new(),
                protected: None,
                relayed: None,
                described: Described::default(),
                ends_transaction: ends,
            };
            self.owe_parse(name, Some(Arc::new(statement)), None, None);
            self.reader.pass();
            return Ok(());
        }
        self.shared
            .ledger()
            .withhold(effects_of(scan, sql.as_bytes()));
        let done = self.protected_parse(name, sql, declared, scan, ends, ground);
        let done = done.await;
        self.sent();
        done
    }

    async fn protected_parse(
        &mut self,
        name: Vec<u8>,
        sql: Zeroizing<String>,
        declared: Vec<u32>,
        scan: Scan,
        ends: bool,
        ground: Ground,
    ) -> Result<(), SessionError> {
        let Ground { rules, view } = match self.guard_one(ground, &sql).await? {
            Stood::Holds(ground) => ground,
            Stood::Refused(refusal) => return self.refuse_parse(&name, refusal),
            // The error stands in the place of the Parse's; up to Sync nothing more is answered.
            Stood::Failed => {
                self.reader.skip();
                return Ok(());
            }
        };
        let Some(view) = view else {
            return self.refuse_parse(&name, state_unreadable());
        };
        let ground = Ground {
            rules: Arc::clone(&rules),
            view: Some(Arc::clone(&view)),
        };
        match self.renew_executed(&sql, &ground).await? {
            Renewed::Usable => {}
            Renewed::Refused(refusal) => return self.refuse_parse(&name, refusal),
            Renewed::Failed => {
                self.reader.skip();
                return Ok(());
            }
        }
        let planned = self.plan(&rules, &sql, &view, Protocol::Extended, &declared);
        let prepared = match planned.and_then(refused_within) {
            Ok(prepared) => prepared,
            Err(refusal) => return self.refuse_parse(&name, located(&sql, refusal)),
        };
        self.shared.ledger().names_used = true;
        let (literal_text, literals) =
            match self.with_literals(&sql, &prepared, &rules, &view).await {
                Ok(made) => made,
                Err(refusal) => return self.refuse_parse(&name, located(&sql, refusal)),
            };
        let queue = self.upstream.settle(&mut self.reader);
        let start = queue.len();
        let text = (sql.as_str(), literal_text.as_deref());
        let written = write_parse(queue, &name, text, &prepared, &declared);
        if let Err(too_long) = written {
            queue.truncate(start);
            return self.refuse_parse(&name, too_long_refusal(too_long));
        }
        let parsed = queue.split_off(start);
        let statement = Statement {
            scan,
            effects: Vec::new(),
            relayed: None,
            protected: Some(ProtectedStatement {
                sql,
                declared,
                prepared: Arc::clone(&prepared),
                view,
                ruleset: Arc::clone(&rules.set),
                literals,
            }),
            described: Described::default(),
            ends_transaction: ends,
        };
        self.owe_parse(name, Some(Arc::new(statement)), None, Some(prepared));
        self.upstream.queue().unsplit(parsed);
        self.reader.skip();
        Ok(())
    }

    fn owe_parse(
        &mut self,
        name: Vec<u8>,
        statement: Option<Arc<Statement>>,
        swap: Option<Box<Refusal>>,
        map: Option<Arc<Prepared>>,
    ) {
        let mut ledger = self.shared.ledger();
        let known = ledger.statements.get(&name).cloned();
        let (previous, confirmed) = match (statement, known) {
            // A Parse destroys the unnamed statement whether it succeeds or not.
            (Some(statement), known) if name.is_empty() => {
                ledger.statements.insert(Vec::new(), statement);
                (known, None)
            }
            (None, known) if name.is_empty() => {
                ledger.statements.remove(&name);
                (known, None)
            }
            // The name is taken: the server decides which statement it means from here on.
            (statement, Some(known)) => {
                ledger.name_was_taken = true;
                (Some(known), statement)
            }
            (Some(statement), None) => {
                ledger.statements.insert(name.clone(), statement);
                (None, None)
            }
            (None, None) => (None, None),
        };
        drop(ledger);
        self.unsynced = true;
        self.owe(Some(Owed::Parse {
            name,
            previous,
            confirmed,
            swap,
            map,
        }));
    }

    /// Waits until the server has said what became of a Parse whose name was taken, so that what follows is not
    /// planned for the wrong statement. Nothing more is asked of the server than to say so now.
    pub(super) async fn settle_names(&mut self) -> Result<(), SessionError> {
        if !self.shared.ledger().is_name_unsettled() {
            return Ok(());
        }
        unit::write(self.upstream.settle(&mut self.reader), tag::FLUSH);
        self.upstream
            .flush(&mut self.reader)
            .await
            .map_err(SessionError::Upstream)?;
        while self.shared.ledger().is_name_unsettled() {
            self.shared.drained.notified().await;
        }
        Ok(())
    }

    fn refuse_parse(&mut self, name: &[u8], refusal: Refusal) -> Result<(), SessionError> {
        self.shared.count_refusal(&refusal);
        self.owe_parse(name.to_vec(), None, Some(Box::new(refusal)), None);
        let queue = self.upstream.settle(&mut self.reader);
        Parse::write(queue, name, STAND_IN.as_bytes(), [].into_iter())
            .map_err(|_| SessionError::NameTooLong)?;
        self.reader.skip();
        Ok(())
    }

    pub(super) async fn bind(&mut self) -> Result<(), SessionError> {
        self.settle_names().await?;
        if self.skips() {
            return Ok(());
        }
        let named = self.reader.current().map(|frame| Bind::read(frame.body));
        let named = named.and_then(Result::ok);
        if let Some((portal, name)) = named.map(|b| (b.portal.to_vec(), b.statement.to_vec())) {
            match self.renew_guarded(&name).await? {
                Renewed::Usable => {}
                Renewed::Refused(refusal) => return self.refuse_bind(portal, refusal),
                Renewed::Failed => {
                    self.reader.skip();
                    return Ok(());
                }
            }
            if self.skips() {
                return Ok(());
            }
        }
        let Some(frame) = self.reader.current() else {
            return Ok(());
        };
        let (portal, formats, statement, unnamed) = match Bind::read(frame.body) {
            Ok(bind) => {
                let statement = self.shared.ledger().statements.get(bind.statement).cloned();
                (
                    bind.portal.to_vec(),
                    bind.result_formats.codes().collect::<Vec<i16>>(),
                    statement,
                    bind.statement.is_empty(),
                )
            }
            // The server says what is wrong with it, unless there may be plaintext in it.
            Err(malformed) if self.is_for_protected(frame.body) => {
                return self.refuse_bind(
                    Vec::new(),
                    Refusal::new("08P01", "malformed-message", malformed.to_string()),
                );
            }
            Err(_) => (Vec::new(), Vec::new(), None, false),
        };
        self.bound |= !portal.is_empty();
        let Some(statement) = statement else {
            // Not one that this session parsed: the server knows it from SQL's PREPARE, or says that it does not.
            self.unsynced = true;
            if unnamed {
                // SQL has no name for it. Should the server know one nevertheless, its values are not to be seen.
                let none = BindBuilder::begin(
                    self.upstream.settle(&mut self.reader),
                    &portal,
                    b"",
                    [].into_iter(),
                );
                none.end([].into_iter())
                    .map_err(|_| SessionError::NameTooLong)?;
                self.reader.skip();
            } else {
                self.reader.pass();
            }
            self.owe(Some(Owed::Bind {
                name: portal,
                previous: None,
                swap: None,
            }));
            return Ok(());
        };
        if statement.protected.is_none() {
            if let Err(refusal) = self.executes_nothing_protected(&statement) {
                return self.refuse_bind(portal, refusal);
            }
            self.owe_bind(
                portal,
                Portal {
                    statement,
                    view: None,
                    formats,
                    rules: Described::default(),
                },
            );
            self.reader.pass();
            return Ok(());
        }
        let done = self.protected_bind(portal, statement, formats).await;
        self.sent();
        done
    }

    /// Whether a Bind that does not parse is for a protected statement, or for one that cannot be made out.
    fn is_for_protected(&self, body: &[u8]) -> bool {
        let mut names = body.splitn(3, |byte| *byte == 0);
        let ledger = self.shared.ledger();
        match (names.next(), names.next(), names.next()) {
            (Some(_), Some(name), Some(_)) => ledger
                .statements
                .get(name)
                .is_some_and(|s| s.protected.is_some()),
            _ => ledger.statements.values().any(|s| s.protected.is_some()),
        }
    }

    async fn protected_bind(
        &mut self,
        portal: Vec<u8>,
        statement: Arc<Statement>,
        formats: Vec<i16>,
    ) -> Result<(), SessionError> {
        let Ground { rules, view } = match self.ground().await? {
            Ok(ground) => ground,
            Err(refusal) => return self.refuse_bind(portal, refusal),
        };
        let Some(view) = view else {
            return self.refuse_bind(portal, state_unreadable());
        };
        let Some(protected) = &statement.protected else {
            return Ok(());
        };
        self.take_off(&protected.prepared);
        let engine = Arc::clone(&self.shared.engine);
        let usable = {
            let ledger = self.shared.ledger();
            let kept = KeptBy {
                ledger: &ledger,
                engine: &engine,
                rules: &rules,
                view: &view,
            };
            kept.usable(protected)
                .and_then(|()| kept.executes_the_same(&statement))
        };
        if let Err(refusal) = usable {
            return self.refuse_bind(portal, refusal);
        }
        let Some(frame) = self.reader.current() else {
            return Ok(());
        };
        let Ok(bind) = Bind::read(frame.body) else {
            return Ok(());
        };
        if let Err(refusal) = check_count(&bind, protected) {
            return self.refuse_bind(portal, refusal);
        }
        let asked = match self
            .ask_scopes(&protected.prepared, &rules, &view, Behind::Bind)
            .await?
        {
            Answered::Scopes(asked) => asked,
            Answered::Refused(refusal) => return self.refuse_bind(portal, refusal),
            // The error stands in the place of the Bind's; up to Sync nothing more is answered.
            Answered::Failed => {
                self.reader.skip();
                return Ok(());
            }
        };
        let made = {
            let Some(frame) = self.reader.current() else {
                return Ok(());
            };
            let Ok(bind) = Bind::read(frame.body) else {
                return Ok(());
            };
            Maker {
                engine: &engine,
                rules: &rules.set,
                prepared: &protected.prepared,
                view: &view,
                params: parameters(&bind, &protected.declared),
                asked: &asked,
                ahead: Ahead::default(),
            }
            .make_all()
            .await
        };
        let made = match made {
            Ok(made) => self
                .same_literals(protected, &rules, &view)
                .await
                .map(|()| made),
            refused => refused,
        };
        let bound = Portal {
            statement: Arc::clone(&statement),
            view: Some(view),
            formats,
            rules: Described::default(),
        };
        match made {
            Ok(_) if protected.prepared.keeps_parameters() => {
                self.owe_bind(portal, bound);
                self.reader.pass();
                Ok(())
            }
            Ok(made) => {
                let queue = self.upstream.settle(&mut self.reader);
                let start = queue.len();
                let Some(frame) = self.reader.current() else {
                    return Ok(());
                };
                let Ok(bind) = Bind::read(frame.body) else {
                    return Ok(());
                };
                if let Err(too_long) = write_bind(queue, &bind, &protected.prepared, &made) {
                    queue.truncate(start);
                    return self.refuse_bind(portal, too_long_refusal(too_long));
                }
                let written = queue.split_off(start);
                self.owe_bind(portal, bound);
                self.upstream.queue().unsplit(written);
                self.reader.skip();
                Ok(())
            }
            Err(refusal) => self.refuse_bind(portal, refusal),
        }
    }

    fn owe_bind(&mut self, name: Vec<u8>, portal: Portal) {
        let previous = self
            .shared
            .ledger()
            .portals
            .insert(name.clone(), Arc::new(portal));
        self.unsynced = true;
        self.owe(Some(Owed::Bind {
            name,
            previous,
            swap: None,
        }));
    }

    /// A Parse that must fail goes upstream in the place of the Bind: in a failed transaction the server then
    /// answers as it would have answered the Bind.
    fn refuse_bind(&mut self, portal: Vec<u8>, refusal: Refusal) -> Result<(), SessionError> {
        self.shared.count_refusal(&refusal);
        let previous = self.shared.ledger().portals.get(&portal).cloned();
        self.unsynced = true;
        self.owe(Some(Owed::Bind {
            name: portal,
            previous,
            swap: Some(Box::new(refusal)),
        }));
        let queue = self.upstream.settle(&mut self.reader);
        Parse::write(queue, REFUSED_NAME, STAND_IN.as_bytes(), [].into_iter())
            .map_err(|_| SessionError::NameTooLong)?;
        self.reader.skip();
        Ok(())
    }

    pub(super) async fn describe(&mut self) -> Result<(), SessionError> {
        self.settle_names().await?;
        if self.skips() {
            return Ok(());
        }
        let named = self
            .reader
            .current()
            .map(|frame| Describe::read(frame.body));
        if let Some(Ok(Describe {
            target: Target::Statement(name),
        })) = named
        {
            let name = name.to_vec();
            match self.renew_guarded(&name).await? {
                Renewed::Usable => {}
                // In the place of the description; a Parse that must fail goes upstream, as for a Bind.
                Renewed::Refused(refusal) => return self.refuse_parse(REFUSED_NAME, refusal),
                Renewed::Failed => {
                    self.reader.skip();
                    return Ok(());
                }
            }
            if self.skips() {
                return Ok(());
            }
        }
        let Some(frame) = self.reader.current() else {
            return Ok(());
        };
        // The server answers a malformed one; nothing in it is plaintext.
        let owed = match Describe::read(frame.body).map(|d| d.target) {
            Ok(Target::Statement(name)) => {
                Owed::DescribeStatement(self.shared.ledger().statements.get(name).cloned())
            }
            Ok(Target::Portal(name)) => Owed::DescribePortal(self.portal_named(name)),
            Err(_) => Owed::DescribePortal(PortalNamed::Other(Vec::new())),
        };
        self.unsynced = true;
        self.owe(Some(owed));
        self.reader.pass();
        Ok(())
    }

    fn portal_named(&self, name: &[u8]) -> PortalNamed {
        match self.shared.ledger().portals.get(name) {
            Some(portal) => PortalNamed::Bound(Arc::clone(portal)),
            None => PortalNamed::Other(name.to_vec()),
        }
    }

    pub(super) fn execute(&mut self) -> Result<(), SessionError> {
        let Some(frame) = self.reader.current() else {
            return Ok(());
        };
        let portal = match Execute::read(frame.body) {
            Ok(execute) => self.portal_named(execute.portal),
            Err(_) => PortalNamed::Other(Vec::new()),
        };
        if let PortalNamed::Bound(portal) = &portal {
            self.note_effects(portal.statement.scan, portal.statement.ends_transaction);
            let prepares = portal.statement.prepares();
            self.shared.ledger().note_preparing(prepares);
            if portal.statement.protected.is_some() {
                self.note_derived(portal.statement.scan);
            }
        }
        self.unsynced = true;
        self.owe(Some(Owed::Execute { portal }));
        self.reader.pass();
        Ok(())
    }

    pub(super) fn close(&mut self) -> Result<(), SessionError> {
        let Some(frame) = self.reader.current() else {
            return Ok(());
        };
        let mut ledger = self.shared.ledger();
        let closed = match Close::read(frame.body).map(|c| c.target) {
            Ok(Target::Statement(name)) => {
                Closed::Statement(name.to_vec(), ledger.statements.remove(name))
            }
            Ok(Target::Portal(name)) => Closed::Portal(name.to_vec(), ledger.portals.remove(name)),
            Err(_) => Closed::Portal(Vec::new(), None),
        };
        drop(ledger);
        self.unsynced = true;
        self.owe(Some(Owed::Close(closed)));
        self.reader.pass();
        Ok(())
    }
}

/// Prepared statements are single; a refusal inside the plan is the refusal of the whole.
pub(super) fn refused_within(prepared: Arc<Prepared>) -> Result<Arc<Prepared>, Refusal> {
    match prepared
        .plan
        .statements
        .iter()
        .find_map(|s| s.refused.clone())
    {
        Some(refusal) => Err(refusal),
        None => Ok(prepared),
    }
}

pub(super) fn server_oid(prepared: &Prepared, param: ServerParam, declared: &[u32]) -> u32 {
    match param {
        ServerParam::Client(index) => declared.get(index).copied().unwrap_or(0),
        ServerParam::Slot(slot) if prepared.plan.untold.contains(&slot) => 0,
        ServerParam::Slot(slot) => match prepared.plan.slots.get(slot).map(|s| s.make) {
            Some(make) if make.is_array() => BYTEA_ARRAY,
            _ => BYTEA,
        },
    }
}

fn too_long_refusal(error: TooLong) -> Refusal {
    Refusal::new("54000", "too-long", error.to_string())
}
