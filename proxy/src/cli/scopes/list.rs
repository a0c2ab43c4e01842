//! `pgveil scopes list`: the scopes that have keys, and, asked for, how their key encryption keys are.

use std::{collections::BTreeMap, path::Path, process::ExitCode, sync::Arc};

use futures_util::{StreamExt, stream};
use pgveil_config::{ScopePath, Settings};
use pgveil_keys::{Scopes, health::State, keystore::ScopeRecord, scopes::KekRef};
use pgveil_providers::{Probe, ProviderError, probe as ask};
use serde_json::json;

use super::judged;
use crate::{
    app,
    cli::{connect, table},
};

/// Keys that are asked for side by side.
const MAX_AT_ONCE: usize = 8;

/// Lists them; asked to, with what their providers answer.
///
/// # Errors
/// If the configuration or the keystore cannot be read.
pub(super) async fn list(config: &Path, as_json: bool, probe: bool) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let keystore = connect(&settings).await?;
    let scopes = Scopes::new(&settings).with_stored(keystore.stored_unjudged().await?);
    let found = keystore.scopes().await?;
    let keks = if probe {
        Some(asked(config, &scopes, &found).await?)
    } else {
        None
    };
    if as_json {
        let all: Vec<_> = { found.iter() }
            .map(|record| record_json(record, &scopes, keks.as_ref()))
            .collect();
        println!("{:#}", serde_json::Value::Array(all));
        return Ok(judged::tell(config).await);
    }
    let rows = found.iter().map(|record| {
        let kek = kek_of(record, &scopes);
        let answer = kek.as_ref().and_then(|kek| keks.as_ref()?.get(kek));
        let state = match answer {
            Some(Err(error)) if record.state == "open" => State::of(error).as_str(),
            _ => record.state.as_str(),
        };
        let (provider, key) = kek.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |kek| (kek.provider, kek.kek),
        );
        vec![
            record.path.clone(),
            state.to_owned(),
            provider,
            key,
            record.active.to_string(),
            record.decrypt_only.to_string(),
            record.destroyed.to_string(),
        ]
    });
    table::print(
        &[
            "SCOPE",
            "STATE",
            "PROVIDER",
            "KEY",
            "ACTIVE",
            "DECRYPT ONLY",
            "DESTROYED",
        ],
        rows,
    );
    Ok(judged::tell(config).await)
}

/// What providers answered, by KEK.
type Answers = BTreeMap<KekRef, Result<Probe, ProviderError>>;

fn kek_of(record: &ScopeRecord, scopes: &Scopes) -> Option<KekRef> {
    let path = ScopePath::parse(&record.path).ok()?;
    Some(scopes.kek(&path))
}

/// Asks for each KEK once, on behalf of the first of its scopes.
async fn asked(config: &Path, scopes: &Scopes, found: &[ScopeRecord]) -> anyhow::Result<Answers> {
    let (_, _, providers) = app::providers(config).await?;
    let mut keks = BTreeMap::new();
    for record in found {
        if let Some(kek) = kek_of(record, scopes) {
            keks.entry(kek).or_insert_with(|| record.path.clone());
        }
    }
    let probes = keks.into_iter().map(|(kek, scope)| {
        let holder = providers.get(&kek.provider).map(Arc::clone);
        async move {
            let answer = match holder {
                Some(holder) => ask(holder.as_ref(), &kek.provider, &kek.kek, &scope).await,
                None => {
                    let reason = "pgveil.toml has no such provider";
                    Err(ProviderError::denied(&kek.provider, &kek.kek, reason))
                }
            };
            (kek, answer)
        }
    });
    Ok(stream::iter(probes).buffered(MAX_AT_ONCE).collect().await)
}

fn record_json(
    record: &ScopeRecord,
    scopes: &Scopes,
    answers: Option<&Answers>,
) -> serde_json::Value {
    let kek = kek_of(record, scopes);
    let answer = kek.as_ref().and_then(|kek| answers?.get(kek));
    let key_state = answer.map(|answer| match answer {
        Ok(_) => State::Works.as_str(),
        Err(error) => State::of(error).as_str(),
    });
    let protection = answer.and_then(|answer| Some(answer.as_ref().ok()?.info.protection.as_str()));
    let key_error = answer.and_then(|answer| Some(answer.as_ref().err()?.to_string()));
    json!({
        "scope": record.path,
        "state": record.state,
        "provider": kek.as_ref().map(|kek| &kek.provider),
        "key": kek.as_ref().map(|kek| &kek.kek),
        "key_state": key_state,
        "key_error": key_error,
        "key_protection": protection,
        "keys": {
            "active": record.active,
            "decrypt_only": record.decrypt_only,
            "destroyed": record.destroyed,
        },
    })
}
