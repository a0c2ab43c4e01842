//! Where a row stands in its table: its ctid, as the server sends it. It says nothing of what stands there by now.

use std::{error::Error, fmt};

use bytes::BytesMut;
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

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

impl<'a> FromSql<'a> for Place {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let [a, b, c, d, e, f] = *raw else {
            return Err("a tid has six bytes".into());
        };
        Ok(Self {
            block: u32::from_be_bytes([a, b, c, d]),
            at: u16::from_be_bytes([e, f]),
        })
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TID
    }
}

impl ToSql for Place {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.block.to_be_bytes());
        out.extend_from_slice(&self.at.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TID
    }

    to_sql_checked!();
}

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
        assert!(place.to_sql(&Type::TID, &mut out).is_ok());
        assert_eq!(&out[..], [1, 2, 3, 4, 5, 6]);
        let back = Place::from_sql(&Type::TID, &out).ok();
        assert_eq!(back, Some(place));
        assert_eq!(place.to_string(), "(16909060,1286)");
        assert!(Place::from_sql(&Type::TID, &out[..5]).is_err());
    }
}
