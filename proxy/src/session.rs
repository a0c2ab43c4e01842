//! A session: one client connection, one upstream connection, two directions that share a ledger.

pub mod client;
pub mod copy;
pub mod implicit;
pub mod ledger;
pub mod names;
pub mod refuse;
pub mod relayed;
pub mod results;
pub mod scope;
pub mod scoped;
pub mod upstream;
pub mod values;
pub mod view;
pub mod walsender;
pub mod withheld;

use std::{
    io,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use pgveil_policy::Refusal;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::{Notify, watch},
};

use self::{client::ClientSide, ledger::Ledger, upstream::UpstreamSide};
use crate::{
    engine::Engine,
    frame::{FrameError, FrameReader, FrameWriter},
    messages::Report,
};

/// What both directions of a session share.
pub struct Shared {
    /// Rules, keys, plans.
    pub engine: Arc<Engine>,
    ledger: Mutex<Ledger>,
    /// The answer of a probe has come.
    pub probed: Notify,
    /// Something is owed no longer.
    pub drained: Notify,
    /// The transaction must be failed.
    pub fail: Notify,
    refusals: AtomicU64,
}

impl Shared {
    fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            ledger: Mutex::new(Ledger::new()),
            probed: Notify::new(),
            drained: Notify::new(),
            fail: Notify::new(),
            refusals: AtomicU64::new(0),
        }
    }

    /// The ledger. Both directions run in one task, so the lock is never waited for.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Counts and logs a refusal; its message may quote input, so only its code and anchor are logged.
    pub fn count_refusal(&self, refusal: &Refusal) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        tracing::info!(
            sqlstate = refusal.sqlstate,
            reason = refusal.anchor,
            "refused"
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held ended that session; nothing else shares it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a session ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Terminate, or the client closed its connection.
    ClientLeft,
    /// The server closed its connection.
    ServerClosed,
    /// pgveil is shutting down.
    Drained,
}

/// Why a session had to end.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The client broke the protocol or its connection failed.
    #[error("client: {0}")]
    Client(#[source] FrameError),
    /// The server broke the protocol or its connection failed.
    #[error("server: {0}")]
    Server(#[source] FrameError),
    /// Nothing more can be sent to the client.
    #[error("the client's connection failed: {0}")]
    ClientGone(#[source] io::Error),
    /// Nothing more can be sent to the server.
    #[error("the server's connection failed: {0}")]
    Upstream(#[source] io::Error),
    /// The server answered something that it does not owe.
    #[error("the server's answers are out of step with what was asked")]
    OutOfStep,
    /// A transaction that must fail has already gone on.
    #[error("a result could not be shown, and statements after it had already been sent")]
    CannotFail,
    /// A name that does not fit a message.
    #[error("a statement name is too long")]
    NameTooLong,
}

impl SessionError {
    /// The last word to the client, if there is one.
    fn report(&self) -> Option<Report> {
        match self {
            Self::Client(error) | Self::Server(error) => error.report(),
            Self::ClientGone(_) => None,
            Self::Upstream(_) => Some(Report::fatal("08006", "the server closed the connection unexpectedly")),
            Self::OutOfStep | Self::NameTooLong => Some(Report::fatal("08P01", self.to_string())),
            Self::CannotFail => Some(
                Report::fatal("PV003", "the connection is closed because a result could not be shown")
                    .detail("Statements after it had already been sent; whether they took effect is not known.")
                    .hint("Look at the data before you repeat them."),
            ),
        }
    }
}

/// The halves of an established session.
pub struct Streams<CR, CW, UR, UW> {
    /// Reads the client.
    pub client: FrameReader<CR>,
    /// Writes to the client.
    pub to_client: FrameWriter<CW>,
    /// Reads the server.
    pub upstream: FrameReader<UR>,
    /// Writes to the server.
    pub to_upstream: FrameWriter<UW>,
}

/// Runs a session to its end.
///
/// # Errors
/// Why it had to end; the client was told, if it could be.
pub async fn run<CR, CW, UR, UW>(
    streams: Streams<CR, CW, UR, UW>,
    engine: Arc<Engine>,
    drain: watch::Receiver<bool>,
) -> Result<End, SessionError>
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    UR: AsyncRead + Unpin,
    UW: AsyncWrite + Unpin,
{
    let shared = Arc::new(Shared::new(engine));
    let mut client = ClientSide::new(streams.client, streams.to_upstream, Arc::clone(&shared));
    let mut upstream = UpstreamSide::new(streams.upstream, streams.to_client, Arc::clone(&shared));
    let both = async {
        let (mut from_client, mut from_upstream) = (pin!(client.run()), pin!(upstream.run()));
        tokio::select! {
            // What the client asked for before it left is still answered, as Postgres does: it may only have
            // closed its sending half.
            left = &mut from_client => match left {
                Ok(_) => from_upstream.await,
                Err(error) => Err(error),
            },
            ended = &mut from_upstream => ended,
        }
    };
    let ended = tokio::select! {
        ended = both => Some(ended),
        () = drained(drain, &shared) => None,
    };
    let ended = ended.unwrap_or_else(|| {
        Report::fatal(
            "57P01",
            "terminating connection due to administrator command",
        )
        .write(upstream.client().queue());
        Ok(End::Drained)
    });
    if let Err(error) = &ended
        && let Some(report) = error.report()
    {
        report.write(upstream.client().queue());
    }
    // The client may be gone; there is nobody left to tell then.
    let _ = upstream.client().flush_queue().await;
    let _ = upstream.client().shutdown().await;
    ended
}

/// Waits for the order to drain, then until nothing is under way.
async fn drained(mut drain: watch::Receiver<bool>, shared: &Shared) {
    if drain.wait_for(|draining| *draining).await.is_err() {
        // The server is gone without an order: nothing to wait for.
        std::future::pending::<()>().await;
    }
    loop {
        {
            let ledger = shared.ledger();
            if ledger.owed.is_empty() && ledger.status == b'I' {
                return;
            }
        }
        shared.drained.notified().await;
    }
}

/// Relays bytes both ways: for databases without protected tables and for replication.
///
/// # Errors
/// When a socket fails.
pub async fn relay<CR, CW, UR, UW>(
    streams: Streams<CR, CW, UR, UW>,
    mut drain: watch::Receiver<bool>,
) -> Result<End, SessionError>
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    UR: AsyncRead + Unpin,
    UW: AsyncWrite + Unpin,
{
    let (mut from_client, early) = streams.client.into_parts();
    let (mut from_upstream, answered) = streams.upstream.into_parts();
    let mut to_client = streams.to_client.into_inner();
    let mut to_upstream = streams.to_upstream.into_inner();
    let both = async {
        let (mut there, mut back) = (
            pin!(pump(&mut from_client, &mut to_upstream, &early)),
            pin!(pump(&mut from_upstream, &mut to_client, &answered)),
        );
        tokio::select! {
            left = &mut there => match left {
                Ok(()) => back.await.map_err(SessionError::ClientGone).map(|()| End::ClientLeft),
                Err(error) => Err(SessionError::Upstream(error)),
            },
            ended = &mut back => ended.map_err(SessionError::ClientGone).map(|()| End::ServerClosed),
        }
    };
    tokio::select! {
        ended = both => ended,
        _ = drain.wait_for(|draining| *draining) => Ok(End::Drained),
    }
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    first: &[u8],
) -> io::Result<()> {
    to.write_all(first).await?;
    to.flush().await?;
    tokio::io::copy(from, to).await?;
    to.shutdown().await
}
