//! Each process that seals says in the server, by an advisory lock that dies with its connection, up to which record of the audit
//! log it has followed ([`crate::flight`]). Who destroys a key waits for those that have not followed its end: also for one that is
//! stopped, whose clock tells it nothing (docs/decisions/0148).
//!
//! It does not say who may destroy what. Anybody who may connect may take such a lock: then keys live longer.

use tokio::sync::watch;

use super::{Keystore, KeystoreError, bigint_of};
use crate::database::{self, Database};

/// The upper 16 bits of these locks' numbers: "PG". The other 48 are the record.
const CLASS: i64 = 0x5047;
const RECORD_BITS: u32 = 48;
const HEAD: &str = "SELECT coalesce(max(seq), 0) FROM pgveil.audit_head";
const TAKE: &str = "SELECT pg_catalog.pg_advisory_lock_shared($1)";
const MOVE: &str =
    "SELECT pg_catalog.pg_advisory_lock_shared($1), pg_catalog.pg_advisory_unlock_shared($2)";

/// SQL: whether a row `l` of `pg_locks` is of somebody who has not followed up to the record that this expression says.
macro_rules! behind {
    ($record:literal) => {
        concat!(
            "l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted \
             AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
             AND l.classid::int8 >> 16 = 20551 AND ((l.classid::int8 & 65535) << 32 | l.objid::int8) < ",
            $record
        )
    };
}
pub(super) use behind;

fn lock_of(record: u64) -> Result<i64, KeystoreError> {
    let record = bigint_of(record)?;
    Ok(CLASS << RECORD_BITS | record.min((1 << RECORD_BITS) - 1))
}

/// What is said on one connection.
pub(super) struct Presence {
    said: i64,
    floors: watch::Receiver<Option<u64>>,
}

impl Presence {
    /// Once this process knows how far it has followed.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) async fn begin(
        database: &Database,
        mut floors: watch::Receiver<Option<u64>>,
    ) -> Result<Self, KeystoreError> {
        let known = floors.wait_for(Option::is_some).await;
        let record = known.ok().and_then(|floor| *floor).unwrap_or_default();
        let said = lock_of(record)?;
        database.query(TAKE, &[&said]).await?;
        Ok(Self { said, floors })
    }

    /// Waits until there is something new to say.
    pub(super) async fn changed(&mut self) {
        if self.floors.changed().await.is_err() {
            // Nobody looks any more: this ends with it.
            std::future::pending::<()>().await;
        }
    }

    /// Says it.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) async fn say(&mut self, database: &Database) -> Result<(), KeystoreError> {
        let record = self.floors.borrow_and_update().unwrap_or_default();
        let next = lock_of(record)?;
        if next != self.said {
            database.query(MOVE, &[&next, &self.said]).await?;
            self.said = next;
        }
        Ok(())
    }
}

impl Keystore {
    /// For a process that seals for a while and ends: no key that is retired from now on is destroyed before it has ended. To be called before
    /// the first key is asked for; who goes on for long follows instead ([`Keystore::watch`]).
    ///
    /// # Errors
    /// The keystore cannot be reached.
    pub async fn stay(&self) -> Result<(), KeystoreError> {
        let staying = self.stays.get_or_try_init(|| async {
            let target = &self.target;
            let url = target.read_url()?;
            let database = database::connect(&url, target.tls, target.ca_file.as_deref())
                .await
                .map_err(|error| KeystoreError::from_connect(&error))?;
            let head = self.head().await?;
            database.query(TAKE, &[&lock_of(head)?]).await?;
            Ok(database)
        });
        staying.await.map(drop)
    }

    /// The last record of the audit log: what it says of keys is in the tables.
    pub(super) async fn head(&self) -> Result<u64, KeystoreError> {
        let rows = self.query(HEAD, &[]).await?;
        let head: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        Ok(head.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_looks_for_the_numbers_that_are_taken() {
        let lock = lock_of(0x1_2345_6789).unwrap();
        let (classid, objid) = (lock >> 32, lock & 0xffff_ffff);
        assert_eq!(classid >> 16, 20551);
        assert_eq!((classid & 65535) << 32 | objid, 0x1_2345_6789);
        assert!(lock_of(0).unwrap() > 0);
    }
}
