//! The first keys of scopes: each stored with its record, and those that come while others are being stored together in one
//! transaction. What takes the place of a key that a scope has is not here.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{
    Keystore, KeystoreError, NewKey,
    records::made,
    rows::{Fresh, KeyRow, us},
    words::{self, words_of, words_of_chain},
};
use crate::{
    audit::{Change, Operation, Record},
    keys::STORED_AT_ONCE,
};

/// Of each scope, what [`words::is_sealed`] reads. Asked while nobody else changes anything: whoever seals a scope holds the end
/// of the audit log too.
const ARE_SEALED: &str = concat!(
    "SELECT ",
    words_of_chain!("o.scope"),
    " FROM unnest($1::text[]) WITH ORDINALITY o (scope, n) ORDER BY n"
);
/// The newest key of each scope and purpose.
const NEWEST: &str = "SELECT o.n, k.id FROM unnest($1::text[], $2::text[]) WITH ORDINALITY o (scope, purpose, n) \
    CROSS JOIN LATERAL (SELECT id FROM pgveil.keys k WHERE k.scope = o.scope AND k.purpose = o.purpose \
    ORDER BY epoch DESC LIMIT 1) k";
/// Keys that were made for each scope, the last first.
const MADE: &str = "SELECT o.n, a.record FROM unnest($1::text[]) WITH ORDINALITY o (scope, n) \
    CROSS JOIN LATERAL (SELECT seq, record FROM pgveil.audit WHERE scope = o.scope \
    AND operation IN ('dek.create', 'dek.rotate') AND outcome = 'done' ORDER BY seq DESC LIMIT 1000) a ORDER BY o.n, a.seq DESC";

/// What became of one key.
type Told = Result<(), KeystoreError>;

/// Keys that wait to be stored.
#[derive(Debug, Default)]
pub(super) struct Offers {
    waiting: Mutex<VecDeque<Offer>>,
    /// Held by the one that stores.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Offer {
    key: NewKey,
    told: oneshot::Sender<Told>,
}

impl Offers {
    fn next(&self) -> Vec<Offer> {
        let mut waiting = self.waiting();
        let count = waiting.len().min(STORED_AT_ONCE);
        waiting.drain(..count).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Offer>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keystore {
    /// [`super::KeyTable::offer`]: whose turn it is stores for all who came while the last ones were being stored.
    pub(super) async fn store_offered(&self, key: &NewKey) -> Told {
        let (told, mut answer) = oneshot::channel();
        let key = key.clone();
        self.offers.waiting().push_back(Offer {
            key: key.clone(),
            told,
        });
        loop {
            let _turn = self.offers.turn.lock().await;
            match answer.try_recv() {
                Ok(answer) => return answer,
                // Whose turn it was gave up in the middle of it.
                Err(TryRecvError::Closed) => return self.store_alone(&key).await,
                Err(TryRecvError::Empty) => self.store(self.offers.next()).await,
            }
        }
    }

    async fn store(&self, offers: Vec<Offer>) {
        let (keys, told): (Vec<NewKey>, Vec<_>) = { offers.into_iter() }
            .map(|offer| (offer.key, offer.told))
            .unzip();
        let answers = match self.store_together(&keys).await {
            Ok(answers) => answers,
            // One of them is in the way of the others.
            Err(KeystoreError::Refused { .. } | KeystoreError::Damaged { .. })
                if keys.len() > 1 =>
            {
                let mut answers = Vec::with_capacity(keys.len());
                for key in &keys {
                    answers.push(self.store_alone(key).await);
                }
                answers
            }
            Err(error) => vec![Err(error); keys.len()],
        };
        for (told, answer) in told.into_iter().zip(answers) {
            // Who gave up waiting does not listen.
            let _ = told.send(answer);
        }
    }

    async fn store_alone(&self, key: &NewKey) -> Told {
        let mut answers = self.store_together(std::slice::from_ref(key)).await?;
        answers.pop().unwrap_or(Ok(()))
    }

    /// Once more where the connection was lost.
    async fn store_together(&self, keys: &[NewKey]) -> Result<Vec<Told>, KeystoreError> {
        match self.store_once(keys).await {
            Err(KeystoreError::Unavailable { .. }) => self.store_once(keys).await,
            answers => answers,
        }
    }

    /// Each key with its record, or neither.
    async fn store_once(&self, keys: &[NewKey]) -> Result<Vec<Told>, KeystoreError> {
        let mut change = self.change().await?;
        let epochs = self.epochs(&mut change, keys).await?;
        let now_us = change.keystore_now_us().await?;
        let (mut fresh, mut events, mut offered) = (Vec::new(), Vec::new(), HashSet::new());
        for (key, epoch) in keys.iter().zip(&epochs) {
            // Of two for one scope the first is stored.
            if let Ok(Some(epoch)) = *epoch
                && offered.insert((&key.scope, key.purpose.as_str()))
            {
                fresh.push(Fresh { key, epoch, now_us });
                events.push(made(Operation::DekCreate, key, epoch).changes([key.id]));
            }
        }
        if fresh.is_empty() {
            change.rollback().await?;
        } else if change.insert_keys(&fresh).await? {
            change.commit_all(events).await?;
        } else {
            change.rollback().await?;
            if keys.len() > 1 {
                return Err(super::records::damaged(
                    "a new key finds another one in its place",
                ));
            }
        }
        Ok(epochs.into_iter().map(|epoch| epoch.map(drop)).collect())
    }

    /// The epoch that each key would have as its scope's active one; `None` where there is an active one.
    async fn epochs(
        &self,
        change: &mut Change,
        keys: &[NewKey],
    ) -> Result<Vec<Result<Option<u32>, KeystoreError>>, KeystoreError> {
        let scopes: Vec<&str> = keys.iter().map(|key| key.scope.as_str()).collect();
        let said = change.query(ARE_SEALED, &[&scopes]).await?;
        let mut newest = self.newest(change, keys).await?.into_iter();
        let mut epochs = Vec::with_capacity(keys.len());
        for (key, said) in keys.iter().zip(said) {
            let newest = newest.next().unwrap_or(Ok(None));
            let answer = said.try_get(0)?;
            let sealed = words::is_sealed(answer, change.secrets());
            let sealed =
                sealed.and_then(|sealed| self.hold_seals(&key.scope, answer).map(|()| sealed));
            epochs.push(match (sealed, newest) {
                (Err(error), _) | (_, Err(error)) => Err(error),
                (Ok(true), _) => Err(KeystoreError::ScopeSealed {
                    scope: key.scope.clone(),
                }),
                (_, Ok(Some(row))) if row.state == "active" => Ok(None),
                (_, Ok(row)) => Ok(Some(1 + row.map_or(0, |row| row.epoch))),
            });
        }
        Ok(epochs)
    }

    /// The last key that each scope was given. Where it is hidden, by another state or because it is gone, no other is made: values
    /// that were sealed for search under another index key would not be found any more.
    async fn newest(
        &self,
        change: &mut Change,
        keys: &[NewKey],
    ) -> Result<Vec<Result<Option<KeyRow>, KeystoreError>>, KeystoreError> {
        let scopes: Vec<&str> = keys.iter().map(|key| key.scope.as_str()).collect();
        let purposes: Vec<&str> = keys.iter().map(|key| key.purpose.as_str()).collect();
        let found = change.query(NEWEST, &[&scopes, &purposes]).await?;
        let mut ids = HashMap::new();
        for row in found {
            ids.insert(row.try_get::<_, i64>(0)?, row.try_get::<_, i64>(1)? as u64);
        }
        let mut rows = HashMap::new();
        let named: Vec<u64> = ids.values().copied().collect();
        for row in change.read_keys(&named).await? {
            let judged = self.told(row.judge(change.secrets()));
            rows.insert(row.id, judged.map(|()| row));
        }
        let mut last_made: HashMap<i64, u64> = HashMap::new();
        for row in change.query(MADE, &[&scopes]).await? {
            let n: i64 = row.try_get(0)?;
            let purpose = usize::try_from(n - 1).ok().and_then(|at| purposes.get(at));
            let record = Record::from_bytes(row.try_get(1)?);
            if let (Some(purpose), Some(record)) = (purpose, record)
                && record.detail_json()["purpose"] == **purpose
                && let Ok(id) = record.key.parse()
            {
                last_made.entry(n).or_insert(id);
            }
        }
        let newest = (1..).zip(keys).map(|(n, _)| {
            let id = ids.get(&n);
            let row = id.and_then(|id| rows.get(id).cloned()).transpose()?;
            match last_made.get(&n) {
                Some(made) if row.as_ref().is_none_or(|row| row.id != *made) => {
                    self.told(Err(KeystoreError::KeyRow {
                        id: *made,
                        reason: "it was the last that its scope was given, and its row is gone"
                            .to_owned(),
                    }))?;
                    Ok(None)
                }
                _ => Ok(row),
            }
        });
        Ok(newest.collect())
    }
}
