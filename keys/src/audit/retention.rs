//! Dropping records whose time is over: only up to a checkpoint, only after they were judged once more, and with a record
//! that says so. The checkpoint stays: it is where the log begins from then on.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{Checkpoint, Event, Log, Operation, verify::Verifier};
use crate::keystore::{KeystoreError, bigint_of};

/// Records dropped in one transaction, about.
const AT_ONCE: u64 = 20_000;

const MAY_DELETE: &str = "SELECT set_config('pgveil.audit_prune', 'on', true)";
const DROP: &str = "DELETE FROM pgveil.audit WHERE seq <= $1";
const DROP_CHECKPOINTS: &str = "DELETE FROM pgveil.audit_checkpoints WHERE seq < $1";

/// What was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The last record that is gone.
    pub upto: u64,
    /// How many.
    pub records: u64,
}

impl Log {
    /// Drops the oldest records that are all older than `retention`; `None` if there are none. There may be more then.
    pub async fn prune(
        self: &Arc<Self>,
        retention: Duration,
    ) -> Result<Option<Pruned>, KeystoreError> {
        let secrets = self.secrets().await?;
        let Some(first) = self.first().await? else {
            return Ok(None);
        };
        let cutoff = self
            .clock
            .unix_us()
            .saturating_sub(retention.as_micros() as u64);
        // By the signed time, and not by a column that somebody may have changed.
        let old = self.checkpoints_after(first - 1).await?.into_iter();
        let old = old.map_while(|(seq, line)| {
            let checkpoint = Checkpoint::open(&line, secrets.public_key())?;
            (checkpoint.at_us <= cutoff && seq < first + AT_ONCE).then_some(checkpoint.tip.seq)
        });
        let Some(upto) = old.last() else {
            return Ok(None);
        };
        let anchor = self.anchor().await?;
        let key = *secrets.public_key();
        let unsound = |fault: &dyn std::fmt::Display| KeystoreError::Damaged {
            table: "pgveil.audit",
            reason: format!("nothing is dropped from a log that is not sound: {fault}"),
        };
        let verifier = Verifier::new(key, Some(&secrets), anchor.as_deref());
        let mut verifier = verifier.map_err(|fault| unsound(&fault))?;
        let judged = self.judge(&mut verifier, upto, &mut |_| Ok(())).await?;
        judged.map_err(|fault| unsound(&fault))?;
        self.drop_upto(first, upto).await
    }

    async fn drop_upto(
        self: &Arc<Self>,
        first: u64,
        upto: u64,
    ) -> Result<Option<Pruned>, KeystoreError> {
        let mut change = self.change().await?;
        // Another replica was faster.
        if self.first().await? != Some(first) {
            change.rollback().await?;
            return Ok(None);
        }
        let seq = bigint_of(upto)?;
        change.query(MAY_DELETE, &[]).await?;
        change.query(DROP, &[&seq]).await?;
        change.query(DROP_CHECKPOINTS, &[&seq]).await?;
        let pruned = Pruned {
            upto,
            records: upto + 1 - first,
        };
        let detail = json!({ "from": first, "upto": upto });
        change
            .commit(Event::new(Operation::AuditPrune).detail(detail))
            .await?;
        Ok(Some(pruned))
    }
}
