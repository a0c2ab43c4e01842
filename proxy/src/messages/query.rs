//! `Query`: one string of SQL, any number of statements.

use bytes::BytesMut;

use super::{Malformed, TooLong, body::Body, builder::FrameBuilder, tag::client::QUERY};

/// A simple query.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// In the client's encoding, without the NUL.
    pub sql: &'a [u8],
}

impl<'a> Query<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let sql = body.string()?;
        body.end()?;
        Ok(Self { sql })
    }

    /// Appends the frame.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        let mut frame = FrameBuilder::begin(out, QUERY);
        frame.string(self.sql);
        frame.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, exactly};

    #[test]
    fn round_trips_exactly() {
        let body = body_of(QUERY, |out| {
            Query {
                sql: b"select 'caf\xe9'",
            }
            .write(out)
            .unwrap();
        });
        assert!(Query::read(&body).unwrap().sql == b"select 'caf\xe9'");
        exactly(&body, |body| Query::read(body).is_ok());
    }

    #[test]
    fn a_second_query_in_one_frame_is_refused() {
        assert_eq!(
            Query::read(b"select 1\0drop table t\0").err(),
            Some(Malformed::InvalidFormat)
        );
        assert_eq!(
            Query::read(b"select 1").err(),
            Some(Malformed::InvalidString)
        );
    }
}
