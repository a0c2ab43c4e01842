//! Providers: does each open as it is configured, and does every KEK wrap and unwrap. No key is made.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use pgveil_config::{Diagnostic, ScopePath, Settings};
use pgveil_keys::{Keystore, Scopes, keystore::KeystoreError, scopes::KekRef};
use pgveil_providers::{
    Probe, ProviderError, Providers,
    local::{KekStore, MemoryKekStore},
    probe,
};

use super::CheckReport;

/// Probes at the same time.
const MAX_AT_ONCE: usize = 8;
/// A round trip that takes longer is worth a word: whoever needs a key that is not in memory waits for half of it.
const SLOW: Duration = Duration::from_secs(1);

/// Opens the providers against the keystore; where there is none yet, by themselves, so that a root key file which
/// cannot be used is found all the same. Then asks them.
pub(super) async fn check(settings: &Settings, report: &mut CheckReport) {
    let keystore = Keystore::connect(settings).await.ok().map(Arc::new);
    let keks: Arc<dyn KekStore> = match &keystore {
        Some(keystore) => Arc::clone(keystore) as _,
        None => Arc::new(MemoryKekStore::default()),
    };
    match pgveil_providers::build(settings, &keks).await {
        Ok(providers) => {
            probe_all(settings, &providers, report).await;
            if let Some(keystore) = keystore {
                judge_rows(settings, &keystore, &providers, report).await;
            }
        }
        Err(error) => report.error(error.diagnostic()),
    }
}

/// Whether every row of keys is one that pgveil wrote. A keystore without any is not asked: it may have no audit log yet.
async fn judge_rows(
    settings: &Settings,
    keystore: &Keystore,
    providers: &Providers,
    report: &mut CheckReport,
) {
    let platform = Scopes::new(settings).kek(&ScopePath::platform());
    keystore.log().use_providers(providers, &platform);
    let judged = match keystore.has_rows().await {
        Ok(false) => return,
        Ok(true) => keystore.refused_rows().await,
        Err(error) => Err(error),
    };
    let finding = |error: &KeystoreError| Diagnostic {
        at: settings.keystore.at.clone(),
        message: error.to_string(),
        cure: error.cure().to_owned(),
    };
    match judged {
        Ok(refused) => refused
            .iter()
            .for_each(|error| report.error(finding(error))),
        // What the tables lack is said elsewhere.
        Err(KeystoreError::Refused { .. }) => {}
        Err(error) => report.error(finding(&error)),
    }
}

async fn probe_all(settings: &Settings, providers: &Providers, report: &mut CheckReport) {
    let uses: BTreeMap<KekRef, Vec<ScopePath>> = Scopes::new(settings).uses();
    let probes = uses.into_iter().filter_map(|(kek, levels)| {
        let (holder, scope) = (providers.get(&kek.provider)?, levels.into_iter().next()?);
        let holder = Arc::clone(holder);
        Some(async move {
            let found = probe(holder.as_ref(), &kek.provider, &kek.kek, scope.as_str()).await;
            (kek, scope, holder.kind(), found)
        })
    });
    let mut answers = stream::iter(probes).buffered(MAX_AT_ONCE);
    while let Some((kek, scope, kind, found)) = answers.next().await {
        match found {
            Ok(probe) => slow(settings, &kek, &probe, report),
            // Its keys are in the keystore, which is checked by itself.
            Err(ProviderError::Unavailable { .. }) if kind == "local" => {}
            Err(error) => report.error(finding(settings, &kek, &scope, &error)),
        }
    }
}

fn finding(
    settings: &Settings,
    kek: &KekRef,
    scope: &ScopePath,
    error: &ProviderError,
) -> Diagnostic {
    let cure = match error {
        ProviderError::Denied { .. } => {
            "allow the identity that pgveil runs as to use the key, and see that the key is enabled; \
             docs/providers.md lists the permissions"
        }
        ProviderError::Unavailable { .. } => {
            "see its address and credentials, and whether this machine reaches it"
        }
        ProviderError::Damaged { .. } | ProviderError::NotMine { .. } => {
            "do not use this key: what it wraps, it does not give back"
        }
    };
    Diagnostic {
        at: settings
            .providers
            .get(&kek.provider)
            .map(|at| at.at().clone()),
        message: format!("{error} (scope {scope})"),
        cure: cure.to_owned(),
    }
}

fn slow(settings: &Settings, kek: &KekRef, probe: &Probe, report: &mut CheckReport) {
    let Some(latency) = probe.latency.filter(|latency| *latency > SLOW) else {
        return;
    };
    report.warn(Diagnostic {
        at: settings
            .providers
            .get(&kek.provider)
            .map(|at| at.at().clone()),
        message: format!(
            "provider \"{}\" took {} ms to wrap and unwrap under \"{}\"",
            kek.provider,
            latency.as_millis(),
            kek.kek
        ),
        cure: "use a region near this machine; statements whose key is not in memory wait for it"
            .to_owned(),
    });
}
