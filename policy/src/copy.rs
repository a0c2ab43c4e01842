//! COPY of protected columns: how the rows of its data are written, and what each field is. A value that the analysis
//! makes; splitting and writing rows is the proxy's business.

use crate::{
    plan::{ColumnId, Field},
    types::LogicalType,
};

/// What becomes of the data of one COPY.
#[derive(Debug)]
pub struct CopyPlan {
    /// The bare name of the table, as the server names it in CONTEXT; `None` for a query.
    pub relation: Option<String>,
    /// How rows are written.
    pub format: CopyFormat,
    /// What their fields are.
    pub rows: CopyRows,
}

/// How rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// Fields between delimiters, escaped by backslashes.
    Text(CopyText),
    /// Fields between delimiters, in quotes where they must be.
    Csv {
        /// What it shares with text.
        text: CopyText,
        /// `QUOTE`.
        quote: u8,
        /// `ESCAPE`.
        escape: u8,
    },
    /// The send forms behind their lengths.
    Binary,
}

/// What text and CSV share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyText {
    /// `DELIMITER`.
    pub delimiter: u8,
    /// `NULL`.
    pub null: Vec<u8>,
    /// `DEFAULT`.
    pub default: Option<Vec<u8>>,
    /// `HEADER`.
    pub header: CopyHeader,
}

/// Whether the first line names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyHeader {
    /// It does not.
    No,
    /// It does; what it says is not looked at.
    Yes,
    /// It does, and must name exactly the columns that are copied.
    Match,
}

/// The fields of every row.
#[derive(Debug)]
pub enum CopyRows {
    /// `TO STDOUT`.
    Out(CopyOut),
    /// `FROM STDIN`.
    In(CopyIn),
    /// The server is to refuse the statement: one of its options is wrong, or one that pgveil does not know. Should
    /// the server accept it, nothing is copied.
    Unread,
}

/// Rows that the server sends.
#[derive(Debug)]
pub struct CopyOut {
    /// In order.
    pub fields: Vec<Field>,
    /// `FORCE_QUOTE`, by field.
    pub force_quote: ForceQuote,
}

/// Which fields of CSV output stand in quotes in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForceQuote {
    /// One for each field; empty: none.
    Fields(Vec<bool>),
    /// Those that the server puts in quotes without need: a query's columns were named, and their places are not known.
    AsServer,
}

/// Rows that the client sends.
#[derive(Debug)]
pub struct CopyIn {
    /// In order.
    pub columns: Vec<CopyColumn>,
    /// `ON_ERROR ignore`: rows with a value that is none of its type are left out.
    pub ignores_errors: bool,
    /// `LOG_VERBOSITY verbose`: a notice for each row that was left out.
    pub verbose: bool,
}

/// One field of a row that the client sends.
#[derive(Debug)]
pub struct CopyColumn {
    /// The column's name.
    pub name: String,
    /// What it is to pgveil.
    pub role: CopyRole,
    /// `FORCE_NOT_NULL`.
    pub force_not_null: bool,
    /// `FORCE_NULL`.
    pub force_null: bool,
}

/// What a field is to pgveil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyRole {
    /// It goes on as it is.
    Plain,
    /// It goes on as it is, and a scope is made of it: of a value of this type.
    Scope(LogicalType),
    /// It is sealed for this column.
    Sealed(ColumnId),
}
