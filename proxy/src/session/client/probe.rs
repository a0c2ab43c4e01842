//! The probe: a query of pgveil's own, sent on the session when something may have changed how names
//! resolve or values are written. Its answers are swallowed.

use std::sync::Arc;

use pgveil_policy::Refusal;
use tokio::io::{AsyncRead, AsyncWrite};

use super::ClientSide;
use crate::{
    engine::Rules,
    messages::{BindBuilder, Close, Execute, Parse, Target, tag::client as tag, unit},
    session::{
        SessionError,
        ledger::{Owed, Probed},
        view::{PROBE_NAME, View},
    },
};

/// What planning needs.
pub(super) struct Ground {
    pub(super) rules: Arc<Rules>,
    /// `None`: the transaction has failed, and the server will say so of whatever is sent.
    pub(super) view: Option<Arc<View>>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    /// The rules in force and the session as the server sees it now.
    pub(super) async fn ground(&mut self) -> Result<Result<Ground, Refusal>, SessionError> {
        let rules = match self.shared.engine.current_rules().await {
            Ok(rules) => rules,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some((view, made_for)) = &self.view
            && Arc::ptr_eq(made_for, &rules)
            && !self.stale()
        {
            return Ok(Ok(Ground {
                rules,
                view: Some(Arc::clone(view)),
            }));
        }
        let view = self.probe(&rules).await?;
        if let Some(view) = &view {
            self.view = Some((Arc::clone(view), Arc::clone(&rules)));
        }
        Ok(Ok(Ground { rules, view }))
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
            ledger.probed = None;
        }
        let synced = !self.unsynced;
        self.owe(Some(Owed::Probe { synced }));
        let queue = self.upstream.settle(&mut self.reader);
        write_probe(queue, &rules.probe.sql, synced);
        self.upstream
            .flush(&mut self.reader)
            .await
            .map_err(SessionError::Upstream)?;
        let probed = loop {
            if let Some(probed) = self.shared.ledger().probed.take() {
                break probed;
            }
            self.shared.probed.notified().await;
        };
        let view = match probed {
            Probed::Row(fields) => rules.probe.read(&rules.set, &fields).map(Arc::new),
            Probed::Failed => None,
        };
        let mut ledger = self.shared.ledger();
        ledger.view_stale |= view.is_none();
        ledger.own_unknown &= view.is_none();
        drop(ledger);
        Ok(view)
    }
}

/// Parse, Bind, Execute, Close: under names of its own, so that the client's unnamed statement and portal live on.
/// Within a pipeline it ends with Flush, since a Sync would end the client's implicit transaction.
fn write_probe(queue: &mut bytes::BytesMut, sql: &str, synced: bool) {
    let name = PROBE_NAME.as_bytes();
    let short = "the probe is short";
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
    Close {
        target: Target::Statement(name),
    }
    .write(queue)
    .expect(short);
    unit::write(queue, if synced { tag::SYNC } else { tag::FLUSH });
}
