//! Binary COPY: a header, tuples of counted fields, a trailer. It cuts, and says in the server's words what
//! cannot be cut.

/// What every binary COPY begins with.
pub const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension area.
const FIXED_HEADER: usize = 19;

/// What stands at the start of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// So many bytes are the header.
    Header(usize),
    /// So many bytes are a tuple.
    Tuple(usize),
    /// The trailer: two bytes.
    Trailer,
    /// It goes on in data that has not come.
    More,
    /// The server would refuse it, in these words.
    Broken(String),
    /// A field has an impossible length; its number is that of the fields before it.
    BrokenField,
}

/// The header at the start of `data`.
pub fn header(data: &[u8]) -> Unit {
    let known = data.len().min(SIGNATURE.len());
    if data[..known] != SIGNATURE[..known] {
        return broken("COPY file signature not recognized");
    }
    let Some(length) = data.get(15..FIXED_HEADER) else {
        return Unit::More;
    };
    let length = i32::from_be_bytes(length.try_into().expect("the slice is four bytes"));
    let Ok(length) = usize::try_from(length) else {
        return broken("invalid COPY file header (missing length)");
    };
    if data.len() < FIXED_HEADER + length {
        return Unit::More;
    }
    Unit::Header(FIXED_HEADER + length)
}

fn broken(message: &str) -> Unit {
    Unit::Broken(message.to_owned())
}

/// The tuple or trailer at the start of `data`, if it has `fields` fields. Where they stand is appended to `spans`,
/// `None` for NULL.
pub fn tuple(data: &[u8], fields: usize, spans: &mut Vec<Option<(usize, usize)>>) -> Unit {
    spans.clear();
    let Some((count, _)) = data.split_first_chunk::<2>() else {
        return Unit::More;
    };
    let count = i16::from_be_bytes(*count);
    if count == -1 {
        return Unit::Trailer;
    }
    if usize::try_from(count) != Ok(fields) {
        return Unit::Broken(format!("row field count is {count}, expected {fields}"));
    }
    let mut at = 2;
    for _ in 0..fields {
        let Some((length, _)) = data
            .get(at..)
            .and_then(|rest| rest.split_first_chunk::<4>())
        else {
            return Unit::More;
        };
        at += 4;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            spans.push(None);
            continue;
        }
        let Ok(length) = usize::try_from(length) else {
            return Unit::BrokenField;
        };
        if data.len() - at < length {
            return Unit::More;
        }
        spans.push(Some((at, at + length)));
        at += length;
    }
    Unit::Tuple(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_header_tuples_and_trailer() {
        let mut data = SIGNATURE.to_vec();
        data.extend([0, 0, 0, 0, 0, 0, 0, 2, 7, 7]);
        for length in 0..data.len() {
            assert_eq!(header(&data[..length]), Unit::More);
        }
        assert_eq!(header(&data), Unit::Header(21));
        assert!(matches!(header(b"1\tx\n"), Unit::Broken(_)));
        let row = [0, 2, 0, 0, 0, 1, b'a', 255, 255, 255, 255];
        let mut spans = Vec::new();
        for length in 0..row.len() {
            assert_eq!(tuple(&row[..length], 2, &mut spans), Unit::More);
        }
        assert_eq!(tuple(&row, 2, &mut spans), Unit::Tuple(11));
        assert_eq!(spans, [Some((6, 7)), None]);
        assert!(matches!(tuple(&row, 3, &mut spans), Unit::Broken(_)));
        assert_eq!(tuple(&[255, 255], 2, &mut spans), Unit::Trailer);
        let broken = [0, 1, 255, 255, 255, 254];
        assert_eq!(tuple(&broken, 1, &mut spans), Unit::BrokenField);
    }
}
