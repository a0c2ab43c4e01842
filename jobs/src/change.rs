//! Changes what sealed values are while the column is used: adds and takes out search terms, widens and narrows types
//! (docs/decisions/0068). Every step is a description in the registry that all replicas follow; what is begun and not
//! finished is found there, and gone on with.
//!
//! It does not convert columns that hold plaintext.

pub(crate) mod barrier;
mod rows;
pub(crate) mod turning;
mod value;

use std::time::{Duration, Instant};

use pgveil_keys::Keys;
use pgveil_policy::{
    catalog::Catalog,
    ruleset::{Change, Generation, RegisteredColumn, Step},
    types::LogicalType,
};
use tokio_postgres::Client;

use self::{
    rows::{Pass, Rows},
    value::{Fit, Terms},
};
use crate::{JobError, catalog, plan::ChangePlan, register};

/// One change that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeDone {
    /// `schema.table.column`.
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

/// Carries out one change, from where it is. `None`: a job does it ([`turning`]).
pub(crate) async fn carry_out(
    client: &Client,
    keys: &Keys,
    plan: &ChangePlan,
) -> Result<Option<ChangeDone>, JobError> {
    let started = Instant::now();
    let changing = Changing {
        client,
        keys,
        plan,
        catalog: catalog::read(client).await?,
    };
    let (what, rewritten, verified) = match &plan.wanted.step {
        Step::AddTerms { .. } => ("got search terms", changing.add_terms().await?, 0),
        Step::DropTerms => ("lost its search terms", changing.drop_terms().await?, 0),
        Step::Widen { from, to } => {
            changing.widen(*from, *to).await?;
            ("was widened", 0, 0)
        }
        Step::Narrow { from, to } => ("was narrowed", 0, changing.narrow(*from, *to).await?),
        Step::TurnTerms(_) => return Ok(None),
    };
    Ok(Some(ChangeDone {
        column: plan.shown(),
        what,
        rewritten,
        verified,
        took: started.elapsed(),
    }))
}

/// A change on its way.
struct Changing<'a> {
    client: &'a Client,
    keys: &'a Keys,
    plan: &'a ChangePlan,
    catalog: Catalog,
}

impl Changing<'_> {
    /// New values get terms first; then those get one that have none; and only when none is left, they are compared.
    async fn add_terms(&self) -> Result<u64, JobError> {
        let now = self.registered().await?;
        // Writers have not stopped making terms yet.
        if now.change == Some(Change::EndingTerms) {
            self.describe(&now, with(&now, None)).await?;
            return Ok(0);
        }
        let Step::AddTerms {
            shared_key,
            equality_group,
            scope,
        } = &self.plan.wanted.step
        else {
            return Ok(0);
        };
        let adding = RegisteredColumn {
            equality: false,
            generation: self.generation(&now, *shared_key, equality_group).await?,
            shared_key: *shared_key,
            equality_group: equality_group.clone(),
            scope: Some(scope.clone()),
            ..with(&now, Some(Change::AddingTerms))
        };
        if now.change != adding.change {
            self.describe(&now, adding.clone()).await?;
        }
        barrier::wait(self.client).await?;
        let terms = Terms::with(
            self.keys,
            self.logical(&adding)?,
            &adding,
            &self.plan.wanted,
        );
        let rewritten = self.until_none_is_left(&terms).await?;
        self.make_indexes().await?;
        let done = RegisteredColumn {
            equality: true,
            ..with(&adding, None)
        };
        self.describe(&adding, done).await?;
        Ok(rewritten)
    }

    /// Which terms it gets: those of its group, and its own otherwise.
    async fn generation(
        &self,
        own: &RegisteredColumn,
        shared_key: bool,
        group: &Option<String>,
    ) -> Result<Generation, JobError> {
        let Some(group) = group else {
            return Ok(own.generation);
        };
        let registry = self.keys.registry().await?;
        let all = registry.history(self.client).await?;
        let others = all.iter().map(|past| &past.column).filter(|other| {
            other.id != own.id
                && other.equality_group.as_ref() == Some(group)
                && other.shared_key == shared_key
        });
        let Some(newest) = others.max_by_key(|other| (other.generation.number, other.id)) else {
            return Ok(own.generation);
        };
        let turns = newest.change.as_ref().and_then(Change::other_terms);
        if turns.is_some() {
            return Err(JobError::GroupTurns {
                column: self.plan.shown(),
                group: group.clone(),
            });
        }
        Ok(newest.generation)
    }

    /// Nobody compares terms any more; then nobody makes any; then they are taken out.
    async fn drop_terms(&self) -> Result<u64, JobError> {
        let mut now = self.registered().await?;
        if now.equality {
            let ending = with(&now, Some(Change::EndingTerms));
            if now != ending {
                self.describe(&now, ending.clone()).await?;
            }
            barrier::wait(self.client).await?;
            self.drop_indexes().await?;
            now = ending;
        }
        let dropping = RegisteredColumn {
            equality: false,
            ..with(&now, Some(Change::DroppingTerms))
        };
        if now != dropping {
            self.describe(&now, dropping.clone()).await?;
        }
        barrier::wait(self.client).await?;
        let terms = Terms::without(self.keys, self.logical(&dropping)?);
        let rewritten = self.until_none_is_left(&terms).await?;
        self.describe(&dropping, with(&dropping, None)).await?;
        Ok(rewritten)
    }

    /// Everybody reads the wider type before anybody writes it.
    async fn widen(&self, from: LogicalType, to: LogicalType) -> Result<(), JobError> {
        let mut now = self.settled(&Change::Widening(to.sql_name())).await?;
        if from == to {
            return Ok(());
        }
        let widening = with(&now, Some(Change::Widening(to.sql_name())));
        if now != widening {
            self.describe(&now, widening.clone()).await?;
            now = widening;
        }
        barrier::wait(self.client).await?;
        let done = RegisteredColumn {
            logical_type: to.sql_name(),
            ..with(&now, None)
        };
        self.describe(&now, done).await
    }

    /// Everybody writes the narrower type; then every value is looked at. If one does not fit, all is as before.
    async fn narrow(&self, from: LogicalType, to: LogicalType) -> Result<u64, JobError> {
        let now = self.settled(&Change::Narrowing(to.sql_name())).await?;
        let narrowing = with(&now, Some(Change::Narrowing(to.sql_name())));
        if now != narrowing {
            self.describe(&now, narrowing.clone()).await?;
        }
        barrier::wait(self.client).await?;
        let rows = Rows::of(self.client, &self.catalog, self.plan);
        let fit = Fit {
            keys: self.keys,
            from,
            to,
        };
        match rows.verify(&fit).await {
            Ok(verified) => {
                let done = RegisteredColumn {
                    logical_type: to.sql_name(),
                    ..with(&narrowing, None)
                };
                self.describe(&narrowing, done).await?;
                Ok(verified)
            }
            Err(error) => {
                self.describe(&narrowing, with(&narrowing, None)).await?;
                Err(error)
            }
        }
    }

    /// Passes over the table until one finds nothing, and one more after all transactions of that moment have ended: they may
    /// hold rows that nobody else sees yet.
    async fn until_none_is_left(&self, terms: &Terms<'_>) -> Result<u64, JobError> {
        let rows = Rows::of(self.client, &self.catalog, self.plan);
        let mut rewritten = 0;
        let mut confirmed = false;
        let mut stuck = 0;
        loop {
            let pass: Pass = rows.rewrite(terms).await?;
            rewritten += pass.rewritten;
            if pass.left == 0 && pass.rewritten == 0 {
                if confirmed {
                    return Ok(rewritten);
                }
                confirmed = true;
                barrier::transactions(self.client).await?;
                continue;
            }
            confirmed = false;
            stuck = if pass.rewritten == 0 { stuck + 1 } else { 0 };
            if stuck == MAX_STUCK {
                return Err(JobError::RowsHeld {
                    table: self.plan.table.shown(),
                    rows: pass.left,
                });
            }
            if pass.rewritten == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// A run that was killed while it made an index concurrently leaves one that is written to and never read.
    async fn drop_unfinished(&self) -> Result<(), JobError> {
        let what = format!("drop an unfinished index of {}", self.plan.table.shown());
        let doing = || JobError::while_doing(what.clone());
        let known: Vec<&str> = { self.plan.indexes.iter() }
            .filter(|step| step.create.is_some())
            .map(|step| step.name.trim_end_matches(|c: char| c.is_ascii_digit()))
            .collect();
        let oid = &self.plan.table.oid;
        let found = self.client.query(UNFINISHED, &[oid, &known]).await;
        for row in found.map_err(doing())? {
            let index: &str = row.try_get(0).map_err(doing())?;
            let sql = format!("DROP INDEX CONCURRENTLY {index}");
            self.client.batch_execute(&sql).await.map_err(doing())?;
        }
        Ok(())
    }

    async fn make_indexes(&self) -> Result<(), JobError> {
        self.drop_unfinished().await?;
        for step in &self.plan.indexes {
            let Some(create) = &step.create else { continue };
            let partitioned = self.catalog.relation_by_oid(self.plan.table.oid);
            let partitioned = partitioned.is_some_and(|relation| relation.kind == 'p');
            let sql = if partitioned {
                create.clone()
            } else {
                create.replacen("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1)
            };
            self.client
                .batch_execute(&sql)
                .await
                .map_err(JobError::while_doing(format!(
                    "make index {} on the search terms of {}",
                    step.name,
                    self.plan.table.shown()
                )))?;
        }
        Ok(())
    }

    async fn drop_indexes(&self) -> Result<(), JobError> {
        for sql in self
            .plan
            .indexes
            .iter()
            .filter_map(|step| step.drop.as_ref())
        {
            self.client
                .batch_execute(sql)
                .await
                .map_err(JobError::while_doing(format!(
                    "drop an index of {}",
                    self.plan.table.shown()
                )))?;
        }
        Ok(())
    }

    /// The registration without a change other than this one: the registered type holds every value at any time.
    async fn settled(&self, but: &Change) -> Result<RegisteredColumn, JobError> {
        let now = self.registered().await?;
        match &now.change {
            Some(change) if change != but => {
                let settled = with(&now, None);
                self.describe(&now, settled.clone()).await?;
                barrier::wait(self.client).await?;
                Ok(settled)
            }
            _ => Ok(now),
        }
    }

    async fn registered(&self) -> Result<RegisteredColumn, JobError> {
        let id = self.plan.wanted.id;
        let registry = self.keys.registry().await?;
        let found = registry.list(self.client).await?;
        let found = found.into_iter().find(|column| column.id == id);
        found.ok_or_else(|| self.changed_meanwhile())
    }

    async fn describe(
        &self,
        before: &RegisteredColumn,
        now: RegisteredColumn,
    ) -> Result<(), JobError> {
        let registry = self.keys.registry().await?;
        register::in_transaction(self.client, "describe a column", async || {
            if !registry.describe(self.client, before, &now).await? {
                return Err(self.changed_meanwhile());
            }
            Ok(registry.seal(self.client, "changed").await?)
        })
        .await
    }

    fn logical(&self, column: &RegisteredColumn) -> Result<LogicalType, JobError> {
        let parsed = self.catalog.parse_type(&column.logical_type);
        parsed.map_err(|_| self.changed_meanwhile())
    }

    fn changed_meanwhile(&self) -> JobError {
        JobError::ChangedMeanwhile {
            table: self.plan.table.shown(),
        }
    }
}

/// Invalid indexes of a table on terms, whose names begin with one of these.
const UNFINISHED: &str = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index i \
    JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE i.indrelid = $1 AND NOT i.indisvalid AND pg_get_indexdef(i.indexrelid) LIKE '%pgveil.eq_term(%' \
        AND EXISTS (SELECT FROM unnest($2::text[]) AS stem WHERE starts_with(c.relname, stem)) \
    ORDER BY c.oid";
/// Passes in a row that find rows left and can write none.
const MAX_STUCK: u32 = 30;
/// Between them.
const PAUSE: Duration = Duration::from_secs(1);

fn with(column: &RegisteredColumn, change: Option<Change>) -> RegisteredColumn {
    RegisteredColumn {
        change,
        ..column.clone()
    }
}
