//! Keys that cannot be moved because their KEK does not unwrap them any more: found before anything is moved, named, and left
//! where they are once that loss is accepted. None is destroyed: should the KEK come back, what they sealed opens again.

use std::collections::{HashMap, HashSet};

use pgveil_config::ScopePath;
use serde_json::json;
use tokio::task::JoinSet;

use super::{AT_ONCE, Rewrap, RewrapError};
use crate::{
    KeyError, Keys, Keystore, Purpose,
    audit::{Event, Operation},
    keystore::{KeyRecord, KeyState, KeystoreError},
    step_up::{Authority, Token},
};

/// A key that its KEK does not unwrap.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Its row.
    pub key: KeyRecord,
    /// What was said.
    pub source: KeyError,
}

/// Provider, KEK and its version.
type Wrapping = (String, String, String);

fn wrapping(key: &KeyRecord) -> Wrapping {
    let version = key.wrapped.kek_version.clone();
    (key.provider.clone(), key.kek.clone(), version)
}

impl Rewrap<'_> {
    /// The keys that cannot be moved. One key under each version of each KEK is tried; where it does not open, all are.
    ///
    /// # Errors
    /// If the keystore cannot be read, or a scope is sealed: that is no loss.
    pub async fn survey(&self) -> Result<Vec<Lost>, RewrapError> {
        let mut opens: HashMap<Wrapping, bool> = HashMap::new();
        let (mut after, mut lost) = (0, Vec::new());
        loop {
            let page = self.table.records(after).await?;
            let Some(last) = page.last() else {
                return Ok(lost);
            };
            after = last.id;
            let mut suspects = Vec::new();
            for key in page {
                if self.target(&key).is_none() {
                    continue;
                }
                match opens.get(&wrapping(&key)) {
                    Some(true) => {}
                    Some(false) => suspects.push(key),
                    None => {
                        let tried = self.tried(vec![key.clone()]).await?;
                        opens.insert(wrapping(&key), tried.is_empty());
                        lost.extend(tried);
                    }
                }
            }
            lost.extend(self.tried(suspects).await?);
        }
    }

    /// Those of some keys that do not open, found out side by side.
    async fn tried(&self, keys: Vec<KeyRecord>) -> Result<Vec<Lost>, RewrapError> {
        let mut keys = keys.into_iter();
        let (mut under_way, mut lost) = (JoinSet::new(), Vec::new());
        loop {
            while under_way.len() < AT_ONCE
                && let Some(key) = keys.next()
            {
                let by = std::sync::Arc::clone(self.keys);
                under_way.spawn(async move {
                    let opened = by.opens(&key).await;
                    (key, opened)
                });
            }
            match under_way.join_next().await {
                None => break,
                Some(Ok((_, Ok(())))) => {}
                Some(Ok((key, Err(source @ KeyError::ScopeSealed { .. })))) => {
                    let (id, scope) = (key.id, key.scope);
                    return Err(RewrapError::Key { id, scope, source });
                }
                Some(Ok((key, Err(source)))) => lost.push(Lost { key, source }),
                Some(Err(_)) => return Err(RewrapError::Stopped),
            }
        }
        lost.sort_by_key(|lost| lost.key.id);
        Ok(lost)
    }

    /// The same without these keys: they stay where they are.
    #[must_use]
    pub fn without(mut self, lost: &[Lost]) -> Self {
        self.left.extend(lost.iter().map(|lost| lost.key.id));
        self
    }
}

/// Records that these keys are given up, and by whose right; `values` name them.
///
/// # Errors
/// If the token is not good for it, or it cannot be recorded: then nothing is to be done.
pub async fn accept(
    keystore: &Keystore,
    scope: &ScopePath,
    lost: &[Lost],
    values: u64,
    token: &Token,
) -> Result<(), KeystoreError> {
    let mut change = keystore.change().await?;
    change.step_up(token, Operation::DekRewrap, scope).await?;
    let keks: HashSet<Wrapping> = lost.iter().map(|lost| wrapping(&lost.key)).collect();
    let keks: Vec<_> = { keks.into_iter() }
        .take(MAX_TOLD)
        .map(|(provider, kek, version)| {
            json!({ "provider": provider, "kek": kek, "kek_version": version })
        })
        .collect();
    let ids: Vec<u64> = { lost.iter() }
        .map(|lost| lost.key.id)
        .take(MAX_TOLD)
        .collect();
    let detail = json!({
        "accepted_loss": { "keys": lost.len(), "ids": ids, "values": values, "keks": keks },
    });
    let event = Event::new(Operation::DekRewrap).scope(scope).detail(detail);
    change.commit(event).await
}

/// So many keys, and so many KEKs, a record names.
const MAX_TOLD: usize = 32;

/// Gives scopes whose active data key is lost the next one, which opens. What the lost one sealed stays refused. Answers how
/// many were given one; run again, it goes on.
///
/// # Errors
/// If one cannot be made.
pub async fn replace(keys: &Keys, lost: &[Lost]) -> Result<u64, RewrapError> {
    let mut replaced = 0;
    for Lost { key, .. } in lost {
        if key.purpose != Purpose::Data || key.state != KeyState::Active {
            continue;
        }
        let Ok(scope) = ScopePath::parse(&key.scope) else {
            continue;
        };
        let made = keys.rotate(&scope, Authority::Automatic).await;
        made.map_err(|source| RewrapError::Key {
            id: key.id,
            scope: key.scope.clone(),
            source,
        })?;
        replaced += 1;
    }
    Ok(replaced)
}
