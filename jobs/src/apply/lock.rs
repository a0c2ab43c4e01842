//! Locks: one `apply` at a time, and one table at a time. Waits only as long as it says.

use tokio_postgres::{Client, error::SqlState};

use crate::{JobError, plan::TablePlan};

/// Key of the session-level advisory lock that an `apply` holds ("pgvapply" in ASCII).
const APPLY_LOCK: i64 = 0x7067_7661_7070_6C79;
/// Longer than this, everything that queues behind the waiting lock would hurt more than trying again later.
pub(crate) const LOCK_TIMEOUT: &str = "10s";

/// How long an `apply` that is ending is waited for.
const PREDECESSOR_TIMEOUT: &str = "3s";

/// Held until the connection ends.
pub(crate) async fn against_other_applies(client: &Client) -> Result<(), JobError> {
    let doing = || JobError::while_doing("see whether another apply runs");
    // A server process may outlive the `apply` that has just ended by a moment.
    let wait = format!("SET lock_timeout = '{PREDECESSOR_TIMEOUT}'");
    client.batch_execute(&wait).await.map_err(doing())?;
    let taken = client
        .execute("SELECT pg_advisory_lock($1)", &[&APPLY_LOCK])
        .await;
    client
        .batch_execute("RESET lock_timeout")
        .await
        .map_err(doing())?;
    match taken {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            Err(JobError::AnotherApply)
        }
        Err(error) => Err(doing()(error)),
    }
}

/// Takes the table for this transaction, or says who has it.
pub(crate) async fn table(client: &Client, table: &TablePlan) -> Result<(), JobError> {
    let sql = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", table.quoted());
    match client.batch_execute(&sql).await {
        Ok(()) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            Err(JobError::TableBusy {
                table: table.shown(),
                waited: LOCK_TIMEOUT,
                holders: holders(client, table.oid).await,
            })
        }
        Err(source) => Err(JobError::while_doing(format!("lock {}", table.shown()))(
            source,
        )),
    }
}

/// Who holds a lock on the table now, for people. The failed transaction is rolled back first. Best effort: a guess
/// that cannot be made is not worth an error of its own.
pub(crate) async fn holders(client: &Client, table: u32) -> Vec<String> {
    let sql = "SELECT DISTINCT format('pid %s (%s, %s)', l.pid, coalesce(nullif(a.application_name, ''), a.usename), a.state) \
               FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
               WHERE (l.relation = $1 OR l.relation IN (SELECT relid FROM pg_partition_tree($1::oid::regclass))) AND l.granted AND l.pid <> pg_backend_pid() ORDER BY 1 LIMIT 5";
    if client.batch_execute("ROLLBACK").await.is_err() {
        return Vec::new();
    }
    let rows = client.query(sql, &[&table]).await.unwrap_or_default();
    rows.iter()
        .filter_map(|row| row.try_get::<_, Option<String>>(0).ok().flatten())
        .collect()
}
