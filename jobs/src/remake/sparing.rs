//! A pass that leaves out the values whose data keys cannot be had at the moment: their rows are not read. It counts as if there
//! were none such: the counts have the last word.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{At, Next, Remake, Rest, RowColumns, Trouble, names_key};
use crate::JobError;

/// A kind of job for one pass.
#[derive(Debug)]
pub(crate) struct Sparing {
    kind: Arc<dyn Remake>,
    held: Vec<u64>,
}

impl Sparing {
    /// `held`: data keys that cannot be had.
    pub(crate) fn of(kind: Arc<dyn Remake>, held: Vec<u64>) -> Arc<dyn Remake> {
        // What only looks has to see every value in one pass.
        if held.is_empty() || kind.looks() {
            return kind;
        }
        Arc::new(Self { kind, held })
    }
}

impl Remake for Sparing {
    fn wants(&self, at: At<'_>, value: &str) -> String {
        let wanted = self.kind.wants(at, value);
        if wanted == "false" {
            return wanted;
        }
        let held = names_key(value, self.held.iter().copied());
        format!("({wanted}) AND NOT {held}")
    }

    fn counts(&self, at: At<'_>, value: &str) -> String {
        self.kind.counts(at, value)
    }

    fn row_columns(&self, relation: u32) -> Vec<String> {
        self.kind.row_columns(relation)
    }

    fn prepare<'a>(&'a self, values: &'a [&'a [u8]]) -> BoxFuture<'a, ()> {
        self.kind.prepare(values)
    }

    fn remake<'a>(
        &'a self,
        at: At<'a>,
        row: &'a RowColumns,
        value: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, Trouble>> {
        self.kind.remake(at, row, value)
    }

    fn begin(&self) -> BoxFuture<'_, Result<Option<String>, JobError>> {
        self.kind.begin()
    }

    fn rests(&self) -> Rest {
        self.kind.rests()
    }

    fn walks(&self) -> bool {
        self.kind.walks()
    }

    fn advance(&self) -> BoxFuture<'_, Result<Next, JobError>> {
        self.kind.advance()
    }

    fn give_up(&self) -> BoxFuture<'_, Result<(), JobError>> {
        self.kind.give_up()
    }

    fn proof(&self) -> Value {
        self.kind.proof()
    }
}
