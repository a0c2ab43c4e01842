//! `ErrorResponse` and `NoticeResponse`: views of the server's, and [`Report`], what pgveil says itself.

use std::{borrow::Cow, fmt};

use bytes::BytesMut;
use pgwire::messages::{Message, response};

use super::{Malformed, body::Body};

/// The most a single field of a report carries: libpq takes long errors, but no one reads them.
const FIELD_BYTES: usize = 16 * 1024;

/// The fields of an error or a notice, in the server's order and with the server's codes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorFields<'a>(&'a [u8]);

impl<'a> ErrorFields<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Body::new(body);
        while fields.u8()? != 0 {
            fields.string()?;
        }
        fields.end()?;
        Ok(Self(body))
    }

    /// Code and value of each field.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + 'a {
        let mut fields = Body::new(self.0);
        std::iter::from_fn(move || match fields.u8().ok()? {
            0 => None,
            code => Some((code, fields.string().ok()?)),
        })
    }

    /// The first field with this code, such as `b'C'` for the SQLSTATE. Any may be missing.
    pub fn get(&self, code: u8) -> Option<&'a [u8]> {
        self.iter()
            .find(|field| field.0 == code)
            .map(|field| field.1)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The connection ends.
    Fatal,
    /// The statement ends.
    Error,
    /// A notice.
    Warning,
    /// A notice.
    Notice,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
        }
    }
}

/// What pgveil tells a client. Whoever fills it keeps plaintext and literals out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `S` and `V`.
    pub severity: Severity,
    /// `C`: five characters.
    pub sqlstate: Cow<'static, str>,
    /// `M`.
    pub message: String,
    /// `D`.
    pub detail: Option<String>,
    /// `H`.
    pub hint: Option<String>,
    /// `P`: characters from the start of the client's statement, from 1.
    pub position: Option<usize>,
    /// `s`.
    pub schema: Option<String>,
    /// `t`.
    pub table: Option<String>,
    /// `c`.
    pub column: Option<String>,
    /// `d`.
    pub data_type: Option<String>,
    /// `n`.
    pub constraint: Option<String>,
    /// `W`.
    pub context: Option<String>,
}

impl Report {
    /// A report with a message only.
    pub fn new(
        severity: Severity,
        sqlstate: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            sqlstate: sqlstate.into(),
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            schema: None,
            table: None,
            column: None,
            data_type: None,
            constraint: None,
            context: None,
        }
    }

    /// An error of a statement.
    pub fn error(sqlstate: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, sqlstate, message)
    }

    /// An error that ends the connection.
    pub fn fatal(sqlstate: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Fatal, sqlstate, message)
    }

    /// The server closed its connection without a word.
    pub(crate) fn server_gone() -> Self {
        Self::fatal("08006", "the server closed the connection unexpectedly")
            .detail("The connection between pgveil and the server behind it is gone.")
    }

    /// With a detail.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With a position: characters from 1.
    pub fn position(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    /// Appends it as `ErrorResponse` or, if it is no error, as `NoticeResponse`.
    pub fn write(&self, out: &mut BytesMut) {
        let encoded = match self.severity {
            Severity::Fatal | Severity::Error => {
                response::ErrorResponse::new(self.fields()).encode(out)
            }
            Severity::Warning | Severity::Notice => {
                response::NoticeResponse::new(self.fields()).encode(out)
            }
        };
        encoded.expect("a handful of bounded fields are below the limit");
    }

    fn fields(&self) -> Vec<(u8, String)> {
        let severity = self.severity.as_str();
        let mut fields = vec![
            (b'S', severity.into()),
            (b'V', severity.into()),
            (b'C', text(&self.sqlstate)),
            (b'M', text(&self.message)),
        ];
        let position = self.position.map(|position| position.to_string());
        for (code, value) in [
            (b'D', &self.detail),
            (b'H', &self.hint),
            (b'P', &position),
            (b's', &self.schema),
            (b't', &self.table),
            (b'c', &self.column),
            (b'd', &self.data_type),
            (b'n', &self.constraint),
            (b'W', &self.context),
        ] {
            fields.extend(value.as_deref().map(|value| (code, text(value))));
        }
        fields
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} ({})",
            self.severity.as_str(),
            self.message,
            self.sqlstate
        )
    }
}

/// A field's text: no NUL, which would begin another field, and no more than anybody reads.
fn text(value: &str) -> String {
    let end = (0..=value.len().min(FIELD_BYTES))
        .rev()
        .find(|end| value.is_char_boundary(*end))
        .unwrap_or(0);
    value[..end].replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{
        tag::server::{ERROR_RESPONSE, NOTICE_RESPONSE},
        testing::{body_of, exactly},
    };

    #[test]
    fn round_trips_exactly() {
        let mut report = Report::error("0A000", "no order")
            .detail("d")
            .hint("h")
            .position(8);
        report.schema = Some("public".into());
        report.table = Some("people".into());
        report.column = Some("email".into());
        report.data_type = Some("text".into());
        report.constraint = Some("people_check".into());
        let body = body_of(ERROR_RESPONSE, |out| report.write(out));
        let fields: Vec<_> = ErrorFields::read(&body).unwrap().iter().collect();
        let expected: [(u8, &[u8]); 12] = [
            (b'S', b"ERROR"),
            (b'V', b"ERROR"),
            (b'C', b"0A000"),
            (b'M', b"no order"),
            (b'D', b"d"),
            (b'H', b"h"),
            (b'P', b"8"),
            (b's', b"public"),
            (b't', b"people"),
            (b'c', b"email"),
            (b'd', b"text"),
            (b'n', b"people_check"),
        ];
        assert_eq!(fields, expected);
        exactly(&body, |body| ErrorFields::read(body).is_ok());
    }

    #[test]
    fn notices_are_no_errors() {
        let body = body_of(NOTICE_RESPONSE, |out| {
            Report::new(Severity::Warning, "01000", "w").write(out);
        });
        assert_eq!(
            ErrorFields::read(&body).unwrap().get(b'V'),
            Some(&b"WARNING"[..])
        );
    }

    #[test]
    fn a_field_can_neither_begin_another_nor_grow_without_end() {
        let report = Report::fatal("08P01", format!("a\0Cx{}", "é".repeat(FIELD_BYTES)));
        let body = body_of(ERROR_RESPONSE, |out| report.write(out));
        let fields = ErrorFields::read(&body).unwrap();
        assert_eq!(fields.iter().filter(|field| field.0 == b'C').count(), 1);
        assert!(
            fields
                .get(b'M')
                .unwrap()
                .starts_with("a\u{fffd}Cx".as_bytes())
        );
        assert!(fields.get(b'M').unwrap().len() <= FIELD_BYTES + 2);
    }

    #[test]
    fn an_error_without_fields_is_an_error() {
        assert_eq!(ErrorFields::read(b"\0").unwrap().get(b'C'), None);
    }
}
