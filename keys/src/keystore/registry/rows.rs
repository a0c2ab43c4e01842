//! Rows of `pgveil.columns`, whole: how they are read and written, and what their MACs are over. What a row may become is
//! decided in [`super`].

use pgveil_policy::{
    plan::ColumnId,
    ruleset::{Change, Generation, OtherTerms, RegisteredColumn, ShownAt},
};
use serde_json::{Value, json};
use tokio_postgres::{GenericClient, Row};

use super::{
    super::{KeystoreError, rows::us, written::Written},
    NewColumn, Registration,
};
use crate::{audit::secrets::Secrets, canonical::Canonical};

const LABEL: &[u8] = b"columns";

/// In the order of [`ColumnRow::of`]. `to_jsonb`: a keystore of an earlier version lacks columns, and is planned for all the same.
macro_rules! select_rows {
    ($last:literal, $rest:literal) => {
        concat!(
            "SELECT k.id, k.schema_name, k.table_name, k.column_name, k.logical_type, k.equality, k.shared_key, k.equality_group, \
             k.table_oid, k.attnum, ",
            us!("k.retired_at"),
            ", k.scope_template, (pg_catalog.to_jsonb(k) ->> 'shown_at')::int2, \
             CASE pg_catalog.jsonb_typeof(pg_catalog.to_jsonb(k) -> 'shown_before') WHEN 'array' \
             THEN ARRAY(SELECT pg_catalog.jsonb_array_elements_text(pg_catalog.to_jsonb(k) -> 'shown_before')) END, \
             pg_catalog.to_jsonb(k) ->> 'change', pg_catalog.to_jsonb(k) ->> 'change_type', \
             coalesce((pg_catalog.to_jsonb(k) ->> 'searched')::bool, false), \
             coalesce((pg_catalog.to_jsonb(k) ->> 'revision')::int4, 0), ",
            us!("k.created_at"),
            ", (pg_catalog.to_jsonb(k) ->> 'audit_seq')::int8, (pg_catalog.to_jsonb(k) ->> 'mac')::bytea, ",
            $last,
            ", coalesce((pg_catalog.to_jsonb(k) ->> 'term_number')::int4, 0), \
             coalesce((pg_catalog.to_jsonb(k) ->> 'newest_key')::int8, 0), (pg_catalog.to_jsonb(k) ->> 'other_number')::int4, \
             (pg_catalog.to_jsonb(k) ->> 'other_newest_key')::int8, (pg_catalog.to_jsonb(k) ->> 'other_shared_key')::bool, \
             pg_catalog.to_jsonb(k) ->> 'other_group', pg_catalog.to_jsonb(k) ->> 'other_scope' \
             FROM pgveil.columns k ",
            $rest
        )
    };
}

macro_rules! select_whole {
    ($rest:literal) => {
        select_rows!(
            "(SELECT max(c.audit_seq) FROM pgveil.row_changes c WHERE c.table_name = 'columns' AND c.row_name = k.id::text)",
            $rest
        )
    };
}

pub(super) const ALL: &str = select_whole!("ORDER BY k.id");
/// Without the table that the schemas of earlier versions lack.
pub(super) const UNJUDGED: &str = select_rows!("NULL::int8", "ORDER BY k.id");
const LOCK: &str = select_whole!("WHERE k.id = $1 FOR UPDATE OF k");
const INSERT: &str = "INSERT INTO pgveil.columns (schema_name, table_name, column_name, table_oid, attnum, logical_type, \
    equality, shared_key, equality_group, scope_template, created_at, term_number, newest_key, change, \
    other_number, other_newest_key, other_shared_key, other_group, other_scope) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, timestamptz '1970-01-01 00:00:00+00' + $11::int8 * interval '1 microsecond', \
    $12, $13, $14, $15, $16, $17, $18, $19) RETURNING id";
/// All but the id and when it was made. The MAC comes at the end of the transaction.
const PUT: &str = "UPDATE pgveil.columns SET schema_name = $2, table_name = $3, column_name = $4, table_oid = $5, attnum = $6, \
    logical_type = $7, equality = $8, shared_key = $9, equality_group = $10, scope_template = $11, shown_at = $12, \
    shown_before = $13, change = $14, change_type = $15, searched = $16, revision = $17, \
    retired_at = timestamptz '1970-01-01 00:00:00+00' + $18::int8 * interval '1 microsecond', term_number = $19, newest_key = $20, \
    other_number = $21, other_newest_key = $22, other_shared_key = $23, other_group = $24, other_scope = $25, \
    audit_seq = NULL, mac = NULL \
    WHERE id = $1";
const PUT_MAC: &str = "UPDATE pgveil.columns SET audit_seq = $2, mac = $3 WHERE id = $1";
const NOW: &str = concat!("SELECT ", us!("now()"));

/// A row as it is stored.
#[derive(Clone, Debug)]
pub(super) struct ColumnRow {
    pub(super) column: RegisteredColumn,
    pub(super) revision: i32,
    /// Microseconds since 1970.
    created_us: i64,
    pub(super) retired_us: Option<i64>,
    audit_seq: Option<i64>,
    mac: Option<Vec<u8>>,
    /// The last record of the audit log that names it.
    last_seq: Option<i64>,
}

/// The server's time, in microseconds since 1970.
pub(super) async fn now_us(client: &impl GenericClient) -> Result<i64, KeystoreError> {
    Ok(client.query_one(NOW, &[]).await?.try_get(0)?)
}

/// A row that nobody else changes until the transaction ends.
pub(super) async fn lock(
    client: &impl GenericClient,
    id: ColumnId,
) -> Result<Option<ColumnRow>, KeystoreError> {
    let found = client.query_opt(LOCK, &[&int(id)?]).await?;
    found.map(|row| ColumnRow::of(&row)).transpose()
}

/// A new row, which has no MAC yet, with these terms.
pub(super) async fn insert(
    client: &impl GenericClient,
    new: &NewColumn,
    (generation, change): (Generation, Option<Change>),
) -> Result<ColumnRow, KeystoreError> {
    let created_us = now_us(client).await?;
    let (number, newest) = numbers(generation)?;
    let other = Other::of(change.as_ref())?;
    let row = client
        .query_one(
            INSERT,
            &[
                &new.schema,
                &new.table,
                &new.column,
                &new.table_oid,
                &new.attnum,
                &new.logical_type,
                &new.equality,
                &new.shared_key,
                &new.equality_group,
                &new.scope,
                &created_us,
                &number,
                &newest,
                &stored(change.as_ref()).0,
                &other.number,
                &other.newest,
                &other.shared_key,
                &other.group,
                &other.scope,
            ],
        )
        .await?;
    Ok(ColumnRow {
        column: RegisteredColumn {
            id: column_id(&row)?,
            schema: new.schema.clone(),
            table: new.table.clone(),
            column: new.column.clone(),
            logical_type: new.logical_type.clone(),
            equality: new.equality,
            shared_key: new.shared_key,
            equality_group: new.equality_group.clone(),
            scope: Some(new.scope.clone()),
            generation,
            place: (new.table_oid, new.attnum),
            shown: None,
            change,
            searched: false,
        },
        revision: 0,
        created_us,
        retired_us: None,
        audit_seq: None,
        mac: None,
        last_seq: None,
    })
}

impl ColumnRow {
    /// Of a row of [`ALL`]. Nothing is judged.
    pub(super) fn of(row: &Row) -> Result<Self, KeystoreError> {
        let column = RegisteredColumn {
            id: column_id(row)?,
            schema: row.try_get(1)?,
            table: row.try_get(2)?,
            column: row.try_get(3)?,
            logical_type: row.try_get(4)?,
            equality: row.try_get(5)?,
            shared_key: row.try_get(6)?,
            equality_group: row.try_get(7)?,
            scope: row.try_get(11)?,
            generation: Generation {
                number: unsigned(row.try_get::<_, i32>(22)?)?,
                newest_key: unsigned(row.try_get::<_, i64>(23)?)?,
            },
            place: (row.try_get(8)?, row.try_get(9)?),
            shown: shown(row)?,
            change: change(row)?,
            searched: row.try_get(16)?,
        };
        Ok(Self {
            column,
            revision: row.try_get(17)?,
            created_us: row.try_get(18)?,
            retired_us: row.try_get(10)?,
            audit_seq: row.try_get(19)?,
            mac: row.try_get(20)?,
            last_seq: row.try_get(21)?,
        })
    }

    pub(super) fn registration(self) -> Registration {
        let (table_oid, attnum) = self.column.place;
        Registration {
            table_oid,
            attnum,
            retired: self.retired_us.is_some(),
            column: self.column,
        }
    }

    /// Whether pgveil wrote it, and wrote it last.
    pub(super) fn judge(&self, secrets: &Secrets) -> Result<(), KeystoreError> {
        let written = Written {
            mac: self.mac.as_deref(),
            seq: self.audit_seq,
            last: self.last_seq,
        };
        let judged = written.judge(|seq| self.authentic(seq, secrets));
        judged.map_err(|why| self.refused(why))
    }

    /// Whether two rows say the same, MACs apart.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.canonical(0).as_ref() == other.canonical(0).as_ref()
    }

    /// Why it is not used.
    pub(super) fn refused(&self, reason: &str) -> KeystoreError {
        let column = &self.column;
        damaged(&format!(
            "the row of column {} ({}.{}.{}) is refused: {reason}",
            column.id.0, column.schema, column.table, column.column
        ))
    }

    /// Everything that the row says, in one order: what its MAC is over.
    fn canonical(&self, seq: i64) -> Canonical {
        let column = &self.column;
        let (change, change_type) = stored(column.change.as_ref());
        let mut bytes = Canonical::default();
        bytes.number(i64::from(column.id.0)).number(seq);
        bytes.text(&column.schema).text(&column.table);
        bytes.text(&column.column);
        bytes.number(i64::from(column.place.0));
        bytes.number(i64::from(column.place.1));
        bytes.text(&column.logical_type);
        bytes.number(i64::from(column.equality));
        bytes.number(i64::from(column.shared_key));
        bytes.maybe_text(column.equality_group.as_deref());
        bytes.maybe_text(column.scope.as_deref());
        bytes.maybe(column.shown.as_ref().map(|shown| shown.attnum.into()));
        let before = { column.shown.iter() }.flat_map(|shown| &shown.before);
        bytes.number(before.clone().count() as i64);
        before.for_each(|name| {
            bytes.text(name);
        });
        bytes.maybe_text(change).maybe_text(change_type);
        bytes.number(i64::from(column.generation.number));
        // Below 2^63: it was stored as bigint.
        bytes.number(column.generation.newest_key as i64);
        let other = column.change.as_ref().and_then(Change::other_terms);
        bytes.number(i64::from(other.is_some()));
        if let Some(other) = other {
            bytes.number(i64::from(other.generation.number));
            bytes.number(other.generation.newest_key as i64);
            bytes.number(i64::from(other.shared_key));
            bytes.maybe_text(other.equality_group.as_deref());
            bytes.maybe_text(other.scope.as_deref());
        }
        bytes.number(i64::from(column.searched));
        bytes.number(i64::from(self.revision));
        bytes.number(self.created_us).maybe(self.retired_us);
        bytes
    }

    fn authentic(&self, seq: i64, secrets: &Secrets) -> [u8; 32] {
        secrets.mac_row(LABEL, self.canonical(seq).as_ref())
    }

    /// Writes all of it. It has no MAC until [`ColumnRow::put_mac`].
    pub(super) async fn put(&self, client: &impl GenericClient) -> Result<(), KeystoreError> {
        let column = &self.column;
        let shown = column.shown.as_ref();
        let (attnum, before) = (shown.map(|shown| shown.attnum), shown.map(|s| &s.before));
        let (change, change_type) = stored(column.change.as_ref());
        let (number, newest) = numbers(column.generation)?;
        let other = Other::of(column.change.as_ref())?;
        let written = client
            .execute(
                PUT,
                &[
                    &int(column.id)?,
                    &column.schema,
                    &column.table,
                    &column.column,
                    &column.place.0,
                    &column.place.1,
                    &column.logical_type,
                    &column.equality,
                    &column.shared_key,
                    &column.equality_group,
                    &column.scope,
                    &attnum,
                    &before,
                    &change,
                    &change_type,
                    &column.searched,
                    &self.revision,
                    &self.retired_us,
                    &number,
                    &newest,
                    &other.number,
                    &other.newest,
                    &other.shared_key,
                    &other.group,
                    &other.scope,
                ],
            )
            .await?;
        self.once(written)
    }

    /// Writes the MAC over what was meant to be written, whatever became of it.
    pub(super) async fn put_mac(
        &self,
        client: &impl GenericClient,
        seq: i64,
        secrets: &Secrets,
    ) -> Result<(), KeystoreError> {
        let mac: &[u8] = &self.authentic(seq, secrets);
        let written = client
            .execute(PUT_MAC, &[&int(self.column.id)?, &seq, &mac])
            .await?;
        self.once(written)
    }

    fn once(&self, written: u64) -> Result<(), KeystoreError> {
        if written == 1 {
            return Ok(());
        }
        Err(self.refused("it could not be written: a trigger keeps it from being"))
    }

    /// For the audit log.
    pub(super) fn told(&self) -> Value {
        let column = &self.column;
        let mut told = json!({
            "id": column.id.0,
            "column": format!("{}.{}.{}", column.schema, column.table, column.column),
            "type": column.logical_type,
        });
        if column.equality {
            told["equality"] = Value::from(true);
        }
        if let Some(change) = stored(column.change.as_ref()).0 {
            told["change"] = Value::from(change);
        }
        if self.retired_us.is_some() {
            told["retired"] = Value::from(true);
        }
        told
    }
}

fn stored(change: Option<&Change>) -> (Option<&'static str>, Option<&str>) {
    match change {
        None => (None, None),
        Some(Change::AddingTerms) => (Some("adding terms"), None),
        Some(Change::EndingTerms) => (Some("ending terms"), None),
        Some(Change::DroppingTerms) => (Some("dropping terms"), None),
        Some(Change::Widening(to)) => (Some("widening"), Some(to)),
        Some(Change::Narrowing(to)) => (Some("narrowing"), Some(to)),
        Some(Change::Announced(_)) => (Some("announced"), None),
        Some(Change::Turning(_)) => (Some("turning"), None),
        Some(Change::Turned(_)) => (Some("turned"), None),
        Some(Change::Clearing(_)) => (Some("clearing"), None),
    }
}

/// The terms beside those that are compared, as they are stored.
#[derive(Default)]
struct Other<'a> {
    number: Option<i32>,
    newest: Option<i64>,
    shared_key: Option<bool>,
    group: Option<&'a str>,
    scope: Option<&'a str>,
}

impl<'a> Other<'a> {
    fn of(change: Option<&'a Change>) -> Result<Self, KeystoreError> {
        let Some(other) = change.and_then(Change::other_terms) else {
            return Ok(Self::default());
        };
        let (number, newest) = numbers(other.generation)?;
        Ok(Self {
            number: Some(number),
            newest: Some(newest),
            shared_key: Some(other.shared_key),
            group: other.equality_group.as_deref(),
            scope: other.scope.as_deref(),
        })
    }
}

fn numbers(generation: Generation) -> Result<(i32, i64), KeystoreError> {
    let number = i32::try_from(generation.number);
    let newest = i64::try_from(generation.newest_key);
    { number.ok().zip(newest.ok()) }.ok_or_else(|| damaged("terms with a number out of range"))
}

fn other_terms(row: &Row) -> Result<OtherTerms, KeystoreError> {
    let missing = || damaged("other terms that are not described");
    let (number, newest): (Option<i32>, Option<i64>) = (row.try_get(24)?, row.try_get(25)?);
    let shared_key: Option<bool> = row.try_get(26)?;
    Ok(OtherTerms {
        generation: Generation {
            number: unsigned(number.ok_or_else(missing)?)?,
            newest_key: unsigned(newest.ok_or_else(missing)?)?,
        },
        shared_key: shared_key.ok_or_else(missing)?,
        equality_group: row.try_get(27)?,
        scope: row.try_get(28)?,
    })
}

fn unsigned<S, U: TryFrom<S>>(number: S) -> Result<U, KeystoreError> {
    U::try_from(number).map_err(|_| damaged("a negative number"))
}

fn change(row: &Row) -> Result<Option<Change>, KeystoreError> {
    let Some(change): Option<String> = row.try_get(14)? else {
        return Ok(None);
    };
    let logical_type = || {
        let to: Option<String> = row.try_get(15)?;
        to.ok_or_else(|| damaged("a change of type without a type"))
    };
    Ok(Some(match change.as_str() {
        "adding terms" => Change::AddingTerms,
        "ending terms" => Change::EndingTerms,
        "dropping terms" => Change::DroppingTerms,
        "widening" => Change::Widening(logical_type()?),
        "narrowing" => Change::Narrowing(logical_type()?),
        "announced" => Change::Announced(other_terms(row)?),
        "turning" => Change::Turning(other_terms(row)?),
        "turned" => Change::Turned(other_terms(row)?),
        "clearing" => Change::Clearing(other_terms(row)?),
        _ => return Err(damaged("an unknown change")),
    }))
}

fn shown(row: &Row) -> Result<Option<ShownAt>, KeystoreError> {
    let attnum: Option<i16> = row.try_get(12)?;
    let before: Option<Vec<String>> = row.try_get(13)?;
    let before = before.unwrap_or_default();
    Ok(attnum.map(|attnum| ShownAt { attnum, before }))
}

fn int(id: ColumnId) -> Result<i32, KeystoreError> {
    i32::try_from(id.0).map_err(|_| damaged("an id out of range"))
}

fn column_id(row: &Row) -> Result<ColumnId, KeystoreError> {
    u32::try_from(row.try_get::<_, i32>(0)?)
        .map(ColumnId)
        .map_err(|_| damaged("an id out of range"))
}

pub(in crate::keystore) fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.columns",
        reason: reason.to_owned(),
    }
}
