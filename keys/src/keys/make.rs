//! Making a scope's first key: generated, wrapped, unwrapped again and compared, then offered to the keystore.
//! Replicas that race all end with the one that was stored first.

use pgveil_config::ScopePath;
use pgveil_providers::{ProviderError, WrapContext};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Keys;
use crate::{
    KeyError, Purpose, binding,
    key::KEY_BYTES,
    keystore::{KeyRecord, NewKey},
    scopes::KekRef,
};

impl Keys {
    /// Makes a key for a scope that has none, and answers the scope's active key, which is another replica's
    /// if that was faster.
    pub(super) async fn make(
        &self,
        scope: &ScopePath,
        purpose: Purpose,
    ) -> Result<KeyRecord, KeyError> {
        // The id comes first, because the wrapping is bound to it.
        let id = self.table.next_id().await?;
        let key = self.wrapped_key(id, scope, purpose).await?;
        self.table.offer(&key).await?;
        tracing::info!(
            scope = scope.as_str(),
            purpose = purpose.as_str(),
            id,
            "made a key"
        );
        let active = self.table.active(scope.as_str(), purpose).await?;
        active.ok_or_else(|| KeyError::Damaged {
            id,
            reason: "it was stored, and is not there".to_owned(),
        })
    }

    async fn wrapped_key(
        &self,
        id: u64,
        scope: &ScopePath,
        purpose: Purpose,
    ) -> Result<NewKey, KeyError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *key).map_err(|error| KeyError::Randomness {
            reason: error.to_string(),
        })?;
        let KekRef { provider, kek } = self.scopes.kek(scope);
        let scope = scope.as_str();
        let context = WrapContext {
            scope: scope.to_owned(),
            key_id: id,
            purpose: purpose.as_str(),
        };
        let payload = binding::payload(&key, &context);
        let failed = |error: ProviderError| KeyError::from_provider(&error, scope, id);
        let holder = self.provider(id, &provider)?;
        let wrapped = holder
            .wrap(&kek, &*payload, &context)
            .await
            .map_err(failed)?;
        // What does not come back must never be used: values sealed with it would be lost.
        let back = holder
            .unwrap(&kek, &wrapped, &context)
            .await
            .map_err(failed)?;
        if !bool::from(back.ct_eq(&*payload)) {
            let reason = "the provider gave back another key than it was given".to_owned();
            return Err(KeyError::Damaged { id, reason });
        }
        Ok(NewKey {
            id,
            scope: scope.to_owned(),
            purpose,
            provider,
            kek,
            wrapped,
        })
    }
}
