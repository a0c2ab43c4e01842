//! Arrays as `array_out` and `array_send` write them, with every element replaced. Knows nothing of what elements are.

use super::codec::{Cursor, Each, Malformed, Step, is_space};

/// `MAXDIM`.
const MAX_DIMENSIONS: usize = 6;

/// The text form: `[2:3]={a,"b c",NULL}`. Braces, bounds and NULLs stay as they are.
pub(super) fn text(array: &[u8], out: &mut Vec<u8>, each: &mut Each<'_>) -> Step {
    let mut rest = array;
    if rest.first() == Some(&b'[') {
        let bounds = memchr::memchr(b'=', rest).ok_or(Malformed("array"))?;
        out.extend_from_slice(&rest[..=bounds]);
        rest = &rest[bounds + 1..];
    }
    let mut depth = 0;
    let mut element = Vec::new();
    while let Some(&byte) = rest.first() {
        match byte {
            b'{' if depth < MAX_DIMENSIONS => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b',' if depth > 0 => {}
            b'{' | b'}' | b',' => return Err(Malformed("array").into()),
            _ if depth == 0 => return Err(Malformed("array").into()),
            _ => {
                let is_null = take_element(&mut rest, &mut element)?;
                if is_null {
                    out.extend_from_slice(b"NULL");
                } else {
                    put_element(&element, out, each)?;
                }
                continue;
            }
        }
        out.push(byte);
        rest = &rest[1..];
    }
    if depth != 0 || array.is_empty() {
        return Err(Malformed("array").into());
    }
    Ok(())
}

/// Takes an element off the front; says whether it is NULL.
fn take_element(rest: &mut &[u8], element: &mut Vec<u8>) -> Result<bool, Malformed> {
    element.clear();
    if rest.first() != Some(&b'"') {
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b',' | b'{' | b'}' | b'"'))
            .ok_or(Malformed("array"))?;
        element.extend_from_slice(&rest[..end]);
        *rest = &rest[end..];
        return Ok(element == b"NULL");
    }
    let mut bytes = rest[1..].iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                *rest = &rest[at + 2..];
                return Ok(false);
            }
            b'\\' => element.push(*bytes.next().ok_or(Malformed("array"))?.1),
            byte => element.push(*byte),
        }
    }
    Err(Malformed("array"))
}

fn put_element(element: &[u8], out: &mut Vec<u8>, each: &mut Each<'_>) -> Step {
    let mut opened = zeroize::Zeroizing::new(Vec::new());
    if !each(element, &mut opened)? {
        out.extend_from_slice(b"NULL");
        return Ok(());
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',') || is_space(*byte);
    let quoted =
        opened.is_empty() || opened.eq_ignore_ascii_case(b"NULL") || opened.iter().any(special);
    if !quoted {
        out.extend_from_slice(&opened);
        return Ok(());
    }
    out.push(b'"');
    for byte in opened.iter() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
    Ok(())
}

/// The binary form; the elements' type becomes `oid`, if that is given.
pub(super) fn binary(
    array: &[u8],
    oid: Option<u32>,
    out: &mut Vec<u8>,
    each: &mut Each<'_>,
) -> Step {
    let mut cursor = Cursor::new(array, "array");
    let dimensions = cursor.i32()?;
    let flags = cursor.i32()?;
    let element_oid = cursor.u32()?;
    let count = usize::try_from(dimensions).map_err(|_| Malformed("array"))?;
    if count > MAX_DIMENSIONS {
        return Err(Malformed("array").into());
    }
    out.extend_from_slice(&dimensions.to_be_bytes());
    let flags_at = out.len();
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&oid.unwrap_or(element_oid).to_be_bytes());
    let mut elements = usize::from(count > 0);
    for _ in 0..count {
        let (length, bound) = (cursor.i32()?, cursor.i32()?);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&bound.to_be_bytes());
        elements = usize::try_from(length)
            .ok()
            .and_then(|length| elements.checked_mul(length))
            .ok_or(Malformed("array"))?;
    }
    // Every element takes at least its length, so a wrong count ends at the end of the bytes.
    for _ in 0..elements {
        let shown = match cursor.value()? {
            Some(element) => put_value(element, out, each)?,
            None => {
                out.extend_from_slice(&(-1i32).to_be_bytes());
                continue;
            }
        };
        if !shown {
            out[flags_at..flags_at + 4].copy_from_slice(&1i32.to_be_bytes());
        }
    }
    cursor.end()?;
    Ok(())
}

/// A length and what `each` makes of a value, or -1; says which.
pub(super) fn put_value(
    value: &[u8],
    out: &mut Vec<u8>,
    each: &mut Each<'_>,
) -> Result<bool, super::codec::Stop> {
    let start = out.len();
    out.extend_from_slice(&(-1i32).to_be_bytes());
    if !each(value, out)? {
        out.truncate(start + 4);
        return Ok(false);
    }
    let length = i32::try_from(out.len() - start - 4).map_err(|_| Malformed("array"))?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(true)
}
