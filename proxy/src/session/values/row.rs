//! Composite values as `record_out` and `record_send` write them, with fields replaced. Knows nothing of what fields are.

use pgveil_policy::plan::Shape;
use zeroize::Zeroizing;

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
            Shape::Sealed { .. }
            | Shape::Array { .. }
            | Shape::Row(_)
            | Shape::Text { .. }
            | Shape::Listed { .. }
            | Shape::Json { .. } => {
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

/// The fields of a row of as many; `None` is NULL.
pub(super) fn fields(
    row: &[u8],
    count: usize,
    binary: bool,
) -> Result<Vec<Option<Zeroizing<Vec<u8>>>>, Malformed> {
    let mut found = Vec::new();
    if binary {
        let mut cursor = Cursor::new(row, "row");
        if usize::try_from(cursor.u32()?) != Ok(count) {
            return Err(Malformed("row"));
        }
        for _ in 0..count {
            cursor.u32()?;
            let field = cursor.value()?;
            found.push(field.map(|field| Zeroizing::new(field.to_vec())));
        }
        cursor.end()?;
        return Ok(found);
    }
    let mut rest = row.strip_prefix(b"(").ok_or(Malformed("row"))?;
    for index in 0..count {
        if index > 0 {
            rest = rest.strip_prefix(b",").ok_or(Malformed("row"))?;
        }
        let mut field = Zeroizing::new(Vec::new());
        let written = take_field(&mut rest, &mut field)?;
        found.push((!written.is_empty()).then_some(field));
    }
    if rest != b")" {
        return Err(Malformed("row"));
    }
    Ok(found)
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

#[cfg(test)]
mod tests {
    use super::{super::codec::testing::opened, *};

    fn shapes(sealed: &[bool]) -> Vec<Shape> {
        let shape = |sealed: &bool| {
            if *sealed {
                Shape::Sealed {
                    shown: pgveil_policy::types::LogicalType::Text,
                    columns: Vec::new(),
                }
            } else {
                Shape::Plain
            }
        };
        sealed.iter().map(shape).collect()
    }

    fn text_of(row: &str, sealed: &[bool]) -> Option<String> {
        opened(|out, each| {
            text(
                row.as_bytes(),
                &shapes(sealed),
                out,
                &mut |_, field, out| each(field, out),
            )
        })
    }

    #[test]
    fn opens_fields_of_the_text_form_and_keeps_the_others_as_they_are_written() {
        for (row, sealed, expected) in [
            ("(1,a)", &[false, true][..], "(1,A)"),
            ("(,)", &[false, true], "(,)"),
            ("(\"\",\"\")", &[false, true], "(\"\",\"\")"),
            (
                "(\"a b\",\"a \"\"q\"\" \\\\b\")",
                &[false, true],
                "(\"a b\",\"A \"\"Q\"\" \\\\B\")",
            ),
            ("(x,\"(a,b)\")", &[false, true], "(x,\"(A,B)\")"),
            ("(hide,x)", &[true, false], "(,x)"),
        ] {
            assert_eq!(text_of(row, sealed).as_deref(), Some(expected), "{row}");
        }
    }

    #[test]
    fn never_trusts_the_form() {
        for row in [
            "", "(", "()", "(a", "(a,", "(a)", "(a,b,c)", "(a,b)x", "(\"a,b)", "(a,b\\", "a,b)",
        ] {
            assert_eq!(text_of(row, &[false, true]), None, "{row}");
        }
        let mut sent = Vec::from([0, 0, 0, 2, 0, 0, 0, 23, 0, 0, 0, 4, 0, 0, 0, 9]);
        sent.extend_from_slice(&[0, 0, 0, 17, 0, 0, 0, 1, b'a']);
        let open = |bytes: &[u8]| {
            opened(|out, each| {
                binary(
                    bytes,
                    &shapes(&[false, true]),
                    &|_| None,
                    out,
                    &mut |_, field, out| each(field, out),
                )
            })
        };
        assert!(open(&sent).is_some());
        for length in 0..sent.len() {
            assert_eq!(open(&sent[..length]), None, "{length}");
        }
        for (at, byte) in [(3, 3), (0, 0xff), (8, 0x7f), (20, 0x80)] {
            let mut wrong = sent.clone();
            wrong[at] = byte;
            assert_eq!(open(&wrong), None, "{at}");
        }
    }
}
