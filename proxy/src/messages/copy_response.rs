//! `CopyInResponse`, `CopyOutResponse`, `CopyBothResponse`: a COPY begins; the tag says in which direction.

use super::{Malformed, body::Body};

/// How the data of a COPY will be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyResponse<'a> {
    /// COPY BINARY; else text or CSV, which the message does not tell apart.
    pub binary: bool,
    columns: &'a [[u8; 2]],
}

impl<'a> CopyResponse<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let binary = match body.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed::InvalidFormat),
        };
        let count = body.u16()?;
        let (columns, _) = body.bytes(usize::from(count) * 2)?.as_chunks();
        body.end()?;
        Ok(Self { binary, columns })
    }

    /// The columns' format codes.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = i16> + 'a {
        self.columns.iter().map(|code| i16::from_be_bytes(*code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::exactly;

    #[test]
    fn reads_exactly() {
        let body = b"\x01\0\x02\0\x01\0\x01";
        let copy = CopyResponse::read(body).unwrap();
        assert!(copy.binary);
        assert_eq!(copy.columns().collect::<Vec<_>>(), [1, 1]);
        exactly(body, |body| CopyResponse::read(body).is_ok());
        assert!(CopyResponse::read(b"\x02\0\0").is_err());
    }
}
