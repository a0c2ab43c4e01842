//! The keys that the rows in hand need, so that rows of many new scopes wait for their keys once and not one after the other. It seals
//! nothing and refuses nothing: what is wrong with a row is found when its turn comes.

use std::collections::HashSet;

use pgveil_keys::Wanted;
use pgveil_policy::copy::{CopyFormat, CopyIn, CopyRole};

use super::{
    Incoming, Phase,
    row::{Content, Fields, Row},
};
use crate::{
    copy::{
        binary::{self, Unit},
        lines::Line,
    },
    session::{copy::CopyJob, values::sealing},
};

impl Incoming {
    /// Of all rows that have wholly come, from the one on whose keys are wanted.
    pub fn wanted(&mut self) -> HashSet<Wanted> {
        let job = std::sync::Arc::clone(&self.job);
        let mut wanted = HashSet::new();
        let Some(rows) = job.rows() else {
            return wanted;
        };
        match &job.plan.format {
            CopyFormat::Binary => self.want_tuples(&job, rows, &mut wanted),
            format => self.want_lines(&job, format, rows, &mut wanted),
        }
        wanted
    }

    fn want_lines(
        &mut self,
        job: &CopyJob,
        format: &CopyFormat,
        rows: &CopyIn,
        wanted: &mut HashSet<Wanted>,
    ) {
        // The line at the start was found already.
        let (mut lines, mut line) = (self.lines.clone(), self.line);
        let mut data = &self.data[self.start..];
        loop {
            let found = line.take().map_or_else(|| lines.next(data, false), Ok);
            let Ok(Line::Whole { end, next }) = found else {
                return;
            };
            self.row.want_line(job, format, rows, &data[..end], wanted);
            data = &data[next..];
        }
    }

    fn want_tuples(&mut self, job: &CopyJob, rows: &CopyIn, wanted: &mut HashSet<Wanted>) {
        if self.phase != Phase::Rows {
            return;
        }
        let mut data = &self.data[self.start..];
        let mut spans = Vec::with_capacity(rows.columns.len());
        while let Unit::Tuple(length) = binary::tuple(data, rows.columns.len(), &mut spans) {
            for (column, span) in rows.columns.iter().zip(&spans) {
                if let (CopyRole::Sealed(id), Some(_)) = (&column.role, span)
                    && let Some(protected) = job.rules.columns.get(id)
                    && let Ok(scope) =
                        self.row
                            .scope(job, Fields::Tuple(data, &spans), rows, protected)
                {
                    sealing::want(protected, &scope, wanted);
                }
            }
            data = &data[length..];
        }
    }
}

impl Row {
    fn want_line(
        &mut self,
        job: &CopyJob,
        format: &CopyFormat,
        rows: &CopyIn,
        line: &[u8],
        wanted: &mut HashSet<Wanted>,
    ) {
        if self.split(format, line, rows.columns.len() + 1).is_err() {
            return;
        }
        let row = Fields::Lines(format, line);
        for (index, column) in rows.columns.iter().enumerate().take(self.spans.len()) {
            if let CopyRole::Sealed(id) = &column.role
                && self.content(format, column, line, self.spans[index]) == Content::Value
                && let Some(protected) = job.rules.columns.get(id)
                && let Ok(scope) = self.scope(job, row, rows, protected)
            {
                sealing::want(protected, &scope, wanted);
            }
        }
    }
}
