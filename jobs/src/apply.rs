//! Makes the database what the policy wants: installs schema `pgveil`, seals columns, makes indexes on terms.
//! A table is converted in one transaction: a crash, a refusal or Ctrl-C at any moment leaves it as it was.
//!
//! It does not migrate online: readers and writers of a table wait while it is converted.

pub(crate) mod convert;
mod digest;
pub(crate) mod lock;
pub(crate) mod progress;
pub(crate) mod raw;
pub(crate) mod remains;
pub(crate) mod row_name;
mod rows;
pub(crate) mod sealing;
mod staging;
mod verify;

use std::{
    fmt::{self, Display, Formatter},
    sync::Arc,
    time::{Duration, Instant},
};

use pgveil_config::{PolicyFile, ScopePath, Settings};
use pgveil_keys::{
    Keys, Keystore, Scopes, clock::SystemClock, database::Database, keystore::Adopted, schema,
};
use pgveil_providers::{Providers, local::KekStore};

use crate::{
    JobError,
    change::{self, ChangeDone},
    migrate,
    plan::{PlanReport, SchemaStep, counted, grouped, plan},
    register,
    worker::Worker,
};

/// What was done.
#[derive(Debug, Default)]
pub struct ApplyReport {
    /// The plan that was carried out, or shown and declined.
    pub plan: PlanReport,
    /// How it ended.
    pub outcome: Outcome,
    /// Tables converted, in order.
    pub tables: Vec<TableDone>,
    /// Rows of an earlier pgveil's keystore that got their MACs.
    pub adopted: Adopted,
    /// Changes of values that were sealed already, in order.
    pub changes: Vec<ChangeDone>,
    /// The jobs that make such changes, if they are not waited for.
    pub jobs: Vec<u64>,
    /// Where plaintext from before may still be, in sentences.
    pub remains: Vec<String>,
}

/// How `apply` ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// The database was as the policy wants it.
    #[default]
    NothingToDo,
    /// The confirmation was not given; nothing was changed.
    Declined,
    /// Everything in the plan was done.
    Applied,
}

/// What `apply` does about work that a job does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// It lends a hand at the pace of `[reencrypt]`, and waits for the end.
    #[default]
    Waiting,
    /// The same, without pauses.
    FullSpeed,
    /// It queues the job.
    Detached,
}

/// One converted table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDone {
    /// `schema.name`.
    pub table: String,
    /// Rows read, written and verified.
    pub rows: u64,
    /// Values sealed; NULLs are not.
    pub values: u64,
    /// How long the table was locked.
    pub locked: Duration,
}

/// Carries out the plan. `confirm` is shown the plan and asked, unless `yes`. Connects as the keystore's role, which
/// must own the tables (or be a member of their owner).
///
/// Run again, it finds nothing to do. After an error, tables converted before it stay converted.
pub async fn apply(
    settings: &Settings,
    policy: &PolicyFile,
    yes: bool,
    how: How,
    mut confirm: impl FnMut(&PlanReport) -> bool,
) -> Result<ApplyReport, JobError> {
    let mut client = crate::connect(settings).await?;
    lock::against_other_applies(&client).await?;
    let plan = plan(settings, policy, &client).await?;
    let mut report = ApplyReport {
        plan,
        ..ApplyReport::default()
    };
    if report.plan.is_nothing_to_do() {
        report.adopted = adopt(settings, &client).await?;
        return Ok(report);
    }
    if report.plan.is_blocked() {
        return Err(JobError::Blocked {
            plan: Box::new(report.plan),
        });
    }
    let under_way = migrate::live(&client).await?;
    let mut tables = report.plan.tables.iter();
    if let Some(table) = tables.find(|table| under_way.iter().any(|other| other.oid == table.oid)) {
        return Err(JobError::BeingMigrated {
            table: table.shown(),
        });
    }
    if !yes && !confirm(&report.plan) {
        report.outcome = Outcome::Declined;
        return Ok(report);
    }
    if report.plan.schema != SchemaStep::UpToDate {
        schema::install(&mut client).await?;
    }
    report.adopted = adopt(settings, &client).await?;
    convert_tables(settings, policy, &client, &mut report).await?;
    change_values(settings, how, &mut report).await?;
    report.remains = remains::after(&client, &report).await?;
    report.outcome = Outcome::Applied;
    client.close().await;
    Ok(report)
}

async fn convert_tables(
    settings: &Settings,
    policy: &PolicyFile,
    client: &Database,
    report: &mut ApplyReport,
) -> Result<(), JobError> {
    if report.plan.tables.is_empty() {
        return Ok(());
    }
    let keys = open_keys(settings).await?;
    for table in &report.plan.tables {
        let started = Instant::now();
        let converted = convert::table(client, &keys, policy, table).await;
        let (rows, values) = converted?;
        let table = table.shown();
        report.tables.push(TableDone {
            table,
            rows,
            values,
            locked: started.elapsed(),
        });
    }
    Ok(())
}

async fn change_values(
    settings: &Settings,
    how: How,
    report: &mut ApplyReport,
) -> Result<(), JobError> {
    if report.plan.changes.is_empty() {
        return Ok(());
    }
    let mut settings = settings.clone();
    if how == How::FullSpeed {
        settings.reencrypt.interval = Duration::ZERO;
    }
    let (settings, keys) = (Arc::new(settings.clone()), open_keys(&settings).await?);
    let (keystore, _) = open_keystore(&settings).await?;
    let keys = Arc::new(keys);
    for order in change::orders(&report.plan.changes) {
        let job = order.queue(&keystore).await?;
        if how == How::Detached {
            report.jobs.push(job);
            continue;
        }
        let worker = Worker::new(
            Arc::clone(&settings),
            Arc::clone(&keystore),
            Arc::clone(&keys),
        );
        let done = order.see_through(worker, &keystore, job).await?;
        report.changes.push(done);
    }
    keystore.log().flush().await;
    Ok(())
}

/// Whether rows have no MAC is asked first: seldom is there anything to do, and then no provider is opened.
pub(crate) async fn adopt(settings: &Settings, client: &Database) -> Result<Adopted, JobError> {
    let doing = || JobError::while_doing("look for keys without MACs");
    let asked = "SELECT EXISTS (SELECT FROM pgveil.keys WHERE mac IS NULL) \
        OR EXISTS (SELECT FROM pgveil.overrides WHERE mac IS NULL) OR EXISTS (SELECT FROM pgveil.columns WHERE mac IS NULL) \
        OR EXISTS (SELECT FROM pgveil.enum_labels WHERE mac IS NULL)";
    let row = client.query_one(asked, &[]).await.map_err(doing())?;
    if !row.try_get(0).map_err(doing())? {
        return Ok(Adopted::default());
    }
    let (keystore, _) = open_keystore(settings).await?;
    // Before anything is recorded of columns: that is how it is known that they never had any.
    if keystore.columns_lack_macs().await? {
        let registry = keystore.registry().await?;
        register::in_transaction(client, "give columns their MACs", async || {
            registry.take_up(&**client).await?;
            Ok(registry.seal(&**client, "taken over").await?)
        })
        .await?;
    }
    if keystore.labels_lack_macs().await? {
        let registry = keystore.registry().await?;
        register::in_transaction(client, "give labels their MACs", async || {
            registry.take_up_labels(&**client).await?;
            Ok(registry.seal(&**client, "taken over").await?)
        })
        .await?;
    }
    let adopted = keystore.adopt_rows().await?;
    keystore.log().flush().await;
    Ok(adopted)
}

/// With the providers that can unwrap the audit log's key.
async fn open_keystore(settings: &Settings) -> Result<(Arc<Keystore>, Providers), JobError> {
    let keystore = Arc::new(Keystore::connect(settings).await?);
    let keks: Arc<dyn KekStore> = Arc::clone(&keystore) as _;
    let providers = pgveil_providers::build(settings, &keks).await?;
    let platform = Scopes::new(settings).kek(&ScopePath::platform());
    keystore.log().use_providers(&providers, &platform);
    Ok((keystore, providers))
}

pub(crate) async fn open_keys(settings: &Settings) -> Result<Keys, JobError> {
    let (keystore, providers) = open_keystore(settings).await?;
    keystore.stay().await?;
    let stored = keystore.stored().await?;
    let keys = Keys::new(keystore, providers, settings, Arc::new(SystemClock));
    // Before the first key is made: a scope may have another KEK than the files say.
    keys.set_stored(stored);
    Ok(keys)
}

impl Display for ApplyReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.adopted != Adopted::default() {
            let Adopted { keys, overrides } = self.adopted;
            writeln!(
                f,
                "Keys of an earlier pgveil got their MACs: {keys}; settings of scopes: {overrides}. If there was no upgrade, \
                 somebody took the audit log away: see docs/keystore.md.\n"
            )?;
        }
        match self.outcome {
            Outcome::NothingToDo => return write!(f, "{}", self.plan),
            Outcome::Declined => return write!(f, "Nothing was changed."),
            Outcome::Applied => {}
        }
        match self.plan.schema {
            SchemaStep::UpToDate => {}
            SchemaStep::Install { version } => {
                writeln!(f, "Installed schema pgveil (version {version}).")?;
            }
            SchemaStep::Upgrade { from, to } => {
                writeln!(f, "Upgraded schema pgveil from version {from} to {to}.")?;
            }
        }
        for done in &self.tables {
            let (rows, values) = (grouped(done.rows), counted(done.values as usize, "value"));
            let seconds = done.locked.as_secs_f64();
            writeln!(
                f,
                "Converted {}: {rows} rows, {values} sealed and verified, locked for {seconds:.1} s.",
                done.table
            )?;
        }
        for done in &self.changes {
            let seconds = done.took.as_secs_f64();
            let rewritten = counted(done.rewritten as usize, "value");
            write!(f, "{} {}: {rewritten} written anew", done.column, done.what)?;
            if done.verified > 0 {
                write!(f, ", {} looked at", grouped(done.verified))?;
            }
            writeln!(f, ", in {seconds:.0} s.")?;
        }
        for job in &self.jobs {
            writeln!(
                f,
                "Job {job} brings values to what the policy wants: pgveil jobs watch {job}"
            )?;
        }
        if !self.remains.is_empty() {
            writeln!(f, "\nWhat was plaintext until now may still be in:")?;
            self.remains
                .iter()
                .try_for_each(|place| writeln!(f, "  - {place}"))?;
        }
        write!(f, "Done.")
    }
}
