//! Opens what is inside arrays, rows and documents, in text and in binary, along the shape that the analysis found.

use pgveil_keys::sealed;
use pgveil_policy::{
    Refusal,
    plan::{Rendering, Shape},
    types::{LogicalType, TextExpression, json_string},
};
use zeroize::Zeroizing;

use super::{
    Lens, Opened, Scratch, Unsealed, array,
    codec::{Each, Malformed, Step, Stop},
    damaged, document, input_refusal, not_sealed,
    opening::decode_bytea_text,
    row,
};
use crate::session::results::{is_ciphertext, stray_ciphertext};

/// Longest array, row or document that is opened. It stands in memory as a whole, sealed and opened.
const MAX_HOLDER_BYTES: usize = 256 << 20;

/// Opens a field of this shape into `scratch`.
///
/// # Errors
/// `54000` for one that is too long; `PV003` where it is not what the analysis expects; as [`super::open_field`].
pub fn open_holder(
    field: &[u8],
    shape: &Shape,
    format: i16,
    lens: &Lens<'_>,
    scratch: &mut Scratch,
) -> Result<Opened, Refusal> {
    if field.len() > MAX_HOLDER_BYTES {
        return Err(too_long(field.len()));
    }
    let Scratch {
        stored,
        plain,
        text: out,
    } = scratch;
    out.clear();
    let mut inside = Inside {
        lens,
        binary: format != 0,
        stored,
        plain,
    };
    match inside.value(shape, field, out) {
        Ok(true) => Ok(Opened::Shown),
        Ok(false) => Ok(Opened::Null),
        Err(Stop::NeedsKey(key)) => Ok(Opened::NeedsKey(key)),
        Err(Stop::Refused(refusal)) => Err(*refusal),
    }
}

/// Opens the values of one field.
struct Inside<'i> {
    lens: &'i Lens<'i>,
    binary: bool,
    stored: &'i mut Vec<u8>,
    plain: &'i mut Vec<u8>,
}

impl Inside<'_> {
    /// Appends the opened form of a value; `false`: it is shown as NULL. Shapes are only so deep (`analysis::holder`).
    fn value(&mut self, shape: &Shape, value: &[u8], out: &mut Vec<u8>) -> Result<bool, Stop> {
        match shape {
            Shape::Plain if is_ciphertext(value) => return Err(stray_ciphertext().into()),
            Shape::Plain => out.extend_from_slice(value),
            Shape::Sealed { shown, .. } => return self.sealed(*shown, value, out),
            Shape::Array { element, .. } => {
                let binary = self.binary;
                let each: &mut Each<'_> =
                    &mut |inner: &[u8], out: &mut Vec<u8>| self.value(element, inner, out);
                if binary {
                    array::binary(value, type_oid(element), out, each)?;
                } else {
                    array::text(value, out, each)?;
                }
            }
            Shape::Row(fields) => {
                let binary = self.binary;
                let each: &mut row::EachField<'_> =
                    &mut |shape: &Shape, inner: &[u8], out: &mut Vec<u8>| {
                        self.value(shape, inner, out)
                    };
                if binary {
                    row::binary(value, fields, &type_oid, out, each)?;
                } else {
                    row::text(value, fields, out, each)?;
                }
            }
            Shape::Text {
                fields, expression, ..
            } => {
                return self.text(fields, expression, value, out);
            }
            Shape::Listed { element, between } => {
                return self.listed(element, between, value, out);
            }
            Shape::Json {
                jsonb,
                rendering,
                types,
                ..
            } => self.document(value, *jsonb, *rendering, types, out)?,
        }
        Ok(true)
    }

    /// A text that is made of a row's fields.
    fn text(
        &mut self,
        fields: &[Shape],
        expression: &TextExpression,
        row: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Stop> {
        let mut texts = Vec::with_capacity(fields.len());
        for (shape, field) in { fields.iter() }.zip(row::fields(row, fields.len(), self.binary)?) {
            let mut opened = Zeroizing::new(Vec::new());
            let shown = match field {
                Some(field) => self.value(shape, &field, &mut opened)?,
                None => false,
            };
            // Texts are the same in both formats.
            let text = std::str::from_utf8(&opened).map_err(|_| no_value())?;
            texts.push(shown.then(|| Zeroizing::new(text.to_owned())));
        }
        let field = |index: usize| Ok(texts.get(index).cloned().flatten());
        let made = expression.value(&field, self.lens.settings);
        match made.map_err(input_refusal)? {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// The elements of an array, with a text between them.
    fn listed(
        &mut self,
        element: &Shape,
        between: &TextExpression,
        array: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Stop> {
        let binary = self.binary;
        let between = between.value(&|_| Ok(None), self.lens.settings);
        let between = between.map_err(input_refusal)?.ok_or_else(no_value)?;
        let (mut joined, mut any) = (Zeroizing::new(Vec::new()), false);
        let each: &mut Each<'_> = &mut |inner: &[u8], _: &mut Vec<u8>| {
            // Texts are the same in both formats.
            let mut opened = Zeroizing::new(Vec::new());
            let shown = self.value(element, inner, &mut opened)?;
            if shown {
                if any {
                    joined.extend_from_slice(between.as_bytes());
                }
                joined.extend_from_slice(&opened);
                any = true;
            }
            Ok(shown)
        };
        let mut unused = Vec::new();
        if binary {
            array::binary(array, type_oid(element), &mut unused, each)?;
        } else {
            array::text(array, &mut unused, each)?;
        }
        out.extend_from_slice(&joined);
        Ok(any)
    }

    fn sealed(
        &mut self,
        shown: LogicalType,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Stop> {
        let envelope = if self.binary {
            value
        } else {
            self.stored.clear();
            decode_bytea_text(value, self.stored).ok_or_else(not_sealed)?;
            self.stored.as_slice()
        };
        match self.lens.unseal(envelope, &[shown], self.plain)? {
            Unsealed::Plain(column) if self.binary => column
                .logical
                .send(self.plain, out)
                .map_err(|_| no_value())?,
            Unsealed::Plain(column) => column
                .logical
                .output(self.plain, self.lens.settings, out)
                .map_err(|_| no_value())?,
            Unsealed::Masked(text) => out.extend_from_slice(text.as_bytes()),
            Unsealed::Null => return Ok(false),
            Unsealed::NeedsKey(key) => return Err(Stop::NeedsKey(key)),
        }
        Ok(true)
    }

    fn document(
        &mut self,
        value: &[u8],
        jsonb: bool,
        rendering: Rendering,
        types: &[LogicalType],
        out: &mut Vec<u8>,
    ) -> Step {
        let document = if jsonb && self.binary {
            let document = value.strip_prefix(b"\x01").ok_or(Malformed("document"))?;
            out.push(1);
            document
        } else {
            value
        };
        document::text(document, out, &mut |text, out| {
            self.stored.clear();
            decode_bytea_text(text, self.stored).ok_or_else(stray_ciphertext)?;
            // A text that only begins like one came out of a column that is not protected.
            sealed::Envelope::parse(self.stored).map_err(|_| stray_ciphertext())?;
            match self.lens.unseal(self.stored, types, self.plain)? {
                Unsealed::Plain(column) => column
                    .logical
                    .json(self.plain, rendering, self.lens.settings, out)
                    .map_err(|_| no_value())?,
                Unsealed::Masked(text) => json_string(text.as_bytes(), out),
                Unsealed::Null => return Ok(false),
                Unsealed::NeedsKey(key) => return Err(Stop::NeedsKey(key)),
            }
            Ok(true)
        })
    }
}

/// The type that the client sees of a value inside, where it is another than the server's.
pub fn type_oid(shape: &Shape) -> Option<u32> {
    match shape {
        Shape::Sealed { shown, .. } => Some(shown.oid()),
        Shape::Text { shown, .. } => Some(shown.oid()),
        Shape::Listed { .. } => Some(LogicalType::Text.oid()),
        Shape::Array { element, .. } => match element.as_ref() {
            Shape::Sealed { shown, .. } => Some(shown.array_oid()),
            Shape::Plain
            | Shape::Array { .. }
            | Shape::Row(_)
            | Shape::Text { .. }
            | Shape::Listed { .. }
            | Shape::Json { .. } => None,
        },
        Shape::Plain | Shape::Row(_) | Shape::Json { .. } => None,
    }
}

fn no_value() -> Refusal {
    damaged("Its plaintext is no value of its type.")
}

fn too_long(length: usize) -> Refusal {
    Refusal::new(
        "54000",
        "too-long",
        "an array, a row or a document with protected values inside is too long to be opened",
    )
    .detail(format!(
        "It has {length} bytes; pgveil opens at most {MAX_HOLDER_BYTES}."
    ))
    .hint("Put fewer rows into one value.")
}
