//! `columns.json`: a column of every logical type. The table is the harness's (`pgveil_tests::driver`).

use std::fs;

use anyhow::{Context, Result};

/// One of the table's columns, named `c0`, `c1`, and so on.
pub struct Column {
    pub name: String,
    /// Its type, as SQL writes it.
    pub kind: String,
    /// Whether it can be compared.
    pub searched: bool,
    /// Text forms of a few values.
    pub values: Vec<String>,
}

pub fn read(file: &str) -> Result<Vec<Column>> {
    let parsed: serde_json::Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let listed = parsed.as_array().context("a list")?.iter().enumerate();
    listed
        .map(|(number, column)| {
            let values = column["values"].as_array().context("values")?.iter();
            Ok(Column {
                name: format!("c{number}"),
                kind: column["type"].as_str().context("a type")?.to_owned(),
                searched: column["search"].as_bool().unwrap_or(false),
                values: values
                    .map(|value| Ok(value.as_str().context("a text")?.to_owned()))
                    .collect::<Result<_>>()?,
            })
        })
        .collect()
}

/// `c0, c1, ...`
pub fn list(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.join(", ")
}

/// So many rows hold every value of every column.
pub fn rows(columns: &[Column]) -> usize {
    let counts = columns.iter().map(|column| column.values.len());
    counts.max().unwrap_or_default()
}

/// An INSERT of literals: the first value of each column for row 0, the second for row 1, and so on around.
pub fn insert_literals(columns: &[Column], row: usize, id: usize) -> String {
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            let value = &column.values[row % column.values.len()];
            format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "\'\'"))
        })
        .collect();
    format!(
        "INSERT INTO every (id, {}) VALUES ({id}, {})",
        list(columns),
        values.join(", ")
    )
}
