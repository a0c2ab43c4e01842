//! Statements about what the session keeps by name, on their way to the server: planned with what the session has
//! prepared, and with literals where no parameter can stand (the arguments of EXECUTE).

use std::sync::Arc;

use pgveil_keys::{DekId, sealed::Envelope};
use pgveil_policy::{
    Refusal,
    analysis::Protocol,
    plan::{Effect, Make},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientSide, query::put_literal};
use crate::{
    engine::{Prepared, Rules},
    session::{
        ledger::{LiteralSlot, ProtectedStatement, Statement},
        names::{KeptBy, plan_changed},
        values::{Ahead, Made, Maker, Parameters},
        view::View,
    },
};

/// A text with literals, and how each was made.
type WithLiterals = (Option<String>, Vec<Option<LiteralSlot>>);

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    /// Plans a statement, with what the session has prepared.
    pub(super) fn plan(
        &self,
        rules: &Rules,
        sql: &str,
        view: &View,
        protocol: Protocol,
        declared: &[u32],
    ) -> Result<Arc<Prepared>, Refusal> {
        let engine = &self.shared.engine;
        let ledger = self.shared.ledger();
        let kept = KeptBy {
            ledger: &ledger,
            engine,
            rules,
            view,
        };
        engine.prepare(rules, sql, view, &kept, protocol, declared)
    }

    /// After a wait: whether the server skips to Sync, so that it need not see the message at hand.
    pub(super) fn skips(&mut self) -> bool {
        let skips = self.shared.ledger().skipping;
        if skips {
            self.reader.skip();
        }
        skips
    }

    /// A statement that was parsed before anything protected was kept may execute something protected now.
    pub(super) fn executes_nothing_protected(&self, statement: &Statement) -> Result<(), Refusal> {
        let ledger = self.shared.ledger();
        let executes = |effect: &Effect| match effect {
            Effect::Execute { name, .. } => ledger
                .statements
                .get(name.as_bytes())
                .is_some_and(|s| s.protected.is_some()),
            _ => false,
        };
        if statement.effects.iter().any(executes) {
            return Err(plan_changed());
        }
        Ok(())
    }

    /// In the extended protocol, the text of a statement with slots that no parameter can carry.
    pub(super) async fn with_literals(
        &self,
        sql: &str,
        prepared: &Prepared,
        rules: &Rules,
        view: &View,
    ) -> Result<WithLiterals, Refusal> {
        if prepared.spliced.is_some() {
            return Ok((None, Vec::new()));
        }
        if prepared.plan.slots.iter().any(|slot| {
            matches!(
                slot.make,
                Make::SealElements | Make::SealElementsPerScope | Make::SealMembers
            )
        }) {
            let what = "an array or document that is sealed cannot be an argument of EXECUTE in the extended protocol";
            return Err(Refusal::unsupported("statement-not-supported", what)
                .hint("Bind a value to the prepared statement itself."));
        }
        self.take_off(prepared);
        let maker = self.maker(prepared, rules, view);
        let made = maker.make_all().await?;
        let mut literals = Vec::with_capacity(made.len());
        for (index, made) in made.iter().enumerate() {
            literals.push(match made {
                Made::Null => None,
                Made::Bytes(_) | Made::Array(_) => Some(LiteralSlot {
                    scope: maker.slot_scope(index)?,
                    dek: sealed_with(made),
                }),
            });
        }
        let spliced = prepared.plan.splice(sql, &mut |slot, out| {
            put_literal(&made[slot], prepared.plan.slots[slot].make, out);
        });
        Ok((Some(spliced.text), literals))
    }

    /// Whether the literals in a statement's text would be made for the same scopes and with the same keys again.
    pub(super) async fn same_literals(
        &self,
        protected: &ProtectedStatement,
        rules: &Rules,
        view: &View,
    ) -> Result<(), Refusal> {
        if protected.literals.is_empty() {
            return Ok(());
        }
        let maker = self.maker(&protected.prepared, rules, view);
        for (index, literal) in protected.literals.iter().enumerate() {
            let Some(literal) = literal else { continue };
            let same_key = match literal.dek {
                Some(dek) => maker.sealing_key(index, &literal.scope).await? == dek,
                None => true,
            };
            if !same_key || maker.slot_scope(index)? != literal.scope {
                return Err(plan_changed());
            }
        }
        Ok(())
    }

    fn maker<'a>(&'a self, prepared: &'a Prepared, rules: &'a Rules, view: &'a View) -> Maker<'a> {
        Maker {
            engine: &self.shared.engine,
            rules: &rules.set,
            prepared,
            view,
            params: Parameters::default(),
            asked: &[],
            ahead: Ahead::default(),
        }
    }
}

fn sealed_with(made: &Made) -> Option<DekId> {
    match made {
        Made::Bytes(bytes) => Envelope::parse(bytes).ok().map(|envelope| envelope.dek),
        Made::Null | Made::Array(_) => None,
    }
}
