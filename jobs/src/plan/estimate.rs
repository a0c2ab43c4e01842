//! What a conversion will take: rows, bytes, time and disk, at once and online. Guesses, from what the server keeps of sizes and
//! widths (pg_class, pg_stats) and from rates that were measured; it reads no row.

use std::collections::HashMap;

use pgveil_config::settings::Reencrypt;
use tokio_postgres::Client;

use super::TablePlan;
use crate::JobError;

/// Rows a second with two sealed values, one with a term: read, sealed, written, indexed and verified. The release build did
/// 33,000 at once and 20,000 online at full speed, on two processors that were shared with other work.
const AT_ONCE: f64 = 30_000.0;
const ONLINE: f64 = 15_000.0;
/// An envelope without terms, and a term (docs/sealed-value.md).
const ENVELOPE: f64 = 45.0;
const TERM: f64 = 16.0;
/// An index entry on a term, with what a page of a fresh index leaves free.
const INDEX_ENTRY: f64 = 45.0;
/// A row's header and place, where its values are staged.
const STAGED_ROW: f64 = 48.0;
/// A value's width where nobody has analysed the table.
const UNKNOWN_WIDTH: f64 = 32.0;

/// What one table will take.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Bytes of sealed values.
    pub sealed: f64,
    /// Bytes of indexes on terms.
    pub indexes: f64,
    /// At once: seconds under the lock, and disk besides the table while it lasts.
    pub at_once: (f64, f64),
    /// Online at full speed: seconds, and disk besides the table until it is vacuumed.
    pub online: (f64, f64),
    /// Online at the pace of `[reencrypt]`: seconds.
    pub paced: f64,
}

/// Guesses for one table. `None`: nothing is to be sealed, or the server has no idea of its rows.
pub(super) async fn of(
    client: &Client,
    reencrypt: &Reencrypt,
    table: &TablePlan,
) -> Result<Option<Estimate>, JobError> {
    let Some(rows) = table
        .rows
        .filter(|rows| *rows > 0 && !table.columns.is_empty())
    else {
        return Ok(None);
    };
    let doing = || JobError::while_doing(format!("read the statistics of {}", table.shown()));
    let found = client
        .query(
            "SELECT attname::text, avg_width::float8, (1 - null_frac)::float8 FROM pg_catalog.pg_stats \
             WHERE schemaname = $1 AND tablename = $2",
            &[&table.schema, &table.name],
        )
        .await
        .map_err(doing())?;
    let mut widths = HashMap::new();
    for row in &found {
        let name: String = row.try_get(0).map_err(doing())?;
        let width: (f64, f64) = (
            row.try_get(1).map_err(doing())?,
            row.try_get(2).map_err(doing())?,
        );
        widths.insert(name, width);
    }
    let indexes: i64 = client
        .query_one(
            "SELECT (pg_catalog.pg_indexes_size($1::oid) + coalesce((SELECT sum(pg_catalog.pg_indexes_size(relid)) \
             FROM pg_catalog.pg_partition_tree($1::oid::regclass) WHERE isleaf), 0))::int8",
            &[&table.oid],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(doing())?;
    Ok(Some(guess(
        table,
        rows as f64,
        &widths,
        indexes as f64,
        reencrypt,
    )))
}

/// `widths`: by column, the mean width and the share that is not NULL.
fn guess(
    table: &TablePlan,
    rows: f64,
    widths: &HashMap<String, (f64, f64)>,
    indexes_now: f64,
    reencrypt: &Reencrypt,
) -> Estimate {
    let (mut each, mut plain) = (0.0, 0.0);
    for column in &table.columns {
        let known = widths.get(&column.name).copied();
        let (width, given) = known.unwrap_or((UNKNOWN_WIDTH, 1.0));
        let term = if column.equality { TERM } else { 0.0 };
        each += given * (ENVELOPE + term + width);
        plain += given * width;
    }
    let sealed = rows * each;
    let made = { table.indexes.iter() }
        .filter(|step| step.create.is_some())
        .count();
    let indexes = rows * INDEX_ENTRY * made as f64;
    let heap = table.bytes as f64;
    // The new heap beside the old one, what is staged, and all indexes again.
    let new_heap = heap + sealed - rows * plain;
    let at_once = new_heap + sealed + rows * STAGED_ROW + indexes_now + indexes;
    // Every row gets a version that has both; the version before is dead until VACUUM.
    let online = heap + sealed + indexes_now + indexes;
    let rate = rows / ONLINE;
    let batch = reencrypt.batch_size.max(1) as f64;
    Estimate {
        oid: table.oid,
        sealed,
        indexes,
        at_once: (rows / AT_ONCE, at_once),
        online: (rate, online),
        paced: rate + rows / batch * reencrypt.interval.as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::report::tests::customers;

    #[test]
    fn guesses_follow_rows_widths_and_the_pace() {
        let reencrypt = Reencrypt {
            automatic: true,
            concurrency: 2,
            batch_size: 100,
            interval: Duration::from_secs(5),
            max_retries: 5,
            lease: Duration::from_hours(1),
            fires_triggers: false,
            max_lag: Duration::from_secs(10),
            max_latency: Duration::from_secs(2),
        };
        let table = customers();
        let widths = HashMap::from([("email".to_owned(), (20.0, 1.0))]);
        let guessed = guess(&table, 30_000.0, &widths, 1_000.0, &reencrypt);
        // email: 45 + 16 + 20; ssn, of which nothing is known: 45 + 32.
        let sealed = 30_000.0 * (81.0 + 77.0);
        assert!((guessed.sealed - sealed).abs() < 1.0, "{guessed:?}");
        assert!((guessed.indexes - 30_000.0 * 45.0).abs() < 1.0);
        assert!((guessed.at_once.0 - 1.0).abs() < 0.1);
        assert!((guessed.paced - guessed.online.0 - 1_500.0).abs() < 0.1);
        assert!(guessed.online.1 > sealed + table.bytes as f64);
        let emptier = HashMap::from([("email".to_owned(), (20.0, 0.5))]);
        let emptier = guess(&table, 30_000.0, &emptier, 1_000.0, &reencrypt);
        assert!(emptier.sealed < guessed.sealed);
    }
}
