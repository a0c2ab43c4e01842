//! One finding about a file: where, what, and the cure.

use std::{fmt, path::PathBuf, sync::Arc};

/// A place in a file that the operator wrote. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file as the operator named it.
    pub file: Arc<PathBuf>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// What is wrong in a file, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where; `None` when it concerns no line (a missing file).
    pub at: Option<Position>,
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

impl Diagnostic {
    /// A finding that concerns no line of a file.
    pub fn nowhere(message: impl Into<String>, cure: impl Into<String>) -> Diagnostic {
        Diagnostic {
            at: None,
            message: message.into(),
            cure: cure.into(),
        }
    }

    /// A finding at a place.
    pub fn at(at: Position, message: impl Into<String>, cure: impl Into<String>) -> Diagnostic {
        Diagnostic {
            at: Some(at),
            message: message.into(),
            cure: cure.into(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        write!(f, "{}\n    cure: {}", self.message, self.cure)
    }
}

/// Everything found wrong, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl From<Diagnostic> for Diagnostics {
    fn from(finding: Diagnostic) -> Diagnostics {
        Diagnostics(vec![finding])
    }
}
