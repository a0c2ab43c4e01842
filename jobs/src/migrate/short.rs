//! A table's exclusive lock for a moment. Whoever waits for it makes all others wait behind it, so it waits briefly, lets
//! them pass, and tries again.

use std::time::{Duration, Instant};

use pgveil_providers::jitter;
use tokio_postgres::{Client, error::SqlState};

use super::Migration;
use crate::{JobError, apply::lock::holders};

/// How long applications may have to wait behind the waiting lock.
const LOCK_TIMEOUT: &str = "400ms";
/// Between two tries, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// After this it is given up; run again, the migration goes on.
const PATIENCE: Duration = Duration::from_mins(10);

/// Begins a transaction that holds the lock.
pub(super) async fn lock(client: &Client, migration: &Migration) -> Result<(), JobError> {
    lock_table(
        client,
        (&migration.quoted(), &migration.shown()),
        migration.oid,
    )
    .await
}

/// The same, with its partitions if it has any, for a table of which there is no migration yet: `names` are for the server and for people.
pub(super) async fn lock_table(
    client: &Client,
    names: (&str, &str),
    oid: u32,
) -> Result<(), JobError> {
    let (begun, mut pause) = (Instant::now(), PAUSES.0);
    let statement = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL row_security = off; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; \
         SET LOCAL statement_timeout = '{LOCK_TIMEOUT}'; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE; SET LOCAL statement_timeout = 0",
        names.0
    );
    loop {
        let error = match client.batch_execute(&statement).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let holders = holders(client, oid).await;
        let given_up = [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED];
        if !{ given_up.iter() }.any(|code| error.code() == Some(code)) {
            return Err(JobError::while_doing(format!("lock {}", names.1))(error));
        }
        if begun.elapsed() > PATIENCE {
            return Err(JobError::TableBusy {
                table: names.1.to_owned(),
                waited: "10 minutes of short tries",
                holders,
            });
        }
        tokio::time::sleep(pause / 2 + jitter(pause / 2)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Ends the transaction as `result` says.
pub(super) async fn end<T>(
    client: &Client,
    what: &str,
    result: Result<T, JobError>,
) -> Result<T, JobError> {
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await;
    let done = result?;
    ended.map_err(JobError::while_doing(format!("commit {what}")))?;
    Ok(done)
}
