//! The type that a statement names: one of PostgreSQL's own, or an enum that the session finds along its search path.
//! Types of other kinds are none.

use super::SessionView;
use crate::{
    catalog::Catalog,
    types::{Element, LogicalType},
};

/// `text` as it is written, quotes included.
pub(super) fn named(text: &str, catalog: &Catalog, view: &SessionView) -> Option<LogicalType> {
    let text = text.trim();
    if !text.contains('"') {
        let folded = text.to_ascii_lowercase();
        let bare = folded.strip_prefix("pg_catalog.").unwrap_or(&folded);
        if let Ok(logical) = LogicalType::parse(bare) {
            return Some(logical);
        }
    }
    let (single, is_array) = match text.strip_suffix(']') {
        Some(rest) => (rest.trim_end().strip_suffix('[')?.trim_end(), true),
        None => (text, false),
    };
    let found = match identifiers(single)?.as_slice() {
        [name] => catalog.enum_named(name, &view.schemas),
        [schema, name] => catalog.enum_named(name, std::slice::from_ref(schema)),
        _ => None,
    }?;
    if is_array {
        Element::new(found).map(LogicalType::Array)
    } else {
        Some(found)
    }
}

/// The parts of a dotted name, folded where they are not quoted.
fn identifiers(name: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = name;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (part, after) = quoted.split_once('"')?;
                (part.to_owned(), after)
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].trim().to_ascii_lowercase(), &rest[end..])
            }
        };
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        if part.is_empty() || !rest.starts_with('"') && !part.chars().all(is_name) {
            return None;
        }
        parts.push(part);
        match after.trim_start().strip_prefix('.') {
            Some(after) => rest = after.trim_start(),
            None if after.trim().is_empty() => return Some(parts),
            None => return None,
        }
    }
}
