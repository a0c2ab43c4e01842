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

#[cfg(test)]
mod tests {
    use super::{
        super::codec::testing::{opened, refused},
        *,
    };

    fn text_of(array: &str) -> Option<String> {
        opened(|out, each| text(array.as_bytes(), out, each))
    }

    #[test]
    fn opens_elements_of_the_text_form_and_quotes_them_as_the_server_does() {
        for (array, expected) in [
            ("{}", "{}"),
            ("{a,NULL,b}", "{A,NULL,B}"),
            ("{\"null\",\"\"}", "{\"NULL\",\"\"}"),
            ("{{a,b},{c,d}}", "{{A,B},{C,D}}"),
            ("[2:3]={a,b}", "[2:3]={A,B}"),
            (
                "{\"x y\",\"q\\\"u\",\"b\\\\s\",\"{\",\",\"}",
                "{\"X Y\",\"Q\\\"U\",\"B\\\\S\",\"{\",\",\"}",
            ),
            ("{hide,a}", "{NULL,A}"),
            ("{\"\\\\x5047\"}", "{\"\\\\X5047\"}"),
        ] {
            assert_eq!(text_of(array).as_deref(), Some(expected), "{array}");
        }
    }

    #[test]
    fn never_trusts_the_form() {
        for array in [
            "",
            "a",
            "{",
            "}",
            "{a",
            "{a}}",
            "{\"a",
            "{\"a\\",
            "[1:2]",
            "[1:2]{a}",
            "{{{{{{{a}}}}}}}",
            "{a}x",
            ",",
            "{a}{",
        ] {
            assert_eq!(text_of(array), None, "{array}");
        }
        let mut sent = Vec::new();
        for word in [1i32, 0, 17, 2, 1] {
            sent.extend_from_slice(&word.to_be_bytes());
        }
        sent.extend_from_slice(b"\0\0\0\x01a\xff\xff\xff\xff");
        let open = |bytes: &[u8]| opened(|out, each| binary(bytes, Some(25), out, each));
        assert!(open(&sent).is_some());
        for length in 0..sent.len() {
            assert_eq!(open(&sent[..length]), None, "{length}");
        }
        let mut more = sent.clone();
        more.push(0);
        assert_eq!(open(&more), None);
        for (at, byte) in [(0, 0x7f), (3, 7), (12, 0x7f), (12, 0xff), (20, 0x7f)] {
            let mut wrong = sent.clone();
            wrong[at] = byte;
            assert_eq!(open(&wrong), None, "{at}");
        }
    }

    #[test]
    fn names_the_logical_type_in_the_binary_form_and_marks_hidden_elements() {
        let mut sent = Vec::new();
        for word in [1i32, 0, 17, 1, 1] {
            sent.extend_from_slice(&word.to_be_bytes());
        }
        sent.extend_from_slice(b"\0\0\0\x04hide");
        let mut out = Vec::new();
        let mut each = |_: &[u8], _: &mut Vec<u8>| Ok(false);
        assert!(!refused(binary(&sent, Some(25), &mut out, &mut each)));
        assert_eq!(out[4..12], [0, 0, 0, 1, 0, 0, 0, 25]);
        assert_eq!(out[20..], [0xff; 4]);
    }
}
