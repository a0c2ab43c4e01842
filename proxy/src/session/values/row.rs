//! Composite values as `record_out` and `record_send` write them, with fields replaced. Knows nothing of what fields are.

use pgveil_policy::plan::Shape;

use super::{
    array::put_value,
    codec::{Cursor, Malformed, Step, Stop, is_space},
};

/// What becomes of a field of this shape.
pub(super) type EachField<'e> = dyn FnMut(&Shape, &[u8], &mut Vec<u8>) -> Result<bool, Stop> + 'e;

/// The text form: `(1,"a b",)`. What is plain stays as it is written.
pub(super) fn text(
    row: &[u8],
    fields: &[Shape],
    out: &mut Vec<u8>,
    each: &mut EachField<'_>,
) -> Step {
    let mut rest = row.strip_prefix(b"(").ok_or(Malformed("row"))?;
    out.push(b'(');
    let mut field = Vec::new();
    for (index, shape) in fields.iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(b",").ok_or(Malformed("row"))?;
            out.push(b',');
        }
        let written = take_field(&mut rest, &mut field)?;
        match shape {
            _ if written.is_empty() => {}
            Shape::Plain => {
                // Looked at as it is, kept as it is written.
                each(shape, &field, &mut Vec::new())?;
                out.extend_from_slice(written);
            }
            Shape::Sealed { .. } | Shape::Array { .. } | Shape::Row(_) | Shape::Json { .. } => {
                let mut opened = zeroize::Zeroizing::new(Vec::new());
                if each(shape, &field, &mut opened)? {
                    put_field(&opened, out);
                }
            }
        }
    }
    if rest != b")" {
        return Err(Malformed("row").into());
    }
    out.push(b')');
    Ok(())
}

/// Takes a field off the front: as it is written, and what that means. Written as nothing, it is NULL.
fn take_field<'b>(rest: &mut &'b [u8], field: &mut Vec<u8>) -> Result<&'b [u8], Malformed> {
    field.clear();
    let mut quoted = false;
    let mut at = 0;
    loop {
        match rest.get(at).ok_or(Malformed("row"))? {
            b',' | b')' if !quoted => break,
            b'"' if quoted && rest.get(at + 1) == Some(&b'"') => {
                field.push(b'"');
                at += 1;
            }
            b'"' => quoted = !quoted,
            b'\\' => {
                at += 1;
                field.push(*rest.get(at).ok_or(Malformed("row"))?);
            }
            byte => field.push(*byte),
        }
        at += 1;
    }
    let (written, behind) = rest.split_at(at);
    *rest = behind;
    Ok(written)
}

fn put_field(field: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'(' | b')' | b',') || is_space(*byte);
    if !field.is_empty() && !field.iter().any(special) {
        out.extend_from_slice(field);
        return;
    }
    out.push(b'"');
    for byte in field {
        if matches!(byte, b'"' | b'\\') {
            out.push(*byte);
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// The binary form; a field's type becomes what `oid` says for its shape.
pub(super) fn binary(
    row: &[u8],
    fields: &[Shape],
    oid: &dyn Fn(&Shape) -> Option<u32>,
    out: &mut Vec<u8>,
    each: &mut EachField<'_>,
) -> Step {
    let mut cursor = Cursor::new(row, "row");
    let count = cursor.u32()?;
    if usize::try_from(count) != Ok(fields.len()) {
        return Err(Malformed("row").into());
    }
    out.extend_from_slice(&count.to_be_bytes());
    for shape in fields {
        let given = cursor.u32()?;
        out.extend_from_slice(&oid(shape).unwrap_or(given).to_be_bytes());
        match cursor.value()? {
            Some(value) => {
                put_value(value, out, &mut |value, out| each(shape, value, out))?;
            }
            None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        }
    }
    cursor.end()?;
    Ok(())
}
