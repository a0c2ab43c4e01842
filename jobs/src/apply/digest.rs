//! A digest over a table's rows that does not depend on their order: equal before and after only if every row kept
//! its own plaintexts. Constant memory; not a MAC, nobody is being authenticated.

use sha2::{Digest as _, Sha256};

/// Sum of the rows' SHA-256 digests, in four lanes that wrap, and their count. (A sum and not XOR, which would let two
/// equal rows cancel each other.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    rows: u64,
    lanes: [u64; 4],
}

impl Digest {
    /// Adds a row: what tells it from others, and the plaintexts of its sealed columns.
    pub(super) fn add<'a>(
        &mut self,
        identity: &[u8],
        values: impl Iterator<Item = Option<&'a [u8]>>,
    ) {
        let mut hash = Sha256::new();
        let mut part = |bytes: Option<&[u8]>| {
            // NULL is no length that a value can have.
            let length = bytes.map_or(u64::MAX, |b| b.len() as u64);
            hash.update(length.to_be_bytes());
            hash.update(bytes.unwrap_or_default());
        };
        part(Some(identity));
        values.for_each(&mut part);
        for (lane, chunk) in self.lanes.iter_mut().zip(hash.finalize().chunks_exact(8)) {
            let number = u64::from_be_bytes(chunk.try_into().expect("chunks of 8 bytes"));
            *lane = lane.wrapping_add(number);
        }
        self.rows += 1;
    }

    /// Rows added.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(&str, Option<&str>)]) -> Digest {
        let mut digest = Digest::default();
        for (identity, value) in rows {
            digest.add(
                identity.as_bytes(),
                std::iter::once(value.map(str::as_bytes)),
            );
        }
        digest
    }

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let (a, b) = (("1", Some("x")), ("2", Some("y")));
        assert_eq!(of(&[a, b]), of(&[b, a]));
        assert_ne!(of(&[a, b]), of(&[("1", Some("y")), ("2", Some("x"))]));
        assert_ne!(of(&[a, a]), of(&[b, b]));
        assert_ne!(of(&[("1", None)]), of(&[("1", Some(""))]));
        assert_ne!(of(&[("1x", Some(""))]), of(&[("1", Some("x"))]));
    }
}
