//! `Parse`: SQL for a prepared statement.

use bytes::BytesMut;

use super::{Malformed, TooLong, body::Body, builder::FrameBuilder, tag::client::PARSE};

/// A statement to prepare.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Empty for the unnamed statement.
    pub name: &'a [u8],
    /// In the client's encoding, without the NUL.
    pub sql: &'a [u8],
    oids: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let name = body.string()?;
        let sql = body.string()?;
        let count = body.u16()?;
        let oids = body.bytes(usize::from(count) * 4)?;
        body.end()?;
        Ok(Self { name, sql, oids })
    }

    /// The types that the client declares for the first parameters; 0 leaves one to the server.
    pub fn param_oids(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        let (oids, _) = self.oids.as_chunks::<4>();
        oids.iter().map(|oid| u32::from_be_bytes(*oid))
    }

    /// Appends a frame. At most 65,535 `param_oids` are written.
    pub fn write(
        out: &mut BytesMut,
        name: &[u8],
        sql: &[u8],
        param_oids: impl ExactSizeIterator<Item = u32>,
    ) -> Result<(), TooLong> {
        let count = u16::try_from(param_oids.len()).unwrap_or(u16::MAX);
        let mut frame = FrameBuilder::begin(out, PARSE);
        frame.string(name);
        frame.string(sql);
        frame.u16(count);
        param_oids
            .take(usize::from(count))
            .for_each(|oid| frame.u32(oid));
        frame.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, exactly};

    #[test]
    fn round_trips_exactly() {
        let body = body_of(PARSE, |out| {
            Parse::write(out, b"s1", b"select $1", [25, 0, 17].into_iter()).unwrap();
        });
        let parse = Parse::read(&body).unwrap();
        assert_eq!((parse.name, parse.sql), (&b"s1"[..], &b"select $1"[..]));
        assert_eq!(parse.param_oids().collect::<Vec<_>>(), [25, 0, 17]);
        exactly(&body, |body| Parse::read(body).is_ok());
    }

    #[test]
    fn a_missing_type_count_is_refused() {
        assert_eq!(
            Parse::read(b"\0select 1\0").err(),
            Some(Malformed::InsufficientData)
        );
    }
}
