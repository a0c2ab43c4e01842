//! `ReadyForQuery`: the server's word that it is idle, and in which transaction state.

use bytes::BytesMut;
use pgwire::messages::{Message, response};

pub use pgwire::messages::response::TransactionStatus;

use super::{Malformed, body::Body};

/// The end of a query cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyForQuery {
    /// The server's transaction state.
    pub status: TransactionStatus,
}

impl ReadyForQuery {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let status =
            TransactionStatus::try_from(body.u8()?).map_err(|_| Malformed::InvalidFormat)?;
        body.end()?;
        Ok(Self { status })
    }

    /// Appends the frame.
    pub fn write(&self, out: &mut BytesMut) {
        response::ReadyForQuery::new(self.status)
            .encode(out)
            .expect("five bytes are below any limit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{
        tag::server::READY_FOR_QUERY,
        testing::{body_of, exactly},
    };

    #[test]
    fn round_trips_exactly() {
        for status in [
            TransactionStatus::Idle,
            TransactionStatus::Transaction,
            TransactionStatus::Error,
        ] {
            let body = body_of(READY_FOR_QUERY, |out| ReadyForQuery { status }.write(out));
            assert_eq!(ReadyForQuery::read(&body).unwrap().status, status);
            exactly(&body, |body| ReadyForQuery::read(body).is_ok());
        }
        assert!(ReadyForQuery::read(b"X").is_err());
    }
}
