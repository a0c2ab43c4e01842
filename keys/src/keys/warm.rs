//! Keys that will be needed in a moment, had together, and the providers asked side by side.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt, stream};
use pgveil_config::ScopePath;
use tokio::task::JoinSet;

use super::Keys;
use crate::DekId;

/// DEKs loaded in one go, and keys that are asked for side by side.
pub const MAX_WARMED: usize = 64;

/// A key of a scope, which may have to be made first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// [`Keys::sealing_key`].
    Sealing(ScopePath),
    /// [`Keys::index_key`].
    Index(ScopePath, u64),
}

impl Keys {
    /// Loads those of these DEKs that are not in memory, [`MAX_WARMED`] at the most. Whoever needs one meanwhile gets the load
    /// that is under way. What fails is found out by who needs it.
    pub async fn warm(self: Arc<Self>, wanted: Vec<DekId>) {
        let mut ids = wanted;
        ids.retain(|id| self.opening.get(id).is_none());
        ids.truncate(MAX_WARMED);
        let ids: Vec<u64> = ids.iter().map(|id| id.0).collect();
        let records = match self.table.data_keys(&ids).await {
            Ok(records) => records,
            Err(error) => {
                tracing::debug!(%error, "keys that rows name could not be loaded ahead");
                return;
            }
        };
        let mut loads = JoinSet::new();
        for record in records {
            let keys = Arc::clone(&self);
            loads.spawn(async move {
                let id = DekId(record.id);
                let load = || async { keys.open_record(&record).await };
                let stale = |key: &crate::DataKey| keys.stale(key.scope());
                // Its answer is for those who wait for this very key.
                let _ = keys.opening.get_or_load(&id, load, stale).await;
            });
        }
        while loads.join_next().await.is_some() {}
    }

    /// Loads or makes those of these keys that are not in memory, until one fails: who needs that one finds out why.
    pub async fn ready(&self, wanted: HashSet<Wanted>) {
        let asked = wanted.into_iter().filter(|wanted| !self.has(wanted));
        let asked = asked.map(|wanted| async move {
            match wanted {
                Wanted::Sealing(scope) => self.sealing_key(&scope).await.is_ok(),
                Wanted::Index(scope, newest) => self.index_key(&scope, newest).await.is_ok(),
            }
        });
        let mut had = stream::iter(asked).buffer_unordered(MAX_WARMED);
        while had.next().await == Some(true) {}
    }

    /// Whether it is in memory.
    pub fn has(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Sealing(scope) => self.cached_sealing_key(scope).is_some(),
            Wanted::Index(scope, newest) => self.cached_index_key(scope, *newest).is_some(),
        }
    }
}
