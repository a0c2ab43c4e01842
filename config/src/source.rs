//! A file as text with positions, and the list of what was found wrong in it. It knows TOML, but no key.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{Spanned, de::DeTable};

use crate::{Diagnostic, Diagnostics, Position, reader::Reader};

/// Neither file is larger: a policy of ten thousand columns is about 1 MiB.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// More than this many findings are counted, not listed.
const MAX_FINDINGS: usize = 1000;

/// Reads a file as text.
pub(crate) fn load(path: &Path) -> Result<String, Diagnostics> {
    let bytes = read_bounded(path).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("`{}` is larger than {MAX_FILE_BYTES} bytes", path.display());
        return Err(Diagnostic::nowhere(message, "name the right file").into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let at = Lines::new(&text, path).position(valid);
        Diagnostic::at(at, "not UTF-8 text", "save the file as UTF-8").into()
    })
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostics {
    let path = path.display();
    let (message, cure) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("`{path}` does not exist"),
            "correct the path, or write a first one with `pgveil init DIR`",
        ),
        io::ErrorKind::PermissionDenied => (
            format!("`{path}` may not be read by this user"),
            "run pgveil as the file's owner, or let this user read it",
        ),
        io::ErrorKind::IsADirectory => (
            format!("`{path}` is a folder"),
            "name the file in it, such as `pgveil.toml`",
        ),
        _ => (
            format!("cannot read `{path}`: {error}"),
            "make the file readable",
        ),
    };
    Diagnostic::nowhere(message, cure).into()
}

/// Parses `text` and lets `read` make something of it; everything found wrong comes back at once.
///
/// A syntax error ends it before `read`: what follows one cannot be trusted to mean what it seems to.
/// A key given twice does not.
pub(crate) fn parse<T>(
    text: &str,
    file: &Path,
    read: impl FnOnce(&mut Reader<'_>, &DeTable<'_>) -> T,
) -> Result<T, Diagnostics> {
    let mut findings = Findings::new(text, file);
    let (root, errors) = DeTable::parse_recoverable(text);
    if report_syntax(&mut findings, text, &errors) {
        return Err(findings.into_diagnostics());
    }
    let base = file.parent().unwrap_or(Path::new("")).to_path_buf();
    let mut reader = Reader::new(findings, base);
    let value = read(&mut reader, root.get_ref());
    let findings = reader.into_findings();
    if findings.list.is_empty() {
        Ok(value)
    } else {
        Err(findings.into_diagnostics())
    }
}

/// Reports the parser's errors, one a line; true if the tree cannot be used.
fn report_syntax(findings: &mut Findings<'_>, text: &str, errors: &[toml::de::Error]) -> bool {
    let mut fatal = false;
    let mut last_line = 0;
    let mut in_repeated_section = false;
    let mut errors: Vec<_> = errors
        .iter()
        .map(|e| (e.span().unwrap_or(text.len()..text.len()), e))
        .collect();
    errors.sort_by_key(|(span, _)| span.start);
    for (span, error) in errors {
        let at = findings.position(span.start);
        let repeated = error.message() == "duplicate key";
        fatal |= !repeated;
        if at.line == last_line {
            continue;
        }
        last_line = at.line;
        if repeated {
            // A section given twice makes the parser complain of each of its keys too.
            let header = findings
                .lines
                .line(span.start)
                .trim_start()
                .starts_with('[');
            if header {
                in_repeated_section = true;
            } else if in_repeated_section {
                continue;
            }
            let key = text.get(span.clone()).unwrap_or_default();
            let message = format!("`{}` is given twice", shown(key));
            findings.report(span.start, message, "keep one of the two");
        } else {
            let message = format!(
                "TOML syntax: {}",
                error.message().trim_end_matches(", expected nothing")
            );
            let cure =
                "correct the line; text stands in double quotes, each key on a line of its own";
            findings.report(span.start, message, cure);
        }
    }
    fatal
}

/// A word of the operator's as a message may show it: no control characters, not endless.
pub(crate) fn shown(word: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut text: String = word.chars().take(MAX_CHARS).flat_map(printable).collect();
    if word.chars().nth(MAX_CHARS).is_some() {
        text.push_str("...");
    }
    text
}

fn printable(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = (!c.is_control()).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

/// The offset where a key or value stands.
pub(crate) fn start<T>(spanned: &Spanned<T>) -> usize {
    spanned.span().start
}

/// Where lines begin in a text.
struct Lines<'t> {
    file: Arc<PathBuf>,
    text: &'t str,
    /// Byte offsets; the first is 0.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str, file: &Path) -> Lines<'t> {
        let after_newlines = text
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .map(|(i, _)| i + 1);
        let starts = std::iter::once(0).chain(after_newlines).collect();
        Lines {
            file: Arc::new(file.to_path_buf()),
            text,
            starts,
        }
    }

    /// The number of the line with this offset, from 0, and where it begins.
    fn line_of(&self, offset: usize) -> (usize, usize) {
        let index = self
            .starts
            .partition_point(|start| *start <= offset)
            .saturating_sub(1);
        (index, self.starts.get(index).copied().unwrap_or(0))
    }

    fn line(&self, offset: usize) -> &'t str {
        let (_, start) = self.line_of(offset);
        self.text
            .get(start..)
            .and_then(|rest| rest.lines().next())
            .unwrap_or("")
    }

    fn position(&self, offset: usize) -> Position {
        let (index, start) = self.line_of(offset);
        let before = self
            .text
            .get(start..offset.min(self.text.len()))
            .unwrap_or("");
        Position {
            file: Arc::clone(&self.file),
            line: index + 1,
            column: before.chars().count() + 1,
        }
    }
}

/// What was found wrong so far.
pub(crate) struct Findings<'t> {
    lines: Lines<'t>,
    list: Vec<(usize, Diagnostic)>,
    unlisted: usize,
}

impl<'t> Findings<'t> {
    fn new(text: &'t str, file: &Path) -> Findings<'t> {
        Findings {
            lines: Lines::new(text, file),
            list: Vec::new(),
            unlisted: 0,
        }
    }

    /// Where a byte offset stands, for people.
    pub(crate) fn position(&self, offset: usize) -> Position {
        self.lines.position(offset)
    }

    /// Adds a finding at a byte offset of the text.
    pub(crate) fn report(
        &mut self,
        offset: usize,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        if self.list.len() == MAX_FINDINGS {
            self.unlisted += 1;
            return;
        }
        let finding = Diagnostic::at(self.position(offset), message, cure);
        self.list.push((offset, finding));
    }

    fn into_diagnostics(mut self) -> Diagnostics {
        self.list.sort_by_key(|(offset, _)| *offset);
        let mut list: Vec<_> = self.list.into_iter().map(|(_, finding)| finding).collect();
        if self.unlisted > 0 {
            let message = format!("{} more findings are not listed", self.unlisted);
            list.push(Diagnostic::nowhere(message, "mend these first"));
        }
        Diagnostics(list)
    }
}
