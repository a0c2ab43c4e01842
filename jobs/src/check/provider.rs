//! Providers: does each open as it is configured, does every KEK wrap and unwrap, and do keys stand under the KEKs that hold
//! for their scopes. No key is made, and none is moved.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use pgveil_config::{Diagnostic, ScopePath, Settings};
use pgveil_keys::{
    Keys, Keystore, Scopes,
    audit::sink,
    clock::SystemClock,
    keystore::{KeystoreError, MemoryKeyTable},
    rewrap::{Rewrap, RewrapError, elsewhere::Elsewhere, loss::Lost},
    scopes::{KekRef, Own},
};
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
    let providers = match pgveil_providers::build(settings, &keks).await {
        Ok(providers) => providers,
        Err(error) => {
            report.error(error.diagnostic());
            return;
        }
    };
    let mut scopes = Scopes::new(settings);
    let Some(keystore) = keystore else {
        probe_all(settings, &scopes, &providers, report).await;
        return;
    };
    let platform = scopes.kek(&ScopePath::platform());
    keystore.log().use_providers(&providers, &platform);
    // A KEK that does not answer is named before the rows that cannot be judged without it.
    let mut rows = CheckReport::default();
    let stored = judge_rows(settings, &keystore, &mut rows).await;
    let is_sound = stored.is_some();
    scopes = scopes.with_stored(stored.unwrap_or_default());
    probe_all(settings, &scopes, &providers, report).await;
    report.errors.append(&mut rows.errors);
    if !is_sound {
        return;
    }
    // Over a table without an audit log: a check records nothing of what it meets.
    let nothing = Arc::new(MemoryKeyTable::default());
    let keys = Keys::new(nothing, providers, settings, Arc::new(SystemClock));
    let moved = moved(settings, &Arc::new(keys), &keystore, &scopes, report).await;
    if let Err(error) = moved {
        report.error(at_keystore(settings, &error.to_string(), error.cure()));
    }
}

/// What was set for scopes at run time, if there are rows and pgveil wrote every one of them. A keystore without any is not
/// asked: it may have no audit log yet.
async fn judge_rows(
    settings: &Settings,
    keystore: &Keystore,
    report: &mut CheckReport,
) -> Option<BTreeMap<ScopePath, Own>> {
    let judged = match keystore.has_rows().await {
        Ok(false) => return None,
        Ok(true) => keystore.refused_rows().await,
        Err(error) => Err(error),
    };
    // Without its keys nothing of it is judged; that they are not to be had is said here or with the rows.
    if judged.is_ok()
        && let Ok(Err(fault)) = keystore.log().verify().await
    {
        report.error(at_keystore(
            settings,
            &format!("the audit log is not as pgveil wrote it: {fault}"),
            "somebody changed it, or took entries out of pgveil.key_changes or row_changes; see `pgveil audit verify`, and docs/audit.md",
        ));
    }
    if judged.is_ok()
        && let Some(path) = settings
            .audit
            .sink_file
            .as_deref()
            .filter(|path| path.exists())
        && let Err(error) = sink::compare(keystore.log(), path).await
    {
        report.error(at_keystore(
            settings,
            &format!("the audit log is not the one that its checkpoints outside the database are of: {error}"),
            "somebody set the keystore back, or took records away; see `pgveil audit verify`, and docs/audit.md",
        ));
    }
    let stored = match judged {
        Ok(refused) if refused.is_empty() => keystore.stored().await,
        Ok(refused) => {
            for error in refused {
                report.error(at_keystore(settings, &error.to_string(), error.cure()));
            }
            return None;
        }
        Err(error) => Err(error),
    };
    match stored {
        Ok(stored) => Some(stored),
        // What the tables lack is said elsewhere.
        Err(KeystoreError::Refused { .. }) => None,
        Err(error) => {
            report.error(at_keystore(settings, &error.to_string(), error.cure()));
            None
        }
    }
}

fn at_keystore(settings: &Settings, message: &str, cure: &str) -> Diagnostic {
    Diagnostic {
        at: settings.keystore.at.clone(),
        message: message.to_owned(),
        cure: cure.to_owned(),
    }
}

/// Keys that stand under another KEK than the one that holds for their scope: `pgveil.toml` was changed, or `--keep-wrapped` was
/// given, and nobody moved them. They go on opening as long as the former KEK does.
async fn moved(
    settings: &Settings,
    keys: &Arc<Keys>,
    keystore: &Keystore,
    scopes: &Scopes,
    report: &mut CheckReport,
) -> Result<(), RewrapError> {
    let rewrap = Rewrap::new(keys, keystore, scopes.clone(), ScopePath::platform());
    let found = rewrap.elsewhere().await?;
    if found.is_empty() {
        return Ok(());
    }
    let lost = match rewrap.survey().await {
        Ok(lost) => lost,
        // A sealed scope's keys are not tried: whether they open is not known, and not asked for.
        Err(RewrapError::Key { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let levels = scopes.uses();
    for keys in &found {
        let platform = ScopePath::platform();
        let level = levels.get(&keys.to).and_then(|levels| levels.first());
        let level = level.unwrap_or(&platform);
        let gone = lost
            .iter()
            .find(|lost| lost.key.provider == keys.from.provider && lost.key.kek == keys.from.kek);
        let finding = stands_elsewhere(settings, keys, level, gone);
        match gone {
            Some(_) => report.error(finding),
            None => report.warn(finding),
        }
    }
    Ok(())
}

fn stands_elsewhere(
    settings: &Settings,
    keys: &Elsewhere,
    level: &ScopePath,
    gone: Option<&Lost>,
) -> Diagnostic {
    let Elsewhere {
        from,
        to,
        keys: count,
        scope,
    } = keys;
    let who = match count {
        1 => format!("1 key, of {scope}, stands"),
        several => format!("{several} keys, the first of {scope}, stand"),
    };
    let mut message = format!(
        "{who} under key \"{}\" of provider \"{}\", while key \"{}\" of provider \"{}\" holds for their scopes",
        from.kek, from.provider, to.kek, to.provider
    );
    let cure = match gone {
        None => format!(
            "run `pgveil keys rewrap {level}`, which brings them there; until then they need the former one"
        ),
        Some(lost) => {
            message += &format!(
                "; the former one does not unwrap key {}: {}",
                lost.key.id, lost.source
            );
            format!(
                "bring the former one back; `pgveil keys rewrap {level}` tells which values cannot be read without it"
            )
        }
    };
    Diagnostic {
        at: { settings.providers.get(&to.provider) }.map(|at| at.at().clone()),
        message,
        cure,
    }
}

async fn probe_all(
    settings: &Settings,
    scopes: &Scopes,
    providers: &Providers,
    report: &mut CheckReport,
) {
    let uses = scopes.uses();
    for (kek, levels) in &uses {
        if let (None, Some(scope)) = (providers.get(&kek.provider), levels.first()) {
            // Files that name one which they do not have are refused; this was set at run time.
            report.error(at_keystore(
                settings,
                &format!("{scope} was set to use provider \"{}\", which pgveil.toml does not have", kek.provider),
                "give the provider back to pgveil.toml, or take back what was set with `pgveil scopes clear`",
            ));
        }
    }
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
