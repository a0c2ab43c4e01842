//! The records of a document, as `json_to_recordset` and its kin read them: an object, or an array of objects. Gives
//! every member as the text that the server hands to the input function of a column's type. Converts no values.

use zeroize::Zeroizing;

use super::{
    MAX_DEPTH,
    lexer::{Lexer, Literal, Token},
};
use crate::types::{InputError, LogicalType, json_string};

/// What a member of a record holds.
pub enum Given<'a> {
    /// `null`.
    Null,
    /// A string, decoded.
    String(Zeroizing<String>),
    /// A number, `true` or `false`, as it is written.
    Scalar(&'a str),
    /// An object or an array, as it is written.
    Nested(&'a str),
}

/// One member of a record.
pub struct Member<'a> {
    /// Its name, decoded.
    name: Zeroizing<String>,
    /// What it holds.
    pub given: Given<'a>,
    /// How that is written.
    pub written: &'a str,
}

/// One record.
#[derive(Default)]
pub struct Record<'a>(Vec<Member<'a>>);

/// What a document is to these functions.
pub enum Records<'a> {
    /// An object.
    One(Record<'a>),
    /// An array. What is no object in it is `None`: the server refuses it.
    Many(Vec<Option<Record<'a>>>),
    /// Something else, which the server refuses.
    None,
}

impl<'a> Record<'a> {
    /// The member of this name: the last one, if there are several.
    pub fn member(&self, name: &str) -> Option<&Member<'a>> {
        self.0.iter().rev().find(|member| *member.name == name)
    }
}

impl Given<'_> {
    /// What the input function of a column's type gets; `None` is NULL.
    ///
    /// # Errors
    /// A value that is taken apart by more than an input function.
    pub fn text(&self, column: LogicalType) -> Result<Option<Zeroizing<Vec<u8>>>, InputError> {
        let document = matches!(column, LogicalType::Json | LogicalType::Jsonb);
        Ok(match self {
            Self::Null => None,
            Self::String(text) if document => {
                let mut out = Zeroizing::new(Vec::with_capacity(text.len() + 2));
                json_string(text.as_bytes(), &mut out);
                Some(out)
            }
            Self::String(text) => Some(Zeroizing::new(text.as_bytes().to_vec())),
            Self::Nested(_) if matches!(column, LogicalType::Array(_)) => {
                return Err(InputError::unsupported(
                    "an array inside a JSON document cannot be sealed as an array: write it as a string, '{...}'"
                        .to_owned(),
                ));
            }
            Self::Scalar(text) | Self::Nested(text) => {
                Some(Zeroizing::new(text.as_bytes().to_vec()))
            }
        })
    }
}

/// Reads a document, the text of a valid `json` or `jsonb`.
///
/// # Errors
/// As the server: an escape that is no character.
pub fn records(text: &str) -> Result<Records<'_>, InputError> {
    let mut reader = Reader {
        text,
        lexer: Lexer::new(text, true),
    };
    Ok(match reader.lexer.next()? {
        Token::BeginObject => Records::One(reader.record()?),
        Token::BeginArray => Records::Many(reader.many()?),
        _ => Records::None,
    })
}

struct Reader<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
}

impl<'a> Reader<'a> {
    /// Behind the bracket that opens an array.
    fn many(&mut self) -> Result<Vec<Option<Record<'a>>>, InputError> {
        let mut many = Vec::new();
        loop {
            match self.lexer.next()? {
                Token::EndArray | Token::End => return Ok(many),
                Token::Comma => {}
                Token::BeginObject => many.push(Some(self.record()?)),
                token => {
                    self.value(token)?;
                    many.push(None);
                }
            }
        }
    }

    /// Behind the bracket that opens an object.
    fn record(&mut self) -> Result<Record<'a>, InputError> {
        let mut record = Record::default();
        loop {
            match self.lexer.next()? {
                Token::EndObject | Token::End => return Ok(record),
                Token::String => {}
                _ => continue,
            }
            let name = Zeroizing::new(self.lexer.string().to_owned());
            if self.lexer.next()? != Token::Colon {
                return Err(self.lexer.unexpected("Expected \":\""));
            }
            let token = self.lexer.next()?;
            let start = self.lexer.span().start;
            let given = self.value(token)?;
            record.0.push(Member {
                name,
                given,
                written: self
                    .text
                    .get(start..self.lexer.span().end)
                    .unwrap_or_default(),
            });
        }
    }

    /// The value that starts with a token.
    fn value(&mut self, token: Token) -> Result<Given<'a>, InputError> {
        Ok(match token {
            Token::String => Given::String(Zeroizing::new(self.lexer.string().to_owned())),
            Token::Literal(Literal::Null) => Given::Null,
            Token::BeginObject | Token::BeginArray => {
                let start = self.lexer.span().start;
                let end = self.behind_nested()?;
                Given::Nested(self.text.get(start..end).unwrap_or_default())
            }
            _ => Given::Scalar(self.lexer.token()),
        })
    }

    /// Where an object or array ends that has been opened.
    fn behind_nested(&mut self) -> Result<usize, InputError> {
        let mut open = 1;
        while open > 0 {
            match self.lexer.next()? {
                Token::BeginObject | Token::BeginArray if open < MAX_DEPTH => open += 1,
                Token::EndObject | Token::EndArray => open -= 1,
                Token::End => return Err(self.lexer.unexpected("Expected JSON value")),
                _ => {}
            }
        }
        Ok(self.lexer.span().end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, name: &str, logical: LogicalType) -> Vec<Option<String>> {
        let one = |record: &Record<'_>| {
            let member = record.member(name)?;
            let text = member.given.text(logical).unwrap()?;
            Some(String::from_utf8(text.to_vec()).unwrap())
        };
        match records(text).unwrap() {
            Records::One(record) => vec![one(&record)],
            Records::Many(many) => many.iter().map(|record| one(record.as_ref()?)).collect(),
            Records::None => Vec::new(),
        }
    }

    #[test]
    fn gives_members_as_the_server_gives_them_to_input_functions() {
        let text = LogicalType::Text;
        for (document, logical, expected) in [
            (r#"{"a": "x\u00e9\"", "b": 1}"#, text, vec![Some("xé\"")]),
            (r#"{"a": 1, "a": 1.50}"#, text, vec![Some("1.50")]),
            (
                r#"[{"a": true}, {"b": 1}, {"a": null}, 7]"#,
                text,
                vec![Some("true"), None, None, None],
            ),
            (
                r#"{"a": { "b" : [1, {"a": 2}] }, "c": "}"}"#,
                text,
                vec![Some(r#"{ "b" : [1, {"a": 2}] }"#)],
            ),
            (
                r#"{"a": "x\/y"}"#,
                LogicalType::Json,
                vec![Some(r#""x/y""#)],
            ),
            (r#"{"\u0061": "x"}"#, text, vec![Some("x")]),
            ("[]", text, vec![]),
            ("7", text, vec![]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|e| e.map(str::to_owned)).collect();
            assert_eq!(shown(document, "a", logical), expected, "{document}");
        }
    }

    #[test]
    fn keeps_how_members_are_written() {
        let Records::One(record) = records(r#"{"a" : [ 1 ,2], "b":"\u0041" }"#).unwrap() else {
            panic!("an object")
        };
        assert_eq!(record.member("a").unwrap().written, "[ 1 ,2]");
        assert_eq!(record.member("b").unwrap().written, r#""\u0041""#);
    }

    #[test]
    fn refuses_what_is_no_character() {
        let error = records(r#"{"a": "\u0000"}"#).err().unwrap();
        assert_eq!(error.sqlstate, "22P05");
        assert!(records(r#"{"a": "\ud800"}"#).is_err());
    }
}
