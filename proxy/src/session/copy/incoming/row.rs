//! One row of COPY FROM STDIN: which fields are sealed, with which keys, and what stands where a value is refused.

use std::sync::Arc;

use pgveil_keys::Keys;
use pgveil_policy::{
    Refusal,
    copy::{CopyColumn, CopyFormat, CopyHeader, CopyIn, CopyRole, CopyText},
    ruleset::Protected,
    types::{InputError, Value},
};
use zeroize::Zeroizing;

use crate::{
    copy::fields::{self, CsvStyle, Span},
    session::{
        copy::{CopyJob, Refused, out_of_step, quoted, stand_in},
        scoped::Scoped,
        values::{
            input_refusal,
            sealing::{self, Unscoped},
        },
    },
};

/// What converting one row needs.
#[derive(Default)]
pub(super) struct Row {
    pub(super) spans: Vec<Span>,
    /// The value of the current field.
    value: Zeroizing<Vec<u8>>,
    sealed: Vec<u8>,
    written: Vec<u8>,
    last_scope: Option<(String, Scoped)>,
    /// What is to be sent.
    pub(super) out: Vec<u8>,
    /// A value was replaced by one that makes the server fail the COPY.
    pub(super) refused: bool,
}

/// A field, as the options make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Null,
    /// The server fills in the column's default.
    Default,
    /// What was read.
    Value,
}

/// A value that was refused.
pub(super) struct BadValue {
    pub(super) refusal: Refusal,
    /// The column to name, if it is another.
    column: Option<String>,
    /// As the client wrote it.
    value: Option<Zeroizing<String>>,
}

impl Trouble {
    /// The error, for a COPY that fails here.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Bad(bad) => bad.refusal,
            Self::Fatal(refusal) => refusal,
            // It is waited for, and never failed on.
            Self::NeedsKeys(..) => out_of_step(),
        }
    }

    fn bad(refusal: Refusal, column: Option<String>, value: Option<Zeroizing<String>>) -> Self {
        Self::Bad(Box::new(BadValue {
            refusal,
            column,
            value,
        }))
    }
}

/// Why a row cannot be written as it is.
pub(super) enum Trouble {
    /// These keys are wanted.
    NeedsKeys(Arc<Protected>, Scoped),
    /// The value is none of its type.
    Bad(Box<BadValue>),
    /// The COPY fails whatever ON_ERROR says.
    Fatal(Refusal),
}

impl Row {
    /// The first line, where it names the columns.
    pub(super) fn header(
        &mut self,
        format: &CopyFormat,
        rows: &CopyIn,
        line: &[u8],
    ) -> Result<(), Trouble> {
        let Some(text) = layout(format) else {
            return Ok(());
        };
        if text.header == CopyHeader::Match {
            self.split(format, line, usize::MAX)?;
            self.match_header(format, text, rows, line)
                .map_err(|message| Trouble::Fatal(bad_data(message)))?;
        }
        self.out.extend_from_slice(line);
        Ok(())
    }

    /// `HEADER MATCH`, checked here: what stands there if it does not match may be a row.
    fn match_header(
        &mut self,
        format: &CopyFormat,
        text: &CopyText,
        rows: &CopyIn,
        line: &[u8],
    ) -> Result<(), String> {
        let (got, expected) = (self.spans.len(), rows.columns.len());
        if got != expected {
            return Err(format!(
                "wrong number of fields in header line: got {got}, expected {expected}"
            ));
        }
        for (index, (span, column)) in self.spans.iter().zip(&rows.columns).enumerate() {
            let raw = span.raw(line);
            let field = index + 1;
            let expected = &column.name;
            if !span.quoted && raw == text.null {
                let null = String::from_utf8_lossy(&text.null);
                return Err(format!(
                    "column name mismatch in header line field {field}: got null value (\"{null}\"), expected \"{expected}\""
                ));
            }
            self.value.clear();
            read(format, raw, &mut self.value);
            if **self.value != *expected.as_bytes() {
                let got = String::from_utf8_lossy(&self.value);
                return Err(format!(
                    "column name mismatch in header line field {field}: got \"{got}\", expected \"{expected}\""
                ));
            }
        }
        Ok(())
    }

    pub(super) fn split(
        &mut self,
        format: &CopyFormat,
        line: &[u8],
        limit: usize,
    ) -> Result<(), Trouble> {
        match format {
            CopyFormat::Csv {
                text,
                quote,
                escape,
            } => {
                let bytes = (text.delimiter, *quote, *escape);
                fields::split_csv(line, bytes, limit, &mut self.spans)
                    .map_err(|_| Trouble::Fatal(bad_data("unterminated CSV quoted field")))
            }
            CopyFormat::Text(text) => {
                fields::split_text(line, text.delimiter, limit, &mut self.spans);
                Ok(())
            }
            CopyFormat::Binary => Ok(()),
        }
    }

    /// Appends a line with its protected fields sealed.
    pub(super) fn convert(
        &mut self,
        job: &CopyJob,
        format: &CopyFormat,
        rows: &CopyIn,
        keys: &Keys,
        line: &[u8],
    ) -> Result<(), Trouble> {
        let Some(text) = layout(format) else {
            return Ok(());
        };
        let columns = &rows.columns;
        // One more than there are columns is one too many, and the server says so before it looks at any.
        self.split(format, line, columns.len() + 1)?;
        let mut done = 0;
        for (index, column) in columns.iter().enumerate().take(self.spans.len()) {
            let CopyRole::Sealed(id) = column.role else {
                continue;
            };
            let span = self.spans[index];
            if self.content(format, column, line, span) != Content::Value {
                continue;
            }
            let protected = job.rules.columns.get(&id);
            let protected = protected.ok_or_else(|| Trouble::Fatal(out_of_step()))?;
            let value = protected
                .written
                .input(&self.value, &job.view.session.format);
            let sealed = match value {
                Ok(value) => self.seal(
                    job,
                    Fields::Lines(format, line),
                    rows,
                    protected,
                    keys,
                    &value,
                ),
                Err(error) => Err(bad_input(error, rows, &self.value)),
            };
            self.out.extend_from_slice(&line[done..span.start]);
            done = span.end;
            match sealed {
                Ok(()) => self.put_sealed(format, columns.len(), span.raw(line)),
                Err(Trouble::Bad(bad)) => {
                    self.put_refused(format, text, columns, line, index);
                    self.refuse(job, rows, *bad);
                    return Ok(());
                }
                Err(trouble) => return Err(trouble),
            }
        }
        let end = self.spans.get(columns.len().wrapping_sub(1));
        match end {
            Some(last) if self.spans.len() > columns.len() => {
                self.out.extend_from_slice(&line[done..last.end]);
                self.out.push(text.delimiter);
                if let CopyFormat::Csv { quote, .. } = format {
                    put_only_line_ends(&line[last.end..], *quote, &mut self.out);
                }
            }
            _ => self.out.extend_from_slice(&line[done..]),
        }
        Ok(())
    }

    /// Reads a field into `value`.
    pub(super) fn content(
        &mut self,
        format: &CopyFormat,
        column: &CopyColumn,
        line: &[u8],
        span: Span,
    ) -> Content {
        let Some(text) = layout(format) else {
            return Content::Null;
        };
        let raw = span.raw(line);
        self.value.clear();
        if !span.quoted && raw == text.null {
            if !column.force_not_null {
                return Content::Null;
            }
            self.value.extend_from_slice(&text.null);
            return Content::Value;
        }
        if text.default.as_deref() == Some(raw) {
            return Content::Default;
        }
        read(format, raw, &mut self.value);
        if column.force_null && **self.value == *text.null {
            return Content::Null;
        }
        Content::Value
    }

    /// Appends the sealed value in the place of the field. The server counts the line ends inside quotes: as many stand in
    /// the hexadecimal digits, which may have white space between them.
    fn put_sealed(&mut self, format: &CopyFormat, fields: usize, raw: &[u8]) {
        match format {
            CopyFormat::Text(_) => {
                self.out.extend_from_slice(b"\\\\x");
                put_hex(&self.sealed, &mut self.out);
            }
            CopyFormat::Csv {
                text,
                quote,
                escape,
            } => {
                self.written.clear();
                self.written.extend_from_slice(b"\\x");
                put_hex(&self.sealed, &mut self.written);
                put_line_ends(raw, &mut self.written);
                style(text, *quote, *escape, fields).put(&self.written, false, &mut self.out);
            }
            CopyFormat::Binary => {}
        }
    }

    /// Appends what the server will refuse in the place of field `index`, and of the fields behind it those that are
    /// not protected.
    fn put_refused(
        &mut self,
        format: &CopyFormat,
        text: &CopyText,
        columns: &[CopyColumn],
        line: &[u8],
        index: usize,
    ) {
        self.written.clear();
        self.written.extend_from_slice(stand_in().as_bytes());
        let raw = self.spans[index].raw(line);
        match format {
            CopyFormat::Csv { quote, escape, .. } => {
                put_line_ends(raw, &mut self.written);
                let style = style(text, *quote, *escape, columns.len());
                style.put(&self.written, false, &mut self.out);
            }
            _ => fields::put_text(&self.written, text.delimiter, &mut self.out),
        }
        for (behind, span) in self.spans.iter().enumerate().skip(index + 1) {
            self.out.push(text.delimiter);
            let is_plain = columns
                .get(behind)
                .is_some_and(|column| !matches!(column.role, CopyRole::Sealed(_)));
            if is_plain {
                self.out.extend_from_slice(span.raw(line));
            } else if let CopyFormat::Csv { quote, .. } = format {
                put_only_line_ends(span.raw(line), *quote, &mut self.out);
            }
        }
    }

    fn refuse(&mut self, job: &CopyJob, rows: &CopyIn, bad: BadValue) {
        let BadValue {
            refusal,
            column,
            value,
        } = bad;
        if rows.ignores_errors {
            if rows.verbose {
                job.leave_out(value.unwrap_or_default());
            }
            return;
        }
        self.refused = true;
        job.refuse(Refused {
            refusal,
            column,
            value,
            binary: false,
            lines: 0,
        });
    }

    /// Seals a value into `sealed`.
    fn seal(
        &mut self,
        job: &CopyJob,
        row: Fields<'_>,
        rows: &CopyIn,
        column: &Arc<Protected>,
        keys: &Keys,
        value: &Value,
    ) -> Result<(), Trouble> {
        let scope = self
            .scope(job, row, rows, column)
            .map_err(|unscoped| match unscoped {
                Unscoped::Refused(refusal) if rows.ignores_errors => Trouble::Fatal(refusal),
                Unscoped::Refused(refusal) => Trouble::bad(refusal, None, None),
                Unscoped::Bad(index, refusal) => Trouble::bad(
                    *refusal,
                    rows.columns.get(index).map(|column| column.name.clone()),
                    Some(quoted(&self.value)),
                ),
            })?;
        self.sealed.clear();
        if sealing::seal(keys, column, &scope, value, &mut self.sealed) {
            Ok(())
        } else {
            Err(Trouble::NeedsKeys(Arc::clone(column), scope))
        }
    }

    /// The scope of a column's value in this row.
    pub(super) fn scope(
        &mut self,
        job: &CopyJob,
        row: Fields<'_>,
        rows: &CopyIn,
        column: &Protected,
    ) -> Result<Scoped, Unscoped> {
        let mut last = self.last_scope.take();
        let mut held = |name: &str| self.held(job, row, rows, name);
        let scope = sealing::scope(column, &job.view, &mut last, &mut held);
        self.last_scope = last;
        scope
    }

    /// The text of a scope column in this row.
    fn held(
        &mut self,
        job: &CopyJob,
        row: Fields<'_>,
        rows: &CopyIn,
        name: &str,
    ) -> Result<Option<String>, Unscoped> {
        let found = rows.columns.iter().position(|column| column.name == name);
        let Some((index, logical)) = found.and_then(|index| match rows.columns[index].role {
            CopyRole::Scope(logical) => Some((index, logical)),
            CopyRole::Plain | CopyRole::Sealed(_) => None,
        }) else {
            return Ok(None);
        };
        let read = match row {
            Fields::Lines(format, line) => {
                // A field that is missing is the server's to refuse.
                let Some(span) = self.spans.get(index).copied() else {
                    return Ok(None);
                };
                match self.content(format, &rows.columns[index], line, span) {
                    Content::Value => logical.input(&self.value, &job.view.session.format),
                    Content::Null | Content::Default => return Ok(None),
                }
            }
            Fields::Tuple(data, spans) => match spans.get(index).copied().flatten() {
                Some((start, end)) => logical.recv(&data[start..end], &job.view.session.format),
                None => return Ok(None),
            },
        };
        match read {
            Ok(value) => Ok(logical.scope_text(&value)),
            Err(error) => Err(Unscoped::Bad(index, Box::new(input_refusal(error)))),
        }
    }

    /// Appends a tuple with its protected fields sealed.
    pub(super) fn convert_tuple(
        &mut self,
        job: &CopyJob,
        rows: &CopyIn,
        keys: &Keys,
        data: &[u8],
        spans: &[Option<(usize, usize)>],
    ) -> Result<(), Trouble> {
        let count = rows.columns.len() as u16;
        self.out.extend_from_slice(&count.to_be_bytes());
        for (column, span) in rows.columns.iter().zip(spans) {
            let Some((start, end)) = *span else {
                self.out.extend_from_slice(&(-1i32).to_be_bytes());
                continue;
            };
            let raw = &data[start..end];
            let CopyRole::Sealed(id) = column.role else {
                put_field(raw, &mut self.out);
                continue;
            };
            let protected = job.rules.columns.get(&id);
            let protected = protected.ok_or_else(|| Trouble::Fatal(out_of_step()))?;
            let sealed = match protected.written.recv(raw, &job.view.session.format) {
                Ok(value) => {
                    self.value.clear();
                    self.seal(
                        job,
                        Fields::Tuple(data, spans),
                        rows,
                        protected,
                        keys,
                        &value,
                    )
                }
                Err(error) => Err(Trouble::bad(received(error), None, None)),
            };
            match sealed {
                Ok(()) => put_field(&self.sealed, &mut self.out),
                Err(Trouble::Bad(bad)) => {
                    let BadValue {
                        refusal, column, ..
                    } = *bad;
                    // "invalid field size"
                    self.out.extend_from_slice(&(-2i32).to_be_bytes());
                    self.refused = true;
                    job.refuse(Refused {
                        refusal,
                        column,
                        value: None,
                        binary: true,
                        lines: 0,
                    });
                    return Ok(());
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }
}

/// A row's fields, for the columns that its scope is made of.
#[derive(Clone, Copy)]
pub(super) enum Fields<'a> {
    Lines(&'a CopyFormat, &'a [u8]),
    Tuple(&'a [u8], &'a [Option<(usize, usize)>]),
}

fn layout(format: &CopyFormat) -> Option<&CopyText> {
    match format {
        CopyFormat::Text(text) | CopyFormat::Csv { text, .. } => Some(text),
        CopyFormat::Binary => None,
    }
}

fn read(format: &CopyFormat, raw: &[u8], out: &mut Vec<u8>) {
    match format {
        CopyFormat::Csv { quote, escape, .. } => fields::read_csv(raw, *quote, *escape, out),
        CopyFormat::Text(_) | CopyFormat::Binary => fields::read_text(raw, out),
    }
}

fn style(text: &CopyText, quote: u8, escape: u8, fields: usize) -> CsvStyle<'_> {
    CsvStyle {
        delimiter: text.delimiter,
        quote,
        escape,
        null: &text.null,
        single: fields == 1,
    }
}

fn put_hex(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len() * 2, 0);
    hex::encode_to_slice(bytes, &mut out[start..])
        .expect("two digits were made room for each byte");
}

/// The line ends of a field, without the field.
fn put_line_ends(raw: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr2(b'\n', b'\r', raw).is_some() {
        out.extend(raw.iter().filter(|byte| matches!(byte, b'\n' | b'\r')));
    }
}

/// They only count inside quotes.
fn put_only_line_ends(raw: &[u8], quote: u8, out: &mut Vec<u8>) {
    if memchr::memchr2(b'\n', b'\r', raw).is_some() {
        out.push(quote);
        put_line_ends(raw, out);
        out.push(quote);
    }
}

fn put_field(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Bad input. What the server itself would take, or would refuse whatever ON_ERROR says, must not make a row go missing.
fn bad_input(error: InputError, rows: &CopyIn, value: &[u8]) -> Trouble {
    // The server checks the encoding of a line before it looks at its fields.
    let is_fatal = error.sqlstate == "22021" || (rows.ignores_errors && error.sqlstate == "0A000");
    let refusal = input_refusal(error);
    if is_fatal {
        return Trouble::Fatal(refusal);
    }
    Trouble::bad(refusal, None, Some(quoted(value)))
}

/// A receive function's error, in the words that it has outside of a Bind.
fn received(error: InputError) -> Refusal {
    let mut refusal = input_refusal(error);
    if refusal.message == "incorrect binary data format in bind parameter" {
        refusal.message = "incorrect binary data format".to_owned();
    }
    refusal
}

pub(super) fn bad_data(message: impl Into<String>) -> Refusal {
    Refusal::new("22P04", "invalid-input", message)
}
