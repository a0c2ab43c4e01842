//! Waiting until nobody goes by a description that was in force before: no process plans by it any more, and whatever was
//! planned by it has ended.

use std::time::Duration;

use pgveil_keys::keystore::registry::LEASE;
use tokio_postgres::Client;

use crate::JobError;

/// A statement that was planned within the lease may wait for a key before it is sent.
const UNDER_WAY: Duration = Duration::from_secs(5);
/// After this time nobody goes by what the registry said before.
pub(crate) const KNOWN_AFTER: Duration = LEASE.saturating_add(UNDER_WAY);
/// Between looks at the transactions that are waited for.
const PAUSE: Duration = Duration::from_millis(200);
/// Looks between two lines about what is waited for.
const LOOKS: u32 = 150;

/// Transactions of clients in this database, and prepared ones. (What the server runs by itself has no user.)
const RUNNING: &str = "SELECT array(SELECT DISTINCT l.virtualtransaction FROM pg_catalog.pg_locks l \
        JOIN pg_catalog.pg_stat_activity a USING (pid) WHERE l.locktype = 'virtualxid' \
        AND a.datname = pg_catalog.current_database() AND a.usesysid IS NOT NULL AND l.pid <> pg_catalog.pg_backend_pid()), \
    array(SELECT transaction::text FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database())";
const LEFT: &str = "SELECT (SELECT count(DISTINCT virtualtransaction) FROM pg_catalog.pg_locks \
        WHERE locktype = 'virtualxid' AND virtualtransaction = ANY ($1)) \
    + (SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE transaction::text = ANY ($2)), \
    (SELECT min(pid) FROM pg_catalog.pg_locks WHERE locktype = 'virtualxid' AND virtualtransaction = ANY ($1))";

/// Every process follows what the registry says now, and every transaction has ended that one of them may have begun before.
pub(crate) async fn wait(client: &Client) -> Result<(), JobError> {
    tokio::time::sleep(KNOWN_AFTER).await;
    transactions(client).await
}

/// Every transaction of this moment has ended, also one that has written nothing yet: it may hold values that it writes later.
pub(crate) async fn transactions(client: &Client) -> Result<(), JobError> {
    let doing = || JobError::while_doing("wait for transactions that run");
    let row = client.query_one(RUNNING, &[]).await.map_err(doing())?;
    let running: Vec<String> = row.try_get(0).map_err(doing())?;
    let prepared: Vec<String> = row.try_get(1).map_err(doing())?;
    let mut looks = 0;
    loop {
        let row = client.query_one(LEFT, &[&running, &prepared]).await;
        let row = row.map_err(doing())?;
        let left: i64 = row.try_get(0).map_err(doing())?;
        if left == 0 {
            return Ok(());
        }
        looks += 1;
        if looks % LOOKS == 0 {
            let pid: Option<i32> = row.try_get(1).map_err(doing())?;
            tracing::info!(
                left,
                pid,
                "waiting for transactions that began before the change"
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}
