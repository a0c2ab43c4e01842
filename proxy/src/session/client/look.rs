//! The look: what a transaction that has changed something protected sees of the catalog, asked from the session's own
//! server process, and the rules that follow from it until the transaction ends.
//! See docs/decisions/0036-what-a-transaction-made.md.

use std::sync::Arc;

use pgveil_jobs::catalog::seen;
use pgveil_policy::Refusal;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientSide, state_unreadable};
use crate::{engine::Rules, session::SessionError};

/// The questions are asked in a savepoint, so that no setting and no lock stays. Nobody else's has this name.
const SAVEPOINT: &str = "SAVEPOINT \"pgveil look\"";
const SEARCH_PATH: &str = "SET LOCAL search_path = pg_catalog, pg_temp";
/// The question joins so much of the catalog that the server would rather compile it for seconds than answer it in a tenth of one.
const PLAINLY: &str = "SET LOCAL jit = off";
const ROLLBACK: &str = "ROLLBACK TO SAVEPOINT \"pgveil look\"";
const RELEASE: &str = "RELEASE SAVEPOINT \"pgveil look\"";

/// Rules of one session, for as long as its transaction lasts.
pub(super) struct Overlay {
    /// What the others saw when they were made.
    base: Arc<Rules>,
    /// The catalog's fingerprint within the transaction at that time.
    fingerprint: u64,
    rules: Arc<Rules>,
}

/// What a look found.
pub(super) enum Looked {
    /// Nothing that was not known.
    Same,
    /// Other rules hold from now on.
    Anew,
    /// Nothing: the transaction has failed.
    Failed,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    /// The session's own rules, or those of all.
    pub(super) fn rules_in_force(&self, shared: &Arc<Rules>) -> Arc<Rules> {
        let own = self.overlay.as_ref();
        own.filter(|own| Arc::ptr_eq(&own.base, shared) && self.shared.ledger().rules_touched)
            .map_or_else(|| Arc::clone(shared), |own| Arc::clone(&own.rules))
    }

    /// The names that the session's own rules protect, for the scan.
    pub(super) fn own_rules(&self) -> Option<&Arc<Rules>> {
        self.overlay.as_ref().map(|own| &own.rules)
    }

    /// Asks, if the transaction may see another catalog than the rules in force, what it sees. To be called behind a
    /// probe, so that it is known whether there is a transaction.
    pub(super) async fn look(
        &mut self,
        shared: &Arc<Rules>,
    ) -> Result<Result<Looked, Refusal>, SessionError> {
        let (touched, in_block) = {
            let ledger = self.shared.ledger();
            (
                ledger.rules_touched,
                // What a Query has left open is no block, and takes no savepoint.
                ledger.status == b'T'
                    && !ledger.implicit.is_left_open()
                    && !(self.unsynced && ledger.may_have_ended),
            )
        };
        if !in_block || !touched {
            self.overlay = None;
            return Ok(Ok(Looked::Same));
        }
        let Some(answer) = self.ask_aside(&seen::fingerprint_sql()).await? else {
            return Ok(Ok(Looked::Failed));
        };
        let Some(text) = answer.into_iter().next().flatten() else {
            // The transaction's snapshot is older than what others have committed.
            self.overlay = None;
            return Ok(Ok(Looked::Same));
        };
        let Some(fingerprint) = seen::fingerprint(&text) else {
            return Ok(Err(state_unreadable()));
        };
        if let Some(own) = &self.overlay
            && Arc::ptr_eq(&own.base, shared)
            && own.fingerprint == fingerprint
        {
            return Ok(Ok(Looked::Same));
        }
        self.overlay = None;
        if shared.fingerprint == fingerprint {
            return Ok(Ok(Looked::Same));
        }
        let Some(answer) = self.ask_aside(&seen::catalog_sql()).await? else {
            return Ok(Ok(Looked::Failed));
        };
        let [Some(relations), Some(functions), Some(types)] = answer.as_slice() else {
            return Ok(Err(state_unreadable()));
        };
        let base = &shared.set.catalog;
        let Some(catalog) = seen::catalog(base, [relations, functions, types]) else {
            return Ok(Err(state_unreadable()));
        };
        let rules = match self.shared.engine.rules_within(catalog, base).await {
            Ok(rules) => Arc::new(rules),
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.overlay = Some(Overlay {
            base: Arc::clone(shared),
            fingerprint,
            rules,
        });
        Ok(Ok(Looked::Anew))
    }

    /// The fields of a query's one row, as texts. `None`: it failed.
    async fn ask_aside(&mut self, sql: &str) -> Result<Option<Vec<Option<String>>>, SessionError> {
        let queries = [SAVEPOINT, SEARCH_PATH, PLAINLY, sql, ROLLBACK, RELEASE];
        let rows = self.ask(&queries).await?;
        let row = rows.and_then(|rows| rows.into_iter().next());
        let text = |field: Option<Vec<u8>>| String::from_utf8(field?).ok();
        Ok(row.map(|row| row.into_iter().map(text).collect()))
    }
}
