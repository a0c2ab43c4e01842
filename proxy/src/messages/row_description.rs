//! `RowDescription`: the columns of a result.

use bytes::BytesMut;

use super::{Malformed, TooLong, body::Body, builder::FrameBuilder, tag::server::ROW_DESCRIPTION};

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// In the client's encoding.
    pub name: &'a [u8],
    /// The table that the column comes from, 0 if from none.
    pub table_oid: u32,
    /// The column's number in that table, 0 if from none.
    pub attnum: i16,
    /// Its type; a domain's base type.
    pub type_oid: u32,
    /// Bytes of the type, negative if it varies.
    pub typlen: i16,
    /// Type modifier, -1 without one.
    pub typmod: i32,
    /// Format code; always 0 in the answer to a `Describe` of a statement.
    pub format: i16,
}

impl<'a> Field<'a> {
    fn read(body: &mut Body<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            name: body.string()?,
            table_oid: body.u32()?,
            attnum: body.i16()?,
            type_oid: body.u32()?,
            typlen: body.i16()?,
            typmod: body.i32()?,
            format: body.i16()?,
        })
    }
}

/// A result's columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RowDescription<'a> {
    count: u16,
    fields: &'a [u8],
}

impl<'a> RowDescription<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let count = body.u16()?;
        let fields = body.rest();
        for _ in 0..count {
            Field::read(&mut body)?;
        }
        body.end()?;
        Ok(Self { count, fields })
    }

    /// The columns in order.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = Field<'a>> + 'a {
        let mut fields = Body::new(self.fields);
        (0..self.count).map(move |_| Field::read(&mut fields).expect("`read` walked all fields"))
    }
}

/// Appends a `RowDescription`: each column once, then `end`.
#[derive(Debug)]
pub struct RowDescriptionBuilder<'a> {
    frame: FrameBuilder<'a>,
    count: u16,
}

impl<'a> RowDescriptionBuilder<'a> {
    /// Begins one.
    pub fn begin(out: &'a mut BytesMut) -> Self {
        let mut frame = FrameBuilder::begin(out, ROW_DESCRIPTION);
        frame.u16(0);
        Self { frame, count: 0 }
    }

    /// The next column.
    pub fn field(&mut self, field: &Field<'_>) {
        self.count = self.count.saturating_add(1);
        self.frame.string(field.name);
        self.frame.u32(field.table_oid);
        self.frame.i16(field.attnum);
        self.frame.u32(field.type_oid);
        self.frame.i16(field.typlen);
        self.frame.i32(field.typmod);
        self.frame.i16(field.format);
    }

    /// Ends it.
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
        let id = Field {
            name: b"id",
            table_oid: 16_400,
            attnum: 1,
            type_oid: 23,
            typlen: 4,
            typmod: -1,
            format: 1,
        };
        let sum = Field {
            name: b"",
            table_oid: 0,
            attnum: 0,
            type_oid: 25,
            typlen: -1,
            typmod: 36,
            format: 0,
        };
        let body = body_of(ROW_DESCRIPTION, |out| {
            let mut row = RowDescriptionBuilder::begin(out);
            row.field(&id);
            row.field(&sum);
            row.end().unwrap();
        });
        assert_eq!(
            RowDescription::read(&body)
                .unwrap()
                .fields()
                .collect::<Vec<_>>(),
            [id, sum]
        );
        exactly(&body, |body| {
            RowDescription::read(body)
                .map(|row| row.fields().count())
                .is_ok()
        });
    }
}
