//! The cryptography of the local provider: sealing KEKs under the root key, and DEKs under KEKs.
//!
//! AES-256-GCM with random nonces both times: a root key seals a handful of KEKs, a KEK wraps one DEK per
//! scope and epoch, both far below the 2^32 of NIST SP 800-38D section 8.3.

use aes_gcm::{Aes256Gcm, KeyInit, aead::Aead, aead::Payload};
use zeroize::Zeroizing;

use super::{KekState, RootKey, SealedKek};
use crate::{WrapContext, provider::push_prefixed};

/// Starts everything that this provider wrapped: "PGK" and the format's version.
const MAGIC: &[u8; 4] = b"PGK\x01";
const KEK_LABEL: &[u8] = b"pgveil local kek v1\0";
const WRAP_LABEL: &[u8] = b"pgveil local wrap v1\0";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// An unsealed KEK. The cipher zeroizes its round keys when it goes.
pub(super) struct Kek(Aes256Gcm);

/// Makes a new KEK and seals it.
pub(super) fn create(
    root: &RootKey,
    provider: &str,
    kek: &str,
    version: u32,
) -> Result<SealedKek, getrandom::Error> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *key)?;
    let mut made = SealedKek {
        provider: provider.to_owned(),
        kek: kek.to_owned(),
        version,
        state: KekState::Active,
        sealed: Vec::new(),
    };
    made.sealed = seal(root.sealing(), &*key, &identity(KEK_LABEL, &made))?;
    Ok(made)
}

/// Unseals a KEK; `None` when it was altered or is another than its row says.
pub(super) fn open(root: &RootKey, sealed: &SealedKek) -> Option<Kek> {
    let key = unseal(root.sealing(), &sealed.sealed, &identity(KEK_LABEL, sealed))?;
    Aes256Gcm::new_from_slice(&key).ok().map(Kek)
}

/// `MAGIC ‖ nonce ‖ ciphertext ‖ tag`.
pub(super) fn wrap(
    key: &Kek,
    sealed: &SealedKek,
    plaintext: &[u8],
    context: &WrapContext,
) -> Result<Vec<u8>, getrandom::Error> {
    let mut wrapped = MAGIC.to_vec();
    wrapped.extend(seal(&key.0, plaintext, &wrap_aad(sealed, context))?);
    Ok(wrapped)
}

/// What follows the magic; `None` when these bytes are no wrapped key of this provider.
pub(super) fn body(wrapped: &[u8]) -> Option<&[u8]> {
    wrapped.strip_prefix(MAGIC)
}

/// Undoes [`wrap`] for a [`body`]; `None` when bytes, KEK, version or context differ.
pub(super) fn unwrap(
    key: &Kek,
    sealed: &SealedKek,
    body: &[u8],
    context: &WrapContext,
) -> Option<Zeroizing<Vec<u8>>> {
    unseal(&key.0, body, &wrap_aad(sealed, context))
}

fn wrap_aad(sealed: &SealedKek, context: &WrapContext) -> Vec<u8> {
    let mut aad = identity(WRAP_LABEL, sealed);
    push_prefixed(&mut aad, &context.aad());
    aad
}

/// `label ‖ provider ‖ KEK id ‖ version`, length-prefixed.
fn identity(label: &[u8], sealed: &SealedKek) -> Vec<u8> {
    let mut aad = label.to_vec();
    push_prefixed(&mut aad, sealed.provider.as_bytes());
    push_prefixed(&mut aad, sealed.kek.as_bytes());
    aad.extend_from_slice(&sealed.version.to_be_bytes());
    aad
}

fn seal(cipher: &Aes256Gcm, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>, getrandom::Error> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce)?;
    let payload = Payload {
        msg: plaintext,
        aad,
    };
    let ciphertext = cipher
        .encrypt(&nonce.into(), payload)
        .expect("a key is far below GCM's 64 GiB");
    Ok([&nonce[..], &ciphertext].concat())
}

fn unseal(cipher: &Aes256Gcm, sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, msg) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    cipher
        .decrypt(nonce.into(), Payload { msg, aad })
        .ok()
        .map(Zeroizing::new)
}
