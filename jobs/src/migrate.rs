//! Online migration of columns that hold plaintext: a shadow column beside each, a trigger that clears it whenever the
//! plaintext changes, a backfill, indexes, a verification of every row, and a swap of names under a short lock. The plaintext
//! column is kept until the contract; until then everything can be undone. Resumable at any point: `pgveil.migrations` is
//! written in the transactions that do the work.
//!
//! It does not convert a table at once: `apply` does.

mod backfill;
mod begin;
mod contract;
mod decrypt;
mod index;
mod late;
pub(crate) mod names;
mod pacing;
mod parts;
mod rows;
mod short;
mod state;
mod swap;
mod table;
mod undo;
mod verify;

use std::{
    fmt::{self, Display, Formatter},
    sync::Arc,
    time::Duration,
};

use pgveil_config::{PolicyFile, Settings};
use pgveil_keys::{
    Keys, Keystore,
    audit::Operation,
    database::Database,
    keystore::KeystoreError,
    schema,
    step_up::{StepUpError, Token},
};
use tokio_postgres::Client;

use self::pacing::Pacing;
pub use self::{
    decrypt::Decryption,
    state::{MigratedColumn, Migration, Phase, Way, live},
};
use crate::{
    JobError,
    apply::{adopt, lock, open_keys, remains},
    change::barrier,
    plan::{PlanReport, grouped, plan},
};

/// How a run goes about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Ask nobody.
    pub yes: bool,
    /// End before the swap.
    pub prepare: bool,
    /// No pauses between batches, whatever `[reencrypt]` says.
    pub full_speed: bool,
    /// How long transactions of before a step are waited for.
    pub patience: Duration,
}

/// What all phases of one run need.
struct Run<'a> {
    client: &'a Client,
    keys: &'a Keys,
    policy: &'a PolicyFile,
    pacing: Pacing,
}

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
    options: Options,
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
    let asked = fresh.is_empty() || options.yes || confirm(&found);
    let mut report = MigrationReport {
        declined: !asked,
        ..MigrationReport::default()
    };
    if !asked {
        return Ok(report);
    }
    schema::install(&mut client).await?;
    adopt(settings, &client).await?;
    settle(&client).await?;
    let is_sealed = |migration: &Migration| migration.way == Way::Seal;
    if fresh.is_empty() && !live(&client).await?.iter().any(is_sealed) {
        return Ok(report);
    }
    let keys = open_keys(settings).await?;
    let run = Run {
        client: &client,
        keys: &keys,
        policy,
        pacing: Pacing::new(settings.reencrypt, options.full_speed),
    };
    for table in &fresh {
        begin::table(&run, table).await?;
    }
    let mut migrations = live(&client).await?;
    migrations.retain(is_sealed);
    for mut migration in migrations {
        let done = forward(&run, &mut migration, options.prepare).await;
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
/// If a table's lock is not to be had, or transactions of before are still open after `patience`. Run again, it goes on. If
/// a migration is not as pgveil began it: another column could be dropped, or plaintext be left behind.
pub async fn contract(
    settings: &Settings,
    patience: Duration,
) -> Result<MigrationReport, JobError> {
    let client = connected(settings).await?;
    settle(&client).await?;
    let mut report = MigrationReport::default();
    let mut migrations = live(&client).await?;
    migrations.retain(|one| one.phase == Phase::Swapped && one.way == Way::Seal);
    if migrations.is_empty() {
        return Ok(report);
    }
    let registry = open_keys(settings).await?.registry().await?;
    for migration in &migrations {
        migration.judge(&registry)?;
    }
    for mut migration in migrations {
        let done = contract::table(&client, &mut migration, patience).await;
        stopped(&client, &migration, &done).await?;
        done?;
        report
            .remains
            .extend(contract::detached(&client, &migration).await?);
        report.remains.push(format!(
            "dropped values in the pages of {table}: VACUUM (FULL, ANALYZE) {table}; (locks it; pg_repack does not)",
            table = migration.shown()
        ));
        report.tables.push(migration);
    }
    report.remains.extend(remains::elsewhere(&client).await);
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
    let run = Run {
        client: &client,
        keys: &keys,
        policy,
        // Who goes back is in a hurry.
        pacing: Pacing::new(settings.reencrypt, true),
    };
    for mut migration in migrations {
        let done = undo::table(&run, &mut migration).await;
        stopped(&client, &migration, &done).await?;
        done?;
        report.tables.push(migration);
    }
    client.close().await;
    Ok(report)
}

/// What a decryption would take; what is under way already is left out. Changes nothing.
///
/// # Errors
/// If a column is not sealed, or its table is being migrated otherwise.
pub async fn plan_decryption(
    settings: &Settings,
    columns: &[String],
) -> Result<Vec<Decryption>, JobError> {
    let client = crate::connect(settings).await?;
    settle(&client).await?;
    let found = decrypt::plan(&client, columns).await;
    client.close().await;
    found
}

/// Decrypts columns: begins with what is `fresh`, which needs a token for `column.decrypt` on the platform, and goes on with
/// what was begun.
///
/// # Errors
/// If a table cannot be decrypted, or not now. Run again, it goes on where it was.
pub async fn decrypt(
    settings: &Settings,
    keystore: &Arc<Keystore>,
    policy: &PolicyFile,
    (fresh, token): (&[Decryption], Option<&Token>),
    options: Options,
) -> Result<MigrationReport, JobError> {
    let blocks: Vec<String> = { fresh.iter().flat_map(Decryption::obstacles) }
        .map(|obstacle| format!("{}\n  cure: {}", obstacle.what, obstacle.cure))
        .collect();
    if !blocks.is_empty() {
        return Err(JobError::NotDecrypted {
            what: blocks.join("\n"),
        });
    }
    let mut client = connected(settings).await?;
    schema::install(&mut client).await?;
    adopt(settings, &client).await?;
    settle(&client).await?;
    match token {
        Some(token) if !fresh.is_empty() => decrypt::permit(keystore, fresh, token).await?,
        None if !fresh.is_empty() => {
            let operation = Operation::ColumnDecrypt;
            return Err(KeystoreError::from(StepUpError::Needed { operation }).into());
        }
        _ => {}
    }
    let keys = open_keys(settings).await?;
    let registry = keys.registry().await?;
    for planned in fresh {
        decrypt::begin(&client, &registry, planned).await?;
    }
    let mut report = MigrationReport::default();
    let run = Run {
        client: &client,
        keys: &keys,
        policy,
        pacing: Pacing::new(settings.reencrypt, options.full_speed),
    };
    let mut migrations = live(&client).await?;
    migrations.retain(|migration| migration.way == Way::Open);
    if { migrations.iter() }.any(decrypt::has_not_written) {
        // A proxy that has not looked at the catalog yet would show the columns to come.
        barrier::wait(&client, options.patience).await?;
    }
    for mut migration in migrations {
        let mut done = forward(&run, &mut migration, options.prepare).await;
        if done.is_ok() && migration.phase == Phase::Swapped {
            done = decrypt::settle(&client, keystore, &mut migration, options.patience).await;
        }
        stopped(&client, &migration, &done).await?;
        done?;
        report.tables.push(migration);
    }
    client.close().await;
    Ok(report)
}

/// Runs the phases from where the migration is.
async fn forward(run: &Run<'_>, migration: &mut Migration, prepare: bool) -> Result<(), JobError> {
    loop {
        match migration.phase {
            Phase::Backfill => backfill::table(run, migration).await?,
            Phase::Index => index::table(run, migration).await?,
            Phase::Verify => verify::table(run, migration).await?,
            Phase::Swap if prepare => return Ok(()),
            Phase::Swap => swap::table(run, migration).await?,
            Phase::Swapped if migration.way == Way::Open => return Ok(()),
            Phase::Swapped => return swap::settle(run.client, migration).await,
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
        let open = self.way == Way::Open;
        let what = match self.phase {
            Phase::Swapped if open => "decrypted; run the same again to finish".to_owned(),
            Phase::Contracted if open => {
                "decrypted: take it out of the policy, and restart the proxies".to_owned()
            }
            Phase::Swap if open => "ready for the swap: the same without --prepare".to_owned(),
            Phase::Swapped => {
                "migrated; the plaintext is kept until `pgveil apply --contract`".to_owned()
            }
            Phase::Contracted => "migrated, and its plaintext column dropped".to_owned(),
            Phase::RolledBack if open => "sealed, as it was before".to_owned(),
            Phase::RolledBack => "plaintext, as it was before: while the policy names it, proxies serve it as that and warn, \
                and `pgveil apply` seals it"
                .to_owned(),
            Phase::Swap => "ready for the swap: `pgveil apply --online`".to_owned(),
            phase if open => format!("being decrypted, in phase {}", phase.as_str()),
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
        if let Some((rate, left)) = self.pace {
            write!(f, "; {rate:.0} rows/s")?;
            if let Some(left) = left {
                write!(f, ", about {} left in this phase", lasting(left))?;
            }
        }
        match &self.reason {
            Some(reason) => write!(f, "\n  stopped: {reason}"),
            None => Ok(()),
        }
    }
}

/// A time for people.
pub(crate) fn lasting(seconds: f64) -> String {
    match seconds {
        ..1.0 => "a moment".to_owned(),
        ..90.0 => format!("{seconds:.0} s"),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
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
