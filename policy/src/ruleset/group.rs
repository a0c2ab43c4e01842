//! Checks of equality groups: terms are only comparable if all members make them alike.

use std::collections::HashMap;

use super::{column::Resolved, compile::Findings};

/// Compares every member with the group's first one, in the order of the file.
pub(super) fn check(columns: &[Resolved<'_>], findings: &mut Findings) {
    let mut first: HashMap<&str, &Resolved<'_>> = HashMap::new();
    for column in columns.iter().filter(|column| column.rule.search.equality) {
        let Some(group) = column.rule.equality_group.as_deref() else {
            continue;
        };
        let model = *first.entry(group).or_insert(column);
        if let Some((what, cure)) = difference(model, column) {
            findings.add(
                &column.rule.at,
                format!(
                    "{} and {} are both in equality group {group:?}, but {what}",
                    model.display_name(),
                    column.display_name()
                ),
                cure,
            );
        }
    }
}

fn difference(one: &Resolved<'_>, other: &Resolved<'_>) -> Option<(String, &'static str)> {
    // Modifiers do not enter the terms.
    if one.logical.without_modifiers() != other.logical.without_modifiers() {
        let what = format!("one is {}, the other {}", one.logical, other.logical);
        return Some((what, "give them one type, or take one out of the group"));
    }
    (one.rule.search_key != other.rule.search_key).then(|| {
        let what = "their `search_key` differs".to_owned();
        (
            what,
            "give them one `search_key`, or take one out of the group",
        )
    })
}
