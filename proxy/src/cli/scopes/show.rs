//! `pgveil scopes show`: what holds for a scope, level by level, and why.

use std::{path::Path, process::ExitCode};

use pgveil_config::{ScopePath, Settings, show_duration};
use pgveil_keys::{
    Scopes,
    scopes::{Level, Origin, Setting},
};
use serde_json::{Value, json};

use super::judged;
use crate::cli::{connect, parse_scope, table};

pub(super) async fn run(
    config: &Path,
    scope: &str,
    offline: bool,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let path = parse_scope(scope)?;
    let mut scopes = Scopes::new(&settings);
    if !offline {
        scopes = scopes.with_stored(connect(&settings).await?.stored_unjudged().await?);
    }
    let levels = scopes.preview(&path);
    if as_json {
        println!("{:#}", as_value(&path, &scopes, &levels));
        return Ok(told(config, offline).await);
    }
    let rows = SETTINGS.iter().flat_map(|(name, of)| {
        levels.iter().enumerate().map(move |(at, level)| {
            let Setting {
                value,
                mark,
                origin,
            } = of(level);
            let says = origin.is_some();
            vec![
                if at == 0 {
                    (*name).to_owned()
                } else {
                    String::new()
                },
                level.scope.to_string(),
                if says { value } else { "-".to_owned() },
                mark.as_str().to_owned(),
                origin.map_or("", Origin::as_str).to_owned(),
            ]
        })
    });
    table::print(&["SETTING", "LEVEL", "VALUE", "", "SET IN"], rows);
    let holds = scopes.effective(&path);
    println!(
        "\nNew keys of {path} are wrapped by key \"{}\" of provider \"{}\"; while it cannot be reached, it fails {}.",
        holds.kek.kek,
        holds.kek.provider,
        holds.failure.as_str()
    );
    Ok(told(config, offline).await)
}

async fn told(config: &Path, offline: bool) -> ExitCode {
    if offline {
        return ExitCode::SUCCESS;
    }
    judged::tell(config).await
}

/// How a level's setting reads.
type Shown = fn(&Level) -> Setting<String>;

/// The settings of a level under the names that the configuration gives them.
const SETTINGS: [(&str, Shown); 6] = [
    ("key", |level| {
        shown(&level.kek, |kek| format!("{} {}", kek.provider, kek.kek))
    }),
    ("failure", |level| {
        shown(&level.failure, |failure| failure.as_str().to_owned())
    }),
    ("dek_epoch", |level| {
        shown(&level.dek_epoch, |time| show_duration(*time))
    }),
    ("dek_max_usage", |level| {
        shown(&level.dek_max_usage, u64::to_string)
    }),
    ("kek_period", |level| {
        shown(&level.kek_period, |time| {
            time.map_or_else(|| "never".to_owned(), show_duration)
        })
    }),
    ("destroy_retired_after", |level| {
        shown(&level.destroy_retired_after, |time| {
            time.map_or_else(|| "never".to_owned(), show_duration)
        })
    }),
];

fn shown<T>(setting: &Setting<T>, text: impl Fn(&T) -> String) -> Setting<String> {
    Setting {
        value: text(&setting.value),
        mark: setting.mark,
        origin: setting.origin,
    }
}

fn as_value(path: &ScopePath, scopes: &Scopes, levels: &[Level]) -> Value {
    let holds = scopes.effective(path);
    let chain: Vec<Value> = levels
        .iter()
        .map(|level| {
            let settings = SETTINGS.iter().map(|(name, of)| {
                let setting = of(level);
                let value = json!({
                    "value": setting.value,
                    "state": setting.mark.as_str(),
                    "set_in": setting.origin.map(Origin::as_str),
                });
                ((*name).to_owned(), value)
            });
            let mut level_json = json!({ "scope": level.scope.as_str() });
            if let Some(object) = level_json.as_object_mut() {
                object.extend(settings);
            }
            level_json
        })
        .collect();
    json!({
        "scope": path.as_str(),
        "provider": holds.kek.provider,
        "key": holds.kek.kek,
        "failure": holds.failure.as_str(),
        "dek_epoch": show_duration(holds.rotation.dek_epoch),
        "dek_max_usage": holds.rotation.dek_max_usage,
        "kek_period": holds.rotation.kek_period.map(show_duration),
        "destroy_retired_after": holds.rotation.destroy_retired_after.map(show_duration),
        "chain": chain,
    })
}
