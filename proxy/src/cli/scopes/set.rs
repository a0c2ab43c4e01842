//! `pgveil scopes set | clear | overrides`: what scopes do differently at run time.

use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use clap::Args;
use pgveil_config::{ScopePath, settings::Failure, show_duration};
use pgveil_keys::{
    Scopes,
    keystore::{OverrideRecord, override_operation},
    rewrap::{Rewrap, RewrapError},
    scopes::Own,
    step_up::Authority,
};
use serde_json::json;

use super::judged;
use crate::{
    app,
    cli::{Found, ask::StepUp, audit::sign_and_send, connect, moved::Moved, parse_scope, table},
};

/// `pgveil scopes set`
#[derive(Debug, Args)]
pub struct Given {
    #[command(flatten)]
    act: Act,
    /// The NAME of a [provider.NAME]; --key must stand beside it
    #[arg(long, requires = "key")]
    provider: Option<String>,
    /// The id of the KEK in the provider
    #[arg(long)]
    key: Option<String>,
    /// What happens while the provider cannot be reached
    #[arg(long, value_parser = ["closed", "open"])]
    failure: Option<String>,
    /// After this time a scope gets a new DEK: 90d, 12h, ...
    #[arg(long, value_parser = period)]
    dek_epoch: Option<Duration>,
    /// After so many values a scope gets a new DEK: 65536 to 4294967296
    #[arg(long, value_parser = clap::value_parser!(u64).range(1 << 16..=1 << 32))]
    dek_max_usage: Option<u64>,
    /// After this time a new version of the KEK is asked for: 365d, ...
    #[arg(long, value_parser = period)]
    kek_period: Option<Duration>,
    /// How long a retired DEK that no value uses is kept: 30d, ...
    #[arg(long, value_parser = period)]
    destroy_retired_after: Option<Duration>,
}

/// What every change of a scope is given.
#[derive(Debug, Args)]
pub struct Act {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    step_up: StepUp,
    /// Leave the keys that there are under the KEK that wrapped them
    #[arg(long)]
    keep_wrapped: bool,
    /// platform, or tenant:T with /project:P and /env:E behind it
    scope: String,
}

fn period(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_mins(1)..=Duration::from_hours(3650 * 24);
    let time = pgveil_config::duration(text).filter(|time| bounds.contains(time));
    time.ok_or_else(|| "a time from 1m to 3650d: a whole number and one of d, h, m".to_owned())
}

pub(super) async fn set(config: &Path, given: Given) -> anyhow::Result<ExitCode> {
    let change = |own: &mut Own| {
        if let Some(key) = given.key {
            own.key = Some((given.provider, key));
        }
        if let Some(failure) = given.failure {
            own.failure = Some(match failure.as_str() {
                "open" => Failure::Open,
                _ => Failure::Closed,
            });
        }
        let rotation = &mut own.rotation;
        rotation.dek_epoch = given.dek_epoch.or(rotation.dek_epoch);
        rotation.dek_max_usage = given.dek_max_usage.or(rotation.dek_max_usage);
        rotation.kek_period = given.kek_period.or(rotation.kek_period);
        rotation.destroy_retired_after = given
            .destroy_retired_after
            .or(rotation.destroy_retired_after);
    };
    let nothing =
        "nothing was given that could be set; `pgveil scopes set --help` shows what can be";
    apply(config, given.act, nothing, change).await
}

pub(super) async fn clear(config: &Path, act: Act) -> anyhow::Result<ExitCode> {
    let nothing = "nothing is set for it at run time";
    apply(config, act, nothing, |own| *own = Own::default()).await
}

/// `nothing` says why there is nothing to do where nothing was set.
async fn apply(
    config: &Path,
    act: Act,
    nothing: &str,
    change: impl FnOnce(&mut Own),
) -> anyhow::Result<ExitCode> {
    let scope = parse_scope(&act.scope)?;
    let built = app::build_to_mend(config).await?;
    let found = built.keystore.judged_overrides().await?;
    // What somebody else wrote for another scope must be taken back first; of this one's it is not taken over.
    let (mine, others): (Vec<_>, Vec<_>) =
        { found.refused.into_iter() }.partition(|(refused, _)| *refused == scope);
    if let Some((_, error)) = others.first() {
        return Err(Found(format!("{error}; {}", error.cure())).into());
    }
    let good = found.good.into_iter();
    let mut stored: BTreeMap<ScopePath, Own> = good.map(|found| (found.scope, found.own)).collect();
    let before = stored.get(&scope).cloned().unwrap_or_default();
    let mut own = before.clone();
    change(&mut own);
    if own == before && mine.is_empty() {
        return Err(Found(if before.is_empty() {
            format!("{scope}: {nothing}")
        } else {
            format!("{scope} has that already")
        })
        .into());
    }
    if let Some((Some(provider), _)) = &own.key
        && !built.settings.providers.contains_key(provider)
    {
        return Err(Found(format!(
            "there is no [provider.{provider}] in {}; add it there first, for every pgveil of this keystore",
            config.display()
        ))
        .into());
    }
    { built.settings.compliance }
        .allows(own.failure, own.rotation)
        .map_err(Found)?;
    let operation = override_operation(&own);
    let log = built.keystore.log();
    let token = act.step_up.token(log, operation, &scope).await?;
    stored.insert(scope.clone(), own.clone());
    let scopes = Scopes::new(&built.settings).with_stored(stored);
    let rewrap = Rewrap::new(&built.keys, &*built.keystore, scopes.clone(), scope.clone());
    let unchanged =
        |error: RewrapError| Found(format!("{error}; {}; nothing was changed", error.cure()));
    rewrap.probe().await.map_err(unchanged)?;
    if !act.keep_wrapped {
        rewrap.check().await.map_err(|error| match error {
            RewrapError::Key { .. } => Found(format!(
                "{error}; {}; nothing was changed. If the old KEK is gone for good, set it with --keep-wrapped: \
                 `pgveil keys rewrap {scope}` tells then what is lost with it",
                error.cure()
            )),
            other => unchanged(other),
        })?;
    }
    let right = Authority::Token(&token);
    built
        .keystore
        .set_override(&scope, &own, right)
        .await
        .map_err(|error| Found(format!("{error}; {}", error.cure())))?;
    let mut moved = Moved::default();
    if !act.keep_wrapped {
        built.keys.set_stored(scopes.stored().clone());
        moved = Moved::by(&built, &rewrap, &scope).await.map_err(|error| {
            Found(format!(
                "{error}; {}; it is set, and `pgveil keys rewrap {scope}` goes on",
                error.cure()
            ))
        })?;
    }
    report(&scope, &own, &moved, act.json);
    sign_and_send(config, &built.keystore).await;
    Ok(ExitCode::SUCCESS)
}

fn report(scope: &ScopePath, own: &Own, moved: &Moved, as_json: bool) {
    if as_json {
        let mut value = json!({
            "scope": scope.as_str(),
            "override": (!own.is_empty()).then(|| own_json(own)),
        });
        moved.put(&mut value);
        println!("{value:#}");
        return;
    }
    if own.is_empty() {
        println!("{scope} does as its configuration says.");
    } else {
        println!("{scope}: {}.", own_text(own));
    }
    if moved.is_any() {
        moved.print();
    }
}

pub(super) async fn list(config: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let settings = pgveil_config::Settings::load(config)?;
    let found = connect(&settings).await?.overrides_unjudged().await?;
    if as_json {
        let all: Vec<_> = found
            .iter()
            .map(|record| {
                json!({
                    "scope": record.scope.as_str(),
                    "override": own_json(&record.own),
                    "set_at": record.set_at,
                    "set_by": record.set_by,
                })
            })
            .collect();
        println!("{:#}", serde_json::Value::Array(all));
        return Ok(judged::tell(config).await);
    }
    let rows = found.iter().map(|record| {
        let OverrideRecord {
            scope,
            own,
            set_at,
            set_by,
        } = record;
        vec![
            scope.to_string(),
            own_text(own),
            set_at.clone(),
            set_by.clone(),
        ]
    });
    table::print(&["SCOPE", "OVERRIDE", "SET AT", "BY"], rows);
    Ok(judged::tell(config).await)
}

fn own_text(own: &Own) -> String {
    let rotation = &own.rotation;
    let parts = [
        own.key.as_ref().map(|(provider, key)| match provider {
            Some(provider) => format!("key = {provider} {key}"),
            None => format!("key = {key}"),
        }),
        own.failure
            .map(|failure| format!("failure = {}", failure.as_str())),
        rotation
            .dek_epoch
            .map(|time| format!("dek_epoch = {}", show_duration(time))),
        rotation
            .dek_max_usage
            .map(|uses| format!("dek_max_usage = {uses}")),
        rotation
            .kek_period
            .map(|time| format!("kek_period = {}", show_duration(time))),
        rotation
            .destroy_retired_after
            .map(|time| format!("destroy_retired_after = {}", show_duration(time))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

fn own_json(own: &Own) -> serde_json::Value {
    json!({
        "provider": own.key.as_ref().and_then(|(provider, _)| provider.as_ref()),
        "key": own.key.as_ref().map(|(_, key)| key),
        "failure": own.failure.map(Failure::as_str),
        "dek_epoch": own.rotation.dek_epoch.map(show_duration),
        "dek_max_usage": own.rotation.dek_max_usage,
        "kek_period": own.rotation.kek_period.map(show_duration),
        "destroy_retired_after": own.rotation.destroy_retired_after.map(show_duration),
    })
}
