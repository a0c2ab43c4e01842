//! `pgveil plan` and `pgveil apply`: what would change in the database, and doing it.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use pgveil_config::{PolicyFile, ScopePath, Settings};
use pgveil_jobs::{
    JobError,
    apply::{How as Waiting, Outcome, apply as carry_out},
    migrate::{self, Decryption},
    plan::{PlanReport, plan as compare},
};
use pgveil_keys::{
    audit::Operation,
    database::{self, Database},
};

use super::{Found, ask::StepUp, audit::sign_and_send};
use crate::app;

/// Prints the plan; exit code 1 if `apply` would refuse it.
///
/// # Errors
/// If the files or the database cannot be used.
pub async fn plan(config: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let (settings, policy) = read(config)?;
    let client = connected(&settings).await?;
    let report = compare(&settings, &policy, &client).await.map_err(found)?;
    if as_json {
        println!("{:#}", report.json());
    } else {
        println!("{report}");
    }
    Ok(if report.is_blocked() {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

/// How far, and how fast.
#[derive(Debug, clap::Args)]
pub struct How {
    /// With --online or --decrypt: do everything but the swap
    #[arg(long)]
    prepare: bool,
    /// Make no pauses, whatever [reencrypt] says
    #[arg(long)]
    full_speed: bool,
    /// Leave what a job does to `pgveil serve` and `pgveil jobs run`, and do not wait for its end
    #[arg(long)]
    detach: bool,
    /// With --contract or --decrypt: how long transactions of before are waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u32,
}

/// What `apply` does.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct Way {
    /// Migrate while applications write; run again, it goes on where it was
    #[arg(long)]
    online: bool,
    /// Bring sealed columns back to plaintext, while applications write: schema.table.column, with commas between several. The
    /// plaintext is at rest then, so it needs a step-up token; run again with the same names, it goes on where it was
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    decrypt: Vec<String>,
    /// Drop the plaintext that online migrations keep
    #[arg(long)]
    contract: bool,
    /// Undo online migrations that are not contracted
    #[arg(long)]
    rollback: bool,
    /// Show how far online migrations are
    #[arg(long)]
    status: bool,
    /// The same for machines
    #[arg(long)]
    json: bool,
}

/// Does what the flags say.
///
/// # Errors
/// If anything keeps it from being done.
pub async fn run(
    config: &Path,
    yes: bool,
    how: &How,
    way: &Way,
    step_up: &StepUp,
) -> anyhow::Result<ExitCode> {
    let walks = way.online || !way.decrypt.is_empty();
    if how.prepare && !walks {
        let what = "--prepare goes with --online or --decrypt".to_owned();
        return Err(Found(what).into());
    }
    let options = migrate::Options {
        yes,
        prepare: how.prepare,
        full_speed: how.full_speed,
        patience: Duration::from_secs(how.wait.into()),
    };
    if way.status || way.json {
        return status(config, way.json).await;
    }
    if !(walks || way.contract || way.rollback) {
        let how = match (how.detach, how.full_speed) {
            (true, true) => {
                let what =
                    "--detach leaves the work to others: their [reencrypt] says how fast it goes"
                        .to_owned();
                return Err(Found(what).into());
            }
            (true, false) => Waiting::Detached,
            (false, true) => Waiting::FullSpeed,
            (false, false) => Waiting::Waiting,
        };
        return apply(config, yes, how).await;
    }
    if how.detach {
        let what = "--detach goes with a plain `pgveil apply`".to_owned();
        return Err(Found(what).into());
    }
    if !way.decrypt.is_empty() {
        return decrypt(config, &way.decrypt, options, step_up).await;
    }
    let (settings, policy) = read(config)?;
    if !way.online && !yes && !sure(question(way.contract)) {
        return Ok(ExitCode::from(1));
    }
    let done = match (way.contract, way.rollback) {
        (true, _) => migrate::contract(&settings, options.patience).await,
        (_, true) => migrate::roll_back(&settings, &policy).await,
        _ => migrate::migrate(&settings, &policy, options, confirm).await,
    };
    let done = done.map_err(found)?;
    println!("{done}");
    Ok(ExitCode::from(u8::from(done.declined)))
}

/// Shows what it takes, asks unless told not to, gets a token if anything is begun, and does it.
async fn decrypt(
    config: &Path,
    columns: &[String],
    options: migrate::Options,
    step_up: &StepUp,
) -> anyhow::Result<ExitCode> {
    let (settings, policy) = read(config)?;
    let planned = migrate::plan_decryption(&settings, columns).await;
    let planned = planned.map_err(found)?;
    planned.iter().for_each(show);
    let blocked = { planned.iter() }.any(|table| table.obstacles().next().is_some());
    let asks = !planned.is_empty() && !options.yes && !blocked;
    if asks && !sure("Write plaintext into the table again? [y/N] ") {
        return Ok(ExitCode::from(1));
    }
    if blocked {
        return Err(Found("follow the cures above, then run it again".to_owned()).into());
    }
    let (_, keystore) = app::keystore(config).await?;
    let (log, platform) = (keystore.log(), ScopePath::platform());
    let token = if planned.is_empty() {
        None
    } else {
        Some({ step_up.token(log, Operation::ColumnDecrypt, &platform) }.await?)
    };
    let fresh = (planned.as_slice(), token.as_ref());
    let done = migrate::decrypt(&settings, &keystore, &policy, fresh, options).await;
    sign_and_send(config, &keystore).await;
    println!("{}", done.map_err(found)?);
    Ok(ExitCode::SUCCESS)
}

fn show(planned: &Decryption) {
    println!("~ table {}", planned.table.shown());
    for column in &planned.table.columns {
        println!(
            "    ~ column {}  {} -> {}  (plaintext at rest)",
            column.name, column.from_name, column.to
        );
    }
    for step in &planned.table.indexes {
        println!("    ~ index {}  {}", step.name, step.summary);
    }
    for obstacle in planned.obstacles() {
        println!(
            "    ! {}: BLOCKS it\n        cure: {}",
            obstacle.what, obstacle.cure
        );
    }
}

async fn status(config: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let (settings, _) = read(config)?;
    let client = connected(&settings).await?;
    let live = migrate::live(&client).await.map_err(found)?;
    if json {
        let live: Vec<_> = live.iter().map(migrate::Migration::json).collect();
        println!("{}", serde_json::Value::Array(live));
    } else if live.is_empty() {
        println!("No table is being migrated.");
    }
    live.iter()
        .filter(|_| !json)
        .for_each(|migration| println!("{migration}"));
    Ok(ExitCode::SUCCESS)
}

fn question(contract: bool) -> &'static str {
    if contract {
        "Drop the plaintext? It cannot be undone. [y/N] "
    } else {
        "Undo the migrations? The tables will be as they were before. [y/N] "
    }
}

/// Without a terminal there is nobody to ask, and nothing is done.
fn sure(question: &str) -> bool {
    if !io::stdin().is_terminal() {
        eprintln!("pgveil: nobody to ask; add --yes to do it");
        return false;
    }
    print!("{question}");
    answered()
}

/// Shows the plan, asks unless told not to, and carries it out.
///
/// # Errors
/// If anything keeps it from being done; a table is converted whole or not at all.
pub async fn apply(config: &Path, yes: bool, how: Waiting) -> anyhow::Result<ExitCode> {
    let (settings, policy) = read(config)?;
    let done = carry_out(&settings, &policy, yes, how, confirm)
        .await
        .map_err(found)?;
    if yes && done.outcome == Outcome::Applied {
        println!("{}\n", done.plan);
    }
    println!("{done}");
    Ok(if done.outcome == Outcome::Declined {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

async fn connected(settings: &Settings) -> anyhow::Result<Database> {
    let url = settings.keystore.url.read()?;
    let ca_file = settings.keystore.ca_file.as_deref();
    let client = database::connect(&url, settings.keystore.tls, ca_file).await;
    client.map_err(|error| Found(format!("{error}; {}", error.cure())).into())
}

fn read(config: &Path) -> anyhow::Result<(Settings, PolicyFile)> {
    let settings = Settings::load(config)?;
    let policy = PolicyFile::load(&settings.policy)?;
    Ok((settings, policy))
}

fn found(error: JobError) -> anyhow::Error {
    let cure = error.cure();
    Found(if cure.is_empty() {
        error.to_string()
    } else {
        format!("{error}\n  cure: {cure}")
    })
    .into()
}

/// Without a terminal there is nobody to ask, and nothing is done.
fn confirm(report: &PlanReport) -> bool {
    println!("{report}\n");
    if !io::stdin().is_terminal() {
        eprintln!("pgveil: nobody to ask; run `pgveil apply --yes` to do it");
        return false;
    }
    print!("Do this? [y/N] ");
    answered()
}

fn answered() -> bool {
    let _ = io::stdout().flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
