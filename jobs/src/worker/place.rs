//! Where a row stands in its table: its ctid, as the server sends it. It says nothing of what stands there by now.

use std::fmt;

use bytes::BytesMut;
use postgres_types::Type;

use crate::apply::raw::in_binary_form;

/// A block, and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    block: u32,
    at: u16,
}

/// As the server writes it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.block, self.at)
    }
}

impl Place {
    fn parse(raw: &[u8]) -> Option<Self> {
        let (block, at) = raw.split_first_chunk::<4>()?;
        Some(Self {
            block: u32::from_be_bytes(*block),
            at: u16::from_be_bytes(at.try_into().ok()?),
        })
    }

    fn put(self, out: &mut BytesMut) {
        out.extend_from_slice(&self.block.to_be_bytes());
        out.extend_from_slice(&self.at.to_be_bytes());
    }
}

in_binary_form!(Place, Type::TID);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read_back_and_shown_as_the_server_does() {
        let place = Place {
            block: 0x0102_0304,
            at: 0x0506,
        };
        let mut out = BytesMut::new();
        place.put(&mut out);
        assert_eq!(&out[..], [1, 2, 3, 4, 5, 6]);
        assert_eq!(Place::parse(&out), Some(place));
        assert_eq!(place.to_string(), "(16909060,1286)");
        assert_eq!(Place::parse(&out[..5]), None);
    }
}
