//! Applies a plan's edits to the client's text, byte range by byte range, and maps the server's error positions
//! back. It never re-prints SQL and decides nothing.

#[cfg(test)]
mod tests;

use crate::plan::{Plan, Replacement, ServerParam};

/// What stands in the place of a refused statement and of all that follows it: a statement that the server itself
/// rejects, in its own order and with its own transaction state. The proxy replaces the server's error.
pub const STAND_IN: &str = "SELECT pgveil_refused_this_statement";

/// The text to send upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// The client's text with the plan's edits.
    pub text: String,
    /// Where its characters come from. Independent of `text`, which may be moved out.
    pub map: PositionMap,
}

impl Spliced {
    /// See [`PositionMap::original_position`].
    pub fn original_position(&self, position: usize) -> Option<usize> {
        self.map.original_position(position)
    }
}

/// Maps character positions of the sent text to the client's. Holds no text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PositionMap {
    /// In order, without gaps in `sent`; empty when nothing was changed.
    pieces: Vec<Piece>,
    /// Characters of the client's text before the part that was sent.
    before: usize,
}

/// A run of the sent text, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// First character in the sent text, from 0.
    sent: usize,
    /// Characters in the sent text.
    len: usize,
    /// First character in the client's text, from 0.
    original: usize,
    /// Copied from the client, or put in by pgveil.
    copied: bool,
}

impl PositionMap {
    /// Maps a position in the sent text, in characters from 1 as the server's `P` field counts, to the position in
    /// the client's text. Inside replaced text it is the start of the replaced range. One past the end is a
    /// position too (`syntax error at end of input`); anything further is `None`.
    pub fn original_position(&self, position: usize) -> Option<usize> {
        self.position_in_part(position)
            .map(|position| position + self.before)
    }

    /// For a text that is not the client's: no position of it is one of the client's.
    pub fn nowhere() -> Self {
        let all = Piece {
            sent: usize::MAX,
            len: 0,
            original: 0,
            copied: false,
        };
        Self {
            pieces: vec![all],
            before: 0,
        }
    }

    /// The same for a text that is the rest of the client's behind so many characters.
    pub fn behind(mut self, characters: usize) -> Self {
        self.before = characters;
        self
    }

    fn position_in_part(&self, position: usize) -> Option<usize> {
        let at = position.checked_sub(1)?;
        if self.pieces.is_empty() {
            return Some(position);
        }
        let next = self.pieces.partition_point(|piece| piece.sent <= at);
        let piece = self.pieces[next.checked_sub(1)?];
        let within = at - piece.sent;
        let is_last = next == self.pieces.len();
        if within > piece.len || (within == piece.len && !is_last) {
            return None;
        }
        let within = if piece.copied { within } else { 0 };
        Some(piece.original + within + 1)
    }
}

impl Plan {
    /// Applies the edits to `sql`, the text the plan was made for.
    ///
    /// A slot that has a place in `server_params` becomes `$k`; any other (all of them in the simple protocol) is
    /// written by `slot_text(slot index, out)`, which appends an expression such as `'\x..'::bytea` or `NULL`.
    /// `Replacement::Param(n)` is the server parameter with index n: `$n+1`. From the first refused statement on,
    /// the text is [`STAND_IN`]. Where an edit would glue two tokens together (`IN'x'` to `IN$1`) a blank is put
    /// between them.
    pub fn splice(&self, sql: &str, slot_text: &mut dyn FnMut(usize, &mut String)) -> Spliced {
        let end = self.refused_from(sql);
        if self.edits.is_empty() && end.is_none() {
            let map = PositionMap::default();
            return Spliced {
                text: sql.to_owned(),
                map,
            };
        }
        let places = self.places();
        let mut splice = Splice::new(sql);
        for edit in &self.edits {
            if end.is_some_and(|end| edit.range.end > end || edit.range.start >= end) {
                break;
            }
            splice.copy_to(edit.range.start);
            splice.replace(edit.range.end, |out| match &edit.with {
                Replacement::Text(text) => out.push_str(text),
                Replacement::Param(param) => push_param(*param, out),
                Replacement::Slot(slot) => match places.get(*slot).copied().flatten() {
                    Some(place) => push_param(place, out),
                    None => slot_text(*slot, out),
                },
            });
        }
        match end {
            Some(end) => {
                splice.copy_to(end);
                splice.replace(sql.len(), |out| out.push_str(STAND_IN));
            }
            None => splice.copy_to(sql.len()),
        }
        splice.finish()
    }

    /// Where the first refused statement begins.
    fn refused_from(&self, sql: &str) -> Option<usize> {
        let refused = self
            .statements
            .iter()
            .find(|statement| statement.refused.is_some())?;
        Some(refused.range.start.min(sql.len()))
    }

    /// By slot: its index in `server_params`.
    fn places(&self) -> Vec<Option<usize>> {
        let mut places = vec![None; self.slots.len()];
        for (place, param) in self.server_params.iter().enumerate() {
            if let ServerParam::Slot(slot) = param
                && let Some(entry) = places.get_mut(*slot)
            {
                entry.get_or_insert(place);
            }
        }
        places
    }
}

fn push_param(index: usize, out: &mut String) {
    use std::fmt::Write as _;
    write!(out, "${}", index + 1).expect("writing to a String does not fail");
}

/// The text being put together.
struct Splice<'a> {
    sql: &'a str,
    /// Bytes and characters of `sql` used up.
    done: usize,
    done_chars: usize,
    out: String,
    out_chars: usize,
    pieces: Vec<Piece>,
    /// The end of `out` was put in, so what is copied next must not glue to it.
    edge: bool,
}

impl<'a> Splice<'a> {
    fn new(sql: &'a str) -> Self {
        Self {
            sql,
            done: 0,
            done_chars: 0,
            out: String::with_capacity(sql.len() + 256),
            out_chars: 0,
            pieces: Vec::new(),
            edge: false,
        }
    }

    /// Copies the client's text up to byte `end`.
    fn copy_to(&mut self, end: usize) {
        let text = &self.sql[self.done..end];
        if text.is_empty() {
            return;
        }
        if self.edge && glues(&self.out, text) {
            self.out.push(' ');
            self.piece(1, 0, false);
        }
        self.out.push_str(text);
        let len = char_len(text);
        self.piece(len, len, true);
        self.done = end;
        self.edge = false;
    }

    /// Puts in what `write` appends, in the place of the client's text up to byte `end`.
    fn replace(&mut self, end: usize, write: impl FnOnce(&mut String)) {
        let start = self.out.len();
        write(&mut self.out);
        let (before, put) = self.out.split_at(start);
        if glues(before, put) {
            self.out.insert(start, ' ');
        }
        let replaced = char_len(&self.sql[self.done..end]);
        self.piece(char_len(&self.out[start..]), replaced, false);
        self.done = end;
        self.edge = true;
    }

    fn piece(&mut self, len: usize, original_len: usize, copied: bool) {
        if len > 0 {
            self.pieces.push(Piece {
                sent: self.out_chars,
                len,
                original: self.done_chars,
                copied,
            });
        }
        self.out_chars += len;
        self.done_chars += original_len;
    }

    fn finish(mut self) -> Spliced {
        // The end of the input is a position too, also when the last text was removed.
        self.pieces.push(Piece {
            sent: self.out_chars,
            len: 0,
            original: self.done_chars,
            copied: false,
        });
        Spliced {
            text: self.out,
            map: PositionMap {
                pieces: self.pieces,
                before: 0,
            },
        }
    }
}

/// Whether PostgreSQL's lexer could read the end of `left` and the start of `right` as one token or as a comment.
fn glues(left: &str, right: &str) -> bool {
    let (Some(&left), Some(&right)) = (left.as_bytes().last(), right.as_bytes().first()) else {
        return false;
    };
    let is_word =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80;
    let is_operator = |byte: u8| b"+-*/<>=~!@#%^&|`?".contains(&byte);
    match (left, right) {
        (b'\'', b'\'') | (b'"', b'"') => true,
        (left, b'\'' | b'"') => is_word(left),
        (left, right) => {
            (is_word(left) && is_word(right)) || (is_operator(left) && is_operator(right))
        }
    }
}

/// Characters as the server counts them under UTF8.
fn char_len(text: &str) -> usize {
    text.chars().count()
}
