//! Sealing, unsealing and erasing scopes by hand. A scope's word holds for all scopes below it. Running proxies hear of it
//! by NOTIFY ([`super::watch`]); what a provider denies is no matter of the keystore.

use pgveil_config::ScopePath;
use serde_json::json;

use super::{Keystore, KeystoreError, watch::CHANNEL};
use crate::{
    audit::{Change, Event, Operation, event::MAX_CHANGED_KEYS},
    step_up::Token,
};

const SEAL: &str = "INSERT INTO pgveil.scopes (path, state, sealed_at) VALUES ($1, 'sealed', now()) \
    ON CONFLICT (path) DO UPDATE SET state = 'sealed', sealed_at = now() WHERE scopes.state <> 'sealed' RETURNING path";
const UNSEAL: &str = "UPDATE pgveil.scopes SET state = 'open', sealed_at = NULL WHERE path = $1 AND state <> 'open' RETURNING path";
const NOTIFY: &str = "SELECT pg_notify($1, $2)";
/// Every scope whose chain has this one.
const AND_BELOW: &str =
    "SELECT path FROM pgveil.scopes WHERE path = $1 OR starts_with(path, $1 || '/') ORDER BY path";
const LIVING: &str =
    "SELECT id FROM pgveil.keys WHERE scope = $1 AND state <> 'destroyed' ORDER BY id";
/// For a row that pgveil did not write: erased all the same, and never given a MAC.
const DESTROY_FOREIGN: &str = "UPDATE pgveil.keys SET state = 'destroyed', wrapped = NULL, destroyed_at = now() WHERE id = ANY ($1)";
const ERASED: &str = "UPDATE pgveil.scopes SET state = 'sealed', sealed_at = now(), erased_at = now() WHERE path = $1";
/// Scopes that one erasure may take at once: it is one transaction.
const MAX_ERASED_SCOPES: usize = 10_000;

/// What an erasure destroyed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Which scopes.
    pub scopes: Vec<String>,
    /// How many keys.
    pub keys: usize,
}

impl Keystore {
    /// Seals a scope and all below it. False if it was sealed already.
    pub async fn seal(&self, scope: &ScopePath) -> Result<bool, KeystoreError> {
        let mut change = self.change().await?;
        if change.query(SEAL, &[&scope.as_str()]).await?.is_empty() {
            change.rollback().await?;
            return Ok(false);
        }
        notify(&mut change, scope).await?;
        change
            .commit(Event::new(Operation::ScopeSeal).scope(scope))
            .await?;
        Ok(true)
    }

    /// Takes a scope's own seal off; a scope above it may still be sealed. False if it was not sealed.
    pub async fn unseal(&self, scope: &ScopePath, token: &Token) -> Result<bool, KeystoreError> {
        let mut change = self.change().await?;
        change.step_up(token, Operation::ScopeUnseal, scope).await?;
        if change.query(UNSEAL, &[&scope.as_str()]).await?.is_empty() {
            change.rollback().await?;
            return Ok(false);
        }
        notify(&mut change, scope).await?;
        change
            .commit(Event::new(Operation::ScopeUnseal).scope(scope))
            .await?;
        Ok(true)
    }

    /// Destroys all keys of a scope and of all below it, and leaves them sealed. What was sealed with the keys can never
    /// be read again, here; a backup of the keystore and its provider's KEK still can.
    pub async fn erase(&self, scope: &ScopePath, token: &Token) -> Result<Erased, KeystoreError> {
        if *scope == ScopePath::platform() {
            return Err(KeystoreError::Refused {
                message: "the platform cannot be erased as a whole; erase tenants".to_owned(),
            });
        }
        let mut change = self.change().await?;
        change.step_up(token, Operation::ScopeErase, scope).await?;
        let mut erased = Erased::default();
        let (mut foreign, mut parts) = (Vec::new(), Vec::new());
        let now_us = change.keystore_now_us().await?;
        for path in self.at_and_below(&mut change, scope).await? {
            let rows = change.query(LIVING, &[&path]).await?;
            let ids: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get(0)).collect();
            let ids: Vec<u64> = ids?.into_iter().map(|id| id as u64).collect();
            for ids in ids.chunks(MAX_CHANGED_KEYS) {
                let (mut rows, others) = self.locked_apart(&mut change, ids).await?;
                for row in &mut rows {
                    row.destroy(now_us);
                }
                // Behind the record of the whole.
                change.put_keys(&rows, 1 + parts.len()).await?;
                let part = Event::new(Operation::ScopeErase).scope(scope);
                let part = part.detail(json!({ "part_of": path }));
                parts.push(part.changes(rows.iter().map(|row| row.id)));
                erased.keys += ids.len();
                foreign.extend(others);
            }
            change.query(ERASED, &[&path]).await?;
            erased.scopes.push(path);
        }
        let ids: Vec<i64> = foreign.iter().map(|id| *id as i64).collect();
        change.query(DESTROY_FOREIGN, &[&ids]).await?;
        notify(&mut change, scope).await?;
        let detail =
            json!({ "scopes": erased.scopes, "keys": erased.keys, "refused_rows": foreign });
        let whole = Event::new(Operation::ScopeErase)
            .scope(scope)
            .detail(detail);
        change
            .commit_all(std::iter::once(whole).chain(parts).collect())
            .await?;
        Ok(erased)
    }

    /// The scopes that there are: a tenant's environment takes in that environment of its projects.
    async fn at_and_below(
        &self,
        change: &mut Change,
        scope: &ScopePath,
    ) -> Result<Vec<String>, KeystoreError> {
        // Sealed first, so that a key that is being made elsewhere is not missed: making one looks at this row.
        change.query(SEAL, &[&scope.as_str()]).await?;
        let tenant = scope.as_str().split('/').next().unwrap_or_default();
        let rows = change.query(AND_BELOW, &[&tenant]).await?;
        let mut paths = Vec::new();
        for row in rows {
            let path: String = row.try_get(0)?;
            let below = ScopePath::parse(&path).is_ok_and(|path| path.chain().contains(scope));
            if below {
                paths.push(path);
            }
        }
        if paths.len() > MAX_ERASED_SCOPES {
            return Err(KeystoreError::Refused {
                message: format!(
                    "{} scopes are below {scope}, and {MAX_ERASED_SCOPES} can be erased at once; erase those below it first",
                    paths.len()
                ),
            });
        }
        Ok(paths)
    }
}

async fn notify(change: &mut Change, scope: &ScopePath) -> Result<(), KeystoreError> {
    change
        .query(NOTIFY, &[&CHANNEL, &scope.as_str()])
        .await
        .map(drop)
}
