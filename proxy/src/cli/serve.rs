//! `pgveil serve`: build, listen, run, drain.

use std::{io::Write, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use pgveil_admin::Watched;
use pgveil_config::Settings;
use pgveil_keys::audit::{Event, Operation};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    app::{self, Built},
    engine::Engine,
    listener::Listener,
    reload::{Reload, digests, tell_refused},
    server::Server,
};

/// How long sessions that are in the middle of something may go on after SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(config: &Path) -> anyhow::Result<ExitCode> {
    forbid_core_dumps();
    let (built, told) = app::build_logged(config).await?;
    let log = Arc::clone(built.keystore.log());
    let engine = match built.engine().await {
        Ok(engine) => engine,
        Err(error) => {
            tell_refused(&log, &built.settings, DRAIN).await;
            return Err(error);
        }
    };
    let listeners =
        Listener::bind_all(&built.settings.listen)
            .await
            .map_err(|(place, error)| {
                anyhow::Error::new(error).context(format!("cannot listen on {place}"))
            })?;
    let places = listeners
        .iter()
        .map(Listener::name)
        .collect::<Result<Vec<_>, _>>()
        .context("the listening address cannot be read")?;
    let server = Arc::new(Server::new(Arc::clone(&engine))?);
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    let hangups = signal(SignalKind::hangup()).context("SIGHUP cannot be watched")?;

    for place in &places {
        println!("pgveil: listening on {place}");
    }
    let admin = admin_listener(&built.settings).await?;
    std::io::stdout().flush().context("standard output")?;
    tracing::info!(?places, upstream = %built.settings.upstream.address, "listening");

    let event = Event::new(Operation::ConfigLoad).detail(digests(&built.settings)?);
    // Noted, not waited for: a key provider that is away keeps nobody from plain tables.
    log.note(event).await?;
    let mut background = built.start_background(&engine);
    let reload = Reload::new(&built, &engine, told.set_level)?;
    background.push(tokio::spawn(administer(
        admin,
        watched(&built, &server, &engine),
    )));
    tokio::select! {
        () = Arc::clone(&server).accept(listeners) => {}
        () = reload.follow(hangups) => {}
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
    }
    server.drain(DRAIN).await;
    for task in background {
        task.abort();
    }
    if tokio::time::timeout(DRAIN, log.flush()).await.is_err() {
        tracing::error!("events were left that the audit log does not have");
    }
    if let Some(sending) = told.sending {
        sending.end().await;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where health and metrics are asked for, if anywhere.
async fn admin_listener(settings: &Settings) -> anyhow::Result<Option<TcpListener>> {
    let Some(place) = &settings.admin.listen else {
        return Ok(None);
    };
    let listener = TcpListener::bind(place)
        .await
        .with_context(|| format!("[admin] cannot listen on {place}"))?;
    let address = listener.local_addr().context("[admin] listen")?;
    println!("pgveil: health and metrics on http://{address}");
    tracing::info!(%address, "health and metrics over HTTP");
    Ok(Some(listener))
}

fn watched(built: &Built, server: &Arc<Server>, engine: &Arc<Engine>) -> Watched {
    let counted = Arc::clone(server);
    let engine = Arc::clone(engine);
    Watched {
        keys: Arc::clone(&built.keys),
        keystore: Arc::clone(&built.keystore),
        health: Arc::clone(&built.health),
        connections: Arc::new(move || counted.connections()),
        judged: Arc::new(move || engine.rules().judged),
        draining: server.draining(),
    }
}

async fn administer(listener: Option<TcpListener>, watched: Watched) {
    let Some(listener) = listener else { return };
    if let Err(error) = pgveil_admin::serve(listener, watched).await {
        tracing::error!(%error, "health and metrics are no longer told");
    }
}

/// A core dump would hold keys and plaintext.
pub(super) fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        eprintln!("pgveil: core dumps could not be switched off: {error}");
    }
}
