//! Making a scope's next key: generated, wrapped, unwrapped again and compared, then offered to the keystore.
//! Replicas that race all end with the one that was stored first.

use pgveil_config::ScopePath;
use pgveil_providers::{WrapContext, Wrapped};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{KeyBytes, Keys};
use crate::{
    KeyError, Purpose, binding,
    key::KEY_BYTES,
    keystore::{KeyRecord, NewKey},
    scopes::KekRef,
    step_up::Authority,
};

impl Keys {
    /// Makes a key for a scope that has none, or in place of `retiring`, and answers the scope's active key, which is another
    /// replica's if that was faster.
    pub(super) async fn make(
        &self,
        scope: &ScopePath,
        purpose: Purpose,
        retiring: Option<(u64, Authority<'_>)>,
    ) -> Result<KeyRecord, KeyError> {
        // The id comes first, because the wrapping is bound to it.
        let id = self.table.next_id().await?;
        let key = self.wrapped_key(id, scope, purpose).await?;
        match retiring {
            None => self.table.offer(&key).await?,
            Some((retiring, right)) => self.table.replace(retiring, &key, right).await?,
        }
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
        let kek = self.scopes.load().kek(scope);
        let context = WrapContext {
            scope: scope.to_string(),
            key_id: id,
            purpose: purpose.as_str(),
        };
        let wrapped = self.wrap(&key, &context, &kek).await?;
        let KekRef { provider, kek } = kek;
        Ok(NewKey {
            id,
            scope: context.scope,
            purpose,
            provider,
            kek,
            wrapped,
        })
    }

    /// The key of a row as another KEK wraps it.
    pub(crate) async fn rewrapped(
        &self,
        record: &KeyRecord,
        kek: &KekRef,
    ) -> Result<Wrapped, KeyError> {
        let key = self.unwrap(record).await?;
        let context = WrapContext {
            scope: record.scope.clone(),
            key_id: record.id,
            purpose: record.purpose.as_str(),
        };
        self.wrap(&key, &context, kek).await
    }

    /// Whether a KEK wraps and unwraps.
    pub(crate) async fn probe(&self, scope: &ScopePath, kek: &KekRef) -> Result<(), KeyError> {
        let context = WrapContext {
            scope: scope.to_string(),
            key_id: 0,
            purpose: "probe",
        };
        self.wrap(&Zeroizing::new([0; KEY_BYTES]), &context, kek)
            .await
            .map(drop)
    }

    async fn wrap(
        &self,
        key: &KeyBytes,
        context: &WrapContext,
        kek: &KekRef,
    ) -> Result<Wrapped, KeyError> {
        let (scope, id) = (&context.scope, context.key_id);
        let payload = binding::payload(key, context);
        let gate = self.gate(id, &kek.provider)?;
        let answer = gate.wrap(&kek.kek, &*payload, context).await;
        let wrapped = self.learn(answer, kek, scope, id)?;
        // What does not come back must never be used: values sealed with it would be lost.
        let answer = gate.unwrap(&kek.kek, &wrapped, context).await;
        let back = self.learn(answer, kek, scope, id)?;
        if !bool::from(back.ct_eq(&*payload)) {
            let reason = "the provider gave back another key than it was given".to_owned();
            return Err(KeyError::Damaged { id, reason });
        }
        Ok(wrapped)
    }
}
