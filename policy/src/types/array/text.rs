//! The text form of arrays: `{a,"b c",{...}}`, with bounds before it perhaps (`[0:1]={a,b}`). Knows no type of elements.

use super::{Dimension, MAX_DIMENSIONS, count_of, too_many_dimensions};
use crate::types::{DamagedValue, InputError, Value, encoding, integer};

/// What a text holds.
pub(super) struct Read {
    pub(super) dimensions: Vec<Dimension>,
    /// `None` is NULL.
    pub(super) elements: Vec<Option<String>>,
}

const MISMATCH: &str = "Multidimensional arrays must have sub-arrays with matching dimensions.";

pub(super) fn read(text: &str) -> Result<Read, InputError> {
    let mut scanner = Scanner {
        whole: text,
        text,
        at: 0,
        counts: Vec::new(),
        deepest: None,
        elements: Vec::new(),
    };
    let bounds = scanner.bounds()?;
    scanner.braces(bounds.is_empty())?;
    let counts = std::mem::take(&mut scanner.counts);
    let counts: Vec<i32> = counts.into_iter().flatten().collect();
    let dimensions: Vec<Dimension> = if bounds.is_empty() {
        let dimension = |count| Dimension { count, lower: 1 };
        counts.into_iter().map(dimension).collect()
    } else {
        let given: Vec<i32> = bounds.iter().map(|bound| bound.count).collect();
        if given != counts {
            scanner.text = scanner.whole;
            return Err(
                scanner.malformed("Specified array dimensions do not match array contents.")
            );
        }
        bounds
    };
    let is_empty = count_of(&dimensions)? == 0;
    Ok(Read {
        dimensions: if is_empty { Vec::new() } else { dimensions },
        elements: scanner.elements,
    })
}

struct Scanner<'a> {
    whole: &'a str,
    /// What errors quote: without its bounds, once the braces begin.
    text: &'a str,
    at: usize,
    /// How many members arrays of each depth have, once one has ended.
    counts: Vec<Option<i32>>,
    /// The depth at which elements stand.
    deepest: Option<usize>,
    elements: Vec<Option<String>>,
}

impl Scanner<'_> {
    fn malformed(&self, detail: &str) -> InputError {
        InputError::new(
            "22P02",
            format!("malformed array literal: \"{}\"", self.text),
        )
        .detail(detail)
    }

    fn unexpected(&self, byte: u8) -> InputError {
        self.malformed(&format!("Unexpected \"{}\" character.", char::from(byte)))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(encoding::is_space) {
            self.at += 1;
        }
    }

    /// `[1:2][3]`: `[n]` is `[1:n]`.
    fn bounds(&mut self) -> Result<Vec<Dimension>, InputError> {
        let mut bounds = Vec::new();
        loop {
            self.skip_space();
            if self.peek() != Some(b'[') {
                return Ok(bounds);
            }
            self.at += 1;
            if bounds.len() >= MAX_DIMENSIONS as usize {
                return Err(too_many_dimensions(MAX_DIMENSIONS + 1));
            }
            let first = self.bound().ok_or_else(|| {
                self.malformed("\"[\" must introduce explicitly-specified array dimensions.")
            })?;
            let (lower, upper) = if self.peek() == Some(b':') {
                self.at += 1;
                let upper = self
                    .bound()
                    .ok_or_else(|| self.malformed("Missing array dimension value."))?;
                (first, upper)
            } else {
                (1, first)
            };
            if self.peek() != Some(b']') {
                return Err(self.malformed("Missing \"]\" after array dimensions."));
            }
            self.at += 1;
            if upper < lower {
                return Err(InputError::new(
                    "2202E",
                    "upper bound cannot be less than lower bound",
                ));
            }
            let count = upper - lower + 1;
            let in_range = i32::try_from(lower).ok().zip(i32::try_from(count).ok());
            let Some((lower, count)) = in_range.filter(|_| i32::try_from(upper).is_ok()) else {
                return Err(InputError::unsupported(
                    "array bounds of this size are not supported in values of protected columns",
                ));
            };
            bounds.push(Dimension { count, lower });
        }
    }

    /// Digits and signs.
    fn bound(&mut self) -> Option<i64> {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '-' && c != '+')
            .unwrap_or(rest.len());
        if end == 0 {
            return None;
        }
        self.at += end;
        // C's `atoi`: what stands behind the first number is not looked at.
        let number = &rest[..end];
        let sign = usize::from(number.starts_with(['-', '+']));
        let digits = number[sign..]
            .find(|c: char| !c.is_ascii_digit())
            .map_or(number, |length| &number[..sign + length]);
        Some(
            digits
                .parse()
                .unwrap_or(if digits.len() > sign { i64::MAX / 2 } else { 0 }),
        )
    }

    fn braces(&mut self, without_bounds: bool) -> Result<(), InputError> {
        if !without_bounds {
            if self.peek() != Some(b'=') {
                return Err(self.malformed("Missing \"=\" after array dimensions."));
            }
            self.at += 1;
            self.skip_space();
        }
        match self.peek() {
            // From here on the server quotes the text without what stood before the brace.
            Some(b'{') => (self.text, self.at) = (&self.whole[self.at..], 0),
            _ if without_bounds => {
                return Err(
                    self.malformed("Array value must start with \"{\" or dimension information.")
                );
            }
            _ => return Err(self.malformed("Array contents must start with \"{\".")),
        }
        self.level(0)?;
        self.skip_space();
        if self.peek().is_some() {
            return Err(self.malformed("Junk after closing right brace."));
        }
        Ok(())
    }

    /// One pair of braces.
    fn level(&mut self, depth: usize) -> Result<(), InputError> {
        if depth >= MAX_DIMENSIONS as usize {
            return Err(too_many_dimensions(MAX_DIMENSIONS + 1));
        }
        if self.counts.len() <= depth {
            self.counts.push(None);
        }
        self.at += 1;
        let mut count = 0;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            if depth > 0 {
                return Err(InputError::unsupported(
                    "empty arrays within arrays are not supported in values of protected columns",
                ));
            }
        } else {
            loop {
                self.member(depth)?;
                count += 1;
                self.skip_space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break self.at += 1,
                    None => return Err(self.malformed("Unexpected end of input.")),
                    Some(byte @ (b'{' | b'\\')) => return Err(self.unexpected(byte)),
                    Some(_) => return Err(self.malformed("Unexpected array element.")),
                }
            }
        }
        match self.counts[depth] {
            Some(known) if known != count => Err(self.malformed(MISMATCH)),
            _ => {
                self.counts[depth] = Some(count);
                Ok(())
            }
        }
    }

    /// An element or an inner array.
    fn member(&mut self, depth: usize) -> Result<(), InputError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => {
                if self.deepest.is_some_and(|deepest| deepest <= depth) {
                    return Err(self.unexpected(b'{'));
                }
                self.level(depth + 1)
            }
            Some(byte @ (b',' | b'}')) => Err(self.unexpected(byte)),
            None => Err(self.malformed("Unexpected end of input.")),
            Some(first) => {
                if *self.deepest.get_or_insert(depth) != depth || self.counts.len() > depth + 1 {
                    return Err(self.malformed("Unexpected array element."));
                }
                let element = if first == b'"' {
                    self.at += 1;
                    Some(self.quoted()?)
                } else {
                    self.unquoted()?
                };
                self.elements.push(element);
                Ok(())
            }
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
                '{' => return Err(self.unexpected(b'{')),
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

/// How an array is written.
pub(super) struct Style<'a> {
    pub(super) open: u8,
    pub(super) close: u8,
    pub(super) separator: &'a [u8],
    pub(super) null: &'a [u8],
}

/// Appends one element.
type Show<'a> = dyn FnMut(&[u8], &mut Vec<u8>) -> Result<(), DamagedValue> + 'a;

/// The text form of an array; each element by `show`.
pub(super) fn write(
    dimensions: &[Dimension],
    elements: &[Option<Value>],
    out: &mut Vec<u8>,
    show: &mut Show<'_>,
) -> Result<(), DamagedValue> {
    if dimensions.iter().any(|dimension| dimension.lower != 1) {
        for Dimension { count, lower } in dimensions {
            out.push(b'[');
            integer::write(i64::from(*lower), out);
            out.push(b':');
            integer::write(i64::from(*lower) + i64::from(*count) - 1, out);
            out.push(b']');
        }
        out.push(b'=');
    }
    let style = Style {
        open: b'{',
        close: b'}',
        separator: b",",
        null: b"NULL",
    };
    write_in(&style, dimensions, elements, out, &mut |value, out| {
        let start = out.len();
        show(value, out)?;
        quote(start, out);
        Ok(())
    })
}

/// An array without its bounds.
pub(super) fn write_in(
    style: &Style<'_>,
    dimensions: &[Dimension],
    elements: &[Option<Value>],
    out: &mut Vec<u8>,
    show: &mut Show<'_>,
) -> Result<(), DamagedValue> {
    if dimensions.is_empty() {
        out.extend_from_slice(&[style.open, style.close]);
        return Ok(());
    }
    write_level(style, dimensions, &mut elements.iter(), out, show)
}

fn write_level(
    style: &Style<'_>,
    dimensions: &[Dimension],
    elements: &mut std::slice::Iter<'_, Option<Value>>,
    out: &mut Vec<u8>,
    show: &mut Show<'_>,
) -> Result<(), DamagedValue> {
    let (outer, inner) = dimensions.split_first().ok_or(DamagedValue)?;
    out.push(style.open);
    for index in 0..outer.count {
        if index > 0 {
            out.extend_from_slice(style.separator);
        }
        if !inner.is_empty() {
            write_level(style, inner, elements, out, show)?;
            continue;
        }
        match elements.next().ok_or(DamagedValue)? {
            None => out.extend_from_slice(style.null),
            Some(value) => show(value.as_bytes(), out)?,
        }
    }
    out.push(style.close);
    Ok(())
}

/// Quotes what stands from `start` on, if it must be.
fn quote(start: usize, out: &mut Vec<u8>) {
    let word = &out[start..];
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',');
    let is_plain = !word.is_empty()
        && !word.eq_ignore_ascii_case(b"NULL")
        && !word
            .iter()
            .any(|byte| special(byte) || encoding::is_space(*byte));
    if is_plain {
        return;
    }
    let word = zeroize::Zeroizing::new(out.split_off(start));
    out.push(b'"');
    for byte in word.iter() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}
