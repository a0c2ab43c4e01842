//! The root key of the audit log: made once, wrapped by the platform's KEK, found in `pgveil.audit_keys`.

use std::sync::Arc;

use pgveil_config::ScopePath;
use pgveil_providers::{ProviderError, Providers, WrapContext, Wrapped};
use serde_json::json;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Event, Log, Operation, secrets::Secrets};
use crate::{
    binding,
    key::KEY_BYTES,
    keystore::{KeystoreError, bigint_of},
    scopes::KekRef,
};

const NEXT_ID: &str = "SELECT nextval('pgveil.audit_key_ids')";
const ROOT: &str = "SELECT id, provider, kek_id, kek_version, wrapped FROM pgveil.audit_keys WHERE retired_at IS NULL";
/// Whether a log was ever begun: then its key is the one with which that was done, and no other.
const HAS_BEGUN: &str =
    "SELECT EXISTS (SELECT FROM pgveil.audit_head) OR EXISTS (SELECT FROM pgveil.audit)";
const OFFER: &str = "INSERT INTO pgveil.audit_keys (id, provider, kek_id, kek_version, wrapped) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
const MOVE: &str = "UPDATE pgveil.audit_keys SET provider = $3, kek_id = $4, kek_version = $5, wrapped = $6 \
    WHERE id = $1 AND wrapped = $2 RETURNING id";

/// Who can unwrap the root key, and which KEK wraps a new one.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) providers: Providers,
    pub(super) platform: KekRef,
}

/// How the root key is brought to a KEK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// It is seen whether it can be, if it stands under another.
    Try,
    /// If it stands under another.
    Other,
    /// In any case: the KEK has a new version.
    Anew,
}

/// The root key as it is stored.
struct Root {
    id: u64,
    kek: KekRef,
    wrapped: Wrapped,
}

impl Log {
    /// The keys of the log; its root key is made if there is none.
    pub(super) async fn load_secrets(&self) -> Result<Secrets, KeystoreError> {
        let source = self
            .source
            .get()
            .ok_or_else(|| unaudited("no provider was given for its key"))?;
        let root = match self.root().await? {
            Some(root) => root,
            None if self.pinned.is_some() => {
                return Err(damaged("it has no key, and [audit] public_key names one"));
            }
            None => {
                if !self.has_begun().await? {
                    self.make_root(source).await?;
                }
                // Another process may have begun the log meanwhile.
                let made = self.root().await?;
                made.ok_or_else(|| {
                    damaged("the row of the audit log's key is gone, and the log has records")
                })?
            }
        };
        self.hold.check(self.clock.now())?;
        let key = source.unwrap(&root).await;
        self.hold.note(self.clock.now(), &key);
        let secrets = Secrets::derive(root.id, &*key?);
        match self.pinned {
            Some(pinned) if pinned != *secrets.public_key() => Err(damaged(&format!(
                "its public key is {}, and [audit] public_key is another: somebody put a log of his own in the place of pgveil's",
                hex::encode(secrets.public_key())
            ))),
            _ => Ok(secrets),
        }
    }

    /// Brings the root key to the KEK that the platform has now, as a rewrap brings every other key; answers whether there was
    /// something to do.
    pub(crate) async fn rewrap_root(
        self: &Arc<Self>,
        to: &KekRef,
        how: Move,
    ) -> Result<bool, KeystoreError> {
        let source = self
            .source
            .get()
            .ok_or_else(|| unaudited("no provider was given for its key"))?;
        let Some(root) = self
            .root()
            .await?
            .filter(|root| how == Move::Anew || root.kek != *to)
        else {
            return Ok(false);
        };
        let key = source.unwrap(&root).await?;
        let wrapped = source.wrap(&key, &context(root.id), to).await?;
        if how == Move::Try {
            return Ok(true);
        }
        let mut change = self.change().await?;
        // It follows from the settings that were permitted.
        change.automatic();
        let id = bigint_of(root.id)?;
        let Wrapped { bytes, kek_version } = &wrapped;
        let rows = change
            .query(
                MOVE,
                &[
                    &id,
                    &root.wrapped.bytes,
                    &to.provider,
                    &to.kek,
                    kek_version,
                    bytes,
                ],
            )
            .await?;
        if rows.is_empty() {
            change.rollback().await?;
            return Ok(false);
        }
        let detail = json!({
            "purpose": "audit",
            "from": { "provider": root.kek.provider, "kek": root.kek.kek },
            "to": { "provider": to.provider, "kek": to.kek, "kek_version": kek_version },
        });
        let event = Event::new(Operation::DekRewrap)
            .scope(&ScopePath::platform())
            .key(root.id)
            .detail(detail);
        change.commit(event).await?;
        Ok(true)
    }

    /// The KEK that the root key stands under, if there is a root key.
    pub(crate) async fn root_kek(&self) -> Result<Option<KekRef>, KeystoreError> {
        Ok(self.root().await?.map(|root| root.kek))
    }

    async fn root(&self) -> Result<Option<Root>, KeystoreError> {
        let rows = self.connection.query(ROOT, &[]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let id: i64 = row.try_get(0)?;
        Ok(Some(Root {
            id: u64::try_from(id).map_err(|_| damaged("a negative id"))?,
            kek: KekRef {
                provider: row.try_get(1)?,
                kek: row.try_get(2)?,
            },
            wrapped: Wrapped {
                kek_version: row.try_get(3)?,
                bytes: row.try_get(4)?,
            },
        }))
    }

    async fn has_begun(&self) -> Result<bool, KeystoreError> {
        let rows = self.connection.query(HAS_BEGUN, &[]).await?;
        Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
    }

    /// Replicas that race all end with the one that was stored first.
    async fn make_root(&self, source: &Source) -> Result<(), KeystoreError> {
        let rows = self.connection.query(NEXT_ID, &[]).await?;
        let row = rows.first().ok_or_else(|| damaged("no id for a key"))?;
        let id: i64 = row.try_get(0)?;
        let id = u64::try_from(id).map_err(|_| damaged("a negative id"))?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *key)
            .map_err(|error| unaudited(format!("no random bytes for its key: {error}")))?;
        let KekRef { provider, kek } = &source.platform;
        let wrapped = source.wrap(&key, &context(id), &source.platform).await?;
        let id = bigint_of(id)?;
        let Wrapped { bytes, kek_version } = &wrapped;
        self.connection
            .query(OFFER, &[&id, provider, kek, kek_version, bytes])
            .await?;
        Ok(())
    }
}

impl Source {
    async fn unwrap(&self, root: &Root) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeystoreError> {
        let context = context(root.id);
        let provider = self.providers.get(&root.kek.provider).ok_or_else(|| {
            unaudited(format!(
                "its key was wrapped by provider \"{}\", which pgveil.toml does not have",
                root.kek.provider
            ))
        })?;
        let payload = provider
            .unwrap(&root.kek.kek, &root.wrapped, &context)
            .await
            .map_err(|error| not_unwrapped(&error))?;
        binding::key(&payload, &context)
            .ok_or_else(|| damaged("the key was wrapped for something else"))
    }

    /// Wraps the root key, and sees that it comes back.
    async fn wrap(
        &self,
        key: &[u8; KEY_BYTES],
        context: &WrapContext,
        kek: &KekRef,
    ) -> Result<Wrapped, KeystoreError> {
        let payload = binding::payload(key, context);
        let KekRef { provider, kek } = kek;
        let holder = self
            .providers
            .get(provider)
            .ok_or_else(|| unaudited(format!("there is no provider \"{provider}\"")))?;
        let wrapped = holder
            .wrap(kek, &*payload, context)
            .await
            .map_err(|error| not_unwrapped(&error))?;
        let back = holder
            .unwrap(kek, &wrapped, context)
            .await
            .map_err(|error| not_unwrapped(&error))?;
        if !bool::from(back.ct_eq(&*payload)) {
            return Err(unaudited(
                "the provider gave back another key than it was given",
            ));
        }
        Ok(wrapped)
    }
}

fn context(id: u64) -> WrapContext {
    WrapContext {
        scope: "platform".to_owned(),
        key_id: id,
        purpose: "audit",
    }
}

fn not_unwrapped(error: &ProviderError) -> KeystoreError {
    match error {
        ProviderError::Unavailable { .. } => KeystoreError::LogKeyAway {
            reason: error.to_string(),
        },
        _ => unaudited(format!("the audit log's key: {error}")),
    }
}

fn unaudited(reason: impl Into<String>) -> KeystoreError {
    KeystoreError::Unaudited {
        reason: reason.into(),
    }
}

fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.audit_keys",
        reason: reason.to_owned(),
    }
}
