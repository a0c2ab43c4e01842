//! What follows when a KEK has a new version: every key under it is wrapped by that version, its scopes get new data keys, and
//! it is recorded. One process does it at a time; stopped anywhere, it or another goes on. When it happens is decided elsewhere.

use std::sync::Arc;

use crate::{
    Keys, Keystore, Purpose,
    keys::{Replaced, STORED_AT_ONCE},
    keystore::{Claim, Followed, KeyState, KeyTable, NewJob},
    rewrap::{Rewrap, RewrapError},
    scopes::KekRef,
};
use pgveil_config::ScopePath;

/// Brings everything under a KEK to a version of it; with `reencrypts`, queues the job that brings the values to their scopes'
/// next data keys. `None`: another process does, or there is nothing to do.
pub async fn follow(
    keys: &Arc<Keys>,
    keystore: &Arc<Keystore>,
    kek: &KekRef,
    version: &str,
    reencrypts: bool,
) -> Result<Option<Followed>, RewrapError> {
    // Before anything is made, so that whatever is made is above it.
    let horizon = keystore.next_id().await?;
    let Some(claim) = keystore.claim_kek(kek, version, horizon).await? else {
        return Ok(None);
    };
    let done = carry_out(keys, keystore, kek, version, claim, reencrypts).await;
    if done.is_err() {
        // Best effort: the right ends by itself.
        let _ = keystore.give_up_claim(kek).await;
    }
    done.map(Some)
}

async fn carry_out(
    keys: &Arc<Keys>,
    keystore: &Arc<Keystore>,
    kek: &KekRef,
    version: &str,
    claim: Claim,
    reencrypts: bool,
) -> Result<Followed, RewrapError> {
    let rewrap = Rewrap::to_version(keys, keystore, kek.clone(), claim.record);
    let rewrapped = rewrap.run().await?;
    let horizon = claim.horizon;
    let rotated = replace(keys, keystore, kek, claim).await?;
    let mut followed = Followed {
        rewrapped,
        rotated,
        job: None,
    };
    let reason = format!("version {version} of key \"{}\"", kek.kek);
    // Also where no scope was rotated in this go: another go, that was stopped, may have done it.
    let job = NewJob::rewrap(&ScopePath::platform(), true, horizon, &reason).under_kek(kek);
    let job = Some(&job).filter(|_| reencrypts);
    followed.job = keystore.kek_followed(kek, version, followed, job).await?;
    Ok(followed)
}

/// Gives the scopes whose keys the KEK wraps their next data keys, where that has not been done since it began.
async fn replace(
    keys: &Arc<Keys>,
    keystore: &Arc<Keystore>,
    kek: &KekRef,
    claim: Claim,
) -> Result<u64, RewrapError> {
    let scopes = keys.scopes();
    let (mut after, mut replaced) = (0, Replaced::default());
    loop {
        let page = keystore.records(after).await?;
        let Some(last) = page.last() else {
            return replaced.all();
        };
        after = last.id;
        let due = page.into_iter().filter_map(|record| {
            let is_due = record.purpose == Purpose::Data
                && record.state == KeyState::Active
                && record.id <= claim.horizon
                && !record.scope_sealed;
            let scope = ScopePath::parse(&record.scope).ok()?;
            (is_due && scopes.kek(&scope) == *kek).then_some((record.id, scope))
        });
        let due: Vec<_> = due.collect();
        for batch in due.chunks(STORED_AT_ONCE) {
            if !keystore.renew_claim(kek).await? {
                return Err(RewrapError::Stopped);
            }
            replaced.add(keys.rotate_all(batch.to_vec()).await?)?;
        }
    }
}
