//! `policy.toml`: which columns are protected, how, for which scope, and who may see them.

mod column;
mod name;
mod table;

use std::path::Path;

use toml::de::DeTable;

use crate::{
    Diagnostics,
    known::{Section, Shape, Support},
    reader::Reader,
    source,
};

pub use self::{
    column::{ColumnRule, Mask, SearchKey, Searches},
    table::TableRule,
};

/// The policy as written: syntax and keys are checked, names and types are not yet looked up.
#[derive(Clone, Debug, Default)]
pub struct PolicyFile {
    /// `[[table]]` entries in file order.
    pub tables: Vec<TableRule>,
}

/// The top of `policy.toml`, and through it every key that the file may hold.
pub(crate) static TOP: Section = Section {
    name: "",
    header: "",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "",
    keys: &[],
    variants: &[],
    sections: &[&table::SECTION],
};

impl PolicyFile {
    /// Reads a `policy.toml`.
    pub fn load(path: &Path) -> Result<PolicyFile, Diagnostics> {
        PolicyFile::parse(&source::load(path)?, path)
    }

    /// Reads the text of a `policy.toml`; `file` names it in findings. A file without tables protects nothing.
    pub fn parse(text: &str, file: &Path) -> Result<PolicyFile, Diagnostics> {
        source::parse(text, file, PolicyFile::read)
    }

    fn read(reader: &mut Reader<'_>, root: &DeTable<'_>) -> PolicyFile {
        let top = reader.top(&TOP, root);
        let tables: Vec<_> = top
            .named("table")
            .map(|found| table::read(reader, found))
            .collect();
        table::refuse_duplicates(reader, &tables);
        PolicyFile {
            tables: tables.into_iter().map(|(rule, _)| rule).collect(),
        }
    }
}
