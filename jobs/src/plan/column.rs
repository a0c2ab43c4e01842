//! One column that will be sealed.

use pgveil_config::SearchKey;
use pgveil_policy::types::LogicalType;

/// A column that holds plaintext, or may, and will be sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPlan {
    /// Attribute number; it stays.
    pub attnum: i16,
    /// Name; it stays.
    pub name: String,
    /// The type it has, as the server prints it.
    pub from_name: String,
    /// The type it has.
    pub from: LogicalType,
    /// The type that applications will see.
    pub to: LogicalType,
    /// `search = ["equality"]`.
    pub equality: bool,
    /// Which index key makes its terms.
    pub search_key: SearchKey,
    /// Columns of one group have comparable terms.
    pub equality_group: Option<String>,
}

/// Whether every value of `from` that fits into `to` looks the same to an application afterwards. What does not
/// fit is found row by row.
pub(crate) fn convertible(from: LogicalType, to: LogicalType) -> bool {
    use LogicalType::*;
    match (from, to) {
        (Text | Varchar(_), Text | Varchar(_)) => true,
        (Int2, Int2 | Int4 | Int8) | (Int4, Int4 | Int8) | (Int8, Int8) => true,
        (Int2 | Int4 | Int8 | Numeric(_), Numeric(_)) => true,
        (Bpchar(a), Bpchar(b)) => a == b,
        (Timestamp(_), Timestamp(_)) | (Timestamptz(_), Timestamptz(_)) => true,
        _ => from == to,
    }
}
