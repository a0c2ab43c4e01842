//! The steps of jobs that change what values are, as the registry tells them: each describes all columns that it is about, begins
//! the job's next count, and is recorded, in one transaction. What must be true of values before a step is the business of crate `jobs`
//! (docs/decisions/0072).

use std::{collections::BTreeMap, mem::replace};

use pgveil_config::ScopePath;
use pgveil_policy::{
    plan::ColumnId,
    ruleset::{Change as Description, OtherTerms, RegisteredColumn},
};
use serde_json::json;

use super::{
    Keystore, KeystoreError, NewJob, bigint_of,
    registry::{damaged, described, redescribe, redescribed},
};
use crate::{
    audit::{Change, Event, Operation},
    step_up::Token,
};

/// Who registers a column of a group describes it as the group is: not while that changes.
const LOCK: &str = "LOCK TABLE pgveil.columns IN SHARE ROW EXCLUSIVE MODE";
/// The next step begins with a count, and waits for what ran when it began.
const NEXT: &str = "UPDATE pgveil.jobs SET phase = 'count', settle_at = NULL, settle_horizon = NULL, settle_waits = NULL, \
        settled = false, waits = NULL, look_at = clock_timestamp(), moved_at = now() \
    WHERE id = $1 AND state = 'running' RETURNING id";

/// A step of a rotation that all its columns take at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Everybody knows both scopes of a row: new values bear the new terms.
    Turning,
    /// Every value bears the new terms: they are compared from now on.
    Turned,
    /// Nobody compares the former terms any more: new values do not bear them.
    Clearing,
    /// No value bears them.
    Cleared,
}

/// Whose step it is.
#[derive(Clone, Copy, Debug)]
pub struct Turner<'a> {
    /// The job's number: that of its terms.
    pub job: u64,
    /// The job's scope.
    pub scope: &'a ScopePath,
    /// What it is recorded as.
    pub operation: Operation,
}

impl Turn {
    /// Takes it with a column, if the job of that number is about it.
    fn take(self, column: &mut RegisteredColumn, number: u32) -> bool {
        match (self, column.change.take()) {
            (Self::Turning, Some(Description::Announced(other)))
                if other.generation.number == number =>
            {
                column.change = Some(Description::Turning(other));
                true
            }
            (Self::Turned, Some(Description::Turning(other)))
                if other.generation.number == number =>
            {
                let former = OtherTerms {
                    generation: replace(&mut column.generation, other.generation),
                    shared_key: replace(&mut column.shared_key, other.shared_key),
                    equality_group: replace(&mut column.equality_group, other.equality_group),
                    scope: replace(&mut column.scope, other.scope),
                };
                column.change = Some(Description::Turned(former));
                true
            }
            (Self::Clearing, Some(Description::Turned(former)))
                if column.generation.number == number =>
            {
                column.change = Some(Description::Clearing(former));
                true
            }
            (Self::Cleared, Some(Description::Clearing(_)))
                if column.generation.number == number =>
            {
                true
            }
            (_, other) => {
                column.change = other;
                false
            }
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Turning => "adding",
            Self::Turned => "compared",
            Self::Clearing => "clearing",
            Self::Cleared => "cleared",
        }
    }
}

impl Keystore {
    /// Permits, with a token, that a scope's index key before `horizon` is replaced, and those of scopes below, and queues the
    /// job that does it and brings search terms to the new ones. Answers its number.
    pub async fn order_index_rotation(
        &self,
        scope: &ScopePath,
        below: bool,
        horizon: u64,
        token: &Token,
    ) -> Result<u64, KeystoreError> {
        let mut change = self.change().await?;
        change.step_up(token, Operation::IndexRotate, scope).await?;
        let wanted = NewJob::index_rotation(scope, below, horizon);
        let (job, event) = change.queue_job(&wanted, 1).await?;
        let detail = json!({ "ordered": true, "horizon": horizon, "below": below, "job": job });
        let order = Event::new(Operation::IndexRotate)
            .scope(scope)
            .detail(detail);
        change.commit_all(vec![order, event]).await?;
        Ok(job)
    }

    /// Describes columns as getting the terms of a job; with `announced`, as getting them soon. False, and nothing is done: one of
    /// them is being changed otherwise, or the job does not run any more.
    pub async fn begin_turn(
        &self,
        Turner {
            job,
            scope,
            operation,
        }: Turner<'_>,
        columns: &BTreeMap<ColumnId, OtherTerms>,
        announced: bool,
    ) -> Result<bool, KeystoreError> {
        let mut change = self.change().await?;
        change.automatic();
        change.query(LOCK, &[]).await?;
        let begin = |column: &mut RegisteredColumn| {
            let other = columns.get(&column.id).filter(|_| column.change.is_none());
            let Some(other) = other.cloned() else {
                return false;
            };
            column.change = Some(if announced {
                Description::Announced(other)
            } else {
                Description::Turning(other)
            });
            true
        };
        let ids = redescribe(&mut change, begin).await?;
        if ids.len() != columns.len() || !next(&mut change, job).await? {
            change.rollback().await?;
            return Ok(false);
        }
        let terms = columns.values().next().map(|other| other.generation);
        let terms = terms.unwrap_or_default();
        let detail = json!({
            "job": job, "step": if announced { "announced" } else { "adding" }, "number": terms.number,
            "newest_key": terms.newest_key,
        });
        let event = Event::new(operation).scope(scope);
        change
            .commit_all(redescribed(&event.detail(detail), &ids))
            .await?;
        Ok(true)
    }

    /// Takes the next step with all columns of a job. False, and nothing is done: it does not run any more.
    pub async fn turn(
        &self,
        Turner {
            job,
            scope,
            operation,
        }: Turner<'_>,
        step: Turn,
    ) -> Result<bool, KeystoreError> {
        let number = u32::try_from(job).map_err(|_| damaged("a job with a number too large"))?;
        let mut change = self.change().await?;
        change.automatic();
        change.query(LOCK, &[]).await?;
        let ids = redescribe(&mut change, |column| step.take(column, number)).await?;
        if !next(&mut change, job).await? {
            change.rollback().await?;
            return Ok(false);
        }
        let detail = json!({ "job": job, "step": step.told(), "number": number });
        let event = Event::new(operation).scope(scope);
        change
            .commit_all(redescribed(&event.detail(detail), &ids))
            .await?;
        Ok(true)
    }

    /// Describes one column otherwise, and begins the next count of the job that does it. False, and nothing is done: the column is
    /// not described as `before` any more, or the job does not run.
    pub async fn describe_column(
        &self,
        Turner {
            job,
            scope,
            operation,
        }: Turner<'_>,
        before: &RegisteredColumn,
        now: &RegisteredColumn,
    ) -> Result<bool, KeystoreError> {
        let mut change = self.change().await?;
        change.automatic();
        change.query(LOCK, &[]).await?;
        let describe = |column: &mut RegisteredColumn| {
            let described = described(column, before, now);
            described.map(|now| *column = now).is_some()
        };
        let ids = redescribe(&mut change, describe).await?;
        if ids.len() != 1 || !next(&mut change, job).await? {
            change.rollback().await?;
            return Ok(false);
        }
        let detail = json!({
            "job": job, "change": now.change.as_ref().map(step_of), "logical_type": now.logical_type, "equality": now.equality,
        });
        let event = Event::new(operation).scope(scope).detail(detail);
        change.commit_all(redescribed(&event, &ids)).await?;
        Ok(true)
    }
}

/// For the record.
fn step_of(change: &Description) -> &'static str {
    match change {
        Description::AddingTerms => "adding terms",
        Description::EndingTerms => "ending terms",
        Description::DroppingTerms => "dropping terms",
        Description::Widening(_) => "widening",
        Description::Narrowing(_) => "narrowing",
        Description::Announced(_)
        | Description::Turning(_)
        | Description::Turned(_)
        | Description::Clearing(_) => "turning",
    }
}

async fn next(change: &mut Change, job: u64) -> Result<bool, KeystoreError> {
    let rows = change.query(NEXT, &[&bigint_of(job)?]).await?;
    Ok(!rows.is_empty())
}
