//! What a vault's wrapped key looks like: a content encryption key (CEK) that the vault wraps, what the CEK seals, and
//! under RSA the vault's signature over both. Asks nobody.
//!
//! ```text
//! "PVAZ" ‖ format 1 ‖ wrapping: 1 RSA-OAEP-256, 2 A256KW
//! u16be length ‖ wrapped CEK
//! u16be length ‖ PS256 signature, empty under A256KW
//! nonce (12) ‖ AES-256-GCM(CEK, plaintext) with its tag
//! ```
//!
//! Associated data of the seal, and under RSA the message that is signed, is each of these behind its length (u32be): a
//! label, the key's name, its version, the context, the wrapped CEK; and in the message the nonce with the sealed bytes.

use aes_gcm::{Aes256Gcm, KeyInit, aead::Aead, aead::Payload};
use aws_lc_rs::{rsa::PublicKeyComponents, signature::RSA_PSS_2048_8192_SHA256};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{WrapContext, provider::push_prefixed};

/// The content encryption key.
pub(super) const CEK_BYTES: usize = 32;

const MAGIC: &[u8; 4] = b"PVAZ";
const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 12;
/// What RSA-8192 makes, of a wrapped CEK and of a signature.
const MAX_PART_BYTES: u16 = 1024;
const SEALED: &[u8] = b"pgveil azure v1 sealed";
const SIGNED: &[u8] = b"pgveil azure v1 signed";

/// How a vault's key wraps the CEK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// RSA-OAEP-256, and PS256 for the signature.
    Rsa = 1,
    /// A256KW, which only the key's holder can do.
    Aes = 2,
}

/// What a wrapped key is bound to.
pub(super) struct Place<'a> {
    pub(super) kek: &'a str,
    pub(super) version: &'a str,
    pub(super) context: &'a WrapContext,
}

/// A new key for one wrapping.
pub(super) fn new_cek() -> Result<Zeroizing<[u8; CEK_BYTES]>, getrandom::Error> {
    let mut cek = Zeroizing::new([0; CEK_BYTES]);
    getrandom::fill(&mut *cek)?;
    Ok(cek)
}

/// A wrapped key without its signature.
pub(super) struct Envelope {
    wrapping: Wrapping,
    wrapped_cek: Vec<u8>,
    /// Nonce and ciphertext.
    sealed: Vec<u8>,
}

impl Envelope {
    pub(super) fn wrapping(&self) -> Wrapping {
        self.wrapping
    }

    pub(super) fn wrapped_cek(&self) -> &[u8] {
        &self.wrapped_cek
    }

    /// Seals under a CEK that serves for this once.
    pub(super) fn seal(
        wrapping: Wrapping,
        cek: &[u8; CEK_BYTES],
        wrapped_cek: Vec<u8>,
        plaintext: &[u8],
        place: &Place<'_>,
    ) -> Result<Self, getrandom::Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let mut envelope = Self {
            wrapping,
            wrapped_cek,
            sealed: nonce.to_vec(),
        };
        let payload = Payload {
            msg: plaintext,
            aad: &envelope.bound(SEALED, place),
        };
        let ciphertext = Aes256Gcm::new(cek.into())
            .encrypt(&nonce.into(), payload)
            .expect("a key is far shorter than AES-GCM's limit");
        envelope.sealed.extend_from_slice(&ciphertext);
        Ok(envelope)
    }

    pub(super) fn open(
        &self,
        cek: &[u8; CEK_BYTES],
        place: &Place<'_>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, msg) = self.sealed.split_first_chunk::<NONCE_BYTES>()?;
        let aad = &self.bound(SEALED, place);
        let opened = Aes256Gcm::new(cek.into()).decrypt(nonce.into(), Payload { msg, aad });
        opened.ok().map(Zeroizing::new)
    }

    /// Everything but the sealed bytes, in a form that no other place and wrapped CEK have.
    fn bound(&self, label: &[u8], place: &Place<'_>) -> Vec<u8> {
        let mut bound = Vec::new();
        push_prefixed(&mut bound, label);
        push_prefixed(&mut bound, place.kek.as_bytes());
        push_prefixed(&mut bound, place.version.as_bytes());
        push_prefixed(&mut bound, &place.context.aad());
        push_prefixed(&mut bound, &self.wrapped_cek);
        bound
    }

    /// What is signed.
    fn message(&self, place: &Place<'_>) -> Vec<u8> {
        let mut message = self.bound(SIGNED, place);
        push_prefixed(&mut message, &self.sealed);
        message
    }

    /// What a vault is asked to sign: it takes the hash.
    pub(super) fn digest(&self, place: &Place<'_>) -> [u8; 32] {
        Sha256::digest(self.message(place)).into()
    }

    /// The bytes that are kept; `None` if a vault gave parts that are longer than any key makes.
    pub(super) fn with(&self, signature: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[FORMAT, self.wrapping as u8]);
        for part in [self.wrapped_cek.as_slice(), signature] {
            let length = u16::try_from(part.len()).ok()?;
            if length > MAX_PART_BYTES {
                return None;
            }
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(&self.sealed);
        Some(bytes)
    }

    /// Envelope and signature; `None` for what is no such thing.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&[FORMAT])?;
        let (wrapping, rest) = rest.split_first()?;
        let wrapping = match wrapping {
            1 => Wrapping::Rsa,
            2 => Wrapping::Aes,
            _ => return None,
        };
        let (wrapped_cek, rest) = part(rest)?;
        let (signature, sealed) = part(rest)?;
        let envelope = Self {
            wrapping,
            wrapped_cek: wrapped_cek.to_vec(),
            sealed: sealed.to_vec(),
        };
        Some((envelope, signature))
    }
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// A public key of RSA, 2,048 to 8,192 bits.
#[derive(Clone)]
pub(super) struct PublicKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl PublicKey {
    /// From modulus and exponent, big-endian; `None` for a size that cannot be used.
    pub(super) fn new(modulus: Option<Vec<u8>>, exponent: Option<Vec<u8>>) -> Option<Self> {
        let without_zeros = |bytes: Vec<u8>| -> Vec<u8> {
            bytes.into_iter().skip_while(|byte| *byte == 0).collect()
        };
        let key = Self {
            modulus: without_zeros(modulus?),
            exponent: without_zeros(exponent?),
        };
        let fits = (2048..=8192).contains(&key.bits()) && !key.exponent.is_empty();
        fits.then_some(key)
    }

    pub(super) fn bits(&self) -> usize {
        let zeros = self.modulus.first().map_or(0, |byte| byte.leading_zeros());
        self.modulus.len() * 8 - zeros as usize
    }

    /// Whether the key's holder signed this envelope for this place.
    pub(super) fn verifies(
        &self,
        envelope: &Envelope,
        place: &Place<'_>,
        signature: &[u8],
    ) -> bool {
        let key = PublicKeyComponents {
            n: self.modulus.as_slice(),
            e: self.exponent.as_slice(),
        };
        let message = envelope.message(place);
        key.verify(&RSA_PSS_2048_8192_SHA256, &message, signature)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(scope: &str) -> WrapContext {
        WrapContext {
            scope: scope.to_owned(),
            key_id: 7,
            purpose: "data",
        }
    }

    fn place<'a>(kek: &'a str, version: &'a str, context: &'a WrapContext) -> Place<'a> {
        Place {
            kek,
            version,
            context,
        }
    }

    const CEK: [u8; CEK_BYTES] = [3; CEK_BYTES];

    fn sealed(place: &Place<'_>) -> Envelope {
        Envelope::seal(Wrapping::Aes, &CEK, vec![9; 40], b"a key", place).unwrap()
    }

    #[test]
    fn it_opens_where_it_was_sealed_and_nowhere_else() {
        let (here, there) = (context("a"), context("b"));
        let envelope = sealed(&place("k", "1", &here));
        let opened = envelope.open(&CEK, &place("k", "1", &here));
        assert_eq!(opened.as_deref().map(Vec::as_slice), Some(&b"a key"[..]));
        for elsewhere in [
            place("k", "1", &there),
            place("k", "2", &here),
            place("l", "1", &here),
        ] {
            assert!(envelope.open(&CEK, &elsewhere).is_none());
        }
        assert!(
            envelope
                .open(&[4; CEK_BYTES], &place("k", "1", &here))
                .is_none()
        );
    }

    #[test]
    fn its_bytes_are_read_back_and_any_other_are_not_it() {
        let here = context("a");
        let place = place("k", "1", &here);
        let bytes = sealed(&place).with(b"signature").unwrap();
        let (envelope, signature) = Envelope::parse(&bytes).unwrap();
        assert_eq!(
            (envelope.wrapping(), signature),
            (Wrapping::Aes, &b"signature"[..])
        );
        assert!(envelope.open(&CEK, &place).is_some());
        for end in 0..bytes.len() {
            let opened = Envelope::parse(&bytes[..end])
                .and_then(|(envelope, _)| envelope.open(&CEK, &place));
            assert!(opened.is_none(), "cut at {end}");
        }
        // Byte by byte; the signature is not this seal's to protect.
        let (from, to) = (8 + 40, 8 + 40 + 2 + 9);
        for at in (0..from).chain(to..bytes.len()) {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            let opened =
                Envelope::parse(&altered).and_then(|(envelope, _)| envelope.open(&CEK, &place));
            assert!(opened.is_none(), "altered at {at}");
        }
    }

    #[test]
    fn parts_that_no_key_makes_are_not_kept() {
        let here = context("a");
        let place = place("k", "1", &here);
        let longest = usize::from(MAX_PART_BYTES);
        let made = |cek: usize, signature: usize| {
            Envelope::seal(Wrapping::Rsa, &CEK, vec![9; cek], b"a key", &place)
                .unwrap()
                .with(&vec![7; signature])
        };
        assert!(made(longest, longest).is_some());
        assert!(made(longest + 1, 0).is_none() && made(0, longest + 1).is_none());
        assert!(made(1 << 16, 0).is_none() && made(0, 1 << 16).is_none());
    }

    #[test]
    fn what_is_signed_differs_with_everything_in_it() {
        let (here, there) = (context("a"), context("b"));
        let envelope = sealed(&place("k", "1", &here));
        let digest = envelope.digest(&place("k", "1", &here));
        assert_ne!(digest, envelope.digest(&place("k", "1", &there)));
        assert_ne!(digest, envelope.digest(&place("k", "2", &here)));
        assert_ne!(digest, envelope.digest(&place("k1", "", &here)));
        let another = sealed(&place("k", "1", &here));
        assert_ne!(digest, another.digest(&place("k", "1", &here)));
    }

    #[test]
    fn public_keys_that_are_too_short_are_none() {
        let key = |bytes| PublicKey::new(Some(vec![0xFF; bytes]), Some(vec![1, 0, 1]));
        assert_eq!(key(256).map(|key| key.bits()), Some(2048));
        assert!(key(255).is_none() && key(1025).is_none() && key(0).is_none());
        assert!(PublicKey::new(Some(vec![0xFF; 256]), Some(vec![0])).is_none());
    }
}
