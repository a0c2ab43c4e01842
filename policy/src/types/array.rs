//! One-dimensional arrays of a logical type: the operands of `= ANY(...)`. Arrays are never stored.

use super::{FormatSettings, InputError, LogicalType, Value, binary::Reader, encoding};

/// `MAXDIM`.
const MAX_DIMENSIONS: i32 = 6;
/// Most elements that a server's array may have (`MaxArraySize`).
const MAX_ELEMENTS: i32 = 134_217_727;

impl LogicalType {
    /// Reads the text form of an array of this type, `{a,"b c",NULL}`. Arrays of several dimensions and arrays with
    /// explicit bounds (`[1:2]={a,b}`) are refused.
    pub fn array_input(
        self,
        text: &[u8],
        settings: &FormatSettings,
    ) -> Result<Vec<Option<Value>>, InputError> {
        let text = encoding::utf8(text)?;
        let words = Scanner::new(text).elements()?;
        words
            .into_iter()
            .map(|word| {
                word.map(|word| self.input(word.as_bytes(), settings))
                    .transpose()
            })
            .collect()
    }

    /// Reads the binary form of an array of this type.
    pub fn array_recv(
        self,
        bytes: &[u8],
        settings: &FormatSettings,
    ) -> Result<Vec<Option<Value>>, InputError> {
        let mut reader = Reader::new(bytes);
        let count = self.array_header(&mut reader)?;
        let mut values = Vec::with_capacity(count.min(bytes.len() / 4));
        for index in 1..=count {
            values.push(self.element_recv(index, &mut reader, settings)?);
        }
        reader.end()?;
        Ok(values)
    }

    /// Dimensions, flags, element type and bounds; answers how many elements follow.
    fn array_header(self, reader: &mut Reader<'_>) -> Result<usize, InputError> {
        let too_large = |message: String| InputError::new("54000", message);
        let dimensions = reader.i32()?;
        if dimensions < 0 {
            return Err(InputError::binary(format!(
                "invalid number of dimensions: {dimensions}"
            )));
        }
        if dimensions > MAX_DIMENSIONS {
            return Err(too_large(format!(
                "number of array dimensions ({dimensions}) exceeds the maximum allowed ({MAX_DIMENSIONS})"
            )));
        }
        if !matches!(reader.i32()?, 0 | 1) {
            return Err(InputError::binary("invalid array flags"));
        }
        self.check_element_type(reader.i32()? as u32)?;
        let (count, lower_bound) = match dimensions {
            0 => return Ok(0),
            1 => (reader.i32()?, reader.i32()?),
            _ => return Err(several_dimensions()),
        };
        if !(0..=MAX_ELEMENTS).contains(&count) {
            return Err(too_large(format!(
                "array size exceeds the maximum allowed ({MAX_ELEMENTS})"
            )));
        }
        if lower_bound.checked_add(count).is_none() {
            return Err(too_large(format!(
                "array lower bound is too large: {lower_bound}"
            )));
        }
        Ok(count as usize)
    }

    fn check_element_type(self, oid: u32) -> Result<(), InputError> {
        let expected = self.without_modifiers();
        if oid == expected.oid() {
            return Ok(());
        }
        let found = Self::from_oid(oid, -1).map_or_else(|| "???".into(), Self::sql_name);
        let expected = format!("{} ({})", expected.oid(), expected.sql_name());
        let message = format!(
            "binary data has array element type {oid} ({found}) instead of expected {expected}"
        );
        Err(InputError::new("42804", message))
    }

    fn element_recv(
        self,
        index: usize,
        reader: &mut Reader<'_>,
        settings: &FormatSettings,
    ) -> Result<Option<Value>, InputError> {
        let length = reader.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let insufficient = || InputError::binary("insufficient data left in message");
        let length = usize::try_from(length).map_err(|_| insufficient())?;
        let bytes = reader.bytes(length).map_err(|_| insufficient())?;
        self.recv(bytes, settings).map(Some).map_err(|error| {
            if error == InputError::excess() {
                return InputError::binary(format!(
                    "improper binary format in array element {index}"
                ));
            }
            error
        })
    }
}

fn several_dimensions() -> InputError {
    InputError::unsupported(
        "arrays of several dimensions are not supported as operands of a protected column",
    )
}

/// Reads the text form of an array.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn malformed(&self, detail: &str) -> InputError {
        InputError::new(
            "22P02",
            format!("malformed array literal: \"{}\"", self.text),
        )
        .detail(detail)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(encoding::is_space) {
            self.at += 1;
        }
    }

    /// All elements; `None` is NULL.
    fn elements(mut self) -> Result<Vec<Option<String>>, InputError> {
        self.skip_space();
        match self.peek() {
            // From here on the server quotes the text without what stood before the brace.
            Some(b'{') => (self.text, self.at) = (&self.text[self.at..], 1),
            Some(b'[') => {
                return Err(InputError::unsupported(
                    "array literals with explicit bounds are not supported as operands of a protected column",
                ));
            }
            _ => {
                return Err(
                    self.malformed("Array value must start with \"{\" or dimension information.")
                );
            }
        }
        let mut elements = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                elements.push(self.element()?);
                self.skip_space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break self.at += 1,
                    None => return Err(self.malformed("Unexpected end of input.")),
                    Some(byte @ (b'{' | b'\\')) => {
                        return Err(self.malformed(&format!(
                            "Unexpected \"{}\" character.",
                            char::from(byte)
                        )));
                    }
                    Some(_) => return Err(self.malformed("Unexpected array element.")),
                }
            }
        }
        self.skip_space();
        if self.peek().is_some() {
            Err(self.malformed("Junk after closing right brace."))
        } else {
            Ok(elements)
        }
    }

    fn element(&mut self) -> Result<Option<String>, InputError> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.quoted().map(Some)
            }
            Some(b'{') => Err(several_dimensions()),
            Some(byte @ (b',' | b'}')) => {
                Err(self.malformed(&format!("Unexpected \"{}\" character.", char::from(byte))))
            }
            None => Err(self.malformed("Unexpected end of input.")),
            Some(_) => self.unquoted(),
        }
    }

    fn quoted(&mut self) -> Result<String, InputError> {
        let mut word = String::new();
        let rest = &self.text[self.at..];
        let mut chars = rest.char_indices();
        while let Some((index, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += index + 1;
                    return Ok(word);
                }
                '\\' => match chars.next() {
                    Some((_, escaped)) => word.push(escaped),
                    None => break,
                },
                _ => word.push(c),
            }
        }
        Err(self.malformed("Unexpected end of input."))
    }

    /// White space at both ends goes unless it was escaped.
    fn unquoted(&mut self) -> Result<Option<String>, InputError> {
        let mut word = String::new();
        let mut kept = 0;
        let mut escaped = false;
        let rest = &self.text[self.at..];
        let mut chars = rest.char_indices();
        while let Some((index, c)) = chars.next() {
            match c {
                ',' | '}' => {
                    self.at += index;
                    word.truncate(kept);
                    let is_null = !escaped && word.eq_ignore_ascii_case("NULL");
                    return Ok(if is_null { None } else { Some(word) });
                }
                '"' => return Err(self.malformed("Unexpected array element.")),
                '{' => return Err(self.malformed("Unexpected \"{\" character.")),
                '\\' => match chars.next() {
                    Some((_, next)) => {
                        word.push(next);
                        escaped = true;
                        kept = word.len();
                    }
                    None => break,
                },
                _ => {
                    word.push(c);
                    if !(c.is_ascii() && encoding::is_space(c as u8)) {
                        kept = word.len();
                    }
                }
            }
        }
        Err(self.malformed("Unexpected end of input."))
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
    fn refuses_malformed_and_nested_arrays() {
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
            ("{{a}}", "0A000", None),
            ("[0:0]={a}", "0A000", None),
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
