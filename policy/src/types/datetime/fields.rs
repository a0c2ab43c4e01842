//! Splits the text of a date or time into fields, as the server's `ParseDateTime` does. Does not interpret them.

use super::{Fault, words};
use crate::types::encoding::is_space;

/// Most fields of a text.
const MAX_FIELDS: usize = 25;

/// What a field looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::types) enum Kind {
    /// Digits, perhaps with a decimal point.
    Number,
    /// Numbers or words with separators; perhaps a zone's name.
    Date,
    /// Digits with colons.
    Time,
    /// A sign and digits.
    Zone,
    /// Letters.
    Word,
}

/// A field, in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::types) struct Field {
    pub(in crate::types) kind: Kind,
    pub(in crate::types) text: String,
}

/// `room` is the server's buffer: what does not fit into it is no date.
pub(in crate::types) fn split(text: &str, room: usize) -> Result<Vec<Field>, Fault> {
    let mut lexer = Lexer {
        rest: text.as_bytes(),
        room,
    };
    let mut fields = Vec::new();
    while let Some(next) = lexer.peek() {
        if is_space(next) {
            lexer.skip();
            continue;
        }
        if fields.len() >= MAX_FIELDS {
            return Err(Fault::Format);
        }
        if let Some(field) = lexer.field(next)? {
            fields.push(field);
            lexer.room = lexer.room.saturating_sub(1);
        }
    }
    Ok(fields)
}

struct Lexer<'a> {
    rest: &'a [u8],
    room: usize,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn skip(&mut self) {
        self.rest = &self.rest[1..];
    }

    fn next_is(&self, test: impl Fn(u8) -> bool) -> bool {
        self.peek().is_some_and(test)
    }

    fn take(&mut self, text: &mut String) -> Result<(), Fault> {
        let byte = self.peek().ok_or(Fault::Format)?;
        if self.room <= 1 {
            return Err(Fault::Format);
        }
        self.room -= 1;
        text.push(char::from(byte.to_ascii_lowercase()));
        self.skip();
        Ok(())
    }

    fn take_while(&mut self, text: &mut String, test: impl Fn(u8) -> bool) -> Result<(), Fault> {
        while self.next_is(&test) {
            self.take(text)?;
        }
        Ok(())
    }

    /// `None` for punctuation that only separates.
    fn field(&mut self, first: u8) -> Result<Option<Field>, Fault> {
        let mut text = String::new();
        let kind = match first {
            b'0'..=b'9' => self.digits(&mut text)?,
            b'.' => {
                self.take(&mut text)?;
                self.take_while(&mut text, |byte| byte.is_ascii_digit())?;
                Kind::Number
            }
            _ if first.is_ascii_alphabetic() => self.letters(&mut text)?,
            b'+' | b'-' => self.sign(&mut text)?,
            _ if first.is_ascii_punctuation() => {
                self.skip();
                return Ok(None);
            }
            _ => return Err(Fault::Format),
        };
        Ok(Some(Field { kind, text }))
    }

    fn digits(&mut self, text: &mut String) -> Result<Kind, Fault> {
        self.take_while(text, |byte| byte.is_ascii_digit())?;
        match self.peek() {
            Some(b':') => {
                self.take_while(text, |byte| {
                    byte.is_ascii_digit() || matches!(byte, b':' | b'.')
                })?;
                Ok(Kind::Time)
            }
            Some(separator @ (b'-' | b'/' | b'.')) => self.separated(text, separator),
            _ => Ok(Kind::Number),
        }
    }

    fn separated(&mut self, text: &mut String, separator: u8) -> Result<Kind, Fault> {
        self.take(text)?;
        if !self.next_is(|byte| byte.is_ascii_digit()) {
            self.take_while(text, |byte| {
                byte.is_ascii_alphanumeric() || byte == separator
            })?;
            return Ok(Kind::Date);
        }
        self.take_while(text, |byte| byte.is_ascii_digit())?;
        if self.peek() == Some(separator) {
            self.take_while(text, |byte| byte.is_ascii_digit() || byte == separator)?;
            return Ok(Kind::Date);
        }
        Ok(if separator == b'.' {
            Kind::Number
        } else {
            Kind::Date
        })
    }

    /// A word; with a separator in it a date with a month's name, or a zone's name.
    fn letters(&mut self, text: &mut String) -> Result<Kind, Fault> {
        self.take_while(text, |byte| byte.is_ascii_alphabetic())?;
        let goes_on = match self.peek() {
            Some(b'-' | b'/' | b'.') => true,
            Some(b'+' | b'0'..=b'9') => words::find(text).is_none(),
            _ => false,
        };
        if !goes_on {
            return Ok(Kind::Word);
        }
        self.take(text)?;
        self.take_while(text, |byte| {
            byte.is_ascii_alphanumeric() || b"+-/_.:".contains(&byte)
        })?;
        Ok(Kind::Date)
    }

    fn sign(&mut self, text: &mut String) -> Result<Kind, Fault> {
        self.take(text)?;
        while self.next_is(is_space) {
            self.skip();
        }
        match self.peek() {
            Some(b'0'..=b'9') => {
                self.take_while(text, |byte| byte.is_ascii_digit() || b":.-".contains(&byte))?;
                Ok(Kind::Zone)
            }
            Some(byte) if byte.is_ascii_alphabetic() => {
                self.take_while(text, |byte| byte.is_ascii_alphabetic())?;
                Ok(Kind::Word)
            }
            _ => Err(Fault::Format),
        }
    }
}
