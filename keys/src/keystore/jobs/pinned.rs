//! What of a row of `pgveil.jobs` never changes, and where the job stands, under a MAC: whoever had a job do less than it was
//! ordered would have it proved, in the audit log, that nothing is left.
//!
//! How far a job has come is not under it. That changes with every batch, and proves nothing: the last count does.

use tokio_postgres::Row;

use super::{JobState, damaged};
use crate::{
    audit::{
        Change,
        secrets::{Secrets, same},
    },
    canonical::Canonical,
    keystore::{Keystore, KeystoreError, bigint_of},
};

/// As `pgveil.row_changes` and records name the table.
pub(super) const TABLE: &str = "jobs";
const LABEL: &[u8] = b"jobs";

macro_rules! select_job {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, scope, below, target, made_by, reason, state, mac FROM pgveil.jobs ",
            $rest
        )
    };
}
const ONE: &str = select_job!("WHERE id = $1");
const LOCKED: &str = select_job!("WHERE id = $1 FOR UPDATE");
const UNFINISHED: &str = select_job!("WHERE state IN ('queued', 'running') ORDER BY id");
const ALL: &str = select_job!("ORDER BY id");
/// If it is still as it was judged.
const START: &str = "UPDATE pgveil.jobs SET state = 'running', started_at = coalesce(started_at, now()), moved_at = now(), mac = $3 \
    WHERE id = $1 AND state = 'queued' AND mac = $2";
/// Of jobs that were queued and are not there.
const LOST: &str = "SELECT c.row_name FROM pgveil.row_changes c WHERE c.table_name = 'jobs' \
    AND NOT EXISTS (SELECT FROM pgveil.jobs j WHERE j.id::text = c.row_name) ORDER BY c.audit_seq LIMIT 100";
/// Rows that are named.
const MAX_REFUSED: usize = 100;

/// A row without how far the job has come.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    pub(super) id: i64,
    pub(super) kind: String,
    pub(super) scope: String,
    pub(super) below: bool,
    /// JSON, as it is stored.
    pub(super) target: String,
    pub(super) made_by: String,
    pub(super) reason: String,
}

impl Pinned {
    /// The MAC that its row must have in a state.
    pub(super) fn authentic(&self, state: JobState, secrets: &Secrets) -> [u8; 32] {
        self.mac(state.as_str(), secrets)
    }

    fn mac(&self, state: &str, secrets: &Secrets) -> [u8; 32] {
        let mut bytes = Canonical::default();
        bytes.number(self.id).text(&self.kind).text(&self.scope);
        bytes.number(i64::from(self.below)).text(&self.target);
        bytes.text(&self.made_by).text(&self.reason).text(state);
        secrets.mac_row(LABEL, bytes.as_ref())
    }

    /// Refuses a row that pgveil did not write like this.
    pub(super) fn judge(
        &self,
        state: &str,
        mac: Option<&[u8]>,
        secrets: &Secrets,
    ) -> Result<(), KeystoreError> {
        let why = match mac {
            Some(mac) if same(&self.mac(state, secrets), mac) => return Ok(()),
            Some(_) => "was changed by somebody else than pgveil: its MAC does not fit",
            None => "has no MAC: pgveil did not write it",
        };
        Err(damaged(&format!("the row of job {} {why}", self.id)))
    }

    fn of(
        row: &Row,
        secrets: &Secrets,
    ) -> Result<(Self, Result<(), KeystoreError>), KeystoreError> {
        let pinned = Self {
            id: row.try_get(0)?,
            kind: row.try_get(1)?,
            scope: row.try_get(2)?,
            below: row.try_get(3)?,
            target: row.try_get(4)?,
            made_by: row.try_get(5)?,
            reason: row.try_get(6)?,
        };
        let judged = pinned.judge(row.try_get(7)?, row.try_get(8)?, secrets);
        Ok((pinned, judged))
    }
}

impl Change {
    /// A job, as nobody else changes it until the change ends, and whether pgveil wrote it.
    pub(super) async fn locked_job(
        &mut self,
        id: i64,
    ) -> Result<Option<(Pinned, Result<(), KeystoreError>)>, KeystoreError> {
        let rows = self.query(LOCKED, &[&id]).await?;
        let row = rows.first().map(|row| Pinned::of(row, self.secrets()));
        row.transpose()
    }
}

impl Keystore {
    /// Jobs that are queued or running, and whether pgveil wrote what they say.
    pub async fn unfinished_jobs(
        &self,
    ) -> Result<Vec<(u64, Result<(), KeystoreError>)>, KeystoreError> {
        let rows = self.query(UNFINISHED, &[]).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let secrets = self.log.secrets().await?;
        let mut jobs = Vec::new();
        for row in &rows {
            let (job, judged) = Pinned::of(row, &secrets)?;
            jobs.push((job.id.unsigned_abs(), self.told_job(job.id, judged)));
        }
        Ok(jobs)
    }

    /// Begins a queued job, if it is one of pgveil's. Nothing is recorded: that it was queued is.
    pub async fn start_job(&self, id: u64) -> Result<(), KeystoreError> {
        let id = bigint_of(id)?;
        let secrets = self.log.secrets().await?;
        for row in self.query(ONE, &[&id]).await? {
            let (job, judged) = Pinned::of(&row, &secrets)?;
            let was: Option<&[u8]> = row.try_get(8)?;
            if self.told_job(id, judged).is_ok() {
                let mac: &[u8] = &job.authentic(JobState::Running, &secrets);
                self.query(START, &[&id, &was, &mac]).await?;
            }
        }
        Ok(())
    }

    /// Rows that are not believed, and those that are gone.
    pub(in crate::keystore) async fn refused_jobs(
        &self,
    ) -> Result<Vec<KeystoreError>, KeystoreError> {
        let secrets = self.log.secrets().await?;
        let mut refused = Vec::new();
        for row in self.query(ALL, &[]).await? {
            refused.extend(Pinned::of(&row, &secrets)?.1.err());
        }
        for row in self.query(LOST, &[]).await? {
            let id: &str = row.try_get(0)?;
            refused.push(damaged(&format!("the row of job {id} is gone")));
        }
        refused.truncate(MAX_REFUSED);
        Ok(refused)
    }

    /// Tells of a row that was refused: once per process.
    pub(super) fn told_job(
        &self,
        id: i64,
        judged: Result<(), KeystoreError>,
    ) -> Result<(), KeystoreError> {
        if let Err(KeystoreError::Damaged { reason, .. }) = &judged {
            let name = id.to_string();
            self.tell_refused("pgveil.jobs", &name, "", reason);
        }
        judged
    }
}
