//! Keys that are brought to another KEK, and what follows: next data keys for their scopes, and a job for their values. For
//! `scopes set | clear` and `keys rewrap`, which say which keys.

use pgveil_config::ScopePath;
use pgveil_keys::{
    keystore::{KeyTable, NewJob},
    rewrap::{Rewrap, RewrapError},
};
use serde_json::{Value, json};

use crate::app::Built;

/// What was done.
#[derive(Default)]
pub(super) struct Moved {
    /// Keys wrapped anew.
    keys: u64,
    /// Scopes that got their next data key.
    renewed: u64,
    /// The job that brings their values to it.
    job: Option<u64>,
}

impl Moved {
    /// Moves them. The settings that say where to are in force.
    pub(super) async fn by(
        built: &Built,
        rewrap: &Rewrap<'_>,
        under: &ScopePath,
    ) -> Result<Self, RewrapError> {
        let horizon = built.keystore.next_id().await?;
        let renewed = rewrap.renew(horizon).await?;
        let keys = rewrap.run().await?;
        let mut moved = Self {
            keys,
            renewed,
            job: None,
        };
        if renewed > 0 && built.settings.reencrypt.automatic {
            let job = NewJob::rewrap(under, true, horizon, "another key encryption key");
            moved.job = Some(built.keystore.queue_job(&job.of_retired_keys()).await?);
        }
        Ok(moved)
    }

    pub(super) fn print(&self) {
        println!("Keys wrapped anew: {}.", self.keys);
        if self.renewed > 0 {
            println!("Scopes with a next data key: {}.", self.renewed);
        }
        if let Some(job) = self.job {
            println!("Job {job} brings their values to it; see `pgveil jobs watch {job}`.");
        }
    }

    /// Whether there was something to do.
    pub(super) fn is_any(&self) -> bool {
        self.keys > 0 || self.renewed > 0
    }

    /// Adds it to what is told to programs.
    pub(super) fn put(&self, told: &mut Value) {
        told["keys_moved"] = json!(self.keys);
        told["scopes_rotated"] = json!(self.renewed);
        told["job"] = json!(self.job);
    }
}
