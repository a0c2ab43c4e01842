//! Rows of COPY FROM STDIN: plain fields go on byte for byte, protected ones are sealed. A value that is none of its type
//! is replaced by one that the server itself refuses, so that rows and fields fail in the server's own order; its error is
//! replaced on the way back. It writes rows; messages are the client side's business.

mod ahead;
mod row;

use std::sync::Arc;

use pgveil_keys::Keys;
use pgveil_policy::{
    Refusal,
    copy::{CopyFormat, CopyHeader, CopyIn, CopyText},
    ruleset::Protected,
};
use zeroize::Zeroizing;

use self::row::{Row, Trouble, bad_data};
use super::{CopyJob, Refused};
use crate::copy::{
    binary::{self, Unit},
    lines::{Line, Lines},
};
use crate::session::scoped::Scoped;

/// The last release in which `\.` alone on a line ends CSV.
const LAST_WITH_CSV_MARKER: u32 = 17;
/// The most of one row that is kept, as in the server (`MaxAllocSize`).
const MAX_ROW_BYTES: usize = 0x3fff_ffff;
/// Kept for the next rows.
const KEEP_BYTES: usize = 256 * 1024;

/// What has become of the data so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The header is next.
    Header,
    /// Rows are next.
    Rows,
    /// The trailer of a binary COPY has come: whatever follows is one thing too many.
    Trailer,
    /// The server looks at nothing any more: the data has ended or it has been given something that it refuses.
    Over,
}

/// What came of the data that was given.
pub enum Step {
    /// All of it is used.
    Used,
    /// These keys are wanted; then again.
    NeedsKeys(Arc<Protected>, Scoped),
    /// The COPY must fail here.
    Fail(Refused),
}

/// The rows of one COPY.
pub struct Incoming {
    job: Arc<CopyJob>,
    phase: Phase,
    lines: Lines,
    /// What has come and is not written yet, from `start` on.
    data: Zeroizing<Vec<u8>>,
    start: usize,
    /// The line at `start`, while its keys are fetched.
    line: Option<Line>,
    /// How many lines are done with.
    passed: u64,
    row: Row,
}

impl Incoming {
    /// Rows of a COPY that has just begun.
    pub fn new(job: Arc<CopyJob>) -> Self {
        let csv_marker = job.view.session.format.release <= LAST_WITH_CSV_MARKER;
        let (lines, phase) = match &job.plan.format {
            CopyFormat::Binary => (Lines::text(), Phase::Header),
            CopyFormat::Text(text) => (Lines::text(), first_phase(text)),
            CopyFormat::Csv {
                text,
                quote,
                escape,
            } => (Lines::csv(*quote, *escape, csv_marker), first_phase(text)),
        };
        Self {
            job,
            phase,
            lines,
            data: Zeroizing::default(),
            start: 0,
            line: None,
            passed: 0,
            row: Row::default(),
        }
    }

    /// Whose rows these are.
    pub fn job(&self) -> &Arc<CopyJob> {
        &self.job
    }

    /// More data of the client's.
    pub fn push(&mut self, data: &[u8]) {
        if self.phase != Phase::Over {
            self.data.extend_from_slice(data);
        }
    }

    /// What is to be sent.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.row.out
    }

    /// Converts the rows that have wholly come; `at_end`: no more will come.
    pub fn advance(&mut self, keys: &Keys, at_end: bool) -> Step {
        let job = Arc::clone(&self.job);
        let step = match (&job.plan.format, job.rows()) {
            _ if self.phase == Phase::Over => Step::Used,
            (_, None) => Step::Fail(Refused::whole(super::out_of_step())),
            (CopyFormat::Binary, Some(rows)) => self.advance_binary(&job, rows, keys, at_end),
            (format, Some(rows)) => self.advance_lines(&job, format, rows, keys, at_end),
        };
        if matches!(step, Step::Fail(_)) {
            self.phase = Phase::Over;
        }
        self.tidy();
        if self.data.len() > MAX_ROW_BYTES {
            self.phase = Phase::Over;
            return Step::Fail(Refused::whole(row_too_long()));
        }
        step
    }

    /// Lets go of what is done with.
    fn tidy(&mut self) {
        let is_used = self.start == self.data.len() && self.data.capacity() > KEEP_BYTES;
        if self.phase == Phase::Over || is_used {
            self.data = Zeroizing::default();
            self.start = 0;
        } else {
            self.data.drain(..self.start);
            self.start = 0;
        }
    }

    fn advance_lines(
        &mut self,
        job: &CopyJob,
        format: &CopyFormat,
        rows: &CopyIn,
        keys: &Keys,
        at_end: bool,
    ) -> Step {
        loop {
            let data = &self.data[self.start..];
            let line = match self.line.take() {
                Some(line) => line,
                None => match self.lines.next(data, at_end) {
                    Ok(line) => line,
                    Err(refusal) => return Step::Fail(self.failed_line(refusal)),
                },
            };
            let (end, next, marker) = match line {
                Line::More | Line::Done => return Step::Used,
                Line::Whole { end, next } => (end, next, false),
                Line::Marker { end, next } => (end, next, true),
            };
            if !marker || end > 0 {
                let written = self.row.out.len();
                let result = if self.phase == Phase::Header {
                    self.row.header(format, rows, &data[..end])
                } else {
                    self.row.convert(job, format, rows, keys, &data[..end])
                };
                match result {
                    Ok(()) => {}
                    Err(Trouble::NeedsKeys(column, scope)) => {
                        self.row.out.truncate(written);
                        self.line = Some(line);
                        return Step::NeedsKeys(column, scope);
                    }
                    Err(trouble) => {
                        let refusal = trouble.refusal();
                        self.row.out.truncate(written);
                        return Step::Fail(self.failed_line(refusal));
                    }
                }
                self.phase = Phase::Rows;
            }
            self.row.out.extend_from_slice(&data[end..next]);
            if marker {
                // What stands behind it is ignored, or makes the marker a wrong one; what it is, the server need not see.
                if data.len() > next {
                    self.row.out.push(b'x');
                }
                self.phase = Phase::Over;
                return Step::Used;
            }
            self.start += next;
            self.passed += 1;
            if self.row.refused {
                self.phase = Phase::Over;
                return Step::Used;
            }
        }
    }

    /// A failure of the line that was looked at last.
    fn failed_line(&self, refusal: Refusal) -> Refused {
        // Behind a carriage return the server waits for what follows, in text only until it knows how lines end, and
        // counts the line still.
        let is_csv = matches!(self.job.plan.format, CopyFormat::Csv { .. });
        let waits = self.passed == 1 || (is_csv && self.passed > 0);
        let unseen = waits && self.lines.end_with_return();
        Refused {
            lines: self.lines.inner() + u64::from(unseen),
            ..Refused::whole(refusal)
        }
    }
}

impl Incoming {
    fn advance_binary(&mut self, job: &CopyJob, rows: &CopyIn, keys: &Keys, at_end: bool) -> Step {
        let mut spans = Vec::with_capacity(rows.columns.len());
        loop {
            let data = &self.data[self.start..];
            let unit = match self.phase {
                Phase::Header => binary::header(data),
                Phase::Rows => binary::tuple(data, rows.columns.len(), &mut spans),
                Phase::Trailer if data.is_empty() => return Step::Used,
                Phase::Trailer => {
                    self.row.out.push(0);
                    self.phase = Phase::Over;
                    return Step::Used;
                }
                Phase::Over => return Step::Used,
            };
            let used = match unit {
                Unit::More if !at_end || data.is_empty() => return Step::Used,
                Unit::More if self.phase == Phase::Header => data.len(),
                // Half a count of fields is no row to the server.
                Unit::More if data.len() < 2 => return Step::Used,
                Unit::More => {
                    let refusal = bad_data("unexpected EOF in COPY data");
                    return Step::Fail(within(rows, spans.len(), refusal));
                }
                Unit::BrokenField => {
                    return Step::Fail(within(rows, spans.len(), bad_data("invalid field size")));
                }
                Unit::Broken(message) => return Step::Fail(Refused::whole(bad_data(message))),
                Unit::Header(length) => {
                    self.phase = Phase::Rows;
                    length
                }
                Unit::Trailer => {
                    self.phase = Phase::Trailer;
                    2
                }
                Unit::Tuple(length) => {
                    let before = self.row.out.len();
                    match self.row.convert_tuple(job, rows, keys, data, &spans) {
                        Ok(()) => {}
                        Err(Trouble::NeedsKeys(column, scope)) => {
                            self.row.out.truncate(before);
                            return Step::NeedsKeys(column, scope);
                        }
                        Err(trouble) => {
                            let refusal = trouble.refusal();
                            self.row.out.truncate(before);
                            return Step::Fail(Refused::whole(refusal));
                        }
                    }
                    self.start += length;
                    if self.row.refused {
                        self.phase = Phase::Over;
                        return Step::Used;
                    }
                    continue;
                }
            };
            let whole = &self.data[self.start..self.start + used];
            self.row.out.extend_from_slice(whole);
            self.start += used;
        }
    }
}

fn first_phase(text: &CopyText) -> Phase {
    match text.header {
        CopyHeader::No => Phase::Rows,
        CopyHeader::Yes | CopyHeader::Match => Phase::Header,
    }
}

/// A failure at a field of a tuple.
fn within(rows: &CopyIn, field: usize, refusal: Refusal) -> Refused {
    Refused {
        column: rows.columns.get(field).map(|column| column.name.clone()),
        ..Refused::whole(refusal)
    }
}

fn row_too_long() -> Refusal {
    Refusal::new("54000", "too-long", "a row of the COPY is too long")
        .detail(format!("A row may have up to {MAX_ROW_BYTES} bytes."))
}
