//! Other search terms for columns that have some: queues the job that does it, for all columns at once, and waits for its end
//! (docs/decisions/0090). What the job does is the business of [`crate::remake`].

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pgveil_keys::{
    Keystore,
    keystore::{JobRecord, JobState, NewJob, TERM_CHANGE},
};
use pgveil_policy::ruleset::Step;
use serde_json::Value;

use super::ChangeDone;
use crate::{JobError, plan::ChangePlan, remake::turn::WantedTerms, worker::Worker};

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(120);

/// Queues the job, unless one is there that is about these columns. Answers its number.
pub(crate) async fn begin(keystore: &Keystore, plans: &[&ChangePlan]) -> Result<u64, JobError> {
    let wanted: Vec<Value> = plans.iter().filter_map(|plan| wanted(plan)).collect();
    let ids: Vec<&Value> = wanted.iter().map(|wanted| &wanted["id"]).collect();
    for job in keystore.jobs().await? {
        if job.kind != TERM_CHANGE || job.state.has_ended() {
            continue;
        }
        let columns = job.target["columns"].as_array();
        let mut columns = columns.into_iter().flatten();
        if columns.any(|column| ids.contains(&&column["id"])) {
            return Ok(job.id);
        }
    }
    let job = NewJob::term_change(&Value::Array(wanted));
    Ok(keystore.queue_job(&job).await?)
}

fn wanted(plan: &ChangePlan) -> Option<Value> {
    let Step::TurnTerms(new) = &plan.wanted.step else {
        return None;
    };
    let wanted = WantedTerms {
        id: plan.wanted.id,
        shared_key: new.shared_key,
        equality_group: new.equality_group.clone(),
        scope: new.scope.clone(),
        alike: plan.wanted.alike.clone(),
    };
    Some(wanted.to_json())
}

/// Lends the job a hand until it has ended; a bar shows how far it is.
pub(crate) async fn see_through(
    worker: Worker,
    keystore: &Keystore,
    job: u64,
    plans: &[&ChangePlan],
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
    if record.state != JobState::Completed {
        let why = record.failure.or(record.waits);
        let why = why.as_deref().unwrap_or("somebody stopped it");
        return Err(ended_otherwise(job, record.state.as_str(), why));
    }
    let columns: Vec<String> = plans.iter().map(|plan| plan.shown()).collect();
    Ok(ChangeDone {
        column: columns.join(", "),
        what: "got other search terms",
        rewritten: record.written.unsigned_abs(),
        verified: 0,
        took: started.elapsed(),
    })
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
