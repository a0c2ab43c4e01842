//! Search terms brought to a scope's new index key (docs/decisions/0072), or to another key, group or scope that the policy wants
//! (docs/decisions/0090), in three steps: every value gets a second term; the second ones are compared, by indexes of their own;
//! the first ones are taken out. Columns of one job take each step at once.

pub(super) mod columns;
mod indexes;
mod value;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use futures_util::{FutureExt, future::BoxFuture};
use pgveil_config::{ScopePath, Settings};
use pgveil_keys::{
    Keys, Keystore,
    audit::Operation,
    keystore::{JobRecord, KeyTable, TERM_CHANGE, Turn, Turner},
};
use pgveil_policy::{
    plan::ColumnId,
    ruleset::{Change, Generation, OtherTerms, RegisteredColumn},
    types::LogicalType,
};
use serde_json::{Value, json};

use super::{
    At, Next, Remake, Rest, RowColumns, Trouble, damaged,
    places::{Places, WantedTerms},
    warm,
};
use crate::{JobError, catalog, connect, terms};

/// Columns that a proof names.
const MAX_PROVED: usize = 100;

/// One rotation.
#[derive(Debug)]
pub(super) struct Turning {
    settings: Settings,
    keys: Arc<Keys>,
    keystore: Arc<Keystore>,
    job: u64,
    scope: ScopePath,
    below: bool,
    horizon: u64,
    /// Under which values bear the new terms: the job's own.
    number: u32,
    step: Step,
    /// Columns that it is about, retired ones among them: values may have been moved.
    columns: BTreeMap<ColumnId, Turned>,
    /// The others.
    others: BTreeMap<ColumnId, Turned>,
    /// Where each stands, if the policy wants other terms: what was moved there is one of its own then.
    places: Option<Places>,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// New keys are made.
    Keys,
    /// Everybody gets to know both scopes of a row.
    Announced,
    /// Values get the new terms.
    Adding,
    /// The new terms are compared.
    Compared,
    /// Values lose the former terms.
    Clearing,
    Done,
}

/// A column whose terms are changed.
#[derive(Debug)]
struct Turned {
    registered: RegisteredColumn,
    logical: LogicalType,
    /// The terms that it is to get, or gets, or has got.
    new: OtherTerms,
}

impl Turned {
    /// Whether the row says with whose keys its values get new terms.
    fn is_by_row(&self) -> bool {
        let former = match &self.registered.change {
            Some(Change::Turned(former) | Change::Clearing(former)) => former.clone(),
            _ => terms::compared(&self.registered),
        };
        columns::by_row(&former, &self.new)
    }
}

impl Turning {
    pub(super) async fn of(
        job: &JobRecord,
        keys: &Arc<Keys>,
        keystore: &Arc<Keystore>,
        settings: &Settings,
    ) -> Result<Self, JobError> {
        let client = connect(settings).await?;
        let read = async {
            let registry = keystore.registry().await?;
            let catalog = catalog::read(&client, &registry).await?;
            Ok((catalog, registry.history(&*client).await?))
        };
        let read: Result<_, JobError> = read.await;
        client.close().await;
        let (catalog, history) = read?;
        let scope = ScopePath::parse(&job.scope).map_err(|_| damaged("a scope that is none"))?;
        let number = u32::try_from(job.id).map_err(|_| damaged("a number that is too large"))?;
        let is_change = job.kind == TERM_CHANGE;
        let horizon = job.target["horizon"].as_u64();
        let horizon = horizon.or_else(|| is_change.then_some(0));
        let horizon = horizon.ok_or_else(|| damaged("a rotation without a horizon"))?;
        let wanted = WantedTerms::all_of(&job.target)?;
        let live: HashSet<ColumnId> = { history.iter() }
            .filter(|past| !past.retired)
            .map(|past| past.column.id)
            .collect();
        let all: Vec<RegisteredColumn> = history.into_iter().map(|past| past.column).collect();
        let begun: Vec<&RegisteredColumn> = { all.iter() }
            .filter(|column| is_of(column, number))
            .collect();
        let step = { begun.first() }.map_or(Step::Keys, |column| step_of(column));
        let affected: BTreeMap<ColumnId, OtherTerms> = if begun.is_empty() {
            let of_groups = is_change.then(|| columns::changed(&all, &live, &wanted));
            of_groups.unwrap_or_else(|| columns::rotated(&all, &scope, job.below))
        } else {
            let new = |column: &&RegisteredColumn| (column.id, new_terms(column));
            begun.iter().map(new).collect()
        };
        let of_places = all.iter().filter(|column| live.contains(&column.id));
        let of_places = of_places.map(|column| (column.id, column)).collect();
        let places = is_change.then(|| Places::of(&catalog, &of_places, &wanted));
        let (mut columns, mut others) = (BTreeMap::new(), BTreeMap::new());
        for registered in all {
            // A type that is gone, an enum: no value of it can be read any more.
            let Ok(logical) = catalog.parse_type(&registered.logical_type) else {
                continue;
            };
            let id = registered.id;
            let new = affected.get(&id).cloned();
            let of = if new.is_some() {
                &mut columns
            } else {
                &mut others
            };
            let turned = Turned {
                new: new.unwrap_or_else(|| terms::compared(&registered)),
                registered,
                logical,
            };
            of.insert(id, turned);
        }
        Ok(Self {
            settings: settings.clone(),
            keys: Arc::clone(keys),
            keystore: Arc::clone(keystore),
            job: job.id,
            scope,
            below: job.below,
            horizon,
            number,
            step,
            columns,
            others,
            places,
        })
    }

    /// New keys for the scopes that have one from before. Answers what it waits for.
    async fn make_keys(&self) -> Result<Option<String>, JobError> {
        let mut waits = None;
        for key in self.keystore.inventory().await? {
            let old = key.purpose == "index" && key.state == "active" && key.id < self.horizon;
            let Some(scope) = ScopePath::parse(&key.scope).ok().filter(|_| old) else {
                continue;
            };
            if scope != self.scope && !(self.below && scope.chain().contains(&self.scope)) {
                continue;
            }
            if let Err(error) = self.keys.index_key_since(&scope, self.horizon).await {
                waits = Some(error.to_string());
            }
        }
        Ok(waits.or_else(|| self.changing()))
    }

    /// A column must be through with one change before it gets to the next.
    fn changing(&self) -> Option<String> {
        let changing = { self.columns.values() }
            .find(|column| column.registered.change.is_some())
            .map(|column| columns::shown(&column.registered));
        changing.map(|column| {
            format!("{column} is being changed otherwise: see `pgveil plan` and `pgveil jobs list`")
        })
    }

    /// Columns whose values are still being sealed for the first time are described by whoever does it.
    async fn migrated(&self) -> Result<Option<String>, JobError> {
        let client = connect(&self.settings).await?;
        let found = columns::in_migration(&client, self.columns.keys()).await;
        client.close().await;
        found
    }

    async fn begin_turn(&self) -> Result<Next, JobError> {
        if self.columns.is_empty() {
            return Ok(Next::Complete);
        }
        if let Some(table) = self.migrated().await? {
            let why = format!("{table} is being migrated: see `pgveil apply --status`");
            return Ok(Next::Wait(why));
        }
        // After the new keys are there: theirs are below it, and any that come later above.
        let generation = Generation {
            number: self.number,
            newest_key: self.keystore.next_id().await?,
        };
        let terms = self.columns.iter().map(|(id, column)| {
            let new = column.new.clone();
            (*id, OtherTerms { generation, ..new })
        });
        let terms: BTreeMap<ColumnId, OtherTerms> = terms.collect();
        // Who changes what a scope is taken from must know of both before a value is made for the other.
        let announced = self.columns.values().any(Turned::is_by_row);
        let begun = self.keystore.begin_turn(self.turner(), &terms, announced);
        Ok(again(begun.await?))
    }

    async fn turn(&self, step: Turn) -> Result<Next, JobError> {
        let turned = self.keystore.turn(self.turner(), step).await?;
        Ok(again(turned))
    }

    fn turner(&self) -> Turner<'_> {
        Turner {
            job: self.job,
            scope: &self.scope,
            operation: if self.places.is_some() {
                Operation::PolicyApply
            } else {
                Operation::IndexRotate
            },
        }
    }

    fn live(&self) -> Vec<&RegisteredColumn> {
        let all = self.columns.values().map(|column| &column.registered);
        all.filter(|column| column.place != (0, 0)).collect()
    }
}

/// Where it was not done, the job was stopped, or something came between.
fn again(done: bool) -> Next {
    if done {
        Next::Again
    } else {
        Next::Wait("the description of a column was changed by somebody else".to_owned())
    }
}

/// Whether a column has, or gets, the terms of this number.
fn is_of(column: &RegisteredColumn, number: u32) -> bool {
    match &column.change {
        Some(Change::Announced(other) | Change::Turning(other)) => {
            other.generation.number == number
        }
        _ => column.generation.number == number,
    }
}

/// The terms that a column of the job gets, or has got.
fn new_terms(column: &RegisteredColumn) -> OtherTerms {
    match &column.change {
        Some(Change::Announced(other) | Change::Turning(other)) => other.clone(),
        _ => terms::compared(column),
    }
}

fn step_of(column: &RegisteredColumn) -> Step {
    match &column.change {
        Some(Change::Announced(_)) => Step::Announced,
        Some(Change::Turning(_)) => Step::Adding,
        Some(Change::Turned(_)) => Step::Compared,
        Some(Change::Clearing(_)) => Step::Clearing,
        _ => Step::Done,
    }
}

impl Remake for Turning {
    fn wants(&self, at: At<'_>, value: &str) -> String {
        self.wanted(at, value)
    }

    fn row_columns(&self, relation: u32) -> Vec<String> {
        self.scope_columns(relation)
    }

    fn prepare<'a>(&'a self, values: &'a [&'a [u8]]) -> BoxFuture<'a, ()> {
        warm(&self.keys, values)
    }

    fn remake<'a>(
        &'a self,
        at: At<'a>,
        row: &'a RowColumns,
        value: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, Trouble>> {
        self.resealed(at, row, value).boxed()
    }

    fn begin(&self) -> BoxFuture<'_, Result<Option<String>, JobError>> {
        async {
            match self.step {
                Step::Keys if self.places.is_none() => self.make_keys().await,
                Step::Keys => Ok(self.changing()),
                _ => Ok(None),
            }
        }
        .boxed()
    }

    fn rests(&self) -> Rest {
        match self.step {
            Step::Keys | Step::Done => Rest::None,
            Step::Announced | Step::Adding | Step::Compared | Step::Clearing => Rest::Registry,
        }
    }

    fn walks(&self) -> bool {
        matches!(self.step, Step::Adding | Step::Clearing)
    }

    fn advance(&self) -> BoxFuture<'_, Result<Next, JobError>> {
        async {
            match self.step {
                Step::Keys => self.begin_turn().await,
                Step::Announced => self.turn(Turn::Turning).await,
                Step::Adding => {
                    indexes::make(&self.settings, &self.live(), self.number).await?;
                    self.turn(Turn::Turned).await
                }
                Step::Compared => {
                    // Somebody who had not heard of it may have made another meanwhile.
                    indexes::make(&self.settings, &self.live(), self.number).await?;
                    indexes::drop_former(&self.settings, &self.live(), self.number).await?;
                    self.turn(Turn::Clearing).await
                }
                Step::Clearing => match self.turn(Turn::Cleared).await? {
                    Next::Again => Ok(Next::Complete),
                    next => Ok(next),
                },
                Step::Done => Ok(Next::Complete),
            }
        }
        .boxed()
    }

    fn proof(&self) -> Value {
        let ids = self.columns.keys().map(|id| id.0);
        let ids: Vec<u32> = ids.take(MAX_PROVED).collect();
        json!({
            "horizon": self.horizon, "number": self.number, "columns_of_it": self.columns.len(), "column_ids": ids,
        })
    }
}
