//! Progress on stderr, when that is a terminal. Nothing is printed otherwise.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::plan::TablePlan;

/// How often a spinner moves.
const TICK: Duration = Duration::from_millis(120);

/// One pass over a table.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A pass row by row. `expected` is an estimate.
    pub(crate) fn rows(verb: &'static str, table: &TablePlan, expected: Option<u64>) -> Self {
        let template = "{msg} [{bar:30}] {human_pos}/{human_len} rows, {per_sec}, {eta} left";
        Self::with(verb, table, expected.unwrap_or(0), template)
    }

    /// A single statement of the server, of unknown length.
    pub(crate) fn step(verb: &'static str, table: &TablePlan) -> Self {
        let progress = Self::with(verb, table, 0, "{msg} {spinner} {elapsed}");
        progress.0.enable_steady_tick(TICK);
        progress
    }

    fn with(verb: &'static str, table: &TablePlan, length: u64, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template(template)
                .expect("a constant template")
                .progress_chars("=> "),
        );
        bar.set_message(format!("{verb} {}", table.shown()));
        Self(bar)
    }

    /// So many rows more. The bar grows where the estimate was too small.
    pub(crate) fn advance(&self, rows: usize) {
        self.0.inc(rows as u64);
        if Some(self.0.position()) > self.0.length() {
            self.0.set_length(self.0.position());
        }
    }

    /// Says something once, above the bar.
    pub(crate) fn note(&self, what: &str) {
        self.0.println(what);
    }

    /// Clears the line.
    pub(crate) fn done(self) {
        self.0.finish_and_clear();
    }
}
