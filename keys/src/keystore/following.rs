//! What is recorded while this process runs, read as it comes: so that a seal, an erasure and the end of a key are remembered here
//! ([`crate::audit`]) before anybody can take their rows away, and that the log going back is seen within seconds.

use pgveil_config::ScopePath;

use super::{Keystore, KeystoreError, bigint_of, words};
use crate::audit::{Record, chain::Tip, change::judged_head, remembered::behind, secrets::same};

const HEAD: &str = "SELECT seq, link, mac FROM pgveil.audit_head";
const AFTER: &str = "SELECT seq, record, mac FROM pgveil.audit WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT 1000";
/// As every process of pgveil says it.
const GONE: &str = "records that this process has seen are gone";

impl Keystore {
    /// Reads what was recorded since it did so last; the first time, it begins at the end. On the connection that has no
    /// transactions: what is not committed yet may never be.
    pub(super) async fn follow_log(&self) -> Result<(), KeystoreError> {
        // Before it has the log's key, this process has judged no row, and shows nothing.
        let Some(secrets) = self.log.secrets_now() else {
            return Ok(());
        };
        let followed = self.log.remembered.tip();
        let rows = self.query(HEAD, &[]).await?;
        let Some(row) = rows.first() else {
            if followed.is_some() {
                self.log.went_back(GONE);
            }
            return Ok(());
        };
        let head = judged_head(row, &secrets, None)?;
        let Some(mut tip) = followed else {
            self.log.remembered.follow(head);
            return Ok(());
        };
        while tip.seq < head.seq {
            let (after, upto) = (bigint_of(tip.seq)?, bigint_of(head.seq)?);
            let page = self.query(AFTER, &[&after, &upto]).await?;
            let before = tip.seq;
            for row in &page {
                let (bytes, mac): (&[u8], &[u8]) = (row.try_get(1)?, row.try_get(2)?);
                let record = Record::from_bytes(bytes);
                let next = record.filter(|record| {
                    let follows = record.seq == tip.seq + 1 && record.previous == tip.link;
                    follows && same(&secrets.mac_record(bytes), mac)
                });
                let next = next.and_then(|record| Some((behind(&record, bytes, mac)?, record)));
                let Some((end, record)) = next else {
                    return self.is_another(tip);
                };
                self.log.remembered.learn(&record);
                tip = end;
            }
            if tip.seq == before {
                return self.is_another(tip);
            }
            self.log.remembered.follow(tip);
        }
        if tip != head {
            self.log.went_back(GONE);
        }
        Ok(())
    }

    /// What comes behind a record is not what was written behind it.
    fn is_another(&self, tip: Tip) -> Result<(), KeystoreError> {
        let why = format!("what stands behind record {} does not follow it", tip.seq);
        self.log.went_back(&why);
        Ok(())
    }

    /// Refuses what rows say of the seals of a scope if this process knows of a later record.
    pub(super) fn hold_seals(
        &self,
        scope: &str,
        answer: Option<&str>,
    ) -> Result<(), KeystoreError> {
        let remembered = &self.log.remembered;
        if !remembered.knows_scopes() {
            return Ok(());
        }
        let Ok(scope) = ScopePath::parse(scope) else {
            return Ok(());
        };
        for level in scope.chain() {
            let path = level.as_str();
            let Some(last) = remembered.scope(path) else {
                continue;
            };
            if words::seq_of(answer, path).is_none_or(|seq| seq < last) {
                return Err(words::damaged(&format!(
                    "the row of {path} is gone, or older than the last that this process has seen recorded: the scope may have been sealed"
                )));
            }
        }
        Ok(())
    }
}
