//! After the conversion: clears what the server itself still keeps of the plaintext, and says what it cannot clear.

use tokio_postgres::Client;

use super::ApplyReport;
use crate::JobError;

/// Statistics hold samples of values. Those of the columns went with ALTER TABLE, but their bytes stay in pg_statistic's
/// pages until it is rewritten. The owner of the database may do that.
const CLEAR_STATISTICS: &str = "VACUUM (FULL) pg_catalog.pg_statistic";

/// Sentences for the report; none if no plaintext was converted.
pub(crate) async fn after(client: &Client, report: &ApplyReport) -> Result<Vec<String>, JobError> {
    let converted = |name: &str| {
        report
            .tables
            .iter()
            .any(|done| done.table == name && done.rows > 0)
    };
    let tables: Vec<_> = report
        .plan
        .tables
        .iter()
        .filter(|t| !t.columns.is_empty() && converted(&t.shown()))
        .collect();
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    for table in tables {
        let analyze = format!("ANALYZE {}", table.quoted());
        client
            .batch_execute(&analyze)
            .await
            .map_err(JobError::while_doing(format!("analyze {}", table.shown())))?;
    }
    Ok(elsewhere(client).await)
}

/// Where nothing that pgveil can do reaches.
pub(crate) const ELSEWHERE: [&str; 5] = [
    "write-ahead log written until now, in pg_wal (also in recycled segments) and in WAL archives: CHECKPOINT; and let the archive's older segments expire",
    "base backups, dumps, snapshots and replicas' WAL from before: replace them by new ones",
    "logical subscribers and other copies of the table, which were not changed",
    "the server's log and pg_stat_statements, if they hold statements with values: rotate the log, SELECT pg_stat_statements_reset();",
    "disk blocks that the file system has freed and not overwritten",
];

/// What is outside of the tables themselves.
pub(crate) async fn elsewhere(client: &Client) -> Vec<String> {
    let mut remains: Vec<String> = ELSEWHERE.map(str::to_owned).to_vec();
    if !clear_statistics(client).await {
        let cure = format!(
            "old pages of pg_statistic: as the database's owner or a superuser, run {CLEAR_STATISTICS};"
        );
        remains.insert(0, cure);
    }
    remains
}

/// Whether it was done. Without the right to, the server only warns, so the file is looked at.
async fn clear_statistics(client: &Client) -> bool {
    let before = statistics_file(client).await;
    let done = client
        .batch_execute("SET lock_timeout = '10s'")
        .await
        .is_ok()
        && client.batch_execute(CLEAR_STATISTICS).await.is_ok();
    done && before.is_some() && before != statistics_file(client).await
}

async fn statistics_file(client: &Client) -> Option<u32> {
    let sql = "SELECT pg_relation_filenode('pg_catalog.pg_statistic')";
    client.query_one(sql, &[]).await.ok()?.try_get(0).ok()?
}
