//! Keys that rows which have arrived will ask for, loaded together while the first of them is awaited. A guess from the bytes:
//! what it misses is fetched when its row comes, and what it finds too much is only in the cache.

use std::{collections::HashSet, sync::Arc};

use pgveil_keys::{DekId, Keys, MAX_WARMED, sealed::MAGIC};
use pgveil_policy::Refusal;
use tokio::task::JoinHandle;

use super::UpstreamSide;
use crate::session::values;

/// Column id and DEK id, behind the magic.
const IDS_BYTES: usize = 12;
/// [`MAGIC`] in the hex form of `bytea`.
const HEX_MAGIC: &[u8] = b"50475601";

/// The load ahead that is under way, at most one of a session.
#[derive(Debug, Default)]
pub(super) struct Ahead(Option<JoinHandle<()>>);

impl Ahead {
    /// Begins to load the keys that these bytes name, `first` set aside: the caller fetches it.
    pub(super) fn begin(&mut self, keys: &Arc<Keys>, bytes: &[u8], first: DekId) {
        if self.0.as_ref().is_some_and(|load| !load.is_finished()) {
            return;
        }
        let wanted = named(bytes, |id| {
            id != first && keys.cached_opening_key(id).is_none()
        });
        if !wanted.is_empty() {
            self.0 = Some(tokio::spawn(Arc::clone(keys).warm(wanted)));
        }
    }
}

impl<R, W> UpstreamSide<R, W> {
    /// Fetches the key that the row at the cursor needs, and begins with those of the rows behind it.
    pub(super) async fn fetch_key(&mut self, key: DekId) -> Result<(), Refusal> {
        let keys = &self.shared.engine.keys;
        self.ahead.begin(keys, self.reader.arrived(), key);
        values::fetch_key(keys, key).await
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(load) = &self.0 {
            load.abort();
        }
    }
}

/// The DEK ids behind what looks like the beginning of a sealed value, in binary or as text, each once.
fn named(bytes: &[u8], missing: impl Fn(DekId) -> bool) -> Vec<DekId> {
    let binary = memchr::memmem::find_iter(bytes, &MAGIC).filter_map(|at| {
        let ids = bytes.get(at + MAGIC.len()..)?.first_chunk::<IDS_BYTES>()?;
        Some(*ids)
    });
    let text = memchr::memmem::find_iter(bytes, HEX_MAGIC).filter_map(|at| {
        let digits = bytes.get(at + HEX_MAGIC.len()..)?.get(..2 * IDS_BYTES)?;
        let mut ids = [0; IDS_BYTES];
        hex::decode_to_slice(digits, &mut ids).ok().map(|()| ids)
    });
    let mut seen = HashSet::new();
    binary
        .chain(text)
        .map(|ids| {
            let mut id = [0; 8];
            id.copy_from_slice(&ids[4..]);
            DekId(u64::from_be_bytes(id))
        })
        .filter(|id| missing(*id) && seen.insert(*id))
        .take(MAX_WARMED)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_both_forms_once_each_and_cut_values_are_none() {
        let mut binary = b"....PGV\x01\0\0\0\x07".to_vec();
        binary.extend(5_u64.to_be_bytes());
        let text = b"\\x50475601000000070000000000000006";
        let mut bytes = [&binary[..], &text[..], &binary[..]].concat();
        bytes.extend(b"PGV\x01\0\0\0\x07\0\0");
        assert_eq!(named(&bytes, |_| true), [DekId(5), DekId(6)]);
        assert_eq!(named(&bytes, |id| id != DekId(5)), [DekId(6)]);
        assert_eq!(named(b"50475601zz", |_| true), []);
    }

    #[test]
    fn however_many_there_are_the_guess_is_bounded() {
        let mut bytes = Vec::new();
        for id in 0..1000_u64 {
            bytes.extend(MAGIC);
            bytes.extend([0; 4]);
            bytes.extend(id.to_be_bytes());
        }
        assert_eq!(named(&bytes, |_| true).len(), MAX_WARMED);
    }
}
