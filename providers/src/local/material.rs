//! Key material at rest and AES keys in use: sealing versions under the root key, and what AES versions encrypt.
//!
//! AES-256-GCM with random nonces both times: a root key seals a handful of keys, a KEK wraps one DEK per scope and epoch, both
//! far below the 2^32 of NIST SP 800-38D section 8.3. Who encrypts more with a key rotates it accordingly.

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

use super::{RootKey, asymmetric, key::Algorithm};
use crate::provider::push_prefixed;

/// Starts what this provider wrapped: "PGK" and the format's version; the key's version follows.
const MAGIC: &[u8; 4] = b"PGK\x02";
/// The first format, which did not name the key's version.
const FIRST_MAGIC: &[u8; 4] = b"PGK\x01";
const MATERIAL_LABEL: &[u8] = b"pgveil local key v2\0";
/// Of KEKs that have no record yet.
const FIRST_LABEL: &[u8] = b"pgveil local kek v1\0";
const WRAP_LABEL: &[u8] = b"pgveil local wrap v1\0";
const ENCRYPT_LABEL: &[u8] = b"pgveil local encrypt v1\0";
const KEY_BYTES: usize = 32;
/// Of nonces, and of the initialization vectors of the XKS Proxy API.
pub(super) const NONCE_BYTES: usize = 12;
/// Of GCM.
pub(super) const TAG_BYTES: usize = 16;

/// Which version of which key.
#[derive(Clone, Copy)]
pub(super) struct Id<'a> {
    pub(super) provider: &'a str,
    pub(super) name: &'a str,
    pub(super) version: u32,
}

impl Id<'_> {
    /// `label ‖ provider ‖ name ‖ version`, length-prefixed.
    fn labelled(&self, label: &[u8]) -> Vec<u8> {
        let mut aad = label.to_vec();
        push_prefixed(&mut aad, self.provider.as_bytes());
        push_prefixed(&mut aad, self.name.as_bytes());
        aad.extend_from_slice(&self.version.to_be_bytes());
        aad
    }

    fn sealing(&self, algorithm: Algorithm) -> Vec<u8> {
        let mut aad = self.labelled(MATERIAL_LABEL);
        push_prefixed(&mut aad, algorithm.as_str().as_bytes());
        aad
    }

    /// What a wrapped DEK is bound to.
    pub(super) fn wrapping(&self, context: &[u8]) -> Vec<u8> {
        let mut aad = self.labelled(WRAP_LABEL);
        push_prefixed(&mut aad, context);
        aad
    }

    /// What is encrypted by hand is bound to.
    pub(super) fn encrypting(&self, context: &[u8]) -> Vec<u8> {
        let mut aad = self.labelled(ENCRYPT_LABEL);
        push_prefixed(&mut aad, context);
        aad
    }
}

/// What a version holds: 32 random bytes, or a PKCS #8 document.
pub(super) type Material = Zeroizing<Vec<u8>>;

/// No random bytes, or no key.
#[derive(Debug)]
pub(super) struct NoKey;

/// Makes material. RSA takes its time.
pub(super) fn generate(algorithm: Algorithm) -> Result<Material, NoKey> {
    if algorithm != Algorithm::Aes256 {
        return asymmetric::generate(algorithm).ok_or(NoKey);
    }
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    getrandom::fill(&mut key).map_err(|_| NoKey)?;
    Ok(key)
}

/// `nonce ‖ ciphertext ‖ tag` under the root key, bound to the version and its algorithm.
pub(super) fn seal(
    root: &RootKey,
    id: Id<'_>,
    algorithm: Algorithm,
    material: &[u8],
) -> Result<Vec<u8>, NoKey> {
    encrypt(root.sealing(), material, &id.sealing(algorithm))
}

/// Undoes [`seal`]; `None` when it was altered or is another's.
pub(super) fn open(
    root: &RootKey,
    id: Id<'_>,
    algorithm: Algorithm,
    sealed: &[u8],
) -> Option<Material> {
    decrypt(root.sealing(), sealed, &id.sealing(algorithm))
}

/// Material that was sealed before keys had records.
pub(super) fn open_first(root: &RootKey, id: Id<'_>, sealed: &[u8]) -> Option<Material> {
    decrypt(root.sealing(), sealed, &id.labelled(FIRST_LABEL))
}

/// What [`open_first`] opens, as an earlier pgveil made it.
#[cfg(test)]
pub(super) fn seal_first(root: &RootKey, id: Id<'_>, material: &[u8]) -> Result<Vec<u8>, NoKey> {
    encrypt(root.sealing(), material, &id.labelled(FIRST_LABEL))
}

/// What an earlier pgveil wrapped: without the version.
#[cfg(test)]
pub(super) fn wrapped_first(body: &[u8]) -> Vec<u8> {
    [&FIRST_MAGIC[..], body].concat()
}

/// An AES version in use. The cipher zeroizes its round keys when it goes.
pub(super) struct AesKey(Aes256Gcm);

impl AesKey {
    /// `None` where the material is not of an AES key.
    pub(super) fn new(material: &[u8]) -> Option<Self> {
        Aes256Gcm::new_from_slice(material).ok().map(Self)
    }

    /// `nonce ‖ ciphertext ‖ tag`.
    pub(super) fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>, NoKey> {
        encrypt(&self.0, plaintext, aad)
    }

    /// Undoes [`AesKey::encrypt`]; `None` when anything differs.
    pub(super) fn decrypt(&self, sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        decrypt(&self.0, sealed, aad)
    }
}

/// `MAGIC ‖ u32be version ‖ body`.
pub(super) fn wrapped(version: u32, body: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &version.to_be_bytes(), body].concat()
}

/// The body of something wrapped, and the version that it names itself; `None` when it is no wrapped key of this provider.
pub(super) fn unwrapped(wrapped: &[u8]) -> Option<(Option<u32>, &[u8])> {
    if let Some(body) = wrapped.strip_prefix(FIRST_MAGIC) {
        return Some((None, body));
    }
    let (version, body) = wrapped.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    Some((Some(u32::from_be_bytes(*version)), body))
}

fn encrypt(cipher: &Aes256Gcm, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>, NoKey> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| NoKey)?;
    let payload = Payload {
        msg: plaintext,
        aad,
    };
    let ciphertext = cipher
        .encrypt(&nonce.into(), payload)
        .expect("what is encrypted here is far below GCM's 64 GiB");
    Ok([&nonce[..], &ciphertext].concat())
}

fn decrypt(cipher: &Aes256Gcm, sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, msg) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    cipher
        .decrypt(nonce.into(), Payload { msg, aad })
        .ok()
        .map(Zeroizing::new)
}
