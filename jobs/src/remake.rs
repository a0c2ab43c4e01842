//! What a job makes of sealed values: one file per kind of job. It reads and writes no rows; [`crate::worker`] does, the same
//! way for every kind.

pub(crate) mod column;
mod places;
mod rewrap;
mod sparing;
pub(crate) mod turn;
mod value;

use std::{
    collections::{BTreeSet, HashSet},
    fmt::Debug,
    sync::Arc,
};

use futures_util::{FutureExt, future::BoxFuture};
use pgveil_config::Settings;
use pgveil_keys::{
    DekId, Keys, Keystore,
    keystore::{COLUMN_CHANGE, INDEX_ROTATION, JobRecord, KeystoreError, REWRAP, TERM_CHANGE},
    sealed::Envelope,
};
use pgveil_policy::types::{LogicalType, Value as ColumnValue};
use serde_json::Value;

use crate::{JobError, sql};
pub(crate) use places::WantedTerms;
pub(crate) use sparing::Sparing;
pub(crate) use value::trouble;

/// Where a value stands.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// Its table's OID.
    pub relation: u32,
    /// Its column, quoted where it must be.
    pub column: &'a str,
}

/// Columns of a value's row, by name; NULL, or of a type that no scope is taken from: `None`.
pub type RowColumns = [(String, Option<(LogicalType, ColumnValue)>)];

/// A kind of job, for one job.
pub trait Remake: Debug + Send + Sync {
    /// An SQL condition, true of the sealed values that are to be remade, and perhaps of others, which are left as they are. `value` is an expression of type bytea whose value
    /// begins as a sealed value does; nothing but its header is to be looked at.
    fn wants(&self, at: At<'_>, value: &str) -> String;

    /// The same for the count, which has the last word: true of no others.
    fn counts(&self, at: At<'_>, value: &str) -> String {
        self.wants(at, value)
    }

    /// The columns of a table's rows without which its values cannot be remade.
    fn row_columns(&self, _relation: u32) -> Vec<String> {
        Vec::new()
    }

    /// Loads what the values of a page need, side by side. What fails is found out again for each value.
    fn prepare<'a>(&'a self, values: &'a [&'a [u8]]) -> BoxFuture<'a, ()>;

    /// What a value becomes: the same plaintext, so that nobody sees that it was written. `None`: it is right as it is.
    fn remake<'a>(
        &'a self,
        at: At<'a>,
        row: &'a RowColumns,
        value: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, Trouble>>;

    /// What must be done before values are counted, such as making the keys that they are brought to. Answers what the job
    /// waits for meanwhile, if something cannot be done now.
    fn begin(&self) -> BoxFuture<'_, Result<Option<String>, JobError>>;

    /// What must have come to rest before a count is the last word: every transaction must have ended that may have written
    /// what is counted.
    fn rests(&self) -> Rest;

    /// Whether there may be values to remake now; otherwise none are counted.
    fn walks(&self) -> bool {
        true
    }

    /// What is done when no value is left to be remade, and nothing can come after. The job begins with another count, unless
    /// that was its last step.
    fn advance(&self) -> BoxFuture<'_, Result<Next, JobError>> {
        Box::pin(async { Ok(Next::Complete) })
    }

    /// Whether values are only looked at: then nothing is left when one pass has seen all of them, which begins when nobody goes by
    /// the description of before.
    fn looks(&self) -> bool {
        false
    }

    /// What is put back when there are values that cannot be remade, or that do not pass a look, and the job fails.
    fn give_up(&self) -> BoxFuture<'_, Result<(), JobError>> {
        Box::pin(async { Ok(()) })
    }

    /// For the audit log: what was proved that no value is.
    fn proof(&self) -> Value;
}

/// What a job's last count waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing: nobody else writes what is counted.
    None,
    /// Replicas that hold these data keys, and transactions that may have sealed with one.
    Keys(BTreeSet<u64>),
    /// Replicas that go by what the registry said before, and transactions that may have.
    Registry,
}

/// What follows when no value is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The job is done.
    Complete,
    /// It has another step.
    Again,
    /// Something has to happen first.
    Wait(String),
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
    keystore: &Arc<Keystore>,
    settings: &Settings,
) -> Result<Arc<dyn Remake>, JobError> {
    match job.kind.as_str() {
        REWRAP => Ok(Arc::new(rewrap::Rewrap::of(job, keys, keystore).await?)),
        INDEX_ROTATION | TERM_CHANGE => {
            let turning = turn::Turning::of(job, keys, keystore, settings).await?;
            Ok(Arc::new(turning))
        }
        COLUMN_CHANGE => {
            let change = column::ColumnChange::of(job, keys, keystore, settings).await?;
            Ok(Arc::new(change))
        }
        other => Err(JobError::UnknownJob {
            kind: other.to_owned(),
        }),
    }
}

/// Loads the keys of values, side by side.
fn warm<'a>(keys: &Arc<Keys>, values: &[&[u8]]) -> BoxFuture<'a, ()> {
    let named = { values.iter() }.filter_map(|value| Envelope::parse(value).ok());
    let named: HashSet<DekId> = named.map(|envelope| envelope.dek).collect();
    Arc::clone(keys).warm(named.into_iter().collect()).boxed()
}

/// An SQL condition: that a sealed value's header names one of these data keys. An array of constants is hashed.
fn names_key(value: &str, ids: impl IntoIterator<Item = u64>) -> String {
    let ids = ids.into_iter().map(|id| format!("\"\\\\x{id:016x}\""));
    let ids = ids.collect::<Vec<_>>().join(",");
    let ids = sql::literal(&format!("{{{ids}}}"));
    format!("pg_catalog.substr({value}, 9, 8) = ANY ({ids}::pg_catalog.bytea[])")
}

fn damaged(reason: &str) -> JobError {
    JobError::Keystore(KeystoreError::Damaged {
        table: "pgveil.jobs",
        reason: reason.to_owned(),
    })
}
