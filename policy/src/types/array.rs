//! Arrays of a logical type: stored ones of up to six dimensions, and the operands of `= ANY(...)`, of which only the
//! elements count. [`text`] reads and shows their text form.

mod text;

use super::{
    Conversion, Converted, DamagedValue, EnumType, FormatSettings, InputError, LogicalType, Value,
    binary::Reader, convert,
};
use crate::plan::Rendering;

/// `MAXDIM`.
const MAX_DIMENSIONS: i32 = 6;
/// Most elements that a server's array may have (`MaxArraySize`).
const MAX_ELEMENTS: i32 = 134_217_727;
/// `ANYENUMOID`, in the place of an enum's own OID in what is sealed: dumps do not keep that.
const ANY_ENUM: u32 = 3500;

/// The element type that stands in a stored array.
fn stored_oid(element: LogicalType) -> u32 {
    match element {
        LogicalType::Enum(_) => ANY_ENUM,
        _ => element.oid(),
    }
}

/// The type of an array's elements: any logical type but an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Element {
    oid: u32,
    typmod: i32,
    /// The type, if it is an enum.
    kind: Option<EnumType>,
}

impl Element {
    /// `None` for an array: PostgreSQL's arrays of several dimensions are of one type.
    pub fn new(kind: LogicalType) -> Option<Self> {
        (!matches!(kind, LogicalType::Array(_))).then(|| Self {
            oid: kind.oid(),
            typmod: kind.typmod(),
            kind: match kind {
                LogicalType::Enum(kind) => Some(kind),
                _ => None,
            },
        })
    }

    /// The type.
    pub fn kind(self) -> LogicalType {
        match self.kind {
            Some(kind) => LogicalType::Enum(kind),
            None => LogicalType::of_one(self.oid, self.typmod).unwrap_or(LogicalType::Text),
        }
    }
}

/// How many elements, and the number of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dimension {
    count: i32,
    lower: i32,
}

/// An array; without dimensions if it is empty.
struct Array {
    dimensions: Vec<Dimension>,
    elements: Vec<Option<Value>>,
}

/// How many elements dimensions make; the limits of the server.
fn count_of(dimensions: &[Dimension]) -> Result<usize, InputError> {
    let too_large = |message: String| InputError::new("54000", message);
    let mut count: i64 = 1;
    for dimension in dimensions {
        count *= i64::from(dimension.count);
        if dimension.count < 0 || count > i64::from(MAX_ELEMENTS) {
            return Err(too_large(format!(
                "array size exceeds the maximum allowed ({MAX_ELEMENTS})"
            )));
        }
    }
    for Dimension { count, lower } in dimensions {
        if lower.checked_add(*count).is_none() {
            return Err(too_large(format!(
                "array lower bound is too large: {lower}"
            )));
        }
    }
    Ok(if dimensions.is_empty() {
        0
    } else {
        count as usize
    })
}

fn too_many_dimensions(count: i32) -> InputError {
    InputError::new(
        "54000",
        format!(
            "number of array dimensions ({count}) exceeds the maximum allowed ({MAX_DIMENSIONS})"
        ),
    )
}

impl Array {
    fn input(
        element: LogicalType,
        text: &str,
        settings: &FormatSettings,
    ) -> Result<Self, InputError> {
        let read = text::read(text)?;
        let bare = element.without_modifiers();
        let mut elements = read
            .elements
            .into_iter()
            .map(|word| {
                word.map(|word| bare.input(word.as_bytes(), settings))
                    .transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        // As on the server: modifiers apply once all elements are read.
        if element != bare {
            for value in elements.iter_mut().flatten() {
                *value = assigned(value, bare, element, settings)?;
            }
        }
        Ok(Self {
            dimensions: read.dimensions,
            elements,
        })
    }

    /// Reads a binary form; each element by `recv`, whose second argument counts from 1.
    fn recv<E: From<InputError>>(
        element: LogicalType,
        oid: u32,
        bytes: &[u8],
        mut recv: impl FnMut(&[u8], usize) -> Result<Value, E>,
    ) -> Result<Self, E> {
        let mut reader = Reader::new(bytes);
        let mut dimensions = header(element, oid, &mut reader)?;
        let count = count_of(&dimensions)?;
        if count == 0 {
            dimensions.clear();
        }
        let mut elements = Vec::with_capacity(count.min(bytes.len() / 4));
        for index in 1..=count {
            let length = reader.i32()?;
            if length == -1 {
                elements.push(None);
                continue;
            }
            let insufficient = || InputError::binary("insufficient data left in message");
            let length = usize::try_from(length).map_err(|_| insufficient())?;
            let bytes = reader.bytes(length).map_err(|_| insufficient())?;
            elements.push(Some(recv(bytes, index)?));
        }
        reader.end()?;
        Ok(Self {
            dimensions,
            elements,
        })
    }

    /// A stored array; its elements are not looked at.
    fn stored(element: LogicalType, value: &[u8]) -> Result<Self, DamagedValue> {
        let read = Self::recv::<InputError>(element, stored_oid(element), value, |bytes, _| {
            Ok(Value::from_send_form(bytes.to_vec()))
        });
        Ok(read?)
    }

    /// The send form, but for an enum's OID.
    fn encode(&self, element: LogicalType) -> Vec<u8> {
        self.encode_as(stored_oid(element))
    }

    fn encode_as(&self, oid: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut word = |word: i32| bytes.extend_from_slice(&word.to_be_bytes());
        word(self.dimensions.len() as i32);
        word(self.elements.iter().any(Option::is_none).into());
        word(oid as i32);
        for Dimension { count, lower } in &self.dimensions {
            word(*count);
            word(*lower);
        }
        for value in &self.elements {
            match value {
                None => bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(value) => {
                    bytes.extend_from_slice(&(value.as_bytes().len() as i32).to_be_bytes());
                    bytes.extend_from_slice(value.as_bytes());
                }
            }
        }
        bytes
    }
}

/// Dimensions, flags, element type and bounds.
fn header(
    element: LogicalType,
    oid: u32,
    reader: &mut Reader<'_>,
) -> Result<Vec<Dimension>, InputError> {
    let dimensions = reader.i32()?;
    if dimensions < 0 {
        return Err(InputError::binary(format!(
            "invalid number of dimensions: {dimensions}"
        )));
    }
    if dimensions > MAX_DIMENSIONS {
        return Err(too_many_dimensions(dimensions));
    }
    if !matches!(reader.i32()?, 0 | 1) {
        return Err(InputError::binary("invalid array flags"));
    }
    check_element_type(element, oid, reader.i32()? as u32)?;
    (0..dimensions)
        .map(|_| {
            Ok(Dimension {
                count: reader.i32()?,
                lower: reader.i32()?,
            })
        })
        .collect()
}

fn check_element_type(element: LogicalType, wanted: u32, oid: u32) -> Result<(), InputError> {
    let expected = element.without_modifiers();
    if oid == wanted {
        return Ok(());
    }
    let found = LogicalType::from_oid(oid, -1).map_or_else(|| "???".into(), LogicalType::sql_name);
    let expected = format!("{} ({})", expected.oid(), expected.sql_name());
    let message = format!(
        "binary data has array element type {oid} ({found}) instead of expected {expected}"
    );
    Err(InputError::new("42804", message))
}

fn element_recv(
    element: LogicalType,
    bytes: &[u8],
    index: usize,
    settings: &FormatSettings,
) -> Result<Value, InputError> {
    element.recv(bytes, settings).map_err(|error| {
        if error == InputError::excess() {
            return InputError::binary(format!("improper binary format in array element {index}"));
        }
        error
    })
}

pub(super) fn input(
    element: Element,
    text: &str,
    settings: &FormatSettings,
) -> Result<Vec<u8>, InputError> {
    let element = element.kind();
    Ok(Array::input(element, text, settings)?.encode(element))
}

pub(super) fn recv(
    element: Element,
    bytes: &[u8],
    settings: &FormatSettings,
) -> Result<Vec<u8>, InputError> {
    let element = element.kind();
    let array = Array::recv(element, element.oid(), bytes, |bytes, index| {
        element_recv(element, bytes, index, settings)
    })?;
    Ok(array.encode(element))
}

pub(super) fn output(
    element: Element,
    value: &[u8],
    settings: &FormatSettings,
    out: &mut Vec<u8>,
) -> Result<(), DamagedValue> {
    let element = element.kind();
    let array = Array::stored(element, value)?;
    text::write(
        &array.dimensions,
        &array.elements,
        out,
        &mut |value, out| element.output(value, settings, out),
    )
}

/// The send form of a stored array whose elements are stored otherwise.
pub(super) fn send(element: Element, value: &[u8], out: &mut Vec<u8>) -> Result<(), DamagedValue> {
    let element = element.kind();
    let mut array = Array::stored(element, value)?;
    for value in array.elements.iter_mut().flatten() {
        let mut sent = Vec::new();
        element.send(value.as_bytes(), &mut sent)?;
        *value = Value::from_send_form(sent);
    }
    let sent = zeroize::Zeroizing::new(array.encode_as(element.oid()));
    out.extend_from_slice(&sent);
    Ok(())
}

/// The array as `to_json` and `to_jsonb` write it; bounds are lost.
pub(super) fn json(
    element: Element,
    value: &[u8],
    rendering: Rendering,
    settings: &FormatSettings,
    out: &mut Vec<u8>,
) -> Result<(), DamagedValue> {
    let element = element.kind();
    let array = Array::stored(element, value)?;
    let separator: &[u8] = match rendering {
        Rendering::Jsonb => b", ",
        Rendering::Json => b",",
    };
    let style = text::Style {
        open: b'[',
        close: b']',
        separator,
        null: b"null",
    };
    text::write_in(
        &style,
        &array.dimensions,
        &array.elements,
        out,
        &mut |value, out| element.json(value, rendering, settings, out),
    )
}

/// Element by element; dimensions and bounds count in the server's `=`.
pub(super) fn canonical(element: Element, value: &[u8]) -> Option<Vec<u8>> {
    let element = element.kind();
    let mut array = Array::stored(element, value).ok()?;
    for value in array.elements.iter_mut().flatten() {
        let canonical = element.canonical(value.as_bytes()).into_owned();
        *value = Value::from_send_form(canonical);
    }
    Some(array.encode(element))
}

/// The cast of the elements.
pub(super) fn assign(
    value: &[u8],
    from: Element,
    to: Element,
    settings: &FormatSettings,
) -> Result<Vec<u8>, InputError> {
    let (from, to) = (from.kind(), to.kind());
    let mut array = Array::stored(from, value)
        .map_err(|_| InputError::binary("incorrect binary data format"))?;
    for value in array.elements.iter_mut().flatten() {
        *value = assigned(value, from, to, settings)?;
    }
    Ok(array.encode(to))
}

fn assigned(
    value: &Value,
    from: LogicalType,
    to: LogicalType,
    settings: &FormatSettings,
) -> Result<Value, InputError> {
    match convert(value, from, to, Conversion::Assignment, settings)? {
        Converted::Value(converted) => Ok(converted),
        Converted::NeverEqual => Err(InputError::binary("incorrect binary data format")),
    }
}

impl LogicalType {
    /// The elements of the text form of an array of this type, `{a,"b c",NULL}`, in their order.
    pub fn array_input(
        self,
        text: &[u8],
        settings: &FormatSettings,
    ) -> Result<Vec<Option<Value>>, InputError> {
        let text = super::encoding::utf8(text)?;
        Ok(Array::input(self, text, settings)?.elements)
    }

    /// The elements of the binary form of an array of this type.
    pub fn array_recv(
        self,
        bytes: &[u8],
        settings: &FormatSettings,
    ) -> Result<Vec<Option<Value>>, InputError> {
        let array = Array::recv(self, self.oid(), bytes, |bytes, index| {
            element_recv(self, bytes, index, settings)
        })?;
        Ok(array.elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &str) -> Result<Vec<Option<String>>, InputError> {
        let values = LogicalType::Text.array_input(input.as_bytes(), &FormatSettings::default())?;
        Ok(values
            .into_iter()
            .map(|value| value.map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()))
            .collect())
    }

    #[test]
    fn reads_elements_as_the_server_does() {
        let found = texts(r#" { a b , "c,\"d" ,NULL,"NULL",\ e\ ,""} "#).unwrap();
        let expected = [
            Some("a b"),
            Some("c,\"d"),
            None,
            Some("NULL"),
            Some(" e "),
            Some(""),
        ];
        assert_eq!(
            found.iter().map(Option::as_deref).collect::<Vec<_>>(),
            expected
        );
        assert_eq!(texts("{}").unwrap(), []);
    }

    #[test]
    fn refuses_malformed_arrays() {
        for (text, sqlstate, detail) in [
            (
                "a",
                "22P02",
                Some("Array value must start with \"{\" or dimension information."),
            ),
            ("{a", "22P02", Some("Unexpected end of input.")),
            ("{a,}", "22P02", Some("Unexpected \"}\" character.")),
            ("{\"a\"b}", "22P02", Some("Unexpected array element.")),
            ("{a} b", "22P02", Some("Junk after closing right brace.")),
            (
                "{{a},{b,c}}",
                "22P02",
                Some("Multidimensional arrays must have sub-arrays with matching dimensions."),
            ),
            ("{{a},b}", "22P02", Some("Unexpected array element.")),
            (
                "[0:1]={a}",
                "22P02",
                Some("Specified array dimensions do not match array contents."),
            ),
            ("[1:0]={}", "2202E", None),
            ("{{{{{{{a}}}}}}}", "54000", None),
            ("{{},{}}", "0A000", None),
        ] {
            let error = texts(text).unwrap_err();
            assert_eq!(
                (error.sqlstate, error.detail.as_deref()),
                (sqlstate, detail),
                "{text}"
            );
        }
    }

    #[test]
    fn reads_and_shows_dimensions() {
        let settings = FormatSettings::default();
        for (text, shown) in [
            ("{{1,2},{3,NULL}}", "{{1,2},{3,NULL}}"),
            (" [0:1] = { 1 , 2 } ", "[0:1]={1,2}"),
            ("[1:2][5:5]={{1},{2}}", "[1:2][5:5]={{1},{2}}"),
            ("{}", "{}"),
        ] {
            let kind = LogicalType::parse("int4[]").unwrap();
            let value = kind.input(text.as_bytes(), &settings).unwrap();
            let mut out = Vec::new();
            kind.output(value.as_bytes(), &settings, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), shown, "{text}");
            assert_eq!(
                kind.recv(value.as_bytes(), &settings).unwrap(),
                value,
                "{text}"
            );
        }
    }

    #[test]
    fn receives_what_the_server_receives() {
        let recv = |words: &[i32]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            LogicalType::Int4.array_recv(&bytes, &FormatSettings::default())
        };
        let found = recv(&[1, 1, 23, 2, 1, 4, 7, -1]).unwrap();
        assert_eq!(found[0].as_ref().unwrap().as_bytes(), [0, 0, 0, 7]);
        assert_eq!((found.len(), &found[1]), (2, &None));
        assert_eq!(recv(&[0, 0, 23]).unwrap(), []);
        for (words, sqlstate, message) in [
            (&[][..], "08P01", "insufficient data left in message"),
            (
                &[7, 0, 23],
                "54000",
                "number of array dimensions (7) exceeds the maximum allowed (6)",
            ),
            (&[1, 2, 23], "22P03", "invalid array flags"),
            (
                &[0, 0, 25],
                "42804",
                "binary data has array element type 25 (text) instead of expected 23 (integer)",
            ),
            (
                &[1, 0, 23, i32::MAX, 1],
                "54000",
                "array size exceeds the maximum allowed (134217727)",
            ),
            (
                &[1, 0, 23, 10, i32::MAX - 2],
                "54000",
                "array lower bound is too large: 2147483645",
            ),
            (
                &[1, 0, 23, 1, 1, -2],
                "22P03",
                "insufficient data left in message",
            ),
            (
                &[1, 0, 23, 1, 1, 8, 7, 7],
                "22P03",
                "improper binary format in array element 1",
            ),
            (
                &[1, 0, 23, 1, 1, 4, 7, 7],
                "22P03",
                "incorrect binary data format in bind parameter",
            ),
        ] {
            let error = recv(words).unwrap_err();
            assert_eq!(
                (error.sqlstate, error.message.as_str()),
                (sqlstate, message)
            );
        }
    }
}
