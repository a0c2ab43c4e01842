//! What pgveil says of itself over HTTP: `/healthz` and `/readyz` for orchestrators, `/metrics` for Prometheus. It changes
//! nothing and shows no value, no scope and no secret.

mod metrics;

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use pgveil_keys::{Keys, Keystore, health::Health};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};

/// How long the keystore may take to answer whether it is there.
const KEYSTORE_LIMIT: Duration = Duration::from_secs(2);

/// What is told about.
#[derive(Clone)]
pub struct Watched {
    /// Keys in memory, and how their providers answer.
    pub keys: Arc<Keys>,
    /// Asked whether it is there.
    pub keystore: Arc<Keystore>,
    /// What the prober found of every KEK in use.
    pub health: Arc<Health>,
    /// How many clients are connected.
    pub connections: Arc<dyn Fn() -> usize + Send + Sync>,
    /// Whether the registry of protected columns was judged: until then everything that is protected is refused.
    pub judged: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Whether the process is ending.
    pub draining: watch::Receiver<bool>,
}

/// Answers until it is dropped.
///
/// # Errors
/// If the listener fails.
pub async fn serve(listener: TcpListener, watched: Watched) -> io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(watched);
    axum::serve(listener, routes).await
}

/// The process runs and answers. Whether it can do its work is [`readyz`]'s business: an orchestrator that restarts it for a
/// provider's outage would make it worse.
async fn healthz() -> &'static str {
    "ok\n"
}

/// 200: send clients. 503: do not. Ready is whoever reaches the keystore, has judged what is protected, has not seen the audit log go
/// back, and is not ending; a KEK that cannot be used stops the scopes under it, not the others, and is told beside.
async fn readyz(State(watched): State<Watched>) -> impl IntoResponse {
    let draining = *watched.draining.borrow();
    let asked = tokio::time::timeout(KEYSTORE_LIMIT, watched.keystore.ping()).await;
    let keystore = matches!(asked, Ok(Ok(())));
    let keks: Vec<_> = { watched.health.all().into_iter() }
        .map(|(kek, status)| {
            json!({
                "provider": kek.provider,
                "key": kek.kek,
                "state": status.state.as_str(),
                "latency_ms": status.latency.map(|latency| latency.as_millis() as u64),
                "error": status.error,
            })
        })
        .collect();
    // A process that was started while the platform's provider is away must not take the place of one that serves.
    let registry = (watched.judged)();
    // One whose keystore was set back refuses what is protected until it is started anew.
    let log = watched.keystore.log().stands().is_ok();
    let ready = keystore && registry && log && !draining;
    let degraded = watched.keys.is_degraded();
    let body = json!({
        "ready": ready,
        "draining": draining,
        "keystore": keystore,
        "registry": registry,
        "log": log,
        "degraded": degraded,
        "keys": keks,
    });
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(body))
}

async fn metrics(State(watched): State<Watched>) -> impl IntoResponse {
    let text = metrics::text(
        &watched.keys.status(),
        &watched.health.all(),
        (watched.connections)(),
        (watched.judged)(),
        watched.keystore.log().stands().is_ok(),
    );
    let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4");
    ([kind], text)
}
