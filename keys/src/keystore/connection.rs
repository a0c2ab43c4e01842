//! One connection to the keystore that comes back: prepared statements per connection, back-off between attempts.
//! What is asked over it is the tables' business.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use tokio_postgres::{Error, Row, types::ToSql};
use tracing::{
    Instrument, Span,
    field::{Empty, display},
};

use super::{KeystoreError, Target};
use crate::{
    clock::Clock,
    database::{self, Database},
    schema,
};

/// The first pause after a failed attempt; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Keys must be on disk before values sealed with them can be: a role's or database's laxer setting is overruled,
/// a stricter one (`remote_apply`) is kept. Rows are looked up by index: plans are kept as long as the connection, and one that
/// was made while a table was small would go on reading the whole of it until it is analysed.
const SET_UP: &str = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false), \
    CASE WHEN pg_catalog.current_setting('synchronous_commit') IN ('off', 'local') \
    THEN pg_catalog.set_config('synchronous_commit', 'on', false) END, \
    pg_catalog.set_config('enable_seqscan', 'off', false), pg_catalog.set_config('jit', 'off', false)";

/// How long a statement may take before its connection counts as lost.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes and keeps the connection.
pub(crate) struct Connection {
    target: Target,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    failed: Option<Failure>,
}

/// The last attempt failed, and until when nobody tries again.
struct Failure {
    until: Instant,
    pause: Duration,
    error: KeystoreError,
}

impl Connection {
    pub(super) fn new(target: Target, clock: Arc<dyn Clock>) -> Self {
        Self {
            target,
            clock,
            state: Mutex::default(),
        }
    }

    /// The connection, made if there is none. Soon after a failure, that failure again.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, KeystoreError> {
        // Held while connecting: whoever else needs the connection waits for the same attempt.
        let mut state = self.state.lock().await;
        if let Some(session) = state
            .session
            .as_ref()
            .filter(|session| !session.database.is_closed())
        {
            return Ok(Arc::clone(session));
        }
        state.session = None;
        if let Some(failure) = state
            .failed
            .as_ref()
            .filter(|failure| self.clock.now() < failure.until)
        {
            return Err(failure.error.clone());
        }
        match Session::open(&self.target).await {
            Ok(session) => {
                let session = Arc::new(session);
                *state = State {
                    session: Some(Arc::clone(&session)),
                    failed: None,
                };
                Ok(session)
            }
            Err(error) => {
                let pause = state
                    .failed
                    .as_ref()
                    .map_or(FIRST_PAUSE, |last| (last.pause * 2).min(LAST_PAUSE));
                state.failed = Some(Failure {
                    until: self.clock.now() + pause,
                    pause,
                    error: error.clone(),
                });
                Err(error)
            }
        }
    }

    /// Runs one statement, once more if the connection was lost. It must bear being run twice.
    pub(crate) async fn query(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, KeystoreError> {
        // Beneath another only: what is looked at every few seconds is no news.
        let span = if Span::current().is_none() {
            Span::none()
        } else {
            tracing::info_span!(
                "keystore.query",
                otel.kind = "client",
                db.system.name = "postgresql",
                db.query.text = sql,
                error = Empty,
            )
        };
        let answer = self.query_twice(sql, params).instrument(span.clone()).await;
        if let Err(error) = &answer {
            span.record("error", display(error));
        }
        answer
    }

    async fn query_twice(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, KeystoreError> {
        match self.query_once(sql, params).await {
            Err(KeystoreError::Unavailable { .. }) => self.query_once(sql, params).await,
            answer => answer,
        }
    }

    async fn query_once(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, KeystoreError> {
        let session = self.session().await?;
        let answer = match tokio::time::timeout(OPERATION_TIMEOUT, session.query(sql, params)).await
        {
            Ok(answer) => answer.map_err(|error| KeystoreError::from_statement(&error)),
            Err(_) => Err(KeystoreError::Unavailable {
                reason: "no answer in time".to_owned(),
            }),
        };
        if matches!(answer, Err(KeystoreError::Unavailable { .. })) {
            self.lost(&session).await;
        }
        answer
    }

    /// Gives up on a connection that failed, unless it was replaced already.
    pub(crate) async fn lost(&self, session: &Arc<Session>) {
        let mut state = self.state.lock().await;
        if state
            .session
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, session))
        {
            state.session = None;
        }
    }
}

/// One connection's life.
pub(crate) struct Session {
    database: Database,
}

impl Session {
    async fn open(target: &Target) -> Result<Self, KeystoreError> {
        let url = target.read_url()?;
        let database = database::connect(&url, target.tls, target.ca_file.as_deref())
            .await
            .map_err(|error| KeystoreError::from_connect(&error))?;
        database.query_one(SET_UP, &[]).await?;
        schema::check(&*database).await?;
        Ok(Self { database })
    }

    /// Runs a statement, prepared once per connection.
    pub(crate) async fn query(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        self.database.ask(sql, params).await
    }

    pub(crate) fn client(&self) -> &tokio_postgres::Client {
        &self.database
    }

    /// Runs statements without parameters: transaction control.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), Error> {
        self.database.batch_execute(sql).await
    }
}
