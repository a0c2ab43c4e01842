//! The sealed value, or envelope: the bytes that a protected column holds (docs/sealed-value.md, format 0x01).
//!
//! Sealing and opening only: which key, which column, who may see it is decided elsewhere.

mod terms;

use aes_gcm::aead::{AeadInOut, inout::InOutBuf};
use pgveil_policy::plan::ColumnId;

pub use self::terms::Terms;
use crate::{DataKey, DekId, nonce::NONCE_BYTES};

/// "PGV" and the format's version.
pub const MAGIC: [u8; 4] = *b"PGV\x01";
/// Magic, column id, DEK id, term bits.
const HEADER_BYTES: usize = 17;
const TAG_BYTES: usize = 16;
/// The least a sealed value can be: 45 bytes.
pub const MIN_BYTES: usize = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;

/// Bytes that [`seal`] appends for a plaintext of that length.
pub fn sealed_len(terms: &Terms, plaintext_bytes: usize) -> usize {
    MIN_BYTES + terms.len() + plaintext_bytes
}

/// Bytes of a value up to the end of its nonce, by its term bits: no two values have the same.
pub fn marked_len(value: &[u8]) -> usize {
    let bits = value.get(HEADER_BYTES - 1).copied().unwrap_or_default();
    HEADER_BYTES + terms::len_of(bits) + NONCE_BYTES
}

/// Appends the sealed value to `out`. `nonce` must never have been used with this key before ([`crate::nonce::next`]).
///
/// On error `out` is as before.
pub fn seal(
    key: &DataKey,
    column: ColumnId,
    terms: &Terms,
    nonce: &[u8; NONCE_BYTES],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), UsedUp> {
    if !key.usage.take() {
        return Err(UsedUp { dek: key.id() });
    }
    // Reserved at once: growing later would leave plaintext behind in freed memory.
    out.reserve(sealed_len(terms, plaintext.len()));
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&column.0.to_be_bytes());
    out.extend_from_slice(&key.id().0.to_be_bytes());
    terms.write(out);
    let nonce_at = out.len();
    out.extend_from_slice(nonce);
    out.extend_from_slice(plaintext);
    let (header, body) = out[start..].split_at_mut(nonce_at - start);
    let tag = key
        .cipher
        .encrypt_inout_detached(
            nonce.into(),
            header,
            InOutBuf::from(&mut body[NONCE_BYTES..]),
        )
        .expect("a value of at most 1 GiB is far below GCM's 64 GiB");
    out.extend_from_slice(&tag);
    Ok(())
}

/// A DEK has sealed 2^32 values: one more would endanger them all. A new epoch is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("data key {dek} has sealed 2^32 values and must not seal more")]
pub struct UsedUp {
    /// The key.
    pub dek: DekId,
}

/// A sealed value taken apart, not yet opened: nothing of it is authentic until [`Envelope::open`] succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The column it was sealed for.
    pub column: ColumnId,
    /// The DEK that opens it.
    pub dek: DekId,
    /// Its equality terms.
    pub terms: Terms,
    header: &'a [u8],
    nonce: &'a [u8; NONCE_BYTES],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
}

impl<'a> Envelope<'a> {
    /// Takes a stored value apart.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Damaged> {
        let magic = bytes.first_chunk::<4>().ok_or(Damaged::NotSealed)?;
        if magic[..3] != MAGIC[..3] {
            return Err(Damaged::NotSealed);
        }
        if magic[3] != MAGIC[3] {
            return Err(Damaged::UnknownVersion { version: magic[3] });
        }
        let (column, rest) = bytes[4..].split_first_chunk().ok_or(Damaged::Cut)?;
        let (dek, rest) = rest.split_first_chunk().ok_or(Damaged::Cut)?;
        let (&[terms], rest) = rest.split_first_chunk().ok_or(Damaged::Cut)?;
        let (terms, rest) = Terms::split(terms, rest)?;
        let header = &bytes[..bytes.len() - rest.len()];
        let (nonce, rest) = rest.split_first_chunk().ok_or(Damaged::Cut)?;
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(Damaged::Cut)?;
        let (column, dek) = (
            ColumnId(u32::from_be_bytes(*column)),
            DekId(u64::from_be_bytes(*dek)),
        );
        Ok(Self {
            column,
            dek,
            terms,
            header,
            nonce,
            ciphertext,
            tag,
        })
    }

    /// Bytes of the plaintext.
    pub fn plaintext_len(&self) -> usize {
        self.ciphertext.len()
    }

    /// Appends the plaintext to `out`. On error `out` is as before.
    pub fn open(&self, key: &DataKey, out: &mut Vec<u8>) -> Result<(), Damaged> {
        if key.id() != self.dek {
            return Err(Damaged::OtherKey {
                named: self.dek,
                given: key.id(),
            });
        }
        let start = out.len();
        out.extend_from_slice(self.ciphertext);
        let buffer = InOutBuf::from(&mut out[start..]);
        // The tag is checked before a byte is decrypted.
        key.cipher
            .decrypt_inout_detached(self.nonce.into(), self.header, buffer, self.tag.into())
            .map_err(|_| {
                out.truncate(start);
                Damaged::NotAuthentic {
                    column: self.column,
                    dek: self.dek,
                }
            })
    }
}

/// Why a stored value does not open. Holds ids, never content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// It does not begin as a sealed value does: plaintext, or something else.
    #[error("the value is not a sealed value")]
    NotSealed,
    /// Sealed by a later pgveil.
    #[error("the sealed value has format version {version}, this pgveil reads version 1")]
    UnknownVersion {
        /// The fourth byte.
        version: u8,
    },
    /// Term bits that no format 1 has.
    #[error("the sealed value has unknown search term bits {bits:#04x}")]
    UnknownTerms {
        /// The bits.
        bits: u8,
    },
    /// Order and match terms.
    #[error(
        "the sealed value has search terms that this pgveil does not read yet (bits {bits:#04x})"
    )]
    UnsupportedTerms {
        /// The bits.
        bits: u8,
    },
    /// Shorter than its header says.
    #[error("the sealed value is cut short")]
    Cut,
    /// The caller's mistake, or a keystore that answers with another key.
    #[error("the sealed value names data key {named}, but key {given} was used to open it")]
    OtherKey {
        /// In the header.
        named: DekId,
        /// Whose.
        given: DekId,
    },
    /// The GCM tag does not match: changed, or sealed with another key.
    #[error("the sealed value of column {} was changed since it was sealed with data key {dek}", column.0)]
    NotAuthentic {
        /// What its header says, unauthenticated.
        column: ColumnId,
        /// What its header says, unauthenticated.
        dek: DekId,
    },
}

#[cfg(test)]
mod tests;
