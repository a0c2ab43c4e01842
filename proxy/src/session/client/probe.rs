//! The probe: a query of pgveil's own, sent on the session when something may have changed how names
//! resolve or values are written. Its answers are swallowed.

use std::sync::Arc;

use pgveil_policy::Refusal;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientSide, look::Looked, state_unreadable};
use crate::{
    engine::Rules,
    messages::{BindBuilder, Close, Execute, Parse, Target, tag::client as tag, unit},
    session::{
        SessionError,
        ledger::{Owed, PROBE_CLOSES},
        view::{PROBE_NAME, View},
    },
};

/// What planning needs.
pub(super) struct Ground {
    pub(super) rules: Arc<Rules>,
    /// `None`: the transaction has failed, and the server will say so of whatever is sent.
    pub(super) view: Option<Arc<View>>,
}

/// How often rules and view are asked for again because what they say changed meanwhile.
const ATTEMPTS: usize = 4;

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    /// The rules in force and the session as the server sees it now.
    pub(super) async fn ground(&mut self) -> Result<Result<Ground, Refusal>, SessionError> {
        for _ in 0..ATTEMPTS {
            let shared_rules = match self.shared.engine.current_rules().await {
                Ok(rules) => rules,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let rules = self.rules_in_force(&shared_rules);
            if let Some((view, made_for)) = &self.view
                && Arc::ptr_eq(made_for, &rules)
                && !self.stale()
            {
                return Ok(Ok(Ground {
                    rules,
                    view: Some(Arc::clone(view)),
                }));
            }
            let Some(view) = self.probe(&rules).await? else {
                return Ok(Ok(Ground { rules, view: None }));
            };
            self.view = Some((Arc::clone(&view), Arc::clone(&rules)));
            match self.look(&shared_rules).await? {
                Ok(Looked::Failed) => return Ok(Ok(Ground { rules, view: None })),
                Ok(Looked::Same) if Arc::ptr_eq(&self.rules_in_force(&shared_rules), &rules) => {
                    return Ok(Ok(Ground {
                        rules,
                        view: Some(view),
                    }));
                }
                // What the session's own relations are depends on the rules.
                Ok(Looked::Same | Looked::Anew) => {}
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Ok(Err(state_unreadable()))
    }

    fn stale(&self) -> bool {
        let ledger = self.shared.ledger();
        ledger.view_stale || ledger.always_probe
    }

    async fn probe(&mut self, rules: &Arc<Rules>) -> Result<Option<Arc<View>>, SessionError> {
        {
            let mut ledger = self.shared.ledger();
            if ledger.skipping || (ledger.status == b'E' && ledger.owed.is_empty()) {
                return Ok(None);
            }
            ledger.view_stale = false;
        }
        let rows = self.ask(&[&rules.probe.sql]).await?;
        let row = rows.as_ref().and_then(|rows| rows.first());
        let view = row.and_then(|fields| rules.probe.read(&rules.set, fields));
        let view = view.map(Arc::new);
        let mut ledger = self.shared.ledger();
        ledger.view_stale |= view.is_none();
        ledger.own_unknown &= view.is_none();
        drop(ledger);
        Ok(view)
    }

    /// Has the server run queries of pgveil's own, and waits for what they return. `None`: one of them failed, and with
    /// it the transaction, or it had failed before.
    pub(super) async fn ask(
        &mut self,
        queries: &[&str],
    ) -> Result<Option<Vec<Vec<Option<Vec<u8>>>>>, SessionError> {
        let synced = !self.is_open().await?;
        {
            let mut ledger = self.shared.ledger();
            if ledger.skipping {
                return Ok(None);
            }
            ledger.probed = None;
        }
        self.unsynced |= !synced;
        self.owe(Some(Owed::Probe {
            synced,
            closes: PROBE_CLOSES * queries.len(),
        }));
        let queue = self.upstream.settle(&mut self.reader);
        for sql in queries {
            write_query(queue, sql);
        }
        unit::write(queue, if synced { tag::SYNC } else { tag::FLUSH });
        self.upstream
            .flush(&mut self.reader)
            .await
            .map_err(SessionError::Upstream)?;
        loop {
            let probed = {
                let mut ledger = self.shared.ledger();
                let is_probe = |owed: &Owed| matches!(owed, Owed::Probe { .. });
                // With a Sync, it has ended when the ReadyForQuery has come.
                let ended = !(synced && ledger.owed.iter().any(is_probe));
                ledger.probed.take_if(|_| ended)
            };
            if let Some(probed) = probed {
                return probed.rows();
            }
            self.shared.probed.notified().await;
        }
    }
}

/// Close, Parse, Bind, Execute, Close: under names of its own, so that the client's unnamed statement and portal live on.
/// What one that failed has left is closed first. Within a pipeline Flush follows, since a Sync would end the client's
/// implicit transaction.
fn write_query(queue: &mut bytes::BytesMut, sql: &str) {
    let name = PROBE_NAME.as_bytes();
    let short = "queries of pgveil's own are short";
    let statement = Target::Statement(name);
    Close { target: statement }.write(queue).expect(short);
    Parse::write(queue, name, sql.as_bytes(), [].into_iter()).expect(short);
    BindBuilder::begin(queue, name, name, [].into_iter())
        .end([].into_iter())
        .expect(short);
    Execute {
        portal: name,
        max_rows: 0,
    }
    .write(queue)
    .expect(short);
    Close {
        target: Target::Portal(name),
    }
    .write(queue)
    .expect(short);
    Close { target: statement }.write(queue).expect(short);
}
