//! DEKs that will be needed in a moment, loaded together: one question to the keystore, and the providers asked side by side.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Keys;
use crate::DekId;

/// DEKs loaded in one go.
pub const MAX_WARMED: usize = 64;

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
}
