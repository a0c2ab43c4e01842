//! `pgveil audit`: listing the audit log, judging it, exporting it, and the key that its checkpoints are judged with.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use pgveil_config::Settings;
use pgveil_keys::{
    Keystore,
    audit::{Filter, Operation, Record, Sinks, Sound, export, secrets::PublicKey, sink, time},
};
use serde_json::json;

use super::{Found, ask::found, parse_scope, table};
use crate::app;

/// `pgveil audit ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the newest records
    #[command(
        after_help = "Examples:\n  pgveil audit list --scope tenant:acme --since 2026-01-01 --config conf/pgveil.toml\n  pgveil audit list --operation scope.unseal --result refused --json\n\nTimes are UTC: 2026-01-31, 2026-01-31T12:00, 2026-01-31T12:00:00Z."
    )]
    List(List),
    /// Judge the log, or an export of it: exit code 1 if anything was changed, added, left out or moved
    #[command(
        after_help = "Examples:\n  pgveil audit verify --config conf/pgveil.toml\n  pgveil audit verify --file audit.jsonl --public-key checkpoint.key      needs neither configuration nor database"
    )]
    Verify {
        /// An export, instead of the log itself
        #[arg(long, value_name = "FILE", requires = "public_key")]
        file: Option<PathBuf>,
        /// The public key that `pgveil audit checkpoint-key` printed, or a file with it
        #[arg(long, value_name = "KEY", requires = "file")]
        public_key: Option<String>,
        /// Check the MACs of an export too: asks the key provider
        #[arg(long, requires = "file")]
        macs: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the whole log as JSON lines, signed at the end
    #[command(
        after_help = "Example:\n  pgveil audit export --out audit.jsonl --config conf/pgveil.toml"
    )]
    Export {
        /// A new file; standard output without it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the public key that checkpoints and exports are judged with: keep it apart from the database
    #[command(after_help = "Example:\n  pgveil audit checkpoint-key > checkpoint.key")]
    CheckpointKey {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `pgveil audit list`
#[derive(Debug, Args)]
pub struct List {
    /// dek.create, scope.seal, step-up.refuse, ...
    #[arg(long)]
    operation: Option<String>,
    /// done, refused or failed
    #[arg(long, value_parser = ["done", "refused", "failed"])]
    result: Option<String>,
    /// A scope, and all below it
    #[arg(long)]
    scope: Option<String>,
    /// os:USER, session:ROLE or pgveil@HOST:PID
    #[arg(long)]
    actor: Option<String>,
    /// From this time on
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// Runs one of them.
///
/// # Errors
/// If the keystore cannot be used.
pub async fn run(config: &Path, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(list) => self::list(config, list).await,
        Command::Verify {
            file: Some(file),
            public_key: Some(key),
            macs,
            json,
        } => verify_file(macs.then_some(config), &file, &key, json).await,
        Command::Verify { json, .. } => verify(config, json).await,
        Command::Export { out } => export(config, out.as_deref()).await,
        Command::CheckpointKey { json } => checkpoint_key(config, json).await,
    }
}

/// After an operation at the command line: signs the log's end and sends it out. What goes wrong here is said, and does not
/// undo the operation.
pub(super) async fn sign_and_send(config: &Path, keystore: &Arc<Keystore>) {
    let log = keystore.log();
    log.flush().await;
    if let Err(error) = log.checkpoint().await {
        eprintln!("pgveil: no checkpoint of the audit log could be made: {error}");
        return;
    }
    let Ok(settings) = Settings::load(config) else {
        return;
    };
    let audit = settings.audit;
    if let Err(error) = Sinks::new(
        audit.sink_file,
        audit.sink_syslog.then(|| sink::SYSLOG.into()),
    )
    .follow(log)
    .await
    {
        eprintln!("pgveil: checkpoints of the audit log do not leave the database: {error}");
    }
}

async fn list(config: &Path, list: List) -> anyhow::Result<ExitCode> {
    let time = |text: Option<&String>| {
        let read = |text: &String| {
            time::parse(text).ok_or_else(|| {
                Found(format!(
                    "{text:?} is no time such as 2026-01-31 or 2026-01-31T12:00"
                ))
            })
        };
        text.map(read).transpose()
    };
    if let Some(operation) = &list.operation
        && operation.parse::<Operation>().is_err()
    {
        let known: Vec<&str> = Operation::ALL.iter().map(|known| known.as_str()).collect();
        return Err(Found(format!(
            "there is no operation {operation:?}; there are: {}",
            known.join(", ")
        ))
        .into());
    }
    if let Some(scope) = &list.scope {
        parse_scope(scope)?;
    }
    let filter = Filter {
        since_us: time(list.since.as_ref())?,
        until_us: time(list.until.as_ref())?,
        operation: list.operation,
        outcome: list.result,
        scope: list.scope,
        actor: list.actor,
        limit: list.limit,
    };
    let settings = Settings::load(config)?;
    let keystore = Keystore::connect(&settings)
        .await
        .map_err(|error| found(&error))?;
    let records = keystore
        .log()
        .list(&filter)
        .await
        .map_err(|error| found(&error))?;
    if list.json {
        for record in &records {
            println!("{}", export::record_json(record));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let heading = [
        "SEQ",
        "TIME",
        "ACTOR",
        "FROM",
        "OPERATION",
        "RESULT",
        "SCOPE",
        "KEY",
        "DETAIL",
    ];
    table::print(&heading, records.into_iter().map(cells));
    Ok(ExitCode::SUCCESS)
}

fn cells(record: Record) -> Vec<String> {
    let cells = [
        record.seq.to_string(),
        time::show(record.at_us),
        record.actor,
        record.address,
        record.operation,
        record.outcome,
        record.scope,
        record.key,
        record.detail,
    ];
    // A role may be called anything, also what moves a terminal's cursor.
    let plain = |cell: String| cell.replace(|c: char| c.is_control(), "\u{fffd}");
    cells.into_iter().map(plain).collect()
}

async fn verify(config: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let (settings, keystore) = app::keystore(config).await?;
    let log = keystore.log();
    let judged = log.verify().await.map_err(|error| found(&error))?;
    let sound = judged.map_err(|fault| Found(format!("the audit log is not sound: {fault}")))?;
    let mut kept = None;
    if let Some(path) = &settings.audit.sink_file {
        match sink::compare_to_the_end(log, path).await {
            Ok(count) => kept = Some(count),
            Err(error) => {
                return Err(Found(format!("the audit log is not sound: {error}")).into());
            }
        }
    }
    let lost = log.lost_keys().await.map_err(|error| found(&error))?;
    if !lost.is_empty() {
        let lost: Vec<String> = lost.iter().map(u64::to_string).collect();
        return Err(Found(format!(
            "the audit log is sound, and names keys whose rows are gone from pgveil.keys: {}\n  cure: restore them from a backup of schema pgveil",
            lost.join(", ")
        ))
        .into());
    }
    say(&sound, kept, as_json);
    Ok(ExitCode::SUCCESS)
}

async fn verify_file(
    config: Option<&Path>,
    file: &Path,
    key: &str,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let key = public_key(key)?;
    let secrets = match config {
        Some(config) => {
            let (_, keystore) = app::keystore(config).await?;
            let secrets = keystore.log().secrets().await;
            Some(secrets.map_err(|error| found(&error))?)
        }
        None => None,
    };
    let open = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let judged = export::verify(&mut BufReader::new(open), key, secrets.as_deref());
    let sound =
        judged.map_err(|error| Found(format!("{} is not sound: {error}", file.display())))?;
    say(&sound, None, as_json);
    Ok(ExitCode::SUCCESS)
}

fn say(sound: &Sound, kept: Option<u64>, as_json: bool) {
    if as_json {
        println!(
            "{:#}",
            json!({
                "sound": true, "records": sound.records, "first": sound.first, "last": sound.last,
                "checkpoints": sound.checkpoints, "signed_to": sound.signed_to, "macs": sound.macs,
                "checkpoints_outside": kept,
            })
        );
        return;
    }
    println!(
        "sound: {} records, {} to {}; {} checkpoints, the last at record {}",
        sound.records, sound.first, sound.last, sound.checkpoints, sound.signed_to
    );
    let macs = if sound.macs {
        "every MAC was checked"
    } else {
        "MACs were not checked, links and signatures were"
    };
    println!("{macs}");
    match kept {
        Some(count) => println!("{count} checkpoints kept outside the database agree"),
        None => println!("no checkpoints kept outside the database were compared"),
    }
}

/// 64 hexadecimal digits, or a file that holds them.
fn public_key(text: &str) -> anyhow::Result<PublicKey> {
    let mut key = PublicKey::default();
    if hex::decode_to_slice(text.trim(), &mut key).is_ok() {
        return Ok(key);
    }
    let read = fs::read_to_string(text)
        .with_context(|| format!("{text} is no public key, and no file"))?;
    hex::decode_to_slice(read.trim(), &mut key).map_err(|_| {
        Found(format!(
            "{text} does not hold a public key: 64 hexadecimal digits"
        ))
    })?;
    Ok(key)
}

async fn export(config: &Path, out: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (_, keystore) = app::keystore(config).await?;
    let mut out: Box<dyn Write + Send> = match out {
        None => Box::new(io::stdout()),
        Some(path) => {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("cannot make {}", path.display()))?;
            Box::new(io::BufWriter::new(file))
        }
    };
    let exported = keystore.log().export(&mut *out).await;
    let sound = exported.map_err(|error| Found(error.to_string()))?;
    out.flush().context("the export cannot be written")?;
    eprintln!("{} records exported", sound.records);
    sign_and_send(config, &keystore).await;
    Ok(ExitCode::SUCCESS)
}

async fn checkpoint_key(config: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let (_, keystore) = app::keystore(config).await?;
    let secrets = keystore
        .log()
        .secrets()
        .await
        .map_err(|error| found(&error))?;
    let key = hex::encode(secrets.public_key());
    if as_json {
        println!("{:#}", json!({ "algorithm": "Ed25519", "public_key": key }));
    } else {
        println!("{key}");
    }
    Ok(ExitCode::SUCCESS)
}
