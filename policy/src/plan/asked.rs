//! What the server is asked before a statement is sent: the scopes of its rows, what plain columns of them hold, or its
//! time.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Moment, Plan};
use crate::types::{LogicalType, TextExpression};

/// A query for the scopes of the rows that a statement will touch, where the statement does not tell them: the values of
/// the scopes' columns, each once.
pub struct ScopeQuery {
    /// The query, in words of the client's statement.
    pub sql: Zeroizing<String>,
    /// Its parameters: which of the client's (from 0) each is.
    pub params: Vec<usize>,
    /// Their types as the client declared them.
    pub declared: Vec<u32>,
    /// The query's own plan.
    pub plan: Arc<Plan>,
    /// The types of the columns that it returns, all of them as text.
    pub columns: Vec<LogicalType>,
    /// What it asks for in place of scopes, column by column: then it runs in the statement's own transaction.
    pub moments: Vec<Moment>,
    /// Rows that are followed at most; it asks for one more.
    pub most: usize,
    /// One more column says whether row-level security hides rows from it that the statement would touch.
    pub asks_security: bool,
    /// The statement of the text that it is asked for (from 0).
    pub statement: usize,
}

impl std::fmt::Debug for ScopeQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScopeQuery")
            .field("params", &self.params)
            .field("plan", &self.plan)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

/// The setting whose absence the server reports when a row turns up whose scope a scope query did not find. No setting
/// can have this name.
pub const ANOTHER_SCOPE: &str = "pgveil: a row of another scope";

/// The same for a row whose plain columns hold what none held when they were asked for.
pub const ANOTHER_VALUE: &str = "pgveil: a row with another value";

/// The same for a table that cannot become a partition: values in it were sealed for columns whose terms do not match.
pub const VALUES_OF_OTHERS: &str = "pgveil: values that were sealed for other columns";

/// The same for a row in conflict whose scope is not that of the row that was to be inserted.
pub const CONFLICT_OF_SCOPES: &str = "pgveil: a row in conflict of another scope";

/// Rows of one scope query that are followed at most: distinct scopes of the rows that one statement touches.
pub const MAX_ASKED_SCOPES: usize = 64;

/// The same where the values of plain columns are asked for with them.
pub const MAX_FETCHED: usize = 10_000;

/// What `concat_ws('/', encode(convert_to(a::text, 'UTF8'), 'hex'), ...)` makes of a row's scope columns.
pub fn scope_key(columns: &[&str]) -> String {
    use std::fmt::Write;
    let mut key = String::new();
    for (index, text) in columns.iter().enumerate() {
        if index > 0 {
            key.push('/');
        }
        for byte in text.bytes() {
            write!(key, "{byte:02x}").expect("writing to a String does not fail");
        }
    }
    key
}

/// What a row is found by: [`scope_key`] of its scope's columns, and behind it the digits of what was fetched of it, `~`
/// for NULL.
pub fn fetched_key(scope: &[&str], fetched: &[Option<&str>]) -> String {
    let mut parts: Vec<String> = scope.iter().map(|text| scope_key(&[text])).collect();
    parts.extend(
        fetched
            .iter()
            .map(|digits| digits.unwrap_or("~").to_owned()),
    );
    parts.join("/")
}

/// Values that a scope query has fetched from plain columns, and what is stored of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// Which query of the plan.
    pub query: usize,
    /// Its columns that the value is made of: hexadecimal digits of send forms.
    pub columns: Vec<usize>,
    /// What is made of them.
    pub made: FetchedAs,
    /// Every row that was fetched is written: one that does not fit is the statement's error.
    pub all: bool,
}

/// What is made of fetched values.
#[derive(Clone, Debug, PartialEq)]
pub enum FetchedAs {
    /// The value of the only column, of this type.
    Value(LogicalType),
    /// A text: its parameters are the columns, all of them texts.
    Text(TextExpression),
}
