//! Search terms brought to a scope's new index key, in three steps (docs/decisions/0072): every value gets a second term; the
//! second ones are compared, by indexes of their own; the first ones are taken out. Columns of one job take each step at once.

mod columns;
mod indexes;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use futures_util::{FutureExt, future::BoxFuture};
use pgveil_config::{ScopePath, Settings};
use pgveil_keys::{
    DekId, Keys, Keystore,
    keystore::{JobRecord, KeyTable, KeystoreError, Turn},
    nonce,
    sealed::{self, Envelope, Terms},
};
use pgveil_policy::{
    plan::ColumnId,
    ruleset::{Change, Generation, OtherTerms, RegisteredColumn},
    types::LogicalType,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Next, Remake, Rest, Trouble, rewrap::trouble};
use crate::{JobError, catalog, connect, sql, terms};

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
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// New keys are made.
    Keys,
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
            let catalog = catalog::read(&client).await?;
            let registry = keystore.registry().await?;
            Ok((catalog, registry.history(&*client).await?))
        };
        let read: Result<_, JobError> = read.await;
        client.close().await;
        let (catalog, history) = read?;
        let scope = ScopePath::parse(&job.scope).map_err(|_| damaged("a scope that is none"))?;
        let number = u32::try_from(job.id).map_err(|_| damaged("a number that is too large"))?;
        let horizon = { job.target["horizon"].as_u64() }
            .ok_or_else(|| damaged("a rotation without a horizon"))?;
        let all: Vec<RegisteredColumn> = history.into_iter().map(|past| past.column).collect();
        let begun: Vec<&RegisteredColumn> = { all.iter() }
            .filter(|column| is_of(column, number))
            .collect();
        let step = { begun.first() }.map_or(Step::Keys, |column| step_of(column));
        let affected = if begun.is_empty() {
            columns::affected(&all, &scope, job.below)
        } else {
            begun
        };
        let mut columns = BTreeMap::new();
        for column in affected {
            // A type that is gone, an enum: no value of it can be read any more.
            if let Ok(logical) = catalog.parse_type(&column.logical_type) {
                let registered = column.clone();
                columns.insert(
                    column.id,
                    Turned {
                        registered,
                        logical,
                    },
                );
            }
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
        })
    }

    /// What a value of the column bears after this step.
    async fn terms(
        &self,
        column: &Turned,
        scope: &ScopePath,
        plain: &[u8],
    ) -> Result<Terms, Trouble> {
        let compared = terms::compared(&column.registered);
        let value = (column.registered.id, column.logical);
        let make = async |described: &OtherTerms| {
            let made = terms::make(&self.keys, described, value, scope, plain).await;
            made.map_err(trouble)
        };
        let first = make(&compared).await?;
        let other = column.registered.change.as_ref();
        match (self.step, other.and_then(Change::other_terms)) {
            (Step::Adding, Some(other)) => Ok(Terms::two(first, make(other).await?)),
            _ => Ok(Terms::one(first.0, first.1)),
        }
    }

    async fn resealed(&self, value: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        let faulty = |why: &dyn ToString| Trouble::Faulty(why.to_string());
        let envelope = Envelope::parse(value).map_err(|why| faulty(&why))?;
        let Some(column) = self.columns.get(&envelope.column) else {
            return Ok(None);
        };
        let key = match self.keys.cached_opening_key(envelope.dek) {
            Some(key) => key,
            None => { self.keys.opening_key(envelope.dek).await }.map_err(trouble)?,
        };
        let mut plain = Zeroizing::new(Vec::with_capacity(envelope.plaintext_len()));
        envelope
            .open(&key, &mut plain)
            .map_err(|why| faulty(&why))?;
        let scope = key.scope();
        let terms = self.terms(column, scope, &plain).await?;
        // A term that is another than its key makes: equal values would become different, or different ones equal.
        let differs = terms.numbers().any(|number| {
            let bears = envelope.terms.get(number);
            bears.is_some() && bears != terms.get(number)
        });
        if differs {
            return Err(faulty(
                &"its search term is not the one that its scope's index key makes",
            ));
        }
        if terms == envelope.terms {
            return Ok(None);
        }
        for _ in 0..4 {
            let key = match self.keys.cached_sealing_key(scope) {
                Some(key) => key,
                None => { self.keys.sealing_key(scope).await }.map_err(trouble)?,
            };
            let mut out = Vec::new();
            let nonce = nonce::next();
            let sealed = sealed::seal(&key, envelope.column, &terms, &nonce, &plain, &mut out);
            // Another one took the last use of its lease.
            if sealed.is_ok() {
                return Ok(Some(out));
            }
        }
        Err(Trouble::Later(format!(
            "no data key of {scope} has uses left"
        )))
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
        let changing = { self.columns.values() }
            .find(|column| column.registered.change.is_some())
            .map(|column| columns::shown(&column.registered));
        let changing = changing.map(|column| {
            format!("{column} is being changed otherwise: see `pgveil plan` and `pgveil jobs list`")
        });
        Ok(waits.or(changing))
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
        let terms = Generation {
            number: self.number,
            newest_key: self.keystore.next_id().await?,
        };
        let ids: Vec<ColumnId> = self.columns.keys().copied().collect();
        let keystore = &self.keystore;
        let begun = keystore
            .begin_turn(self.job, &self.scope, &ids, terms)
            .await?;
        Ok(again(begun))
    }

    async fn turn(&self, step: Turn) -> Result<Next, JobError> {
        let turned = self.keystore.turn(self.job, &self.scope, step).await?;
        Ok(again(turned))
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
        Some(Change::Turning(other)) => other.generation.number == number,
        _ => column.generation.number == number,
    }
}

fn step_of(column: &RegisteredColumn) -> Step {
    match &column.change {
        Some(Change::Turning(_)) => Step::Adding,
        Some(Change::Turned(_)) => Step::Compared,
        Some(Change::Clearing(_)) => Step::Clearing,
        _ => Step::Done,
    }
}

impl Remake for Turning {
    fn wants(&self, value: &str) -> String {
        let ids = { self.columns.keys() }.map(|id| format!("'\\x{:08x}'::pg_catalog.bytea", id.0));
        let ids: Vec<String> = ids.collect();
        let right = match self.step {
            Step::Adding => sql::bears(value, self.number),
            Step::Clearing => sql::bears_only(value, self.number),
            Step::Keys | Step::Compared | Step::Done => return "false".to_owned(),
        };
        if ids.is_empty() {
            return "false".to_owned();
        }
        // A value without any term is none of those that are compared: its column had none when it was sealed.
        format!(
            "pg_catalog.substr({value}, 5, 4) IN ({}) AND {} AND NOT {right}",
            ids.join(", "),
            sql::bears_any(value)
        )
    }

    fn prepare<'a>(&'a self, values: &'a [&'a [u8]]) -> BoxFuture<'a, ()> {
        let named = { values.iter() }.filter_map(|value| Envelope::parse(value).ok());
        let named: HashSet<DekId> = named.map(|envelope| envelope.dek).collect();
        Arc::clone(&self.keys)
            .warm(named.into_iter().collect())
            .boxed()
    }

    fn remake<'a>(&'a self, value: &'a [u8]) -> BoxFuture<'a, Result<Option<Vec<u8>>, Trouble>> {
        self.resealed(value).boxed()
    }

    fn begin(&self) -> BoxFuture<'_, Result<Option<String>, JobError>> {
        async {
            match self.step {
                Step::Keys => self.make_keys().await,
                _ => Ok(None),
            }
        }
        .boxed()
    }

    fn rests(&self) -> Rest {
        match self.step {
            Step::Keys | Step::Done => Rest::None,
            Step::Adding | Step::Compared | Step::Clearing => Rest::Registry,
        }
    }

    fn walks(&self) -> bool {
        matches!(self.step, Step::Adding | Step::Clearing)
    }

    fn advance(&self) -> BoxFuture<'_, Result<Next, JobError>> {
        async {
            match self.step {
                Step::Keys => self.begin_turn().await,
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
        let ids: Vec<u32> = self.columns.keys().map(|id| id.0).collect();
        json!({ "horizon": self.horizon, "number": self.number, "column_ids": ids })
    }
}

fn damaged(reason: &str) -> JobError {
    JobError::Keystore(KeystoreError::Damaged {
        table: "pgveil.jobs",
        reason: reason.to_owned(),
    })
}
