//! Table `pgveil.columns`: which id means which protected column. Works on any connection, so that `apply` can register
//! a column in the transaction that converts it. Ids are never reused, rows never deleted. [`labels`] has the numbers of labels.
//!
//! A row is read whole, judged, changed and written whole, under a MAC of the audit log's key: who swaps two rows, or says of
//! values that they are of another type or for other eyes, gets errors. [`rows`] has the rows themselves.

mod labels;
mod migrations;
mod rows;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pgveil_policy::{
    plan::ColumnId,
    ruleset::{Change, Generation, RegisteredColumn, ShownAt},
};
use serde_json::json;
use tokio_postgres::GenericClient;

pub(super) use self::rows::damaged;
use self::{labels::LabelRow, rows::ColumnRow};
pub use self::{
    labels::labels_unjudged,
    migrations::{Begun, BegunColumn},
};
use super::{Keystore, KeystoreError, bigint_of};
use crate::audit::{Event, Log, Operation, Within, event::bounded_names, secrets::Secrets};

/// How long a process goes by what it has read of the catalog and the registry: nothing protected is planned with what is
/// older. Who changes a column's description waits that long before anything is done that those who do not know it yet
/// would not understand.
pub const LEASE: Duration = Duration::from_secs(5);

/// A column to protect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewColumn {
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Column.
    pub column: String,
    /// `pg_class.oid` of the table.
    pub table_oid: u32,
    /// `pg_attribute.attnum` of the column.
    pub attnum: i16,
    /// What applications see, with modifiers.
    pub logical_type: String,
    /// Values carry equality terms.
    pub equality: bool,
    /// Terms are made with the platform's index key.
    pub shared_key: bool,
    /// The equality group.
    pub equality_group: Option<String>,
    /// The scope template whose keys make the terms, verbatim.
    pub scope: String,
}

/// A row of `pgveil.columns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What the policy needs of it.
    pub column: RegisteredColumn,
    /// `pg_class.oid` when it was registered.
    pub table_oid: u32,
    /// `pg_attribute.attnum` when it was registered.
    pub attnum: i16,
    /// No longer protected; stored values may still name it.
    pub retired: bool,
}

/// As `pgveil.row_changes` and records name the table.
const TABLE: &str = "columns";
const GONE: &str = "SELECT min(c.row_name) FROM pgveil.row_changes c WHERE c.table_name = 'columns' \
    AND NOT EXISTS (SELECT FROM pgveil.columns k WHERE k.id::text = c.row_name)";
const NOTE: &str = "INSERT INTO pgveil.row_changes (table_name, row_name, audit_seq) SELECT 'columns', unnest($1::text[]), $2";

/// Waits, until the transaction ends, for whoever describes the columns of a group anew ([`super::turn`]) to be through.
const JOIN: &str = "UPDATE pgveil.columns SET revision = revision WHERE false";

/// The columns that are protected now, by id, as they stand there: to be shown and planned for. Whoever goes by it asks
/// [`Registry::list`].
pub async fn list_unjudged(
    client: &impl GenericClient,
) -> Result<Vec<RegisteredColumn>, KeystoreError> {
    let all = history_unjudged(client).await?.into_iter();
    let live = all.filter(|registration| !registration.retired);
    Ok(live.map(|registration| registration.column).collect())
}

/// All columns that were ever protected, by id, as they stand there. Of schemas of earlier versions too.
pub async fn history_unjudged(
    client: &impl GenericClient,
) -> Result<Vec<Registration>, KeystoreError> {
    let rows = client.query(rows::UNJUDGED, &[]).await?;
    rows.iter()
        .map(|row| ColumnRow::of(row).map(ColumnRow::registration))
        .collect()
}

/// The greatest id that was ever given.
pub async fn newest(client: &impl GenericClient) -> Result<Option<ColumnId>, KeystoreError> {
    let row = client
        .query_one("SELECT max(id) FROM pgveil.columns", &[])
        .await?;
    let id: Option<i32> = row.try_get(0)?;
    id.map(|id| u32::try_from(id).map(ColumnId))
        .transpose()
        .map_err(|_| damaged("an id out of range"))
}

/// How often descriptions of columns were changed: another number means that they are to be read again.
pub async fn revision(client: &impl GenericClient) -> Result<i64, KeystoreError> {
    let row = client
        .query_one(
            "SELECT coalesce(sum(revision), 0)::int8 FROM pgveil.columns",
            &[],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// The registry with the key of its rows. What is changed through one is one transaction's, which ends with
/// [`Registry::seal`]: without it the rows have no MACs, and nobody uses them.
#[derive(Debug)]
pub struct Registry {
    log: Arc<Log>,
    secrets: Arc<Secrets>,
    /// Rows that were written and have no MAC yet.
    written: Mutex<BTreeMap<u32, ColumnRow>>,
    /// The same of labels, by the names of their rows.
    labels: Mutex<BTreeMap<String, LabelRow>>,
}

impl Registry {
    /// Asks the platform's provider for the key, once per process.
    pub async fn open(log: &Arc<Log>) -> Result<Self, KeystoreError> {
        Ok(Self {
            secrets: log.secrets().await?,
            log: Arc::clone(log),
            written: Mutex::default(),
            labels: Mutex::default(),
        })
    }

    /// The same, if the key is known already.
    pub(crate) fn open_now(log: &Arc<Log>) -> Option<Self> {
        Some(Self {
            secrets: log.secrets_now()?,
            log: Arc::clone(log),
            written: Mutex::default(),
            labels: Mutex::default(),
        })
    }

    /// The columns that are protected now, by id. A name stands in it once.
    pub async fn list(
        &self,
        client: &impl GenericClient,
    ) -> Result<Vec<RegisteredColumn>, KeystoreError> {
        let all = self.history(client).await?.into_iter();
        let live = all.filter(|registration| !registration.retired);
        Ok(live.map(|registration| registration.column).collect())
    }

    /// All columns that were ever protected, by id: every id that a stored value can name. A row that pgveil did not write,
    /// or not last, is an error.
    pub async fn history(
        &self,
        client: &impl GenericClient,
    ) -> Result<Vec<Registration>, KeystoreError> {
        let gone = client.query_one(GONE, &[]).await?;
        if let Some(id) = gone.try_get::<_, Option<&str>>(0)? {
            return Err(damaged(&format!("the row of column {id} is gone")));
        }
        let found = client.query(rows::ALL, &[]).await?;
        let mut all = Vec::with_capacity(found.len());
        for row in &found {
            let row = ColumnRow::of(row)?;
            self.judge(&row)?;
            all.push(row.registration());
        }
        Ok(all)
    }

    /// Gives a column an id. Refused (unique) while the same column is registered and not retired.
    pub async fn register(
        &self,
        client: &impl GenericClient,
        column: &NewColumn,
    ) -> Result<ColumnId, KeystoreError> {
        client.execute(JOIN, &[]).await?;
        let terms = terms_of_new(&self.history(client).await?, column);
        let row = rows::insert(client, column, terms).await?;
        let id = row.column.id;
        self.written().insert(id.0, row);
        Ok(id)
    }

    /// Gives a registration the names and the place that its column has now.
    pub async fn moved(
        &self,
        client: &impl GenericClient,
        id: ColumnId,
        names: (&str, &str, &str),
        place: (u32, i16),
    ) -> Result<(), KeystoreError> {
        let (schema, table, column) = names;
        let moved = |row: &mut ColumnRow| {
            schema.clone_into(&mut row.column.schema);
            table.clone_into(&mut row.column.table);
            column.clone_into(&mut row.column.column);
            row.column.place = place;
            row.retired_us.is_none()
        };
        self.change(client, id, moved).await.map(drop)
    }

    /// What a column's values are from now on, or are becoming. Every replica follows within [`LEASE`].
    ///
    /// Answers whether the column was as `before` says until now, and not retired.
    pub async fn describe(
        &self,
        client: &impl GenericClient,
        before: &RegisteredColumn,
        now: &RegisteredColumn,
    ) -> Result<bool, KeystoreError> {
        let describe = |row: &mut ColumnRow| {
            let now = described(&row.column, before, now);
            let Some(now) = now.filter(|_| row.retired_us.is_none()) else {
                return false;
            };
            row.column = now;
            row.revision = row.revision.wrapping_add(1);
            true
        };
        self.change(client, before.id, describe).await
    }

    /// Notes where applications see a column that the server keeps elsewhere; `None`: where it stands.
    pub async fn shown_at(
        &self,
        client: &impl GenericClient,
        id: ColumnId,
        shown: Option<&ShownAt>,
    ) -> Result<(), KeystoreError> {
        let noted = |row: &mut ColumnRow| {
            row.column.shown = shown.cloned();
            true
        };
        self.change(client, id, noted).await.map(drop)
    }

    /// Marks a column as no longer protected. Its id stays known, because values sealed for it may still be around.
    /// Answers whether it was protected until now.
    pub async fn retire(
        &self,
        client: &impl GenericClient,
        column: ColumnId,
    ) -> Result<bool, KeystoreError> {
        let now_us = rows::now_us(client).await?;
        let retired = |row: &mut ColumnRow| {
            let was_protected = row.retired_us.is_none();
            row.retired_us.get_or_insert(now_us);
            was_protected
        };
        self.change(client, column, retired).await
    }

    /// Marks a column as given back to plaintext by the operator's word: it is no longer protected, and stands at this place.
    /// A proxy whose policy names it still serves it as the plaintext that it is, and only there.
    pub async fn given_back(
        &self,
        client: &impl GenericClient,
        column: ColumnId,
        place: (u32, i16),
    ) -> Result<(), KeystoreError> {
        let now_us = rows::now_us(client).await?;
        let given_back = |row: &mut ColumnRow| {
            row.column.place = place;
            row.column.shown = Some(ShownAt {
                attnum: place.1,
                before: Vec::new(),
            });
            row.retired_us.get_or_insert(now_us);
            true
        };
        self.change(client, column, given_back).await.map(drop)
    }

    /// Gives the rows that were written here their MACs, and records them: the last thing before COMMIT.
    pub async fn seal(
        &self,
        client: &impl GenericClient,
        what: &'static str,
    ) -> Result<(), KeystoreError> {
        let written = std::mem::take(&mut *self.written());
        if written.is_empty() && !self.has_written_labels() {
            return Ok(());
        }
        let within = Within::begin(&self.log, client).await?;
        let names: Vec<String> = written.keys().map(u32::to_string).collect();
        let mut events = Vec::new();
        let mut left = written.values();
        for part in bounded_names(&names) {
            let seq = bigint_of(within.record_seq(events.len()))?;
            let rows: Vec<&ColumnRow> = left.by_ref().take(part.len()).collect();
            for row in &rows {
                row.put_mac(client, seq, within.secrets()).await?;
            }
            client.execute(NOTE, &[&part, &seq]).await?;
            let columns: Vec<_> = rows.iter().map(|row| row.told()).collect();
            let detail = json!({ "what": what, "columns": columns });
            let event = Event::new(Operation::PolicyApply).detail(detail);
            events.push(event.changes_rows(TABLE, part));
        }
        self.seal_labels(&within, client, what, &mut events).await?;
        within.append(events).await
    }

    /// Takes up the rows of a registry from before there were MACs. Who asks has seen that there never were any.
    pub async fn take_up(&self, client: &impl GenericClient) -> Result<usize, KeystoreError> {
        let found = client.query(rows::ALL, &[]).await?;
        let all: Result<Vec<ColumnRow>, _> = found.iter().map(ColumnRow::of).collect();
        let mut written = self.written();
        written.extend(all?.into_iter().map(|row| (row.column.id.0, row)));
        Ok(written.len())
    }

    /// Reads a row, judges it, and writes what `edit` makes of it, unless that says no.
    async fn change(
        &self,
        client: &impl GenericClient,
        id: ColumnId,
        edit: impl FnOnce(&mut ColumnRow) -> bool,
    ) -> Result<bool, KeystoreError> {
        let Some(mut row) = rows::lock(client, id).await? else {
            return Ok(false);
        };
        self.judge(&row)?;
        if !edit(&mut row) {
            return Ok(false);
        }
        row.put(client).await?;
        self.written().insert(id.0, row);
        Ok(true)
    }

    /// Whether pgveil wrote it, and wrote it last; or it is as it was written here.
    fn judge(&self, row: &ColumnRow) -> Result<(), KeystoreError> {
        match self.written().get(&row.column.id.0) {
            Some(written) if written.says_the_same(row) => Ok(()),
            Some(_) => Err(row.refused("it is not as it was just written: a trigger changes it")),
            None => row.judge(&self.secrets),
        }
    }

    fn written(&self) -> MutexGuard<'_, BTreeMap<u32, ColumnRow>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The terms of a column that is new: those of its group as they are, or become, now; without a group, of number 0 and with the
/// newest index keys that any column's terms mean.
fn terms_of_new(all: &[Registration], new: &NewColumn) -> (Generation, Option<Change>) {
    let columns = || all.iter().map(|past| &past.column);
    let of_group = columns().filter(|past| {
        past.equality_group.is_some()
            && past.equality_group == new.equality_group
            && past.shared_key == new.shared_key
    });
    let Some(model) = of_group.max_by_key(|past| (past.generation.number, past.id)) else {
        let newest = columns().flat_map(|past| {
            let other = past.change.as_ref().and_then(Change::other_terms);
            let other = other.map(|other| other.generation.newest_key);
            [Some(past.generation.newest_key), other]
        });
        let newest_key = newest.flatten().max().unwrap_or(0);
        let number = 0;
        return (Generation { number, newest_key }, None);
    };
    // As for all columns of the group; those of another group or key are theirs alone.
    let turns = model.change.as_ref().and_then(Change::other_terms);
    let turns = turns.is_some_and(|other| {
        new.equality
            && other.equality_group == model.equality_group
            && other.shared_key == model.shared_key
    });
    let mut change = model.change.clone().filter(|_| turns);
    if let Some(
        Change::Announced(other)
        | Change::Turning(other)
        | Change::Turned(other)
        | Change::Clearing(other),
    ) = &mut change
    {
        // The model's may be another: of another table.
        other.scope = Some(new.scope.clone());
    }
    (model.generation, change)
}

/// Describes columns anew in a change of the audit log's, and answers them; `edit` says whether it is about a column.
pub(super) async fn redescribe(
    change: &mut crate::audit::Change,
    mut edit: impl FnMut(&mut RegisteredColumn) -> bool,
) -> Result<Vec<ColumnId>, KeystoreError> {
    let found = change.query(rows::ALL, &[]).await?;
    let mut described = Vec::new();
    for row in &found {
        let mut row = ColumnRow::of(row)?;
        row.judge(change.secrets())?;
        if edit(&mut row.column) {
            row.revision = row.revision.wrapping_add(1);
            described.push(row);
        }
    }
    let ids: Vec<ColumnId> = described.iter().map(|row| row.column.id).collect();
    let names = names_of(&ids);
    let mut left = described.iter();
    for (at, part) in bounded_names(&names).into_iter().enumerate() {
        let seq = bigint_of(change.record_seq(at))?;
        for row in left.by_ref().take(part.len()) {
            row.put(change.client()).await?;
            row.put_mac(change.client(), seq, change.secrets()).await?;
        }
        change.query(NOTE, &[&part, &seq]).await?;
    }
    Ok(ids)
}

/// A column as it is described from now on, if it is described as `before` until now. What names it, and where it is, stays.
pub(super) fn described(
    was: &RegisteredColumn,
    before: &RegisteredColumn,
    now: &RegisteredColumn,
) -> Option<RegisteredColumn> {
    let is_it = was.id == before.id
        && was.change == before.change
        && was.equality == before.equality
        && was.logical_type == before.logical_type;
    if !is_it {
        return None;
    }
    let searched =
        was.searched || was.equality || now.equality || now.change == Some(Change::AddingTerms);
    Some(RegisteredColumn {
        id: was.id,
        schema: was.schema.clone(),
        table: was.table.clone(),
        column: was.column.clone(),
        place: was.place,
        shown: was.shown.clone(),
        searched,
        ..now.clone()
    })
}

/// The records of [`redescribe`], which must be the first that are written with the change: one, or as many as it takes to name
/// all columns.
pub(super) fn redescribed(event: &Event, ids: &[ColumnId]) -> Vec<Event> {
    let names = names_of(ids);
    let parts = bounded_names(&names);
    if parts.is_empty() {
        return vec![event.clone()];
    }
    let named = parts.into_iter();
    named
        .map(|part| event.clone().changes_rows(TABLE, part))
        .collect()
}

fn names_of(ids: &[ColumnId]) -> Vec<String> {
    ids.iter().map(|id| id.0.to_string()).collect()
}

impl Keystore {
    /// The registry, to be read or changed on a connection of one's own.
    pub async fn registry(&self) -> Result<Registry, KeystoreError> {
        Registry::open(self.log()).await
    }

    /// Rows of `pgveil.columns` that pgveil does not use, because it did not write them, or not last.
    pub(super) async fn refused_columns(&self) -> Result<Vec<KeystoreError>, KeystoreError> {
        let secrets = self.log().secrets().await?;
        let mut refused = Vec::new();
        for row in &self.query(rows::ALL, &[]).await? {
            refused.extend(ColumnRow::of(row)?.judge(&secrets).err());
        }
        let gone = self.query(GONE, &[]).await?;
        let gone: Option<&str> = gone.first().map_or(Ok(None), |row| row.try_get(0))?;
        refused.extend(gone.map(|id| damaged(&format!("the row of column {id} is gone"))));
        Ok(refused)
    }
}
