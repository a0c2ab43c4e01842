//! `json`: the text itself, checked by the server's grammar and with its words. `jsonb` builds on the same parser.

mod lexer;
mod records;

pub(super) use lexer::Literal;
pub use records::{Given, Record, Records, records};

use super::InputError;
use lexer::{Lexer, Token};

/// Deepest nesting that is read; the server's own limit depends on its stack.
const MAX_DEPTH: usize = 1000;

/// Receives a document's parts in their order.
pub(super) trait Sink {
    /// Whether escapes are decoded, and so checked to be characters.
    const DECODES: bool;
    fn begin_object(&mut self);
    fn end_object(&mut self);
    fn begin_array(&mut self);
    fn end_array(&mut self);
    /// Decoded.
    fn key(&mut self, key: &str) -> Result<(), InputError>;
    /// Decoded.
    fn string(&mut self, text: &str) -> Result<(), InputError>;
    /// As written.
    fn number(&mut self, text: &str) -> Result<(), InputError>;
    fn literal(&mut self, literal: Literal);
}

/// Only checks.
struct Nothing;

impl Sink for Nothing {
    const DECODES: bool = false;
    fn begin_object(&mut self) {}
    fn end_object(&mut self) {}
    fn begin_array(&mut self) {}
    fn end_array(&mut self) {}
    fn key(&mut self, _: &str) -> Result<(), InputError> {
        Ok(())
    }
    fn string(&mut self, _: &str) -> Result<(), InputError> {
        Ok(())
    }
    fn number(&mut self, _: &str) -> Result<(), InputError> {
        Ok(())
    }
    fn literal(&mut self, _: Literal) {}
}

pub(super) fn input(text: &str) -> Result<Vec<u8>, InputError> {
    parse(text, &mut Nothing)?;
    Ok(text.as_bytes().to_vec())
}

#[derive(Clone, Copy, PartialEq)]
enum Container {
    Object,
    Array,
}

/// What the parser waits for.
#[derive(Clone, Copy)]
enum Expect {
    Value,
    FirstElement,
    FirstKey,
    NextKey,
    AfterValue,
}

/// Reads one document, without recursion.
pub(super) fn parse<S: Sink>(text: &str, sink: &mut S) -> Result<(), InputError> {
    let mut parser = Parser {
        lexer: Lexer::new(text, S::DECODES),
        sink,
        open: Vec::new(),
        ahead: None,
    };
    let mut expect = Expect::Value;
    loop {
        let token = match parser.ahead.take() {
            Some(token) => token,
            None => parser.lexer.next()?,
        };
        expect = match expect {
            Expect::FirstElement if token == Token::EndArray => parser.close(),
            Expect::Value | Expect::FirstElement => parser.value(token)?,
            Expect::FirstKey if token == Token::EndObject => parser.close(),
            Expect::FirstKey if token != Token::String => {
                return Err(parser.lexer.unexpected("Expected string or \"}\""));
            }
            Expect::NextKey if token != Token::String => {
                return Err(parser.lexer.unexpected("Expected string"));
            }
            Expect::FirstKey | Expect::NextKey => parser.key()?,
            Expect::AfterValue => match parser.after_value(token)? {
                Some(expect) => expect,
                None => return Ok(()),
            },
        };
    }
}

struct Parser<'a, S> {
    lexer: Lexer<'a>,
    sink: &'a mut S,
    open: Vec<Container>,
    /// A token that was read before its turn.
    ahead: Option<Token>,
}

impl<S: Sink> Parser<'_, S> {
    fn value(&mut self, token: Token) -> Result<Expect, InputError> {
        match token {
            Token::BeginObject => {
                self.open(Container::Object)?;
                self.sink.begin_object();
                return Ok(Expect::FirstKey);
            }
            Token::BeginArray => {
                self.open(Container::Array)?;
                self.sink.begin_array();
                return Ok(Expect::FirstElement);
            }
            Token::String => self.sink.string(self.lexer.string())?,
            Token::Number => {
                // The server complains of what follows a number before it complains of the number.
                let text = self.lexer.token();
                self.ahead = Some(self.lexer.next()?);
                self.sink.number(text)?;
            }
            Token::Literal(literal) => self.sink.literal(literal),
            _ => return Err(self.lexer.unexpected("Expected JSON value")),
        }
        Ok(Expect::AfterValue)
    }

    fn open(&mut self, container: Container) -> Result<(), InputError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(InputError::unsupported(format!(
                "json nested deeper than {MAX_DEPTH} levels is not supported in protected columns"
            )));
        }
        self.open.push(container);
        Ok(())
    }

    fn close(&mut self) -> Expect {
        match self.open.pop() {
            Some(Container::Object) => self.sink.end_object(),
            Some(Container::Array) => self.sink.end_array(),
            None => {}
        }
        Expect::AfterValue
    }

    fn key(&mut self) -> Result<Expect, InputError> {
        self.sink.key(self.lexer.string())?;
        if self.lexer.next()? != Token::Colon {
            return Err(self.lexer.unexpected("Expected \":\""));
        }
        Ok(Expect::Value)
    }

    /// `None` at the end of the document.
    fn after_value(&mut self, token: Token) -> Result<Option<Expect>, InputError> {
        Ok(Some(match (self.open.last(), token) {
            (None, Token::End) => return Ok(None),
            (None, _) => return Err(self.lexer.unexpected("Expected end of input")),
            (Some(Container::Object), Token::Comma) => Expect::NextKey,
            (Some(Container::Array), Token::Comma) => Expect::Value,
            (Some(Container::Object), Token::EndObject)
            | (Some(Container::Array), Token::EndArray) => self.close(),
            (Some(Container::Object), _) => {
                return Err(self.lexer.unexpected("Expected \",\" or \"}\""));
            }
            (Some(Container::Array), _) => {
                return Err(self.lexer.unexpected("Expected \",\" or \"]\""));
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_in_the_servers_words() {
        for (text, detail) in [
            ("", "The input string ended unexpectedly."),
            ("{", "The input string ended unexpectedly."),
            ("[1,]", "Expected JSON value, but found \"]\"."),
            ("[1 2]", "Expected \",\" or \"]\", but found \"2\"."),
            ("{1:2}", "Expected string or \"}\", but found \"1\"."),
            ("{\"a\" 2}", "Expected \":\", but found \"2\"."),
            ("{\"a\":2,}", "Expected string, but found \"}\"."),
            ("{\"a\":2 3}", "Expected \",\" or \"}\", but found \"3\"."),
            ("1 2", "Expected end of input, but found \"2\"."),
            ("01", "Token \"01\" is invalid."),
            ("nul", "Token \"nul\" is invalid."),
            ("1.e5", "Token \"1.e5\" is invalid."),
            ("\"a", "Token \"\"a\" is invalid."),
            ("\"\\x\"", "Escape sequence \"\\x\" is invalid."),
            (
                "\"\\u12g4\"",
                "\"\\u\" must be followed by four hexadecimal digits.",
            ),
            ("\"\n\"", "Character with value 0x0a must be escaped."),
        ] {
            let error = input(text).unwrap_err();
            assert_eq!(error.detail.as_deref(), Some(detail), "{text}");
            assert_eq!(error.sqlstate, "22P02", "{text}");
        }
        assert!(input(" {\"a\": [1, -0.5e+3, null, true, \"\\u0000\\ud800\"]} ").is_ok());
        assert_eq!(input(&"[".repeat(100_000)).unwrap_err().sqlstate, "0A000");
    }
}
