//! Cuts text and CSV into lines as `CopyReadLineText` does: the first line's end decides how all others end, `\.` ends
//! the data, quotes hide line ends in CSV. It does not look into the fields.

use pgveil_policy::Refusal;

/// How lines end; the first one decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    Unknown,
    Newline,
    Return,
    ReturnNewline,
}

/// What stands at the start of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line: its contents end at `end`, the next one starts at `next`.
    Whole {
        /// Where its contents end.
        end: usize,
        /// Where the next line starts.
        next: usize,
    },
    /// `\.`, from `end` to `next`; what stands before it is a line if it is not empty. What follows is ignored, or is
    /// an error that the server finds in the marker itself.
    Marker {
        /// Where the marker starts.
        end: usize,
        /// Where it ends.
        next: usize,
    },
    /// The line goes on in data that has not come.
    More,
    /// No line any more.
    Done,
}

/// Quote and escape of CSV.
#[derive(Clone, Copy, Debug)]
struct Quotes {
    quote: u8,
    /// Zero where it is the quote itself, as in the server.
    escape: u8,
}

/// Finds lines in data that comes in pieces.
#[derive(Clone, Debug)]
pub struct Lines {
    csv: Option<Quotes>,
    /// Whether `\.` alone on a line ends CSV: up to PostgreSQL 17.
    csv_marker: bool,
    line_end: LineEnd,
    /// Bytes that need a look.
    special: [bool; 256],
    /// How far the current line has been looked at.
    at: usize,
    in_quote: bool,
    after_escape: bool,
    /// Line ends inside quotes that the server counts as lines.
    inner: u64,
}

impl Lines {
    /// Lines of text.
    pub fn text() -> Self {
        Self::new(None, true)
    }

    /// Lines of CSV.
    pub fn csv(quote: u8, escape: u8, csv_marker: bool) -> Self {
        let escape = if escape == quote { 0 } else { escape };
        Self::new(Some(Quotes { quote, escape }), csv_marker)
    }

    fn new(csv: Option<Quotes>, csv_marker: bool) -> Self {
        let mut special = [false; 256];
        for byte in [b'\n', b'\r', b'\\'] {
            special[usize::from(byte)] = true;
        }
        if let Some(Quotes { quote, escape }) = csv {
            special[usize::from(quote)] = true;
            special[usize::from(escape)] = true;
        }
        Self {
            csv,
            csv_marker,
            line_end: LineEnd::Unknown,
            special,
            at: 0,
            in_quote: false,
            after_escape: false,
            inner: 0,
        }
    }

    /// Whether lines end with a carriage return alone.
    pub fn end_with_return(&self) -> bool {
        self.line_end == LineEnd::Return
    }

    /// How many lines the line that was looked at last has inside quotes, by the server's count.
    pub fn inner(&self) -> u64 {
        self.inner
    }

    /// The line at the start of `data`. After [`Line::More`] it is asked again with the same data and more behind it.
    ///
    /// # Errors
    /// A line end that does not fit the first one's, in the server's words.
    pub fn next(&mut self, data: &[u8], at_end: bool) -> Result<Line, Refusal> {
        if self.at == 0 {
            self.inner = 0;
        }
        let found = match self.csv {
            None => self.next_text(data, at_end),
            Some(quotes) => self.next_csv(data, at_end, quotes),
        }?;
        if found != Line::More {
            self.at = 0;
            self.in_quote = false;
            self.after_escape = false;
        }
        Ok(found)
    }

    fn next_text(&mut self, data: &[u8], at_end: bool) -> Result<Line, Refusal> {
        loop {
            self.skip_ordinary(data);
            let Some(&byte) = data.get(self.at) else {
                return Ok(out_of_data(data, at_end));
            };
            let next = data.get(self.at + 1).copied();
            match byte {
                b'\n' => return self.newline(),
                b'\r' => {
                    if let Some(line) = self.carriage_return(next, at_end)? {
                        return Ok(line);
                    }
                }
                _ => match next {
                    None if !at_end => return Ok(Line::More),
                    // A backslash before the end is a part of the data.
                    None => self.at += 1,
                    Some(b'.') => return Ok(self.text_marker(data, at_end)),
                    Some(_) => self.at += 2,
                },
            }
        }
    }

    fn next_csv(&mut self, data: &[u8], at_end: bool, quotes: Quotes) -> Result<Line, Refusal> {
        loop {
            if self.skip_ordinary(data) {
                self.after_escape = false;
            }
            let Some(&byte) = data.get(self.at) else {
                return Ok(out_of_data(data, at_end));
            };
            let next = data.get(self.at + 1).copied();
            if matches!(byte, b'\\' | b'\r') && next.is_none() && !at_end {
                return Ok(Line::More);
            }
            let before = (self.in_quote, self.after_escape);
            if self.in_quote && byte == quotes.escape {
                self.after_escape = !self.after_escape;
            }
            if byte == quotes.quote && !self.after_escape {
                self.in_quote = !self.in_quote;
            }
            if byte != quotes.escape {
                self.after_escape = false;
            }
            let counted = match self.line_end {
                LineEnd::Newline => b'\n',
                _ => b'\r',
            };
            self.inner += u64::from(self.in_quote && byte == counted);
            if byte == b'\n' && !self.in_quote {
                return self.newline();
            }
            if byte == b'\r' && !self.in_quote {
                if let Some(line) = self.carriage_return(next, at_end)? {
                    return Ok(line);
                }
                continue;
            }
            if byte == b'\\' && self.at == 0 && self.csv_marker && next == Some(b'.') {
                match self.csv_marker_end(data, at_end) {
                    Marker::Ends(next) => return Ok(Line::Marker { end: 0, next }),
                    Marker::More => {
                        (self.in_quote, self.after_escape) = before;
                        return Ok(Line::More);
                    }
                    Marker::No => {}
                }
            }
            self.at += 1;
        }
    }

    /// Moves to the next byte that needs a look; whether it moved.
    fn skip_ordinary(&mut self, data: &[u8]) -> bool {
        let rest = data.get(self.at..).unwrap_or_default();
        let ordinary = rest
            .iter()
            .position(|byte| self.special[usize::from(*byte)])
            .unwrap_or(rest.len());
        self.at += ordinary;
        ordinary > 0
    }

    fn newline(&mut self) -> Result<Line, Refusal> {
        if matches!(self.line_end, LineEnd::Return | LineEnd::ReturnNewline) {
            return Err(self.literal("newline", "\\n"));
        }
        self.line_end = LineEnd::Newline;
        Ok(Line::Whole {
            end: self.at,
            next: self.at + 1,
        })
    }

    /// `None` never comes back but as an answer "look further"; a carriage return always ends a line or is an error.
    fn carriage_return(&mut self, next: Option<u8>, at_end: bool) -> Result<Option<Line>, Refusal> {
        let whole = |length: usize| {
            Ok(Some(Line::Whole {
                end: self.at,
                next: self.at + length,
            }))
        };
        match self.line_end {
            LineEnd::Newline => Err(self.literal("carriage return", "\\r")),
            LineEnd::Return => whole(1),
            LineEnd::Unknown | LineEnd::ReturnNewline => match next {
                None if !at_end => Ok(Some(Line::More)),
                Some(b'\n') => {
                    let line = whole(2);
                    self.line_end = LineEnd::ReturnNewline;
                    line
                }
                _ if self.line_end == LineEnd::ReturnNewline => {
                    Err(self.literal("carriage return", "\\r"))
                }
                _ => {
                    let line = whole(1);
                    self.line_end = LineEnd::Return;
                    line
                }
            },
        }
    }

    /// The marker with the line end behind it, as far as it has come: whether it is right is the server's to say.
    fn text_marker(&self, data: &[u8], at_end: bool) -> Line {
        let tail = match self.line_end {
            LineEnd::ReturnNewline => 2,
            _ => 1,
        };
        let wanted = self.at + 2 + tail;
        if data.len() < wanted && !at_end {
            return Line::More;
        }
        // Only line ends: what else stands there is data, and one byte of nothing says as much.
        let ends = data[self.at + 2..wanted.min(data.len())]
            .iter()
            .take_while(|byte| matches!(byte, b'\n' | b'\r'))
            .count();
        Line::Marker {
            end: self.at,
            next: self.at + 2 + ends,
        }
    }

    fn csv_marker_end(&self, data: &[u8], at_end: bool) -> Marker {
        let byte = |at: usize| match data.get(at) {
            Some(byte) => Some(*byte),
            None if at_end => Some(0),
            None => None,
        };
        let mut at = 2;
        if self.line_end == LineEnd::ReturnNewline {
            match byte(at) {
                None => return Marker::More,
                Some(b'\r') => at += 1,
                Some(_) => return Marker::No,
            }
        }
        match byte(at) {
            None => Marker::More,
            Some(b'\r' | b'\n') => Marker::Ends(at + 1),
            Some(_) => Marker::No,
        }
    }

    fn literal(&self, what: &str, escaped: &str) -> Refusal {
        let (kind, hint) = match self.csv {
            None => ("literal", format!("Use \"{escaped}\" to represent {what}.")),
            Some(_) => (
                "unquoted",
                format!("Use quoted CSV field to represent {what}."),
            ),
        };
        Refusal::new(
            "22P04",
            "invalid-input",
            format!("{kind} {what} found in data"),
        )
        .hint(hint)
    }
}

/// What a `\.` at the start of a line of CSV is.
enum Marker {
    Ends(usize),
    More,
    No,
}

fn out_of_data(data: &[u8], at_end: bool) -> Line {
    if !at_end {
        Line::More
    } else if data.is_empty() {
        Line::Done
    } else {
        Line::Whole {
            end: data.len(),
            next: data.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `data`, fed in pieces of `size`; a marker as `\.`, an error as its message.
    fn cut(mut lines: Lines, data: &[u8], size: usize) -> Vec<String> {
        let (mut found, mut start, mut come) = (Vec::new(), 0, 0);
        loop {
            let at_end = come == data.len();
            let rest = &data[start..come];
            match lines.next(rest, at_end) {
                Ok(Line::More) => come = (come + size).min(data.len()),
                Ok(Line::Done) => return found,
                Ok(Line::Whole { end, next }) => {
                    found.push(String::from_utf8_lossy(&rest[..end]).into_owned());
                    start += next;
                }
                Ok(Line::Marker { end, .. }) => {
                    if end > 0 {
                        found.push(String::from_utf8_lossy(&rest[..end]).into_owned());
                    }
                    found.push("\\.".to_owned());
                    return found;
                }
                Err(refusal) => {
                    found.push(refusal.message);
                    return found;
                }
            }
        }
    }

    fn same_in_all_pieces(make: impl Fn() -> Lines, data: &str, expected: &[&str]) {
        for size in 1..=data.len() {
            assert_eq!(
                cut(make(), data.as_bytes(), size),
                expected,
                "{data:?} by {size}"
            );
        }
    }

    #[test]
    fn text_is_cut_where_the_server_cuts() {
        for (data, expected) in [
            ("a\nb\n", &["a", "b"][..]),
            ("a\nb", &["a", "b"]),
            ("a\r\nb\r\n", &["a", "b"]),
            ("a\rb\r", &["a", "b"]),
            ("\n\n", &["", ""]),
            ("a\\\nb\nc\n", &["a\\\nb", "c"]),
            ("a\\\\\nb\n", &["a\\\\", "b"]),
            ("a\n\\.\nb\n", &["a", "\\."]),
            ("a\nb\\.\nc\n", &["a", "b", "\\."]),
            ("a\\\\.\n", &["a\\\\."]),
            ("a\\", &["a\\"]),
            ("a\nb\r\n", &["a", "literal carriage return found in data"]),
            ("a\rb\n", &["a", "literal newline found in data"]),
            ("a\r\nb\rc", &["a", "literal carriage return found in data"]),
        ] {
            same_in_all_pieces(Lines::text, data, expected);
        }
    }

    #[test]
    fn csv_hides_line_ends_in_quotes() {
        for (data, expected) in [
            ("a,\"b\nc\"\nd\n", &["a,\"b\nc\"", "d"][..]),
            ("\"a\"\"\n\"\nb", &["\"a\"\"\n\"", "b"]),
            ("a\r\n\"\r\"\r\n", &["a", "\"\r\""]),
            ("\\.\na\n", &["\\."]),
            ("a\n\\.\nb", &["a", "\\."]),
            ("\\.x\nb\n", &["\\.x", "b"]),
            ("x\\.\nb\n", &["x\\.", "b"]),
            ("\\.", &["\\."]),
            ("a\r\n\\.\r\nb", &["a", "\\."]),
            ("a\nb\r\n", &["a", "unquoted carriage return found in data"]),
            ("\"a\nb", &["\"a\nb"]),
        ] {
            let expected = if data == "\\." { &["\\."] } else { expected };
            same_in_all_pieces(|| Lines::csv(b'"', b'"', true), data, expected);
        }
        same_in_all_pieces(|| Lines::csv(b'"', b'"', false), "\\.\na\n", &["\\.", "a"]);
        let data = "\"a\\\"\n\"\n\"b\\\\\"\nc\n";
        let expected = &["\"a\\\"\n\"", "\"b\\\\\"", "c"];
        same_in_all_pieces(|| Lines::csv(b'"', b'\\', true), data, expected);
    }
}
