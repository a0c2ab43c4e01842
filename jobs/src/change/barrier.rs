//! Waiting until nobody goes by a description that was in force before: no process plans by it any more, and whatever was
//! planned by it has ended.

use std::time::{Duration, Instant};

use pgveil_keys::keystore::registry::LEASE;
use tokio_postgres::Client;

use crate::{JobError, migrate::lasting};

/// A statement that was planned within the lease may wait for a key before it is sent.
const UNDER_WAY: Duration = Duration::from_secs(5);
/// After this time nobody goes by what the registry said before.
pub(crate) const KNOWN_AFTER: Duration = LEASE.saturating_add(UNDER_WAY);
/// Between looks at the transactions that are waited for.
const PAUSE: Duration = Duration::from_millis(200);
/// Looks between two lines about what is waited for.
const LOOKS: u32 = 150;
/// Transactions that an error names.
const MAX_NAMED: usize = 5;

/// Transactions of clients in this database, and prepared ones. (What the server runs by itself has no user.)
const RUNNING: &str = "SELECT array(SELECT DISTINCT l.virtualtransaction FROM pg_catalog.pg_locks l \
        JOIN pg_catalog.pg_stat_activity a USING (pid) WHERE l.locktype = 'virtualxid' \
        AND a.datname = pg_catalog.current_database() AND a.usesysid IS NOT NULL AND l.pid <> pg_catalog.pg_backend_pid()), \
    array(SELECT transaction::text FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database())";
/// Those of them that have not ended, for people. A role that may not see what others do knows no more than the number.
const LEFT: &str = "SELECT format('pid %s (%s, %s)%s%s', l.pid, coalesce(nullif(a.application_name, ''), a.usename, 'unknown'), \
        coalesce(a.state, 'its state is not shown to this role'), \
        ', its transaction began ' || date_trunc('second', a.xact_start) || ', ' || date_trunc('second', clock_timestamp() - a.xact_start) || ' ago', \
        ', its last statement ' || date_trunc('second', a.query_start)) \
    FROM (SELECT DISTINCT pid FROM pg_catalog.pg_locks WHERE locktype = 'virtualxid' AND virtualtransaction = ANY ($1)) l \
    LEFT JOIN pg_catalog.pg_stat_activity a USING (pid) \
    UNION ALL SELECT format('prepared transaction %L of %s, prepared %s', gid, owner, date_trunc('second', prepared)) \
    FROM pg_catalog.pg_prepared_xacts WHERE transaction::text = ANY ($2)";

/// Every process follows what the registry says now, and every transaction has ended that one of them may have begun before.
pub(crate) async fn wait(client: &Client, patience: Duration) -> Result<(), JobError> {
    tokio::time::sleep(KNOWN_AFTER).await;
    transactions(client, patience).await
}

/// Every transaction of this moment has ended, also one that has written nothing yet: it may hold values that it writes later.
///
/// # Errors
/// If one is still open after `patience`: somebody has to see to it.
pub(crate) async fn transactions(client: &Client, patience: Duration) -> Result<(), JobError> {
    let doing = || JobError::while_doing("wait for transactions that run");
    let row = client.query_one(RUNNING, &[]).await.map_err(doing())?;
    let running: Vec<String> = row.try_get(0).map_err(doing())?;
    let prepared: Vec<String> = row.try_get(1).map_err(doing())?;
    let (begun, mut looks) = (Instant::now(), 0);
    loop {
        let rows = client.query(LEFT, &[&running, &prepared]).await;
        let rows = rows.map_err(doing())?;
        let left = rows.iter().map(|row| row.try_get(0));
        let left: Vec<String> = left.collect::<Result<_, _>>().map_err(doing())?;
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() >= patience {
            return Err(JobError::TransactionsRun {
                waited: lasting(patience.as_secs_f64()),
                open: named(left),
            });
        }
        looks += 1;
        if looks % LOOKS == 0 {
            let open = named(left).join("; ");
            tracing::info!(
                open,
                "waiting for transactions that began before the change"
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn named(mut left: Vec<String>) -> Vec<String> {
    let more = left.len().saturating_sub(MAX_NAMED);
    left.truncate(MAX_NAMED);
    left.extend((more > 0).then(|| format!("and {more} more")));
    left
}
