//! `DataRow`: one row of a result.

use bytes::BytesMut;

use super::{Malformed, TooLong, body::Body, builder::FrameBuilder, tag::server::DATA_ROW};

/// A row's values, in the formats that `Bind` asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DataRow<'a> {
    count: u16,
    values: &'a [u8],
}

impl<'a> DataRow<'a> {
    /// Reads a body: one walk over the values' lengths.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let count = body.u16()?;
        let values = body.rest();
        for _ in 0..count {
            body.value()?;
        }
        body.end()?;
        Ok(Self { count, values })
    }

    /// The values in order; `None` is NULL.
    pub fn values(&self) -> impl ExactSizeIterator<Item = Option<&'a [u8]>> + 'a {
        let mut values = Body::new(self.values);
        (0..self.count).map(move |_| values.value().expect("`read` walked all values"))
    }
}

/// Appends a `DataRow`: each value once, then `end`. Dropped without `end`, it leaves no trace.
#[derive(Debug)]
pub struct DataRowBuilder<'a> {
    frame: FrameBuilder<'a>,
    count: u16,
}

impl<'a> DataRowBuilder<'a> {
    /// Begins a row.
    pub fn begin(out: &'a mut BytesMut) -> Self {
        let mut frame = FrameBuilder::begin(out, DATA_ROW);
        frame.u16(0);
        Self { frame, count: 0 }
    }

    /// The next value; `None` is NULL.
    pub fn value(&mut self, value: Option<&[u8]>) {
        self.count = self.count.saturating_add(1);
        self.frame.value(value);
    }

    /// The next value, appended by `write` itself.
    pub fn value_with(&mut self, write: impl FnOnce(&mut BytesMut)) {
        self.count = self.count.saturating_add(1);
        self.frame.value_with(write);
    }

    /// Ends the row.
    pub fn end(mut self) -> Result<(), TooLong> {
        self.frame.patch_u16(0, self.count);
        self.frame.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, exactly};

    #[test]
    fn round_trips_exactly() {
        let body = body_of(DATA_ROW, |out| {
            let mut row = DataRowBuilder::begin(out);
            row.value(Some(b"1"));
            row.value(None);
            row.value_with(|out| out.extend_from_slice(b"\0\xff"));
            row.value(Some(b""));
            row.end().unwrap();
        });
        let row = DataRow::read(&body).unwrap();
        assert_eq!(
            row.values().collect::<Vec<_>>(),
            [Some(&b"1"[..]), None, Some(b"\0\xff"), Some(b"")]
        );
        exactly(&body, |body| {
            DataRow::read(body).map(|row| row.values().count()).is_ok()
        });
    }

    #[test]
    fn a_row_without_columns_is_a_row() {
        let body = body_of(DATA_ROW, |out| DataRowBuilder::begin(out).end().unwrap());
        assert_eq!(DataRow::read(&body).unwrap().values().len(), 0);
    }

    #[test]
    fn a_row_that_was_given_up_leaves_no_trace() {
        let mut out = BytesMut::from(&b"before"[..]);
        DataRowBuilder::begin(&mut out).value(Some(b"secret"));
        assert_eq!(&out[..], b"before");
    }
}
