//! Wrapped keys brought to the KEK that their scope has now. What they sealed is not touched, and no key is ever without a
//! row that opens: the new wrapping takes the old one's place only after it was seen to open.

use pgveil_config::ScopePath;

use crate::{
    KeyError, Keys, Scopes,
    keystore::{KeyRecord, KeyState, KeyTable, KeystoreError, Rewrapped},
    scopes::KekRef,
};

/// Keys stored, and recorded, in one transaction.
const BATCH: usize = 100;

/// The move of the keys of a scope, and of those below it, to the KEKs that `scopes` gives them.
#[derive(Debug)]
pub struct Rewrap<'a> {
    keys: &'a Keys,
    table: &'a dyn KeyTable,
    scopes: Scopes,
    under: ScopePath,
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
    /// The keystore.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
}

impl RewrapError {
    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Kek { source, .. } | Self::Key { source, .. } => source.cure(),
            Self::Keystore(error) => error.cure(),
        }
    }
}

impl<'a> Rewrap<'a> {
    /// `scopes` are the settings that will hold.
    pub fn new(keys: &'a Keys, table: &'a dyn KeyTable, scopes: Scopes, under: ScopePath) -> Self {
        Self {
            keys,
            table,
            scopes,
            under,
        }
    }

    /// Whether the scope's KEK wraps and unwraps.
    pub async fn probe(&self) -> Result<(), RewrapError> {
        let kek = self.scopes.kek(&self.under);
        let probed = self.keys.probe(&self.under, &kek).await;
        probed.map_err(|source| RewrapError::Kek { kek, source })
    }

    /// Does everything but storing: what passes can be moved.
    pub async fn check(&self) -> Result<(), RewrapError> {
        self.each(async |_| Ok(0)).await?;
        self.audit_key(false).await.map(drop)
    }

    /// Moves the keys, and answers how many were moved. Run again after a failure, it goes on where it stopped.
    pub async fn run(&self) -> Result<u64, RewrapError> {
        let moved = self
            .each(async |moved| Ok(self.table.rewrapped(moved).await?))
            .await?;
        Ok(moved + u64::from(self.audit_key(true).await?))
    }

    /// The audit log's key stands under the platform's KEK too. Moved last: it records the others.
    async fn audit_key(&self, stores: bool) -> Result<bool, RewrapError> {
        let platform = ScopePath::platform();
        match self.table.log() {
            Some(log) if self.under == platform => {
                let kek = self.scopes.kek(&platform);
                Ok(log.rewrap_root(&kek, stores).await?)
            }
            _ => Ok(false),
        }
    }

    /// Every key that stands under another KEK than its scope has, wrapped by the one that it should have.
    async fn each(
        &self,
        act: impl AsyncFn(&[Rewrapped]) -> Result<u64, RewrapError>,
    ) -> Result<u64, RewrapError> {
        let (mut after, mut sum) = (0, 0);
        loop {
            let page = self.table.records(after).await?;
            let Some(last) = page.last() else {
                return Ok(sum);
            };
            after = last.id;
            let mut batch = Vec::with_capacity(BATCH);
            for record in page {
                let Some(kek) = self.target(&record) else {
                    continue;
                };
                let wrapped = self.keys.rewrapped(&record, &kek).await;
                let wrapped = wrapped.map_err(|source| RewrapError::Key {
                    id: record.id,
                    scope: record.scope.clone(),
                    source,
                })?;
                batch.push(Rewrapped {
                    was: record,
                    kek,
                    wrapped,
                });
                if batch.len() == BATCH {
                    sum += act(&batch).await?;
                    batch.clear();
                }
            }
            if !batch.is_empty() {
                sum += act(&batch).await?;
            }
        }
    }

    /// The KEK that a key should stand under, if it is another one than it does.
    fn target(&self, record: &KeyRecord) -> Option<KekRef> {
        let scope = ScopePath::parse(&record.scope).ok()?;
        if record.state == KeyState::Destroyed || !scope.chain().contains(&self.under) {
            return None;
        }
        let kek = self.scopes.kek(&scope);
        (record.provider != kek.provider || record.kek != kek.kek).then_some(kek)
    }
}
