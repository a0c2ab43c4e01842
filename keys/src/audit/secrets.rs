//! What the audit log's root key gives: a key for MACs of records, one for MACs of the keystore's rows, a signing key for
//! checkpoints, a key for step-up. They are held as long as the process lives, so that a provider that says no is still
//! recorded. Nothing is printed or stored.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{chain::Tip, record::Hash};
use crate::key::KEY_BYTES;

const MAC: &[u8] = b"pgveil audit mac v1";
const SIGN: &[u8] = b"pgveil audit sign v1";
const STEP_UP: &[u8] = b"pgveil step-up v1";
const ROWS: &[u8] = b"pgveil keystore rows v1";
const RECORD: &[u8] = b"record\0";
const HEAD: &[u8] = b"head\0";

/// Bytes of an Ed25519 public key.
pub type PublicKey = [u8; 32];
/// Bytes of an Ed25519 signature.
pub type Signature = [u8; 64];

/// Keys derived from one root.
pub struct Secrets {
    /// The root's id in the keystore.
    pub(super) id: u64,
    mac: Hmac<Sha256>,
    step_up: Hmac<Sha256>,
    rows: Hmac<Sha256>,
    signing: Ed25519KeyPair,
    public_key: PublicKey,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Secrets {
    /// Derives them. The root is uniformly random, so one step of HKDF-Expand (HMAC over a label) is enough for each.
    pub(crate) fn derive(id: u64, root: &[u8; KEY_BYTES]) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(&*expand(root, SIGN));
        let signing = Ed25519KeyPair::from_seed_unchecked(&*seed).expect("a seed is any 32 bytes");
        let mut public_key = [0; 32];
        public_key.copy_from_slice(signing.public_key().as_ref());
        Self {
            id,
            mac: keyed(&*expand(root, MAC)),
            step_up: keyed(&*expand(root, STEP_UP)),
            rows: keyed(&*expand(root, ROWS)),
            signing,
            public_key,
        }
    }

    /// What checkpoints are verified with.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The MAC of a record's canonical bytes.
    pub(crate) fn mac_record(&self, bytes: &[u8]) -> Hash {
        tag(&self.mac, &[RECORD, bytes])
    }

    /// The MAC of the chain's end.
    pub(super) fn mac_tip(&self, tip: &Tip) -> Hash {
        tag(&self.mac, &[HEAD, &tip.seq.to_be_bytes(), &tip.link])
    }

    /// A MAC under the key for step-up: of operators and tokens.
    pub(crate) fn mac_step_up(&self, label: &[u8], bytes: &[u8]) -> Hash {
        tag(&self.step_up, &[label, &[0], bytes])
    }

    /// The MAC of a row of the keystore: `label` names the table.
    pub(crate) fn mac_row(&self, label: &[u8], bytes: &[u8]) -> Hash {
        tag(&self.rows, &[label, &[0], bytes])
    }

    /// Signs.
    pub(super) fn sign(&self, message: &[u8]) -> Signature {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.signing.sign(message).as_ref());
        signature
    }
}

/// Whether two MACs are the same, in constant time.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// Whether `key` signed this.
pub(super) fn signed_by(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ED25519, key)
        .verify(message, signature)
        .is_ok()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn tag(key: &Hmac<Sha256>, parts: &[&[u8]]) -> Hash {
    let mut mac = key.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// RFC 5869, section 2.3, for one block.
fn expand(root: &[u8; KEY_BYTES], label: &[u8]) -> Zeroizing<Hash> {
    Zeroizing::new(tag(&keyed(root), &[label, &[1]]))
}
