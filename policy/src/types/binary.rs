//! Reading binary forms in network order, with the errors of Postgres's `pq_getmsg...`. Knows no type.

use super::{DamagedValue, InputError};

/// What is left of a binary value.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `n` bytes, or `08P01`.
    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8], InputError> {
        let (head, rest) = self
            .0
            .split_at_checked(n)
            .ok_or_else(InputError::truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], InputError> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(InputError::truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u16(&mut self) -> Result<u16, InputError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, InputError> {
        self.array().map(i32::from_be_bytes)
    }

    /// Nothing may be left: `22P03`.
    pub(super) fn end(self) -> Result<(), InputError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(InputError::excess())
        }
    }
}

/// A binary value of exactly `N` bytes.
pub(super) fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], InputError> {
    let mut reader = Reader::new(bytes);
    let array = reader.array()?;
    reader.end()?;
    Ok(array)
}

/// A binary value of `N` bytes of which the server looks at the value before it minds what follows.
pub(super) fn checked<const N: usize>(
    bytes: &[u8],
    check: impl FnOnce([u8; N]) -> Result<Vec<u8>, InputError>,
) -> Result<Vec<u8>, InputError> {
    let mut reader = Reader::new(bytes);
    let value = check(reader.array()?)?;
    reader.end()?;
    Ok(value)
}

/// A stored value of exactly `N` bytes.
pub(super) fn stored<const N: usize>(bytes: &[u8]) -> Result<[u8; N], DamagedValue> {
    bytes.try_into().map_err(|_| DamagedValue)
}
