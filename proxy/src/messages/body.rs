//! A cursor over a message's body with pqformat.c's checks. It copies nothing and converts no encoding.

use super::error_response::Report;

/// Why a body is not the message its tag says: an ERROR with SQLSTATE 08P01 in PostgreSQL's own words.
/// `Display` is the server's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A byte is due and none is left (`pq_getmsgbyte`).
    #[error("no data left in message")]
    NoData,
    /// Fewer bytes are left than are due (`pq_copymsgbytes`, `pq_getmsgbytes`).
    #[error("insufficient data left in message")]
    InsufficientData,
    /// A string has no terminator (`pq_getmsgstring`).
    #[error("invalid string in message")]
    InvalidString,
    /// Bytes are left (`pq_getmsgend`), or a server's message says something impossible.
    #[error("invalid message format")]
    InvalidFormat,
    /// `Bind` with several format codes and another number of parameters.
    #[error("bind message has {formats} parameter formats but {parameters} parameters")]
    ParameterFormats {
        /// Format codes.
        formats: u16,
        /// Parameters.
        parameters: u16,
    },
    /// `Describe` of neither `S` nor `P`.
    #[error("invalid DESCRIBE message subtype {0}")]
    DescribeSubtype(u8),
    /// `Close` of neither `S` nor `P`.
    #[error("invalid CLOSE message subtype {0}")]
    CloseSubtype(u8),
}

impl Malformed {
    /// The server's answer.
    pub fn report(&self) -> Report {
        Report::error("08P01", self.to_string())
    }
}

/// What is left of a body.
#[derive(Clone, Copy)]
pub(crate) struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.0.split_first().ok_or(Malformed::NoData)?;
        self.0 = rest;
        Ok(first)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (&first, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Malformed::InsufficientData)?;
        self.0 = rest;
        Ok(first)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (first, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(Malformed::InsufficientData)?;
        self.0 = rest;
        Ok(first)
    }

    /// A value with its length before it, -1 for NULL.
    pub(crate) fn value(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.i32()? {
            -1 => Ok(None),
            length => self
                .bytes(usize::try_from(length).map_err(|_| Malformed::InsufficientData)?)
                .map(Some),
        }
    }

    /// A string up to its NUL, without it.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let end = memchr::memchr(0, self.0).ok_or(Malformed::InvalidString)?;
        let string = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Ok(string)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed::InvalidFormat)
        }
    }
}
