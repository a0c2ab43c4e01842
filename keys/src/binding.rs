//! What is wrapped: a key together with the hash of what it is for. Provider-independent, so that wrapped keys
//! cannot be swapped even where a KMS has no encryption context. The wrapping itself is the provider's.

use pgveil_providers::WrapContext;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::key::KEY_BYTES;

/// Key and binding.
pub(crate) const PAYLOAD_BYTES: usize = KEY_BYTES + 32;

/// `key ‖ SHA-256(context)`, where context is [`WrapContext::aad`].
pub(crate) fn payload(
    key: &[u8; KEY_BYTES],
    context: &WrapContext,
) -> Zeroizing<[u8; PAYLOAD_BYTES]> {
    let mut payload = Zeroizing::new([0; PAYLOAD_BYTES]);
    payload[..KEY_BYTES].copy_from_slice(key);
    payload[KEY_BYTES..].copy_from_slice(&Sha256::digest(context.aad()));
    payload
}

/// The key of an unwrapped payload; `None` when it was wrapped for something else, or is no payload.
pub(crate) fn key(payload: &[u8], context: &WrapContext) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let payload: &[u8; PAYLOAD_BYTES] = payload.try_into().ok()?;
    let (key, binding) = payload.split_at(KEY_BYTES);
    let expected = Sha256::digest(context.aad());
    if !bool::from(binding.ct_eq(&expected)) {
        return None;
    }
    let mut bound = Zeroizing::new([0; KEY_BYTES]);
    bound.copy_from_slice(key);
    Some(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(scope: &str, key_id: u64, purpose: &'static str) -> WrapContext {
        WrapContext {
            scope: scope.to_owned(),
            key_id,
            purpose,
        }
    }

    #[test]
    fn a_payload_gives_its_key_back_for_its_own_context_only() {
        let here = context("tenant:a", 7, "data");
        let payload = payload(&[5; KEY_BYTES], &here);
        assert_eq!(key(&*payload, &here).as_deref(), Some(&[5; KEY_BYTES]));
        for other in [
            context("tenant:b", 7, "data"),
            context("tenant:a", 8, "data"),
            context("tenant:a", 7, "index"),
        ] {
            assert!(key(&*payload, &other).is_none());
        }
    }

    #[test]
    fn other_lengths_are_no_payload() {
        let here = context("tenant:a", 7, "data");
        let payload = payload(&[5; KEY_BYTES], &here);
        assert!(key(&payload[..PAYLOAD_BYTES - 1], &here).is_none());
        assert!(key(&[&payload[..], &[0]].concat(), &here).is_none());
        assert!(key(&[], &here).is_none());
    }
}
