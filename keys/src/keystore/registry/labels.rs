//! Table `pgveil.enum_labels`: as which numbers the labels of enum types are sealed. Rows are added and follow renames; numbers
//! never change. What a label is called is PostgreSQL's business; which number is its, is in a row under a MAC.
//!
//! All rows of a type are written together, and each says how many they are: one that is taken away is missed, whatever else
//! is taken away with it. Which label gets which number is decided elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{MutexGuard, PoisonError},
};

use pgveil_policy::catalog::SealedLabel;
use serde_json::json;
use tokio_postgres::{GenericClient, Row};

use super::Registry;
use crate::{
    audit::{Event, Operation, Record, Within, event::bounded_names, secrets::Secrets},
    canonical::Canonical,
    keystore::{Keystore, KeystoreError, bigint_of, written::Written},
};

const LABEL: &[u8] = b"enum_labels";
/// As `pgveil.row_changes` and records name the table.
const TABLE: &str = "enum_labels";

/// What `row_changes` calls a row. No type with a double quote in its name is sealed.
macro_rules! row_name {
    () => {
        "('\"' || k.type_schema || '\".\"' || k.type_name || '\" ' || k.number)"
    };
}

const ALL: &str = concat!(
    "SELECT k.type_schema, k.type_name, k.label_oid, k.label, k.number, k.labels, k.audit_seq, k.mac, \
     (SELECT max(c.audit_seq) FROM pgveil.row_changes c WHERE c.table_name = 'enum_labels' AND c.row_name = ",
    row_name!(),
    ") FROM pgveil.enum_labels k ORDER BY k.type_schema, k.type_name, k.number"
);
const GONE: &str = concat!(
    "SELECT min(c.row_name) FROM pgveil.row_changes c WHERE c.table_name = 'enum_labels' \
     AND NOT EXISTS (SELECT FROM pgveil.enum_labels k WHERE c.row_name = ",
    row_name!(),
    ")"
);
/// Of schemas of earlier versions too.
const UNJUDGED: &str = "SELECT type_schema, type_name, label_oid, label, number FROM pgveil.enum_labels \
     ORDER BY type_schema, type_name, number";
/// Not `to_regclass('pgveil.enum_labels')`, which asks for a right on the schema.
const IS_THERE: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class \
     WHERE relnamespace = pg_catalog.to_regnamespace('pgveil') AND relname = 'enum_labels')";
/// The MAC comes at the end of the transaction.
const PUT: &str = "INSERT INTO pgveil.enum_labels AS known (type_schema, type_name, label_oid, label, number, labels) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (type_schema, type_name, number) \
     DO UPDATE SET label_oid = EXCLUDED.label_oid, label = EXCLUDED.label, labels = EXCLUDED.labels, audit_seq = NULL, mac = NULL";
const PUT_MAC: &str = "UPDATE pgveil.enum_labels SET audit_seq = $4, mac = $5 \
     WHERE type_schema = $1 AND type_name = $2 AND number = $3";
const NOTE: &str = "INSERT INTO pgveil.row_changes (table_name, row_name, audit_seq) SELECT 'enum_labels', unnest($1::text[]), $2";
/// The last first.
const RECORDED: &str =
    "SELECT record FROM pgveil.audit WHERE operation = 'label.record' ORDER BY seq DESC LIMIT 1000";

/// Schema and name.
type TypeName = (String, String);

/// A row as it is stored.
#[derive(Clone, Debug)]
pub(super) struct LabelRow {
    label: SealedLabel,
    /// How many rows its type had when it was written.
    labels: Option<i32>,
    audit_seq: Option<i64>,
    mac: Option<Vec<u8>>,
    /// The last record of the audit log that names it.
    last_seq: Option<i64>,
}

/// All that stands there, unjudged: to be shown and planned for. Nothing is sealed or opened by it; for that one asks
/// [`Registry::labels`].
pub async fn labels_unjudged(
    client: &impl GenericClient,
) -> Result<Vec<SealedLabel>, KeystoreError> {
    let there = client.query_one(IS_THERE, &[]).await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let rows = client.query(UNJUDGED, &[]).await?;
    rows.iter().map(label_of).collect()
}

fn label_of(row: &Row) -> Result<SealedLabel, KeystoreError> {
    Ok(SealedLabel {
        schema: row.try_get(0)?,
        type_name: row.try_get(1)?,
        oid: row.try_get(2)?,
        label: row.try_get(3)?,
        number: row.try_get(4)?,
    })
}

impl LabelRow {
    /// Of a row of [`ALL`]. Nothing is judged.
    fn of(row: &Row) -> Result<Self, KeystoreError> {
        Ok(Self {
            label: label_of(row)?,
            labels: row.try_get(5)?,
            audit_seq: row.try_get(6)?,
            mac: row.try_get(7)?,
            last_seq: row.try_get(8)?,
        })
    }

    fn type_name(&self) -> TypeName {
        (self.label.schema.clone(), self.label.type_name.clone())
    }

    /// As `pgveil.row_changes` and records name it.
    fn name(&self) -> String {
        let number = self.label.number;
        format!("{} {number}", shown(&self.type_name()))
    }

    /// Whether pgveil wrote it, and wrote it last.
    fn judge(&self, secrets: &Secrets) -> Result<(), KeystoreError> {
        let written = Written {
            mac: self.mac.as_deref(),
            seq: self.audit_seq,
            last: self.last_seq,
        };
        let judged = written.judge(|seq| self.authentic(seq, secrets));
        judged.map_err(|why| self.refused(why))
    }

    fn says_the_same(&self, other: &Self) -> bool {
        (&self.label, self.labels) == (&other.label, other.labels)
    }

    /// Everything that the row says.
    fn authentic(&self, seq: i64, secrets: &Secrets) -> [u8; 32] {
        let label = &self.label;
        let mut bytes = Canonical::default();
        bytes.text(&label.schema).text(&label.type_name);
        bytes.number(i64::from(label.number)).number(seq);
        bytes.number(i64::from(label.oid)).text(&label.label);
        bytes.maybe(self.labels.map(i64::from));
        secrets.mac_row(LABEL, bytes.as_ref())
    }

    fn refused(&self, reason: &str) -> KeystoreError {
        damaged(&format!("the row of {} is refused: {reason}", self.name()))
    }

    async fn put(&self, client: &impl GenericClient) -> Result<(), KeystoreError> {
        let label = &self.label;
        let written = client
            .execute(
                PUT,
                &[
                    &label.schema,
                    &label.type_name,
                    &label.oid,
                    &label.label,
                    &label.number,
                    &self.labels,
                ],
            )
            .await?;
        self.once(written)
    }

    /// Writes the MAC over what was meant to be written, whatever became of it.
    async fn put_mac(
        &self,
        client: &impl GenericClient,
        seq: i64,
        secrets: &Secrets,
    ) -> Result<(), KeystoreError> {
        let label = &self.label;
        let mac: &[u8] = &self.authentic(seq, secrets);
        let written = client
            .execute(
                PUT_MAC,
                &[&label.schema, &label.type_name, &label.number, &seq, &mac],
            )
            .await?;
        self.once(written)
    }

    fn once(&self, written: u64) -> Result<(), KeystoreError> {
        if written == 1 {
            return Ok(());
        }
        Err(self.refused("it could not be written: a trigger keeps it from being"))
    }
}

impl Registry {
    /// As which numbers labels are sealed. A row that pgveil did not write, or not last, is an error, and so is one that is
    /// missing.
    pub async fn labels(
        &self,
        client: &impl GenericClient,
    ) -> Result<Vec<SealedLabel>, KeystoreError> {
        let rows = self.label_rows(client).await?;
        Ok(rows.into_iter().map(|row| row.label).collect())
    }

    async fn label_rows(
        &self,
        client: &impl GenericClient,
    ) -> Result<Vec<LabelRow>, KeystoreError> {
        let gone = client.query_one(GONE, &[]).await?;
        if let Some(name) = gone.try_get::<_, Option<&str>>(0)? {
            // Within the transaction that writes a row, its record is not there yet.
            return Err(damaged(&format!("the row of {name} is gone")));
        }
        let rows = label_rows(&client.query(ALL, &[]).await?)?;
        for row in &rows {
            let written = self.written_labels().get(&row.name()).cloned();
            match written {
                Some(written) if written.says_the_same(row) => {}
                Some(_) => {
                    return Err(
                        row.refused("it is not as it was just written: a trigger changes it")
                    );
                }
                None => row.judge(&self.secrets)?,
            }
        }
        whole(&rows)?;
        Ok(rows)
    }

    /// Adds labels, and notes what those that are known are called now. All rows of their types are written with
    /// [`Registry::seal`].
    pub async fn record_labels(
        &self,
        client: &impl GenericClient,
        labels: &[SealedLabel],
    ) -> Result<(), KeystoreError> {
        let mut types = by_type(self.label_rows(client).await?);
        let changed: BTreeSet<TypeName> = { labels.iter() }
            .map(|label| (label.schema.clone(), label.type_name.clone()))
            .collect();
        for label in labels {
            let name = (label.schema.clone(), label.type_name.clone());
            let rows = types.entry(name).or_default();
            rows.insert(label.number, label.clone());
        }
        for name in changed {
            let Some(rows) = types.remove(&name) else {
                continue;
            };
            self.never_had_more(client, &name, rows.len()).await?;
            self.put_labels(client, rows).await?;
        }
        Ok(())
    }

    /// Writes all rows of a type, and answers how many they are.
    async fn put_labels(
        &self,
        client: &impl GenericClient,
        rows: BTreeMap<i32, SealedLabel>,
    ) -> Result<usize, KeystoreError> {
        let count = rows.len();
        let labels = i32::try_from(count).map_err(|_| damaged("too many labels"))?;
        for label in rows.into_values() {
            let row = LabelRow {
                label,
                labels: Some(labels),
                audit_seq: None,
                mac: None,
                last_seq: None,
            };
            row.put(client).await?;
            self.written_labels().insert(row.name(), row);
        }
        Ok(count)
    }

    /// The audit log knows how many labels of a type had numbers. Were they hidden, others would get theirs.
    async fn never_had_more(
        &self,
        client: &impl GenericClient,
        name: &TypeName,
        count: usize,
    ) -> Result<(), KeystoreError> {
        let shown = shown(name);
        for row in client.query(RECORDED, &[]).await? {
            let Some(record) = Record::from_bytes(row.try_get(0)?) else {
                continue;
            };
            let detail = record.detail_json();
            let had = detail["labels"].as_u64().unwrap_or_default();
            if detail["type"] == shown && had > count as u64 {
                return Err(damaged(&format!(
                    "{had} labels of {shown} had numbers, and {count} of them are there: rows are gone"
                )));
            }
        }
        Ok(())
    }

    /// Takes up the rows of a table from before there were MACs. Who asks has seen that there never were any.
    pub async fn take_up_labels(
        &self,
        client: &impl GenericClient,
    ) -> Result<usize, KeystoreError> {
        let types = by_type(label_rows(&client.query(ALL, &[]).await?)?);
        let mut taken = 0;
        for rows in types.into_values() {
            taken += self.put_labels(client, rows).await?;
        }
        Ok(taken)
    }

    /// Gives the rows that were written here their MACs, each with one of the events that are appended behind these.
    pub(super) async fn seal_labels<C: GenericClient>(
        &self,
        within: &Within<'_, C>,
        client: &C,
        what: &'static str,
        events: &mut Vec<Event>,
    ) -> Result<(), KeystoreError> {
        let written = std::mem::take(&mut *self.written_labels());
        let mut types: BTreeMap<TypeName, Vec<LabelRow>> = BTreeMap::new();
        for row in written.into_values() {
            types.entry(row.type_name()).or_default().push(row);
        }
        for (name, rows) in types {
            let names: Vec<String> = rows.iter().map(LabelRow::name).collect();
            let mut left = rows.iter();
            for part in bounded_names(&names) {
                let seq = bigint_of(within.record_seq(events.len()))?;
                for row in left.by_ref().take(part.len()) {
                    row.put_mac(client, seq, within.secrets()).await?;
                }
                client.execute(NOTE, &[&part, &seq]).await?;
                let detail = json!({ "what": what, "type": shown(&name), "labels": rows.len() });
                let event = Event::new(Operation::LabelRecord).detail(detail);
                events.push(event.changes_rows(TABLE, part));
            }
        }
        Ok(())
    }

    pub(super) fn has_written_labels(&self) -> bool {
        !self.written_labels().is_empty()
    }

    fn written_labels(&self) -> MutexGuard<'_, BTreeMap<String, LabelRow>> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows of [`ALL`].
fn label_rows(found: &[Row]) -> Result<Vec<LabelRow>, KeystoreError> {
    found.iter().map(LabelRow::of).collect()
}

/// Labels by their types and numbers.
fn by_type(rows: Vec<LabelRow>) -> BTreeMap<TypeName, BTreeMap<i32, SealedLabel>> {
    let mut types: BTreeMap<TypeName, BTreeMap<i32, SealedLabel>> = BTreeMap::new();
    for row in rows {
        let rows = types.entry(row.type_name()).or_default();
        rows.insert(row.label.number, row.label);
    }
    types
}

/// All rows of a type are as many as each of them says.
fn whole(rows: &[LabelRow]) -> Result<(), KeystoreError> {
    let mut counts: BTreeMap<TypeName, i32> = BTreeMap::new();
    for row in rows {
        *counts.entry(row.type_name()).or_default() += 1;
    }
    for row in rows {
        let count = counts.get(&row.type_name()).copied();
        if row.labels != count {
            return Err(row.refused("it was written with another number of labels of its type"));
        }
    }
    Ok(())
}

/// A type's name, always quoted.
fn shown((schema, name): &TypeName) -> String {
    format!("\"{schema}\".\"{name}\"")
}

fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.enum_labels",
        reason: reason.to_owned(),
    }
}

impl Keystore {
    /// What is wrong with `pgveil.enum_labels`, if anything is.
    pub(in crate::keystore) async fn refused_labels(
        &self,
    ) -> Result<Vec<KeystoreError>, KeystoreError> {
        let secrets = self.log().secrets().await?;
        let rows = label_rows(&self.query(ALL, &[]).await?)?;
        let judged = rows.iter().filter_map(|row| row.judge(&secrets).err());
        let mut refused: Vec<KeystoreError> = judged.collect();
        if refused.is_empty() {
            refused.extend(whole(&rows).err());
        }
        let gone = self.query(GONE, &[]).await?;
        let gone: Option<&str> = gone.first().map_or(Ok(None), |row| row.try_get(0))?;
        refused.extend(gone.map(|name| damaged(&format!("the row of {name} is gone"))));
        Ok(refused)
    }
}
