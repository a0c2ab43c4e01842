//! Sealing, unsealing and erasing scopes by hand. A scope's word holds for all scopes below it. Running proxies hear of it
//! by NOTIFY ([`super::watch`]); what a provider denies is no matter of the keystore.

use pgveil_config::ScopePath;
use serde_json::json;

use super::{Keystore, KeystoreError, watch::CHANNEL};
use crate::{
    audit::{Change, Event, Operation},
    step_up::Token,
};

const SEAL: &str = "INSERT INTO pgveil.scopes (path, state, sealed_at) VALUES ($1, 'sealed', now()) \
    ON CONFLICT (path) DO UPDATE SET state = 'sealed', sealed_at = now() WHERE scopes.state <> 'sealed' RETURNING path";
const UNSEAL: &str = "UPDATE pgveil.scopes SET state = 'open', sealed_at = NULL WHERE path = $1 AND state <> 'open' RETURNING path";
const NOTIFY: &str = "SELECT pg_notify($1, $2)";
/// Every scope whose chain has this one.
const AND_BELOW: &str =
    "SELECT path FROM pgveil.scopes WHERE path = $1 OR starts_with(path, $1 || '/') ORDER BY path";
const DESTROY: &str = "UPDATE pgveil.keys SET state = 'destroyed', wrapped = NULL, retired_at = coalesce(retired_at, now()), \
    destroyed_at = now() WHERE scope = $1 AND state <> 'destroyed' RETURNING id";
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
        for path in self.at_and_below(&mut change, scope).await? {
            erased.keys += change.query(DESTROY, &[&path]).await?.len();
            change.query(ERASED, &[&path]).await?;
            erased.scopes.push(path);
        }
        notify(&mut change, scope).await?;
        let detail = json!({ "scopes": erased.scopes, "keys": erased.keys });
        change
            .commit(
                Event::new(Operation::ScopeErase)
                    .scope(scope)
                    .detail(detail),
            )
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
