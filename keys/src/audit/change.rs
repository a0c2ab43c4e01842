//! A change of the keystore and its record, in one transaction that holds the chain's end: both are there, or neither.
//! What may be changed by whom is [`crate::step_up`]'s business.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use pgveil_config::ScopePath;
use tokio::sync::OwnedMutexGuard;
use tokio_postgres::{Row, types::ToSql};

use super::{
    Checkpoint, Event, Log, Operation, Outcome,
    chain::{Sealed, Tip, genesis},
    checkpoint::EVERY_RECORDS,
    record::{Hash, OperationId, Place, Record},
    secrets::{Secrets, same},
};
use crate::{
    keystore::{KeystoreError, Session, bigint_of},
    step_up::StepUpError,
};

/// Whoever hangs in a transaction must not keep all others from theirs.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE; \
    SET LOCAL lock_timeout = '4s'; SET LOCAL idle_in_transaction_session_timeout = '30s'";
pub(super) const HEAD: &str = "SELECT seq, link, mac FROM pgveil.audit_head FOR UPDATE";
const FIRST_HEAD: &str = "INSERT INTO pgveil.audit_head (seq, link, mac) SELECT $1, $2, $3 \
    WHERE NOT EXISTS (SELECT FROM pgveil.audit) ON CONFLICT DO NOTHING";
pub(super) const APPEND: &str = "WITH appended AS (\
    INSERT INTO pgveil.audit (seq, record, mac, operation_id, at, operation, outcome, scope, actor) \
    SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::timestamptz[], $6::text[], $7::text[], \
    $8::text[], $9::text[])) \
    UPDATE pgveil.audit_head SET seq = $10, link = $11, mac = $12";
const CHECKPOINT: &str =
    "INSERT INTO pgveil.audit_checkpoints (seq, line) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const LAST_CHECKPOINT: &str = "SELECT coalesce(max(seq), 0) FROM pgveil.audit_checkpoints";
const IS_THERE: &str = "SELECT FROM pgveil.audit WHERE operation_id = $1";

/// How long one statement may take.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(5);

/// An open transaction. Dropped, nothing was done.
pub struct Change {
    log: Arc<Log>,
    secrets: Arc<Secrets>,
    session: Arc<Session>,
    /// `None` once it has ended.
    turn: Option<OwnedMutexGuard<Option<Tip>>>,
    tip: Tip,
    pub(crate) id: OperationId,
    permit: Permit,
    began: Instant,
}

/// By what right something is done that needs step-up.
#[derive(Debug)]
pub(crate) enum Permit {
    /// None.
    None,
    /// A token that was used up here.
    Token(Operation, String),
    /// pgveil does it by itself: an epoch has ended, a key's time has come.
    Automatic,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change")
            .field("after", &self.tip.seq)
            .finish_non_exhaustive()
    }
}

impl Change {
    pub(super) async fn begin(log: &Arc<Log>) -> Result<Self, KeystoreError> {
        log.stands()?;
        let secrets = log.secrets().await?;
        let turn = Arc::clone(&log.turn).lock_owned().await;
        let session = log.connection.session().await?;
        let mut change = Self {
            log: Arc::clone(log),
            secrets,
            session,
            turn: Some(turn),
            tip: Tip {
                seq: 0,
                link: [0; 32],
            },
            id: new_id()?,
            permit: Permit::None,
            began: log.clock.now(),
        };
        change.batch(BEGIN).await?;
        change.tip = change.head().await?;
        Ok(change)
    }

    /// Runs a statement in the transaction.
    pub async fn query(
        &mut self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, KeystoreError> {
        let answer = tokio::time::timeout(STATEMENT_LIMIT, self.session.query(sql, params)).await;
        self.judged(answer.map_err(|_| no_answer()).and_then(|rows| Ok(rows?)))
            .await
    }

    /// Declares that nobody asked for this: a period has ended, a time has come. It needs no step-up, and its record names
    /// this process.
    pub fn automatic(&mut self) {
        self.permit = Permit::Automatic;
    }

    /// The number that the `n`th of the events gets with which this is committed.
    pub(crate) fn record_seq(&self, n: usize) -> u64 {
        self.tip.seq + 1 + n as u64
    }

    /// Now, in microseconds since 1970.
    pub fn now_us(&self) -> u64 {
        self.log.clock.unix_us()
    }

    pub(crate) fn permit(&mut self, operation: Operation, scope: &ScopePath, id: OperationId) {
        self.permit = Permit::Token(operation, scope.as_str().to_owned());
        self.id = id;
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The connection that the transaction is on. An error on it ends the change: it is to be dropped.
    pub(crate) fn client(&self) -> &tokio_postgres::Client {
        self.session.client()
    }

    /// Records it and commits.
    pub async fn commit(self, event: Event) -> Result<(), KeystoreError> {
        self.commit_all(vec![event]).await
    }

    /// Records several events, in this order, and commits.
    pub async fn commit_all(mut self, events: Vec<Event>) -> Result<(), KeystoreError> {
        if let Some(event) = events.iter().find(|event| !self.allows(event)) {
            return Err(StepUpError::Needed {
                operation: event.operation,
            }
            .into());
        }
        self.append(events).await?;
        match self.batch("COMMIT").await {
            Ok(()) => {
                self.ended(Some(self.tip));
                Ok(())
            }
            // Nobody knows whether it was done. Whoever holds the end of the chain does.
            Err(KeystoreError::Unavailable { reason }) => {
                let (log, id) = (Arc::clone(&self.log), self.id);
                drop(self);
                if was_committed(&log, id).await? {
                    Ok(())
                } else {
                    Err(KeystoreError::Unavailable { reason })
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Ends it with nothing but the row that every log ends with.
    pub(super) async fn begin_log(mut self) -> Result<(), KeystoreError> {
        self.batch("COMMIT").await?;
        self.ended(Some(self.tip));
        Ok(())
    }

    /// Ends it without having done anything.
    pub async fn rollback(mut self) -> Result<(), KeystoreError> {
        self.batch("ROLLBACK").await?;
        self.ended(None);
        Ok(())
    }

    /// Signs the end of the log, if it has grown since the last time.
    async fn checkpoint(&mut self) -> Result<(), KeystoreError> {
        let rows = self.query(LAST_CHECKPOINT, &[]).await?;
        let after: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        let after = u64::try_from(after).map_err(|_| damaged("a negative number"))?;
        if after >= self.tip.seq {
            return Ok(());
        }
        let line = Checkpoint::sign(&self.secrets, self.tip, after, self.log.clock.unix_us());
        self.query(CHECKPOINT, &[&bigint_of(self.tip.seq)?, &line])
            .await?;
        Ok(())
    }

    /// [`Change::checkpoint`], which needs no record.
    pub(super) async fn commit_checkpoint(mut self) -> Result<(), KeystoreError> {
        self.checkpoint().await?;
        self.batch("COMMIT").await?;
        self.ended(Some(self.tip));
        Ok(())
    }

    fn allows(&self, event: &Event) -> bool {
        // What was refused or went wrong may be told by anybody.
        if !event.operation.needs_step_up() || event.outcome != Outcome::Done {
            return true;
        }
        match &self.permit {
            Permit::None => false,
            Permit::Token(operation, scope) => {
                *operation == event.operation && *scope == event.scope
            }
            Permit::Automatic => true,
        }
    }

    async fn append(&mut self, events: Vec<Event>) -> Result<(), KeystoreError> {
        let before = self.tip.seq;
        let rows = Rows::behind(
            &mut self.tip,
            events,
            &Writer {
                log: &self.log,
                secrets: &self.secrets,
                first_id: self.id,
                began: self.began,
            },
        )?;
        self.query(APPEND, &rows.params()).await?;
        if self.tip.seq / EVERY_RECORDS > before / EVERY_RECORDS {
            self.checkpoint().await?;
        }
        Ok(())
    }

    /// Locks the end of the chain and looks at it: it is ours, and not behind what this process has seen.
    async fn head(&mut self) -> Result<Tip, KeystoreError> {
        let mut rows = self.query(HEAD, &[]).await?;
        if rows.is_empty() {
            let link = genesis(self.secrets.id, self.secrets.public_key());
            let mac = self.secrets.mac_tip(&Tip { seq: 0, link });
            let (link, mac): (&[u8], &[u8]) = (&link, &mac);
            self.query(FIRST_HEAD, &[&0_i64, &link, &mac]).await?;
            rows = self.query(HEAD, &[]).await?;
        }
        let row = rows.first().ok_or_else(|| damaged("the end is gone"))?;
        let seen = self.turn.as_ref().and_then(|turn| **turn);
        judged_head(row, &self.secrets, seen)
    }

    async fn batch(&mut self, sql: &str) -> Result<(), KeystoreError> {
        let answer = tokio::time::timeout(STATEMENT_LIMIT, self.session.batch(sql)).await;
        self.judged(answer.map_err(|_| no_answer()).and_then(|done| Ok(done?)))
            .await
    }

    /// Gives up on a connection that is gone, and with it on the transaction.
    async fn judged<T>(&mut self, answer: Result<T, KeystoreError>) -> Result<T, KeystoreError> {
        if matches!(answer, Err(KeystoreError::Unavailable { .. })) {
            self.log.connection.lost(&self.session).await;
            self.ended(None);
        }
        answer
    }

    /// Lets the next one have its turn.
    fn ended(&mut self, tip: Option<Tip>) {
        if let (Some(mut turn), Some(tip)) = (self.turn.take(), tip) {
            *turn = Some(tip);
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else {
            return;
        };
        let (log, session) = (Arc::clone(&self.log), Arc::clone(&self.session));
        // Outside a runtime the connection has no driver any more, and the server has rolled back.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let undone = tokio::time::timeout(STATEMENT_LIMIT, session.batch("ROLLBACK")).await;
                if !matches!(undone, Ok(Ok(()))) {
                    log.connection.lost(&session).await;
                }
                drop(turn);
            });
        }
    }
}

/// The end of the chain as its row has it, if it is ours, and not behind what this process has seen.
pub(crate) fn judged_head(
    row: &Row,
    secrets: &Secrets,
    seen: Option<Tip>,
) -> Result<Tip, KeystoreError> {
    let (seq, link, mac): (i64, &[u8], &[u8]) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let tip = Tip {
        seq: u64::try_from(seq).map_err(|_| damaged("a negative number"))?,
        link: link
            .try_into()
            .map_err(|_| damaged("a link of another length"))?,
    };
    if !same(&secrets.mac_tip(&tip), mac) {
        return Err(damaged("the end was changed by somebody else than pgveil"));
    }
    match seen {
        Some(seen) if tip.seq < seen.seq || (tip.seq == seen.seq && tip.link != seen.link) => {
            Err(damaged("records that this process has seen are gone"))
        }
        _ => Ok(tip),
    }
}

/// Whether an operation is in the log. Asked by whoever holds the end of the chain, so that no transaction is under way.
async fn was_committed(log: &Arc<Log>, id: OperationId) -> Result<bool, KeystoreError> {
    let mut change = log.change().await?;
    let id: &[u8] = &id;
    let found = !change.query(IS_THERE, &[&id]).await?.is_empty();
    change.rollback().await?;
    Ok(found)
}

/// Who writes records, and since when.
pub(super) struct Writer<'a> {
    pub(super) log: &'a Log,
    pub(super) secrets: &'a Secrets,
    /// The id of the first of them.
    pub(super) first_id: OperationId,
    pub(super) began: Instant,
}

/// Records as columns, and the end of the chain behind them.
#[derive(Default)]
pub(super) struct Rows {
    seqs: Vec<i64>,
    records: Vec<Vec<u8>>,
    macs: Vec<Vec<u8>>,
    ids: Vec<Vec<u8>>,
    times: Vec<SystemTime>,
    operations: Vec<String>,
    outcomes: Vec<String>,
    scopes: Vec<String>,
    actors: Vec<String>,
    end: (i64, Vec<u8>, Vec<u8>),
}

impl Rows {
    /// Puts events behind the tip.
    pub(super) fn behind(
        tip: &mut Tip,
        events: Vec<Event>,
        writer: &Writer<'_>,
    ) -> Result<Self, KeystoreError> {
        let (log, secrets) = (writer.log, writer.secrets);
        let mut rows = Self::default();
        let latency = log.clock.now().saturating_duration_since(writer.began);
        let at_us = log.clock.unix_us();
        for (n, event) in events.into_iter().enumerate() {
            let id = if n == 0 { writer.first_id } else { new_id()? };
            let place = Place {
                seq: tip.seq + 1,
                previous: tip.link,
                audit_key: secrets.id,
                id,
                at_us,
                latency_us: latency.as_micros() as u64,
                instance: &log.instance,
            };
            let record = Record::new(&event.settled(), place);
            let Sealed { bytes, mac } = tip.append(&record, secrets);
            rows.push(record, bytes, mac)?;
        }
        let mac = secrets.mac_tip(tip);
        rows.end = (bigint_of(tip.seq)?, tip.link.to_vec(), mac.to_vec());
        Ok(rows)
    }

    /// Of [`APPEND`].
    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 12] {
        [
            &self.seqs,
            &self.records,
            &self.macs,
            &self.ids,
            &self.times,
            &self.operations,
            &self.outcomes,
            &self.scopes,
            &self.actors,
            &self.end.0,
            &self.end.1,
            &self.end.2,
        ]
    }

    fn push(&mut self, record: Record, bytes: Vec<u8>, mac: Hash) -> Result<(), KeystoreError> {
        self.seqs.push(bigint_of(record.seq)?);
        self.records.push(bytes);
        self.macs.push(mac.to_vec());
        self.ids.push(record.id.to_vec());
        self.times
            .push(SystemTime::UNIX_EPOCH + Duration::from_micros(record.at_us));
        self.operations.push(record.operation);
        self.outcomes.push(record.outcome);
        self.scopes.push(record.scope);
        self.actors.push(record.actor);
        Ok(())
    }
}

pub(super) fn new_id() -> Result<OperationId, KeystoreError> {
    let mut id = OperationId::default();
    getrandom::fill(&mut id).map_err(|error| KeystoreError::Unaudited {
        reason: format!("no random bytes: {error}"),
    })?;
    Ok(id)
}

pub(super) fn no_answer() -> KeystoreError {
    KeystoreError::Unavailable {
        reason: "no answer in time".to_owned(),
    }
}

pub(super) fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.audit_head",
        reason: reason.to_owned(),
    }
}
