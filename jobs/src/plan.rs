//! Compares policy and database: what `apply` would do, and what will not work any more. Changes nothing.

pub(crate) mod change;
mod column;
mod decrypt;
mod estimate;
mod index;
mod json;
mod number;
mod obstacle;
mod partition;
mod report;
mod schema;
mod table;
mod traces;

use pgveil_config::{Diagnostic, PolicyFile, Settings, TableRule};
use pgveil_keys::keystore::registry;
use pgveil_policy::ruleset::Wanted;
use tokio_postgres::Client;

pub use self::{
    change::ChangePlan, column::ColumnPlan, estimate::Estimate, index::IndexStep,
    index::OnlineIndex, json::finding_json, obstacle::Obstacle, schema::SchemaStep,
    table::TablePlan, traces::Trace,
};
pub(crate) use self::{
    column::convertible,
    decrypt::{copies, of_columns as decrypting},
    report::{counted, grouped},
    table::{empty, of_rule},
};
use crate::{
    JobError, catalog, findings,
    migrate::{self, Migration},
    onlookers,
    recognise::recognise,
};

/// What `apply` would do.
#[derive(Clone, Debug, Default)]
pub struct PlanReport {
    /// The database it is about.
    pub database: String,
    /// What becomes of schema `pgveil`.
    pub schema: SchemaStep,
    /// Tables with something to do, in the policy's order.
    pub tables: Vec<TablePlan>,
    /// What they will take, where that can be guessed.
    pub estimates: Vec<Estimate>,
    /// What was begun online.
    pub migrations: Vec<Migration>,
    /// Where plaintext from before may still lie.
    pub traces: Vec<Trace>,
    /// What becomes of values that are sealed already, in the policy's order.
    pub changes: Vec<ChangePlan>,
    /// What is wrong with the policy itself; `apply` refuses while anything is.
    pub findings: Vec<Diagnostic>,
    /// What somebody should know.
    pub warnings: Vec<Diagnostic>,
}

impl PlanReport {
    /// The database is as the policy wants it.
    pub fn is_nothing_to_do(&self) -> bool {
        self.schema == SchemaStep::UpToDate
            && self.tables.is_empty()
            && self.changes.is_empty()
            && self.findings.is_empty()
    }

    /// Whether `apply` would refuse.
    pub fn is_blocked(&self) -> bool {
        !self.findings.is_empty()
            || self.tables.iter().any(TablePlan::is_blocked)
            || self.changes.iter().any(ChangePlan::is_blocked)
    }
}

/// Compares `policy` with the database of `client`, in a read-only transaction of its own: `client` must not be in one.
pub async fn plan(
    settings: &Settings,
    policy: &PolicyFile,
    client: &Client,
) -> Result<PlanReport, JobError> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client
        .batch_execute(begin)
        .await
        .map_err(JobError::while_doing("begin planning"))?;
    let report = plan_in_transaction(settings, policy, client).await;
    client
        .batch_execute("ROLLBACK")
        .await
        .map_err(JobError::while_doing("end planning"))?;
    report
}

async fn plan_in_transaction(
    settings: &Settings,
    policy: &PolicyFile,
    client: &Client,
) -> Result<PlanReport, JobError> {
    let catalog = catalog::read_in_transaction_unjudged(client).await?;
    let schema = schema::step(client).await?;
    let mut registered = match schema {
        SchemaStep::Install { .. } => Vec::new(),
        // What registers columns has been the same since the first version.
        SchemaStep::UpToDate | SchemaStep::Upgrade { .. } => registry::history_unjudged(client)
            .await?
            .into_iter()
            .map(|past| past.column)
            .collect(),
    };
    let mut report = PlanReport {
        database: catalog.database.clone(),
        schema,
        findings: findings::of_server(client).await?,
        migrations: migrate::live(client).await?,
        traces: traces::of(client).await?,
        ..PlanReport::default()
    };
    recognise(client, &catalog, &mut registered).await?;
    let found = findings::of_policy(policy, &catalog, &registered);
    report.findings.extend(found.errors);
    report.warnings = found.warnings;
    let onlookers = onlookers::of_policy(client, &catalog, policy).await?;
    report.warnings.extend(onlookers);
    for rule in policy.tables.iter().filter(|rule| {
        rule.database
            .as_ref()
            .is_none_or(|d| *d == catalog.database)
    }) {
        let wanted = wanted_by(rule, &found.wanted);
        let table = of_rule(client, &catalog, rule, &wanted).await?;
        if let Some(table) = table.filter(TablePlan::has_work) {
            let estimate = estimate::of(client, &settings.reencrypt, &table).await?;
            report.estimates.extend(estimate);
            report.tables.push(table);
        }
        for wanted in wanted {
            let change = change::plan(client, &catalog, wanted.clone(), rule).await?;
            report.changes.extend(change);
        }
    }
    Ok(report)
}

/// What an entry of the policy wants of values that are sealed already.
pub(crate) fn wanted_by<'w>(rule: &TableRule, all: &'w [Wanted]) -> Vec<&'w Wanted> {
    let is_its = |wanted: &&Wanted| rule.columns.iter().any(|column| column.at == wanted.at);
    all.iter().filter(is_its).collect()
}

/// `(email IS NOT NULL)` and `(email IS NULL)` mean the same on sealed values.
pub(crate) fn is_null_test(condition: &str, column: &str) -> bool {
    let bare = condition.trim_start_matches('(').trim_end_matches(')');
    [column.to_owned(), crate::sql::quoted(column)]
        .iter()
        .any(|c| bare == format!("{c} IS NOT NULL") || bare == format!("{c} IS NULL"))
}
