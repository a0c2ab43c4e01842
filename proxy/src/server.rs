//! The listening side: accepts, opens sessions, drains. One task per client.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context;
use pgveil_config::Settings;
use pgveil_keys::audit::{Actor, acting};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::Instant,
};

use crate::{
    cancel,
    engine::Engine,
    frame::{FrameReader, FrameWriter, Sender},
    gate::Gate,
    listener::Listener,
    messages::Report,
    session::{self, Streams},
    startup::{self, Client, Entrance, Opening},
    stream::{Socket, Stream},
    tls,
    upstream::{Established, Upstream, login},
    workers::Workers,
};

/// How long a client may take to say what it wants (Postgres's `authentication_timeout`).
const STARTUP_LIMIT: Duration = Duration::from_mins(1);
/// After an error of the listening socket itself (no more file descriptors), before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Everything that a new connection needs.
pub struct Server {
    engine: Arc<Engine>,
    entrance: Entrance,
    gate: Gate,
    upstream: Upstream,
    workers: Workers,
    /// Connections, sessions or not yet.
    openings: Semaphore,
    slots: Semaphore,
    max_connections: u32,
    draining: watch::Sender<bool>,
}

impl Server {
    /// Reads certificates and prepares both legs.
    ///
    /// # Errors
    /// If a certificate or key file cannot be used.
    pub fn new(engine: Arc<Engine>) -> anyhow::Result<Self> {
        let settings = Arc::clone(&engine.settings);
        let max_connections = u32::try_from(settings.limits.max_connections).unwrap_or(u32::MAX);
        Ok(Self {
            entrance: entrance(&settings)?,
            gate: Gate::new(&settings)?,
            openings: Semaphore::new(max_connections.saturating_mul(2) as usize),
            upstream: Upstream::new(&settings.upstream).context("[upstream]")?,
            workers: Workers::start().context("threads for sessions")?,
            slots: Semaphore::new(max_connections as usize),
            max_connections,
            draining: watch::Sender::new(false),
            engine,
        })
    }

    /// Accepts until it is dropped.
    pub async fn accept(self: Arc<Self>, listeners: Vec<Listener>) {
        let each = listeners
            .iter()
            .map(|listener| Arc::clone(&self).accept_from(listener));
        futures_util::future::join_all(each).await;
    }

    async fn accept_from(self: Arc<Self>, listener: &Listener) {
        loop {
            match listener.accept().await {
                Ok(arrived) => {
                    let server = Arc::clone(&self);
                    // It belongs to no event loop and is to belong to the session's.
                    self.workers.next().spawn(async move {
                        let Ok((socket, from)) = arrived.adopt() else {
                            return;
                        };
                        tracing::debug!(?from, "connected");
                        server.serve(socket, from).await;
                        tracing::debug!(?from, "closed");
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// How many clients are connected, those that log in included.
    pub fn connections(&self) -> usize {
        (self.max_connections as usize).saturating_sub(self.slots.available_permits())
    }

    /// Becomes true when the server ends.
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Ends sessions as they become idle, and waits for all to be gone, but no longer than `limit`.
    pub async fn drain(&self, limit: Duration) {
        self.draining.send_replace(true);
        let all = self.slots.acquire_many(self.max_connections);
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("sessions were still busy when the time to drain was over");
        }
    }

    async fn serve(&self, socket: Socket, peer: Option<IpAddr>) {
        if let Err(error) = socket.tune() {
            tracing::debug!(%error, "socket options");
        }
        // As PostgreSQL, twice as many may be on their way in as may be in; who comes then is not waited for.
        let Ok(opening_slot) = self.openings.try_acquire() else {
            tracing::info!("a connection was closed: too many are open");
            return;
        };
        let opening =
            startup::open(socket, &self.entrance, peer, Instant::now() + STARTUP_LIMIT).await;
        match opening {
            Ok(Opening::Session(client)) => {
                let role = String::from_utf8_lossy(client.startup.user()).into_owned();
                let from = peer.map_or_else(|| "local".to_owned(), |peer| peer.to_string());
                acting(Actor::session(&role, from), self.session(client)).await;
            }
            Ok(Opening::Cancel { request, stream }) => {
                let deadline = Instant::now() + STARTUP_LIMIT;
                if let Err(error) = cancel::relay(stream, &request, &self.upstream, deadline).await
                {
                    tracing::info!(%error, "a cancel request was not forwarded");
                }
            }
            Ok(Opening::Nothing) => {}
            Err(error) => tracing::info!(%error, "a client did not come in"),
        }
        drop(opening_slot);
    }

    async fn session(&self, client: Client) {
        let Some(_slot) = self.slot() else {
            let report = Report::fatal("53300", "sorry, too many clients already")
                .detail(format!(
                    "pgveil takes {} connections at once.",
                    self.max_connections
                ))
                .hint("Raise limits.max_connections in pgveil.toml.");
            client.stream.refuse(&report).await;
            return;
        };
        let replication = client.startup.replication() != startup::Replication::No;
        if replication && !self.engine.settings.relays_replication {
            let report = Report::fatal("0A000", "pgveil does not relay replication connections")
                .detail("replication = \"refuse\" is set in pgveil.toml.")
                .hint("Connect to the server itself.");
            tracing::info!(reason = "replication-refused", "refused");
            client.stream.refuse(&report).await;
            return;
        }
        let database = client.startup.database().to_vec();
        let deadline = Instant::now() + STARTUP_LIMIT;
        let upstream = match self.upstream.connect(deadline).await {
            Ok(upstream) => upstream,
            Err(error) => {
                tracing::warn!(%error, "the server cannot be reached");
                client.stream.refuse(&error.report()).await;
                return;
            }
        };
        let established = match login(client, upstream, &self.gate, deadline).await {
            Ok(established) => established,
            Err(error) => {
                tracing::info!(%error, "login ended");
                return;
            }
        };
        let rules = self.engine.rules();
        let protects = rules.set.names().next().is_some()
            && (database == rules.set.catalog.database.as_bytes() || replication);
        let ended = if protects && replication {
            let drain = self.draining.subscribe();
            session::walsender::run(streams(established), &self.engine, drain).await
        } else if protects {
            session::run(
                streams(established),
                Arc::clone(&self.engine),
                self.draining.subscribe(),
            )
            .await
        } else {
            session::relay(streams(established), self.draining.subscribe()).await
        };
        match ended {
            Ok(end) => tracing::debug!(?end, "session ended"),
            Err(error) => tracing::info!(%error, "session ended"),
        }
    }

    fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.try_acquire().ok()
    }
}

type Halves = (tokio::io::ReadHalf<Stream>, tokio::io::WriteHalf<Stream>);

fn streams(
    established: Established,
) -> Streams<
    tokio::io::ReadHalf<Stream>,
    tokio::io::WriteHalf<Stream>,
    tokio::io::ReadHalf<Stream>,
    tokio::io::WriteHalf<Stream>,
> {
    let (client_read, client_write): Halves = established.client.split();
    let (upstream_read, upstream_write): Halves = established.upstream.split();
    Streams {
        client: FrameReader::new(client_read, Sender::Client, established.client_early),
        to_client: FrameWriter::new(client_write),
        upstream: FrameReader::new(upstream_read, Sender::Server, established.upstream_early),
        to_upstream: FrameWriter::new(upstream_write),
    }
}

fn entrance(settings: &Settings) -> anyhow::Result<Entrance> {
    let Some(client_tls) = &settings.client_tls else {
        return Ok(Entrance::default());
    };
    let acceptor = tls::acceptor(
        &client_tls.cert_file,
        &client_tls.key_file,
        client_tls.client_ca_file.as_deref(),
    )
    .context("[client_tls]")?;
    Ok(Entrance {
        tls: Some(acceptor),
        tls_required: client_tls.required,
    })
}
