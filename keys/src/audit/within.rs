//! Records written in a transaction of another connection than the log's own: what the transaction does to tables and its
//! record are there together, or neither. What needs step-up is not done this way.

use std::{sync::Arc, time::Instant};

use tokio_postgres::{GenericClient, Row, types::ToSql};

use super::{
    Event, Log,
    chain::Tip,
    change::{
        APPEND, HEAD, Rows, STATEMENT_LIMIT, Writer, damaged, judged_head, new_id, no_answer,
    },
    secrets::Secrets,
};
use crate::keystore::KeystoreError;

/// Whoever holds the end for long must not keep this transaction, and what it has locked, waiting.
const PATIENCE: &str = "SET LOCAL lock_timeout = '4s'";

/// The end of the chain, held by a transaction until that ends.
pub(crate) struct Within<'a, C> {
    client: &'a C,
    log: Arc<Log>,
    secrets: Arc<Secrets>,
    tip: Tip,
    began: Instant,
}

impl<'a, C: GenericClient> Within<'a, C> {
    /// Takes the end. Nobody else writes a record until the transaction ends: it is to be the last thing that is done there.
    pub(crate) async fn begin(log: &Arc<Log>, client: &'a C) -> Result<Self, KeystoreError> {
        let secrets = log.secrets().await?;
        // The first record of all makes the end's row.
        if log.stored_head().await?.is_none() {
            log.change().await?.begin_log().await?;
        }
        let mut within = Self {
            client,
            log: Arc::clone(log),
            secrets,
            tip: Tip {
                seq: 0,
                link: [0; 32],
            },
            began: log.clock.now(),
        };
        client.batch_execute(PATIENCE).await?;
        let rows = within.query(HEAD, &[]).await?;
        let row = rows.first().ok_or_else(|| damaged("the end is gone"))?;
        // Whoever has a turn now waits for what is held here.
        let seen = log.turn.try_lock().ok().and_then(|seen| *seen);
        within.tip = judged_head(row, &within.secrets, seen)?;
        Ok(within)
    }

    /// The number that the `n`th of the events gets that are appended.
    pub(crate) fn record_seq(&self, n: usize) -> u64 {
        self.tip.seq + 1 + n as u64
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Writes the records; they are there when the transaction commits.
    pub(crate) async fn append(mut self, events: Vec<Event>) -> Result<(), KeystoreError> {
        let writer = Writer {
            log: &self.log,
            secrets: &self.secrets,
            first_id: new_id()?,
            began: self.began,
        };
        let rows = Rows::behind(&mut self.tip, events, &writer)?;
        self.query(APPEND, &rows.params()).await.map(drop)
    }

    async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, KeystoreError> {
        let answer = tokio::time::timeout(STATEMENT_LIMIT, self.client.query(sql, params)).await;
        Ok(answer.map_err(|_| no_answer())??)
    }
}
