//! `pgveil keys`: the keys of scopes. What a scope should use is `pgveil scopes`' business.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Subcommand;
use pgveil_config::{ScopePath, Settings, show_duration};
use pgveil_jobs::{destruction, uses};
use pgveil_keys::{
    Keystore, Scopes,
    audit::Operation,
    keystore::KeyEntry,
    rewrap::{Rewrap, RewrapError, loss},
    step_up::Authority,
};
use serde_json::{Value, json};

use super::{
    Found,
    ask::{StepUp, confirmed},
    audit::sign_and_send,
    connect,
    loss::Loss,
    moved::Moved,
    parse_scope, table,
};
use crate::app;

/// Keys that end within this time are counted apart.
const SOON: Duration = Duration::from_hours(72);
/// How long after its scheduling a key is destroyed, unless it is said otherwise.
const DESTROY_AFTER: &str = "30d";

/// `pgveil keys ...`
#[derive(Debug, Subcommand)]
pub enum Key {
    /// List the keys: scope, state, KEK, uses, when they end
    #[command(
        after_help = "Examples:\n  pgveil keys list --config conf/pgveil.toml --scope tenant:acme\n  pgveil keys list --state decrypt_only --values --json"
    )]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Only keys of this scope and of those below it
        #[arg(long)]
        scope: Option<String>,
        /// Only keys in this state
        #[arg(long, value_parser = ["active", "decrypt_only", "destroyed"])]
        state: Option<String>,
        /// Count the values that name each data key: reads every protected column
        #[arg(long)]
        values: bool,
    },
    /// Wrap keys anew whose scope has another KEK than the one that wrapped them
    #[command(
        after_help = "Examples:\n  pgveil keys rewrap platform\n  pgveil keys rewrap tenant:acme --accept-loss --operator ada\n\nAfter a change of provider or key in pgveil.toml, while the old KEK can still unwrap. Stopped, it goes on where it was.\nWhere a KEK does not unwrap any more, it tells what would be lost and does nothing, unless the loss is accepted."
    )]
    Rewrap {
        /// Move the others, although some keys do not open any more
        #[arg(long)]
        accept_loss: bool,
        /// The scope's name again, instead of being asked, where a loss is accepted
        #[arg(long, value_name = "SCOPE", requires = "accept_loss")]
        confirm: Option<String>,
        /// The right to accept it: dek.rewrap
        #[command(flatten)]
        step_up: StepUp,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The scope, and with it every scope below; `platform` for all
        scope: String,
    },
    /// Schedule the destruction of a retired data key that no value uses
    #[command(
        after_help = "Example:\n  pgveil step-up token key.schedule-destruction tenant:acme > token\n  pgveil keys destroy 17 --after 30d --token token\n\nAsks for the name of the key's scope. The values that name the key are counted first, and again when the time has come; if there is one, nothing is destroyed."
    )]
    Destroy {
        /// The right to do it
        #[command(flatten)]
        step_up: StepUp,
        /// How long from now
        #[arg(long, default_value = DESTROY_AFTER, value_parser = after)]
        after: Duration,
        /// The name of the key's scope, instead of being asked
        #[arg(long, value_name = "SCOPE")]
        confirm: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The key's id
        id: u64,
    },
    /// Call a scheduled destruction off
    #[command(after_help = "Example:\n  pgveil keys keep 17")]
    Keep {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The key's id
        id: u64,
    },
}

fn after(text: &str) -> Result<Duration, String> {
    let bounds = Duration::ZERO..=Duration::from_hours(3650 * 24);
    let time = pgveil_config::duration(text).filter(|time| bounds.contains(time));
    time.ok_or_else(|| "a time up to 3650d: a whole number and one of d, h, m, s".to_owned())
}

/// Runs one of them.
///
/// # Errors
/// If the configuration or the keystore cannot be read, or it is refused.
pub async fn run(config: &Path, command: Key) -> anyhow::Result<ExitCode> {
    match command {
        Key::List {
            json,
            scope,
            state,
            values,
        } => {
            let wanted = Wanted { scope, state };
            list(config, &wanted, values, json).await
        }
        Key::Rewrap {
            accept_loss,
            confirm,
            step_up,
            json,
            scope,
        } => {
            let accepts = accept_loss.then_some((&step_up, confirm.as_deref()));
            rewrap(config, &scope, accepts, json).await
        }
        Key::Destroy {
            step_up,
            after,
            confirm,
            json,
            id,
        } => destroy(config, id, after, (&step_up, confirm.as_deref()), json).await,
        Key::Keep { json, id } => keep(config, id, json).await,
    }
}

/// Which keys are listed.
struct Wanted {
    scope: Option<String>,
    state: Option<String>,
}

async fn list(
    config: &Path,
    wanted: &Wanted,
    values: bool,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let keystore = connect(&settings).await?;
    let scopes = Scopes::new(&settings).with_stored(keystore.stored_unjudged().await?);
    let under = wanted.scope.as_deref().map(parse_scope).transpose()?;
    let uses = if values {
        Some(uses::count(&settings).await?)
    } else {
        None
    };
    let mut entries = keystore.inventory().await?;
    entries.retain(|key| {
        let is_below = |under: &ScopePath| {
            ScopePath::parse(&key.scope).is_ok_and(|scope| scope.chain().contains(under))
        };
        under.as_ref().is_none_or(is_below)
            && wanted
                .state
                .as_ref()
                .is_none_or(|state| *state == key.state)
    });
    let keys: Vec<Listed> = { entries.into_iter() }
        .map(|key| {
            let ends_in = ends_in(&key, &scopes);
            let values = uses
                .as_ref()
                .filter(|_| key.purpose == "data")
                .map(|uses| uses.of(key.id));
            Listed {
                key,
                ends_in,
                values,
            }
        })
        .collect();
    let soon = keys.iter().filter(|listed| listed.is_soon()).count();
    let count = |state: &str| {
        { keys.iter() }
            .filter(|listed| listed.key.state == state)
            .count()
    };
    let (active, decrypt_only) = (count("active"), count("decrypt_only"));
    let destroyed = count("destroyed");
    if as_json {
        let all: Vec<Value> = keys.iter().map(Listed::as_json).collect();
        println!(
            "{:#}",
            json!({
                "keys": all,
                "active": active,
                "decrypt_only": decrypt_only,
                "destroyed": destroyed,
                "ending_within_72h": soon,
            })
        );
        return Ok(ExitCode::SUCCESS);
    }
    table::print(
        &[
            "ID", "SCOPE", "PURPOSE", "EPOCH", "STATE", "PROVIDER", "KEY", "VERSION", "USES",
            "VALUES", "CREATED", "ENDS",
        ],
        keys.iter().map(Listed::as_row),
    );
    println!(
        "\n{active} active, {decrypt_only} decrypt only, {destroyed} destroyed; {soon} end within 72 hours."
    );
    Ok(ExitCode::SUCCESS)
}

/// A key as it is listed.
struct Listed {
    key: KeyEntry,
    /// How long until it is replaced or destroyed.
    ends_in: Option<Duration>,
    /// Values that name it, if they were counted.
    values: Option<u64>,
}

impl Listed {
    fn is_soon(&self) -> bool {
        self.ends_in.is_some_and(|left| left <= SOON)
    }

    fn ends(&self) -> String {
        let key = &self.key;
        match (&key.destroyed_at, &key.destroy_at, self.ends_in) {
            (Some(at), _, _) => format!("destroyed {at}"),
            (None, Some(at), _) => format!("to be destroyed {at}"),
            (None, None, Some(left)) => format!("replaced in {}", rough(left)),
            (None, None, None) => "-".to_owned(),
        }
    }

    fn as_row(&self) -> Vec<String> {
        let key = &self.key;
        vec![
            key.id.to_string(),
            key.scope.clone(),
            key.purpose.clone(),
            key.epoch.to_string(),
            key.state.clone(),
            key.provider.clone(),
            key.kek.clone(),
            table::version_of(&key.kek, &key.kek_version),
            key.uses.to_string(),
            self.values
                .map_or_else(|| "-".to_owned(), |n| n.to_string()),
            key.created_at.clone(),
            self.ends(),
        ]
    }

    fn as_json(&self) -> Value {
        let key = &self.key;
        json!({
            "id": key.id,
            "scope": key.scope,
            "purpose": key.purpose,
            "epoch": key.epoch,
            "state": key.state,
            "provider": key.provider,
            "key": key.kek,
            "key_version": key.kek_version,
            "uses": key.uses,
            "values": self.values,
            "created_at": key.created_at,
            "retired_at": key.retired_at,
            "ends_in_s": self.ends_in.map(|left| left.as_secs()),
            "destroy_at": key.destroy_at,
            "destroyed_at": key.destroyed_at,
        })
    }
}

/// How long until a key is replaced, or destroyed.
fn ends_in(key: &KeyEntry, scopes: &Scopes) -> Option<Duration> {
    match (key.state.as_str(), key.purpose.as_str()) {
        ("active", "data") => {
            let scope = ScopePath::parse(&key.scope).ok()?;
            let epoch = scopes.effective(&scope).rotation.dek_epoch;
            Some(epoch.saturating_sub(key.age))
        }
        ("decrypt_only", _) => key.destroy_in,
        _ => None,
    }
}

/// In days, hours or minutes, to the nearest.
fn rough(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    match minutes {
        2880.. => format!("{}d", (minutes + 720) / 1440),
        120.. => format!("{}h", (minutes + 30) / 60),
        _ => format!("{minutes}m"),
    }
}

async fn rewrap(
    config: &Path,
    scope: &str,
    accepts: Option<(&StepUp, Option<&str>)>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let path = parse_scope(scope)?;
    let built = app::build(config).await?;
    let scopes = built.keys.scopes();
    let keystore = &built.keystore;
    let mut rewrap = Rewrap::new(&built.keys, &**keystore, (*scopes).clone(), path.clone());
    let refused = |error: RewrapError| Found(format!("{error}; {}", error.cure()));
    rewrap.probe().await.map_err(refused)?;
    let lost = rewrap.survey().await.map_err(refused)?;
    let mut replaced = 0;
    if !lost.is_empty() {
        let uses = uses::count(&built.settings).await?;
        let loss = Loss::new(&lost, &uses);
        if as_json {
            println!("{:#}", json!({ "lost": loss.as_json() }));
        } else {
            loss.print();
        }
        let Some((step_up, confirm)) = accepts else {
            return Err(Found(loss.refusal(&path)).into());
        };
        confirmed(
            path.as_str(),
            confirm,
            "What the keys that do not open have sealed is given up, unless their KEK comes back.",
        )?;
        let log = keystore.log();
        let token = step_up.token(log, Operation::DekRewrap, &path).await?;
        rewrap = rewrap.without(&lost);
        rewrap.check().await.map_err(refused)?;
        loss::accept(keystore, &path, &lost, loss.values(), &token)
            .await
            .map_err(|error| Found(format!("{error}; {}", error.cure())))?;
        replaced = { loss::replace(&built.keys, &lost).await }.map_err(refused)?;
    }
    let moved = Moved::by(&built, &rewrap, &path).await.map_err(refused)?;
    if as_json {
        let mut done = json!({ "keys_lost": lost.len(), "keys_replaced": replaced });
        moved.put(&mut done);
        println!("{done:#}");
    } else {
        moved.print();
        if !lost.is_empty() {
            println!(
                "Keys lost: {}; scopes that got a next data key: {replaced}.",
                lost.len()
            );
        }
    }
    sign_and_send(config, keystore).await;
    Ok(ExitCode::SUCCESS)
}

/// Why the destruction of a key that no value names is not scheduled.
async fn why_not(keystore: &Keystore, id: u64, unused_for: Duration) -> anyhow::Result<String> {
    let keys = keystore.inventory().await?;
    let Some(key) = keys.iter().find(|key| key.id == id) else {
        return Ok("it is not there any more".to_owned());
    };
    Ok(match (key.purpose.as_str(), key.state.as_str()) {
        ("data", "active") => format!(
            "it is the active one of {scope}; `pgveil rotate {scope}` makes another",
            scope = key.scope
        ),
        ("data", "decrypt_only") => match (&key.destroy_at, &key.retired_at) {
            (Some(at), _) => format!("that is scheduled for {at} already"),
            (None, Some(at)) => format!(
                "it was retired at {at}, and a replica may seal with it for {} longer (cache.ttl, cache.stale_max and a minute); \
                 try again then",
                show_duration(unused_for)
            ),
            (None, None) => "it was not retired".to_owned(),
        },
        ("data", state) => format!("it is {state} already"),
        _ => "it makes search terms, and ends with its scope (`pgveil scopes erase`)".to_owned(),
    })
}

async fn destroy(
    config: &Path,
    id: u64,
    after: Duration,
    (step_up, confirm): (&StepUp, Option<&str>),
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let built = app::build(config).await?;
    let scope = built.keystore.scope_of(id).await?;
    let scope = scope.ok_or_else(|| Found(format!("there is no key {id}")))?;
    let scope = parse_scope(&scope)?;
    let what = format!(
        "Key {id} of {scope} will be destroyed: what it sealed, in backups too, can never be read again."
    );
    confirmed(scope.as_str(), confirm, &what)?;
    let log = built.keystore.log();
    let token = step_up.token(log, Operation::KeySchedule, &scope).await?;
    let uses = uses::count(&built.settings).await?;
    if let Some(columns) = uses.values.get(&id) {
        let places: Vec<String> = { columns.iter() }
            .map(|(column, values)| format!("{values} in {column}"))
            .collect();
        return Err(Found(format!(
            "key {id} is not destroyed: {} values name it ({}); nothing was changed",
            uses.of(id),
            places.join(", ")
        ))
        .into());
    }
    let (proof, right) = (uses.proof(id), Authority::Token(&token));
    let unused_for = destruction::unused_for(&built.settings);
    let scheduled = built
        .keystore
        .schedule_destruction(id, &scope, after, unused_for, &proof, right)
        .await
        .map_err(|error| Found(format!("{error}; {}", error.cure())))?;
    if !scheduled {
        let why = why_not(&built.keystore, id, unused_for).await?;
        return Err(Found(format!(
            "key {id} is not destroyed: {why}; nothing was changed"
        ))
        .into());
    }
    if as_json {
        let value = json!({ "id": id, "scope": scope.as_str(), "after": show_duration(after), "proof": proof });
        println!("{value:#}");
    } else {
        println!(
            "Key {id} of {scope} will be destroyed in {}: no value in {} columns names it. `pgveil keys keep {id}` calls it off.",
            show_duration(after),
            uses.columns
        );
    }
    sign_and_send(config, &built.keystore).await;
    Ok(ExitCode::SUCCESS)
}

async fn keep(config: &Path, id: u64, as_json: bool) -> anyhow::Result<ExitCode> {
    let built = app::build(config).await?;
    let why = json!({ "reason": "called off by hand" });
    if built.keystore.cancel_destruction(id, &why).await? {
        if as_json {
            println!("{:#}", json!({ "key": id, "kept": true }));
        } else {
            println!("Key {id} is kept.");
        }
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Found(format!("no destruction of key {id} is scheduled")).into())
    }
}
