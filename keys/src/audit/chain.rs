//! How records hang together: each holds the link of the one before, a link is the hash of a record and its MAC, and the
//! head of the chain has a MAC of its own. Nothing is stored here.

use sha2::{Digest, Sha256};

use super::{
    record::{Hash, Record},
    secrets::Secrets,
};

const GENESIS: &[u8] = b"pgveil audit genesis v1\0";
const LINK: &[u8] = b"pgveil audit link v1\0";

/// What the first record holds as the link before it: it names the audit key and its public key.
pub fn genesis(audit_key: u64, public_key: &[u8; 32]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(GENESIS);
    hash.update(audit_key.to_be_bytes());
    hash.update(public_key);
    hash.finalize().into()
}

/// What the next record holds of this one. Needs no key: whoever has a later signed checkpoint can follow all links.
pub fn link(record: &[u8], mac: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update(LINK);
    hash.update((record.len() as u64).to_be_bytes());
    hash.update(record);
    hash.update(mac);
    hash.finalize().into()
}

/// The end of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The last record's number; 0 before the first.
    pub seq: u64,
    /// Its link; [`genesis`] before the first.
    pub link: Hash,
}

/// A record with its MAC, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Canonical bytes.
    pub bytes: Vec<u8>,
    /// Under the audit key.
    pub mac: Hash,
}

impl Tip {
    /// Puts a record behind the tip, which it then is.
    pub(super) fn append(&mut self, record: &Record, secrets: &Secrets) -> Sealed {
        let bytes = record.to_bytes();
        let mac = secrets.mac_record(&bytes);
        self.seq = record.seq;
        self.link = link(&bytes, &mac);
        Sealed { bytes, mac }
    }
}
