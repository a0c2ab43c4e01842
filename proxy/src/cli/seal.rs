//! `pgveil seal`, `pgveil unseal` and `pgveil scopes erase`: taking a scope's keys out of use, back into use, and away.

use std::{path::Path, process::ExitCode};

use pgveil_config::ScopePath;
use pgveil_jobs::destruction;
use pgveil_keys::audit::Operation;
use serde_json::json;

use super::{
    ask::{self, confirmed, found},
    audit::sign_and_send,
    parse_scope, table,
};
use crate::app;

/// Seals a scope and all below it.
///
/// # Errors
/// If the keystore cannot be used.
pub async fn seal(config: &Path, scope: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    let scope = parse_scope(scope)?;
    let (_, keystore) = app::keystore(config).await?;
    let sealed = keystore.seal(&scope).await.map_err(|error| found(&error))?;
    if as_json {
        tell(&scope, "sealed", sealed);
    } else if sealed {
        println!(
            "{scope} is sealed: its values, and those of all scopes below it, can be neither read nor written"
        );
    } else {
        println!("{scope} was sealed already");
    }
    sign_and_send(config, &keystore).await;
    Ok(ExitCode::SUCCESS)
}

/// Takes a scope's seal off.
///
/// # Errors
/// If the keystore cannot be used, or the token is not good for it.
pub async fn unseal(
    config: &Path,
    scope: &str,
    step_up: &ask::StepUp,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let scope = parse_scope(scope)?;
    let (_, keystore) = app::keystore(config).await?;
    let token = step_up
        .token(keystore.log(), Operation::ScopeUnseal, &scope)
        .await?;
    let unsealed = keystore
        .unseal(&scope, &token)
        .await
        .map_err(|error| found(&error))?;
    if as_json {
        tell(&scope, "open", unsealed);
    } else if unsealed {
        println!("{scope} is unsealed");
    } else {
        println!("{scope} was not sealed by itself");
    }
    sign_and_send(config, &keystore).await;
    Ok(ExitCode::SUCCESS)
}

/// For machines: what the scope is now, and whether it was not so before.
fn tell(scope: &ScopePath, state: &str, changed: bool) {
    println!(
        "{:#}",
        json!({ "scope": scope.as_str(), "state": state, "changed": changed })
    );
}

/// Destroys all keys of a scope and of those below it.
///
/// # Errors
/// If the name is not typed again, the keystore cannot be used, or the token is not good for it.
pub async fn erase(
    config: &Path,
    scope: &str,
    confirm: Option<&str>,
    step_up: &ask::StepUp,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let scope = parse_scope(scope)?;
    confirmed(
        scope.as_str(),
        confirm,
        "All keys of the scope and of all scopes below it are destroyed: what they sealed can never be read again.",
    )?;
    let (settings, keystore) = app::keystore(config).await?;
    let token = step_up
        .token(keystore.log(), Operation::ScopeErase, &scope)
        .await?;
    let lost = destruction::read_by_none_without(&settings, &keystore, &scope).await;
    let erased = keystore
        .erase(&scope, &lost, &token)
        .await
        .map_err(|error| found(&error))?;
    if as_json {
        println!(
            "{:#}",
            json!({ "keys_destroyed": erased.keys, "scopes": erased.scopes, "lost": lost })
        );
    } else {
        println!(
            "{} of {} are destroyed; they stay sealed until they are unsealed, and then begin anew",
            table::counted(erased.keys as u64, "key"),
            table::counted(erased.scopes.len() as u64, "scope")
        );
        for scope in erased.scopes {
            println!("  {scope}");
        }
        match (lost["values"].as_u64(), lost["columns"].as_u64()) {
            (Some(values), Some(columns)) => println!(
                "{} in {} cannot be read any more: delete the rows, or overwrite them",
                table::counted(values, "value"),
                table::counted(columns, "column")
            ),
            _ => println!(
                "what cannot be read any more was not counted: {}",
                lost["not_counted"].as_str().unwrap_or_default()
            ),
        }
    }
    sign_and_send(config, &keystore).await;
    Ok(ExitCode::SUCCESS)
}
