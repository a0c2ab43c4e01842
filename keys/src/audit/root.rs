//! The root key of the audit log: made once, wrapped by the platform's KEK, found in `pgveil.audit_keys`.

use pgveil_providers::{ProviderError, Providers, WrapContext, Wrapped};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Log, secrets::Secrets};
use crate::{
    binding,
    key::KEY_BYTES,
    keystore::{KeystoreError, bigint_of},
    scopes::KekRef,
};

const NEXT_ID: &str = "SELECT nextval('pgveil.key_ids')";
const ROOT: &str = "SELECT id, provider, kek_id, kek_version, wrapped FROM pgveil.audit_keys WHERE retired_at IS NULL";
const OFFER: &str = "INSERT INTO pgveil.audit_keys (id, provider, kek_id, kek_version, wrapped) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";

/// Who can unwrap the root key, and which KEK wraps a new one.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) providers: Providers,
    pub(super) platform: KekRef,
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
            None => {
                self.make_root(source).await?;
                let made = self.root().await?;
                made.ok_or_else(|| damaged("the key was stored, and is not there"))?
            }
        };
        let context = context(root.id);
        let provider = source.providers.get(&root.kek.provider).ok_or_else(|| {
            unaudited(format!(
                "its key was wrapped by provider \"{}\", which pgveil.toml does not have",
                root.kek.provider
            ))
        })?;
        let payload = provider
            .unwrap(&root.kek.kek, &root.wrapped, &context)
            .await
            .map_err(|error| not_unwrapped(&error))?;
        let key = binding::key(&payload, &context)
            .ok_or_else(|| damaged("the key was wrapped for something else"))?;
        Ok(Secrets::derive(root.id, &key))
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

    /// Replicas that race all end with the one that was stored first.
    async fn make_root(&self, source: &Source) -> Result<(), KeystoreError> {
        let rows = self.connection.query(NEXT_ID, &[]).await?;
        let row = rows.first().ok_or_else(|| damaged("no id for a key"))?;
        let id: i64 = row.try_get(0)?;
        let id = u64::try_from(id).map_err(|_| damaged("a negative id"))?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *key)
            .map_err(|error| unaudited(format!("no random bytes for its key: {error}")))?;
        let context = context(id);
        let payload = binding::payload(&key, &context);
        let KekRef { provider, kek } = &source.platform;
        let holder = source
            .providers
            .get(provider)
            .ok_or_else(|| unaudited(format!("there is no provider \"{provider}\"")))?;
        let wrapped = holder
            .wrap(kek, &*payload, &context)
            .await
            .map_err(|error| not_unwrapped(&error))?;
        let back = holder
            .unwrap(kek, &wrapped, &context)
            .await
            .map_err(|error| not_unwrapped(&error))?;
        if !bool::from(back.ct_eq(&*payload)) {
            return Err(unaudited(
                "the provider gave back another key than it was given",
            ));
        }
        let id = bigint_of(id)?;
        let Wrapped { bytes, kek_version } = &wrapped;
        self.connection
            .query(OFFER, &[&id, provider, kek, kek_version, bytes])
            .await?;
        Ok(())
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
    let reason = format!("the audit log's key: {error}");
    match error {
        ProviderError::Unavailable { .. } => KeystoreError::Unavailable { reason },
        _ => KeystoreError::Unaudited { reason },
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
