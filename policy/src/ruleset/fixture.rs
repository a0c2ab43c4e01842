//! A policy, a registry and a whole ruleset from compact texts, for tests. See `catalog::fixture` for catalogs.
//!
//! ```text
//! table public.people scope tenant:{tenant_id} must-match
//!   email text equality shared group=emails reveal=support,app keep_last=4
//!   ssn varchar(11) reveal= keep_first=3
//! ```
//!
//! Positions are the text's lines, column 1.

use std::{path::PathBuf, sync::Arc};

use pgveil_config::{ColumnRule, Mask, PolicyFile, Position, SearchKey, Searches, TableRule};

use super::{Generation, KEPT, RegisteredColumn, Ruleset, ShownAt};
use crate::{
    catalog::{Catalog, fixture::catalog},
    plan::ColumnId,
};

/// Reads a policy.
pub(crate) fn policy(text: &str) -> PolicyFile {
    let mut tables: Vec<TableRule> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let at = Position {
            file: Arc::new(PathBuf::from("policy.toml")),
            line: at + 1,
            column: 1,
        };
        let line = line.trim();
        if let Some(head) = line.strip_prefix("table ") {
            tables.push(table(head, at));
        } else if !line.is_empty() {
            let table = tables
                .last_mut()
                .expect("a table stands before its columns");
            table.columns.push(column(line, at));
        }
    }
    PolicyFile { tables }
}

fn table(head: &str, at: Position) -> TableRule {
    let (name, scope) = head.split_once(" scope ").expect("a table has a scope");
    let (name, database) = match name.split_once(" database ") {
        Some((name, database)) => (name, Some(database.to_owned())),
        None => (name, None),
    };
    let (schema, name) = name.split_once('.').expect("a table has a schema");
    TableRule {
        schema: schema.to_owned(),
        name: name.to_owned(),
        database,
        scope: scope.trim().trim_end_matches(" must-match").to_owned(),
        scope_at: at.clone(),
        session_must_match: scope.trim().ends_with(" must-match"),
        session_at: at.clone(),
        columns: Vec::new(),
        at,
    }
}

fn column(line: &str, at: Position) -> ColumnRule {
    let (name, rest) = line.split_once(' ').expect("a column has a type");
    let options = [
        "equality",
        "shared",
        "group=",
        "reveal=",
        "keep_last=",
        "keep_first=",
    ];
    let is_option = |word: &&str| options.iter().any(|option| word.starts_with(option));
    let words: Vec<&str> = rest.split_whitespace().collect();
    let logical_type: Vec<&str> = words
        .iter()
        .copied()
        .take_while(|word| !is_option(word))
        .collect();
    let value = |option: &str| words.iter().find_map(|word| word.strip_prefix(option));
    let number = |option: &str| value(option).map(|text| text.parse().expect("a number"));
    let roles = |text: &str| {
        text.split(',')
            .filter(|r| !r.is_empty())
            .map(str::to_owned)
            .collect()
    };
    ColumnRule {
        name: name.to_owned(),
        logical_type: logical_type.join(" "),
        type_at: at.clone(),
        search: Searches {
            equality: words.contains(&"equality"),
        },
        search_key: if words.contains(&"shared") {
            SearchKey::Shared
        } else {
            SearchKey::Scope
        },
        equality_group: value("group=").map(str::to_owned),
        reveal: value("reveal=").map(roles),
        mask: match (number("keep_last="), number("keep_first=")) {
            (Some(n), _) => Mask::KeepLast(n),
            (_, Some(n)) => Mask::KeepFirst(n),
            _ => Mask::Null,
        },
        at,
    }
}

/// Registers every column of the policy as the policy describes it, with ids from 1 in the order of the text.
pub(crate) fn registered(policy: &PolicyFile) -> Vec<RegisteredColumn> {
    let tables = policy.tables.iter();
    let columns = tables.flat_map(|table| table.columns.iter().map(move |column| (table, column)));
    let register = |(at, (table, column)): (usize, (&TableRule, &ColumnRule))| RegisteredColumn {
        id: ColumnId(at as u32 + 1),
        schema: table.schema.clone(),
        table: table.name.clone(),
        column: column.name.clone(),
        logical_type: column.logical_type.clone(),
        equality: column.search.equality,
        shared_key: column.search_key == SearchKey::Shared,
        equality_group: column.equality_group.clone(),
        scope: Some(table.scope.clone()),
        generation: Generation::default(),
        place: (0, 0),
        shown: None,
        change: None,
        searched: column.search.equality,
    };
    columns.enumerate().map(register).collect()
}

/// With the places that the columns have in a catalog.
pub(crate) fn placed(mut past: Vec<RegisteredColumn>, catalog: &Catalog) -> Vec<RegisteredColumn> {
    for past in &mut past {
        let relation = catalog.relation(&past.schema, &past.table);
        let place = relation.and_then(|relation| {
            let column = relation.column(&past.column)?;
            Some((relation.oid, column.attnum))
        });
        past.place = place.unwrap_or_default();
        // As if it had been migrated online.
        let kept = format!("{KEPT}{}", past.column);
        let kept = relation.and_then(|relation| relation.column(&kept));
        past.shown = kept.map(|kept| ShownAt {
            attnum: kept.attnum,
            before: Vec::new(),
        });
    }
    past
}

/// Compiles a policy against a catalog; every column of the policy is registered.
pub(crate) fn ruleset(catalog_text: &str, policy_text: &str) -> Ruleset {
    let policy = policy(policy_text);
    let catalog = catalog(catalog_text);
    let registered = placed(registered(&policy), &catalog);
    let ruleset = Ruleset::compile(&policy, Arc::new(catalog), &registered, 1);
    ruleset.unwrap_or_else(|findings| {
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        panic!(
            "the fixture's policy has findings:\n{}",
            findings.join("\n")
        )
    })
}
