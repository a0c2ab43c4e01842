//! Tables that cannot be used yet, or for now: what is refused of them, and how that is said.

use super::Ruleset;
use crate::{Refusal, catalog::Relation, types::LogicalType};

/// A column that the policy or the catalog calls protected and that cannot be used yet: every statement that names
/// its table is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingColumn {
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Column.
    pub column: String,
    /// Table OID.
    pub table_oid: u32,
    /// Attribute number.
    pub attnum: i16,
    /// The policy's type; `None` when the policy does not name the column.
    pub logical: Option<LogicalType>,
    /// Why.
    pub state: Pending,
}

/// What is missing before a column is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// It holds plaintext: its type is not the domain `pgveil.<type>`.
    NotConverted,
    /// It stands under the domain, but has no id in `pgveil.columns`.
    NotRegistered,
    /// It bears the name of a registered column, but stands elsewhere than that one did (a table was dropped and another one
    /// took its name): what its values were sealed for has to be looked at first.
    NotRecognised,
    /// It stands under the domain without id, and no column of the policy can have sealed its values.
    NotInPolicy,
}

impl Ruleset {
    /// Tables with pending columns, and those that do not fit the policy, by schema and name: statements that name them are refused.
    pub fn pending_tables(&self) -> Vec<&Relation> {
        let unfit = self.unfit.iter().flat_map(|table| table.oids.clone());
        let pending = self.pending.iter().map(|column| column.table_oid);
        self.sorted(pending.chain(unfit).collect())
    }

    /// Whether the table has a pending column, or does not fit the policy.
    pub fn is_pending_table(&self, oid: u32) -> bool {
        self.pending.iter().any(|column| column.table_oid == oid)
            || self.unfit.iter().any(|table| table.oids.contains(&oid))
    }

    /// The refusal of any statement that names this table, if it has a pending column or does not fit the policy.
    pub fn refuse_pending(&self, table_oid: u32) -> Option<Refusal> {
        if let Some(refusal) = self.refuse_unfit(table_oid) {
            return Some(refusal);
        }
        let column = self
            .pending
            .iter()
            .find(|column| column.table_oid == table_oid)?;
        let name = format!("column {:?} of table {:?}", column.column, column.table);
        Some(match column.state {
            Pending::NotConverted => Refusal::unsupported(
                "column-not-converted",
                format!("{name} is not encrypted yet"),
            )
            .detail("The policy protects it, but it still holds plaintext.")
            .hint("Run `pgveil apply`."),
            Pending::NotRegistered => Refusal::unsupported(
                "column-not-converted",
                format!("{name} is not registered yet"),
            )
            .detail("Its type is a domain of schema pgveil, but pgveil.columns does not know it.")
            .hint("Run `pgveil apply`."),
            Pending::NotRecognised => Refusal::unsupported(
                "column-not-recognised",
                format!("{name} is not the one that was registered under its name"),
            )
            .detail(
                "Another column has taken the name, and it holds values that were sealed for other columns, or could not \
                 be looked at: searches would not find them.",
            )
            .hint("Rename the table, create it anew, and move its rows with INSERT ... SELECT."),
            Pending::NotInPolicy => Refusal::unsupported(
                "column-not-in-policy",
                format!("{name} is not in the policy"),
            )
            .detail("Its type is a domain of schema pgveil: it can only hold sealed values.")
            .hint("Name the column in policy.toml and run `pgveil apply`, or drop it."),
        })
    }
}
