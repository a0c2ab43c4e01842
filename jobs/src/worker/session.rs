//! Connections of jobs: settings under which names, texts and waits are what the statements expect. It runs no job.

use pgveil_config::Settings;
use pgveil_keys::database::Database;

use crate::{JobError, connect::connect};

/// Row security is off, or an error. A job waits for a lock shorter than the server looks for deadlocks: an application is
/// never the one that is given up. Statements are planned once: they find rows by keys and places, whatever the values are.
const SET_UP: &str = "SET search_path = pg_catalog, pg_temp; SET row_security = off; SET DateStyle = 'ISO, YMD'; \
    SET IntervalStyle = 'postgres'; SET extra_float_digits = 1; SET jit = off; SET max_parallel_workers_per_gather = 0; \
    SET plan_cache_mode = force_generic_plan; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = '1min'; \
    SELECT set_config('lock_timeout', least(200, setting::int8 / 2)::text, false) FROM pg_settings WHERE name = 'deadlock_timeout'";
/// Classes of advisory locks: "PGVw" with the number of a process, "PGVj" with the number of a job.
pub(super) const ALIVE: i32 = 0x5047_5677;
pub(super) const LEADS: i32 = 0x5047_566a;
const NUMBER: &str = "SELECT (nextval('pgveil.job_tokens') % 2147483647)::int4";

/// A connection for a job's statements.
pub(super) async fn open(settings: &Settings) -> Result<Database, JobError> {
    let database = connect(settings).await?;
    let set = database.batch_execute(SET_UP).await;
    set.map_err(JobError::while_doing("prepare a connection for jobs"))?;
    Ok(database)
}

/// The connection whose lock says that this process lives, made again if it was lost.
pub(super) async fn home<'a>(
    home: &'a mut Option<(Database, i32)>,
    settings: &Settings,
) -> Result<&'a mut (Database, i32), JobError> {
    let doing = || JobError::while_doing("take a number for this worker");
    if home.as_ref().is_none_or(|(held, _)| held.is_closed()) {
        let database = open(settings).await?;
        let number: i32 = { database.query_one(NUMBER, &[]).await }
            .and_then(|row| row.try_get(0))
            .map_err(doing())?;
        {
            database
                .execute("SELECT pg_advisory_lock($1, $2)", &[&ALIVE, &number])
                .await
        }
        .map_err(doing())?;
        *home = Some((database, number));
    }
    home.as_mut().ok_or(JobError::NoConnection)
}
