//! Statements that were prepared before their table changed: they are prepared again, under their names, when they are
//! used next, and the client notices nothing. Everything else that a prepared statement outlived is refused as before.

use std::sync::Arc;

use pgveil_policy::{Refusal, Ruleset, analysis::Protocol, plan::Effect};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    ClientSide,
    extended::{refused_within, server_oid},
    guard::Stood,
    probe::Ground,
};
use crate::{
    engine::Prepared,
    messages::{Close, Parse, Target, TooLong, tag::client as tag, unit},
    session::{
        SessionError,
        ledger::{Owed, ProtectedStatement, Statement},
        names::{KeptBy, plan_changed},
        results::Described,
    },
};

/// A name that nobody has: closing it says that what stands before has been answered.
const NOBODY: &[u8] = b"pgveil renewed";

/// What became of a statement.
pub(super) enum Renewed {
    /// It may be used as it is now.
    Usable,
    /// What would use it must not be sent.
    Refused(Refusal),
    /// The client has been told an error of the server in the place of what would use it.
    Failed,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    /// Takes the guards of a prepared statement's tables, and prepares it again if they have changed.
    pub(super) async fn renew_guarded(&mut self, name: &[u8]) -> Result<Renewed, SessionError> {
        let known = self.shared.ledger().statements.get(name).cloned();
        let version = self.shared.engine.rules().set.version;
        let relayed = known.as_ref().and_then(|known| known.relayed.as_ref());
        if relayed.is_some_and(|text| text.sql().is_none() && !text.is_known_to(version)) {
            return Ok(Renewed::Refused(plan_changed()));
        }
        let Some((statement, sql)) = known.and_then(|known| self.concerned(known)) else {
            return Ok(Renewed::Usable);
        };
        let ground = match self.ground().await? {
            Ok(ground) => ground,
            Err(refusal) => return Ok(Renewed::Refused(refusal)),
        };
        let ground = match self.guard_one(ground, &sql).await? {
            Stood::Holds(ground) => ground,
            Stood::Refused(refusal) => return Ok(Renewed::Refused(refusal)),
            Stood::Failed => return Ok(Renewed::Failed),
        };
        if ground.view.is_none() {
            // The transaction has failed, and the server says so.
            return Ok(Renewed::Usable);
        }
        for executed in executed_by(&statement) {
            match self.renew(executed.as_bytes(), &ground).await? {
                Renewed::Usable => {}
                stopped => return Ok(stopped),
            }
        }
        self.renew(name, &ground).await
    }

    /// Prepares again what these statements execute by name, under guards that have been taken.
    pub(super) async fn renew_executed(
        &mut self,
        sql: &str,
        ground: &Ground,
    ) -> Result<Renewed, SessionError> {
        if !self.shared.ledger().names_used {
            return Ok(Renewed::Usable);
        }
        for effect in pgveil_policy::analysis::effects(sql) {
            if let Effect::Execute { name, .. } = effect
                && self.is_concerned(&name, ground)
            {
                match self.renew(name.as_bytes(), ground).await? {
                    Renewed::Usable => {}
                    stopped => return Ok(stopped),
                }
            }
        }
        Ok(Renewed::Usable)
    }

    /// Whether what this name means may come to a table that is guarded, or was when it was planned.
    fn is_concerned(&self, name: &str, ground: &Ground) -> bool {
        let ledger = self.shared.ledger();
        let kept = ledger.statements.get(name.as_bytes());
        let kept = kept.and_then(|kept| kept.protected.as_ref());
        kept.is_some_and(|kept| concerns(&ground.rules.set, kept))
    }

    /// A statement's text, if it, or what it executes, may come to a table that is guarded or was when it was planned, or if
    /// nobody has looked at it under the rules of now.
    fn concerned(&self, statement: Arc<Statement>) -> Option<(Arc<Statement>, Zeroizing<String>)> {
        let rules = self.shared.engine.rules();
        let Some(protected) = &statement.protected else {
            let relayed = statement.relayed.as_ref()?;
            if relayed.is_known_to(rules.set.version) {
                return None;
            }
            let text = relayed.sql()?;
            let (scan, _) = self.scan(text);
            if !self.is_looked_at(scan) {
                relayed.known_to(rules.set.version);
                return None;
            }
            let sql = String::from_utf8_lossy(text).into_owned();
            return Some((statement, Zeroizing::new(sql)));
        };
        if rules.set.guards.is_empty() && protected.ruleset.guards.is_empty() {
            return None;
        }
        let ledger = self.shared.ledger();
        let mut executed = executed_by(&statement);
        let own = self
            .view
            .as_ref()
            .is_some_and(|(view, _)| view.names_own(protected.sql.as_bytes()));
        let concerned = own
            || concerns(&rules.set, protected)
            || executed.any(|name| {
                let kept = ledger.statements.get(name.as_bytes());
                let kept = kept.map(|kept| kept.protected.as_ref());
                kept.is_some_and(|kept| kept.is_none_or(|kept| concerns(&rules.set, kept)))
            });
        let sql = protected.sql.clone();
        drop(executed);
        drop(ledger);
        concerned.then_some((statement, sql))
    }

    /// Prepares a statement again where its plan is not what it would be now.
    async fn renew(&mut self, name: &[u8], ground: &Ground) -> Result<Renewed, SessionError> {
        let Some(view) = ground.view.clone() else {
            return Ok(Renewed::Usable);
        };
        let rules = &ground.rules;
        let known = self.shared.ledger().statements.get(name).cloned();
        let Some(statement) = known else {
            return Ok(Renewed::Usable);
        };
        let (sql, declared) = match (&statement.protected, &statement.relayed) {
            (Some(protected), _) => {
                let ledger = self.shared.ledger();
                let kept = KeptBy {
                    ledger: &ledger,
                    engine: &self.shared.engine,
                    rules,
                    view: &view,
                };
                let usable = kept.usable(protected);
                if usable
                    .and_then(|()| kept.executes_the_same(&statement))
                    .is_ok()
                {
                    return Ok(Renewed::Usable);
                }
                (protected.sql.clone(), protected.declared.clone())
            }
            (None, Some(relayed)) => {
                let text = relayed.sql().map(std::str::from_utf8);
                let Some(Ok(sql)) = text else {
                    return Ok(Renewed::Refused(plan_changed()));
                };
                (Zeroizing::new(sql.to_owned()), relayed.declared().to_vec())
            }
            (None, None) => return Ok(Renewed::Usable),
        };
        let planned = self.plan(rules, &sql, &view, Protocol::Extended, &declared);
        let prepared = match planned.and_then(refused_within) {
            Ok(prepared) => prepared,
            Err(refusal) => return Ok(Renewed::Refused(refusal)),
        };
        let (text, literals) = match self.with_literals(&sql, &prepared, rules, &view).await {
            Ok(made) => made,
            Err(refusal) => return Ok(Renewed::Refused(refusal)),
        };
        let mut queue = bytes::BytesMut::new();
        if let Err(error) = write(
            &mut queue,
            name,
            (&sql, text.as_deref()),
            &prepared,
            &declared,
        ) {
            return Ok(Renewed::Refused(Refusal::new(
                "54000",
                "too-long",
                error.to_string(),
            )));
        }
        self.unsynced = true;
        self.shared.ledger().probed = None;
        self.owe(Some(Owed::ScopeQuery {
            synced: false,
            closes: 2,
        }));
        self.upstream.settle(&mut self.reader).unsplit(queue);
        if self.scopes_answered().await?.rows()?.is_none() {
            return Ok(Renewed::Failed);
        }
        let renewed = Statement {
            scan: statement.scan,
            effects: Vec::new(),
            relayed: None,
            protected: Some(ProtectedStatement {
                sql,
                declared,
                prepared,
                view,
                ruleset: Arc::clone(&rules.set),
                literals,
            }),
            described: Described::default(),
            ends_transaction: statement.ends_transaction,
        };
        let mut ledger = self.shared.ledger();
        ledger.names_used = true;
        ledger.statements.insert(name.to_vec(), Arc::new(renewed));
        Ok(Renewed::Usable)
    }
}

/// Whether a statement may come to a table that is guarded, or was when it was planned.
fn concerns(rules: &Ruleset, protected: &ProtectedStatement) -> bool {
    let sql = &protected.sql;
    !rules.guards_in(sql).is_empty() || !protected.ruleset.guards_in(sql).is_empty()
}

/// What a statement executes by name.
fn executed_by(statement: &Statement) -> impl Iterator<Item = String> + use<> {
    let planned = statement.protected.iter();
    let planned = planned.flat_map(|p| p.prepared.plan.statements.iter().map(|s| &s.effect));
    let names = statement
        .effects
        .iter()
        .chain(planned)
        .filter_map(|effect| match effect {
            Effect::Execute { name, .. } => Some(name.clone()),
            _ => None,
        });
    names.collect::<Vec<_>>().into_iter()
}

/// Parse as a Parse of the client's would be sent.
pub(super) fn write_parse(
    queue: &mut bytes::BytesMut,
    name: &[u8],
    (sql, literal): (&str, Option<&str>),
    prepared: &Prepared,
    declared: &[u32],
) -> Result<(), TooLong> {
    let text = match (literal, &prepared.spliced) {
        (Some(text), _) => text,
        (None, Some(spliced)) => spliced.text.as_str(),
        (None, None) => sql,
    };
    if prepared.plan.answers_itself {
        return Parse::write(queue, name, text.as_bytes(), [].into_iter());
    }
    if prepared.keeps_parameters() {
        return Parse::write(queue, name, text.as_bytes(), declared.iter().copied());
    }
    let params = &prepared.plan.server_params;
    let oids: Vec<u32> = params
        .iter()
        .map(|p| server_oid(prepared, *p, declared))
        .collect();
    Parse::write(queue, name, text.as_bytes(), oids.into_iter())
}

fn write(
    queue: &mut bytes::BytesMut,
    name: &[u8],
    text: (&str, Option<&str>),
    prepared: &Prepared,
    declared: &[u32],
) -> Result<(), TooLong> {
    let target = Target::Statement(name);
    Close { target }.write(queue)?;
    write_parse(queue, name, text, prepared, declared)?;
    let target = Target::Portal(NOBODY);
    Close { target }.write(queue)?;
    unit::write(queue, tag::FLUSH);
    Ok(())
}
