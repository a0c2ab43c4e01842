//! Providers: does each open as it is configured. No key is made and no KEK is used.

use std::sync::Arc;

use pgveil_config::Settings;
use pgveil_keys::Keystore;
use pgveil_providers::local::{KekStore, MemoryKekStore};

use super::CheckReport;

/// Opens the providers against the keystore; where there is none yet, by themselves, so that a root key file which
/// cannot be used is found all the same.
pub(super) async fn check(settings: &Settings, report: &mut CheckReport) {
    let keks: Arc<dyn KekStore> = match Keystore::connect(settings).await {
        Ok(keystore) => Arc::new(keystore),
        Err(_) => Arc::new(MemoryKekStore::default()),
    };
    if let Err(error) = pgveil_providers::build(settings, &keks).await {
        report.error(error.diagnostic());
    }
}
