//! Arrays of bytea in their binary form, whatever their dimensions: elements are taken out and put back, the rest stays.

use bytes::BytesMut;
use postgres_types::Type;

use crate::apply::raw::in_binary_form;

/// Dimensions, flags and the type of the elements, 4 bytes each; and 8 for each dimension.
const HEADER_BYTES: usize = 12;

/// An array as the server sent it, or as it is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Array {
    header: Vec<u8>,
    pub(super) elements: Vec<Option<Vec<u8>>>,
}

impl Array {
    fn parse(raw: &[u8]) -> Option<Self> {
        let dimensions = i32::from_be_bytes(*raw.first_chunk()?);
        let header = HEADER_BYTES + 8 * usize::try_from(dimensions).ok()?;
        let (header, mut rest) = raw.split_at_checked(header)?;
        let mut elements = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let length = i32::from_be_bytes(*length);
            let Ok(length) = usize::try_from(length) else {
                elements.push(None);
                rest = behind;
                continue;
            };
            let (element, behind) = behind.split_at_checked(length)?;
            elements.push(Some(element.to_vec()));
            rest = behind;
        }
        rest.is_empty().then(|| Self {
            header: header.to_vec(),
            elements,
        })
    }

    fn put(&self, out: &mut BytesMut) {
        out.extend_from_slice(&self.header);
        for element in &self.elements {
            match element {
                Some(bytes) => {
                    // No value is that long: the server would refuse it.
                    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(bytes);
                }
                None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            }
        }
    }
}

in_binary_form!(Array, Type::BYTEA_ARRAY);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_read_and_written_as_it_was() {
        // Two dimensions of 1 and 2, with a NULL.
        let mut raw = vec![0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 17];
        raw.extend([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5]);
        raw.extend([0, 0, 0, 3, 1, 2, 3, 255, 255, 255, 255]);
        let array = Array::parse(&raw).expect("an array");
        assert_eq!(array.elements, [Some(vec![1, 2, 3]), None]);
        let mut out = BytesMut::new();
        array.put(&mut out);
        assert_eq!(out[..], raw[..]);
        assert_eq!(Array::parse(&raw[..raw.len() - 5]), None);
        assert_eq!(Array::parse(&[255; 4]), None);
    }
}
