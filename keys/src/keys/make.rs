//! Making a scope's next key: generated, wrapped, unwrapped again and compared, then offered to the keystore.
//! Replicas that race all end with the one that was stored first.

use std::sync::atomic::Ordering;

use hmac::{Hmac, KeyInit, Mac};
use pgveil_config::ScopePath;
use pgveil_providers::{ENTROPY_BYTES, WrapContext, Wrapped};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{KeyBytes, Keys};
use crate::{
    KeyError, Purpose, binding,
    key::KEY_BYTES,
    keystore::{KeyRecord, NewKey},
    scopes::KekRef,
    step_up::Authority,
};

/// Domain separation of [`mixed`].
const MIXED: &[u8] = b"pgveil new key v1\0";

impl Keys {
    /// Makes a key for a scope that has none, or in place of `retiring`, and answers the scope's active key, which is another
    /// replica's if that was faster. Its own comes unwrapped, as it was compared when it was wrapped.
    pub(super) async fn make(
        &self,
        scope: &ScopePath,
        purpose: Purpose,
        retiring: Option<(u64, Authority<'_>)>,
    ) -> Result<(KeyRecord, Option<KeyBytes>), KeyError> {
        // The id comes first, because the wrapping is bound to it.
        let id = self.table.next_id().await?;
        let (new, key) = self.wrapped_key(id, scope, purpose).await?;
        match retiring {
            None => self.table.offer(&new).await?,
            Some((retiring, right)) => self.table.replace(retiring, &new, right).await?,
        }
        tracing::info!(
            scope = scope.as_str(),
            purpose = purpose.as_str(),
            id,
            "made a key"
        );
        let active = self.table.active(scope.as_str(), purpose).await?;
        let active = active.ok_or_else(|| KeyError::Damaged {
            id,
            reason: "it was stored, and is not there".to_owned(),
        })?;
        let is_ours = active.id == id && active.wrapped == new.wrapped && !active.scope_sealed;
        Ok((active, is_ours.then_some(key)))
    }

    pub(super) async fn wrapped_key(
        &self,
        id: u64,
        scope: &ScopePath,
        purpose: Purpose,
    ) -> Result<(NewKey, KeyBytes), KeyError> {
        let mut own = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *own).map_err(|error| KeyError::Randomness {
            reason: error.to_string(),
        })?;
        let kek = self.scopes.load().kek(scope);
        let context = WrapContext {
            scope: scope.to_string(),
            key_id: id,
            purpose: purpose.as_str(),
        };
        let theirs = self
            .gate(id, &kek.provider)?
            .entropy(&kek.kek, &context)
            .await;
        // Ours is enough by itself.
        let key = match theirs {
            Some(theirs) => mixed(&own, &theirs),
            None => own,
        };
        let wrapped = self.wrap(&key, &context, &kek).await?;
        let KekRef { provider, kek } = kek;
        let new = NewKey {
            id,
            scope: context.scope,
            purpose,
            provider,
            kek,
            wrapped,
        };
        Ok((new, key))
    }

    /// The key of a row as another KEK wraps it.
    pub(crate) async fn rewrapped(
        &self,
        record: &KeyRecord,
        kek: &KekRef,
    ) -> Result<Wrapped, KeyError> {
        let context = WrapContext {
            scope: record.scope.clone(),
            key_id: record.id,
            purpose: record.purpose.as_str(),
        };
        if record.provider == kek.provider && record.kek == kek.kek {
            return self.rewrapped_within(record, kek, &context).await;
        }
        let key = self.unwrap(record).await?;
        self.wrap(&key, &context, kek).await
    }

    /// The key of a row as its KEK's present version wraps it. Where the provider can, the key does not leave it on the way;
    /// what comes back must be a key of this very row.
    async fn rewrapped_within(
        &self,
        record: &KeyRecord,
        kek: &KekRef,
        context: &WrapContext,
    ) -> Result<Wrapped, KeyError> {
        let (scope, id) = (&record.scope, record.id);
        let gate = self.gate(id, &kek.provider)?;
        let answer = gate.rewrap(&kek.kek, &record.wrapped, context).await;
        let wrapped = self.learn(answer, kek, scope, id)?;
        let answer = gate.unwrap(&kek.kek, &wrapped, context).await;
        let back = self.learn(answer, kek, scope, id)?;
        match binding::key(&back, context) {
            Some(_) => Ok(wrapped),
            None => Err(KeyError::Damaged {
                id,
                reason: "the provider gave back another key than it was given".to_owned(),
            }),
        }
    }

    /// Whether a key's KEK unwraps it.
    pub(crate) async fn opens(&self, record: &KeyRecord) -> Result<(), KeyError> {
        self.unwrap(record).await.map(drop)
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
        if self.awaits_stored.load(Ordering::Acquire) {
            return Err(KeyError::Unavailable {
                scope: scope.clone(),
                reason: "it is not known yet which key encryption key was set for it at run time"
                    .to_owned(),
            });
        }
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

/// `HMAC-SHA-256(own, label ‖ theirs)`: as good as the better of the two, whatever the other is.
fn mixed(own: &[u8; KEY_BYTES], theirs: &[u8; ENTROPY_BYTES]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(own).expect("HMAC takes keys of any length");
    mac.update(MIXED);
    mac.update(theirs);
    let mut digest = mac.finalize().into_bytes();
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    key.copy_from_slice(&digest);
    digest.as_mut_slice().zeroize();
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixed_key_depends_on_both_parts() {
        let key = mixed(&[1; 32], &[2; 32]);
        assert_ne!(*key, *mixed(&[1; 32], &[3; 32]));
        assert_ne!(*key, *mixed(&[2; 32], &[2; 32]));
        assert_eq!(*key, *mixed(&[1; 32], &[2; 32]));
    }
}
