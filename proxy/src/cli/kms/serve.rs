//! `pgveil kms serve`: the local KMS as an XKS proxy; and the access keys that requests to it are signed with.

use std::{
    io::Write,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use pgveil_config::{
    Settings,
    settings::{KmsServer, Provider},
};
use pgveil_keys::audit;
use pgveil_providers::xks::{CredentialsFile, Served, Server};
use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::Found;
use crate::{
    app,
    cli::serve::forbid_core_dumps,
    key_rotation,
    tls::{self, certificate},
};

fn section(settings: &Settings) -> Result<&KmsServer, Found> {
    settings.kms_server.as_ref().ok_or_else(|| {
        Found(format!(
            "{} has no [kms_server]: it says where keys are served, and to whom",
            settings.file.display()
        ))
    })
}

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(config: &Path, provider: Option<&str>) -> anyhow::Result<ExitCode> {
    forbid_core_dumps();
    let settings = Settings::load(config)?;
    let _set_level = app::log_to_stderr(&settings);
    let at = section(&settings)?;
    let tls = tls::https(&at.cert_file, &at.key_file, at.client_ca_file.as_deref())
        .context("[kms_server]")?;
    let credentials = at.credentials_file.as_deref().map(CredentialsFile::open);
    let credentials = credentials
        .transpose()
        .map_err(|error| Found(format!("{error}; `pgveil kms credentials` makes one")))?;
    let (_, keystore) = app::keystore(config).await?;
    // Before the first request: a record of a key that somebody put back is refused then.
    if let Err(error) = keystore.log().catch_up().await {
        tracing::error!(%error, "the audit log could not be held against the keystore's rows; see `pgveil audit verify`");
    }
    let log = Arc::clone(keystore.log());
    let reading = tokio::spawn(async move { audit::read(&log).await });
    let named = provider.or(at.provider.as_deref());
    let kms = Arc::new(super::open(&settings, named, keystore).await?);
    let listener = TcpListener::bind(&at.listen)
        .await
        .with_context(|| format!("cannot listen on {}", at.listen))?;
    let place = listener
        .local_addr()
        .context("the listening address cannot be read")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    println!("pgveil: serving keys on {place}");
    std::io::stdout().flush().context("standard output")?;
    tracing::info!(%place, provider = kms.name(), "serving keys");

    let rotating = tokio::spawn(key_rotation::tend(vec![Arc::clone(&kms)]));
    let server = Server {
        kms,
        credentials,
        client_names: at.client_names.clone(),
        path_prefix: at.path_prefix.clone().unwrap_or_default(),
        common_name: certificate::common_name,
        turned_away,
        now,
        served,
    };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
            _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
        }
    };
    let ended = server.run(listener, tls, stop).await;
    rotating.abort();
    reading.abort();
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// A clock before 1970 fails every signature.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn turned_away(peer: SocketAddr, reason: &str) {
    tracing::warn!(%peer, reason, "a client was turned away: its certificate is not one of [kms_server] client_ca_file");
}

fn served(request: &Served) {
    let Served {
        peer,
        caller,
        key,
        operation,
        request_id,
        kms_operation,
        principal,
        refused,
        took,
    } = request;
    let ms = took.as_millis();
    match refused {
        None => tracing::info!(
            peer,
            caller,
            key,
            operation,
            request_id,
            kms_operation,
            principal,
            ms,
            "served"
        ),
        Some(refused) => tracing::warn!(
            peer,
            caller,
            key,
            operation,
            request_id,
            kms_operation,
            principal,
            ms,
            refused,
            "refused"
        ),
    }
}

/// Makes an access key, prints it once and adds it to the file.
pub(super) fn credentials(config: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let at = section(&settings)?;
    let path = at.credentials_file.as_deref().ok_or_else(|| {
        Found("[kms_server] has no credentials_file: it says where access keys are kept".to_owned())
    })?;
    let (id, secret) = CredentialsFile::add(path)?;
    if as_json {
        // As AWS's console takes it.
        let prefix = at.path_prefix.as_deref().unwrap_or_default();
        let shown = json!({
            "XksProxyUriPath": format!("{prefix}/kms/xks/v1"),
            "XksProxyAuthenticationCredential": {
                "AccessKeyId": id,
                "RawSecretAccessKey": *secret,
            },
        });
        println!("{shown:#}");
    } else {
        println!("access key id      {id}");
        println!("secret access key  {}", *secret);
        println!("added to {}; it is not shown again", path.display());
    }
    if !settings.providers.values().any(is_local) {
        eprintln!("pgveil: no provider of this configuration is local: there are no keys to serve");
    }
    Ok(ExitCode::SUCCESS)
}

fn is_local(provider: &Provider) -> bool {
    matches!(provider, Provider::Local { .. })
}
