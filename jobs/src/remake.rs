//! What a job makes of sealed values: one file per kind of job. It reads and writes no rows; [`crate::worker`] does, the same
//! way for every kind.

mod rewrap;

use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;
use pgveil_config::Settings;
use pgveil_keys::{
    Keys, Keystore,
    keystore::{JobRecord, REWRAP},
};
use serde_json::Value;

use crate::JobError;

/// A kind of job, for one job.
pub trait Remake: Debug + Send + Sync {
    /// An SQL condition, true of the sealed values that are to be remade. `value` is an expression of type bytea whose value
    /// begins as a sealed value does; nothing but its header is to be looked at.
    fn wants(&self, value: &str) -> String;

    /// Loads what the values of a page need, side by side. What fails is found out again for each value.
    fn prepare<'a>(&'a self, values: &'a [&'a [u8]]) -> BoxFuture<'a, ()>;

    /// What a value becomes: the same plaintext, so that nobody sees that it was written. `None`: it is right as it is.
    fn remake<'a>(&'a self, value: &'a [u8]) -> BoxFuture<'a, Result<Option<Vec<u8>>, Trouble>>;

    /// What must be done before values are counted, such as making the keys that they are brought to. Answers what the job
    /// waits for meanwhile, if something cannot be done now.
    fn begin(&self) -> BoxFuture<'_, Result<Option<String>, JobError>>;

    /// Data keys that nobody may seal with any more when the job ends: a count is the last word only when every transaction has
    /// ended that may have.
    fn replaced(&self) -> BTreeSet<u64>;

    /// For the audit log: what was proved that no value is.
    fn proof(&self) -> Value;
}

/// Why a value is left as it is. Holds no plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It can be tried again when something else has changed: a seal, an outage.
    Later(String),
    /// It does not open, and will not.
    Faulty(String),
}

/// The kind of a job that was stored.
///
/// # Errors
/// If this pgveil does not know the kind, or the keystore cannot be read.
pub(crate) async fn of(
    job: &JobRecord,
    keys: &Arc<Keys>,
    keystore: &Keystore,
    _settings: &Settings,
) -> Result<Arc<dyn Remake>, JobError> {
    match job.kind.as_str() {
        REWRAP => Ok(Arc::new(rewrap::Rewrap::of(job, keys, keystore).await?)),
        other => Err(JobError::UnknownJob {
            kind: other.to_owned(),
        }),
    }
}
