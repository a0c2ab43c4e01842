//! Wrapped keys brought to the KEK that their scope has now, or to the present version of the KEK that they have. What they
//! sealed is not touched, and no key is ever without a row that opens: the new wrapping takes the old one's place only after
//! it was seen to open.

pub mod elsewhere;
pub mod loss;

use std::{collections::HashSet, sync::Arc};

use pgveil_config::ScopePath;
use tokio::task::JoinSet;

use crate::{
    DekId, KeyError, Keys, Keystore, Purpose, Scopes,
    audit::root::Move,
    keystore::{KeyRecord, KeyState, KeyTable, KeystoreError, Rewrapped},
    scopes::KekRef,
};

/// Keys stored, and recorded, in one transaction.
const BATCH: usize = 500;
/// Keys that providers are asked for side by side.
const AT_ONCE: usize = 16;

/// A move of keys.
#[derive(Debug)]
pub struct Rewrap<'a> {
    keys: &'a Arc<Keys>,
    table: &'a dyn KeyTable,
    aim: Aim<'a>,
    /// Keys that stay where they are.
    left: HashSet<u64>,
}

/// Which keys are moved, and where to.
#[derive(Debug)]
enum Aim<'a> {
    /// The keys of a scope, and of those below it, to the KEKs that the settings give them.
    Settings { scopes: Scopes, under: ScopePath },
    /// The keys of a KEK whose rows were written with this record of the audit log or an earlier one, to its present version.
    Version {
        kek: KekRef,
        record: u64,
        /// Which says whether this process still has the right to.
        keystore: &'a Keystore,
    },
}

/// What becomes of keys that were wrapped anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Nothing: it was to be seen whether they can be.
    Try,
    /// They are stored.
    Store,
}

/// Why a key was not moved.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// The KEK itself.
    #[error("key \"{}\" of provider \"{}\" cannot be used: {source}", kek.kek, kek.provider)]
    Kek {
        /// Which.
        kek: KekRef,
        /// What it or its provider said.
        source: KeyError,
    },
    /// A key that is to be moved.
    #[error("key {id} of {scope} cannot be wrapped anew: {source}")]
    Key {
        /// Its id in the keystore.
        id: u64,
        /// Its scope.
        scope: String,
        /// What was said.
        source: KeyError,
    },
    /// Another process does it, or this one ends.
    #[error("it was stopped, or another process has taken over")]
    Stopped,
    /// The keystore.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
}

impl RewrapError {
    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Kek { source, .. } | Self::Key { source, .. } => source.cure(),
            Self::Stopped => "see `pgveil keks list`",
            Self::Keystore(error) => error.cure(),
        }
    }
}

impl<'a> Rewrap<'a> {
    /// `scopes` are the settings that will hold.
    pub fn new(
        keys: &'a Arc<Keys>,
        table: &'a dyn KeyTable,
        scopes: Scopes,
        under: ScopePath,
    ) -> Self {
        Self::to(Aim::Settings { scopes, under }, keys, table)
    }

    /// The keys under a KEK whose rows are not newer than a record of the audit log.
    pub(crate) fn to_version(
        keys: &'a Arc<Keys>,
        keystore: &'a Keystore,
        kek: KekRef,
        record: u64,
    ) -> Self {
        let aim = Aim::Version {
            kek,
            record,
            keystore,
        };
        Self::to(aim, keys, keystore)
    }

    fn to(aim: Aim<'a>, keys: &'a Arc<Keys>, table: &'a dyn KeyTable) -> Self {
        let left = HashSet::new();
        Self {
            keys,
            table,
            aim,
            left,
        }
    }

    /// Whether the KEK wraps and unwraps.
    pub async fn probe(&self) -> Result<(), RewrapError> {
        let platform = ScopePath::platform();
        let (scope, kek) = match &self.aim {
            Aim::Settings { scopes, under } => (under, scopes.kek(under)),
            Aim::Version { kek, .. } => (&platform, kek.clone()),
        };
        let probed = self.keys.probe(scope, &kek).await;
        probed.map_err(|source| RewrapError::Kek { kek, source })
    }

    /// Does everything but storing: what passes can be moved.
    pub async fn check(&self) -> Result<(), RewrapError> {
        self.each(Act::Try).await?;
        self.audit_key(Move::Try).await.map(drop)
    }

    /// Gives the scopes whose active data keys are to be moved their next ones, under the KEK that they have now: what the former
    /// one unwraps, out of a backup too, seals nothing more. `horizon` is an id from before. Done before [`Rewrap::run`], after which
    /// nobody knows any more which they were; run again after a failure, it goes on. Answers how many.
    ///
    /// # Errors
    /// If one cannot be made.
    pub async fn renew(&self, horizon: u64) -> Result<u64, RewrapError> {
        let mut due = HashSet::new();
        let mut after = 0;
        loop {
            let page = self.table.records(after).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let active = page.iter().filter(|record| {
                let is_active = record.state == KeyState::Active;
                is_active && record.purpose == Purpose::Data && self.target(record).is_some()
            });
            due.extend(active.filter_map(|record| ScopePath::parse(&record.scope).ok()));
        }
        if due.is_empty() {
            return Ok(0);
        }
        let is_due = |scope: &ScopePath| due.contains(scope);
        self.keys.replace_before(DekId(horizon), is_due).await
    }

    /// Moves the keys, and answers how many were moved. Run again after a failure, it goes on where it stopped.
    pub async fn run(&self) -> Result<u64, RewrapError> {
        let moved = self.each(Act::Store).await?;
        let how = match self.aim {
            Aim::Settings { .. } => Move::Other,
            Aim::Version { .. } => Move::Anew,
        };
        Ok(moved + u64::from(self.audit_key(how).await?))
    }

    async fn act(&self, act: Act, moved: &[Rewrapped]) -> Result<u64, RewrapError> {
        if act == Act::Try || moved.is_empty() {
            return Ok(0);
        }
        if let Aim::Version { kek, keystore, .. } = &self.aim
            && !keystore.renew_claim(kek).await?
        {
            return Err(RewrapError::Stopped);
        }
        Ok(self.table.rewrapped(moved).await?)
    }

    /// The audit log's key stands under the platform's KEK too. Moved last: it records the others.
    async fn audit_key(&self, how: Move) -> Result<bool, RewrapError> {
        let Some(log) = self.table.log() else {
            return Ok(false);
        };
        let platform = ScopePath::platform();
        match &self.aim {
            Aim::Settings { scopes, under } if *under == platform => {
                Ok(log.rewrap_root(&scopes.kek(&platform), how).await?)
            }
            Aim::Version { kek, .. } if log.root_kek().await?.as_ref() == Some(kek) => {
                Ok(log.rewrap_root(kek, how).await?)
            }
            _ => Ok(false),
        }
    }

    /// Every key that is to be moved, wrapped anew; what was wrapped before a failure is acted on.
    async fn each(&self, act: Act) -> Result<u64, RewrapError> {
        let (mut after, mut sum) = (0, 0);
        loop {
            let page = self.table.records(after).await?;
            let Some(last) = page.last() else {
                return Ok(sum);
            };
            after = last.id;
            let moved = page
                .into_iter()
                .filter_map(|record| self.target(&record).map(|kek| (record, kek)));
            let mut moved = moved.collect::<Vec<_>>().into_iter();
            loop {
                let batch: Vec<_> = moved.by_ref().take(BATCH).collect();
                if batch.is_empty() {
                    break;
                }
                let (done, failed) = self.wrapped(batch).await;
                sum += self.act(act, &done).await?;
                if let Some(error) = failed {
                    return Err(error);
                }
            }
        }
    }

    /// Keys wrapped anew, some side by side. After a failure no other is begun.
    async fn wrapped(
        &self,
        batch: Vec<(KeyRecord, KekRef)>,
    ) -> (Vec<Rewrapped>, Option<RewrapError>) {
        let mut batch = batch.into_iter();
        let mut under_way = JoinSet::new();
        let (mut done, mut failed) = (Vec::new(), None);
        loop {
            while under_way.len() < AT_ONCE && failed.is_none() {
                let Some((was, kek)) = batch.next() else {
                    break;
                };
                let keys = Arc::clone(self.keys);
                under_way.spawn(async move {
                    let wrapped = keys.rewrapped(&was, &kek).await;
                    (was, kek, wrapped)
                });
            }
            match under_way.join_next().await {
                None => return (done, failed),
                Some(Ok((was, kek, Ok(wrapped)))) => done.push(Rewrapped { was, kek, wrapped }),
                Some(Ok((was, _, Err(source)))) => {
                    failed.get_or_insert(RewrapError::Key {
                        id: was.id,
                        scope: was.scope,
                        source,
                    });
                }
                Some(Err(_)) => {
                    failed.get_or_insert(RewrapError::Stopped);
                }
            }
        }
    }

    /// The KEK that a key is to be wrapped by, if it is to be.
    fn target(&self, record: &KeyRecord) -> Option<KekRef> {
        if record.state == KeyState::Destroyed || self.left.contains(&record.id) {
            return None;
        }
        match &self.aim {
            Aim::Settings { scopes, under } => {
                let scope = ScopePath::parse(&record.scope).ok()?;
                if !scope.chain().contains(under) {
                    return None;
                }
                let kek = scopes.kek(&scope);
                (record.provider != kek.provider || record.kek != kek.kek).then_some(kek)
            }
            Aim::Version {
                kek, record: upto, ..
            } => {
                let is_under = record.provider == kek.provider && record.kek == kek.kek;
                (is_under && record.record <= *upto).then(|| kek.clone())
            }
        }
    }
}
