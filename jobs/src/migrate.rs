//! Online migration of columns that hold plaintext: a shadow column beside each, a trigger that clears it whenever the
//! plaintext changes, a backfill, indexes, a verification of every row, and a swap of names under a short lock. The plaintext
//! column is kept until the contract; until then everything can be undone. Resumable at any point: `pgveil.migrations` is
//! written in the transactions that do the work.
//!
//! It does not convert a table at once: `apply` does.

mod backfill;
mod begin;
mod contract;
mod index;
pub(crate) mod names;
mod rows;
mod short;
mod state;
mod swap;
mod table;
mod undo;
mod verify;

use std::fmt::{self, Display, Formatter};

use pgveil_config::{PolicyFile, Settings};
use pgveil_keys::{Keys, database::Database, schema};
use tokio_postgres::Client;

pub use self::state::{MigratedColumn, Migration, Phase, live};
use crate::{
    JobError,
    apply::{lock, open_keys, remains},
    plan::{PlanReport, grouped, plan},
};

/// What a run did.
#[derive(Debug, Default)]
pub struct MigrationReport {
    /// Whether the question was answered with no.
    pub declined: bool,
    /// The tables that were worked at, as they are now.
    pub tables: Vec<Migration>,
    /// Where plaintext from before may still be, in sentences.
    pub remains: Vec<String>,
}

/// Migrates every table of the policy that holds plaintext, and goes on with what was begun. `confirm` is shown the plan
/// and asked, unless `yes`; what was begun is gone on with unasked. With `prepare` it ends before the swap.
///
/// # Errors
/// If a table cannot be migrated, or not now. Run again, it goes on where it was.
pub async fn migrate(
    settings: &Settings,
    policy: &PolicyFile,
    (yes, prepare): (bool, bool),
    confirm: impl FnOnce(&PlanReport) -> bool,
) -> Result<MigrationReport, JobError> {
    let mut client = connected(settings).await?;
    let found = plan(settings, policy, &client).await?;
    let under_way = live(&client).await?;
    let fresh = found.tables.iter().filter(|table| {
        !table.columns.is_empty() && !under_way.iter().any(|other| other.oid == table.oid)
    });
    let fresh: Vec<_> = fresh.cloned().collect();
    if found.is_blocked() {
        return Err(JobError::Blocked {
            plan: Box::new(found),
        });
    }
    let asked = fresh.is_empty() || yes || confirm(&found);
    let mut report = MigrationReport {
        declined: !asked,
        ..MigrationReport::default()
    };
    if !asked {
        return Ok(report);
    }
    schema::install(&mut client).await?;
    settle(&client).await?;
    for table in &fresh {
        begin::table(&client, policy, table).await?;
    }
    let migrations = live(&client).await?;
    if migrations.is_empty() {
        return Ok(report);
    }
    let keys = open_keys(settings).await?;
    for mut migration in migrations {
        let done = forward(&client, &keys, policy, &mut migration, prepare).await;
        stopped(&client, &migration, &done).await?;
        done?;
        report.tables.push(migration);
    }
    client.close().await;
    Ok(report)
}

/// Drops the plaintext columns of all migrations that have swapped.
///
/// # Errors
/// If a table's lock is not to be had. Run again, it goes on.
pub async fn contract(settings: &Settings) -> Result<MigrationReport, JobError> {
    let client = connected(settings).await?;
    settle(&client).await?;
    let mut report = MigrationReport::default();
    for mut migration in live(&client).await? {
        if migration.phase != Phase::Swapped {
            continue;
        }
        contract::table(&client, &mut migration).await?;
        report.remains.push(format!(
            "dropped values in the pages of {table}: VACUUM (FULL, ANALYZE) {table}; (locks it; pg_repack does not)",
            table = migration.shown()
        ));
        report.tables.push(migration);
    }
    if !report.tables.is_empty() {
        report.remains.extend(remains::elsewhere(&client).await);
    }
    client.close().await;
    Ok(report)
}

/// Undoes every migration that has not ended: what was written since the swap is decrypted first.
///
/// # Errors
/// If a row cannot be decrypted, or a table's lock is not to be had. Run again, it goes on.
pub async fn roll_back(
    settings: &Settings,
    policy: &PolicyFile,
) -> Result<MigrationReport, JobError> {
    let client = connected(settings).await?;
    settle(&client).await?;
    let mut report = MigrationReport::default();
    let migrations = live(&client).await?;
    if migrations.is_empty() {
        return Ok(report);
    }
    let keys = open_keys(settings).await?;
    for mut migration in migrations {
        let done = undo::table(&client, &keys, policy, &mut migration).await;
        stopped(&client, &migration, &done).await?;
        done?;
        report.tables.push(migration);
    }
    client.close().await;
    Ok(report)
}

/// Runs the phases from where the migration is.
async fn forward(
    client: &Client,
    keys: &Keys,
    policy: &PolicyFile,
    migration: &mut Migration,
    prepare: bool,
) -> Result<(), JobError> {
    loop {
        match migration.phase {
            Phase::Backfill => backfill::table(client, keys, policy, migration).await?,
            Phase::Index => index::table(client, policy, migration).await?,
            Phase::Verify => verify::table(client, keys, policy, migration).await?,
            Phase::Swap if prepare => return Ok(()),
            Phase::Swap => swap::table(client, keys, policy, migration).await?,
            Phase::Swapped => return swap::settle(client, migration).await,
            Phase::Undo => {
                return Err(JobError::BeingUndone {
                    table: migration.shown(),
                });
            }
            Phase::Contracted | Phase::RolledBack => return Ok(()),
        }
    }
}

async fn connected(settings: &Settings) -> Result<Database, JobError> {
    let client = crate::connect(settings).await?;
    lock::against_other_applies(&client).await?;
    Ok(client)
}

/// Settings of the session. No name is looked up along a path, row security raises an error instead of hiding rows, and
/// triggers of the application do not fire for shadow columns where this role may say so.
async fn settle(client: &Client) -> Result<(), JobError> {
    let sql = "SET search_path = pg_catalog; SET row_security = off; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; \
               SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN \
               ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout', 'lock_timeout')";
    let doing = JobError::while_doing("prepare the session");
    client.batch_execute(sql).await.map_err(doing)?;
    // Only a superuser may, or who was given that right. Otherwise they fire.
    let _ = client
        .batch_execute("SET session_replication_role = replica")
        .await;
    Ok(())
}

async fn stopped(
    client: &Client,
    migration: &Migration,
    done: &Result<(), JobError>,
) -> Result<(), JobError> {
    let Err(error) = done else { return Ok(()) };
    // With the connection gone there is nobody to tell; the error itself is the answer.
    let _ = client.batch_execute("ROLLBACK").await;
    let _ = migration.stopped(client, &error.to_string()).await;
    Ok(())
}

impl Display for Migration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let (rows, verified) = (self.rows.unsigned_abs(), self.verified.unsigned_abs());
        let what = match self.phase {
            Phase::Swapped => {
                "migrated; the plaintext is kept until `pgveil apply --contract`".to_owned()
            }
            Phase::Contracted => "migrated, and its plaintext column dropped".to_owned(),
            Phase::RolledBack => "as it was before".to_owned(),
            Phase::Swap => "ready for the swap: `pgveil apply --online`".to_owned(),
            phase => format!("in phase {}", phase.as_str()),
        };
        write!(
            f,
            "{} ({}): {what}; {} rows written, {} verified",
            self.shown(),
            columns.join(", "),
            grouped(rows),
            grouped(verified)
        )?;
        match &self.reason {
            Some(reason) => write!(f, "\n  stopped: {reason}"),
            None => Ok(()),
        }
    }
}

impl Display for MigrationReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.declined {
            return write!(f, "Nothing was changed.");
        }
        if self.tables.is_empty() {
            return write!(f, "Nothing to do.");
        }
        self.tables
            .iter()
            .try_for_each(|table| writeln!(f, "{table}"))?;
        if !self.remains.is_empty() {
            writeln!(f, "\nWhat was plaintext until now may still be in:")?;
            self.remains
                .iter()
                .try_for_each(|place| writeln!(f, "  - {place}"))?;
        }
        write!(f, "Done.")
    }
}
