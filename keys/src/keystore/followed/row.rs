//! Rows of `pgveil.keks`, each under a MAC: read, judged and written whole. Who brings keys to a version now, and when a KEK was
//! seen last, is not under it: both change all the time, and neither says what is done.

use tokio_postgres::Row;

use super::{TABLE, damaged};
use crate::{
    audit::{Change, secrets::Secrets},
    canonical::Canonical,
    keystore::{
        KeystoreError, bigint_of,
        rows::{at, kek_name, name_of_kek, us},
        written::Written,
    },
    scopes::KekRef,
};

const LABEL: &[u8] = b"keks";

/// For [`FollowedRow::of`]; the table is called `k`.
macro_rules! row_columns {
    () => {
        concat!(
            "k.provider, k.kek_id, k.version, k.next_version, ",
            us!("k.first_seen"),
            ", ",
            us!("k.rotated_at"),
            ", ",
            us!("k.asked_at"),
            ", k.began_seq, k.began_key, k.audit_seq, k.mac, (SELECT max(c.audit_seq) FROM pgveil.row_changes c \
             WHERE c.table_name = 'keks' AND c.row_name = ",
            kek_name!("k.provider", "k.kek_id"),
            ")"
        )
    };
}
pub(super) use row_columns;

/// How many columns [`row_columns`] are.
pub(super) const ROW_COLUMNS: usize = 12;

const LOCK: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM pgveil.keks k WHERE k.provider = $1 AND k.kek_id = $2 FOR UPDATE OF k"
);
/// A KEK whose row somebody took away.
const WAS_WRITTEN: &str = concat!(
    "SELECT FROM pgveil.row_changes WHERE table_name = 'keks' AND row_name = ",
    kek_name!("$1::text", "$2::text"),
    " LIMIT 1"
);
const PUT: &str = concat!(
    "WITH changes AS (INSERT INTO pgveil.row_changes (table_name, row_name, audit_seq) VALUES ('keks', ",
    kek_name!("$1::text", "$2::text"),
    ", $10)) INSERT INTO pgveil.keks AS k (provider, kek_id, version, next_version, first_seen, rotated_at, asked_at, \
     began_seq, began_key, audit_seq, mac) VALUES ($1, $2, $3, $4, ",
    at!("$5::int8"),
    ", ",
    at!("$6::int8"),
    ", ",
    at!("$7::int8"),
    ", $8, $9, $10, $11) ON CONFLICT (provider, kek_id) DO UPDATE SET version = EXCLUDED.version, \
     next_version = EXCLUDED.next_version, first_seen = EXCLUDED.first_seen, rotated_at = EXCLUDED.rotated_at, \
     asked_at = EXCLUDED.asked_at, began_seq = EXCLUDED.began_seq, began_key = EXCLUDED.began_key, \
     audit_seq = EXCLUDED.audit_seq, mac = EXCLUDED.mac, \
     lease_until = CASE WHEN EXCLUDED.next_version IS NOT NULL THEN k.lease_until END, \
     leased_by = CASE WHEN EXCLUDED.next_version IS NOT NULL THEN k.leased_by END"
);

/// A row as it is stored. Times are microseconds since 1970, by the keystore's clock.
#[derive(Clone)]
pub(super) struct FollowedRow {
    pub(super) kek: KekRef,
    /// The version that wrapped keys follow; empty, if it is not known which.
    pub(super) version: String,
    /// The version that they are being brought to.
    pub(super) next_version: Option<String>,
    pub(super) first_seen_us: i64,
    pub(super) rotated_us: Option<i64>,
    /// When its provider was asked for a new version.
    pub(super) asked_us: Option<i64>,
    /// With which record of the audit log it was begun to bring keys to the next version ...
    pub(super) began_seq: Option<i64>,
    /// ... and the last id of a key then.
    pub(super) began_key: Option<i64>,
    audit_seq: Option<i64>,
    mac: Option<Vec<u8>>,
    /// The last record that names it.
    last_seq: Option<i64>,
}

impl FollowedRow {
    /// Of a KEK that is seen for the first time.
    pub(super) fn fresh(kek: &KekRef, version: &str, now_us: i64) -> Self {
        Self {
            kek: kek.clone(),
            version: version.to_owned(),
            next_version: None,
            first_seen_us: now_us,
            rotated_us: None,
            asked_us: None,
            began_seq: None,
            began_key: None,
            audit_seq: None,
            mac: None,
            last_seq: None,
        }
    }

    /// Of a row that begins with [`row_columns`]. Nothing is judged.
    pub(super) fn of(row: &Row) -> Result<Self, KeystoreError> {
        Ok(Self {
            kek: super::kek_of(row)?,
            version: row.try_get(2)?,
            next_version: row.try_get(3)?,
            first_seen_us: row.try_get(4)?,
            rotated_us: row.try_get(5)?,
            asked_us: row.try_get(6)?,
            began_seq: row.try_get(7)?,
            began_key: row.try_get(8)?,
            audit_seq: row.try_get(9)?,
            mac: row.try_get(10)?,
            last_seq: row.try_get(11)?,
        })
    }

    /// Whether it is from before rows of this table had MACs: it says no more than that the KEK was seen.
    pub(super) fn is_old(&self) -> bool {
        self.mac.is_none() && self.audit_seq.is_none() && self.last_seq.is_none()
    }

    /// Whether pgveil wrote it, and wrote it last.
    pub(super) fn judge(&self, secrets: &Secrets) -> Result<(), KeystoreError> {
        let written = Written {
            mac: self.mac.as_deref(),
            seq: self.audit_seq,
            last: self.last_seq,
        };
        let judged = written.judge(|seq| self.authentic(seq, secrets));
        judged.map_err(|why| refused(&self.kek, why))
    }

    /// Whether keys are to be brought to a version.
    pub(super) fn is_behind(&self, version: &str) -> bool {
        self.version != version || self.next_version.is_some()
    }

    /// Since when its version is what it is.
    pub(super) fn since_us(&self) -> i64 {
        self.rotated_us.unwrap_or(self.first_seen_us)
    }

    /// The MAC that it must have.
    fn authentic(&self, seq: i64, secrets: &Secrets) -> [u8; 32] {
        let mut bytes = Canonical::default();
        bytes.number(seq);
        bytes.text(&self.kek.provider).text(&self.kek.kek);
        bytes.text(&self.version);
        bytes.maybe_text(self.next_version.as_deref());
        bytes.number(self.first_seen_us);
        bytes.maybe(self.rotated_us).maybe(self.asked_us);
        bytes.maybe(self.began_seq).maybe(self.began_key);
        secrets.mac_row(LABEL, bytes.as_ref())
    }
}

/// As `pgveil.row_changes` and records name its row.
pub(super) fn row_name(kek: &KekRef) -> String {
    name_of_kek(&kek.provider, &kek.kek)
}

/// The row is not believed.
pub(super) fn refused(kek: &KekRef, why: &str) -> KeystoreError {
    let KekRef { provider, kek } = kek;
    damaged(&format!(
        "the row of key \"{kek}\" of provider \"{provider}\" is refused: {why}"
    ))
}

/// Where a row was that is not there any more.
pub(super) const GONE: &str =
    "it is gone: which version the keys follow, and what was left unfinished, is not known";

impl Change {
    /// A KEK's row as nobody else changes it until this ends, not judged yet; `None` if there never was one.
    pub(super) async fn read_kek(
        &mut self,
        kek: &KekRef,
    ) -> Result<Option<FollowedRow>, KeystoreError> {
        let rows = self.query(LOCK, &[&kek.provider, &kek.kek]).await?;
        if let Some(row) = rows.first() {
            return FollowedRow::of(row).map(Some);
        }
        let was_there = self.query(WAS_WRITTEN, &[&kek.provider, &kek.kek]).await?;
        if was_there.is_empty() {
            return Ok(None);
        }
        Err(refused(kek, GONE))
    }

    /// The same, judged; `None` also if it is from before there were MACs.
    pub(super) async fn judged_kek(
        &mut self,
        kek: &KekRef,
    ) -> Result<Option<FollowedRow>, KeystoreError> {
        let row = self.read_kek(kek).await?.filter(|row| !row.is_old());
        if let Some(row) = &row {
            row.judge(self.secrets())?;
        }
        Ok(row)
    }

    /// Writes a row with the `event`th of the events that this is committed with, which must name it.
    pub(super) async fn put_kek(
        &mut self,
        row: &FollowedRow,
        event: usize,
    ) -> Result<(), KeystoreError> {
        let seq = bigint_of(self.record_seq(event))?;
        let mac: &[u8] = &row.authentic(seq, self.secrets());
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 11] = [
            &row.kek.provider,
            &row.kek.kek,
            &row.version,
            &row.next_version,
            &row.first_seen_us,
            &row.rotated_us,
            &row.asked_us,
            &row.began_seq,
            &row.began_key,
            &seq,
            &mac,
        ];
        self.query(PUT, &params).await.map(drop)
    }
}

/// As records name the row.
pub(super) fn named(kek: &KekRef) -> (&'static str, [String; 1]) {
    (TABLE, [row_name(kek)])
}
