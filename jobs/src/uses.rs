//! Which data keys the rows of the database name, counted on the headers of sealed values: nothing is decrypted. It destroys
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use pgveil_config::Settings;
use serde_json::{Value, json};
use tokio_postgres::{Client, Row};

use crate::{
    JobError,
    connect::connect,
    held::{self, Held},
};

/// What was counted, in one snapshot of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Columns that hold, or may hold, sealed values.
    pub columns: usize,
    /// Values by data key and column.
    pub values: BTreeMap<u64, BTreeMap<String, u64>>,
}

/// Rows that a row-level policy hides would not be counted: then it is an error instead.
pub(crate) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL row_security = off; \
    SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL statement_timeout = 0";

impl Uses {
    /// How many values name a key.
    pub fn of(&self, key: u64) -> u64 {
        self.values
            .get(&key)
            .map_or(0, |columns| columns.values().sum())
    }

    /// How many values name one of these keys, and in how many columns.
    pub fn of_all(&self, keys: &BTreeSet<u64>) -> (u64, usize) {
        let named = { self.values.iter() }.filter(|(key, _)| keys.contains(key));
        let (mut values, mut columns) = (0_u64, BTreeSet::new());
        for (column, count) in named.flat_map(|(_, columns)| columns) {
            values += count;
            columns.insert(column);
        }
        (values, columns.len())
    }

    /// For the audit log: what was looked at, and what was found of a key.
    pub fn proof(&self, key: u64) -> Value {
        json!({ "columns": self.columns, "values": self.of(key), "in": self.values.get(&key) })
    }
}

/// Counts in the keystore's database, as the keystore's role.
///
/// # Errors
/// If a table cannot be read: what was not counted proves nothing.
pub async fn count(settings: &Settings) -> Result<Uses, JobError> {
    let client = connect(settings).await?;
    let counting = JobError::while_doing("count the values of data keys");
    client.batch_execute(BEGIN).await.map_err(counting)?;
    let uses = count_in_transaction(&client).await;
    client.close().await;
    uses
}

async fn count_in_transaction(client: &Client) -> Result<Uses, JobError> {
    let counting = || JobError::while_doing("count the values of data keys");
    let mut uses = Uses::default();
    for held in held::columns(client).await.map_err(counting())? {
        let Held {
            table,
            column: column_name,
            is_array,
            ..
        } = held;
        let values = if is_array {
            format!(
                "(SELECT unnest({column_name})::pg_catalog.bytea AS v FROM ONLY {table}) AS held"
            )
        } else {
            format!("(SELECT {column_name}::pg_catalog.bytea AS v FROM ONLY {table}) AS held")
        };
        let sql = format!(
            "SELECT substr(v, 9, 8), count(*) FROM {values} \
             WHERE octet_length(v) >= 45 AND substr(v, 1, 4) = '\\x50475601' GROUP BY 1"
        );
        uses.columns += 1;
        for row in client.query(&sql, &[]).await.map_err(counting())? {
            let (key, count) = counted(&row);
            let columns = uses.values.entry(key).or_default();
            *columns.entry(format!("{table}.{column_name}")).or_default() += count;
        }
    }
    Ok(uses)
}

fn counted(row: &Row) -> (u64, u64) {
    let key: &[u8] = row.get(0);
    let mut id = [0; 8];
    // substr of a value of 45 bytes and more is 8 bytes.
    id.copy_from_slice(&key[..8]);
    let count: i64 = row.get(1);
    (u64::from_be_bytes(id), count.unsigned_abs())
}
