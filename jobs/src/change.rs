//! Changes what sealed values are while the column is used: search terms more or less, or others, another length
//! (docs/decisions/0068, 0090, 0118). It queues the jobs that do it, and sees them through; what a job does is the business of
//! [`crate::remake`].
//!
//! It does not convert columns that hold plaintext.

pub(crate) mod barrier;

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pgveil_keys::{
    Keystore,
    keystore::{COLUMN_CHANGE, JobOrder, JobRecord, JobState, NewJob, TERM_CHANGE},
};
use pgveil_policy::ruleset::{NewTerms, Step};
use serde_json::Value;

use crate::{
    JobError,
    plan::ChangePlan,
    remake::{
        WantedTerms,
        column::{WantedColumn, What},
    },
    worker::Worker,
};

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(120);

/// One change that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeDone {
    /// `schema.table.column`; several, where they change together.
    pub column: String,
    /// What it was, for people.
    pub what: &'static str,
    /// Values written again.
    pub rewritten: u64,
    /// Values read and found to fit.
    pub verified: u64,
    /// From the first step to the last.
    pub took: Duration,
}

/// What one job is to do.
pub(crate) struct Order<'a> {
    plans: Vec<&'a ChangePlan>,
    job: NewJob,
}

/// A job for each change; one for all terms that become others, since columns of a group change together.
pub(crate) fn orders(plans: &[ChangePlan]) -> Vec<Order<'_>> {
    let (mut orders, mut turned, mut turning) = (Vec::new(), Vec::new(), Vec::new());
    for plan in plans {
        let what = match &plan.wanted.step {
            Step::TurnTerms(new) => {
                turned.push(plan);
                turning.push(other_terms(plan, new));
                continue;
            }
            Step::AddTerms {
                shared_key,
                equality_group,
                ..
            } => What::AddTerms {
                shared_key: *shared_key,
                equality_group: equality_group.clone(),
            },
            Step::DropTerms => What::DropTerms,
            Step::Widen { to, .. } => What::Widen(to.sql_name()),
            Step::Narrow { to, .. } => What::Narrow(to.sql_name()),
        };
        orders.push(Order {
            job: column_change(plan, what),
            plans: vec![plan],
        });
    }
    if !turned.is_empty() {
        orders.push(Order {
            plans: turned,
            job: NewJob::term_change(&Value::Array(turning)),
        });
    }
    orders
}

fn other_terms(plan: &ChangePlan, new: &NewTerms) -> Value {
    let wanted = WantedTerms {
        id: plan.wanted.id,
        shared_key: new.shared_key,
        equality_group: new.equality_group.clone(),
        scope: new.scope.clone(),
        alike: plan.wanted.alike.clone(),
    };
    wanted.to_json()
}

fn column_change(plan: &ChangePlan, what: What) -> NewJob {
    let shown = plan.shown();
    let reason = match &what {
        What::AddTerms { .. } => format!("the policy wants search terms for {shown}"),
        What::DropTerms => format!("the policy wants no search terms for {shown} any more"),
        What::Widen(to) | What::Narrow(to) => format!("the policy wants {shown} as {to}"),
    };
    let wanted = WantedColumn {
        id: plan.wanted.id,
        shown,
        what,
        scope: plan.table.scope.to_string(),
        matching: plan.wanted.matching.clone(),
        alike: plan.wanted.alike.clone(),
    };
    NewJob::column_change(&wanted.to_json(), reason)
}

impl Order<'_> {
    /// Queues the job, unless one is there that does the same. One that was to bring such a column to something else, and that
    /// can be cancelled, is. Answers the job's number.
    pub(crate) async fn queue(&self, keystore: &Keystore) -> Result<u64, JobError> {
        let ids: Vec<&Value> = ids_of(&self.job.target).collect();
        for job in keystore.jobs().await? {
            let is_one = [COLUMN_CHANGE, TERM_CHANGE].contains(&job.kind.as_str());
            let is_about = is_one && ids_of(&job.target).any(|id| ids.contains(&id));
            if !is_about || job.state.has_ended() {
                continue;
            }
            let does_the_same = job.kind == TERM_CHANGE || job.target == self.job.target;
            if does_the_same && job.is_ours != Some(false) {
                return Ok(job.id);
            }
            if !keystore.order_job(job.id, JobOrder::Cancel).await? {
                tracing::warn!(job = job.id, "a job could not be cancelled");
            }
        }
        Ok(keystore.queue_job(&self.job).await?)
    }

    /// Lends the job a hand until it has ended; a bar shows how far it is.
    pub(crate) async fn see_through(
        &self,
        worker: Worker,
        keystore: &Keystore,
        job: u64,
    ) -> Result<ChangeDone, JobError> {
        let started = Instant::now();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = "{msg}  {wide_bar} {pos}/{len} values";
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(TICK);
        let ended = worker.run_until(job, |job| show(&bar, job)).await;
        bar.finish_and_clear();
        keystore.log().flush().await;
        let Some(record) = ended? else {
            return Err(ended_otherwise(job, "gone", "somebody removed it"));
        };
        if record.is_ours == Some(false) {
            let why = "somebody else than pgveil changed its row: `pgveil jobs cancel` ends it";
            return Err(ended_otherwise(job, "refused", why));
        }
        if record.state != JobState::Completed {
            let why = record.failure.or(record.waits);
            let why = why.as_deref().unwrap_or("somebody stopped it");
            return Err(ended_otherwise(job, record.state.as_str(), why));
        }
        let values = record.written.unsigned_abs();
        let (what, rewritten, verified) = match self.plans.first().map(|plan| &plan.wanted.step) {
            Some(Step::AddTerms { .. }) => ("got search terms", values, 0),
            Some(Step::DropTerms) => ("lost its search terms", values, 0),
            Some(Step::Widen { .. }) => ("was widened", 0, 0),
            Some(Step::Narrow { .. }) => ("was narrowed", 0, values),
            Some(Step::TurnTerms(_)) | None => ("got other search terms", values, 0),
        };
        let columns: Vec<String> = self.plans.iter().map(|plan| plan.shown()).collect();
        Ok(ChangeDone {
            column: columns.join(", "),
            what,
            rewritten,
            verified,
            took: started.elapsed(),
        })
    }
}

/// The columns that a job is about.
fn ids_of(target: &Value) -> impl Iterator<Item = &Value> {
    let columns = target["columns"].as_array();
    columns.into_iter().flatten().map(|column| &column["id"])
}

fn show(bar: &ProgressBar, job: &JobRecord) {
    bar.set_length(job.found.unsigned_abs());
    bar.set_position(job.written.unsigned_abs());
    let waits = job.waits.as_deref().unwrap_or("at work");
    bar.set_message(format!("job {}: {waits}", job.id));
}

fn ended_otherwise(job: u64, state: &str, why: &str) -> JobError {
    JobError::JobEnded {
        job,
        state: state.to_owned(),
        why: why.to_owned(),
    }
}
