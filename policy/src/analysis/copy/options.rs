//! The options of a COPY, in the parenthesized and in the older syntax. What the server would refuse anyway is left to
//! the server, in its own words; and so is what only a later server knows.

use sqlparser::tokenizer::Token as Kind;

use super::Cursor;
use crate::{
    Refusal, catalog,
    copy::{CopyFormat, CopyHeader, CopyText},
};

/// What the words say.
pub(super) enum Read {
    /// These.
    Options(Box<Options>),
    /// Something that the server has to judge.
    Server,
}

/// The options that pgveil must know.
pub(super) struct Options {
    pub(super) format: CopyFormat,
    pub(super) force_quote: Option<Columns>,
    pub(super) force_not_null: Option<Columns>,
    pub(super) force_null: Option<Columns>,
    pub(super) ignores_errors: bool,
    pub(super) verbose: bool,
    encoding: Option<String>,
}

/// Columns by name, or all.
pub(super) enum Columns {
    All,
    Named(Vec<String>),
}

/// Of each column whether it is named; empty: none is.
pub(super) fn named(which: &Option<Columns>, columns: &[&catalog::Column]) -> Vec<bool> {
    match which {
        None => Vec::new(),
        Some(Columns::All) => vec![true; columns.len()],
        Some(Columns::Named(names)) => columns
            .iter()
            .map(|column| names.contains(&column.name))
            .collect(),
    }
}

impl Options {
    /// What stands before the options: `COPY BINARY t`, `USING DELIMITERS ','`.
    pub(super) fn add_legacy(&mut self, binary: bool, delimiter: Option<u8>) {
        if binary {
            self.format = CopyFormat::Binary;
        }
        if let (CopyFormat::Text(text) | CopyFormat::Csv { text, .. }, Some(delimiter)) =
            (&mut self.format, delimiter)
        {
            text.delimiter = delimiter;
        }
    }

    /// Values are read and written in UTF-8 only.
    pub(super) fn check_encoding(&self) -> Result<(), Refusal> {
        let Some(encoding) = &self.encoding else {
            return Ok(());
        };
        let bare: String = encoding
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect();
        if ["utf8", "unicode"].contains(&bare.as_str()) {
            return Ok(());
        }
        Err(Refusal::unsupported(
            "copy-encoding",
            "COPY with protected columns reads and writes UTF8 only",
        )
        .detail("pgveil seals and opens text in UTF-8.")
        .hint("Leave ENCODING out, and convert the data (iconv)."))
    }
}

/// What has been read so far.
#[derive(Default)]
struct Draft {
    format: Option<String>,
    delimiter: Option<String>,
    null: Option<String>,
    default: Option<String>,
    quote: Option<String>,
    escape: Option<String>,
    header: Option<CopyHeader>,
    encoding: Option<String>,
    force_quote: Option<Columns>,
    force_not_null: Option<Columns>,
    force_null: Option<Columns>,
    ignores_errors: bool,
    verbose: bool,
    /// The server has to judge.
    odd: bool,
}

impl Draft {
    fn finish(self) -> Read {
        let csv = match self.format.as_deref() {
            None | Some("text") => false,
            Some("csv") => true,
            Some("binary") => {
                return self.with(CopyFormat::Binary);
            }
            Some(_) => return Read::Server,
        };
        let byte = |text: &Option<String>, default: u8| match text.as_deref().map(str::as_bytes) {
            None => Some(default),
            Some([byte]) => Some(*byte),
            Some(_) => None,
        };
        let delimiter = byte(&self.delimiter, if csv { b',' } else { b'\t' });
        let quote = byte(&self.quote, b'"');
        let (Some(delimiter), Some(quote)) = (delimiter, quote) else {
            return Read::Server;
        };
        let Some(escape) = byte(&self.escape, quote) else {
            return Read::Server;
        };
        let null = self.null.clone();
        let null = null.unwrap_or_else(|| if csv { "" } else { "\\N" }.to_owned());
        let text = CopyText {
            delimiter,
            null: null.into_bytes(),
            default: self.default.clone().map(String::into_bytes),
            header: self.header.unwrap_or(CopyHeader::No),
        };
        // The server refuses these: then rows could not be told apart.
        let breaks = |byte: u8| matches!(byte, b'\n' | b'\r');
        let ambiguous = |marker: &[u8]| {
            marker
                .iter()
                .any(|byte| breaks(*byte) || *byte == delimiter || (csv && *byte == quote))
        };
        let marked = text.default.as_deref().is_some_and(ambiguous);
        let equal = text.default.as_ref() == Some(&text.null);
        let letters = !csv && (delimiter.is_ascii_lowercase() || delimiter.is_ascii_digit());
        if breaks(delimiter)
            || ambiguous(&text.null)
            || marked
            || equal
            || letters
            || (!csv && b"\\.".contains(&delimiter))
            || (csv && delimiter == quote)
            || (!csv && (self.quote.is_some() || self.escape.is_some()))
        {
            return Read::Server;
        }
        let format = if csv {
            CopyFormat::Csv {
                text,
                quote,
                escape,
            }
        } else {
            CopyFormat::Text(text)
        };
        self.with(format)
    }

    fn with(self, format: CopyFormat) -> Read {
        if self.odd {
            return Read::Server;
        }
        Read::Options(Box::new(Options {
            format,
            force_quote: self.force_quote,
            force_not_null: self.force_not_null,
            force_null: self.force_null,
            ignores_errors: self.ignores_errors,
            verbose: self.verbose,
            encoding: self.encoding,
        }))
    }
}

/// `[USING] DELIMITERS ','`: the delimiter, if it is one byte.
pub(super) fn delimiters(cursor: &mut Cursor<'_>) -> Result<Option<u8>, Refusal> {
    if !cursor.words(&["using", "delimiters"]) && !cursor.word("delimiters") {
        return Ok(None);
    }
    let text = cursor.string()?.ok_or_else(|| cursor.misread())?;
    match text.as_bytes() {
        [byte] => Ok(Some(*byte)),
        _ => Err(Refusal::new(
            "0A000",
            "copy-option",
            "COPY delimiter must be a single one-byte character",
        )),
    }
}

/// The options that begin here, up to WHERE or the end.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Read, Refusal> {
    let mut draft = Draft::default();
    if cursor.token(&Kind::LParen) {
        loop {
            option(cursor, &mut draft)?;
            if cursor.token(&Kind::RParen) {
                break;
            }
            if !cursor.token(&Kind::Comma) {
                return Err(cursor.misread());
            }
        }
    } else {
        while !cursor.is_done() && !cursor.tokens.is_word(cursor.at, "where") {
            item(cursor, &mut draft)?;
        }
    }
    Ok(draft.finish())
}

/// What stands behind the name of an option.
enum Argument {
    None,
    Star,
    Text(String),
    List(Vec<String>),
}

impl Argument {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Refusal> {
        if cursor.token(&Kind::Mul) {
            return Ok(Self::Star);
        }
        if cursor.token(&Kind::LParen) {
            let mut names = Vec::new();
            loop {
                names.push(match cursor.string()? {
                    Some(text) => text,
                    None => cursor.name().ok_or_else(|| cursor.misread())?,
                });
                if cursor.token(&Kind::RParen) {
                    return Ok(Self::List(names));
                }
                if !cursor.token(&Kind::Comma) {
                    return Err(cursor.misread());
                }
            }
        }
        if let Some(text) = cursor.string()? {
            return Ok(Self::Text(text));
        }
        let sign = if cursor.token(&Kind::Minus) {
            "-"
        } else {
            let _ = cursor.token(&Kind::Plus);
            ""
        };
        if let Kind::Number(..) = cursor.kind() {
            let text = format!("{sign}{}", cursor.tokens.raw(cursor.at));
            cursor.at += 1;
            return Ok(Self::Text(text));
        }
        Ok(cursor.name().map_or(Self::None, Self::Text))
    }

    fn truth(&self) -> Option<bool> {
        match self {
            Self::None => Some(true),
            Self::Text(text) => {
                let is = |words: [&str; 3]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
                if is(["true", "on", "1"]) {
                    Some(true)
                } else {
                    is(["false", "off", "0"]).then_some(false)
                }
            }
            Self::Star | Self::List(_) => None,
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Text(text) if text.eq_ignore_ascii_case(word))
    }
}

/// One option of the parenthesized list. An option that is named twice is the server's to refuse.
fn option(cursor: &mut Cursor<'_>, draft: &mut Draft) -> Result<(), Refusal> {
    let name = cursor.name().ok_or_else(|| cursor.misread())?;
    let argument = Argument::read(cursor)?;
    let odd = &mut draft.odd;
    match name.as_str() {
        "format" => put_text(&mut draft.format, argument, odd),
        "delimiter" => put_text(&mut draft.delimiter, argument, odd),
        "null" => put_text(&mut draft.null, argument, odd),
        "default" => put_text(&mut draft.default, argument, odd),
        "quote" => put_text(&mut draft.quote, argument, odd),
        "escape" => put_text(&mut draft.escape, argument, odd),
        "encoding" => put_text(&mut draft.encoding, argument, odd),
        "header" => {
            let header = if argument.is_word("match") {
                Some(CopyHeader::Match)
            } else {
                let yes_or_no = |yes| if yes { CopyHeader::Yes } else { CopyHeader::No };
                argument.truth().map(yes_or_no)
            };
            *odd |= header.is_none() || draft.header.is_some();
            draft.header = header;
        }
        "force_quote" => put_columns(&mut draft.force_quote, argument, odd),
        "force_not_null" => put_columns(&mut draft.force_not_null, argument, odd),
        "force_null" => put_columns(&mut draft.force_null, argument, odd),
        "freeze" => *odd |= argument.truth().is_none(),
        "on_error" => {
            draft.ignores_errors = argument.is_word("ignore");
            *odd |= !draft.ignores_errors && !argument.is_word("stop");
        }
        "log_verbosity" => {
            draft.verbose = argument.is_word("verbose");
            let known = ["default", "silent", "verbose"];
            *odd |= !known.iter().any(|word| argument.is_word(word));
        }
        "reject_limit" => *odd |= !matches!(argument, Argument::Text(_)),
        _ => *odd = true,
    }
    Ok(())
}

fn put_text(to: &mut Option<String>, argument: Argument, odd: &mut bool) {
    match argument {
        Argument::Text(text) if to.is_none() => *to = Some(text),
        _ => *odd = true,
    }
}

fn put_columns(to: &mut Option<Columns>, argument: Argument, odd: &mut bool) {
    match argument {
        Argument::Star if to.is_none() => *to = Some(Columns::All),
        Argument::List(names) if to.is_none() => *to = Some(Columns::Named(names)),
        _ => *odd = true,
    }
}

/// One option of the older syntax.
fn item(cursor: &mut Cursor<'_>, draft: &mut Draft) -> Result<(), Refusal> {
    let text = |cursor: &mut Cursor<'_>| {
        cursor.word("as");
        cursor.string()?.ok_or_else(|| cursor.misread())
    };
    let odd = &mut draft.odd;
    if cursor.word("binary") {
        put_text(&mut draft.format, Argument::Text("binary".into()), odd);
    } else if cursor.word("csv") {
        put_text(&mut draft.format, Argument::Text("csv".into()), odd);
    } else if cursor.word("freeze") {
    } else if cursor.word("header") {
        *odd |= draft.header.is_some();
        draft.header = Some(CopyHeader::Yes);
    } else if cursor.word("delimiter") {
        put_text(&mut draft.delimiter, Argument::Text(text(cursor)?), odd);
    } else if cursor.word("null") {
        put_text(&mut draft.null, Argument::Text(text(cursor)?), odd);
    } else if cursor.word("quote") {
        put_text(&mut draft.quote, Argument::Text(text(cursor)?), odd);
    } else if cursor.word("escape") {
        put_text(&mut draft.escape, Argument::Text(text(cursor)?), odd);
    } else if cursor.word("encoding") {
        put_text(&mut draft.encoding, Argument::Text(text(cursor)?), odd);
    } else if cursor.words(&["force", "quote"]) {
        let columns = columns(cursor)?;
        put_columns(&mut draft.force_quote, columns, odd);
    } else if cursor.words(&["force", "not", "null"]) {
        let columns = columns(cursor)?;
        put_columns(&mut draft.force_not_null, columns, odd);
    } else if cursor.words(&["force", "null"]) {
        let columns = columns(cursor)?;
        put_columns(&mut draft.force_null, columns, odd);
    } else {
        return Err(cursor.misread());
    }
    Ok(())
}

/// `*` or `a, b`
fn columns(cursor: &mut Cursor<'_>) -> Result<Argument, Refusal> {
    if cursor.token(&Kind::Mul) {
        return Ok(Argument::Star);
    }
    let mut names = Vec::new();
    loop {
        names.push(cursor.name().ok_or_else(|| cursor.misread())?);
        if !cursor.token(&Kind::Comma) {
            return Ok(Argument::List(names));
        }
    }
}
