//! The end of data keys that no value uses any more: proved, scheduled, proved again, destroyed. By hand, or as
//! `destroy_retired_after` says.

use std::{collections::BTreeSet, time::Duration};

use pgveil_config::{ScopePath, Settings};
use pgveil_keys::{Keystore, Scopes, step_up::Authority};
use serde_json::{Value, json};

use crate::{JobError, uses};

/// Transactions that run just now have mostly ended a moment later; for others there is the next round.
const SHORT_LOOKS: usize = 10;
const SHORT_PAUSE: Duration = Duration::from_millis(200);
/// Between a look at the cache and the arrival of a statement at the server, at most; nor longer than the key itself may be held.
pub(crate) const ON_THE_WAY: Duration = Duration::from_mins(1);
/// The keystore's clock decides, a moment behind.
const A_MOMENT: Duration = Duration::from_secs(1);

/// What one round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Destroyed.
    pub destroyed: Vec<u64>,
    /// Called off, since values use them.
    pub kept: Vec<u64>,
    /// Scheduled, since their time of retirement is over and no value uses them.
    pub scheduled: Vec<u64>,
    /// Some were retired too short ago, replicas may hold them as the active ones: how long until the last of them was not.
    pub later: Option<Duration>,
}

/// What nobody can read any more once a scope and all below it are erased: for the record of that. It keeps none from being erased:
/// what cannot be counted is said not to have been.
pub async fn read_by_none_without(
    settings: &Settings,
    keystore: &Keystore,
    scope: &ScopePath,
) -> Value {
    let counted = async {
        let keys = keystore.inventory().await?;
        let living = keys.iter().filter(|key| {
            let below = |path: ScopePath| path.chain().contains(scope);
            key.state != "destroyed" && ScopePath::parse(&key.scope).is_ok_and(below)
        });
        let living: BTreeSet<u64> = living.map(|key| key.id).collect();
        Ok::<_, JobError>(uses::count(settings).await?.of_all(&living))
    };
    match counted.await {
        Ok((values, columns)) => json!({ "values": values, "columns": columns }),
        Err(error) => json!({ "not_counted": error.to_string() }),
    }
}

/// How long after its retirement a key may still be sealed with: by replicas that hold it as the active one.
pub fn unused_for(settings: &Settings) -> Duration {
    settings.cache.ttl + settings.cache.stale_max + settings.cache.ttl.min(ON_THE_WAY)
}

/// Destroys the keys whose destruction is due. The rows are counted first, once for all of them, and only if there are any.
///
/// # Errors
/// If the keystore or a table cannot be read: nothing more is destroyed then.
pub async fn destroy_due(settings: &Settings, keystore: &Keystore) -> Result<Round, JobError> {
    let mut round = Round::default();
    let mut due = keystore.due().await?;
    for _ in 0..SHORT_LOOKS {
        if !due.iter().any(|key| key.nearly && !key.settled) {
            break;
        }
        tokio::time::sleep(SHORT_PAUSE).await;
        due = keystore.due().await?;
    }
    for key in due.iter().filter(|key| !key.behind.is_empty()) {
        tracing::info!(
            key = key.id,
            scope = key.scope,
            behind = key.behind.join(", "),
            "a data key is not destroyed yet: processes of pgveil have not said that they have nothing under way that names it"
        );
    }
    // An old transaction may hold rows that nobody else sees yet: later, then.
    due.retain(|key| key.settled);
    if due.is_empty() {
        return Ok(round);
    }
    let uses = uses::count(settings).await?;
    for key in due {
        let proof = uses.proof(key.id);
        if uses.of(key.id) > 0 {
            let why = json!({ "reason": "values use it", "proof": proof });
            if keystore.cancel_destruction(key.id, &why).await? {
                tracing::warn!(
                    key = key.id,
                    scope = key.scope,
                    "a data key is not destroyed: values use it"
                );
                round.kept.push(key.id);
            }
        } else if keystore.destroy(key.id, &proof).await? {
            tracing::info!(key = key.id, scope = key.scope, "a data key was destroyed");
            round.destroyed.push(key.id);
        }
    }
    Ok(round)
}

/// Schedules the destruction of retired keys that no value uses, where `destroy_retired_after` says so.
///
/// # Errors
/// As [`destroy_due`].
pub async fn schedule_retired(
    settings: &Settings,
    keystore: &Keystore,
    scopes: &Scopes,
) -> Result<Round, JobError> {
    let mut round = Round::default();
    let mut candidates = Vec::new();
    for key in keystore.inventory().await? {
        if key.purpose != "data" || key.state != "decrypt_only" || key.destroy_at.is_some() {
            continue;
        }
        let Ok(scope) = ScopePath::parse(&key.scope) else {
            continue;
        };
        let Some(after) = scopes.effective(&scope).rotation.destroy_retired_after else {
            continue;
        };
        let wait = unused_for(settings).saturating_sub(key.retired_for.unwrap_or_default());
        if wait.is_zero() {
            candidates.push((key.id, scope, after));
        } else {
            round.later = round.later.max(Some(wait + A_MOMENT));
        }
    }
    if candidates.is_empty() {
        return Ok(round);
    }
    let uses = uses::count(settings).await?;
    for (id, scope, after) in candidates {
        if uses.of(id) > 0 {
            continue;
        }
        let (proof, right) = (uses.proof(id), Authority::Automatic);
        if keystore
            .schedule_destruction(id, &scope, after, unused_for(settings), &proof, right)
            .await?
        {
            round.scheduled.push(id);
        }
    }
    Ok(round)
}
