//! The tokens of a JSON text, and the server's words for what is none.

use zeroize::Zeroizing;

use crate::types::InputError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::types) enum Literal {
    Null,
    True,
    False,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    BeginObject,
    EndObject,
    BeginArray,
    EndArray,
    Comma,
    Colon,
    String,
    Number,
    Literal(Literal),
    End,
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Where the current token starts and ends.
    start: usize,
    end: usize,
    decodes: bool,
    decoded: Zeroizing<String>,
}

/// Half of a surrogate pair, waiting for the other.
type Pending = Option<u32>;

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, decodes: bool) -> Self {
        Self {
            text,
            start: 0,
            end: 0,
            decodes,
            decoded: Zeroizing::default(),
        }
    }

    /// The current token's text.
    pub(super) fn token(&self) -> &'a str {
        self.text.get(self.start..self.end).unwrap_or_default()
    }

    /// Where the current token stands.
    pub(super) fn span(&self) -> std::ops::Range<usize> {
        self.start..self.end
    }

    /// The current string, decoded (empty if this lexer does not decode).
    pub(super) fn string(&self) -> &str {
        &self.decoded
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn syntax(detail: String) -> InputError {
        InputError::new("22P02", "invalid input syntax for type json").detail(detail)
    }

    /// The current token is not what the grammar wants.
    pub(super) fn unexpected(&self, expected: &str) -> InputError {
        if self.start >= self.text.len() {
            return Self::syntax("The input string ended unexpectedly.".into());
        }
        Self::syntax(format!("{expected}, but found \"{}\".", self.token()))
    }

    fn invalid(&mut self, end: usize) -> InputError {
        self.end = end;
        while !self.text.is_char_boundary(self.end) {
            self.end += 1;
        }
        Self::syntax(format!("Token \"{}\" is invalid.", self.token()))
    }

    pub(super) fn next(&mut self) -> Result<Token, InputError> {
        let mut at = self.end;
        while matches!(self.byte(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            at += 1;
        }
        self.start = at;
        let Some(first) = self.byte(at) else {
            self.end = at;
            return Ok(Token::End);
        };
        self.end = at + 1;
        Ok(match first {
            b'{' => Token::BeginObject,
            b'}' => Token::EndObject,
            b'[' => Token::BeginArray,
            b']' => Token::EndArray,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => self.lex_string()?,
            b'-' => self.lex_number(at + 1)?,
            b'0'..=b'9' => self.lex_number(at)?,
            _ => self.lex_word()?,
        })
    }

    /// The end of a run of what may be in a word: letters, digits, `_` and everything beyond ASCII.
    fn word_end(&self, mut at: usize) -> usize {
        while self
            .byte(at)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80)
        {
            at += 1;
        }
        at
    }

    fn digits_end(&self, mut at: usize) -> usize {
        while self.byte(at).is_some_and(|byte| byte.is_ascii_digit()) {
            at += 1;
        }
        at
    }

    fn lex_word(&mut self) -> Result<Token, InputError> {
        self.end = self.word_end(self.start);
        if self.end == self.start {
            return Err(self.invalid(self.start + 1));
        }
        match self.token() {
            "true" => Ok(Token::Literal(Literal::True)),
            "false" => Ok(Token::Literal(Literal::False)),
            "null" => Ok(Token::Literal(Literal::Null)),
            _ => Err(self.invalid(self.end)),
        }
    }

    /// `at` is behind the sign.
    fn lex_number(&mut self, mut at: usize) -> Result<Token, InputError> {
        let whole = at;
        at = if self.byte(at) == Some(b'0') {
            at + 1
        } else {
            self.digits_end(at)
        };
        let mut valid = at > whole;
        if self.byte(at) == Some(b'.') {
            let fraction = at + 1;
            at = self.digits_end(fraction);
            valid &= at > fraction;
        }
        if matches!(self.byte(at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.byte(at + 1), Some(b'+' | b'-')));
            let exponent = at + 1 + sign;
            at = self.digits_end(exponent);
            valid &= at > exponent;
        }
        let end = self.word_end(at);
        if !valid || end > at {
            return Err(self.invalid(end));
        }
        self.end = at;
        Ok(Token::Number)
    }

    fn lex_string(&mut self) -> Result<Token, InputError> {
        self.decoded.clear();
        let mut pending: Pending = None;
        let mut at = self.start + 1;
        loop {
            let run = at;
            while self
                .byte(at)
                .is_some_and(|byte| !matches!(byte, b'"' | b'\\') && byte >= 0x20)
            {
                at += 1;
            }
            if self.decodes && at > run {
                Self::complete(pending.take())?;
                self.decoded
                    .push_str(self.text.get(run..at).unwrap_or_default());
            }
            match self.byte(at) {
                None => return Err(self.invalid(at)),
                Some(b'"') => break,
                Some(b'\\') => at = self.lex_escape(at + 1, &mut pending)?,
                Some(control) => {
                    return Err(Self::syntax(format!(
                        "Character with value 0x{control:02x} must be escaped."
                    )));
                }
            }
        }
        Self::complete(pending)?;
        self.end = at + 1;
        Ok(Token::String)
    }

    /// `at` is behind the backslash; the answer is behind the escape.
    fn lex_escape(&mut self, at: usize, pending: &mut Pending) -> Result<usize, InputError> {
        let Some(escape) = self.byte(at) else {
            return Err(self.invalid(at));
        };
        if escape == b'u' {
            return self.lex_unicode(at + 1, pending);
        }
        Self::complete(pending.take())?;
        let decoded = match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            _ => {
                let wrong = self
                    .text
                    .get(at..)
                    .and_then(|rest| rest.chars().next())
                    .unwrap_or_default();
                return Err(Self::syntax(format!(
                    "Escape sequence \"\\{wrong}\" is invalid."
                )));
            }
        };
        if self.decodes {
            self.decoded.push(decoded);
        }
        Ok(at + 1)
    }

    fn lex_unicode(&mut self, at: usize, pending: &mut Pending) -> Result<usize, InputError> {
        let mut code = 0;
        for place in at..at + 4 {
            let Some(byte) = self.byte(place) else {
                return Err(self.invalid(place));
            };
            let digit = char::from(byte).to_digit(16).ok_or_else(|| {
                Self::syntax("\"\\u\" must be followed by four hexadecimal digits.".into())
            })?;
            code = code << 4 | digit;
        }
        if self.decodes {
            self.decode(code, pending)?;
        }
        Ok(at + 4)
    }

    fn decode(&mut self, code: u32, pending: &mut Pending) -> Result<(), InputError> {
        let code = match (pending.take(), code) {
            (Some(_), 0xd800..=0xdbff) => {
                let detail = "Unicode high surrogate must not follow a high surrogate.";
                return Err(Self::syntax(detail.into()));
            }
            (None, 0xd800..=0xdbff) => {
                *pending = Some(code);
                return Ok(());
            }
            (Some(high), 0xdc00..=0xdfff) => 0x10000 + ((high & 0x3ff) << 10) + (code & 0x3ff),
            (Some(_), _) | (None, 0xdc00..=0xdfff) => return Err(Self::lone_surrogate()),
            (None, 0) => {
                return Err(
                    InputError::new("22P05", "unsupported Unicode escape sequence")
                        .detail("\\u0000 cannot be converted to text."),
                );
            }
            (None, code) => code,
        };
        self.decoded
            .push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        Ok(())
    }

    fn lone_surrogate() -> InputError {
        Self::syntax("Unicode low surrogate must follow a high surrogate.".into())
    }

    /// A high surrogate that nothing follows is an error.
    fn complete(pending: Pending) -> Result<(), InputError> {
        if pending.is_some() {
            Err(Self::lone_surrogate())
        } else {
            Ok(())
        }
    }
}
